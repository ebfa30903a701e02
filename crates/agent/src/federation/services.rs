//! What is asked of services: by processes of the cluster, and by people.

use std::collections::BTreeMap;

use metacluster_erl::wire::Term;
use metacluster_types::{ClusterName, NodeName};
use serde::{Deserialize, Serialize};

use super::hub::Hub;
use crate::view::VERSION;

/// The answer of `GET /v1/services`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicesAnswer {
    /// [`VERSION`].
    pub version: u32,
    /// The services of all clusters, by name.
    pub services: Vec<ServiceView>,
}

/// A service: the groups `{Name, Partition}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name, as Erlang prints it.
    pub name: String,
    /// Its partitions.
    pub partitions: Vec<PartitionView>,
}

/// A partition of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionView {
    /// Its name, as Erlang prints it.
    pub name: String,
    /// How many members it has in which cluster.
    pub members: BTreeMap<ClusterName, usize>,
}

/// Answers a process of that node; none for what is no question of ours.
pub(super) fn answer(hub: &Hub, request: &Term, caller: &NodeName) -> Option<Term> {
    match request.as_tuple()? {
        [what, service, key] if what.is_atom("route") => {
            let member = hub.look(|machine| machine.route(service, key, caller));
            Some(match member {
                Some(pid) => Term::tuple([Term::atom("ok"), Term::from(pid)]),
                None => Term::tuple([Term::atom("error"), Term::atom("no_member")]),
            })
        }
        [what, service] if what.is_atom("members") => {
            let members = hub.look(|machine| machine.members_of(service));
            let partition =
                |(name, pids): (Term, Vec<_>)| Term::tuple([name, Term::list(pids.into_iter().map(Term::from))]);
            Some(Term::list(members.into_iter().map(partition)))
        }
        _ => None,
    }
}

/// All services.
pub(super) fn list(hub: &Hub) -> ServicesAnswer {
    let services = hub.look(metacluster_federation::Federation::services);
    let partition = |(name, members): (Term, _)| PartitionView { name: name.to_string(), members };
    let service = |service: metacluster_federation::Service| ServiceView {
        name: service.name.to_string(),
        partitions: service.partitions.into_iter().map(partition).collect(),
    };
    ServicesAnswer { version: VERSION, services: services.into_iter().map(service).collect() }
}
