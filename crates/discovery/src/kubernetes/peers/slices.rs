//! EndpointSlices. An endpoint may stand in several of them: once for each address family, and twice while the controller
//! moves it.

use std::collections::BTreeMap;

use metacluster_types::{Host, HostState, Place, Tags, Zone};

use super::{Peer, add_address, agent_port, state};
use crate::kubernetes::object::{Endpoint, EndpointSlice, Meta};

/// The label that names a slice's service.
pub(in super::super) const SERVICE: &str = "kubernetes.io/service-name";
/// Labels that speak of the slice and not of what is behind it.
const OF_THE_SLICE: [&str; 3] = ["endpointslice.kubernetes.io/", "service.kubernetes.io/", "kubernetes.io/"];

/// Who an endpoint is, so that its parts find one another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    /// By the id of the object behind it.
    Id(String),
    /// By its namespace, service, and the name or else the address that it has there.
    Name(String, String, String),
}

/// The peers of these slices. With `ready_only`, one that is not ready is pending.
pub(in super::super) fn of_slices<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    ready_only: bool,
) -> Vec<Peer> {
    let mut peers: BTreeMap<Who, Peer> = BTreeMap::new();
    for slice in slices {
        let meta = &slice.metadata;
        let tags: Tags = meta.labels.iter().filter(|(name, _)| !is_of_the_slice(name)).map(clone_pair).collect();
        let port = agent_port(&slice.ports);
        for endpoint in &slice.endpoints {
            let peer = of_endpoint(meta, endpoint, &tags, port, ready_only);
            let who = who(&peer, endpoint);
            match peers.get_mut(&who) {
                Some(known) => merge(known, peer, matches!(who, Who::Id(_))),
                None => {
                    peers.insert(who, peer);
                }
            }
        }
    }
    peers.into_values().collect()
}

fn of_endpoint(meta: &Meta, endpoint: &Endpoint, tags: &Tags, port: Option<u16>, ready_only: bool) -> Peer {
    let target = endpoint.target_ref.clone().unwrap_or_default();
    let mut addresses = Vec::new();
    for text in &endpoint.addresses {
        add_address(&mut addresses, text);
    }
    // A slice of names has no address that could be read.
    let fqdn = endpoint.addresses.first().filter(|_| addresses.is_empty()).cloned();
    // What is not said of readiness is to be taken for ready.
    let ready = endpoint.conditions.ready.unwrap_or(true) || !ready_only;
    let name = Some(target.name).filter(|name| !name.is_empty()).or(fqdn).or_else(|| endpoint.hostname.clone());
    let host = Host {
        name,
        addresses,
        port,
        instance: Some(target.uid).filter(|uid| !uid.is_empty()),
        place: Place { zone: endpoint.zone.as_deref().and_then(|zone| Zone::new(zone).ok()), region: None },
        state: state(endpoint.conditions.terminating.unwrap_or(false), ready),
        tags: tags.clone(),
        ..Host::default()
    };
    let namespace = if target.namespace.is_empty() { meta.namespace.clone() } else { target.namespace };
    Peer {
        host,
        namespace,
        service: meta.labels.get(SERVICE).cloned().unwrap_or_default(),
        hostname: endpoint.hostname.clone().filter(|hostname| !hostname.is_empty()),
        node: endpoint.node_name.clone(),
    }
}

fn who(peer: &Peer, endpoint: &Endpoint) -> Who {
    match &peer.host.instance {
        Some(uid) => Who::Id(uid.clone()),
        None => {
            let name = peer.host.name.as_ref().or(endpoint.addresses.first()).cloned().unwrap_or_default();
            Who::Name(peer.namespace.clone(), peer.service.clone(), name)
        }
    }
}

/// Adds what another slice says of the same peer. A pod that was told to end never runs again, so that counts more; an
/// address may be another's by now, so there what runs counts more.
fn merge(known: &mut Peer, other: Peer, is_pod: bool) {
    for address in other.host.addresses {
        if !known.host.addresses.contains(&address) && known.host.addresses.len() < super::ADDRESSES_MAX {
            known.host.addresses.push(address);
        }
    }
    let rank = |state: HostState| match state {
        HostState::Terminated => 4,
        HostState::Terminating if is_pod => 3,
        HostState::Running => 2,
        HostState::Terminating => 1,
        HostState::Pending => 0,
    };
    if rank(other.host.state) > rank(known.host.state) {
        known.host.state = other.host.state;
    }
    known.host.port = known.host.port.or(other.host.port);
    known.host.place.zone = known.host.place.zone.take().or(other.host.place.zone);
    known.host.tags.extend(other.host.tags);
    known.hostname = known.hostname.take().or(other.hostname);
    known.node = known.node.take().or(other.node);
}

fn is_of_the_slice(label: &str) -> bool {
    OF_THE_SLICE.iter().any(|prefix| label.starts_with(prefix))
}

fn clone_pair((name, value): (&String, &String)) -> (String, String) {
    (name.clone(), value.clone())
}
