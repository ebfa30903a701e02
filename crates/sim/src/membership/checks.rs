//! The checkers: what must hold at each step of each machine, whatever happens.
//!
//! A checker sees what one process was told and what it put out, and keeps a small model of its own. It asks the
//! machine only for its stamp, the stamps it holds of others, and its sizes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use metacluster_membership::{Change, ChangeKind, DownReason, Epoch, Membership, Settings, Sizes, Stamp, Standing};
use metacluster_types::{AgentId, Instant};

/// A rule that a machine broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The own stamp, or one that is held of another, went back.
    #[error("the stamp of {id} went from {before:?} to {after:?}")]
    StampWentBack {
        /// Whose.
        id: AgentId,
        /// Before.
        before: Stamp,
        /// After.
        after: Stamp,
    },
    /// A boot that ended for good came back.
    #[error("{id} came back as boot {epoch:?}, which had ended")]
    Resurrected {
        /// Whose.
        id: AgentId,
        /// Which boot.
        epoch: Epoch,
    },
    /// It keeps a record of itself among the others.
    #[error("it keeps a record of itself")]
    SelfAmongOthers,
    /// Ups and downs of one member do not alternate.
    #[error("{id}: {kind:?} was told while it was told {up}", up = if *.up { "up" } else { "down" })]
    NoAlternation {
        /// Whose.
        id: AgentId,
        /// What was told.
        kind: ChangeKind,
        /// What had been told.
        up: bool,
    },
    /// More failures of one member than the settings allow for.
    #[error("{id} failed {failures} times within a minute, at most {max}")]
    Flapping {
        /// Whose.
        id: AgentId,
        /// So many.
        failures: usize,
        /// The bound.
        max: usize,
    },
    /// A user event came after a later one of its sender, or a second time.
    #[error("event {sequence} of {sender}, boot {epoch:?}, came after event {last} of boot {last_epoch:?}")]
    EventOutOfOrder {
        /// Whose.
        sender: AgentId,
        /// Of which boot.
        epoch: Epoch,
        /// Which.
        sequence: u32,
        /// The boot of the one before.
        last_epoch: Epoch,
        /// The one before.
        last: u32,
    },
    /// A user event that nobody sent.
    #[error("event {sequence} of {sender}, boot {epoch:?}, was never sent")]
    EventFromNowhere {
        /// Whose.
        sender: AgentId,
        /// Of which boot.
        epoch: Epoch,
        /// Which.
        sequence: u32,
    },
    /// User events that neither came nor are counted as skipped.
    #[error("{observer} lacks {missing} user events, such as {sequence} of {sender}, and counts {skipped} as skipped")]
    EventsLost {
        /// Who lacks them.
        observer: AgentId,
        /// How many.
        missing: u64,
        /// How many it counts.
        skipped: u64,
        /// One of them: whose.
        sender: AgentId,
        /// Which.
        sequence: u32,
    },
    /// A member answered a query twice, or after its end, or the query ended twice or not in time.
    #[error("a query: {0}")]
    Query(&'static str),
    /// A query in a calm world was not answered by all.
    #[error("{answers} of {members} answered a query")]
    QueryUnanswered {
        /// So many did.
        answers: usize,
        /// So many should.
        members: usize,
    },
    /// It has something to do now, but said that it had nothing.
    #[error("drained, yet due at {0:?}")]
    Livelock(Instant),
    /// It keeps more than it may.
    #[error("it keeps {kept} {what}, at most {max}")]
    Memory {
        /// Of what.
        what: &'static str,
        /// So many.
        kept: usize,
        /// The bound.
        max: usize,
    },
    /// Some do not know others in time.
    #[error(
        "{wrong} records are wrong {after:?} after the last fault (bound {bound:?}), such as what {observer} holds of {member}: {held:?}"
    )]
    NotConverged {
        /// How many.
        wrong: usize,
        /// After so long.
        after: Duration,
        /// The bound.
        bound: Duration,
        /// Who.
        observer: AgentId,
        /// Of whom.
        member: AgentId,
        /// What it holds.
        held: Option<(Stamp, Standing)>,
    },
}

/// So many times a minute may one member be held failed by another: each time it gets twice the time.
pub(crate) const FAILURES_MAX: usize = 6;

/// The checker of one process.
#[derive(Debug)]
pub struct Checker {
    me: AgentId,
    own: Stamp,
    held: BTreeMap<AgentId, Stamp>,
    up: BTreeSet<AgentId>,
    ended: BTreeMap<AgentId, Epoch>,
    failures: BTreeMap<AgentId, VecDeque<Instant>>,
}

impl Checker {
    /// A checker of a process that begins.
    #[must_use]
    pub fn new(me: AgentId) -> Self {
        Self {
            me,
            own: Stamp::default(),
            held: BTreeMap::new(),
            up: BTreeSet::new(),
            ended: BTreeMap::new(),
            failures: BTreeMap::new(),
        }
    }

    /// A batch of changes was told.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn changes(&mut self, now: Instant, changes: &[Change]) -> Result<(), Violation> {
        for &Change { id, epoch, kind } in changes {
            if id == self.me {
                return Err(Violation::SelfAmongOthers);
            }
            let up = self.up.contains(&id);
            let fits = match kind {
                ChangeKind::Joined => !up,
                ChangeKind::Suspect | ChangeKind::Recovered | ChangeKind::Updated | ChangeKind::Down(_) => up,
                ChangeKind::Ended(_) | ChangeKind::Reaped => !up,
            };
            if !fits {
                return Err(Violation::NoAlternation { id, kind, up });
            }
            match kind {
                ChangeKind::Joined => {
                    if self.ended.get(&id).is_some_and(|&ended| epoch <= ended) {
                        return Err(Violation::Resurrected { id, epoch });
                    }
                    self.up.insert(id);
                }
                ChangeKind::Down(reason) => {
                    self.up.remove(&id);
                    self.down(now, id, epoch, reason)?;
                }
                ChangeKind::Ended(_) => {
                    self.ended.insert(id, epoch);
                }
                ChangeKind::Reaped => {
                    self.held.remove(&id);
                }
                ChangeKind::Suspect | ChangeKind::Recovered | ChangeKind::Updated => {}
            }
        }
        Ok(())
    }

    fn down(&mut self, now: Instant, id: AgentId, epoch: Epoch, reason: DownReason) -> Result<(), Violation> {
        match reason {
            DownReason::Left | DownReason::Provider | DownReason::Restarted => {
                self.ended.insert(id, epoch);
            }
            DownReason::Failed => {
                let failures = self.failures.entry(id).or_default();
                failures.push_back(now);
                while failures.front().is_some_and(|&at| now.since(at) > Duration::from_secs(60)) {
                    failures.pop_front();
                }
                if failures.len() > FAILURES_MAX {
                    return Err(Violation::Flapping { id, failures: failures.len(), max: FAILURES_MAX });
                }
            }
        }
        Ok(())
    }

    /// The machine was drained.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn drained(&mut self, now: Instant, machine: &Membership) -> Result<(), Violation> {
        if let Some(due) = machine.next_deadline()
            && due <= now
        {
            return Err(Violation::Livelock(due));
        }
        self.own_stamp(machine.stamp())
    }

    /// The own stamp is this.
    ///
    /// # Errors
    /// When it went back.
    pub fn own_stamp(&mut self, after: Stamp) -> Result<(), Violation> {
        if after < self.own {
            return Err(Violation::StampWentBack { id: self.me, before: self.own, after });
        }
        self.own = after;
        Ok(())
    }

    /// What is seldom looked at, since it costs much.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn sample(&mut self, machine: &Membership, ids: usize) -> Result<(), Violation> {
        self.sizes(machine.sizes(), machine.settings(), ids)?;
        self.holds(machine.standings().map(|(id, stamp, _)| (id, stamp)))
    }

    /// It holds these stamps of others.
    ///
    /// # Errors
    /// When one went back, or is its own.
    pub fn holds(&mut self, stamps: impl Iterator<Item = (AgentId, Stamp)>) -> Result<(), Violation> {
        for (id, after) in stamps {
            if id == self.me {
                return Err(Violation::SelfAmongOthers);
            }
            if let Some(before) = self.held.insert(id, after)
                && after < before
            {
                return Err(Violation::StampWentBack { id, before, after });
            }
        }
        Ok(())
    }

    /// It keeps so much, in a world in which there ever were so many ids.
    ///
    /// # Errors
    /// When that is too much.
    pub fn sizes(&self, sizes: Sizes, settings: &Settings, ids: usize) -> Result<(), Violation> {
        let user = sizes.user;
        let timers = 16 + 2 * sizes.probes + sizes.exchanges + 5 * ids + user.queries + user.answers;
        for (what, kept, max) in [
            ("members", sizes.members, ids.min(settings.members_max)),
            ("tombstones", sizes.tombstones, ids),
            ("pieces of news", sizes.news, ids),
            ("probes", sizes.probes, 2048),
            ("streams", sizes.exchanges, 64),
            ("seeds", sizes.seeds, settings.seeds_max),
            ("timers", sizes.timers, timers),
            ("user events", user.events, 2048),
            ("senders of user events", user.senders, ids),
            ("rumours", user.rumours, 512),
            ("queries", user.queries, 2048 + 32),
            ("queries and answers under way", user.answers, 512),
        ] {
            if kept > max {
                return Err(Violation::Memory { what, kept, max });
            }
        }
        Ok(())
    }
}
