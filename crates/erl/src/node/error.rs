//! What can go wrong between this node and its peers, sorted by who can mend it. Each error is one line.

use std::{net::SocketAddr, time::Duration};

use metacluster_erl_wire::{Term, handshake::HandshakeError, serde::ConversionError};
use metacluster_types::NodeName;

use super::tls::TlsError;

/// Why a peer could not be connected to. Nothing changed, except where a variant says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody listens there: the node is not up, or its port is an old one. Ask epmd again.
    #[error("nobody listens on {0}: the node is down, or has a new port")]
    Refused(SocketAddr),
    /// The network has no way there, or a local limit was hit. Try again later.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(SocketAddr, String),
    /// Nothing came in time. The host may be gone, a firewall may drop the packets, or the node hangs.
    #[error("{address} did not {stage} within {}: host down, firewall, or a node that hangs", seconds(.after))]
    Timeout {
        /// Who was dialled.
        address: SocketAddr,
        /// What was awaited.
        stage: &'static str,
        /// How long.
        after: Duration,
    },
    /// The peer, or its answer, did not pass. Its text says what to mend; a wrong cookie is the most frequent.
    #[error("{address}: {error}")]
    Handshake {
        /// Who was dialled.
        address: SocketAddr,
        /// What did not pass.
        error: HandshakeError,
    },
    /// There is no TLS between the two; the text says whose fault it is.
    #[error("{address}: {error}")]
    Tls {
        /// Who was dialled.
        address: SocketAddr,
        /// What did not do.
        error: TlsError,
    },
    /// A long name (`name@host.domain`) and a short one (`name@host`) never mesh in Erlang: neither can dial the other.
    /// Only hidden nodes may talk to both kinds.
    #[error(
        "{local} and {peer} cannot connect: one has a long name, the other a short one (start both with -name, or both with -sname)"
    )]
    LongAndShort {
        /// This node.
        local: NodeName,
        /// The other.
        peer: NodeName,
    },
    /// The peer dialled us at the same time and its dial went first, but did not end in a connection. Try again.
    #[error("{0} dialled at the same time and won, but did not finish: try again")]
    RaceLost(SocketAddr),
    /// One's own name.
    #[error("{0} is the name of this very node")]
    Oneself(NodeName),
    /// This node is shutting down.
    #[error("this node is shutting down")]
    Shutdown,
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DownReason {
    /// The peer closed it, or its host reset it: the node ended, or dropped us.
    #[error("closed by the peer")]
    ClosedByPeer,
    /// No byte came for the tick time: the host, the node or the network hangs.
    #[error("no sign of life for {}", seconds(.silent))]
    TickTimeout {
        /// How long.
        silent: Duration,
    },
    /// We were told to drop it.
    #[error("disconnected from here")]
    Disconnected,
    /// A new connection of the same peer took its place: the peer had lost the old one.
    #[error("the peer connected anew")]
    Replaced,
    /// The peer sent bytes that are no distribution.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// The peer asks for answers and does not read them.
    #[error("the peer does not read: more than {0} bytes wait for it")]
    Overloaded(usize),
    /// The socket failed.
    #[error("network error: {0}")]
    Network(String),
    /// This node shut down.
    #[error("this node shut down")]
    Shutdown,
}

impl DownReason {
    /// The word that OTP has for it in `nodedown_reason`.
    #[must_use]
    pub fn as_otp(&self) -> &'static str {
        match self {
            Self::ClosedByPeer | Self::Network(_) | Self::Protocol(_) | Self::Overloaded(_) => "connection_closed",
            Self::TickTimeout { .. } => "net_tick_timeout",
            Self::Disconnected | Self::Replaced => "disconnect",
            Self::Shutdown => "net_kernel_terminated",
        }
    }
}

/// Why a message was not sent. It is not queued either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no connection to the node. Connect first: a send does not dial.
    #[error("not connected to that node")]
    NoConnection,
    /// Too many bytes wait for the peer. Wait, or drop what you have.
    #[error("the queue to that node is full")]
    Busy,
    /// The sending process has ended.
    #[error("the sending process has ended")]
    Ended,
}

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// There is no connection to the node, or it ended while the call ran: the call may have been carried out.
    #[error("not connected to that node, or the connection ended during the call")]
    NoConnection,
    /// No process has that name there. A node that has just started may get it in a moment.
    #[error("no such process")]
    NoProcess,
    /// No answer in time. The call may still be carried out; its answer will be dropped.
    #[error("no answer in time")]
    Timeout,
    /// The server ended before it answered.
    #[error("the server ended: {0}")]
    Exit(Term),
    /// The function raised.
    #[error("{0}")]
    Raised(Box<Exception>),
    /// The `{badrpc, Reason}` of `rex`.
    #[error("badrpc: {0}")]
    BadRpc(Term),
    /// The node refused to start the call.
    #[error("the node refused the call: {0}")]
    Refused(Term),
    /// The calling process has ended.
    #[error("the calling process has ended")]
    Ended,
    /// The arguments or the request have no term. Nothing was sent.
    #[error("the request cannot be sent: {0}")]
    BadRequest(ConversionError),
    /// There is an answer, and it is none of the type that was asked for.
    #[error("an answer of another type: {error} (in {answer})")]
    BadAnswer {
        /// What does not fit, and where.
        error: ConversionError,
        /// The answer.
        answer: Term,
    },
}

/// What a function raised.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{class}: {reason}")]
pub struct Exception {
    /// `throw`, `error` or `exit`.
    pub class: Class,
    /// What it raised.
    pub reason: Term,
    /// Where, for an `error`.
    pub stack: Option<Term>,
}

impl Exception {
    /// An exception without a stack, in the box in which results hold it.
    #[must_use]
    pub fn new(class: Class, reason: Term) -> Box<Self> {
        Box::new(Self { class, reason, stack: None })
    }
}

/// The class of an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `throw`: a value thrown.
    Throw,
    /// `error`: a fault, with its stack.
    Error,
    /// `exit`: the process was to end.
    Exit,
}

impl Class {
    /// The atom of Erlang.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throw => "throw",
            Self::Error => "error",
            Self::Exit => "exit",
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a name was not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// Another process has it.
    #[error("`{0}` is registered already")]
    Taken(String),
    /// No atom can be made of it.
    #[error("`{0}` is no name for a process: at most 255 characters")]
    BadName(String),
    /// The process has ended.
    #[error("the process has ended")]
    Ended,
}

fn seconds(duration: &Duration) -> String {
    format!("{:.1} s", duration.as_secs_f32())
}
