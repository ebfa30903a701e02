//! Identifiers by number, each life of a number apart, and their collection.
//!
//! A [`Table`] holds the identifiers of one kind, of this cluster or of others. An entry lives as long as something holds
//! it (it is a member of a group, or one end of a monitor or a link), and after that until it was idle for the table's time.
//! The number of an entry that went away is used again with another generation, so that who kept it finds nobody.
//! Invariant: an entry that is not held stands in the idle queue, once; a full table gives up the one that stands there
//! first, which nobody used since it was put there or which is the oldest of those that were.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

use crate::{hash::Seeded, peer::PeerId};

/// How many of the queue are looked at to make room.
const LOOKED_AT: usize = 64;
/// A generation has so many bits, so that a number and its generation fit into the words of a reference.
pub(crate) const GENERATION_BITS: u32 = 26;
/// A table begins with those of its life, so that tables which follow one another have none in common for long.
const LIFE_GENERATIONS: u32 = 1 << 20;
const LIVES: u32 = 1 << (GENERATION_BITS - 20);
/// And a number has so many values.
pub(crate) const INDEX_MAX: usize = 1 << 24;

/// An entry in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// What is known of an identifier.
#[derive(Debug)]
pub(crate) struct Entry<K> {
    pub(crate) key: K,
    /// Whom it came from; `None` for those of this cluster.
    pub(crate) via: Option<PeerId>,
    /// To which gateways it was handed out, a bit each.
    pub(crate) granted: u64,
    /// How many memberships, monitors and links need it.
    pub(crate) held: u32,
    generation: u32,
    used: u32,
    live: bool,
    queued: bool,
    orphan: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Table<K> {
    entries: Vec<Entry<K>>,
    free: VecDeque<u32>,
    index: HashMap<(Option<PeerId>, K), u32, Seeded>,
    /// Entries that outlive who brought them.
    orphans: usize,
    idle: VecDeque<(u32, Slot)>,
    idle_seconds: u32,
    entries_max: usize,
    of_peer: Vec<usize>,
    of_peer_max: usize,
    /// The generation before the first one of each number.
    before: u32,
}

impl<K: Copy + Eq + Hash> Table<K> {
    /// Of so many entries, of which one peer brings so many. Tables whose `life` differs have no slot in common, up to
    /// [`LIVES`] of them and until a number was used [`LIFE_GENERATIONS`] times.
    pub(crate) fn new(entries_max: usize, of_peer_max: usize, idle_seconds: u32, life: u32) -> Self {
        Self {
            entries: Vec::new(),
            free: VecDeque::new(),
            index: HashMap::default(),
            orphans: 0,
            idle: VecDeque::new(),
            idle_seconds,
            entries_max: entries_max.min(INDEX_MAX),
            of_peer: vec![0; PeerId::COUNT],
            of_peer_max,
            before: (life % LIVES) * LIFE_GENERATIONS,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len() + self.orphans
    }

    pub(crate) fn find(&self, via: Option<PeerId>, key: &K) -> Option<Slot> {
        let &index = self.index.get(&(via, *key))?;
        Some(Slot { index, generation: self.entries[index as usize].generation })
    }

    /// The entry of a life that is not over.
    #[inline]
    pub(crate) fn at(&self, slot: Slot) -> Option<&Entry<K>> {
        self.entries.get(slot.index as usize).filter(|entry| entry.live && entry.generation == slot.generation)
    }

    /// As [`Table::at`]; it counts as used.
    #[inline]
    pub(crate) fn use_at(&mut self, slot: Slot, now: u32) -> Option<&mut Entry<K>> {
        let entry = self.entries.get_mut(slot.index as usize)?;
        if !entry.live || entry.generation != slot.generation {
            return None;
        }
        entry.used = now;
        Some(entry)
    }

    /// The entry of this identifier, made if there is none; `None` when there is no room.
    #[inline]
    pub(crate) fn intern(&mut self, via: Option<PeerId>, key: K, now: u32) -> Option<Slot> {
        if let Some(&index) = self.index.get(&(via, key)) {
            let entry = &mut self.entries[index as usize];
            entry.used = now;
            return Some(Slot { index, generation: entry.generation });
        }
        self.insert(via, key, now)
    }

    fn insert(&mut self, via: Option<PeerId>, key: K, now: u32) -> Option<Slot> {
        let of_peer = |table: &Self| via.map_or(0, |peer| table.of_peer[peer.index()]);
        if (self.len() >= self.entries_max && !self.make_room(None))
            || (of_peer(self) >= self.of_peer_max && !self.make_room(via))
        {
            return None;
        }
        if let Some(peer) = via {
            self.of_peer[peer.index()] += 1;
        }
        let index = match self.free.pop_front() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.entries.len()).ok()?;
                let (granted, held, generation, used) = (0, 0, self.before, 0);
                self.entries.push(Entry {
                    key,
                    via,
                    granted,
                    held,
                    generation,
                    used,
                    live: false,
                    queued: false,
                    orphan: false,
                });
                index
            }
        };
        let entry = &mut self.entries[index as usize];
        let generation = (entry.generation + 1) & ((1 << GENERATION_BITS) - 1);
        let (live, queued, orphan) = (true, true, false);
        *entry = Entry { key, via, granted: 0, held: 0, generation, used: now, live, queued, orphan };
        let slot = Slot { index, generation };
        self.index.insert((via, key), index);
        self.idle.push_back((now.saturating_add(self.idle_seconds), slot));
        Some(slot)
    }

    /// Gives up one entry that nothing holds; with `of`, one of that peer. False when there was none near the front.
    fn make_room(&mut self, of: Option<PeerId>) -> bool {
        for _ in 0..LOOKED_AT.min(self.idle.len()) {
            let Some((due, slot)) = self.idle.pop_front() else { return false };
            match self.at(slot) {
                None => {}
                Some(entry) if entry.held > 0 => self.entries[slot.index as usize].queued = false,
                Some(entry) if of.is_some() && entry.via != of => self.idle.push_back((due, slot)),
                Some(_) => {
                    self.remove(slot);
                    return true;
                }
            }
        }
        false
    }

    pub(crate) fn hold(&mut self, slot: Slot) {
        if let Some(entry) = self.entries.get_mut(slot.index as usize).filter(|e| e.generation == slot.generation) {
            entry.held += 1;
        }
    }

    pub(crate) fn release(&mut self, slot: Slot, now: u32) {
        let Some(entry) = self.use_at(slot, now) else { return };
        entry.held = entry.held.saturating_sub(1);
        if entry.held == 0 && !entry.queued {
            entry.queued = true;
            self.idle.push_back((now.saturating_add(self.idle_seconds), slot));
        }
    }

    fn remove(&mut self, slot: Slot) {
        let entry = &mut self.entries[slot.index as usize];
        entry.live = false;
        let (via, key) = (entry.via, entry.key);
        self.free.push_back(slot.index);
        if std::mem::take(&mut entry.orphan) {
            self.orphans -= 1;
            return;
        }
        self.index.remove(&(via, key));
        if let Some(peer) = via {
            self.of_peer[peer.index()] -= 1;
        }
    }

    /// Collects what was idle for too long.
    pub(crate) fn collect(&mut self, now: u32) {
        while let Some(&(due, slot)) = self.idle.front().filter(|(due, _)| *due <= now) {
            self.idle.pop_front();
            let idle_seconds = self.idle_seconds;
            let Some(entry) = self.entries.get_mut(slot.index as usize) else { continue };
            if !entry.live || entry.generation != slot.generation {
                continue;
            }
            let again = entry.used.saturating_add(idle_seconds);
            if entry.held > 0 {
                entry.queued = false;
            } else if again > now && again > due {
                self.idle.push_back((again, slot));
            } else {
                self.remove(slot);
            }
        }
    }

    /// Forgets all that came from this peer, and that anything was handed out to it. What something else still holds, such
    /// as a monitor that came through another peer, stays until it lets go, and leads nowhere.
    pub(crate) fn forget(&mut self, peer: PeerId) {
        for index in 0..self.entries.len() {
            let entry = &mut self.entries[index];
            entry.granted &= !peer.bit();
            if !entry.live || entry.via != Some(peer) {
                continue;
            }
            if entry.held == 0 {
                let generation = entry.generation;
                self.remove(Slot { index: index as u32, generation });
                continue;
            }
            (entry.via, entry.orphan) = (None, true);
            self.index.remove(&(Some(peer), entry.key));
            self.of_peer[peer.index()] -= 1;
            self.orphans += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Option<PeerId> = Some(PeerId::FIRST);

    #[test]
    fn an_entry_lives_while_it_is_held_or_used() {
        let mut table = Table::new(10, 10, 60, 0);
        let held = table.intern(PEER, 1, 0).expect("room");
        let used = table.intern(PEER, 2, 0).expect("room");
        let idle = table.intern(PEER, 3, 0).expect("room");
        table.hold(held);
        assert!(table.use_at(used, 30).is_some());
        table.collect(60);
        assert!(table.at(held).is_some() && table.at(used).is_some() && table.at(idle).is_none());
        table.collect(90);
        assert!(table.at(used).is_none());
        table.release(held, 100);
        table.collect(159);
        assert!(table.at(held).is_some());
        table.collect(160);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_number_that_is_used_again_is_another() {
        let mut table = Table::new(1, 1, 60, 0);
        let first = table.intern(PEER, 1, 0).expect("room");
        let second = table.intern(PEER, 2, 0).expect("the first one is idle");
        assert_eq!(first.index, second.index);
        assert!(table.at(first).is_none() && table.find(PEER, &1).is_none());
        table.hold(second);
        assert_eq!(table.intern(PEER, 3, 0), None, "nothing is idle");
        assert_eq!(table.intern(PEER, 2, 0), Some(second));
    }

    #[test]
    fn what_is_held_outlives_who_brought_it() {
        let mut table = Table::new(10, 10, 60, 0);
        let held = table.intern(PEER, 1, 0).expect("room");
        table.hold(held);
        table.forget(PeerId::FIRST);
        assert_eq!(table.at(held).map(|entry| (entry.key, entry.via)), Some((1, None)));
        assert_eq!((table.len(), table.find(PEER, &1)), (1, None));
        let again = table.intern(PEER, 1, 0).expect("room");
        assert_ne!(again, held);
        table.release(held, 10);
        table.collect(70);
        assert!(table.at(held).is_none());
        table.collect(200);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn tables_that_follow_one_another_have_no_entry_in_common() {
        let mut tables = [0, 1, 63].map(|life| Table::new(10, 10, 60, life));
        let slots = tables.each_mut().map(|table| table.intern(PEER, 1, 0).expect("room"));
        for (place, table) in tables.iter().enumerate() {
            let found = slots.map(|slot| table.at(slot).is_some());
            assert_eq!(found, [place == 0, place == 1, place == 2]);
        }
    }

    #[test]
    fn a_peer_takes_room_from_itself_only() {
        let mut table = Table::new(10, 2, 60, 0);
        let other = Some(PeerId::new(1).expect("small"));
        let theirs = table.intern(other, 1, 0).expect("room");
        for key in 0..5 {
            assert!(table.intern(PEER, key, 0).is_some());
        }
        assert_eq!(table.len(), 3);
        assert!(table.at(theirs).is_some());
        table.forget(PeerId::FIRST);
        assert_eq!(table.len(), 1);
        assert!(table.intern(PEER, 9, 0).is_some());
    }
}
