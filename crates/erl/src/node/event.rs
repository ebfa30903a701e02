//! What a node tells of its peers: who came, who went, and why.
//!
//! For one peer `Up` and `Down` alternate in every stream: an event is sent under the lock that changes the table.

use std::net::SocketAddr;

use metacluster_erl_wire::handshake::Flags;
use metacluster_types::NodeName;

use super::error::DownReason;

/// A peer with which the handshake is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its name, as it said in the handshake.
    pub name: NodeName,
    /// Tells this life of the node from an earlier one under the same name.
    pub creation: u32,
    /// What both sides can do.
    pub flags: Flags,
    /// All that the peer can do, and whether it is [`Flags::PUBLISHED`] or hidden.
    pub peer_flags: Flags,
    /// The other end of the socket.
    pub address: SocketAddr,
    /// Counts the connections of this node; two connections never share a number.
    pub connection: u64,
    /// Whether the peer dialled us.
    pub accepted: bool,
}

/// A change of the set of peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// The handshake is done, signals flow.
    Up {
        /// The peer.
        peer: PeerInfo,
    },
    /// The connection is gone, and everything that hung on it has been told.
    Down {
        /// The peer as it was.
        peer: PeerInfo,
        /// Why.
        reason: DownReason,
    },
}
