//! Peers that fail: back-off, early tries on a sign of life, and what the log hears of it.
//!
//! Back-off is the peer's, not the pair's: while a peer fails, one of its parked pairs is tried at a time, each local
//! node in its turn, so a dead peer costs one dial a round however many local nodes want it. The first link of any of
//! them sets all the others free.

use metacluster_types::{Instant, NodeName};
use rand::RngExt;

use crate::{
    DialError, Formation, Note, Output,
    state::{Failing, InFlight, Lane, NodeId, PairKey, PairState, Target},
    timers::Timer,
};

/// How many names a summary gives.
const SUMMARY_NAMES_MAX: usize = 5;

impl Formation {
    /// A dial failed through the peer's fault, or nobody's.
    pub(crate) fn failed(&mut self, now: Instant, key: PairKey, dial: InFlight, error: DialError) {
        if self.direction(key).is_none() {
            return;
        }
        let peer = dial.peer;
        self.set_state(key, PairState::Parked);
        let Some(failing) = &mut self.nodes[peer].failing else {
            self.nodes[peer].failing = Some(Failing {
                since: now,
                error,
                attempts: 1,
                rounds: 1,
                step: 0,
                noted: false,
                again: false,
                entry: None,
                last_local: dial.local,
            });
            self.park_all(peer);
            self.ensure_entry(now, peer);
            return;
        };
        failing.attempts = failing.attempts.saturating_add(1);
        failing.error = error;
        if dial.round == failing.rounds {
            failing.rounds = failing.rounds.saturating_add(1);
            failing.step = failing.step.saturating_add(1);
        }
        if failing.rounds >= 2 && !failing.noted {
            self.note_failing(now, peer);
        }
        self.ensure_entry(now, peer);
    }

    /// Pairs of a peer that just failed wait for its back-off, not for their own turn.
    fn park_all(&mut self, peer: NodeId) {
        for local in self.locals.clone() {
            let key = PairKey::new(local, peer);
            let waiting = self.pairs.get(&key).is_some_and(|pair| matches!(pair.state, PairState::Waiting { .. }));
            if waiting && self.direction(key).is_some_and(|(_, to)| to == peer) {
                self.set_state(key, PairState::Parked);
            }
        }
    }

    /// Gives a failing peer its place in a lane, if it has none and none of its tries is in flight.
    pub(crate) fn ensure_entry(&mut self, now: Instant, peer: NodeId) {
        let Some(failing) = &self.nodes[peer].failing else { return };
        if failing.entry.is_some() || self.is_dialled(peer) {
            return;
        }
        if failing.again {
            self.pull_forward(now, peer);
            return;
        }
        let wait = self.settings.back_off.wait(failing.step, now.since(failing.since));
        let jitter = self.rng.random_range(std::time::Duration::ZERO..=wait / 4);
        let due = self.due(now + (wait - jitter));
        self.set_entry(peer, Some((Lane::Retry, due)));
    }

    /// As [`Formation::ensure_entry`], for both ends as far as they are still known.
    pub(crate) fn ensure_entries(&mut self, now: Instant, key: PairKey) {
        for end in key.ends() {
            if self.nodes.contains(end) {
                self.ensure_entry(now, end);
            }
        }
    }

    fn is_dialled(&self, peer: NodeId) -> bool {
        self.locals
            .iter()
            .any(|&local| self.in_flight.get(&PairKey::new(local, peer)).is_some_and(|dial| dial.peer == peer))
    }

    fn set_entry(&mut self, peer: NodeId, entry: Option<(Lane, crate::state::Due)>) {
        let Some(failing) = &mut self.nodes[peer].failing else { return };
        if let Some((lane, due)) = std::mem::replace(&mut failing.entry, entry) {
            self.lane(lane).remove(&(due, Target::Peer(peer)));
        }
        if let Some((lane, due)) = entry {
            self.lane(lane).insert((due, Target::Peer(peer)));
        }
    }

    /// The parked pair whose turn it is; the peer leaves its lane until the outcome.
    pub(crate) fn take_turn(&mut self, peer: NodeId) -> Option<PairKey> {
        self.set_entry(peer, None);
        let last = self.nodes[peer].failing.as_ref()?.last_local;
        let later = self.locals.range((std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded));
        let turn = later.chain(self.locals.range(..=last)).map(|&local| PairKey::new(local, peer)).find(|key| {
            self.pairs.get(key).is_some_and(|pair| pair.state == PairState::Parked) && !self.in_flight.contains_key(key)
        });
        if turn.is_none() {
            self.settle_failing(peer);
        }
        turn
    }

    /// A sign of life of a peer by name.
    pub(crate) fn on_peer_alive(&mut self, now: Instant, peer: &NodeName) {
        if let Some(peer) = self.nodes.find(peer) {
            self.on_alive(now, peer);
        }
    }

    /// A sign of life: a failing peer is tried early and its back-off starts anew.
    pub(crate) fn on_alive(&mut self, now: Instant, peer: NodeId) {
        let Some(failing) = &mut self.nodes[peer].failing else { return };
        match failing.entry {
            None => failing.again = true,
            Some((Lane::Fresh, _)) => {}
            Some((Lane::Retry, _)) => self.pull_forward(now, peer),
        }
    }

    /// A sign of life that needs no second one: the next try is now, however often earlier ones failed.
    pub(crate) fn dial_at_once(&mut self, now: Instant, peer: NodeId) {
        let node = &mut self.nodes[peer];
        node.early_failed = 0;
        node.early_from = node.early_from.min(now);
        match &mut node.failing {
            None => {}
            Some(Failing { entry: None, again, .. }) => *again = true,
            Some(Failing { entry: Some(_), .. }) => self.pull_forward(now, peer),
        }
    }

    /// Moves a failing peer's place to the other lane.
    pub(crate) fn change_entry_lane(&mut self, peer: NodeId, to: Lane) {
        if let Some((lane, due)) = self.nodes[peer].failing.as_ref().and_then(|failing| failing.entry)
            && lane != to
        {
            self.set_entry(peer, Some((to, due)));
        }
    }

    /// Brings the next try forward to now, or to when the gap between early tries allows. The gap doubles for as long
    /// as they fail, since a peer that lives and refuses would else be dialled at the pace of its signs of life.
    fn pull_forward(&mut self, now: Instant, peer: NodeId) {
        let node = &mut self.nodes[peer];
        let at = node.early_from.max(now);
        let doubled = self.settings.early_gap.checked_mul(2_u32.saturating_pow(node.early_failed));
        let gap = doubled.map_or(self.settings.early_gap_max, |gap| gap.min(self.settings.early_gap_max));
        node.early_from = at + gap.max(self.settings.early_gap);
        node.early_failed = node.early_failed.saturating_add(1);
        if let Some(failing) = &mut node.failing {
            failing.step = 0;
            failing.again = false;
        }
        let due = self.due(at);
        self.set_entry(peer, Some((Lane::Fresh, due)));
    }

    /// A link of the peer is up.
    pub(crate) fn recovered(&mut self, now: Instant, peer: NodeId) {
        self.nodes[peer].early_failed = 0;
        self.set_entry(peer, None);
        let Some(failing) = self.nodes[peer].failing.take() else { return };
        if failing.noted {
            let name = self.nodes[peer].name.clone();
            self.noted.remove(&name);
            let after = now.since(failing.since);
            self.say(Note::PeerRecovered { peer: name, after, attempts: failing.attempts });
        }
        for local in self.locals.clone() {
            let key = PairKey::new(local, peer);
            if self.pairs.get(&key).is_some_and(|pair| pair.state == PairState::Parked)
                && let Some((_, to)) = self.direction(key)
            {
                self.wait_or_park(now, key, to, Lane::Fresh, now);
            }
        }
    }

    /// A failing peer of which no pair is left to try is not failing: nobody wants it now.
    pub(crate) fn settle_failing(&mut self, peer: NodeId) {
        if self.nodes[peer].failing.is_none() {
            return;
        }
        let tried = self.locals.iter().any(|&local| {
            let key = PairKey::new(local, peer);
            self.in_flight.contains_key(&key)
                || self.pairs.get(&key).is_some_and(|pair| pair.state == PairState::Parked)
        });
        if !tried {
            self.set_entry(peer, None);
            self.nodes[peer].failing = None;
            let name = self.nodes[peer].name.clone();
            self.noted.remove(&name);
        }
    }

    fn note_failing(&mut self, now: Instant, peer: NodeId) {
        let node = &mut self.nodes[peer];
        let Some(failing) = &mut node.failing else { return };
        failing.noted = true;
        let note = Note::PeerFailing {
            peer: node.name.clone(),
            topologies: node.topologies.clone(),
            error: failing.error.clone(),
        };
        self.noted.insert(node.name.clone());
        self.say(note);
        if !self.summary_set {
            self.summary_set = true;
            self.timers.set(now + self.settings.summary_interval, Timer::Summary);
        }
    }

    pub(crate) fn summarise(&mut self, now: Instant) {
        self.summary_set = !self.noted.is_empty();
        if self.summary_set {
            let names = self.noted.iter().take(SUMMARY_NAMES_MAX).cloned().collect();
            self.say(Note::Summary { failing: self.noted.len(), names });
            self.timers.set(now + self.settings.summary_interval, Timer::Summary);
        }
    }

    pub(crate) fn say(&mut self, note: Note) {
        self.outputs.push_back(Output::Note(note));
    }
}
