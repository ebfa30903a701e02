//! The view: what the driver knows, in the shape that every reader gets.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use metacluster_formation::{Formation, PeerState, PeerView, Readiness, ReadinessRules};
use metacluster_types::{AgentId, CellName, Instant, NodeName, Place, SourceUpdate, TopologyName, WallClock};

use super::{cells::Cells, changes::Changes, ours::Ours, picture::Picture};
use crate::{
    members::MembersView,
    view::{
        AgentView, CandidateState, CandidateView, ClusterView, Counters, EpmdView, HeldView, MemberCounters,
        MemberView, NodeKind, NodeState, NodeView, ReadinessView, TopologyChange, TopologyState, TopologyView, View,
    },
};

/// What the view needs beyond the machines: wall clock times, counters, and words for people.
pub(crate) struct Shown {
    agent: AgentView,
    ours: Arc<Ours>,
    topologies: Vec<ShownTopology>,
    /// When each node's state changed last.
    pub(crate) since: BTreeMap<NodeName, WallClock>,
    /// Why a node is down.
    down: BTreeMap<NodeName, String>,
    /// Registered names that cannot be held, and why.
    pub(crate) refused: BTreeMap<String, String>,
    pub(crate) counters: Counters,
    pub(crate) epmd: EpmdView,
    pub(crate) leaving: bool,
    /// Every member, as the members' task has it.
    pub(crate) members: Arc<MembersView>,
    /// The cells of their nodes.
    cells: BTreeMap<AgentId, CellName>,
}

struct ShownTopology {
    name: TopologyName,
    strategy: String,
    prune: bool,
    last_success: Option<WallClock>,
    changes: Changes,
    /// Since when an answer is held: by the agent's clock, and by the wall's.
    held: Option<(Instant, WallClock)>,
    notes: Vec<String>,
}

impl Shown {
    pub(crate) fn new(agent: AgentView, ours: Arc<Ours>) -> Self {
        let none = MembersView { id: agent.id, members: Vec::new(), counters: MemberCounters::default() };
        Self {
            members: Arc::new(none),
            cells: BTreeMap::new(),
            epmd: agent.epmd.clone(),
            agent,
            ours,
            topologies: Vec::new(),
            since: BTreeMap::new(),
            down: BTreeMap::new(),
            refused: BTreeMap::new(),
            counters: Counters::default(),
            leaving: false,
        }
    }

    /// Members are in these cells.
    pub(crate) fn place(&mut self, cells: &Cells) {
        let members = self.members.members.iter();
        self.cells = members.filter_map(|member| Some((member.id, cells.of(member.id)?.clone()))).collect();
    }

    /// The agent goes on under another id.
    pub(crate) fn renew(&mut self, id: AgentId) {
        self.agent.id = id;
    }

    pub(crate) fn add_topology(&mut self, name: &TopologyName, strategy: &str, prune: bool) {
        self.topologies.push(ShownTopology {
            name: name.clone(),
            strategy: strategy.to_owned(),
            prune,
            last_success: None,
            changes: Changes::default(),
            held: None,
            notes: Vec::new(),
        });
    }

    pub(crate) fn remove_topology(&mut self, name: &TopologyName) {
        self.topologies.retain(|shown| shown.name != *name);
    }

    pub(crate) fn set_prune(&mut self, name: &TopologyName, prune: bool) {
        if let Some(shown) = self.topologies.iter_mut().find(|shown| shown.name == *name) {
            shown.prune = prune;
        }
    }

    /// A strategy spoke.
    pub(crate) fn source(&mut self, topology: &TopologyName, update: &SourceUpdate) {
        let Some(shown) = self.topologies.iter_mut().find(|shown| shown.name == *topology) else { return };
        match update {
            SourceUpdate::Snapshot(_) | SourceUpdate::Hosts(_) | SourceUpdate::Found(_) | SourceUpdate::Lost(_) => {
                shown.last_success = Some(WallClock::new(SystemTime::now()));
            }
            SourceUpdate::Notes(notes) => shown.notes.clone_from(notes),
            SourceUpdate::Failed(_) => {}
        }
    }

    /// A candidate of a topology came or went, or its state changed.
    pub(crate) fn topology_changed(
        &mut self,
        topology: &TopologyName,
        change: TopologyChange,
        node: Option<&NodeName>,
    ) {
        if let Some(shown) = self.topologies.iter_mut().find(|shown| shown.name == *topology) {
            shown.changes.note(SystemTime::now(), change, node.cloned());
        }
    }

    /// A node changed its state.
    pub(crate) fn node_changed(&mut self, node: &NodeName, down: Option<&str>) {
        self.since.insert(node.clone(), WallClock::new(SystemTime::now()));
        match down {
            Some(reason) => self.down.insert(node.clone(), reason.to_owned()),
            None => self.down.remove(node),
        };
    }

    /// Takes the time of answers that are held from now on, and forgets that of others.
    fn note_held(&mut self, now: Instant, formation: &Formation) {
        for view in formation.topologies() {
            let Some(shown) = self.topologies.iter_mut().find(|shown| shown.name == *view.name) else { continue };
            let since = view.held.map(|held| held.since);
            if since != shown.held.map(|(since, _)| since) {
                shown.held = since.map(|since| (since, WallClock::new(SystemTime::now() - now.since(since))));
            }
        }
    }

    /// Forgets nodes that the picture has forgotten.
    fn forget(&mut self, picture: &Picture) {
        let known = |node: &NodeName| picture.entry(node).is_some();
        self.since.retain(|node, _| known(node));
        self.down.retain(|node, _| known(node));
    }
}

/// What any source says of where a peer runs.
pub(crate) fn place_in(peer: &PeerView<'_>) -> Place {
    peer.provenance
        .iter()
        .map(|view| &view.candidate.host.place)
        .find(|place| place.zone.is_some())
        .cloned()
        .unwrap_or_default()
}

/// Builds the view.
pub(crate) fn view(
    now: Instant,
    shown: &mut Shown,
    formation: &Formation,
    picture: &Picture,
    own_place: &Place,
    rules: &ReadinessRules,
) -> View {
    shown.forget(picture);
    shown.note_held(now, formation);
    let mut agent = shown.agent.clone();
    agent.names = shown.ours.all().iter().map(|node| node.name().clone()).collect();
    agent.epmd = shown.epmd.clone();
    agent.leaving = shown.leaving;
    agent.refused = shown.refused.clone();
    let peers: BTreeMap<&NodeName, PeerView<'_>> = formation.peers().map(|peer| (peer.node, peer)).collect();
    let nodes = nodes(shown, &peers, picture, own_place);
    let readiness = formation.readiness(rules);
    let cluster = ClusterView {
        name: agent.cluster.clone(),
        own: true,
        nodes_up: nodes.iter().filter(|node| node.state == NodeState::Up).count(),
        nodes: nodes.len(),
    };
    View {
        members: members(shown, &nodes),
        member_counters: shown.members.counters,
        nodes,
        topologies: topologies(shown, formation, &peers),
        clusters: vec![cluster],
        readiness: ReadinessView {
            ready: readiness.ready,
            nodes_up: readiness.up,
            nodes_min: rules.nodes_min,
            missing: readiness.missing.clone(),
            reason: (!readiness.ready).then(|| unready(&readiness, rules)),
        },
        counters: shown.counters,
        agent,
    }
}

/// Every member, with its nodes as they are seen from here.
fn members(shown: &Shown, nodes: &[NodeView]) -> Vec<MemberView> {
    let up = |name: &NodeName| {
        let at = nodes.binary_search_by(|node| node.name.cmp(name)).ok();
        at.and_then(|at| nodes.get(at)).map_or(NodeState::Down, |node| node.state)
    };
    let mut members = shown.members.members.clone();
    for member in &mut members {
        member.cell = shown.cells.get(&member.id).cloned();
        for node in &mut member.nodes {
            node.state = up(&node.name);
        }
    }
    members
}

/// Every node of the picture, and every candidate that was never seen up.
fn nodes(
    shown: &Shown,
    peers: &BTreeMap<&NodeName, PeerView<'_>>,
    picture: &Picture,
    own_place: &Place,
) -> Vec<NodeView> {
    // A local node's links, the other way round.
    let mut seen_by: BTreeMap<&NodeName, Vec<&NodeName>> = BTreeMap::new();
    for (node, entry) in picture.nodes() {
        for witness in &entry.witnesses {
            seen_by.entry(witness).or_default().push(node);
        }
    }
    let mut all: BTreeMap<&NodeName, NodeView> = BTreeMap::new();
    for (node, entry) in picture.nodes() {
        let place = if entry.local { own_place.clone() } else { peers.get(node).map(place_in).unwrap_or_default() };
        let connected = if entry.local {
            seen_by.get(node).into_iter().flatten().map(|&name| name.clone()).collect()
        } else {
            entry.witnesses.iter().cloned().collect()
        };
        all.insert(
            node,
            NodeView {
                name: node.clone(),
                kind: if entry.rust { NodeKind::Rust } else { NodeKind::Beam },
                host: node.host().to_owned(),
                cluster: shown.agent.cluster.clone(),
                zone: place.zone,
                region: place.region,
                state: if entry.up { NodeState::Up } else { NodeState::Down },
                connected,
                otp: entry.otp.clone(),
                local: entry.local,
                since: shown.since.get(node).copied(),
                error: shown.down.get(node).cloned(),
            },
        );
    }
    for (&node, peer) in peers {
        let place = place_in(peer);
        let view = all.entry(node).or_insert_with(|| NodeView {
            name: node.clone(),
            kind: NodeKind::Beam,
            host: node.host().to_owned(),
            cluster: shown.agent.cluster.clone(),
            zone: place.zone,
            region: place.region,
            state: NodeState::Down,
            connected: Vec::new(),
            otp: None,
            local: false,
            since: None,
            error: None,
        });
        if view.state == NodeState::Down
            && let Some(error) = peer.last_error
        {
            view.error = Some(error.to_string());
        }
    }
    all.into_values().collect()
}

fn topologies(shown: &Shown, formation: &Formation, peers: &BTreeMap<&NodeName, PeerView<'_>>) -> Vec<TopologyView> {
    let mut known: BTreeMap<&TopologyName, _> = formation.topologies().map(|view| (view.name, view)).collect();
    let mut candidates: BTreeMap<&TopologyName, Vec<CandidateView>> = BTreeMap::new();
    for peer in peers.values() {
        for said in &peer.provenance {
            candidates.entry(said.topology).or_default().push(candidate(peer, &said.candidate.host.place));
        }
    }
    shown
        .topologies
        .iter()
        .map(|topology| {
            let view = known.remove(&topology.name);
            let state = match &view {
                Some(view) if view.failing => TopologyState::Failing,
                Some(view) if view.last_ok.is_some() => TopologyState::Ok,
                Some(_) | None => TopologyState::Waiting,
            };
            let held = view.as_ref().and_then(|view| view.held).zip(topology.held).map(|(held, (_, since))| HeldView {
                since,
                until: held.until.map(|until| WallClock::new(since.as_system_time() + until.since(held.since))),
                without: held.removals,
                answers: held.answers,
                needed: held.needed,
            });
            let doubt = held.map(|HeldView { without, answers, needed, until, .. }| match until {
                Some(until) => format!("an answer without {without} known peers is held until {until}"),
                None => format!("an answer without {without} known peers is held ({answers} of {needed})"),
            });
            TopologyView {
                name: topology.name.clone(),
                strategy: topology.strategy.clone(),
                state,
                prune: topology.prune,
                candidates: candidates.remove(&topology.name).unwrap_or_default(),
                last_success: topology.last_success,
                last_error: doubt.or_else(|| view.and_then(|view| view.last_error).map(|(_, error)| error.to_owned())),
                changed_at: topology.changes.last(),
                changes: topology.changes.to_views(),
                held,
                notes: topology.notes.clone(),
            }
        })
        .collect()
}

fn candidate(peer: &PeerView<'_>, place: &Place) -> CandidateView {
    let state = match peer.state {
        _ if peer.local => CandidateState::Local,
        PeerState::Linked => CandidateState::Linked,
        PeerState::Failing => CandidateState::Failing,
        PeerState::Dialling => CandidateState::Dialling,
        PeerState::Waiting => CandidateState::Waiting,
        PeerState::Unwanted => CandidateState::Idle,
    };
    CandidateView {
        node: peer.node.clone(),
        place: place.clone(),
        state,
        attempts: peer.attempts,
        error: peer.last_error.map(ToString::to_string),
    }
}

/// Why this host is not clustered as asked, in one line.
pub(crate) fn unready(readiness: &Readiness, rules: &ReadinessRules) -> String {
    let missing = readiness.missing.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ");
    let few = readiness.up < rules.nodes_min;
    match (few, missing.is_empty()) {
        (true, true) => format!("{} of {} nodes are up", readiness.up, rules.nodes_min),
        (true, false) => format!("{} of {} nodes are up, and these must be: {missing}", readiness.up, rules.nodes_min),
        (false, _) => format!("these nodes must be up: {missing}"),
    }
}
