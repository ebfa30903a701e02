//! What the world tells the machine.

use std::net::SocketAddr;

use metacluster_types::AgentId;

/// A stream that a peer opened, as the driver numbers them. The machine answers it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamToken(pub u64);

/// A stream that the machine asked for, as the machine numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeId(pub u64);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A packet came, opened if it was sealed. Its source takes the answer; it identifies nobody.
    Packet {
        /// The source.
        from: SocketAddr,
        /// Header and body.
        bytes: Vec<u8>,
    },
    /// A peer opened a stream and sent one message; it waits for one in return.
    StreamRequest {
        /// The stream.
        stream: StreamToken,
        /// Header and body.
        bytes: Vec<u8>,
    },
    /// The answer on a stream that [`Request`](crate::Output::Request) asked for.
    StreamReply {
        /// The exchange.
        exchange: ExchangeId,
        /// Header and body.
        bytes: Vec<u8>,
    },
    /// A stream that was asked for did not open, or closed without an answer.
    StreamFailed {
        /// The exchange.
        exchange: ExchangeId,
    },
    /// Every address at which discovery sees an agent now. They replace those of before; one that no live member has
    /// is tried again and again, so that clusters that formed apart find each other.
    Seeds(Vec<SocketAddr>),
    /// The provider says that the host of this member has ended.
    Terminated(AgentId),
}
