//! The agent: starts every part in order, and is the handle on them.
//!
//! Order of a start: hold the state folder, be or find the epmd, bind the API, start the agent's own node, then the
//! strategies and the driver. Whatever fails before the driver runs leaves nothing behind. Data runs one way:
//! strategies and local nodes → driver → event log and view → API, handlers, BEAM subscribers.

mod beam;
mod cells;
mod changes;
mod check;
mod clock;
mod dial;
mod driver;
mod epmd;
mod global;
mod identity;
mod locals;
mod notes;
mod ours;
mod own_host;
mod part;
mod peers;
mod picture;
mod redial;
mod register;
mod runtime;
mod show;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use metacluster_discovery::{Local, Strategy, Value, build, set_default};
use metacluster_formation::{Formation, Guard, Input, ReadinessRules, Settings, TopologyRules};
use metacluster_types::{NodeName, Pattern, TopologyName, WallClock};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tracing::{debug, warn};

pub(crate) use clock::Clock;
pub use epmd::EpmdError;
pub use identity::IdentityError;
pub(crate) use identity::renew_id;
pub(crate) use peers::MEMBERS;
pub(crate) use runtime::Change;
pub use runtime::ChangeError;

use crate::{
    api::{BindError, Leave, Listeners, Server, State},
    config::{Config, FederationConfig, TopologyConfig},
    events::{EventLog, Reader},
    federation::{self, Identity, IdentityFault},
    handlers::Handlers,
    members::{self, Members},
    talk::{Panel, Talk},
    view::{AgentView, View},
};
pub(crate) use driver::Command;
use driver::{Driver, Inlets, QUEUE, Tasks};

/// How long handlers may take over the last events when the agent leaves.
const HANDLERS: Duration = Duration::from_secs(2);

/// Why an agent did not start. Nothing runs and nothing is held after any of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The state folder.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The epmd.
    #[error(transparent)]
    Epmd(#[from] EpmdError),
    /// The API's socket or address.
    #[error(transparent)]
    Api(#[from] BindError),
    /// The way to other agents.
    #[error(transparent)]
    Members(#[from] members::MembersError),
    /// A topology whose settings no strategy takes.
    #[error("topology {name}: {reason}")]
    Topology {
        /// Its name.
        name: TopologyName,
        /// What is wrong with it.
        reason: String,
    },
    /// The agent's own node.
    #[error("node {name}: {reason}")]
    Node {
        /// The name that it was to have.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The gateway's certificates.
    #[error("federation: {0}")]
    Federation(#[from] IdentityFault),
    /// The port of the gateway.
    #[error("cannot listen on {address} for gateways of other clusters: {error}")]
    FederationListen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The port of the agent's own node.
    #[error("cannot listen on {address} for local nodes: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
}

/// A topology whose strategy is not in the catalogue: one of a Rust program.
pub struct CustomTopology {
    /// Its name; it must differ from those of the configuration.
    pub name: TopologyName,
    /// Whether a peer that leaves the source is dropped.
    pub prune: bool,
    /// The local nodes that it is for; all when empty.
    pub local_nodes: Vec<Pattern>,
    /// What finds the peers.
    pub strategy: Box<dyn Strategy>,
}

/// A running agent. Dropping it ends it at once, without a goodbye; [`Agent::leave`] says goodbye.
pub struct Agent {
    log: EventLog,
    view: watch::Receiver<Arc<View>>,
    commands: mpsc::Sender<Command>,
    running: Running,
}

/// Everything that runs for an agent.
struct Running {
    driver: Driven,
    tasks: JoinSet<()>,
    handlers: Handlers,
    server: Server,
    ours: Arc<ours::Ours>,
    _members: JoinSet<()>,
    federation: federation::Handle,
    _epmd: epmd::Epmd,
    _identity: identity::Identity,
}

/// The driver's task, which ends with its owner.
struct Driven(JoinHandle<()>);

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Agent {
    /// Starts an agent.
    ///
    /// # Errors
    /// When something that the configuration asks for cannot be had; then nothing runs.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, Vec::new()).await
    }

    /// Starts an agent with strategies of the caller's beside those of the configuration.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub async fn start_with(mut config: Config, custom: Vec<CustomTopology>) -> Result<Self, StartError> {
        let clock = Clock::start();
        let configs = config.topologies.clone();
        let listed = built(std::mem::take(&mut config.topologies), config.epmd.port)?;
        let custom = custom.into_iter().map(|topology| ("custom".to_owned(), topology, Guard::default()));
        let identity = identity::Identity::hold(&config.state_dir)?;
        own_host::complete(&mut config).await;
        let listeners = Listeners::bind(&config.api).await?;
        let epmd = epmd::Epmd::start(config.epmd.clone()).await?;
        for warning in config.warnings.iter().chain(listeners.warnings()) {
            warn!("{warning}");
        }

        let (made_in, mut made) = mpsc::unbounded_channel();
        let fallback = config.host.clone().unwrap_or_else(identity::host_name);
        let ours = Arc::new(ours::Ours::new(
            &config.node_name,
            &fallback,
            config.cookie.clone(),
            config.distribution.clone(),
            made_in,
        ));
        let first = ours.any().map_err(|error| StartError::Node {
            name: format!("{}@{fallback}", config.node_name),
            reason: error.to_string(),
        })?;
        let address = config.listen.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let listener = TcpListener::bind(address).await.map_err(|error| StartError::Listen { address, error })?;
        let port = listener.local_addr().map_or(address.port(), |address| address.port());

        let started_at = WallClock::new(SystemTime::now());
        let log = EventLog::new(config.cluster.clone(), config.events_keep);
        let (panel, answers) = Panel::new(&config.handlers);
        let (talk, wishes) = Talk::new();
        let members = Members::start(
            members::Agent {
                id: identity.id,
                cluster: config.cluster.clone(),
                cookie: config.cookie.clone(),
                place: config.place.clone(),
                roles: config.roles.clone(),
                tags: config.tags.clone(),
                node_name: config.node_name.clone(),
                host: config.host.clone(),
                listen: config.listen.map(|address| address.ip()).filter(|ip| !ip.is_unspecified()),
                state_dir: config.state_dir.clone(),
                started_at,
            },
            config.membership.clone(),
            members::TalkEnds { wishes, answers, panel: panel.clone(), log: log.clone() },
        )?;
        for warning in &members.warnings {
            warn!("{warning}");
        }
        let gateway = match config.federation.take() {
            Some(federation) => Some(gateway(federation).await?),
            None => None,
        };

        let agent_view = AgentView {
            id: identity.id,
            names: vec![first.name().clone()],
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: config.cluster.clone(),
            zone: config.place.zone.clone(),
            region: config.place.region.clone(),
            roles: config.roles.clone(),
            tags: config.tags.clone(),
            pid: std::process::id(),
            started_at,
            uptime_seconds: 0,
            epmd: epmd.view.borrow().clone(),
            http: listeners.http_address(),
            leaving: false,
            refused: BTreeMap::new(),
        };
        let (view_in, view) = watch::channel(Arc::new(View::starting(agent_view.clone())));
        let (announce, _) = watch::channel(Local {
            agent: identity.id,
            cluster: config.cluster.clone(),
            place: config.place.clone(),
            nodes: BTreeSet::new(),
            agents: BTreeSet::new(),
            port: None,
        });
        let (commands_in, commands) = mpsc::channel(16);
        let (sources_in, sources) = mpsc::channel(QUEUE);
        let (locals_in, locals) = mpsc::channel(QUEUE);

        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&ours).listen(listener, config.listen.is_none()));
        let (free_in, free) = watch::channel(false);
        tasks.spawn(register::register(config.epmd.port, config.node_name.clone(), port, free_in));
        tasks.spawn(locals::watch_registered(
            epmd.registered.clone(),
            free,
            locals::Selection { patterns: config.nodes.clone(), own: config.node_name.clone() },
            Arc::clone(&ours),
            locals_in,
        ));
        let federation = federation::Handle::default();
        tasks.spawn({
            let (log, view, panel) = (log.clone(), view.clone(), panel.clone());
            let federation = federation.clone();
            async move {
                let mut desks = JoinSet::new();
                while let Some(node) = made.recv().await {
                    desks.spawn(beam::serve(node, log.clone(), view.clone(), panel.clone(), federation.clone()));
                }
            }
        });
        let mut offer = None;
        if let Some((config_of_gateway, identity_of_gateway, listener)) = gateway {
            let port = listener.as_ref().and_then(|listener| listener.local_addr().ok()).map(|address| address.port());
            offer = port.filter(|_| config.cells.is_some());
            let parts = federation::Parts {
                config: config_of_gateway,
                identity: Arc::new(identity_of_gateway),
                listener: listener.map(Arc::new),
                cluster: config.cluster.clone(),
                agent: identity.id,
                // A zone that was made up is near nobody.
                place: if config.zone_said { config.place.clone() } else { metacluster_types::Place::default() },
                epmd_port: config.epmd.port,
                clock,
                log: log.clone(),
                view: view.clone(),
                handle: federation.clone(),
                cell_gateways: config.cells.is_some().then_some(config.cell_gateways),
                local: announce.subscribe(),
            };
            let nodes = Arc::clone(&ours);
            tasks.spawn(federation::run(parts, config.host.clone(), move |host| nodes.at(host).ok()));
        }
        let handlers = Handlers::start(&config.handlers, &log, &config.api.socket, &panel);
        let (leave_in, mut leave) = mpsc::channel(1);
        let state = State::new(view.clone(), log.clone(), handlers.stats(), leave_in).with_talk(talk);
        let state = state.with_federation(federation.clone()).with_commands(commands_in.clone());
        let server = listeners.serve(state);
        tasks.spawn({
            let commands = commands_in.clone();
            async move {
                while let Some(Leave { nodes }) = leave.recv().await {
                    let (done, _) = oneshot::channel();
                    if commands.send(Command::Leave { nodes, done }).await.is_err() {
                        return;
                    }
                }
            }
        });

        let mut formation = Formation::new(Settings::default(), rand::random());
        let topologies = runtime::Topologies::new(configs, sources_in);
        let mut shown = show::Shown::new(agent_view, Arc::clone(&ours));
        let candidates = config.membership.enabled && config.membership.candidates;
        let members_topology = peers::topology().filter(|_| candidates);
        if let Some(name) = &members_topology {
            shown.add_topology(name, "members", false);
            let rules = TopologyRules { prune: false, nodes: Vec::new(), ..TopologyRules::default() };
            formation.handle_input(clock.now(), Input::TopologyAdded { name: name.clone(), rules });
        }
        let mut driver = Driver {
            clock,
            formation,
            picture: picture::Picture::default(),
            log: log.clone(),
            view: view_in,
            announce,
            place: config.place,
            epmd_port: config.epmd.port,
            check_window: check::window(config.membership.profile),
            readiness: ReadinessRules {
                nodes_min: config.readiness.nodes_min,
                mandatory: config.readiness.mandatory.into_iter().collect(),
            },
            readiness_timeout: config.readiness.timeout,
            shown,
            cells: config.cells.map(cells::Cells::new),
            offer,
            topologies,
            peers: peers::Peers::new(members_topology, members.inlets),
            tasks: Tasks::default(),
        };
        for (strategy, topology, guard) in listed.into_iter().chain(custom) {
            driver.begin_topology(&strategy, topology, guard);
        }
        let inlets = Inlets {
            sources,
            locals,
            commands,
            epmd: epmd.view.clone(),
            members: members.events,
            members_view: members.view,
        };
        let driver = Driven(tokio::spawn(driver.run(inlets)));
        let running = Running {
            driver,
            tasks,
            handlers,
            server,
            ours,
            federation,
            _members: members.tasks,
            _epmd: epmd,
            _identity: identity,
        };
        Ok(Self { log, view, commands: commands_in, running })
    }

    /// A reader of the events after the one numbered `since`; without it, of those from now on.
    #[must_use]
    pub fn events(&self, since: Option<u64>) -> Reader {
        self.log.reader(since)
    }

    /// What is so now.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// What is so, as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// The names of this host's nodes that are held.
    #[must_use]
    pub fn local_nodes(&self) -> Vec<NodeName> {
        self.view.borrow().nodes.iter().filter(|node| node.local).map(|node| node.name.clone()).collect()
    }

    /// Brings the topologies into line with those of another configuration: new ones begin, those that differ begin anew,
    /// and those that it lacks end. No link goes for it. Gives the name of each that changed, or why it could not.
    pub async fn reload(&self, topologies: Vec<TopologyConfig>) -> Vec<Result<TopologyName, ChangeError>> {
        let (done_in, done) = oneshot::channel();
        if self.commands.send(Command::Reload { wanted: topologies, done: done_in }).await.is_err() {
            return vec![Err(ChangeError::Stopping)];
        }
        done.await.unwrap_or_else(|_| vec![Err(ChangeError::Stopping)])
    }

    /// Waits until the agent has left because somebody asked it to through the API. Cancel safe. Call
    /// [`Agent::leave`] then.
    pub async fn left(&mut self) {
        if !self.running.driver.0.is_finished()
            && let Err(error) = (&mut self.running.driver.0).await
        {
            warn!("the agent's driver failed: {error}");
        }
    }

    /// Says goodbye and ends: strategies first, then handlers and streams, which get what is left, then the agent's own
    /// node. The local nodes keep their links, unless they are to leave their mesh too.
    pub async fn leave(mut self, nodes: bool) {
        let (done_in, done) = oneshot::channel();
        if self.commands.send(Command::Leave { nodes, done: done_in }).await.is_ok() && done.await.is_err() {
            debug!("the agent had left already");
        }
        self.left().await;
        let Running { mut tasks, mut handlers, server, ours, federation, .. } = self.running;
        federation.shutdown();
        if timeout(HANDLERS, handlers.finish()).await.is_err() {
            debug!("handlers still run and are stopped");
        }
        handlers.stop().await;
        server.stop().await;
        for node in ours.all() {
            node.shutdown().await;
        }
        tasks.shutdown().await;
    }
}

/// What a gateway needs that can fail: its certificates and its port.
async fn gateway(config: FederationConfig) -> Result<(FederationConfig, Identity, Option<TcpListener>), StartError> {
    let identity = Identity::load(&config.identity, &config.trust)?;
    let listener = match config.listen {
        Some(address) => {
            let listener = TcpListener::bind(address).await;
            Some(listener.map_err(|error| StartError::FederationListen { address, error })?)
        }
        None => None,
    };
    Ok((config, identity, listener))
}

/// The strategies of the configuration, by name. Those that ask epmds ask on the agent's own port unless told otherwise.
fn built(topologies: Vec<TopologyConfig>, epmd_port: u16) -> Result<Vec<(String, CustomTopology, Guard)>, StartError> {
    let build = |mut topology: TopologyConfig| {
        set_default(&topology.strategy, &mut topology.settings, "epmd_port", Value::Integer(epmd_port.into()));
        let strategy = build(&topology.strategy, &topology.settings).map_err(|faults| StartError::Topology {
            name: topology.name.clone(),
            reason: faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        })?;
        let TopologyConfig { name, strategy: strategy_name, prune, local_nodes, guard, .. } = topology;
        Ok((strategy_name, CustomTopology { name, prune, local_nodes, strategy }, guard))
    };
    topologies.into_iter().map(build).collect()
}
