//! A node on tokio that BEAM nodes accept: epmd client and server, listener, dialler, processes, calls.
//!
//! The bytes and the protocol's machines are in `metacluster-erl-wire`; this crate owns the sockets, the clock and the
//! tasks. Two halves that know nothing of each other:
//!
//! - [`epmd`]: ask an epmd, register with one, or be one.
//! - [`node`]: a [`Node`] with a name and a creation, its connections to peers, and its processes. [`gen_server`] has
//!   the shape of OTP's calls, [`pg`] its process groups.
//!
//! Invariants of the crate: one task owns each connection; no lock is held across an `await`; every queue has a bound
//! and an answer for the time when it is full; bytes from a peer never panic, and what they claim is bounded before it
//! is stored.

pub mod epmd;
pub mod gen_server;
pub mod node;
pub mod pg;

pub use metacluster_erl_wire as wire;
pub use node::{
    Node,
    error::{CallError, Class, ConnectError, DownReason, Exception, RegisterError, SendError},
    event::NodeEvent,
    options::NodeOptions,
    process::{Process, Received},
    tls::{NameCheck, Tls, TlsError, TlsOptions, TlsSetupError},
};
