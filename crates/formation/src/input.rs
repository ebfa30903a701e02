//! What the world tells the machine.

use metacluster_types::{NodeName, Pattern, SourceUpdate, TopologyName};

use crate::DialError;

/// What a topology may do and for whom it speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopologyRules {
    /// Whether a peer that left this source may be removed from the mesh. The default is no: it is never dialled
    /// again, but a link that exists stays.
    pub prune: bool,
    /// Which local nodes the topology's candidates are for; empty means all of them.
    pub nodes: Vec<Pattern>,
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
    /// Any sign of life of a peer or of its host: an early try, and the back-off starts anew.
    HostAlive {
        /// The peer.
        peer: NodeName,
    },
    /// The outcome of an [`Output::Check`](crate::Output::Check).
    PeerChecked {
        /// The peer.
        peer: NodeName,
        /// Whether anything of it answered: epmd, its distribution port, or bytes seen lately.
        alive: bool,
    },
}
