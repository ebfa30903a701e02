//! Decides which local node is linked to which peer, and when it is dialled or dropped.
//!
//! [`Formation`] is a pure machine: it has no clock, socket, thread or randomness of its own. A driver feeds it
//! [`Input`]s with the time, drains [`Formation::poll_output`] after each, and wakes it at
//! [`Formation::next_deadline`]. A wake-up that is late or spurious is harmless.
//!
//! What is wanted: each ready local node × each candidate of a topology whose rules admit that node, but for the node
//! itself, for names of the other form (short, long) and, where there are cells, for nodes of another one. Two local nodes are one pair like any other, dialled from one
//! side only. A name is a peer: the same name elsewhere is the same peer.
//!
//! Invariants, which the simulation checks: a node never dials itself; a pair has at most one dial in flight; dials in
//! flight and dials a second keep their bounds; only wanted pairs are dialled; a drop follows pruning, or membership's
//! word that the host failed, and in either case a check that found the peer dead; a peer whose host is reached is never
//! disconnected; a failed look-up changes no candidate; what is kept is bounded by the candidates, the local nodes, the
//! links and the failed hosts there are.
//!
//! # When a host's nodes are dropped
//!
//! The BEAM takes a minute to notice that a host went silent; membership takes two seconds. But membership judges
//! *agents*, and this host's view of the network may be the broken one. So a drop takes two independent findings:
//!
//! 1. **Membership's verdict.** *Suspect* moves nothing here. *Failed* means that the agent answered neither us nor
//!    those whom we asked to try, nor contradicted what was said of it. Where two hosts merely cannot see each other,
//!    a third one that sees both keeps the verdict from being reached, so such a cut ends in no drop.
//! 2. **Our own check** of each peer there that a local node is linked to. Anything that answers, a refusal included,
//!    means that the host lives: an agent that died alone costs no link. Only silence everywhere is death.
//!
//! What a silent check is worth depends on who else could see the host (`witnesses`):
//!
//! - With witnesses, it is enough: they had their chance to contradict. Survivors on either side of a real partition
//!   reach this, each about the other side.
//! - Without any, we may be the one that is cut off, or only our agent's packets may be. Then the verdicts are taken
//!   together: if *no* failed host answers, they are unreachable from here whatever the cause, nobody is left who
//!   could say otherwise, and the nodes are told so. If *any* answers, the network is there, the silence of the others
//!   is our word alone, and nothing is dropped; the BEAM's own ticks decide.
//! - Once a failed host has answered, the verdict wears off ([`Settings::verdict_fresh`]): it was about the agent, and
//!   a silence long after it is again our word alone.
//!
//! A host that is alive again makes all of this void at once, and its peers are dialled.
//!
//! | file | holds |
//! |---|---|
//! | `input`, `output`, `error`, `settings` | the words between machine and world |
//! | `topology` | candidates and their provenance, the guard against empty answers |
//! | `pairs` | which pairs are wanted; links |
//! | `dials` | lanes, bounds and outcomes |
//! | `peers` | failing peers: back-off, early tries, notes |
//! | `prune` | peers that left every source |
//! | `hosts` | hosts that membership holds failed: check, drop, slow lane |
//! | `cells` | which nodes are one mesh, and the parting of those that are not |
//! | `view` | queries |
//! | `state`, `timers` | tables, timers and the token bucket |

mod cells;
mod dials;
mod error;
mod hosts;
mod input;
mod output;
mod pairs;
mod peers;
mod prune;
mod settings;
mod state;
mod timers;
mod topology;
mod view;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use metacluster_types::{AgentId, CellName, Instant, NodeName, TopologyName};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub use error::DialError;
pub use input::{Guard, Input, TopologyRules};
pub use output::{DropHow, Note, Output};
pub use settings::{BackOff, Settings};
pub use view::{
    CandidateView, Counters, FailedHostView, HeldView, LinkView, PeerState, PeerView, Readiness, ReadinessRules,
    TopologyView,
};

use crate::{
    cells::Parting,
    dials::LaneQueue,
    hosts::FailedHost,
    state::{InFlight, NodeId, Nodes, Pair, PairKey},
    timers::{Bucket, Timer, Timers},
    topology::Topology,
};

/// The machine. See the crate's documentation.
#[derive(Debug)]
pub struct Formation {
    settings: Settings,
    rng: ChaCha8Rng,
    nodes: Nodes,
    /// Nodes of which the driver speaks as local, ready or not.
    locals: BTreeSet<NodeId>,
    topologies: BTreeMap<TopologyName, Topology>,
    pairs: BTreeMap<PairKey, Pair>,
    in_flight: BTreeMap<PairKey, InFlight>,
    retries_in_flight: usize,
    fresh: LaneQueue,
    retries: LaneQueue,
    bucket: Bucket,
    timers: Timers,
    /// Failing peers of which the log knows.
    noted: BTreeSet<NodeName>,
    summary_set: bool,
    checks_in_flight: usize,
    /// Hosts that membership holds failed.
    hosts: BTreeMap<AgentId, FailedHost>,
    /// Their nodes.
    on_failed: BTreeMap<NodeName, AgentId>,
    host_checks_in_flight: usize,
    hosts_refused: u64,
    /// Pruned local nodes: they stay out of the mesh until a source lists them again, also over a restart.
    left_mesh: BTreeSet<NodeName>,
    /// Which node is in which cell; none where all nodes are one mesh.
    cells: Option<BTreeMap<NodeName, CellName>>,
    /// Links between cells that are to be parted.
    partings: BTreeMap<PairKey, Parting>,
    stray_links: usize,
    refused_links: u64,
    dials: u64,
    /// What the last input caused. The driver drains it after each input, so it is bounded by what one input can say.
    outputs: VecDeque<Output>,
}

impl Formation {
    /// A machine that knows nothing yet. The seed moves jitter and the order of dials, nothing else.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        let settings = settings.normalised();
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            bucket: Bucket::new(settings.dials_per_second, settings.dials_burst),
            settings,
            nodes: Nodes::default(),
            locals: BTreeSet::new(),
            topologies: BTreeMap::new(),
            pairs: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            retries_in_flight: 0,
            fresh: LaneQueue::new(),
            retries: LaneQueue::new(),
            timers: Timers::default(),
            noted: BTreeSet::new(),
            summary_set: false,
            checks_in_flight: 0,
            hosts: BTreeMap::new(),
            on_failed: BTreeMap::new(),
            host_checks_in_flight: 0,
            hosts_refused: 0,
            left_mesh: BTreeSet::new(),
            cells: None,
            partings: BTreeMap::new(),
            stray_links: 0,
            refused_links: 0,
            dials: 0,
            outputs: VecDeque::new(),
        }
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Tells the machine what happened. Drain [`Formation::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::TopologyAdded { name, rules } => self.on_topology_added(now, &name, rules),
            Input::TopologyRemoved { name } => self.on_topology_removed(now, &name),
            Input::Source { topology, update } => self.on_source(now, &topology, update),
            Input::LocalReady { node } => self.on_local_ready(now, &node),
            Input::LocalGone { node } => self.on_local_gone(now, &node),
            Input::LinkUp { local, peer } => self.on_link_up(now, &local, &peer),
            Input::LinkDown { local, peer } => self.on_link_down(now, &local, &peer),
            Input::Dialled { local, peer, outcome } => self.on_dialled(now, &local, &peer, outcome),
            Input::Dropped { local, peer } => self.on_dropped(now, &local, &peer),
            Input::PeerAlive { peer } => self.on_peer_alive(now, &peer),
            Input::HostFailed { agent, nodes, witnesses } => self.on_host_failed(now, agent, nodes, witnesses),
            Input::HostAlive { agent, nodes } => self.on_host_alive(now, agent, nodes),
            Input::HostForgotten { agent } => self.on_host_forgotten(now, agent),
            Input::PeerChecked { peer, alive } => self.on_checked(now, &peer, alive),
            Input::Cells { cells } => self.on_cells(now, cells),
        }
    }

    /// The next thing to do or to say, if there is one now. Once it gives `None`, nothing comes before
    /// [`Formation::next_deadline`] or the next input.
    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        while let Some(timer) = self.timers.next_due(now) {
            match timer {
                Timer::DialGivesUp(key) => self.conclude(now, key, Err(DialError::NoAnswer)),
                Timer::Summary => self.summarise(now),
                Timer::Check(id) => self.check(now, id),
                Timer::CheckGivesUp(id) => self.check_gives_up(now, id),
                Timer::HostCheck(agent) => self.check_host(now, agent),
                Timer::HostCheckGivesUp(agent) => self.host_check_gives_up(now, agent),
                Timer::Part(key) => self.part_cells(now, key),
            }
        }
        self.believe_held(now);
        self.outputs.pop_front().or_else(|| self.next_dial(now).map(|(local, peer)| Output::Dial { local, peer }))
    }

    /// When to call [`Formation::poll_output`] again if no input comes before. O(log n).
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().into_iter().chain(self.next_dial_at()).chain(self.next_belief_at()).min()
    }
}
