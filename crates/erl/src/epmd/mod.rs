//! epmd, the port mapper: which node of a host listens on which port.
//!
//! [`client`] asks one and registers with one, [`server`] is one. Follows section "EPMD Protocol" of OTP's
//! distribution protocol guide, and `erts/epmd/src` where the guide is silent.

pub mod client;
mod connection;
pub mod error;
pub mod server;
mod table;

pub use client::{Registered, names, port_please, register};
pub use error::{BindError, EpmdError};
pub use metacluster_erl_wire::epmd::Registration;
pub use server::{Server, ServerOptions};
pub use table::Names;

/// The port that epmd listens on, unless `ERL_EPMD_PORT` says otherwise.
pub const PORT: u16 = 4369;
