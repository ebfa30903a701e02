//! What the world tells the machine.

use std::{collections::BTreeMap, time::Duration};

use metacluster_types::{AgentId, CellName, NodeName, Pattern, SourceUpdate, TopologyName};

use crate::DialError;

/// When an answer is doubted that lacks peers which the topology had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// An answer that would remove more than this share of at least two candidates, in per cent, is held. 100 doubts
    /// nothing. Default 50.
    pub share_percent: u8,
    /// Without a `hold`, so many answers in a row must say so. 1 believes the first. Default 3.
    pub answers: u32,
    /// An answer that stands uncontradicted for so long is believed, whether or not the source repeats itself: one that
    /// pushes changes does not. While look-ups fail the time does not run. Default none.
    pub hold: Duration,
}

impl Default for Guard {
    fn default() -> Self {
        Self { share_percent: 50, answers: 3, hold: Duration::ZERO }
    }
}

impl Guard {
    pub(crate) fn doubts(&self, removals: usize, known: usize) -> bool {
        known >= 2 && removals * 100 > known * usize::from(self.share_percent)
    }

    pub(crate) fn believes(&self, answers: u32, held_for: Duration) -> bool {
        // A hold is a time in which the answer must stand; how often it is said in that time is the source's affair.
        if self.hold.is_zero() { answers >= self.answers } else { held_for >= self.hold }
    }
}

/// What a topology may do and for whom it speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopologyRules {
    /// Whether a peer that left this source may be removed from the mesh. The default is no: it is never dialled
    /// again, but a link that exists stays.
    pub prune: bool,
    /// Which local nodes the topology's candidates are for; empty means all of them.
    pub nodes: Vec<Pattern>,
    /// When its answers are doubted.
    pub guard: Guard,
}

impl TopologyRules {
    /// Whether the candidates of the topology are for this local node.
    #[must_use]
    pub fn admits(&self, local: &NodeName) -> bool {
        self.nodes.is_empty() || self.nodes.iter().any(|pattern| pattern.matches_node(local))
    }
}

/// An input. All of them are idempotent, and one about a name that the machine does not know is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A topology starts, or its rules change.
    TopologyAdded {
        /// Its name.
        name: TopologyName,
        /// Its rules.
        rules: TopologyRules,
    },
    /// A topology was taken out of the configuration. Its candidates are lost, but never pruned for it: an operator
    /// who removes a source does not thereby end the nodes that it listed.
    TopologyRemoved {
        /// Its name.
        name: TopologyName,
    },
    /// A strategy pushed a change.
    Source {
        /// Which topology.
        topology: TopologyName,
        /// What it says.
        update: SourceUpdate,
    },
    /// A local node can be asked to dial. Tell of its existing links (`LinkUp`) first, so that none is dialled anew.
    LocalReady {
        /// The local node.
        node: NodeName,
    },
    /// A local node is gone, or cannot be asked any more. All that is known of its links and dials is forgotten.
    LocalGone {
        /// The local node.
        node: NodeName,
    },
    /// A local node sees a peer, whoever dialled.
    LinkUp {
        /// The local node.
        local: NodeName,
        /// The peer.
        peer: NodeName,
    },
    /// A local node sees a peer no more.
    LinkDown {
        /// The local node.
        local: NodeName,
        /// The peer.
        peer: NodeName,
    },
    /// The outcome of an [`Output::Dial`](crate::Output::Dial). `Ok` means that the local node holds a link, be it new
    /// or old. An outcome that comes after the dial was given up is ignored, but for the sign of life in an `Ok`.
    Dialled {
        /// The local node that dialled.
        local: NodeName,
        /// The peer.
        peer: NodeName,
        /// What came of it.
        outcome: Result<(), DialError>,
    },
    /// An [`Output::Drop`](crate::Output::Drop) was carried out.
    Dropped {
        /// The local node.
        local: NodeName,
        /// The peer.
        peer: NodeName,
    },
    /// Any sign of life of a peer: an early try, and the back-off starts anew.
    PeerAlive {
        /// The peer.
        peer: NodeName,
    },
    /// Membership holds that a host failed. Its peers are checked and, if they are silent too, dropped (see the crate's
    /// documentation for the rule). Said again, it is a new verdict.
    HostFailed {
        /// The host's agent.
        agent: AgentId,
        /// The nodes that its member told, but for those that a member tells which lives. Local nodes among them are
        /// passed over.
        nodes: Vec<NodeName>,
        /// How many other members live, as far as membership knows: alive, not suspect, neither this host nor that one.
        /// They had their chance to contradict. With none, this agent speaks for itself alone, and it may be the one
        /// that is cut off; then tell of every host that does not answer, not only of those whose time ran out.
        witnesses: usize,
    },
    /// A host is alive, new or again: what was to be checked or dropped is void, and its peers are dialled at once.
    HostAlive {
        /// The host's agent.
        agent: AgentId,
        /// The nodes that its member tells.
        nodes: Vec<NodeName>,
    },
    /// Nothing is known of a host any more: its agent left, or its record is gone. Its links stay.
    HostForgotten {
        /// The host's agent.
        agent: AgentId,
    },
    /// The outcome of the last [`Output::Check`](crate::Output::Check) of the peer.
    PeerChecked {
        /// The peer.
        peer: NodeName,
        /// Whether anything of it answered: epmd, its distribution port, or bytes seen lately. A refusal is an answer
        /// of its host.
        alive: bool,
    },
    /// Which nodes are in which cell. From now on only nodes of one cell are linked, and a node that nobody named is in
    /// none; links between two cells are parted. `None`: all are one mesh.
    Cells {
        /// The cell of each node.
        cells: Option<BTreeMap<NodeName, CellName>>,
    },
}
