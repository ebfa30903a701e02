//! Pods: their addresses, their phase, and what is known of their end.

use metacluster_types::{Host, HostState};

use super::{Peer, add_address, agent_port, place, state};
use crate::kubernetes::object::Pod;

/// What the last state of a pod that is gone says of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum End {
    /// Its containers have ended.
    Ended,
    /// It may have been removed by force, or the selector has left it: whether it is there tells.
    Unknown,
    /// It never had an address, so nobody can have known it.
    Unborn,
}

/// The peers of these pods. With `ready_only`, one that is not ready is pending.
pub(in super::super) fn of_pods<'a>(pods: impl IntoIterator<Item = &'a Pod>, ready_only: bool) -> Vec<Peer> {
    pods.into_iter().map(|pod| of_pod(pod, ready_only)).filter(|peer| !peer.host.addresses.is_empty()).collect()
}

/// The peer of one pod.
pub(in super::super) fn of_pod(pod: &Pod, ready_only: bool) -> Peer {
    let meta = &pod.metadata;
    let mut addresses = Vec::new();
    for text in pod.status.pod_ip.iter().chain(pod.status.pod_ips.iter().map(|it| &it.ip)) {
        add_address(&mut addresses, text);
    }
    let ready = pod.status.conditions.iter().any(|it| it.kind == "Ready" && it.status == "True");
    let state = match pod.status.phase.as_str() {
        "Succeeded" | "Failed" => HostState::Terminated,
        "Running" => state(meta.deletion_timestamp.is_some(), ready || !ready_only),
        _ => state(meta.deletion_timestamp.is_some(), false),
    };
    let host = Host {
        name: Some(meta.name.clone()).filter(|name| !name.is_empty()),
        addresses,
        port: agent_port(pod.spec.containers.iter().flat_map(|container| &container.ports)),
        instance: Some(meta.uid.clone()).filter(|uid| !uid.is_empty()),
        place: place(&meta.labels),
        state,
        tags: meta.labels.clone(),
        ..Host::default()
    };
    Peer {
        host,
        namespace: meta.namespace.clone(),
        service: pod.spec.subdomain.clone().unwrap_or_default(),
        hostname: pod.spec.hostname.clone().filter(|hostname| !hostname.is_empty()),
        node: pod.spec.node_name.clone(),
    }
}

/// What its last state says of the end of a pod that is gone.
pub(in super::super) fn end_of(pod: &Pod) -> End {
    let statuses = &pod.status.container_statuses;
    let stopped = !statuses.is_empty() && statuses.iter().all(|it| it.state.terminated.is_some());
    if pod.status.pod_ip.is_none() && pod.status.pod_ips.is_empty() {
        End::Unborn
    } else if matches!(pod.status.phase.as_str(), "Succeeded" | "Failed")
        || (pod.metadata.deletion_timestamp.is_some() && stopped)
    {
        End::Ended
    } else {
        End::Unknown
    }
}
