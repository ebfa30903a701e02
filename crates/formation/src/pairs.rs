//! Which pairs are wanted, and what becomes of a pair when that, or its link, changes.

use std::collections::btree_map::Entry;

use metacluster_types::{Instant, NodeName};
use rand::RngExt;

use crate::{
    Formation,
    state::{Due, Lane, Local, NodeId, Pair, PairKey, PairState, Target},
};

/// Why a pair is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A source has the peer anew. With `held` the peer's own agent dials too, and is left the first try.
    Found { held: bool },
    /// One of the two is in another cell than before, and parts from that first.
    Moved,
    /// Anything else.
    Changed,
}

impl Formation {
    /// Whether `local` should be linked to `peer`.
    pub(crate) fn wants(&self, local: NodeId, peer: NodeId) -> bool {
        let (from, to) = (&self.nodes[local], &self.nodes[peer]);
        local != peer
            && from.local.is_some_and(|it| it.ready && !it.left_mesh)
            && !to.local.is_some_and(|it| it.left_mesh)
            && from.long == to.long
            && self.share_cell(local, peer)
            && to.topologies.iter().any(|name| self.admits(name, local))
    }

    fn admits(&self, topology: &metacluster_types::TopologyName, local: NodeId) -> bool {
        self.topologies.get(topology).is_some_and(|topology| topology.admitted.contains(&local))
    }

    /// Who dials whom, if the pair is wanted: one way only, even when both are local.
    pub(crate) fn direction(&self, key: PairKey) -> Option<(NodeId, NodeId)> {
        if self.wants(key.low, key.high) {
            Some((key.low, key.high))
        } else if self.wants(key.high, key.low) {
            Some((key.high, key.low))
        } else {
            None
        }
    }

    /// Looks anew at the pairs of every local node with `peer`.
    pub(crate) fn refresh_peer(&mut self, now: Instant, peer: NodeId, cause: Cause) {
        for local in self.locals.clone() {
            // The last pair of a peer that no source has takes the peer along.
            if self.nodes.contains(peer) {
                self.refresh_pair(now, PairKey::new(local, peer), cause);
            }
        }
    }

    /// Looks anew at every pair of `local`.
    pub(crate) fn refresh_local(&mut self, now: Instant, local: NodeId) {
        for peer in self.nodes.ids() {
            if self.nodes.contains(peer) {
                self.refresh_pair(now, PairKey::new(local, peer), Cause::Changed);
            }
        }
    }

    pub(crate) fn refresh_pair(&mut self, now: Instant, key: PairKey, cause: Cause) {
        if key.low == key.high {
            return;
        }
        let direction = self.direction(key);
        match (self.pairs.get(&key).map(|pair| pair.state), direction) {
            (None, None) => {}
            (None, Some((_, peer))) => {
                self.insert_pair(key);
                self.begin(now, key, peer, cause);
            }
            (Some(PairState::Idle), Some((_, peer))) => {
                if !self.in_flight.contains_key(&key) {
                    self.begin(now, key, peer, cause);
                }
            }
            (Some(PairState::Waiting { .. } | PairState::Parked), Some(_)) => {}
            (Some(PairState::Linked { .. }), wanted) => self.set_stray(key, wanted.is_none()),
            (Some(PairState::Idle | PairState::Waiting { .. } | PairState::Parked), None) => {
                self.set_state(key, PairState::Idle);
                self.forget_if_idle(key);
            }
        }
    }

    /// The first dial of a pair: at once, but for the hold-off, for one that moved, and for a peer that is known to fail.
    fn begin(&mut self, now: Instant, key: PairKey, peer: NodeId, cause: Cause) {
        let at = match cause {
            Cause::Found { held: true } if self.nodes[peer].local.is_none() => now + self.hold_off(),
            Cause::Moved => now + self.settings.cell_move,
            Cause::Found { .. } | Cause::Changed => now,
        };
        self.wait_or_park(now, key, peer, Lane::Fresh, at);
    }

    /// Puts a pair into a lane, or to the others of a failing peer.
    pub(crate) fn wait_or_park(&mut self, now: Instant, key: PairKey, peer: NodeId, lane: Lane, at: Instant) {
        if self.nodes[peer].failing.is_some() {
            self.set_state(key, PairState::Parked);
            self.ensure_entry(now, peer);
        } else {
            let lane = if self.is_on_failed(peer) { Lane::Retry } else { lane };
            let due = Due { at, order: self.rng.random() };
            self.set_state(key, PairState::Waiting { lane, due });
        }
    }

    /// Makes the pair unless it is there.
    fn insert_pair(&mut self, key: PairKey) {
        if let Entry::Vacant(place) = self.pairs.entry(key) {
            place.insert(Pair { state: PairState::Idle, flaps: 0, stray: false });
            for end in key.ends() {
                self.nodes[end].pairs += 1;
            }
        }
    }

    /// Changes a pair's state and keeps the lanes and the counts of links in step.
    pub(crate) fn set_state(&mut self, key: PairKey, state: PairState) {
        let Some(pair) = self.pairs.get_mut(&key) else { return };
        let old = std::mem::replace(&mut pair.state, state);
        match old {
            PairState::Waiting { lane, due } => {
                self.lane(lane).remove(&(due, Target::Pair(key)));
            }
            PairState::Linked { .. } => {
                for end in key.ends() {
                    self.nodes[end].links -= 1;
                }
                self.set_stray(key, false);
                self.forget_parting(key);
            }
            PairState::Idle | PairState::Parked => {}
        }
        match state {
            PairState::Waiting { lane, due } => {
                self.lane(lane).insert((due, Target::Pair(key)));
            }
            PairState::Linked { .. } => {
                for end in key.ends() {
                    self.nodes[end].links += 1;
                }
            }
            PairState::Idle | PairState::Parked => {}
        }
    }

    fn set_stray(&mut self, key: PairKey, stray: bool) {
        let Some(pair) = self.pairs.get_mut(&key) else { return };
        match (std::mem::replace(&mut pair.stray, stray), stray) {
            (false, true) => self.stray_links += 1,
            (true, false) => self.stray_links -= 1,
            (false, false) | (true, true) => {}
        }
    }

    /// Removes a pair that is neither wanted, linked nor being dialled, and then nodes that nothing refers to.
    pub(crate) fn forget_if_idle(&mut self, key: PairKey) {
        let idle = self.pairs.get(&key).is_some_and(|pair| pair.state == PairState::Idle);
        if !idle || self.in_flight.contains_key(&key) || self.direction(key).is_some() {
            return;
        }
        self.pairs.remove(&key);
        for end in key.ends() {
            self.nodes[end].pairs -= 1;
            self.settle_failing(end);
            self.settle_pruning(end);
            self.nodes.release(end);
        }
    }

    pub(crate) fn on_link_up(&mut self, now: Instant, local: &NodeName, peer: &NodeName) {
        if local == peer {
            return;
        }
        let known = self.nodes.find(local).zip(self.nodes.find(peer)).map(|(one, other)| PairKey::new(one, other));
        let wanted = known.is_some_and(|key| self.pairs.contains_key(&key));
        if !wanted && self.stray_links >= self.settings.unwanted_links_max {
            self.refused_links += 1;
            return;
        }
        let (local, peer) = (self.nodes.intern(local), self.nodes.intern(peer));
        self.nodes[local].local.get_or_insert_default();
        self.locals.insert(local);
        let key = PairKey::new(local, peer);
        self.insert_pair(key);
        self.link(now, key);
    }

    /// A link is up: the pair is done, and both ends have shown that they live.
    pub(crate) fn link(&mut self, now: Instant, key: PairKey) {
        let linked = self.pairs.get(&key).is_some_and(|pair| matches!(pair.state, PairState::Linked { .. }));
        if linked {
            return;
        }
        self.set_state(key, PairState::Linked { since: now });
        let stray = self.direction(key).is_none();
        self.set_stray(key, stray);
        if stray {
            self.judge_link(now, key, false);
        }
        for end in key.ends() {
            self.recovered(now, end);
            self.link_on_failed(now, end);
        }
    }

    pub(crate) fn on_link_down(&mut self, now: Instant, local: &NodeName, peer: &NodeName) {
        let Some((local, peer)) = self.nodes.find(local).zip(self.nodes.find(peer)) else { return };
        let key = PairKey::new(local, peer);
        if let Some(dial) = self.in_flight.get_mut(&key) {
            dial.saw_down = true;
        }
        let Some(pair) = self.pairs.get_mut(&key) else { return };
        let PairState::Linked { since } = pair.state else { return };
        let short = now.since(since) < self.settings.link_stable;
        pair.flaps = if short { pair.flaps.saturating_add(1) } else { 0 };
        self.set_state(key, PairState::Idle);
        self.redial(now, key);
        self.settle_link_gone(key);
    }

    /// After a link went: nothing is left to prune of a peer without links, nor to keep of a pair nobody wants.
    pub(crate) fn settle_link_gone(&mut self, key: PairKey) {
        for end in key.ends() {
            self.settle_pruning(end);
        }
        self.forget_if_idle(key);
    }

    /// A pair without a link, if it is wanted, is dialled again: soon, or backed off when its links never last.
    pub(crate) fn redial(&mut self, now: Instant, key: PairKey) {
        let Some(flaps) = self.pairs.get(&key).map(|pair| pair.flaps) else { return };
        let Some((_, peer)) = self.direction(key) else { return };
        if self.in_flight.contains_key(&key) {
            return;
        }
        let mut wait = self.rng.random_range(self.settings.redial_min..=self.settings.redial_max);
        if flaps >= 2 {
            let step = u32::from(flaps) - 2;
            wait = wait.max(self.settings.back_off.wait(step, std::time::Duration::ZERO));
        }
        self.wait_or_park(now, key, peer, Lane::Retry, now + wait);
    }

    pub(crate) fn on_local_ready(&mut self, now: Instant, name: &NodeName) {
        let id = self.nodes.intern(name);
        let left_mesh = self.left_mesh.contains(name);
        self.nodes[id].local = Some(Local { ready: true, left_mesh });
        self.locals.insert(id);
        for topology in self.topologies.values_mut() {
            if topology.rules.admits(name) {
                topology.admitted.insert(id);
            }
        }
        self.note_name_forms(None);
        self.refresh_local(now, id);
    }

    pub(crate) fn on_local_gone(&mut self, now: Instant, name: &NodeName) {
        let Some(id) = self.nodes.find(name) else { return };
        if self.nodes[id].local.is_none() {
            return;
        }
        self.nodes[id].local = None;
        self.locals.remove(&id);
        for topology in self.topologies.values_mut() {
            topology.admitted.remove(&id);
        }
        for peer in self.nodes.ids() {
            let key = PairKey::new(id, peer);
            if self.nodes.contains(peer) && self.pairs.contains_key(&key) {
                self.abandon_dial(now, key, id);
                self.set_state(key, PairState::Idle);
                // Still wanted from the other end, if that is local too.
                self.redial(now, key);
                self.settle_link_gone(key);
            }
        }
        if self.nodes.contains(id) {
            self.nodes.release(id);
        }
    }
}
