//! What the machine tells the world.

use std::fmt;

use bytes::Bytes;
use metacluster_erl_wire::{Atom, Control, Pid, Term, frame::Payload};
use metacluster_types::{AgentId, ClusterName, NodeName};

use crate::{codec::CodecError, directory::GroupKey, link::LinkId, refusal::Refusal};

/// Something to do or to say.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are deliveries, and a box would cost each an allocation")]
pub enum Output {
    /// There is something to write to this link: see [`crate::Federation::poll_transmit`].
    Transmit(LinkId),
    /// Close this link, once the farewell is written as far as that goes at once.
    Close {
        /// The link.
        link: LinkId,
        /// Why.
        reason: CloseReason,
        /// The last frame; none to one that is silent or has said goodbye itself.
        farewell: Bytes,
        /// The gateway at its other end, if it said so.
        gateway: Option<(ClusterName, AgentId)>,
    },
    /// Send to a node of this cluster, from the gateway's node: a control message and its payload, as terms without
    /// version byte.
    Deliver {
        /// The node.
        node: Atom,
        /// Messages of one lane keep their order.
        lane: u64,
        /// The control message.
        control: Bytes,
        /// The payload, if there is one; what of it is large is shared with the message as it came.
        payload: Option<Payload>,
        /// It must not be lost while the node is connected.
        signal: bool,
    },
    /// As [`Output::Deliver`], a signal that the gateway makes itself.
    Signal {
        /// The node.
        node: Atom,
        /// Messages of one lane keep their order.
        lane: u64,
        /// The control message.
        control: Control,
        /// The payload, if there is one.
        payload: Option<Term>,
    },
    /// Make these pids of the gateway's node members of this group; a pid as often as it is there.
    Publish {
        /// The scope and the group.
        group: GroupKey,
        /// Who.
        members: Vec<Pid>,
    },
    /// Take these out of the group again, each as often as it is there.
    Withdraw {
        /// The scope and the group.
        group: GroupKey,
        /// Who.
        members: Vec<Pid>,
    },
    /// Something that a person may want to know.
    Notice(Notice),
}

/// Something that is said once.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A link to a gateway is up.
    Linked {
        /// Its cluster.
        cluster: ClusterName,
        /// The gateway's node.
        node: NodeName,
    },
    /// And down.
    Unlinked {
        /// Its cluster.
        cluster: ClusterName,
        /// The gateway's node.
        node: NodeName,
        /// Why.
        reason: CloseReason,
    },
    /// So many processes of another cluster joined a group.
    Joined {
        /// Their cluster.
        cluster: ClusterName,
        /// The scope and the group.
        group: GroupKey,
        /// How many.
        members: usize,
    },
    /// And left it.
    Left {
        /// Their cluster.
        cluster: ClusterName,
        /// The scope and the group.
        group: GroupKey,
        /// How many.
        members: usize,
    },
    /// Something did not cross; at most one a gateway in [`crate::SAMPLE_INTERVAL`].
    Refused {
        /// The other cluster.
        cluster: ClusterName,
        /// Why.
        refusal: Refusal,
        /// How often so far.
        count: u64,
    },
}

/// Why a link ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The connection ended.
    Lost,
    /// Nothing came over it for too long.
    Silent,
    /// It did not answer in time that it asks no more.
    Restless,
    /// It did not say who it is in time.
    NoHello,
    /// What came is none of the protocol, or no terms.
    Malformed(CodecError),
    /// A signal that is no control message.
    MalformedSignal,
    /// No common version.
    Incompatible {
        /// The versions of the other end.
        lowest: u8,
        /// See `lowest`.
        highest: u8,
    },
    /// It says to be of a cluster that its certificate is not for.
    WrongCluster(ClusterName),
    /// The other end is of this very cluster.
    OwnCluster,
    /// An operator cut it.
    Cut,
    /// Another link to the same gateway took its place.
    Replaced,
    /// More waits than even signals may.
    Overloaded,
    /// More gateways than are kept.
    TooManyGateways,
    /// This gateway ends.
    Shutdown,
    /// The other end said goodbye, and why.
    Bye(String),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("the connection ended"),
            Self::Silent => f.write_str("nothing came over it for too long"),
            Self::Restless => f.write_str("the other end did not say in time that it asks no more"),
            Self::NoHello => f.write_str("the other end did not say who it is"),
            Self::Malformed(error) => write!(f, "what came is none of the protocol: {error}"),
            Self::MalformedSignal => f.write_str("a signal that is no control message came"),
            Self::Incompatible { lowest, highest } => {
                write!(f, "the other end speaks the versions {lowest} to {highest}; this is version 1")
            }
            Self::WrongCluster(cluster) => {
                write!(f, "the other end says to be of {cluster}, and its certificate is for another")
            }
            Self::OwnCluster => f.write_str("the other end is of this cluster"),
            Self::Cut => f.write_str("an operator cut it"),
            Self::Replaced => f.write_str("another link to the same gateway took its place"),
            Self::Overloaded => f.write_str("the other end did not read"),
            Self::TooManyGateways => f.write_str("more gateways than are kept"),
            Self::Shutdown => f.write_str("a gateway ends"),
            Self::Bye(why) => write!(f, "the other end closed it: {why}"),
        }
    }
}
