//! Names, addresses, candidates, time and events that every crate shares.
//!
//! Plain data with validated constructors: no clock, socket, thread or async. A value that exists is valid, so the
//! other crates never check a name twice.

pub mod candidate;
pub mod event;
pub mod host;
pub mod name;
pub mod pattern;
pub mod place;
pub mod said;
pub mod secret;
pub mod time;

pub use candidate::{Candidate, SourceUpdate};
pub use event::{Event, EventKind, Subject};
pub use host::{Host, HostState};
pub use name::{AgentId, CellName, ClusterName, NameError, NodeName, TopologyName};
pub use pattern::Pattern;
pub use place::{Place, Region, Role, Tags, Zone};
pub use said::Said;
pub use secret::{Cookie, Secret};
pub use time::{Instant, WallClock};
