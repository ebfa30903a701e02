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
mod mates;
mod memory;
mod mesh;
mod peers;
mod services;
mod tls;
mod view;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use metacluster_discovery::Local;
use metacluster_erl::{Node, wire::Term};
use metacluster_federation::{Federation, Settings, Times};
use metacluster_types::{AgentId, ClusterName, NodeName, Place};
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
use peers::Peers;
pub use services::{PartitionView, ServiceView, ServicesAnswer};
pub use tls::{Identity, IdentityFault};
pub use view::{FederationAnswer, GatewayView};

/// The gateway, for who asks it; empty until it runs.
#[derive(Clone, Default)]
pub struct Handle {
    hub: Arc<OnceLock<Arc<Hub>>>,
    over: Arc<AtomicBool>,
}

impl Handle {
    /// What it knows of the gateways of others; none when this agent is no gateway, or not yet.
    #[must_use]
    pub fn status(&self) -> Option<FederationAnswer> {
        self.hub.get().map(|hub| view::answer(&hub.status()))
    }

    /// Cuts a cluster off; false when this agent is no gateway.
    #[must_use = "it says whether there is a gateway"]
    pub fn cut(&self, cluster: &ClusterName) -> bool {
        self.hub.get().map(|hub| hub.cut(cluster)).is_some()
    }

    /// Lets it in again; whether it was cut off.
    #[must_use = "it says whether the cluster was cut off"]
    pub fn allow(&self, cluster: &ClusterName) -> bool {
        self.hub.get().is_some_and(|hub| hub.allow(cluster))
    }

    /// Answers what processes ask of services: `{route, Service, Key}` and `{members, Service}`; none for anything else,
    /// and where there is no gateway.
    pub(crate) fn ask(&self, request: &Term, caller: &NodeName) -> Option<Term> {
        services::answer(self.hub.get()?, request, caller)
    }

    /// All services of all clusters; none when this agent is no gateway, or not yet.
    #[must_use]
    pub fn services(&self) -> Option<ServicesAnswer> {
        self.hub.get().map(|hub| services::list(hub))
    }

    /// Whether it has ended for good.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Says goodbye on every link.
    pub(crate) fn shutdown(&self) {
        if let Some(hub) = self.hub.get() {
            hub.shutdown();
        }
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("runs", &self.hub.get().is_some()).finish()
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
    /// How many gateways each cell has, where there are cells.
    pub(crate) cell_gateways: Option<usize>,
    /// What strategies that find gateways are told of this agent.
    pub(crate) local: watch::Receiver<Local>,
}

/// Runs the gateway until it is aborted, or speaks for another cell than its host is in. `node` makes the agent's node of a host part.
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
    let mut cell = None;
    if let Some(count) = parts.cell_gateways {
        let config = &parts.config;
        let always = !config.peers.is_empty() || !config.topologies.is_empty();
        cell = mates::elected(&mut parts.view, count, always).await;
        let Some(cell) = &cell else { return };
        match cells::cluster_of_cell(&parts.cluster, cell) {
            Ok(name) => parts.cluster = name,
            Err(error) => return warn!("federation: the cell {cell} can have no gateway: {error}"),
        }
    }
    let epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let settings = Settings {
        cluster: parts.cluster.clone(),
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
    memory::keep_a_burst();
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
    tasks.spawn(mesh::reach_all(node, parts.view.clone(), parts.epmd_port));
    tasks.spawn(Arc::clone(&hub).keep_time());
    let identity = Arc::new(parts.identity);
    if let Some(listener) = parts.listener {
        tasks.spawn(links::listen(Arc::clone(&hub), Arc::clone(&identity), listener));
    }
    let (cells_in, of_cells) = watch::channel(BTreeSet::new());
    let FederationConfig { peers, topologies, .. } = parts.config;
    let keeper = Peers::new(Arc::clone(&hub), identity);
    tasks.spawn(keeper.keep(peers, topologies, parts.local, of_cells, parts.epmd_port));
    let until = {
        let (hub, view, count) = (Arc::clone(&hub), parts.view, parts.cell_gateways.unwrap_or_default());
        let cluster = parts.cluster;
        async move {
            match cell {
                Some(cell) => mates::follow(&hub, view, &cluster, &cell, count, &cells_in).await,
                None => std::future::pending().await,
            }
        }
    };
    drop(parts.handle.hub.set(hub));
    let ended = async {
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                warn!("federation: a task failed: {error}");
            }
        }
    };
    tokio::select! {
        () = ended => {}
        () = until => parts.handle.over.store(true, Ordering::Relaxed),
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
