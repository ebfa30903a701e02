//! What an agent knows at this moment, in the shape of every JSON answer (docs/contracts.md, JSON).
//!
//! The core builds a [`View`] and publishes it through a `tokio::sync::watch` channel as `Arc<View>`; the API, the
//! metrics and the dashboard only read it. The command line reads the same types back. Every list is ordered by name, so
//! that two answers of the same state are the same text. Unknown fields are ignored when reading: a newer agent may
//! say more.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use metacluster_federation::cells::Placed;
use metacluster_types::{
    AgentId, CellName, ClusterName, NodeName, Place, Region, Role, Tags, TopologyName, WallClock, Zone,
};
use serde::{Deserialize, Serialize};

/// The `"version"` of every answer. It goes up when a field changes its meaning, not when one is added.
pub const VERSION: u32 = 1;

/// The channel end from which the API reads.
pub type ViewReceiver = tokio::sync::watch::Receiver<Arc<View>>;

/// All that an agent answers from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// The agent itself.
    pub agent: AgentView,
    /// Every node that is known, here and elsewhere, by name.
    pub nodes: Vec<NodeView>,
    /// Every member of the cluster, this agent among them, by name and id. Only this agent where membership is off.
    #[serde(default)]
    pub members: Vec<MemberView>,
    /// Every topology, in the order of the configuration.
    pub topologies: Vec<TopologyView>,
    /// Every cluster that is known, by name: our own first.
    pub clusters: Vec<ClusterView>,
    /// Whether this host is clustered as asked.
    pub readiness: ReadinessView,
    /// What was counted since the agent started.
    pub counters: Counters,
    /// What was counted of members since the agent started.
    #[serde(default)]
    pub member_counters: MemberCounters,
}

impl View {
    /// What is so before anything was learned.
    #[must_use]
    pub fn starting(agent: AgentView) -> Self {
        let cluster = ClusterView { name: agent.cluster.clone(), own: true, nodes_up: 0, nodes: 0 };
        Self {
            agent,
            nodes: Vec::new(),
            members: Vec::new(),
            topologies: Vec::new(),
            clusters: vec![cluster],
            readiness: ReadinessView::default(),
            counters: Counters::default(),
            member_counters: MemberCounters::default(),
        }
    }
}

/// The answer of `GET /v1/nodes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodesAnswer {
    /// [`VERSION`].
    pub version: u32,
    /// Every node, by name.
    pub nodes: Vec<NodeView>,
}

/// The answer of `GET /v1/members`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MembersAnswer {
    /// [`VERSION`].
    pub version: u32,
    /// Every member, by name and id.
    pub members: Vec<MemberView>,
    /// What was counted since the agent started.
    #[serde(default)]
    pub counters: MemberCounters,
}

/// The answer of `GET /v1/topologies`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologiesAnswer {
    /// [`VERSION`].
    pub version: u32,
    /// Every topology, in the order of the configuration.
    pub topologies: Vec<TopologyView>,
}

/// The answer of `GET /v1/clusters`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClustersAnswer {
    /// [`VERSION`].
    pub version: u32,
    /// Every cluster, our own first.
    pub clusters: Vec<ClusterView>,
}

/// The answer of `GET /v1/agent`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentAnswer {
    /// [`VERSION`].
    pub version: u32,
    /// The agent.
    pub agent: AgentView,
    /// Whether its host is clustered as asked.
    pub readiness: ReadinessView,
    /// What was counted since it started.
    pub counters: Counters,
}

/// The answer of `GET /readyz`, with status 200 when ready and 503 when not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyAnswer {
    /// [`VERSION`].
    pub version: u32,
    /// The verdict and what it rests on.
    #[serde(flatten)]
    pub readiness: ReadinessView,
}

/// The answer of `POST /v1/leave`, with status 202: the agent has begun to leave, and its socket closes when it has left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaveAnswer {
    /// [`VERSION`].
    pub version: u32,
    /// Always true.
    pub leaving: bool,
}

/// Any answer with a status of 400 or more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorAnswer {
    /// [`VERSION`].
    pub version: u32,
    /// One line: what was wrong, and what would be right.
    pub error: String,
    /// The paths that exist, when the one asked for does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

/// What kind of program a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// An Erlang virtual machine.
    Beam,
    /// A Rust program that speaks distribution.
    Rust,
}

/// Whether a node is reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It is linked to a node of this host, or is one.
    Up,
    /// It was, or should be, and is not.
    Down,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub name: NodeName,
    /// What kind of program it is.
    pub kind: NodeKind,
    /// The part of its name after `@`.
    pub host: String,
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its zone, as far as it is known.
    pub zone: Option<Zone>,
    /// Its region, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    /// Whether it is reachable.
    pub state: NodeState,
    /// The visible nodes that it is linked to, by name: for a node of this host all of them, else those of this host.
    pub connected: Vec<NodeName>,
    /// The OTP release, such as `25`, when it is known.
    pub otp: Option<String>,
    /// Whether it runs on this agent's host, and this agent looks after it.
    #[serde(default)]
    pub local: bool,
    /// When its state was last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<WallClock>,
    /// Why it is down, or why the agent cannot look after it, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// It answers.
    Alive,
    /// It does not answer, and has time to say otherwise.
    Suspect,
    /// It is held dead.
    Failed,
    /// It left, or its provider ended it.
    Left,
}

impl MemberState {
    /// The word of the JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Failed => "failed",
            Self::Left => "left",
        }
    }
}

/// A node of a member's host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberNode {
    /// Its name.
    pub name: NodeName,
    /// Whether it is reachable from here.
    pub state: NodeState,
}

/// One member: an agent, as the others know it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberView {
    /// Its stable id.
    pub id: AgentId,
    /// Its name for people: that of its own node.
    pub name: String,
    /// Where it takes packets and streams.
    pub address: SocketAddr,
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its zone.
    pub zone: Option<Zone>,
    /// Its region.
    pub region: Option<Region>,
    /// What its host is for.
    #[serde(default)]
    pub roles: BTreeSet<Role>,
    /// Labels of its host.
    #[serde(default)]
    pub tags: Tags,
    /// How it stands.
    pub state: MemberState,
    /// Since when it stands so.
    pub since: WallClock,
    /// Why it is down: `failed`, `left` or `provider`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether it is the agent that answers.
    #[serde(default)]
    pub own: bool,
    /// Its boot: greater for each later one.
    #[serde(default)]
    pub epoch: u64,
    /// What its provider calls its host, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The time that a packet takes to it and back, in milliseconds, as its place on the network's map has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f64>,
    /// The nodes of its host that it tells of.
    #[serde(default)]
    pub nodes: Vec<MemberNode>,
    /// How many nodes its host has; more than are listed when not all names fit.
    #[serde(default)]
    pub nodes_total: u32,
    /// How many links its nodes have.
    #[serde(default)]
    pub links: u32,
    /// The id of the key that it seals with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The cell of its nodes, where the agent that answers has `[cells]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell: Option<CellName>,
    /// The port of its gateway, where it offers one to other cells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<u16>,
}

impl MemberView {
    /// The host, as far as cells go by it.
    #[must_use]
    pub fn placed(&self) -> Placed {
        Placed {
            agent: self.id,
            nodes: self.nodes.iter().map(|node| node.name.clone()).collect(),
            nodes_total: usize::try_from(self.nodes_total).unwrap_or(usize::MAX),
            zone: self.zone.clone(),
            tags: self.tags.clone(),
        }
    }
}

/// What was counted of members since the agent started. Each only goes up, save `health`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberCounters {
    /// Packets sent.
    pub packets_sent: u64,
    /// Their bytes, without what sealing, UDP and IP add.
    pub bytes_sent: u64,
    /// Packets that the kernel had no room or no way for.
    pub packets_lost: u64,
    /// Packets of this cluster that were read.
    pub packets_received: u64,
    /// Bytes sent over streams.
    pub stream_bytes_sent: u64,
    /// Views compared over a stream.
    pub syncs: u64,
    /// Packets of other clusters, refused.
    pub foreign: u64,
    /// Packets that were no packets, or larger than any may be.
    pub malformed: u64,
    /// Packets of another version of the protocol.
    pub incompatible: u64,
    /// Packets sealed with a key that is not in the ring.
    pub wrong_key: u64,
    /// Packets that were changed on their way, or made without the key.
    pub forged: u64,
    /// Packets that were not sealed, where that is not taken.
    pub plain: u64,
    /// Packets that came before.
    pub replayed: u64,
    /// Packets of boots that are over.
    pub stale: u64,
    /// Packets that bear this agent's own id.
    pub own: u64,
    /// Probes meant for another member that is, or was, at this address.
    pub misdirected: u64,
    /// Claims that could not be true.
    pub lies: u64,
    /// What found its table full.
    pub refused: u64,
    /// Probes sent.
    pub probes: u64,
    /// Probes without any answer.
    pub probes_failed: u64,
    /// Probes that only a stream answered: something on the way drops UDP.
    pub stream_answers: u64,
    /// Suspicions of this member that it refuted.
    pub refuted: u64,
    /// Members that were held failed here.
    pub failed: u64,
    /// How often this process stood still.
    pub pauses: u64,
    /// How often two members were found to have one name.
    pub names_shared: u64,
    /// Snapshots that could not be read or written.
    pub snapshot_failures: u64,
    /// How little this agent trusts its own judgement, from 0 to 8.
    pub health: u64,
}

/// How a topology does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopologyState {
    /// Its last look-up succeeded.
    Ok,
    /// Its last look-up failed.
    Failing,
    /// It has not answered yet.
    Waiting,
}

/// One topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyView {
    /// Its name.
    pub name: TopologyName,
    /// The strategy that it runs.
    pub strategy: String,
    /// How it does.
    pub state: TopologyState,
    /// Whether a peer that leaves the source is dropped.
    pub prune: bool,
    /// What it found, by name.
    pub candidates: Vec<CandidateView>,
    /// When a look-up last succeeded.
    pub last_success: Option<WallClock>,
    /// What failed last, in one line; kept after it recovered.
    pub last_error: Option<String>,
    /// When its state or its candidates last changed.
    pub changed_at: Option<WallClock>,
    /// What changed lately, the oldest first.
    #[serde(default)]
    pub changes: Vec<ChangeView>,
    /// The answer that is doubted, if one is.
    #[serde(default)]
    pub held: Option<HeldView>,
    /// What is to be known of its answers, a line each: a part of the source that fails and stands as it was.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What can change in a topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopologyChange {
    /// Candidates came.
    Found,
    /// Candidates went.
    Lost,
    /// A look-up failed.
    Failing,
    /// It answered again.
    Recovered,
}

/// A change in a topology; candidates that came or went together are one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeView {
    /// When it began.
    pub at: WallClock,
    /// What changed.
    pub change: TopologyChange,
    /// Of how many candidates.
    pub count: usize,
    /// The first of them.
    pub nodes: Vec<NodeName>,
}

/// An answer of a topology that is doubted, and not believed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldView {
    /// When the first came that said so.
    pub since: WallClock,
    /// When it is believed if nothing contradicts it; none while that hangs on how often it is repeated.
    pub until: Option<WallClock>,
    /// How many known peers it lacks.
    pub without: usize,
    /// How many answers in a row said so.
    pub answers: u32,
    /// How many have to, unless there is a time.
    pub needed: u32,
}

/// How a candidate is linked to the nodes of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateState {
    /// It is a node of this host.
    Local,
    /// Every link that is wanted is up.
    Linked,
    /// A link is being made.
    Dialling,
    /// A link is missing, and the next try waits for its time.
    Waiting,
    /// The last try failed.
    Failing,
    /// There is no node here that wants it.
    Idle,
}

/// One peer that a topology found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateView {
    /// Its name.
    pub node: NodeName,
    /// Where it runs, as far as the source knows.
    #[serde(flatten)]
    pub place: Place,
    /// How it is linked to the nodes of this host.
    pub state: CandidateState,
    /// How many tries have failed since the last success.
    #[serde(default)]
    pub attempts: u32,
    /// Why the last try failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    /// Its name.
    pub name: ClusterName,
    /// Whether it is the cluster of this agent.
    pub own: bool,
    /// How many of its nodes are up.
    pub nodes_up: usize,
    /// How many of its nodes are known.
    pub nodes: usize,
}

/// Whether this host is clustered as asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadinessView {
    /// The verdict.
    pub ready: bool,
    /// Nodes that are up, those of this host included.
    pub nodes_up: usize,
    /// How many there must be.
    pub nodes_min: usize,
    /// The mandatory peers that are not up.
    pub missing: Vec<NodeName>,
    /// Why it is not ready, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How the agent stands to the epmd of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EpmdState {
    /// The agent is the epmd.
    Own,
    /// Another epmd runs, and answers.
    External,
    /// None answers.
    None,
}

/// The epmd of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpmdView {
    /// Whose it is.
    pub state: EpmdState,
    /// Its port.
    pub port: u16,
    /// Why it does not answer, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The agent itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentView {
    /// Its stable id.
    pub id: AgentId,
    /// The names of its own nodes: one for each host part that the local nodes use. Empty until one is known.
    pub names: Vec<NodeName>,
    /// The version of the program.
    pub version: String,
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its zone.
    pub zone: Option<Zone>,
    /// Its region.
    pub region: Option<Region>,
    /// What its host is for.
    #[serde(default)]
    pub roles: BTreeSet<Role>,
    /// Labels of its host.
    #[serde(default)]
    pub tags: Tags,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub started_at: WallClock,
    /// Whole seconds since it started. The API fills it in when asked; the core may leave it zero.
    #[serde(default)]
    pub uptime_seconds: u64,
    /// The epmd of its host.
    pub epmd: EpmdView,
    /// Where its HTTP listens, if it does.
    #[serde(default)]
    pub http: Option<SocketAddr>,
    /// Whether it is leaving.
    #[serde(default)]
    pub leaving: bool,
    /// Names that are registered here and cannot be looked after, each with the reason in one line.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, String>,
}

/// What was counted since the agent started. Each only goes up, save `links`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Links between nodes of this host and peers that are up now.
    pub links: u64,
    /// Dials that were ordered.
    pub dials: u64,
    /// Dials that failed.
    pub dials_failed: u64,
    /// Links that were dropped on order.
    pub drops: u64,
}
