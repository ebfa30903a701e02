//! What the machine wants done, and what it has to say.

use std::time::Duration;

use metacluster_types::{AgentId, Candidate, CellName, NodeName, TopologyName};

use crate::DialError;

/// How a link is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropHow {
    /// The local node leaves its mesh by itself: run `global:disconnect/0` on it. `local` and `peer` of the output are
    /// both that node. The only way that a *live* node is ever removed: a plain disconnect of a live node makes
    /// `global` cut healthy links elsewhere (OTP 25's `prevent_overlapping_partitions`).
    LeaveMesh,
    /// The two are of different cells, and live: `global` at both ends removes the other, which no third node hears of.
    /// What came of it is told by `LinkDown`, and by no [`Input::Dropped`](crate::Input::Dropped).
    Part,
    /// Run `erlang:disconnect_node(Peer)` on the local node. Only for a peer that a check found dead: every survivor
    /// drops it.
    Disconnect,
}

/// An output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Have the local node dial the peer, and answer with [`Input::Dialled`](crate::Input::Dialled).
    Dial {
        /// The local node.
        local: NodeName,
        /// The peer.
        peer: NodeName,
    },
    /// Remove the peer from the local node's mesh, and answer with [`Input::Dropped`](crate::Input::Dropped).
    Drop {
        /// The local node.
        local: NodeName,
        /// The peer; the local node itself for [`DropHow::LeaveMesh`].
        peer: NodeName,
        /// In which way.
        how: DropHow,
    },
    /// Find out whether the peer lives (epmd, distribution port, bytes lately seen), and answer with
    /// [`Input::PeerChecked`](crate::Input::PeerChecked). The outcome of an earlier check of the same peer counts no more:
    /// it may be from before what asked for this one.
    Check {
        /// The peer.
        peer: NodeName,
    },
    /// A line for the log.
    Note(Note),
    /// A topology has a peer that it had not.
    CandidateFound {
        /// The topology.
        topology: TopologyName,
        /// The peer, with all that the source says of it.
        candidate: Candidate,
    },
    /// A topology has a peer no more.
    CandidateLost {
        /// The topology.
        topology: TopologyName,
        /// The peer.
        node: NodeName,
    },
    /// A topology's look-ups began to fail, or an answer of it is held. Once, until that is over.
    TopologyError {
        /// The topology.
        topology: TopologyName,
        /// What failed and what to do.
        error: String,
    },
    /// A topology's look-ups succeed again, and no answer is held.
    TopologyRecovered {
        /// The topology.
        topology: TopologyName,
    },
}

/// What is worth a line in the log: never one for each peer and attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A peer failed twice in a row. Said once, until it recovers.
    PeerFailing {
        /// The peer.
        peer: NodeName,
        /// Who says that it should be there.
        topologies: Vec<TopologyName>,
        /// Why the last dial failed.
        error: DialError,
    },
    /// A peer that was said to fail is linked.
    PeerRecovered {
        /// The peer.
        peer: NodeName,
        /// How long it failed.
        after: Duration,
        /// How many dials failed.
        attempts: u32,
    },
    /// At most once a minute while peers fail.
    Summary {
        /// How many peers fail.
        failing: usize,
        /// The first five of them, by name.
        names: Vec<NodeName>,
    },
    /// A topology lists names of the other form. Said once a topology: a node with a short name (`-sname`) and one with
    /// a long name (`-name`) cannot be linked.
    NameFormsMixed {
        /// The topology.
        topology: TopologyName,
        /// A local node.
        local: NodeName,
        /// A peer that it will not be linked to.
        peer: NodeName,
    },
    /// A topology has more candidates than are kept. Said once, until there is room.
    CandidatesRefused {
        /// The topology.
        topology: TopologyName,
        /// The bound.
        candidates_max: usize,
    },
    /// A peer left every source, and they say `prune`, but it lives: its links stay, since a live node is removed by
    /// its own agent only.
    PruneHeld {
        /// The peer.
        peer: NodeName,
    },
    /// A local node parts from nodes of other cells. Said once until it is linked to none of them.
    CellParted {
        /// The local node.
        local: NodeName,
        /// Its cell.
        cell: CellName,
        /// The first node of another one.
        peer: NodeName,
    },
    /// A host's agent is down, and its nodes live: the check was answered, and nothing is dropped. Said once a verdict.
    AgentDown {
        /// The agent.
        agent: AgentId,
        /// The peers that were checked, the first five of them.
        peers: Vec<NodeName>,
    },
    /// A host does not answer here, but that is no more than this host's own word, so nothing is dropped: no other
    /// member can confirm it while others answer, or the verdict is old. Said once a verdict.
    Unconfirmed {
        /// The agent.
        agent: AgentId,
        /// The peers that were checked, the first five of them.
        peers: Vec<NodeName>,
    },
    /// A host is dead, and the local nodes drop its peers. Said in place of a line a link.
    HostDropped {
        /// The agent.
        agent: AgentId,
        /// The peers, the first five of them.
        peers: Vec<NodeName>,
        /// How many links.
        links: usize,
    },
}
