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
    sync::{Arc, OnceLock},
};

use metacluster_discovery::Local;
use metacluster_erl::{Node, pg::Scope, wire::Term};
use metacluster_federation::{Federation, Settings, Times};
use metacluster_types::{AgentId, CellName, ClusterName, NodeName, Place};
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
pub use view::{CompressedView, FederationAnswer, GatewayView};

/// The gateway, for who asks it; empty until it runs.
#[derive(Clone, Default)]
pub struct Handle {
    hub: Arc<OnceLock<Arc<Hub>>>,
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
    pub(crate) identity: Arc<Identity>,
    pub(crate) listener: Option<Arc<TcpListener>>,
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

/// Runs the gateway until it is aborted. `node` makes the agent's node of a host part. Where there are cells it is that of
/// the cell in which its host is, and of another one when that changes.
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
    let Some(mut of) = parts.elected().await else { return };
    let settings = Settings {
        cluster: of.cluster.clone(),
        gateway: parts.agent,
        epoch: epoch(),
        node: node.name().clone(),
        place: parts.place.clone(),
        creation: node.creation(),
        reference_mark: node.mark_of_relay(),
        exports: parts.config.exports.clone(),
        times: Times::default(),
        compress: parts.config.compress,
        limits: parts.config.limits,
    };
    memory::keep_a_burst();
    let mut names: Vec<String> = settings.exports.iter().map(|rule| rule.scope.clone()).collect();
    names.push("pg".to_owned());
    names.sort_unstable();
    names.dedup();
    let machine = Federation::new(settings, parts.clock.now());
    let hub = Hub::new(machine, parts.clock, node.clone(), parts.log.clone());
    if !node.set_relay(Arc::clone(&hub) as Arc<dyn metacluster_erl::node::relay::Relay>) {
        return warn!("federation: {} relays for another gateway already", node.name());
    }
    let mut scopes = Vec::new();
    for name in names {
        match hub.add_scope(&name) {
            Ok(scope) => scopes.push(scope),
            Err(error) => warn!("federation: the scope {name} cannot be followed: {error}"),
        }
    }
    let mut always = JoinSet::new();
    always.spawn(mesh::reach_all(node.clone(), parts.view.clone(), parts.epmd_port));
    always.spawn(Arc::clone(&hub).keep_time());
    drop(parts.handle.hub.set(Arc::clone(&hub)));
    loop {
        info!("federation: {} is a gateway of {}", node.name(), of.cluster);
        let (cells_in, of_cells) = watch::channel(BTreeSet::new());
        let mut tasks = parts.begin(&hub, &scopes, of_cells);
        let ended = async {
            while let Some(ended) = tasks.join_next().await {
                if let Err(error) = ended {
                    warn!("federation: a task failed: {error}");
                }
            }
        };
        tokio::select! {
            () = ended => return,
            () = parts.until_moved(&of, &cells_in) => {}
        }
        info!("federation: this host is not of {} any more, and its gateway parts from all others", of.cluster);
        hub.part().await;
        tasks.shutdown().await;
        of = match parts.elected().await {
            Some(of) => of,
            None => return,
        };
        hub.speak_for(&of.cluster, epoch());
    }
}

/// What a gateway speaks for.
struct Of {
    cluster: ClusterName,
    cell: Option<CellName>,
}

impl Parts {
    /// Waits until this agent is a gateway, and of what; none when it can be none.
    async fn elected(&mut self) -> Option<Of> {
        let Some(count) = self.cell_gateways else { return Some(Of { cluster: self.cluster.clone(), cell: None }) };
        let always = !self.config.peers.is_empty() || !self.config.topologies.is_empty();
        let cell = mates::elected(&mut self.view, count, always).await?;
        match cells::cluster_of_cell(&self.cluster, &cell) {
            Ok(cluster) => Some(Of { cluster, cell: Some(cell) }),
            Err(error) => {
                warn!("federation: the cell {cell} can have no gateway: {error}");
                None
            }
        }
    }

    /// Says where the gateways of other cells are, until this host is in another one.
    async fn until_moved(&mut self, of: &Of, cells: &watch::Sender<BTreeSet<String>>) {
        match (&of.cell, self.cell_gateways) {
            (Some(cell), Some(count)) => mates::follow(&mut self.view, cell, count, cells).await,
            (None, _) | (_, None) => std::future::pending().await,
        }
    }

    /// Begins what tells the machine of its cluster and links it to others.
    fn begin(&self, hub: &Arc<Hub>, scopes: &[Scope], cells: watch::Receiver<BTreeSet<String>>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for scope in scopes {
            tasks.spawn(groups::watch(Arc::clone(hub), scope.clone()));
        }
        tasks.spawn(mesh::watch_nodes(Arc::clone(hub)));
        tasks.spawn(mesh::watch_places(Arc::clone(hub), self.view.clone()));
        if let Some(listener) = &self.listener {
            tasks.spawn(links::listen(Arc::clone(hub), Arc::clone(&self.identity), Arc::clone(listener)));
        }
        let FederationConfig { peers, topologies, .. } = self.config.clone();
        let keeper = Peers::new(Arc::clone(hub), Arc::clone(&self.identity));
        tasks.spawn(keeper.keep(peers, topologies, self.local.clone(), cells, self.epmd_port));
        tasks
    }
}

/// A life of a gateway, greater than those before.
fn epoch() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or_default()
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
