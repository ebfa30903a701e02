//! One reader's place in the log.
//!
//! Holds a sequence number only. Every call looks at the ring anew, so what was lost meanwhile shows as a gap.

use std::sync::Arc;

use metacluster_types::Event;
use tokio::sync::watch;

use super::{Head, Shared};

/// What a reader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next event.
    Event(Arc<Event>),
    /// The events `from..=to` came and are not kept any more. The next event is `to + 1`.
    ///
    /// When the agent has `restarted`, the reader named an event that this log never had: the agent counts from 1 again,
    /// and the reader goes on with the oldest event that is kept, whatever it missed.
    Gap {
        /// The first that is gone.
        from: u64,
        /// The last that is gone.
        to: u64,
        /// Whether the count is that of another process than before.
        restarted: bool,
    },
    /// The log has ended, and all was read.
    Closed,
}

/// A place in the log. Dropping it costs nobody anything.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    head: watch::Receiver<Head>,
    /// The last sequence number that was read, or skipped as a gap.
    seen: u64,
    /// Whether that number is of another process's count.
    other: bool,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, head: watch::Receiver<Head>, seen: u64, other: bool) -> Self {
        Self { shared, head, seen, other }
    }

    /// The epoch of the log.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// The last sequence number that was read.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// What is there to read now, if anything.
    pub fn try_next(&mut self) -> Option<Next> {
        let ring = self.shared.ring();
        let oldest = ring.oldest();
        if self.other || self.seen > ring.last {
            self.other = false;
            let gap = Next::Gap { from: self.seen.saturating_add(1), to: oldest - 1, restarted: true };
            self.seen = oldest - 1;
            return Some(gap);
        }
        let next = self.seen + 1;
        if next < oldest {
            self.seen = oldest - 1;
            return Some(Next::Gap { from: next, to: oldest - 1, restarted: false });
        }
        // `next` is at least the oldest, so the difference is an index; past the end gives none.
        let index = usize::try_from(next - oldest).unwrap_or(usize::MAX);
        match ring.events.get(index) {
            Some(event) => {
                self.seen = next;
                Some(Next::Event(Arc::clone(event)))
            }
            None if ring.closed => Some(Next::Closed),
            None => None,
        }
    }

    /// Waits for what comes next. Safe to drop at any point: nothing is lost.
    pub async fn next(&mut self) -> Next {
        loop {
            self.head.mark_unchanged();
            if let Some(next) = self.try_next() {
                return next;
            }
            // The sender lives in `shared`, which this reader holds.
            if self.head.changed().await.is_err() {
                return Next::Closed;
            }
        }
    }
}
