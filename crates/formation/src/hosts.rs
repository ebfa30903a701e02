//! Hosts that membership holds failed: their peers are checked, and dropped when nothing of the host answers.
//!
//! The rule is in the crate's documentation. A host is judged as a whole: one answer of one of its peers, and all of
//! them stay. While a host is failed its peers are dialled in the slow lane only, so that a dead zone never holds up a
//! new node. Invariant: a drop follows a verdict of membership and a check that began after it; nothing is dropped for a
//! check without an outcome.

use std::{collections::BTreeSet, time::Duration};

use metacluster_types::{AgentId, Instant, NodeName};
use rand::RngExt;

use crate::{
    DropHow, Formation, Note, Output,
    state::{Due, Lane, NodeId, PairKey, PairState},
    timers::Timer,
};

/// How many names a note gives.
const NOTE_NAMES_MAX: usize = 5;

/// What is being done about a failed host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: no local node is linked to it, or it was dropped.
    Idle,
    /// Its check is due then.
    Due(Instant),
    /// These peers are being checked, until then.
    Asked { until: Instant, awaited: BTreeSet<NodeName> },
    /// It is silent, and awaits what is found of the others: nobody else can confirm it.
    Silent,
}

/// A host that membership holds failed.
#[derive(Clone, Debug)]
pub(crate) struct FailedHost {
    pub(crate) nodes: BTreeSet<NodeName>,
    /// When the verdict was told.
    pub(crate) since: Instant,
    /// Other members live, and none contradicted.
    pub(crate) confirmed: bool,
    pub(crate) step: Step,
    /// Checks of this verdict that had an outcome.
    checks: u32,
    /// A check of this verdict was answered.
    answered_once: bool,
    /// What the last check found.
    pub(crate) answers: Option<bool>,
    noted_down: bool,
    noted_unconfirmed: bool,
}

impl FailedHost {
    fn new(now: Instant) -> Self {
        Self {
            nodes: BTreeSet::new(),
            since: now,
            confirmed: false,
            step: Step::Idle,
            checks: 0,
            answered_once: false,
            answers: None,
            noted_down: false,
            noted_unconfirmed: false,
        }
    }

    /// Its first check of this verdict is still to come in.
    fn is_open(&self) -> bool {
        match self.step {
            Step::Idle | Step::Silent => false,
            Step::Due(_) | Step::Asked { .. } => self.checks == 0,
        }
    }
}

impl Formation {
    pub(crate) fn on_host_failed(&mut self, now: Instant, agent: AgentId, mut nodes: Vec<NodeName>, witnesses: usize) {
        if !self.hosts.contains_key(&agent) && self.hosts.len() >= self.settings.failed_hosts_max {
            self.hosts_refused += 1;
            return;
        }
        nodes.retain(|name| self.nodes.find(name).is_none_or(|id| self.nodes[id].local.is_none()));
        nodes.truncate(self.settings.failed_nodes_max);
        self.stop_host_checks(agent);
        self.release_names(agent);
        for name in &nodes {
            self.take_from_failed(now, name);
            self.on_failed.insert(name.clone(), agent);
        }
        let host = FailedHost { confirmed: witnesses > 0, ..FailedHost::new(now) };
        self.hosts.insert(agent, FailedHost { nodes: nodes.iter().cloned().collect(), ..host });
        for id in nodes.iter().filter_map(|name| self.nodes.find(name)).collect::<Vec<_>>() {
            self.change_lane(now, id, Lane::Retry);
        }
        self.set_host_check(agent, now);
    }

    pub(crate) fn on_host_alive(&mut self, now: Instant, agent: AgentId, nodes: Vec<NodeName>) {
        let mut alive: BTreeSet<NodeName> = nodes.into_iter().collect();
        // The nodes that it had may not be told again yet, and a node may have moved here from a host that failed.
        alive.extend(self.hosts.get(&agent).into_iter().flat_map(|host| host.nodes.iter().cloned()));
        self.forget_host(now, agent);
        for name in alive {
            self.take_from_failed(now, &name);
            if let Some(id) = self.nodes.find(&name) {
                self.change_lane(now, id, Lane::Fresh);
                self.dial_at_once(now, id);
            }
        }
    }

    pub(crate) fn on_host_forgotten(&mut self, now: Instant, agent: AgentId) {
        self.forget_host(now, agent);
    }

    /// A node is said to be elsewhere now: what its old host's check awaits of it is void.
    fn take_from_failed(&mut self, now: Instant, name: &NodeName) {
        let Some(agent) = self.on_failed.remove(name) else { return };
        let Some(host) = self.hosts.get_mut(&agent) else { return };
        host.nodes.remove(name);
        if matches!(&host.step, Step::Asked { awaited, .. } if awaited.contains(name)) {
            self.stop_host_checks(agent);
            self.set_host_check(agent, now);
        }
    }

    fn forget_host(&mut self, now: Instant, agent: AgentId) {
        self.stop_host_checks(agent);
        self.release_names(agent);
        if self.hosts.remove(&agent).is_some() {
            self.settle_unconfirmed(now);
        }
    }

    fn release_names(&mut self, agent: AgentId) {
        let Some(host) = self.hosts.get(&agent) else { return };
        for name in &host.nodes {
            self.on_failed.remove(name);
        }
    }

    /// Whether the peer's host is held failed.
    pub(crate) fn is_on_failed(&self, peer: NodeId) -> bool {
        !self.on_failed.is_empty() && self.on_failed.contains_key(&self.nodes[peer].name)
    }

    /// A link of a peer came up, or one that was there before became known. On a failed host it is checked like the
    /// others, and with them, since a host is judged as a whole.
    pub(crate) fn link_on_failed(&mut self, now: Instant, peer: NodeId) {
        if self.on_failed.is_empty() {
            return;
        }
        let Some(&agent) = self.on_failed.get(&self.nodes[peer].name) else { return };
        let anew = match self.hosts.get(&agent).map(|host| &host.step) {
            Some(Step::Idle | Step::Silent) => true,
            Some(Step::Asked { awaited, .. }) => !awaited.contains(&self.nodes[peer].name),
            Some(Step::Due(_)) | None => false,
        };
        if anew {
            self.stop_host_checks(agent);
            self.set_host_check(agent, now);
        }
    }

    /// Moves the dials of a peer that wait to the other lane.
    fn change_lane(&mut self, now: Instant, peer: NodeId, to: Lane) {
        for local in self.locals.clone() {
            let key = PairKey::new(local, peer);
            let Some(PairState::Waiting { lane, due }) = self.pairs.get(&key).map(|pair| pair.state) else { continue };
            if lane != to && self.direction(key).is_some_and(|(_, dialled)| dialled == peer) {
                let at = if to == Lane::Fresh { due.at.min(now) } else { due.at };
                self.set_state(key, PairState::Waiting { lane: to, due: Due { at, order: due.order } });
            }
        }
        self.change_entry_lane(peer, to);
    }

    fn set_host_check(&mut self, agent: AgentId, at: Instant) {
        if let Some(host) = self.hosts.get_mut(&agent) {
            host.step = Step::Due(at);
            self.timers.set(at, Timer::HostCheck(agent));
        }
    }

    fn stop_host_checks(&mut self, agent: AgentId) {
        let Some(host) = self.hosts.get_mut(&agent) else { return };
        match std::mem::replace(&mut host.step, Step::Idle) {
            Step::Idle | Step::Silent => {}
            Step::Due(at) => self.timers.take_back(at, Timer::HostCheck(agent)),
            Step::Asked { until, awaited } => {
                self.timers.take_back(until, Timer::HostCheckGivesUp(agent));
                self.host_checks_in_flight -= awaited.len();
            }
        }
    }

    /// Its peers that a local node is linked to.
    fn linked_peers(&self, agent: AgentId) -> BTreeSet<NodeName> {
        let linked = |name: &&NodeName| {
            self.nodes.find(name).is_some_and(|id| self.nodes[id].links > 0 && self.nodes[id].local.is_none())
        };
        self.hosts.get(&agent).into_iter().flat_map(|host| &host.nodes).filter(linked).cloned().collect()
    }

    pub(crate) fn check_host(&mut self, now: Instant, agent: AgentId) {
        let awaited = self.linked_peers(agent);
        let in_flight = self.host_checks_in_flight;
        let full = in_flight > 0 && in_flight + awaited.len() > self.settings.host_checks_in_flight_max;
        let wait = Duration::from_millis(self.rng.random_range(20..60));
        let Some(host) = self.hosts.get_mut(&agent) else { return };
        if awaited.is_empty() {
            host.step = Step::Idle;
            self.settle_unconfirmed(now);
            return;
        }
        if full {
            self.set_host_check(agent, now + wait);
            return;
        }
        self.host_checks_in_flight += awaited.len();
        let until = now + self.settings.host_check_timeout;
        self.outputs.extend(awaited.iter().map(|peer| Output::Check { peer: peer.clone() }));
        host.step = Step::Asked { until, awaited };
        self.timers.set(until, Timer::HostCheckGivesUp(agent));
    }

    /// A check had no outcome: nothing is known, so nothing is dropped.
    pub(crate) fn host_check_gives_up(&mut self, now: Instant, agent: AgentId) {
        let Some(host) = self.hosts.get_mut(&agent) else { return };
        if let Step::Asked { awaited, .. } = std::mem::replace(&mut host.step, Step::Idle) {
            self.host_checks_in_flight -= awaited.len();
        }
        self.check_host_later(now, agent);
        self.settle_unconfirmed(now);
    }

    /// The next check of a failed host whose peers stay: after a pause that grows.
    fn check_host_later(&mut self, now: Instant, agent: AgentId) {
        let Some(host) = self.hosts.get_mut(&agent) else { return };
        host.checks = host.checks.saturating_add(1);
        let factor = 2_u32.saturating_pow(host.checks - 1);
        let pause = self.settings.host_recheck_min.checked_mul(factor).unwrap_or(self.settings.check_interval);
        let pause = pause.min(self.settings.check_interval);
        let jitter = self.rng.random_range(Duration::ZERO..=pause / 4);
        self.set_host_check(agent, now + (pause - jitter));
    }

    /// What a check found of one peer.
    pub(crate) fn on_host_checked(&mut self, now: Instant, peer: &NodeName, alive: bool) {
        let Some(&agent) = self.on_failed.get(peer) else { return };
        let Some(host) = self.hosts.get_mut(&agent) else { return };
        let Step::Asked { awaited, .. } = &mut host.step else { return };
        if !awaited.remove(peer) {
            return;
        }
        self.host_checks_in_flight -= 1;
        let silent = !alive && awaited.is_empty();
        if alive {
            self.host_answers(now, agent);
        } else if silent {
            self.host_is_silent(now, agent);
        }
    }

    fn host_answers(&mut self, now: Instant, agent: AgentId) {
        // What its other peers answer is void now.
        self.stop_host_checks(agent);
        let peers = self.note_names(agent);
        let Some(host) = self.hosts.get_mut(&agent) else { return };
        host.answers = Some(true);
        host.answered_once = true;
        if !std::mem::replace(&mut host.noted_down, true) {
            self.say(Note::AgentDown { agent, peers });
        }
        self.check_host_later(now, agent);
        self.settle_unconfirmed(now);
    }

    fn host_is_silent(&mut self, now: Instant, agent: AgentId) {
        self.stop_host_checks(agent);
        let fresh = self.settings.verdict_fresh;
        let Some(host) = self.hosts.get_mut(&agent) else { return };
        host.answers = Some(false);
        if host.answered_once && now.since(host.since) >= fresh {
            self.hold_unconfirmed(now, agent);
        } else if host.confirmed {
            self.drop_host(agent);
        } else {
            host.step = Step::Silent;
        }
        self.settle_unconfirmed(now);
    }

    /// Hosts whose failure nobody can confirm are judged together, once each of them has been checked.
    fn settle_unconfirmed(&mut self, now: Instant) {
        if self.hosts.values().any(|host| !host.confirmed && host.is_open()) {
            return;
        }
        let silent: Vec<AgentId> =
            self.hosts.iter().filter(|(_, host)| host.step == Step::Silent).map(|(&agent, _)| agent).collect();
        if silent.is_empty() {
            return;
        }
        let someone_answers = self.hosts.values().any(|host| host.answers == Some(true));
        for agent in silent {
            if someone_answers {
                self.hold_unconfirmed(now, agent);
            } else {
                self.drop_host(agent);
            }
        }
    }

    fn hold_unconfirmed(&mut self, now: Instant, agent: AgentId) {
        let peers = self.note_names(agent);
        let Some(host) = self.hosts.get_mut(&agent) else { return };
        if !std::mem::replace(&mut host.noted_unconfirmed, true) {
            self.say(Note::Unconfirmed { agent, peers });
        }
        self.check_host_later(now, agent);
    }

    fn drop_host(&mut self, agent: AgentId) {
        let peers = self.note_names(agent);
        let linked = self.linked_peers(agent);
        if let Some(host) = self.hosts.get_mut(&agent) {
            host.step = Step::Idle;
            host.checks = host.checks.saturating_add(1);
        }
        let mut drops = Vec::new();
        for peer in linked {
            let Some(id) = self.nodes.find(&peer) else { continue };
            for &local in &self.locals {
                if self
                    .pairs
                    .get(&PairKey::new(local, id))
                    .is_some_and(|pair| matches!(pair.state, PairState::Linked { .. }))
                {
                    let local = self.nodes[local].name.clone();
                    drops.push(Output::Drop { local, peer: peer.clone(), how: DropHow::Disconnect });
                }
            }
        }
        if !drops.is_empty() {
            self.say(Note::HostDropped { agent, peers, links: drops.len() });
        }
        self.outputs.extend(drops);
    }

    fn note_names(&self, agent: AgentId) -> Vec<NodeName> {
        self.linked_peers(agent).into_iter().take(NOTE_NAMES_MAX).collect()
    }
}
