//! The epmd of this host: the agent itself when the port is free, else the one that runs.
//!
//! As its own epmd the agent learns of a registration in the same instant; another one is asked once per poll
//! interval. A look-up that fails changes nothing: what is registered stays as it was last heard. In `auto` mode the
//! agent takes over when the other epmd dies; the nodes register again by themselves, within two seconds (facts of
//! `erl_epmd`: it reconnects every 2 s).

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use metacluster_erl::epmd::{
    BindError, client, raise_descriptor_limit,
    server::{Server, ServerOptions},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use crate::{
    config::{EpmdConfig, EpmdMode},
    view::{EpmdState, EpmdView},
};

/// The registered names and their ports.
pub(crate) type Registered = Arc<BTreeMap<String, u16>>;

/// How long a start waits for the epmd that runs.
const FIRST_LOOK: Duration = Duration::from_millis(500);

/// Why there is no epmd of our own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EpmdError {
    /// The port is taken, and the configuration wants the agent to be the epmd. Nothing was started.
    #[error(
        "epmd: port {port} is in use; stop the epmd that runs (epmd -kill), or set [epmd] mode = \"auto\" to work with it"
    )]
    Taken {
        /// The port.
        port: u16,
    },
    /// The addresses cannot be listened on. Nothing was started.
    #[error("epmd: {error}; check [epmd] addresses and port")]
    Listen {
        /// What the system said.
        error: BindError,
    },
}

/// What runs, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Epmd {
    /// The names, as they change.
    pub(crate) registered: watch::Receiver<Registered>,
    /// Whose it is, as that changes.
    pub(crate) view: watch::Receiver<EpmdView>,
    task: JoinHandle<()>,
}

impl Drop for Epmd {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Epmd {
    /// Binds, or begins to ask.
    pub(crate) async fn start(config: EpmdConfig) -> Result<Self, EpmdError> {
        let own = match config.mode {
            EpmdMode::External => None,
            EpmdMode::Auto | EpmdMode::Own => match bind(&config).await {
                Ok(server) => Some(server),
                Err(BindError::InUse(_)) if config.mode == EpmdMode::Auto => None,
                Err(BindError::InUse(_)) => return Err(EpmdError::Taken { port: config.port }),
                Err(error) => return Err(EpmdError::Listen { error }),
            },
        };
        let mut state = if own.is_some() { EpmdState::Own } else { EpmdState::None };
        let mut known = Registered::default();
        // So that the first thing that the agent says of an epmd that runs is true.
        if own.is_none()
            && let Ok(Ok(names)) = timeout(FIRST_LOOK, client::names(address(config.port))).await
        {
            state = EpmdState::External;
            known = Arc::new(names.into_iter().collect());
        }
        let (registered_in, registered) = watch::channel(known);
        let (view_in, view) = watch::channel(EpmdView { state, port: config.port, error: None });
        let keeper = Keeper { config, registered: registered_in, view: view_in };
        Ok(Self { registered, view, task: tokio::spawn(keeper.keep(own)) })
    }
}

struct Keeper {
    config: EpmdConfig,
    registered: watch::Sender<Registered>,
    view: watch::Sender<EpmdView>,
}

impl Keeper {
    async fn keep(self, mut own: Option<Server>) {
        loop {
            if let Some(server) = own.take() {
                info!("epmd: this agent is the epmd of this host (port {})", self.config.port);
                self.tell(EpmdState::Own, None);
                self.serve(server).await;
            }
            own = self.ask().await;
        }
    }

    /// Passes on what our own server knows, for as long as it runs.
    async fn serve(&self, server: Server) {
        let mut names = server.watch();
        loop {
            let now: BTreeMap<String, u16> =
                names.borrow_and_update().iter().map(|(name, entry)| (name.to_owned(), entry.port)).collect();
            self.publish(now);
            if names.changed().await.is_err() {
                warn!("epmd: our server ended; taking it up again");
                return;
            }
        }
    }

    /// Asks another epmd until it is gone and its place can be taken.
    async fn ask(&self) -> Option<Server> {
        let address = address(self.config.port);
        let interval = self.config.poll_interval;
        let asked = self.view.borrow().state == EpmdState::External;
        let first = Instant::now() + if asked { interval } else { Duration::ZERO };
        let mut turn = tokio::time::interval_at(first, interval);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            turn.tick().await;
            match client::names(address).await {
                Ok(names) => {
                    if failing || self.view.borrow().state != EpmdState::External {
                        info!("epmd: working with the epmd on port {}", self.config.port);
                    }
                    failing = false;
                    self.tell(EpmdState::External, None);
                    self.publish(names.into_iter().collect());
                }
                Err(error) => {
                    if self.config.mode != EpmdMode::External
                        && let Ok(server) = bind(&self.config).await
                    {
                        return Some(server);
                    }
                    if !failing {
                        warn!("epmd: {error}; local nodes that are known stay, new ones are found when it answers");
                    }
                    failing = true;
                    self.tell(EpmdState::None, Some(error.to_string()));
                }
            }
        }
    }

    fn tell(&self, state: EpmdState, error: Option<String>) {
        let view = EpmdView { state, port: self.config.port, error };
        self.view.send_if_modified(|now| {
            let changed = *now != view;
            *now = view;
            changed
        });
    }

    fn publish(&self, names: BTreeMap<String, u16>) {
        self.registered.send_if_modified(|now| {
            let changed = **now != names;
            if changed {
                *now = Arc::new(names);
            }
            changed
        });
    }
}

/// Where the nodes of this host register.
fn address(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

async fn bind(config: &EpmdConfig) -> Result<Server, BindError> {
    let mut addresses = config.addresses.clone();
    if addresses.is_empty() {
        addresses = vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    } else if !addresses.iter().any(IpAddr::is_loopback) {
        // The nodes of this host register over loopback, whatever address peers use.
        addresses.push(Ipv4Addr::LOCALHOST.into());
    }
    let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, config.port)).collect();
    if let Err(error) = raise_descriptor_limit() {
        warn!("epmd: the limit of descriptors, one for each node, stays as it is: {error}");
    }
    let options = ServerOptions { allow: config.allow.clone(), ..ServerOptions::new(addresses) };
    Server::bind(options).await
}
