//! A node on tokio that BEAM nodes accept: epmd client and server, listener, dialler, processes, calls.
//!
//! The bytes and the protocol's machines are in `metacluster-erl-wire`; this crate owns the sockets, the clock and the
//! tasks. Two halves that know nothing of each other:
//!
//! - [`epmd`]: ask an epmd, register with one, or be one.
//! - [`node`]: a [`Node`] with a name and a creation, its connections to peers, and its processes. [`gen_server`] has
//!   the shape of OTP's calls, [`pg`] its process groups.
//!
//! ```
//! use std::time::Duration;
//! use metacluster_erl::{Node, Received, node::Expect, wire::{Term, term}};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! // Two nodes, connected. With an epmd, `reach` needs the name alone.
//! let shop = Node::builder("shop@127.0.0.1").cookie("secret").start().await?;
//! let till = Node::builder("till@127.0.0.1").cookie("secret").start().await?;
//! let address = shop.listen("127.0.0.1:0".parse()?).await?;
//! till.connect(address, Expect::Exactly(shop.name().clone())).await?;
//!
//! // A process there, a message to its name, and the answer to a pid.
//! let mut worker = shop.spawn();
//! worker.register("worker")?;
//! let mut clerk = till.spawn();
//! let monitor = clerk.monitor(worker.pid());
//! clerk.send_name(shop.name(), "worker", term!({order, (clerk.pid()), #{item => "tea"}}))?;
//! let Received::Message(order) = worker.recv().await else { unreachable!() };
//! let [_, from, _] = order.as_tuple().unwrap() else { unreachable!() };
//! worker.send(from.as_pid().unwrap(), term!({sold, 1}))?;
//! assert_eq!(clerk.recv().await, Received::Message(term!({sold, 1})));
//!
//! // Who monitors is told the reason; a call to nobody fails at once.
//! worker.exit(term!(closed));
//! assert_eq!(clerk.recv().await, Received::Down { reference: monitor, reason: term!(closed) });
//! let error = till.call(shop.name(), "worker", term!(order), Duration::from_secs(5)).await.unwrap_err();
//! assert_eq!(error.to_string(), "no such process");
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
//! ```
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
    builder::{NodeBuilder, StartError},
    error::{CallError, Class, ConnectError, DownReason, Exception, RegisterError, SendError},
    event::NodeEvent,
    functions::{BadFunctionName, Functions, Started},
    options::NodeOptions,
    process::{Process, Received},
    reach::ReachError,
    tls::{NameCheck, Tls, TlsError, TlsOptions, TlsSetupError},
};
