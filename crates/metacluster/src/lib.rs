//! metacluster as a library: forms the cluster of this host's nodes from within a Rust program.
//!
//! A [`Cluster`] is the engine of the agent: it finds the nodes of this host through epmd, finds their peers through
//! topologies, has the nodes dial, and tells what happens. Strategies of the program's own ([`Strategy`]) work beside
//! those that come with it. The configuration is that of the agent, key by key, and so are its faults.
//!
//! ```no_run
//! use metacluster::{Cluster, Notice};
//! use tokio_stream::StreamExt as _;
//!
//! # async fn example() -> Result<(), metacluster::StartError> {
//! let cluster = Cluster::builder().cluster("main").zone("eu-west-1a").topology("gossip:secret=s3").start().await?;
//! let mut events = cluster.events();
//! while let Some(Notice::Event(event)) = events.next().await {
//!     println!("{} {:?}", event.event.as_str(), event.subject.node);
//! }
//! cluster.leave().await;
//! # Ok(())
//! # }
//! ```

mod builder;
mod cluster;
mod error;
mod events;

pub use builder::Builder;
pub use cluster::Cluster;
pub use error::StartError;
pub use events::{Events, Notice};
pub use metacluster_agent::view::{NodeKind, NodeState, NodeView, ReadinessView, TopologyView, View};
pub use metacluster_discovery::{
    Answer, Failure, Feed, Local, Pace, Poll, Strategy,
    feed::Work,
    settings::{self, Settings, Value},
    spec::Spec,
    trial, watch,
};
pub use metacluster_types::{
    AgentId, Candidate, ClusterName, Cookie, Event, EventKind, Host, HostState, NodeName, Pattern, Place, Region, Role,
    Secret, SourceUpdate, Subject, Tags, TopologyName, Zone,
};
