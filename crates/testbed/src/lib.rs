//! Real hosts, BEAM nodes and agents for tests and benches.
//!
//! A [`Network`] is a bridge in a network namespace of its own; each [`Host`] is another namespace with one cable to
//! that bridge. Nothing is added to the namespace that the machine itself uses. In a host run stock `erl` and `elixir`
//! nodes ([`Beam`]), the `metacluster` binary ([`Agent`]), the stock epmd ([`Epmd`]) and nodes that gossip as
//! libcluster does ([`Libcluster`]).
//!
//! Invariant: whoever holds a guard holds its processes and namespaces, and dropping it ends them, also when a test
//! panics. A test process that was killed leaves namespaces behind; the next [`Network`] removes those of processes
//! that are gone.
#![expect(clippy::missing_errors_doc, reason = "each call fails as the tool that it runs fails, and says so")]

mod agent;
mod avahi;
mod beam;
mod cable;
mod child;
mod command;
mod consul;
mod contention;
mod epmd;
mod etcd;
mod eventually;
mod free;
mod host;
mod imds;
mod kmock;
mod knot;
mod libcluster;
mod lines;
mod moto;
mod network;
mod postgres;
mod proxy;
mod python;
mod rancher;
mod reap;
mod require;
mod run;
mod web;

pub use agent::{Agent, AgentBuilder};
pub use avahi::Avahi;
pub use beam::{Beam, BeamBuilder, Change, Sighting};
pub use cable::Cable;
pub use child::Child;
pub use command::{capture, run, succeed};
pub use consul::{Centre, Consul};
pub use contention::Contention;
pub use epmd::Epmd;
pub use etcd::Etcd;
pub use eventually::{eventually, eventually_value};
pub use free::free_port;
pub use host::Host;
pub use imds::Imds;
pub use kmock::{Kmock, endpoint, endpoint_slice};
pub use knot::Knot;
pub use libcluster::Libcluster;
pub use lines::{Line, Lines};
pub use moto::Moto;
pub use network::Network;
pub use postgres::{PgBouncer, Postgres, open_to_servers};
pub use proxy::{Proxy, Wire};
pub use python::Python;
pub use rancher::Rancher;
pub use reap::{leftover_namespaces, remove_namespace};
pub use require::{Tool, require};
pub use run::{RUN_VARIABLE, TestRun};
pub use web::{Asked, Said, Web};
