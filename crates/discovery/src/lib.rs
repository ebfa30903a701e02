//! The strategies that find peers, each pushing what changes.
//!
//! A [`Strategy`] runs on its own task and pushes [`SourceUpdate`](metacluster_types::SourceUpdate)s into its [`Feed`]
//! until the feed says stop. [`build`] makes one from its [`Settings`], [`spawn`] runs it under a
//! supervisor, [`look_up()`] runs it once for the command line. What strategies share: [`Naming`] makes candidates of
//! hosts, [`Poll`] asks again and again, [`watch()`] keeps a stream open, [`trial`] is for tests.
//!
//! Invariants: a strategy never dials, never decides, and never takes another one down. What comes from a network is
//! bounded before it is stored. A look-up that fails is a [`Failed`](metacluster_types::SourceUpdate::Failed) and
//! changes no candidate.
//!
//! ```
//! use metacluster_discovery::{build, spec::Spec};
//!
//! let spec: Spec = "static:nodes=a@10.0.0.1,b@10.0.0.2".parse()?;
//! let strategy = build(&spec.strategy, &spec.settings).map_err(|faults| faults[0].to_string())?;
//! # drop(strategy);
//! # Ok::<(), String>(())
//! ```

pub mod aws;
pub mod catalogue;
mod consul;
mod dns;
mod epmd;
mod etcd;
mod exec;
pub mod feed;
mod file;
pub mod fixed;
mod gossip;
#[cfg(test)]
mod heard;
pub mod http;
mod kubernetes;
mod launch_data;
pub mod look_up;
mod mdns;
pub mod naming;
mod peers;
pub mod poll;
mod rancher;
mod record;
pub mod run;
pub mod settings;
pub mod spec;
pub mod sql;
pub mod tls;
pub mod trial;
pub mod watch;

pub use catalogue::{StrategyInfo, build, set_default, strategies};
pub use feed::{Feed, Local, Strategy};
pub use look_up::{Discovered, look_up};
pub use naming::{Answer, Gives, Naming};
pub use poll::{Failure, Pace, Poll};
pub use run::{Running, spawn};
pub use settings::{Fault, Settings, Value};
pub use watch::watch;
