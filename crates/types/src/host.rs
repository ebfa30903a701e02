//! A host, as a source of peers knows it.

use std::{collections::BTreeSet, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{Place, Role, Tags};

/// How a host does, as its provider says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// It starts, or is not ready yet.
    Pending,
    /// It runs; a source that says nothing of it means this.
    #[default]
    Running,
    /// It was told to end. It is no candidate any more, and its links stay until they close.
    Terminating,
    /// It ended and never comes back: provider truth, which ends its member.
    Terminated,
}

impl HostState {
    /// Whether it is a peer to be linked to.
    #[must_use]
    pub const fn is_wanted(self) -> bool {
        matches!(self, Self::Running)
    }
}

/// A host, with all that the source knows of it. Each field but `state` may be unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name in DNS or to its provider.
    #[serde(rename = "host", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its addresses, the preferred one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// The port of its agent, if the source names one; else it is the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The id that its provider gave it, such as an instance's, a pod's or a task's. An address may be used again, an id
    /// never is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Where it is.
    #[serde(flatten)]
    pub place: Place,
    /// How it does.
    #[serde(default)]
    pub state: HostState,
    /// What it is for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<Role>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}
