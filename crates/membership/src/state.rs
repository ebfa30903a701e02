//! The table of members, its digest, and what is remembered of boots that ended.

use std::collections::{BTreeMap, VecDeque};

use metacluster_types::{AgentId, Instant};
use rand::{RngExt, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    codec::message::{BUCKETS, Summary},
    coordinate::Coordinate,
    record::{Claim, ClaimKind, Described, Ending, Epoch, Stamp, Standing, Version, mix},
};

/// So many ended boots are remembered; the oldest go first.
const TOMBSTONES_MAX: usize = 8192;

/// Whether a member lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Alive,
    Suspect(Box<Suspicion>),
    Failed,
    Left(Ending),
}

/// A suspicion that waits for its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suspicion {
    pub(crate) since: Instant,
    pub(crate) deadline: Instant,
    pub(crate) accusers: Vec<AgentId>,
    /// So many confirmations make it run its shortest.
    pub(crate) wanted: usize,
}

/// What the driver was last told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Nothing,
    Up(Epoch, Version),
    Suspect(Epoch, Version),
    Down,
    Ended,
}

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) stamp: Stamp,
    pub(crate) version: Version,
    pub(crate) life: Life,
    pub(crate) described: Described,
    /// Since when it is alive, suspect, failed or left.
    pub(crate) since: Instant,
    pub(crate) told: Told,
    /// How often it had failed and come back when it last did so; see [`Member::flaps_by`].
    pub(crate) flaps: u32,
    pub(crate) flapped_at: Instant,
    pub(crate) coordinate: Option<Coordinate>,
}

impl Member {
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.life, Life::Alive | Life::Suspect(_))
    }

    /// How often it failed and came back lately: each calm minute takes one off.
    pub(crate) fn flaps_by(&self, now: Instant) -> u32 {
        let calm = now.since(self.flapped_at).as_secs() / 60;
        self.flaps.saturating_sub(u32::try_from(calm).unwrap_or(u32::MAX))
    }

    pub(crate) fn standing(&self) -> Standing {
        match self.life {
            Life::Alive => Standing::Alive,
            Life::Suspect(_) => Standing::Suspect,
            Life::Failed => Standing::Failed,
            Life::Left(_) => Standing::Left,
        }
    }

    pub(crate) fn summary(&self, id: AgentId) -> Summary {
        let rank = match self.life {
            Life::Alive => 0,
            Life::Suspect(_) => 1,
            Life::Failed => 2,
            Life::Left(_) => 3,
        };
        Summary { id, stamp: self.stamp, version: self.version, rank }
    }

    /// What is known of it, as told to others.
    pub(crate) fn claim(&self, id: AgentId, own: AgentId, described: bool) -> Claim {
        let kind = match &self.life {
            Life::Alive => ClaimKind::Alive,
            Life::Suspect(suspicion) => ClaimKind::Suspect(suspicion.accusers.clone()),
            Life::Failed => ClaimKind::Failed(own),
            Life::Left(ending) => ClaimKind::Left(*ending),
        };
        let described = described.then(|| self.described.clone());
        Claim { subject: id, stamp: self.stamp, version: self.version, kind, described }
    }
}

/// The hash of what all agree on about one live member: suspicions differ from place to place and pass.
pub(crate) fn contribution(id: AgentId, stamp: Stamp, version: Version) -> u64 {
    let [a, b] = [id.0, id.0 >> 64].map(|half| u64::try_from(half & u128::from(u64::MAX)).unwrap_or_default());
    let counters = (u64::from(stamp.incarnation.0) << 32) | u64::from(version.0);
    mix(a ^ mix(b ^ mix(stamp.epoch.0 ^ mix(counters))))
}

pub(crate) fn bucket(id: AgentId) -> usize {
    usize::try_from(mix(crate::record::short(id)) % BUCKETS as u64).unwrap_or_default()
}

/// The members, self not among them.
#[derive(Debug)]
pub(crate) struct Members {
    table: BTreeMap<AgentId, Member>,
    /// Alive and suspect, in no order.
    live: Vec<AgentId>,
    failed: Vec<AgentId>,
    /// In what order they are probed.
    ring: Vec<AgentId>,
    digests: Box<[u64; BUCKETS]>,
    pub(crate) suspects: usize,
}

impl Default for Members {
    fn default() -> Self {
        Self {
            table: BTreeMap::new(),
            live: Vec::new(),
            failed: Vec::new(),
            ring: Vec::new(),
            digests: Box::new([0; BUCKETS]),
            suspects: 0,
        }
    }
}

impl Members {
    pub(crate) fn of(&self, id: AgentId) -> Option<&Member> {
        self.table.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AgentId, &Member)> {
        self.table.iter().map(|(&id, member)| (id, member))
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn live(&self) -> &[AgentId] {
        &self.live
    }

    pub(crate) fn failed(&self) -> &[AgentId] {
        &self.failed
    }

    pub(crate) fn digests(&self) -> &[u64; BUCKETS] {
        &self.digests
    }

    /// Puts a new member in.
    pub(crate) fn insert(&mut self, id: AgentId, member: Member, rng: &mut ChaCha8Rng) {
        self.remove(id);
        if member.is_live() {
            self.live.push(id);
            self.digests[bucket(id)] ^= contribution(id, member.stamp, member.version);
            let place = rng.random_range(0..=self.ring.len());
            self.ring.push(id);
            let last = self.ring.len() - 1;
            self.ring.swap(place, last);
        } else if member.life == Life::Failed {
            self.failed.push(id);
        }
        self.suspects += usize::from(matches!(member.life, Life::Suspect(_)));
        self.table.insert(id, member);
    }

    /// Changes a member, and keeps the lists and the digest true.
    pub(crate) fn change<T>(&mut self, id: AgentId, change: impl FnOnce(&mut Member) -> T) -> Option<T> {
        let member = self.table.get_mut(&id)?;
        let before = (member.standing(), contribution(id, member.stamp, member.version));
        let result = change(member);
        let after = (member.standing(), contribution(id, member.stamp, member.version));
        let live = |standing| matches!(standing, Standing::Alive | Standing::Suspect);
        let digest = &mut self.digests[bucket(id)];
        for (standing, hash) in [before, after] {
            *digest ^= if live(standing) { hash } else { 0 };
        }
        self.suspects -= usize::from(before.0 == Standing::Suspect);
        self.suspects += usize::from(after.0 == Standing::Suspect);
        match (live(before.0), live(after.0)) {
            (true, false) => take_out(&mut self.live, id),
            (false, true) => {
                self.live.push(id);
                self.ring.push(id);
            }
            (true, true) | (false, false) => {}
        }
        match (before.0 == Standing::Failed, after.0 == Standing::Failed) {
            (true, false) => take_out(&mut self.failed, id),
            (false, true) => self.failed.push(id),
            (true, true) | (false, false) => {}
        }
        Some(result)
    }

    /// Changes what matters to neither lists nor digest.
    pub(crate) fn note<T>(&mut self, id: AgentId, change: impl FnOnce(&mut Member) -> T) -> Option<T> {
        self.table.get_mut(&id).map(change)
    }

    pub(crate) fn remove(&mut self, id: AgentId) -> Option<Member> {
        let member = self.table.remove(&id)?;
        if member.is_live() {
            take_out(&mut self.live, id);
            self.digests[bucket(id)] ^= contribution(id, member.stamp, member.version);
        } else if member.life == Life::Failed {
            take_out(&mut self.failed, id);
        }
        self.suspects -= usize::from(matches!(member.life, Life::Suspect(_)));
        Some(member)
    }

    /// The next member to probe: each live one once a round, in an order that changes with each round.
    pub(crate) fn next_in_ring(&mut self, rng: &mut ChaCha8Rng) -> Option<AgentId> {
        for _ in 0..2 {
            while let Some(id) = self.ring.pop() {
                if self.table.get(&id).is_some_and(Member::is_live) {
                    return Some(id);
                }
            }
            self.ring.clone_from(&self.live);
            self.ring.shuffle(rng);
        }
        None
    }

    /// Up to `count` live members that `admit` admits, drawn at random.
    pub(crate) fn draw(
        &self,
        count: usize,
        rng: &mut ChaCha8Rng,
        admit: impl Fn(AgentId, &Member) -> bool,
    ) -> Vec<AgentId> {
        let mut drawn = Vec::with_capacity(count);
        if self.live.is_empty() {
            return drawn;
        }
        // From a random start by a random step that visits all: no list of the cluster is made.
        let length = self.live.len();
        let mut tries = 0;
        if length <= 16 {
            let mut order = self.live.clone();
            order.shuffle(rng);
            order.retain(|id| self.table.get(id).is_some_and(|member| admit(*id, member)));
            order.truncate(count);
            return order;
        }
        while drawn.len() < count && tries < 8 * count + 16 {
            tries += 1;
            let id = self.live[rng.random_range(0..length)];
            if !drawn.contains(&id) && self.table.get(&id).is_some_and(|member| admit(id, member)) {
                drawn.push(id);
            }
        }
        drawn
    }
}

fn take_out(list: &mut Vec<AgentId>, id: AgentId) {
    if let Some(place) = list.iter().position(|&entry| entry == id) {
        list.swap_remove(place);
    }
}

/// How a boot that is not in the table ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tombstone {
    pub(crate) stamp: Stamp,
    /// For good; else it was only held failed.
    pub(crate) left: bool,
    until: Instant,
}

/// Boots that ended, so that old news does not bring them back.
#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    table: BTreeMap<AgentId, Tombstone>,
    order: VecDeque<AgentId>,
}

impl Tombstones {
    pub(crate) fn set(&mut self, id: AgentId, stamp: Stamp, left: bool, until: Instant) {
        if self.table.insert(id, Tombstone { stamp, left, until }).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > TOMBSTONES_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.table.remove(&oldest);
            }
        }
    }

    /// Whether a claim with this stamp is of a boot that ended.
    pub(crate) fn covers(&self, now: Instant, id: AgentId, stamp: Stamp) -> bool {
        self.table.get(&id).is_some_and(|tombstone| {
            let ended = if tombstone.left { stamp.epoch <= tombstone.stamp.epoch } else { stamp <= tombstone.stamp };
            now < tombstone.until && ended
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AgentId, &Tombstone)> {
        self.table.iter().map(|(&id, tombstone)| (id, tombstone))
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}
