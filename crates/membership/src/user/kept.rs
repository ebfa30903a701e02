//! User events that are kept: those that wait for one before them, and recent ones for members that were away.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use metacluster_types::{AgentId, Instant};

use crate::{codec::user::EventItem, record::Epoch};

/// So many events are kept; the one that came first goes when there are more.
const KEPT_MAX: usize = 2048;
/// So many of them are of one sender.
pub(super) const KEPT_OF_SENDER: usize = 64;

/// What names an event.
pub(super) type EventKey = (AgentId, Epoch, u32);

#[derive(Debug)]
struct Entry {
    event: EventItem,
    came_at: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Kept {
    events: BTreeMap<EventKey, Entry>,
    /// In the order in which they came.
    order: VecDeque<EventKey>,
    of_sender: BTreeMap<AgentId, usize>,
}

impl Kept {
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn contains(&self, key: EventKey) -> bool {
        self.events.contains_key(&key)
    }

    pub(super) fn put(&mut self, now: Instant, event: EventItem) {
        let sender = event.sender;
        let key = (sender, event.epoch, event.sequence);
        if self.events.insert(key, Entry { event, came_at: now }).is_some() {
            return;
        }
        self.order.push_back(key);
        let count = self.of_sender.entry(sender).or_default();
        *count += 1;
        if *count > KEPT_OF_SENDER {
            // The sender's own oldest goes, nobody else's.
            let oldest = self.events.range((sender, Epoch(0), 0)..).next().map(|(&key, _)| key);
            oldest.into_iter().for_each(|oldest| self.remove(oldest));
            self.order.retain(|key| self.events.contains_key(key));
        }
        while self.events.len() > KEPT_MAX {
            let Some(oldest) = self.order.pop_front() else { return };
            self.remove(oldest);
        }
    }

    fn remove(&mut self, key: EventKey) {
        if self.events.remove(&key).is_some()
            && let Some(count) = self.of_sender.get_mut(&key.0)
        {
            *count -= 1;
            if *count == 0 {
                self.of_sender.remove(&key.0);
            }
        }
    }

    /// The event as it goes to others, with its age by now.
    pub(super) fn item(&self, now: Instant, key: EventKey) -> Option<EventItem> {
        let entry = self.events.get(&key)?;
        Some(EventItem { age: entry.event.age + now.since(entry.came_at), ..entry.event.clone() })
    }

    pub(super) fn event(&self, key: EventKey) -> Option<&EventItem> {
        self.events.get(&key).map(|entry| &entry.event)
    }

    /// How many of a boot's events before this one are kept.
    pub(super) fn before(&self, (sender, epoch, sequence): EventKey) -> usize {
        self.events.range((sender, epoch, 0)..(sender, epoch, sequence)).count()
    }

    /// Those of a boot from one on, in order.
    pub(super) fn from(&self, (sender, epoch, sequence): EventKey) -> impl Iterator<Item = EventKey> {
        self.events.range((sender, epoch, sequence)..=(sender, epoch, u32::MAX)).map(|(&key, _)| key)
    }

    /// Those of a boot, and of later boots of the same sender, from one on, in order.
    pub(super) fn since(&self, (sender, epoch, sequence): EventKey) -> impl Iterator<Item = EventKey> {
        let from = (sender, epoch, sequence);
        self.events.range(from..).take_while(move |(key, _)| key.0 == sender).map(|(&key, _)| key)
    }

    /// Everyone of whom something is kept.
    pub(super) fn senders(&self) -> impl Iterator<Item = AgentId> {
        self.of_sender.keys().copied()
    }

    /// Lets go of what is too old.
    pub(super) fn forget(&mut self, now: Instant, kept_for: Duration) {
        let old: Vec<EventKey> = self
            .events
            .iter()
            .filter(|(_, entry)| entry.event.age + now.since(entry.came_at) > kept_for)
            .map(|(&key, _)| key)
            .collect();
        old.into_iter().for_each(|key| self.remove(key));
        self.order.retain(|key| self.events.contains_key(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sender: u128, sequence: u32, age: u64) -> EventItem {
        EventItem {
            sender: AgentId(sender),
            epoch: Epoch(1),
            sequence,
            age: Duration::from_secs(age),
            recent: 0,
            name: "n".to_owned(),
            payload: Vec::new(),
        }
    }

    #[test]
    fn one_sender_takes_its_own_part_and_all_take_a_bounded_one() {
        let mut kept = Kept::default();
        kept.put(Instant::ZERO, event(1, 1, 0));
        for sequence in 0..1000 {
            kept.put(Instant::ZERO, event(2, sequence, 0));
        }
        assert_eq!(kept.len(), KEPT_OF_SENDER + 1);
        assert!(kept.contains((AgentId(1), Epoch(1), 1)) && kept.contains((AgentId(2), Epoch(1), 999)));
        for sender in 10..10_000 {
            kept.put(Instant::ZERO, event(sender, 1, 0));
        }
        assert_eq!((kept.len(), kept.order.len(), kept.of_sender.len()), (KEPT_MAX, KEPT_MAX, KEPT_MAX));
    }

    #[test]
    fn what_is_too_old_is_let_go_whoever_kept_it_before() {
        let mut kept = Kept::default();
        kept.put(Instant::ZERO, event(1, 1, 590));
        kept.put(Instant::ZERO, event(1, 2, 0));
        kept.forget(Instant::from_origin(Duration::from_secs(20)), Duration::from_secs(600));
        assert_eq!((kept.len(), kept.contains((AgentId(1), Epoch(1), 2))), (1, true));
    }
}
