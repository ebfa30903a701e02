//! Dials: the two lanes, the bounds on them, and what an outcome does.
//!
//! A dial leaves when it is due, a token is there and fewer than the bound are in flight. Fresh dials go before
//! retries, and retries have a bound of their own, so that a hundred dead hosts never hold up a new node.

use std::{collections::BTreeSet, time::Duration};

use metacluster_types::{Instant, NodeName};
use rand::RngExt;

use crate::{
    DialError, Formation,
    state::{Due, InFlight, Lane, NodeId, PairKey, PairState, Target},
    timers::Timer,
};

/// How soon a dial that could not even be asked for is repeated.
const LOCAL_UNAVAILABLE_WAIT: Duration = Duration::from_secs(1);

/// What is due, in order.
pub(crate) type LaneQueue = BTreeSet<(Due, Target)>;

impl Formation {
    pub(crate) fn lane(&mut self, lane: Lane) -> &mut LaneQueue {
        match lane {
            Lane::Fresh => &mut self.fresh,
            Lane::Retry => &mut self.retries,
        }
    }

    /// The hold-off, ± a quarter.
    pub(crate) fn hold_off(&mut self) -> Duration {
        let quarter = self.settings.hold_off / 4;
        let least = self.settings.hold_off - quarter;
        least + self.rng.random_range(Duration::ZERO..=quarter * 2)
    }

    /// Whether the lane has a slot; tokens are apart.
    fn has_slot(&self, lane: Lane) -> bool {
        self.in_flight.len() < self.settings.dials_in_flight_max
            && match lane {
                Lane::Fresh => true,
                Lane::Retry => self.retries_in_flight < self.settings.retries_in_flight_max,
            }
    }

    /// The next dial that may leave now.
    pub(crate) fn next_dial(&mut self, now: Instant) -> Option<(NodeName, NodeName)> {
        while self.bucket.ready_at() <= now {
            let lane = [Lane::Fresh, Lane::Retry].into_iter().find(|&lane| {
                self.has_slot(lane)
                    && match lane {
                        Lane::Fresh => self.fresh.first(),
                        Lane::Retry => self.retries.first(),
                    }
                    .is_some_and(|(due, _)| due.at <= now)
            })?;
            let &(_, target) = self.lane(lane).first()?;
            let key = match target {
                Target::Pair(key) => Some(key),
                Target::Peer(peer) => self.take_turn(peer),
            };
            let Some(key) = key else { continue };
            self.set_state(key, PairState::Idle);
            let Some((local, peer)) = self.direction(key) else {
                self.forget_if_idle(key);
                self.ensure_entries(now, key);
                continue;
            };
            self.bucket.take(now);
            if lane == Lane::Retry {
                self.retries_in_flight += 1;
            }
            let round = self.nodes[peer].failing.as_mut().map_or(0, |failing| {
                failing.last_local = local;
                failing.rounds
            });
            self.in_flight.insert(key, InFlight { local, peer, since: now, lane, round, saw_down: false });
            self.timers.set(now + self.settings.dial_timeout, Timer::DialGivesUp(key));
            self.dials += 1;
            return Some((self.nodes[local].name.clone(), self.nodes[peer].name.clone()));
        }
        None
    }

    /// When [`Formation::next_dial`] may have one, if nothing else happens before.
    pub(crate) fn next_dial_at(&self) -> Option<Instant> {
        let fresh = self.fresh.first().filter(|_| self.has_slot(Lane::Fresh));
        let retry = self.retries.first().filter(|_| self.has_slot(Lane::Retry));
        let due = fresh.into_iter().chain(retry).map(|(due, _)| due.at).min()?;
        Some(due.max(self.bucket.ready_at()))
    }

    /// Takes a dial out of flight.
    fn land(&mut self, key: PairKey) -> Option<InFlight> {
        let dial = self.in_flight.remove(&key)?;
        self.timers.take_back(dial.since + self.settings.dial_timeout, Timer::DialGivesUp(key));
        if dial.lane == Lane::Retry {
            self.retries_in_flight -= 1;
        }
        Some(dial)
    }

    /// Forgets a dial whose local node is gone. One that came from the other end, local as well, is still in flight.
    pub(crate) fn abandon_dial(&mut self, now: Instant, key: PairKey, gone: NodeId) {
        match self.in_flight.get_mut(&key) {
            None => {}
            Some(dial) if dial.local != gone => dial.saw_down = true,
            Some(&mut InFlight { peer, .. }) => {
                self.land(key);
                // It may have been the try of a failing peer; another local node takes its turn.
                self.ensure_entry(now, peer);
            }
        }
    }

    pub(crate) fn on_dialled(
        &mut self,
        now: Instant,
        local: &NodeName,
        peer: &NodeName,
        outcome: Result<(), DialError>,
    ) {
        let Some((local, peer)) = self.nodes.find(local).zip(self.nodes.find(peer)) else { return };
        let key = PairKey::new(local, peer);
        if self.in_flight.get(&key).is_none_or(|dial| dial.local != local) {
            if outcome.is_ok() {
                self.on_alive(now, peer);
            }
            return;
        }
        self.conclude(now, key, outcome);
    }

    pub(crate) fn conclude(&mut self, now: Instant, key: PairKey, outcome: Result<(), DialError>) {
        let Some(dial) = self.land(key) else { return };
        let linked = self.pairs.get(&key).is_some_and(|pair| matches!(pair.state, PairState::Linked { .. }));
        match outcome {
            _ if linked => {}
            Ok(()) if dial.saw_down => self.redial(now, key),
            Ok(()) => self.link(now, key),
            Err(DialError::LocalUnavailable) => {
                if self.direction(key).is_some() {
                    self.wait_or_park(now, key, dial.peer, Lane::Retry, now + LOCAL_UNAVAILABLE_WAIT);
                }
            }
            Err(error) => self.failed(now, key, dial, error),
        }
        self.forget_if_idle(key);
        self.ensure_entries(now, key);
    }

    /// Randomness in a place of a queue.
    pub(crate) fn due(&mut self, at: Instant) -> Due {
        Due { at, order: self.rng.random() }
    }
}
