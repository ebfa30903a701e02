//! Why a dial failed, sorted by blame. Each reason says what the machine does about it.

/// Why `connect_node` at a local node did not link it to a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Peer: nothing answered at its address, its host did not resolve, or its epmd does not know it; the text says
    /// which. The pair backs off.
    #[error("{0}")]
    Unreachable(String),
    /// Peer: it answered and refused, for example over the cookie or a node list of its own; the text says why. The
    /// pair backs off.
    #[error("refused: {0}")]
    Refused(String),
    /// Ours: the local node could not be asked, so nothing is known of the peer and it is not blamed. The dial is
    /// repeated after a second unless the local node is gone.
    #[error("the local node could not be asked to dial")]
    LocalUnavailable,
    /// Ours: the driver gave no outcome within [`Settings::dial_timeout`](crate::Settings::dial_timeout). The machine
    /// makes this one itself; the pair backs off.
    #[error("no answer in time")]
    NoAnswer,
}
