//! A member as tests start from: what a test is about it changes.

use std::{collections::BTreeSet, time::SystemTime};

use metacluster_types::{AgentId, ClusterName, Tags, WallClock};

use crate::view::{MemberState, MemberView};

impl MemberView {
    /// A member of the cluster `main` that lives and has nothing to tell; the first one is the agent itself.
    pub(crate) fn sample(id: u128) -> Self {
        Self {
            id: AgentId(id),
            name: format!("metacluster@h{id}"),
            address: "10.0.0.4:45893".parse().expect("an address"),
            cluster: ClusterName::new("main").expect("valid"),
            zone: None,
            region: None,
            roles: BTreeSet::new(),
            tags: Tags::new(),
            state: MemberState::Alive,
            since: WallClock::new(SystemTime::UNIX_EPOCH),
            reason: None,
            own: id == 1,
            epoch: 1,
            instance: None,
            round_trip_ms: None,
            nodes: Vec::new(),
            nodes_total: 0,
            links: 0,
            key: None,
            cell: None,
            gateway: None,
        }
    }
}
