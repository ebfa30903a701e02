//! A run that broke a rule, as every world tells it.

use std::fmt;

use metacluster_types::Instant;

/// The rules of a world.
pub trait Rules: fmt::Display {
    /// What it simulates.
    const OF: &'static str;
}

/// A run that broke a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure<V> {
    /// The seed that shows it again.
    pub seed: u64,
    /// Of which scenario.
    pub scenario: &'static str,
    /// When, in virtual time.
    pub at: Instant,
    /// On which host; none if it is about the whole.
    pub host: Option<u32>,
    /// The rule.
    pub violation: Box<V>,
}

impl<V: Rules> fmt::Display for Failure<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {} of {} `{}` at {:?}", self.seed, V::OF, self.scenario, self.at.since_origin())?;
        if let Some(host) = self.host {
            write!(f, " on host {host}")?;
        }
        write!(f, ": {}", self.violation)
    }
}

impl<V: Rules + fmt::Debug> std::error::Error for Failure<V> {}
