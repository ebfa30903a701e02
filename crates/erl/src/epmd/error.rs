//! Why an epmd did not answer, or could not be started. Each error is one line that says what to mend.

use std::{io, net::SocketAddr, time::Duration};

/// Why a request to an epmd failed. Nothing changed there, unless the variant says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EpmdError {
    /// No epmd listens there. On a host of our own, none was started yet; `erl -name` starts one.
    #[error("no epmd listens on {0}")]
    Refused(SocketAddr),
    /// The network has no way there, or a local limit was hit.
    #[error("epmd on {0} cannot be reached: {1}")]
    Unreachable(SocketAddr, String),
    /// No answer in time. A registration may have been made, and ends with this error.
    #[error("epmd on {address} did not answer within {:.1} s: host down, or a firewall drops the packets", .after.as_secs_f32())]
    Timeout {
        /// Who was asked.
        address: SocketAddr,
        /// How long.
        after: Duration,
    },
    /// The connection ended before the answer was whole. A stock epmd does so to a request that only its own host may
    /// make.
    #[error("epmd on {0} closed the connection without an answer")]
    Closed(SocketAddr),
    /// What answers there is no epmd.
    #[error("what listens on {address} is no epmd: {what}")]
    Malformed {
        /// Who was asked.
        address: SocketAddr,
        /// What was wrong.
        what: String,
    },
    /// A live node has the name (or the name is too long, which a caller of ours cannot be told apart).
    #[error(
        "the name `{name}` is taken on the epmd at {address}: a node of that name runs, or the name is not allowed"
    )]
    NameTaken {
        /// Who was asked.
        address: SocketAddr,
        /// The name, without its host.
        name: String,
    },
}

impl EpmdError {
    pub(crate) fn from_io(address: SocketAddr, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            Self::Refused(address)
        } else {
            Self::Unreachable(address, error.to_string())
        }
    }
}

/// Why an epmd could not listen. Nothing listens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another program, most likely another epmd, has the port.
    #[error("{0} is in use: another epmd runs")]
    InUse(SocketAddr),
    /// The port is below 1024, or a rule of the host forbids it.
    #[error("{0}: permission denied")]
    Denied(SocketAddr),
    /// The address is not one of this host, or a limit was hit.
    #[error("cannot listen on {0}: {1}")]
    Unusable(SocketAddr, String),
    /// No address was given.
    #[error("no address to listen on")]
    NoAddress,
}

impl BindError {
    pub(crate) fn from_io(address: SocketAddr, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::AddrInUse {
            Self::InUse(address)
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            Self::Denied(address)
        } else {
            Self::Unusable(address, error.to_string())
        }
    }
}
