//! The gateway of this host: drives the machine of [`metacluster_federation`] with links, nodes and groups.
//!
//! It starts when the host part of the local nodes is known, since far processes become pids of the agent's node of that
//! name. Four kinds of tasks feed the one machine, each under its lock for as long as one frame takes: the readers of the
//! node's connections (through [`Relay`](metacluster_erl::node::relay::Relay)), the readers of links, the watchers of
//! groups, and the clock. What the machine puts out is carried out under the same lock, so that its order holds; nothing
//! of it waits: messages go into bounded queues, and the writers of links take theirs when there is room.

mod groups;
mod hub;
pub mod issue;
mod links;
mod mesh;
mod services;
mod tls;
mod view;

use std::sync::{Arc, OnceLock};

use metacluster_erl::{Node, wire::Term};
use metacluster_federation::{Federation, Settings, Times};
use metacluster_types::{AgentId, ClusterName, NodeName, Place};
use rand::RngExt as _;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tracing::{info, warn};

use crate::{
    config::FederationConfig,
    core::Clock,
    events::EventLog,
    view::{View, ViewReceiver},
};

use hub::Hub;
pub use metacluster_federation::cells;
pub use services::{PartitionView, ServiceView, ServicesAnswer};
pub use tls::{Identity, IdentityFault};
pub use view::{FederationAnswer, GatewayView};

/// The gateway, for who asks it; empty until it runs.
#[derive(Clone, Default)]
pub struct Handle(Arc<OnceLock<Arc<Hub>>>);

impl Handle {
    /// What it knows of the gateways of others; none when this agent is no gateway, or not yet.
    #[must_use]
    pub fn status(&self) -> Option<FederationAnswer> {
        self.0.get().map(|hub| view::answer(&hub.status()))
    }

    /// Cuts a cluster off; false when this agent is no gateway.
    #[must_use = "it says whether there is a gateway"]
    pub fn cut(&self, cluster: &ClusterName) -> bool {
        self.0.get().map(|hub| hub.cut(cluster)).is_some()
    }

    /// Lets it in again; whether it was cut off.
    #[must_use = "it says whether the cluster was cut off"]
    pub fn allow(&self, cluster: &ClusterName) -> bool {
        self.0.get().is_some_and(|hub| hub.allow(cluster))
    }

    /// Answers what processes ask of services: `{route, Service, Key}` and `{members, Service}`; none for anything else,
    /// and where there is no gateway.
    pub(crate) fn ask(&self, request: &Term, caller: &NodeName) -> Option<Term> {
        services::answer(self.0.get()?, request, caller)
    }

    /// All services of all clusters; none when this agent is no gateway, or not yet.
    #[must_use]
    pub fn services(&self) -> Option<ServicesAnswer> {
        self.0.get().map(|hub| services::list(hub))
    }

    /// Says goodbye on every link.
    pub(crate) fn shutdown(&self) {
        if let Some(hub) = self.0.get() {
            hub.shutdown();
        }
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("runs", &self.0.get().is_some()).finish()
    }
}

/// All that a gateway needs of its agent.
pub(crate) struct Parts {
    pub(crate) config: FederationConfig,
    pub(crate) identity: Identity,
    pub(crate) listener: Option<TcpListener>,
    pub(crate) cluster: ClusterName,
    pub(crate) agent: AgentId,
    pub(crate) place: Place,
    pub(crate) epmd_port: u16,
    pub(crate) clock: Clock,
    pub(crate) log: EventLog,
    pub(crate) view: ViewReceiver,
    pub(crate) handle: Handle,
}

/// Runs the gateway until it is aborted. `node` makes the agent's node of a host part.
pub(crate) async fn run(mut parts: Parts, host: Option<String>, node: impl Fn(&str) -> Option<Node>) {
    let host = match host {
        Some(host) => host,
        None => match local_host(&mut parts.view).await {
            Some(host) => host,
            None => return,
        },
    };
    let Some(node) = node(&host) else {
        return warn!("federation: no node of ours can have the host part {host}");
    };
    let epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let settings = Settings {
        cluster: parts.cluster,
        gateway: parts.agent,
        epoch: u64::try_from(epoch.as_micros()).unwrap_or_default(),
        node: node.name().clone(),
        place: parts.place,
        creation: node.creation(),
        reference_mark: node.mark_of_relay(),
        exports: parts.config.exports.clone(),
        times: Times::default(),
        limits: parts.config.limits,
    };
    info!("federation: {} is a gateway of {}", node.name(), settings.cluster);
    let mut scopes: Vec<String> = settings.exports.iter().map(|rule| rule.scope.clone()).collect();
    scopes.push("pg".to_owned());
    scopes.sort_unstable();
    scopes.dedup();
    let hub = Hub::new(Federation::new(settings, parts.clock.now()), parts.clock, node.clone(), parts.log);
    if !node.set_relay(Arc::clone(&hub) as Arc<dyn metacluster_erl::node::relay::Relay>) {
        return warn!("federation: {} relays for another gateway already", node.name());
    }
    let mut tasks = JoinSet::new();
    for scope in scopes {
        match hub.add_scope(&scope) {
            Ok(scope) => drop(tasks.spawn(groups::watch(Arc::clone(&hub), scope))),
            Err(error) => warn!("federation: the scope {scope} cannot be followed: {error}"),
        }
    }
    tasks.spawn(mesh::watch_nodes(Arc::clone(&hub)));
    tasks.spawn(mesh::watch_places(Arc::clone(&hub), parts.view.clone()));
    tasks.spawn(mesh::reach_all(node, parts.view, parts.epmd_port));
    tasks.spawn(Arc::clone(&hub).keep_time());
    let identity = Arc::new(parts.identity);
    if let Some(listener) = parts.listener {
        tasks.spawn(links::listen(Arc::clone(&hub), Arc::clone(&identity), listener));
    }
    for peer in parts.config.peers {
        let jitter = rand::rng().random_range(0.8..1.2);
        tasks.spawn(links::dial(Arc::clone(&hub), Arc::clone(&identity), peer, jitter));
    }
    drop(parts.handle.0.set(hub));
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            warn!("federation: a task failed: {error}");
        }
    }
}

/// The host part of the first local node.
async fn local_host(view: &mut watch::Receiver<Arc<View>>) -> Option<String> {
    let local = |view: &Arc<View>| view.nodes.iter().any(|node| node.local);
    let view = view.wait_for(local).await.ok()?;
    view.nodes.iter().find(|node| node.local).map(|node| node.name.host().to_owned())
}

/// Whether a node is an agent's: its processes are none of the cluster's.
fn is_agent(own: &NodeName, node: &str) -> bool {
    node.split_once('@').is_some_and(|(basename, _)| basename == own.basename())
}
