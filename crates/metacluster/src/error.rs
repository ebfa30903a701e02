//! Why a cluster did not start.

use metacluster_agent::{config::Faults, core};

/// Why a cluster did not start. Nothing runs then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Settings are wrong; every fault is told at once, each with the call or the variable that it came from.
    #[error("{0}")]
    Settings(Faults),
    /// A topology in one line is none, or a name is taken or no name.
    #[error("topology: {0}")]
    Topology(String),
    /// What the settings ask for cannot be had.
    #[error(transparent)]
    Start(#[from] core::StartError),
}
