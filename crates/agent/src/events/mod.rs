//! The event log: a ring of the newest events, from which every reader reads at its own pace.
//!
//! Invariants: sequence numbers count up by one from 1 for as long as the process lives, and the log's epoch tells one
//! process from the next; for one node `nodeup` and
//! `nodedown` alternate, beginning with `nodeup`; a reader holds a position and never an event, so a slow one holds up
//! nobody and costs no memory. A reader that fell behind the ring is told which events are gone (docs/contracts.md,
//! JSON).

mod position;
mod reader;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use metacluster_types::{ClusterName, Event, EventKind, NodeName, Subject, WallClock, Zone};
use tokio::sync::watch;

pub use position::Position;
pub use reader::{Next, Reader};

/// How many events are kept when nothing else is said.
pub const KEEP_DEFAULT: usize = 10_000;

/// The log. Clones share it.
#[derive(Clone, Debug)]
pub struct EventLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    cluster: ClusterName,
    keep: usize,
    epoch: u64,
    ring: Mutex<Ring>,
    /// Wakes readers: the newest sequence number, and whether the log is closed.
    head: watch::Sender<Head>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    last: u64,
    closed: bool,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Arc<Event>>,
    /// The newest sequence number; zero before the first event.
    last: u64,
    /// The nodes whose last event was `nodeup`. No larger than the cluster.
    up: BTreeSet<NodeName>,
    closed: bool,
}

impl Ring {
    /// The oldest sequence number that is still kept, or the next one when none is.
    fn oldest(&self) -> u64 {
        self.events.front().map_or(self.last + 1, |event| event.seq)
    }

    /// Whether this event may stand in the stream after those before it.
    fn admits(&mut self, kind: EventKind, subject: &Subject) -> bool {
        let Some(node) = &subject.node else { return true };
        match kind {
            EventKind::NodeUp => self.up.insert(node.clone()),
            EventKind::NodeDown => self.up.remove(node),
            EventKind::MemberJoin
            | EventKind::MemberSuspect
            | EventKind::MemberFailed
            | EventKind::MemberLeave
            | EventKind::MemberUpdate
            | EventKind::CandidateFound
            | EventKind::CandidateLost
            | EventKind::TopologyError
            | EventKind::TopologyRecovered
            | EventKind::ClusterLinked
            | EventKind::ClusterUnlinked
            | EventKind::GroupJoin
            | EventKind::GroupLeave
            | EventKind::User
            | EventKind::Query => true,
        }
    }
}

impl EventLog {
    /// An empty log that keeps the newest `keep` events (at least one).
    #[must_use]
    pub fn new(cluster: ClusterName, keep: usize) -> Self {
        let head = watch::Sender::new(Head { last: 0, closed: false });
        Self { shared: Arc::new(Shared { cluster, keep: keep.max(1), epoch: epoch(), ring: Mutex::default(), head }) }
    }

    /// Adds an event and wakes the readers. Never waits for any of them.
    ///
    /// Gives `None`, and publishes nothing, for a `nodeup` of a node that is up in this stream already, for a `nodedown`
    /// of one that is not, and once the log is closed.
    pub fn publish(
        &self,
        kind: EventKind,
        subject: Subject,
        zone: Option<Zone>,
        reason: Option<String>,
    ) -> Option<Arc<Event>> {
        self.publish_of(self.shared.cluster.clone(), kind, subject, zone, reason)
    }

    /// As [`EventLog::publish`], of what happened in another cluster.
    pub fn publish_of(
        &self,
        cluster: ClusterName,
        kind: EventKind,
        subject: Subject,
        zone: Option<Zone>,
        reason: Option<String>,
    ) -> Option<Arc<Event>> {
        let event = {
            let mut ring = self.ring();
            if ring.closed || !ring.admits(kind, &subject) {
                return None;
            }
            ring.last += 1;
            let event = Arc::new(Event {
                seq: ring.last,
                at: WallClock::new(SystemTime::now()),
                event: kind,
                subject,
                cluster,
                zone,
                reason,
            });
            while ring.events.len() >= self.shared.keep {
                ring.events.pop_front();
            }
            ring.events.push_back(Arc::clone(&event));
            self.shared.head.send_replace(Head { last: ring.last, closed: false });
            event
        };
        Some(event)
    }

    /// A reader of what comes after the event numbered `since`; without it, of what comes from now on. Zero reads all
    /// that is kept.
    #[must_use]
    pub fn reader(&self, since: Option<u64>) -> Reader {
        self.reader_after(since.map(|seq| Position { epoch: None, seq }))
    }

    /// As [`EventLog::reader`], after a position that may be of another process: then the reader is told so, and goes on
    /// with the oldest event that is kept.
    #[must_use]
    pub fn reader_after(&self, since: Option<Position>) -> Reader {
        let head = self.shared.head.subscribe();
        let seen = since.map_or_else(|| self.last_seq(), |since| since.seq);
        let other = since.and_then(|since| since.epoch).is_some_and(|epoch| epoch != self.shared.epoch);
        Reader::new(Arc::clone(&self.shared), head, seen, other)
    }

    /// What tells this process's count from that of another.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// The newest sequence number, which is also how many events there were; zero before the first.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.ring().last
    }

    /// The nodes that are up in this stream.
    #[must_use]
    pub fn nodes_up(&self) -> BTreeSet<NodeName> {
        self.ring().up.clone()
    }

    /// Ends the log: readers get what is left, then [`Next::Closed`].
    pub fn close(&self) {
        let mut ring = self.ring();
        ring.closed = true;
        self.shared.head.send_replace(Head { last: ring.last, closed: true });
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.shared.ring()
    }
}

/// The milliseconds of the wall clock, with a little chance: it only has to differ from that of the process before.
fn epoch() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default() << 8 | u64::from(rand::random::<u8>())
}

impl Shared {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        // Nothing under this lock can leave the ring half changed.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
