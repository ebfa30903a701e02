//! What can be asked of the machine: candidates, peers, links, topologies and readiness. Nothing here changes it.

use std::collections::BTreeSet;

use metacluster_types::{AgentId, Candidate, Instant, NodeName, TopologyName};

use crate::{
    DialError, Formation, TopologyRules,
    state::{Node, NodeId, PairKey, PairState},
};

/// A candidate as one topology has it.
#[derive(Clone, Debug, PartialEq)]
pub struct CandidateView<'a> {
    /// The topology.
    pub topology: &'a TopologyName,
    /// The peer, with all that the source says of it.
    pub candidate: &'a Candidate,
    /// Since when the topology has it.
    pub since: Instant,
    /// When the topology named it last.
    pub last_seen: Instant,
    /// The last answer lacks it, but is doubted.
    pub doubted: bool,
}

/// What a peer is up to, the strongest word first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Linked to every local node that wants it, and to one at least.
    Linked,
    /// Its last dial failed and no dial has succeeded since.
    Failing,
    /// A dial is in flight.
    Dialling,
    /// A dial is due.
    Waiting,
    /// No local node wants it: none is ready, or none that its topologies admit, or it has the other form of name.
    Unwanted,
}

/// A peer: a candidate, or a node that a local node is linked to.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerView<'a> {
    /// Its name.
    pub node: &'a NodeName,
    /// The topologies that have it. Empty for a peer that no source names, but that is linked.
    pub provenance: Vec<CandidateView<'a>>,
    /// What it is up to.
    pub state: PeerState,
    /// Whether it is itself a local node.
    pub local: bool,
    /// The local nodes that are linked to it.
    pub linked: Vec<&'a NodeName>,
    /// Dials that failed since the last success.
    pub attempts: u32,
    /// Since when it fails.
    pub failing_since: Option<Instant>,
    /// Why its last dial failed, while it fails.
    pub last_error: Option<&'a DialError>,
    /// When it is dialled next, at the earliest.
    pub next_try: Option<Instant>,
}

/// A link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkView<'a> {
    /// The local node.
    pub local: &'a NodeName,
    /// The peer. Two local nodes have one link between them, given once.
    pub peer: &'a NodeName,
    /// Since when.
    pub since: Instant,
    /// Whether a topology wants it. The BEAM meshes on its own account too.
    pub wanted: bool,
}

/// An answer that is doubted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldView {
    /// When the first came that said so.
    pub since: Instant,
    /// When it is believed if nothing contradicts it; none while that hangs on how often it is repeated.
    pub until: Option<Instant>,
    /// How many answers in a row say so.
    pub answers: u32,
    /// How many have to.
    pub needed: u32,
    /// How many candidates all of them lack.
    pub removals: usize,
}

/// A topology.
#[derive(Clone, Debug, PartialEq)]
pub struct TopologyView<'a> {
    /// Its name.
    pub name: &'a TopologyName,
    /// Its rules.
    pub rules: &'a TopologyRules,
    /// How many candidates it has.
    pub candidates: usize,
    /// When a look-up last succeeded.
    pub last_ok: Option<Instant>,
    /// When a look-up last failed, and why.
    pub last_error: Option<(Instant, &'a str)>,
    /// Whether the last look-up failed.
    pub failing: bool,
    /// Look-ups that failed.
    pub errors: u64,
    /// The answer that is doubted, if one is.
    pub held: Option<HeldView>,
    /// Times that a candidate was refused over the bound.
    pub refused: u64,
}

/// A host that membership holds failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedHostView<'a> {
    /// Its agent.
    pub agent: AgentId,
    /// Since when.
    pub since: Instant,
    /// What the last check of its peers found; none if there was nothing to check, or nothing has been found yet.
    pub answers: Option<bool>,
    /// Whether other members live that could have contradicted.
    pub confirmed: bool,
    /// Its nodes.
    pub nodes: &'a BTreeSet<NodeName>,
}

/// When a cluster counts as formed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadinessRules {
    /// So many nodes are up, the local ones included.
    pub nodes_min: usize,
    /// And each of these is.
    pub mandatory: BTreeSet<NodeName>,
}

/// Whether the cluster is formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Whether the rules hold.
    pub ready: bool,
    /// Nodes that are up: ready local ones and what they are linked to.
    pub up: usize,
    /// Mandatory nodes that are not up.
    pub missing: Vec<NodeName>,
}

/// Counters since the start, and sizes of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Dials that were asked for.
    pub dials: u64,
    /// Dials in flight now.
    pub dials_in_flight: usize,
    /// Candidates that were refused over the bound.
    pub candidates_refused: u64,
    /// Unwanted links that were not recorded over the bound.
    pub links_refused: u64,
    /// Failed hosts that were not kept in mind over the bound.
    pub hosts_refused: u64,
    /// Nodes of hosts that are held failed.
    pub on_failed_hosts: usize,
    /// Nodes in the table: local, candidates, linked.
    pub nodes: usize,
    /// Pairs that are wanted or linked.
    pub pairs: usize,
    /// Entries of all queues and timers.
    pub queued: usize,
}

impl Formation {
    /// Every candidate of every topology, by name and topology.
    pub fn candidates(&self) -> impl Iterator<Item = CandidateView<'_>> {
        self.nodes.iter().flat_map(|(id, node)| self.provenance(id, node))
    }

    fn provenance<'a>(&'a self, id: NodeId, node: &'a Node) -> impl Iterator<Item = CandidateView<'a>> {
        node.topologies.iter().filter_map(move |name| {
            let topology = self.topologies.get(name)?;
            let known = topology.known.get(&id)?;
            Some(CandidateView {
                topology: name,
                candidate: &known.candidate,
                since: known.since,
                last_seen: known.last_seen,
                doubted: topology.held.as_ref().is_some_and(|held| held.missing.contains(&id)),
            })
        })
    }

    /// Every candidate and every linked peer, by name.
    pub fn peers(&self) -> impl Iterator<Item = PeerView<'_>> {
        self.nodes.iter().filter(|(_, node)| !node.topologies.is_empty() || node.links > 0).map(|(id, _)| self.view(id))
    }

    /// One peer.
    #[must_use]
    pub fn peer(&self, name: &NodeName) -> Option<PeerView<'_>> {
        self.nodes.find(name).map(|id| self.view(id))
    }

    fn view(&self, id: NodeId) -> PeerView<'_> {
        let node = &self.nodes[id];
        let (mut linked, mut wanted, mut in_flight, mut next) = (Vec::new(), 0_usize, false, None::<Instant>);
        for &local in &self.locals {
            let key = PairKey::new(local, id);
            let Some(pair) = self.pairs.get(&key) else { continue };
            in_flight |= self.in_flight.contains_key(&key);
            match pair.state {
                PairState::Linked { .. } => linked.push(&self.nodes[local].name),
                PairState::Waiting { due, .. } => {
                    wanted += 1;
                    next = Some(next.map_or(due.at, |at| at.min(due.at)));
                }
                PairState::Parked | PairState::Idle => wanted += 1,
            }
        }
        let failing = node.failing.as_ref();
        let state = if failing.is_some() {
            PeerState::Failing
        } else if in_flight {
            PeerState::Dialling
        } else if wanted > 0 {
            PeerState::Waiting
        } else if linked.is_empty() {
            PeerState::Unwanted
        } else {
            PeerState::Linked
        };
        PeerView {
            node: &node.name,
            provenance: self.provenance(id, node).collect(),
            state,
            local: node.local.is_some(),
            linked,
            attempts: failing.map_or(0, |failing| failing.attempts),
            failing_since: failing.map(|failing| failing.since),
            last_error: failing.map(|failing| &failing.error),
            next_try: failing.and_then(|failing| failing.entry).map(|(_, due)| due.at).or(next),
        }
    }

    /// Every link.
    pub fn links(&self) -> impl Iterator<Item = LinkView<'_>> {
        self.pairs.iter().filter_map(|(key, pair)| {
            let PairState::Linked { since } = pair.state else { return None };
            let (low, high) = (&self.nodes[key.low], &self.nodes[key.high]);
            let (local, peer) = if low.local.is_some() { (low, high) } else { (high, low) };
            Some(LinkView { local: &local.name, peer: &peer.name, since, wanted: !pair.stray })
        })
    }

    /// Whether the two are linked.
    #[must_use]
    pub fn is_linked(&self, local: &NodeName, peer: &NodeName) -> bool {
        self.nodes.find(local).zip(self.nodes.find(peer)).is_some_and(|(local, peer)| {
            self.pairs
                .get(&PairKey::new(local, peer))
                .is_some_and(|pair| matches!(pair.state, PairState::Linked { .. }))
        })
    }

    /// The ready local nodes, by name.
    pub fn local_nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.nodes.iter().filter(|(_, node)| node.local.is_some_and(|it| it.ready)).map(|(_, node)| &node.name)
    }

    /// Every topology, by name.
    pub fn topologies(&self) -> impl Iterator<Item = TopologyView<'_>> {
        self.topologies.iter().map(|(name, topology)| TopologyView {
            name,
            rules: &topology.rules,
            candidates: topology.known.len(),
            last_ok: topology.last_ok,
            last_error: topology.last_error.as_ref().map(|(at, error)| (*at, error.as_str())),
            failing: topology.failing,
            errors: topology.errors,
            held: topology.held.as_ref().map(|held| HeldView {
                since: held.since,
                until: (!topology.rules.guard.hold.is_zero()).then(|| held.since + topology.rules.guard.hold),
                answers: held.answers,
                needed: topology.rules.guard.answers,
                removals: held.missing.len(),
            }),
            refused: topology.refused,
        })
    }

    /// Every host that membership holds failed.
    pub fn failed_hosts(&self) -> impl Iterator<Item = FailedHostView<'_>> {
        self.hosts.iter().map(|(&agent, host)| FailedHostView {
            agent,
            since: host.since,
            answers: host.answers,
            confirmed: host.confirmed,
            nodes: &host.nodes,
        })
    }

    /// Whether the cluster is formed, by these rules.
    #[must_use]
    pub fn readiness(&self, rules: &ReadinessRules) -> Readiness {
        let up = self.nodes.iter().filter(|(id, _)| self.is_up(*id)).count();
        let missing: Vec<NodeName> = rules
            .mandatory
            .iter()
            .filter(|name| !self.nodes.find(name).is_some_and(|id| self.is_up(id)))
            .cloned()
            .collect();
        Readiness { ready: up >= rules.nodes_min && missing.is_empty(), up, missing }
    }

    fn is_up(&self, id: NodeId) -> bool {
        let node = &self.nodes[id];
        if node.local.is_some_and(|it| it.ready) {
            return true;
        }
        node.links > 0
            && self.locals.iter().any(|&local| {
                self.nodes[local].local.is_some_and(|it| it.ready)
                    && self
                        .pairs
                        .get(&PairKey::new(local, id))
                        .is_some_and(|pair| matches!(pair.state, PairState::Linked { .. }))
            })
    }

    /// Counters and sizes.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            dials: self.dials,
            dials_in_flight: self.in_flight.len(),
            candidates_refused: self.topologies.values().map(|topology| topology.refused).sum(),
            links_refused: self.refused_links,
            hosts_refused: self.hosts_refused,
            on_failed_hosts: self.on_failed.len(),
            nodes: self.nodes.len(),
            pairs: self.pairs.len(),
            queued: self.fresh.len() + self.retries.len() + self.timers.len() + self.outputs.len(),
        }
    }
}
