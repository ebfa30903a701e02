//! From objects to hosts: what EndpointSlices and Pods say of the places where agents and nodes may be.
//!
//! Invariants: one pod is one host, whatever slices and address families it is in. A host that was told to end stays so
//! while its pod is there. That a pod *ended* is only said of its own end, never of a selector that left it.

mod pods;
mod slices;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use metacluster_types::{Host, HostState, Place, Region, Zone};

pub(super) use self::{
    pods::{End, end_of, of_pod, of_pods},
    slices::{SERVICE, of_slices},
};
use super::object::Port;

/// The port of the agents, where a slice or a container names one so.
const AGENT_PORT: &str = "metacluster";
/// How many addresses of one endpoint are kept. Real ones have one of each family.
const ADDRESSES_MAX: usize = 8;
/// Where a cloud says its zone and region, on nodes and, with newer versions of Kubernetes, on pods.
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";

/// A host, and what its names are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Peer {
    /// The host, as yet without its name in DNS.
    pub(super) host: Host,
    /// Its namespace.
    pub(super) namespace: String,
    /// The service that its slice, or its subdomain, names.
    pub(super) service: String,
    /// Its host name within that service.
    pub(super) hostname: Option<String>,
    /// The node on which it runs.
    pub(super) node: Option<String>,
}

/// The zone and region that labels name.
pub(super) fn place(labels: &std::collections::BTreeMap<String, String>) -> Place {
    let label = |name: &str| labels.get(name).map(String::as_str).unwrap_or_default();
    Place { zone: Zone::new(label(ZONE)).ok(), region: Region::new(label(REGION)).ok() }
}

/// The port of the agents among those that are named.
fn agent_port<'a>(ports: impl IntoIterator<Item = &'a Port>) -> Option<u16> {
    let named = ports.into_iter().find(|port| port.name == AGENT_PORT)?;
    named.port.or(named.container_port).filter(|&port| port > 0)
}

/// The state of what is told to end, is ready, or is neither.
fn state(terminating: bool, ready: bool) -> HostState {
    match (terminating, ready) {
        (true, _) => HostState::Terminating,
        (false, true) => HostState::Running,
        (false, false) => HostState::Pending,
    }
}

fn add_address(addresses: &mut Vec<IpAddr>, text: &str) {
    if let Ok(address) = text.parse()
        && addresses.len() < ADDRESSES_MAX
        && !addresses.contains(&address)
    {
        addresses.push(address);
    }
}
