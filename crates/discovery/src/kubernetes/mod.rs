//! `kubernetes`: the endpoints of a service or the pods that a selector names, as the API of their cluster tells them.
//!
//! Each namespace has a list and a watch of its own (`machine` decides, `follow` drives), so that one which is
//! forbidden or broken takes no other down. What they report becomes hosts ([`peers`]), gets its zone ([`places`]) and
//! its name ([`names`]), and is told as one answer.
//!
//! Invariants: what fails changes nothing. While at least one namespace is well its answer is told, with a note of what
//! the others lack; only when none is well has the strategy failed.

mod access;
mod api;
mod follow;
mod machine;
mod names;
mod object;
mod peers;
mod places;
mod problem;
mod scope;
mod settings;

use std::sync::Arc;

use metacluster_types::HostState;
use tokio::{sync::Notify, task::JoinSet};

pub(crate) use self::settings::{KEYS, make};
use self::{
    api::Api,
    follow::{Desk, Order, Report, follow},
    names::own_domain,
    object::{EndpointSlice, Pod},
    peers::Peer,
    places::Places,
    scope::{Resource, Scope},
    settings::Kubernetes,
};
use crate::{
    Answer, Failure, Feed, Strategy,
    feed::Work,
    watch::{Stream, watch},
};

impl Strategy for Kubernetes {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move { watch(&feed, |stream| tell(Arc::clone(&self), stream)).await })
    }
}

/// Follows all namespaces for ever, or until the way to the API has to be looked for anew.
async fn tell(settings: Arc<Kubernetes>, stream: Stream) -> Result<(), Failure> {
    let api = Arc::new(Api::new(settings.access.clone(), settings.timeout));
    let domain = settings.domain.clone().unwrap_or_else(own_domain);
    let wake = Arc::new(Notify::new());
    let mut followers = JoinSet::new();
    let mut desks = Vec::new();
    for scope in scopes(&settings, &api).await? {
        let order = Order { scope, ready_only: settings.ready_only, idle: settings.idle };
        let desk = Desk::new(&wake);
        desks.push(desk.clone());
        match order.scope.resource {
            Resource::Pods => followers.spawn(follow::<Pod>(Arc::clone(&api), order, desk)),
            Resource::EndpointSlices | Resource::Nodes => {
                followers.spawn(follow::<EndpointSlice>(Arc::clone(&api), order, desk))
            }
        };
    }
    let mut places = Places::new();
    let mut failures = 0;
    loop {
        tokio::select! {
            () = wake.notified() => {}
            () = places.listed() => {}
            Some(ended) = followers.join_next() => {
                let what = ended.map_or_else(|error| error.to_string(), |()| "it ended".to_owned());
                return Err(Failure::new(format!("a watch failed, by a fault of metacluster: {what}")));
            }
        }
        let reports: Vec<Report> = desks.iter().map(Desk::read).collect();
        // The first answer is told when each namespace has said something.
        if reports.iter().any(|report| report.peers.is_none() && report.problem.is_none()) {
            continue;
        }
        if reports.iter().all(|report| report.problem.is_some() && !report.degraded) {
            let failed = reports.iter().map(|report| report.failures).sum();
            if failed != std::mem::replace(&mut failures, failed) {
                stream.fail(problems(&reports).join("; "));
            }
            continue;
        }
        stream.tell(answer(&settings, &domain, &api, &mut places, &reports));
    }
}

/// What is to be watched. Where no namespace is given, it is the agent's own.
async fn scopes(settings: &Kubernetes, api: &Api) -> Result<Vec<Scope>, Failure> {
    let namespaces = if settings.namespaces.is_empty() {
        let own = api.namespace().await.map_err(|problem| Failure::new(problem.to_string()))?;
        if own.is_empty() {
            return Err(Failure::new(
                "the service account does not say in which namespace it is (no file `namespace` beside its token): \
                 give `namespace`",
            ));
        }
        vec![Some(own)]
    } else {
        settings.namespaces.clone()
    };
    let scope = |namespace| Scope {
        resource: settings.resource,
        namespace,
        labels: settings.labels.clone(),
        fields: settings.fields.clone(),
    };
    Ok(namespaces.into_iter().map(scope).collect())
}

fn answer(settings: &Kubernetes, domain: &str, api: &Arc<Api>, places: &mut Places, reports: &[Report]) -> Answer {
    let mut peers: Vec<Peer> = Vec::new();
    for report in reports {
        peers.extend(report.peers.iter().flat_map(|peers| peers.iter().cloned()));
    }
    if settings.node_labels {
        places.complete(api, &mut peers);
    }
    let mut nameless = Vec::new();
    let mut hosts = Vec::new();
    for mut peer in peers {
        let addresses = settings.naming.addresses().pick(&peer.host.addresses, &peer.host.addresses);
        if !addresses.is_empty() {
            peer.host.addresses = addresses;
        }
        let name = settings.names.name(&peer, settings.service.as_deref(), domain);
        if name.is_none() && peer.host.state == HostState::Running {
            nameless.push(peer.host.name.clone().unwrap_or_default());
        }
        peer.host.name = name;
        hosts.push(peer.host);
    }
    let ended = reports.iter().flat_map(|report| &report.ended);
    hosts.extend(ended.cloned());
    let mut answer = settings.naming.answer(hosts);
    answer.notes.extend(reports.iter().flat_map(|report| report.notes.iter().cloned()));
    answer.notes.extend(problems(reports));
    if let Some(first) = nameless.first() {
        answer.notes.push(format!(
            "{} endpoints have no host name in a service, so `naming = \"hostname\"` gives them none; the first is \
             `{first}`: use a StatefulSet with its headless service, or set `hostname` and `subdomain` in the pods' spec",
            nameless.len()
        ));
    }
    answer
}

fn problems(reports: &[Report]) -> Vec<String> {
    let mut problems: Vec<String> = reports.iter().filter_map(|report| report.problem.clone()).collect();
    problems.dedup();
    problems
}
