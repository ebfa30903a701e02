//! Every timer of the machine in one enum, and the bucket that paces dials.

use std::{collections::BTreeSet, time::Duration};

use metacluster_types::{AgentId, Instant};

use crate::state::{NodeId, PairKey};

/// What a wake-up is for. A late one is harmless, and one that was taken back never comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A dial has had no outcome.
    DialGivesUp(PairKey),
    /// The summary of failing peers.
    Summary,
    /// A pruned peer is to be checked.
    Check(NodeId),
    /// A check has had no outcome.
    CheckGivesUp(NodeId),
    /// A failed host is to be checked.
    HostCheck(AgentId),
    /// A host's check has had no outcome.
    HostCheckGivesUp(AgentId),
    /// A link between two cells is to be parted.
    Part(PairKey),
}

/// Timers by the time at which they are due.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Instant, Timer)>);

impl Timers {
    pub(crate) fn set(&mut self, at: Instant, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(crate) fn take_back(&mut self, at: Instant, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    pub(crate) fn next_due(&mut self, now: Instant) -> Option<Timer> {
        let &(at, timer) = self.0.first()?;
        if at > now {
            return None;
        }
        self.0.pop_first();
        Some(timer)
    }

    pub(crate) fn first(&self) -> Option<Instant> {
        self.0.first().map(|&(at, _)| at)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A token bucket in the form of one instant (the generic cell rate algorithm): exact, with nothing to refill.
/// In any span `t` it lets at most `burst + rate * t` through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    interval: Duration,
    slack: Duration,
    full_at: Instant,
}

impl Bucket {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { interval, slack: interval * burst.max(1).saturating_sub(1), full_at: Instant::ZERO }
    }

    /// When the next token can be had.
    pub(crate) fn ready_at(&self) -> Instant {
        self.full_at - self.slack
    }

    /// Takes a token, which must be ready.
    pub(crate) fn take(&mut self, now: Instant) {
        self.full_at = self.full_at.max(now) + self.interval;
    }
}
