//! epmd, the port mapper: which node of a host listens on which port.
//!
//! [`client`] asks one and registers with one, [`server`] is one. Follows section "EPMD Protocol" of OTP's
//! distribution protocol guide, and `erts/epmd/src` where the guide is silent.

mod accept;
pub mod client;
mod connection;
pub mod error;
mod gate;
mod listen;
mod names;
pub mod network;
pub mod server;
mod table;

pub use client::{Registered, names, port_please, register};
pub use error::{BindError, EpmdError};
pub use listen::raise_descriptor_limit;
pub use metacluster_erl_wire::epmd::Registration;
pub use names::Names;
pub use network::{Network, NetworkError};
pub use server::{Server, ServerOptions};

/// The port that epmd listens on, unless `ERL_EPMD_PORT` says otherwise.
pub const PORT: u16 = 4369;
