//! How a handshake fails, sorted by who is to blame.

use metacluster_types::NodeName;

use super::{Expect, Flags};

/// One side of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We.
    Local,
    /// The peer.
    Peer,
}

/// Why there is no connection. After any of these, drain the outputs, close the connection and drop the machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The cookies differ. `noticed_by` says whether the peer's proof was wrong ([`Side::Local`]), or the peer closed
    /// the connection upon ours, which is all that it does then.
    #[error("wrong cookie{}", if *.noticed_by == Side::Peer { " (the peer closed the connection upon our proof)" } else { "" })]
    WrongCookie {
        /// Who saw it.
        noticed_by: Side,
    },
    /// The peer does not want us: it restricts names (`net_kernel:allow/1`), or it misses flags in our offer.
    #[error("the peer does not allow this node")]
    NotAllowed,
    /// The peer is dialling us at the same time, and its own dial goes on. Wait for it.
    #[error("the peer is connecting to us at the same time, and its own connection goes on")]
    Nok,
    /// The peer asked whether our old connection to it is gone, and it is not.
    #[error("there is a connection to this peer already")]
    AlreadyConnected,
    /// Who answered is not whom we dialled.
    #[error("dialled {}, but {found} answered", whom(.expected))]
    NameMismatch {
        /// Whom we dialled.
        expected: Expect,
        /// Who answered.
        found: NodeName,
    },
    /// The peer can do too little.
    #[error("the peer is too old or too simple: it lacks {missing}")]
    Incompatible {
        /// What it lacks.
        missing: Flags,
    },
    /// The peer speaks the handshake of OTP 22 and older.
    #[error("the peer speaks the handshake of OTP 22 or older (version 5); OTP 25 is the oldest that is supported")]
    OldHandshake,
    /// The peer wants us to give it a name, and we give none; or gives us one that we have not asked for.
    #[error("the peer wants a name to be given, which this node does not do")]
    DynamicName,
    /// A name that is none: no `@`, too long, or with characters that no node has.
    #[error("the peer calls itself {0:?}, which is no name of a node")]
    BadName(String),
    /// We have refused the peer, by our driver's decision.
    #[error("refused")]
    Refused,
    /// The peer sent what is no message of the handshake, or not the one whose turn it is.
    #[error("not a handshake: malformed {0}")]
    Malformed(&'static str),
    /// The peer announced a message that is longer than any of the handshake.
    #[error("not a handshake: a message of {0} bytes")]
    TooLong(usize),
    /// The peer closed the connection in the middle.
    #[error("the peer closed the connection while we waited for its {0}")]
    Closed(&'static str),
    /// Our driver's mistake: a call that is out of turn. Nothing changed.
    #[error("out of turn: {0}")]
    Misused(&'static str),
}

impl HandshakeError {
    /// Whether dialling again soon may help without anybody doing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Nok | Self::AlreadyConnected | Self::Closed(_))
    }
}

fn whom(expected: &Expect) -> String {
    match expected {
        Expect::Exactly(name) => name.to_string(),
        Expect::Basename(basename) => format!("{basename}@…"),
    }
}
