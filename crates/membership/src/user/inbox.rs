//! What of each sender's events was delivered, and what waits for one before it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use metacluster_types::{AgentId, Instant};

use crate::record::Epoch;

/// So many events at once, and so many a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) burst: f64,
    pub(super) a_second: f64,
}

/// A bound on how often something happens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    rate: Rate,
    left: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(now: Instant, rate: Rate) -> Self {
        Self { rate, left: rate.burst, at: now }
    }

    /// Whether it may happen once more now.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let since = now.since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.left = (self.left + since * self.rate.a_second).min(self.rate.burst);
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }
}

/// One sender, as far as its events go.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(super) epoch: Epoch,
    /// The next event to deliver.
    pub(super) next: u32,
    /// Events that came, and wait for one before them.
    pub(super) waiting: BTreeSet<u32>,
    /// Until when they wait, and when the timer for them is due.
    pub(super) gap: Option<Gap>,
    pub(super) rate: Bucket,
    /// When something of it last came.
    pub(crate) touched: Instant,
}

/// A wait for events that did not come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    pub(super) until: Instant,
    pub(super) due: Instant,
    pub(super) tries: u32,
}

/// Every sender. No larger than the table of members, and for a while those that were in it.
#[derive(Debug, Default)]
pub(super) struct Inboxes {
    table: BTreeMap<AgentId, Inbox>,
}

impl Inboxes {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn of(&self, id: AgentId) -> Option<&Inbox> {
        self.table.get(&id)
    }

    pub(super) fn of_mut(&mut self, id: AgentId) -> Option<&mut Inbox> {
        self.table.get_mut(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (AgentId, &Inbox)> {
        self.table.iter().map(|(&id, inbox)| (id, inbox))
    }

    pub(super) fn open(&mut self, now: Instant, id: AgentId, epoch: Epoch, next: u32, rate: Rate) -> &mut Inbox {
        self.table.entry(id).or_insert_with(|| Inbox {
            epoch,
            next,
            waiting: BTreeSet::new(),
            gap: None,
            rate: Bucket::new(now, rate),
            touched: now,
        })
    }

    pub(super) fn retain(&mut self, keep: impl Fn(AgentId, &Inbox) -> bool) {
        self.table.retain(|&id, inbox| keep(id, inbox));
    }

    /// Takes so much time for not gone by.
    pub(super) fn put_off(&mut self, now: Instant, time: Duration) {
        self.table.values_mut().for_each(|inbox| inbox.touched = (inbox.touched + time).min(now));
    }

    /// Senders that sent something within `lately`.
    pub(super) fn recent(&self, now: Instant, lately: Duration) -> impl Iterator<Item = (AgentId, &Inbox)> {
        self.iter().filter(move |(_, inbox)| now.since(inbox.touched) < lately)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_a_burst_and_fills_again() {
        let mut bucket = Bucket::new(Instant::ZERO, Rate { burst: 3.0, a_second: 2.0 });
        let at = |millis| Instant::from_origin(Duration::from_millis(millis));
        assert_eq!(
            [0, 0, 0, 0, 499, 500, 500].map(|millis| bucket.take(at(millis))),
            [true, true, true, false, false, true, false]
        );
        assert!(!bucket.take(Instant::ZERO), "time that runs backwards gives nothing");
    }
}
