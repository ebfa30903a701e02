//! What was counted, for the metrics and the tests.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts over all handlers since the agent started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commands that began.
    pub started: u64,
    /// Commands that ended with status 0.
    pub succeeded: u64,
    /// Commands that could not begin, ended with another status, or by a signal.
    pub failed: u64,
    /// Commands that ran too long and were killed.
    pub timed_out: u64,
    /// Commands that the agent's end cut short.
    pub stopped: u64,
    /// Events that no command saw, since the queue was full.
    pub overflowed: u64,
    /// Commands that run now.
    pub running: u64,
}

/// The counts, and the last failure.
#[derive(Debug, Default)]
pub struct Stats(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    counts: Counts,
    last_failure: Option<String>,
}

impl Stats {
    /// The counts at this moment.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.inner().counts
    }

    /// The last failure, in one line.
    #[must_use]
    pub fn last_failure(&self) -> Option<String> {
        self.inner().last_failure.clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.inner().counts);
    }

    pub(super) fn failure(&self, line: &str) {
        self.inner().last_failure = Some(line.to_owned());
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Plain numbers are never half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
