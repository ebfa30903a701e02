//! Clusters under simulation: gateways' machines, the links between them, and processes that use them.
//!
//! Processes join groups, send to members and to pids that they were sent, watch one another, and end. Links are cut both
//! ways, go silent one way, and come back; gateways are killed. Checkers ([`Violation`]) run at every delivery; when the
//! faults are over, groups must be what they are elsewhere, every process ends, and every monitor must have fired.

mod acts;
mod figures;
mod hears;
mod processes;
#[cfg(test)]
mod tests;
mod world;

use std::time::Duration;

pub use figures::{Partition, Rest, after_partition, at_rest};

use world::World;

use crate::failure::Rules;

/// What happens in a run.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name, for people.
    pub name: &'static str,
    /// How many clusters.
    pub clusters: usize,
    /// How many gateways each has.
    pub gateways: usize,
    /// Whether only neighbours are linked, so that the others are reached through them.
    pub chain: bool,
    /// Processes of each cluster.
    pub processes: usize,
    /// What processes do, all together.
    pub actions: usize,
    /// Links that are cut, or go silent one way.
    pub cuts: usize,
    /// Gateways that are killed.
    pub kills: usize,
    /// The second gateway of each cluster is of a version that knows none of the features of links.
    pub mixed: bool,
    /// How many identifiers a gateway keeps.
    pub identifiers_max: usize,
    /// What is broken on purpose, to see a checker bite.
    pub sabotage: Option<Sabotage>,
}

impl Scenario {
    /// Two clusters without faults.
    #[must_use]
    pub fn sound() -> Self {
        Self {
            name: "sound",
            clusters: 2,
            gateways: 1,
            chain: false,
            processes: 6,
            actions: 400,
            cuts: 0,
            kills: 0,
            mixed: false,
            identifiers_max: 10_000,
            sabotage: None,
        }
    }

    /// Two clusters whose link is cut again and again.
    #[must_use]
    pub fn cuts() -> Self {
        Self { name: "cuts", cuts: 8, ..Self::sound() }
    }

    /// Three clusters, each linked to each.
    #[must_use]
    pub fn triangle() -> Self {
        Self { name: "triangle", clusters: 3, cuts: 6, kills: 2, ..Self::sound() }
    }

    /// Three clusters in a row: the ends reach one another through the middle.
    #[must_use]
    pub fn chain() -> Self {
        Self { name: "chain", clusters: 3, chain: true, cuts: 4, kills: 1, ..Self::sound() }
    }

    /// Little room for identifiers.
    #[must_use]
    pub fn crowded() -> Self {
        Self { name: "crowded", processes: 40, identifiers_max: 24, cuts: 2, ..Self::sound() }
    }

    /// Whether there are several ways between two clusters.
    fn is_ring(&self) -> bool {
        (self.clusters > 2 && !self.chain) || self.gateways > 1
    }

    /// Two gateways a cluster, of which one after the other is killed while traffic runs.
    #[must_use]
    pub fn failover() -> Self {
        Self { name: "failover", gateways: 2, kills: 4, actions: 800, ..Self::sound() }
    }

    /// Two gateways a cluster, and faults at any time.
    #[must_use]
    pub fn pairs() -> Self {
        Self { name: "pairs", gateways: 2, kills: 4, cuts: 8, ..Self::sound() }
    }

    /// The same, where one gateway of each cluster is of an earlier version.
    #[must_use]
    pub fn mixed() -> Self {
        Self { name: "mixed", mixed: true, ..Self::pairs() }
    }

    /// Three gateways a cluster, and faults at any time.
    #[must_use]
    pub fn threes() -> Self {
        Self { name: "threes", gateways: 3, kills: 6, cuts: 12, ..Self::sound() }
    }

    /// One of them, by seed.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        let all = [
            Self::sound(),
            Self::cuts(),
            Self::triangle(),
            Self::chain(),
            Self::crowded(),
            Self::failover(),
            Self::pairs(),
            Self::mixed(),
            Self::threes(),
        ];
        all[(seed % all.len() as u64) as usize]
    }
}

/// A fault of a machine that the checkers must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A message is delivered twice.
    Duplicate,
    /// Two messages change places.
    Reorder,
    /// A message goes to another process.
    Misdeliver,
    /// A bit of what a large message holds is changed.
    Garble,
    /// The end of what is monitored is not told.
    LoseDown,
    /// It is told twice.
    RepeatDown,
    /// A member that left stays published.
    KeepMember,
    /// Who was asked in place of a gateway that was lost is asked for ever.
    KeepPair,
}

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A message went to a process that it was not sent to.
    #[error("a message to {to:?} was delivered to {got:?}")]
    WrongReceiver {
        /// To whom it was sent.
        to: Process,
        /// Who got it.
        got: Option<Process>,
    },
    /// A message came twice, or after a later one of its sender.
    #[error("message {sequence} of {from:?} came to {to:?} after {last}")]
    OutOfOrder {
        /// Its sender.
        from: Process,
        /// Its receiver.
        to: Process,
        /// Its number.
        sequence: u64,
        /// The last one before.
        last: u64,
    },
    /// What a message holds is not what was sent.
    #[error("in cluster {at}, a message came that nobody sent so")]
    Garbled {
        /// Where it came to.
        at: usize,
    },
    /// A pid stood for one process, and then for another.
    #[error("a pid that stands for {was:?} came as {is:?}")]
    TwoFaced {
        /// First.
        was: Process,
        /// Now.
        is: Process,
    },
    /// A pid of a cluster came home as something else.
    #[error("{0:?} came home as another pid")]
    NotHome(Process),
    /// A monitor fired that nobody has, or that has fired.
    #[error("a monitor of {0:?} fired that it does not have")]
    FiredTwice(Process),
    /// A monitor did not fire though its process has ended.
    #[error("a monitor of {0:?} on {1:?} never fired")]
    NeverFired(Process, Process),
    /// More is kept than may be.
    #[error("{kept} identifiers are kept, {max} may be")]
    TooMuchKept {
        /// So many.
        kept: usize,
        /// The bound.
        max: usize,
    },
    /// What is published is not what is so.
    #[error("in cluster {at}, {published:?} are published, and {members:?} are members elsewhere")]
    NotConverged {
        /// The cluster.
        at: usize,
        /// Who is published there.
        published: Vec<Process>,
        /// Who should be.
        members: Vec<Process>,
    },
    /// Two gateways of a cluster publish the same member.
    #[error("in cluster {at}, two gateways publish {member:?}")]
    PublishedTwice {
        /// The cluster.
        at: usize,
        /// The member.
        member: Process,
    },
    /// The two ways between two clusters go by other gateways, or by several.
    #[error("clusters {one} and {other} ask one another by {there:?} and {back:?}")]
    OtherPair {
        /// The one.
        one: usize,
        /// The other.
        other: usize,
        /// Who of the one asks whom of the other.
        there: Vec<(usize, usize)>,
        /// Who of the one is asked by whom of the other.
        back: Vec<(usize, usize)>,
    },
    /// Something is left when all have ended.
    #[error("cluster {at} keeps {kept} of others when all have ended")]
    Leftover {
        /// The cluster.
        at: usize,
        /// How much.
        kept: usize,
    },
}

/// A process, wherever it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its cluster.
    pub cluster: usize,
    /// Its number there. None is used again.
    pub number: u32,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages that were sent to processes of other clusters.
    pub sent: u64,
    /// And that arrived.
    pub delivered: u64,
    /// Monitors that were made, and that fired.
    pub monitors: u64,
    /// Bytes that crossed links.
    pub carried: u64,
}

/// A run that broke a rule.
pub type Failure = crate::failure::Failure<Violation>;

impl Rules for Violation {
    const OF: &'static str = "federation";
}

/// Runs a scenario. The same seed gives the same run.
///
/// # Errors
/// When a rule is broken.
pub fn run(seed: u64, scenario: &Scenario) -> Result<Report, Failure> {
    let mut world = World::new(seed, scenario);
    let ran = world.play().and_then(|()| world.settle(Duration::from_secs(20))).and_then(|()| world.end());
    match ran {
        Ok(()) => Ok(world.report()),
        Err(violation) => {
            let violation = Box::new(violation);
            Err(Failure { seed, scenario: scenario.name, at: world.now(), host: None, violation })
        }
    }
}
