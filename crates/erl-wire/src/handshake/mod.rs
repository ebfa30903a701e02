//! The handshake that opens a connection between two nodes: version 6, that of OTP 23 and later.
//!
//! Two machines: [`Initiator`] for who dials, [`Acceptor`] for who listens. Give one what comes over the connection
//! with `handle_bytes`, then drain `poll_output` and do what it says; also after an error, for the peer may have to be
//! told. The machines have no clock: whoever drives them ends a handshake that takes too long (OTP: 7 s since the last
//! step). Challenges are parameters, so that a test can repeat a handshake; in production they must be random.
//!
//! Proof of the cookie goes both ways, and the initiator proves first. What comes behind the last message of the
//! handshake belongs to the connection: `take_rest` hands it over.
//!
//! Follows the guide's *Distribution Handshake*, corrected by `dist_util.erl` of OTP 25 and 27.

mod acceptor;
mod digest;
mod error;
mod flags;
mod initiator;
mod message;
mod packets;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use metacluster_types::{Cookie, NodeName};

pub use self::{
    acceptor::{Acceptor, Naming},
    digest::Digest,
    error::{HandshakeError, Side},
    flags::Flags,
    initiator::Initiator,
    packets::Framing,
};

/// Who we are in a handshake.
#[derive(Clone)]
pub struct Local {
    /// Our name.
    pub name: NodeName,
    /// Which life of our name this is.
    pub creation: u32,
    /// What we can do: [`Flags::offered`].
    pub flags: Flags,
    /// The cookie that we share with the peer.
    pub cookie: Cookie,
}

/// Whom we dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The node of exactly this name.
    Exactly(NodeName),
    /// The node whose name starts with this and `@`. epmd knows only this part of the names of its nodes; the challenge
    /// tells the rest.
    Basename(String),
}

impl Expect {
    /// Whether this name is the one.
    #[must_use]
    pub fn matches(&self, name: &NodeName) -> bool {
        match self {
            Self::Exactly(expected) => expected == name,
            Self::Basename(expected) => expected == name.basename(),
        }
    }
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write these bytes to the connection.
    Send(Bytes),
    /// A peer has said who it is; decide and call [`Acceptor::handle_decision`]. The cookie has not been proved yet, so
    /// nothing but this choice may hang on the name.
    Decide(Peer),
    /// Both sides have proved the cookie. The connection carries frames from here on.
    Established(Established),
}

/// A peer, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: NodeName,
    /// What it can do, with [`Flags::MANDATORY_25_DIGEST`] written out.
    pub flags: Flags,
    /// Which life of its name this is.
    pub creation: u32,
}

/// What the driver says to a peer that dials us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Accept,
    /// Go on: we were dialling it at the same time, its name is greater than ours, and we have given up our own dial.
    OkSimultaneous,
    /// We are dialling it at the same time, our name is greater than its own, so ours goes on and this one ends.
    Nok,
    /// We will not talk to it.
    NotAllowed,
    /// We have a connection to it already: ask whether it knows better. When it does, the handshake goes on and the old
    /// connection should be dropped once the new one is established.
    Alive,
}

impl Decision {
    /// The rule of OTP for two nodes that dial each other at the same time: the dial of the greater name stays.
    #[must_use]
    pub fn simultaneous(local: &NodeName, peer: &NodeName) -> Self {
        if local.as_str() > peer.as_str() { Self::Nok } else { Self::OkSimultaneous }
    }
}

/// What a handshake ended in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Established {
    /// The peer's full name.
    pub peer: NodeName,
    /// All that the peer can do.
    pub peer_flags: Flags,
    /// Which life of its name this is.
    pub peer_creation: u32,
    /// What both can do: this rules the connection.
    pub flags: Flags,
    /// Whether this connection takes the place of one that the acceptor still had, or of its own dial.
    pub replaces: Option<Replaces>,
}

/// What a new connection takes the place of, at the accepting side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaces {
    /// A connection that the dialling side no longer has.
    Connection,
    /// The accepting side's own dial, at the same time.
    Dial,
}
