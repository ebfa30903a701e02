//! Every timer of the machine in one enum.

use std::collections::BTreeSet;

use metacluster_types::{AgentId, Instant};

use crate::{input::ExchangeId, user::QueryToken};

/// What a wake-up is for. A late one is harmless, and one that was taken back never comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The next member is to be probed.
    Round,
    /// A probe has no answer yet; other ways are tried.
    AckTimeout(u32),
    /// A probe has no answer at all.
    ProbeEnds(u32),
    /// A probe in another's stead has no answer yet.
    Nack(u32),
    /// A probe in another's stead is forgotten.
    RelayEnds(u32),
    /// A suspicion turns into failure.
    Suspicion(AgentId),
    /// News goes out.
    Gossip,
    /// Knowledge is compared.
    Sync,
    /// A failed member is tried.
    Reconnect,
    /// Seeds are tried.
    Seeds,
    /// An exchange has had no outcome.
    ExchangeEnds(ExchangeId),
    /// A record has been kept long enough.
    Reap(AgentId),
    /// Changes are told.
    Flush,
    /// The leave has been told.
    LeaveEnds,
    /// A silence ends.
    SilenceEnds,
    /// An event of this sender is missing.
    Gap(AgentId),
    /// A query of this member's goes on, or ends.
    Asked(u32),
    /// An answer was not taken yet, or a query has ended that was not answered.
    Open(QueryToken),
    /// Events and queries have been kept long enough.
    Forget,
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

    pub(crate) fn next_due(&mut self, now: Instant) -> Option<(Instant, Timer)> {
        let &(at, timer) = self.0.first()?;
        if at > now {
            return None;
        }
        self.0.pop_first();
        Some((at, timer))
    }

    pub(crate) fn first(&self) -> Option<Instant> {
        self.0.first().map(|&(at, _)| at)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Makes what was due before `now` due then.
    pub(crate) fn lift(&mut self, now: Instant) {
        let later = self.0.split_off(&(now, Timer::Round));
        let due = std::mem::replace(&mut self.0, later);
        self.0.extend(due.into_iter().map(|(_, timer)| (now, timer)));
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(Timer) -> bool) {
        self.0.retain(|&(_, timer)| keep(timer));
    }
}
