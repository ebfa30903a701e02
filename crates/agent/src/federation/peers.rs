//! Whom this gateway dials: those of the configuration, those that topologies find, and the gateways of other cells.
//!
//! Each source says all that it knows, anew whenever that changes, and each address is dialled by a task of its own for as
//! long as some source says it. What no source says any more is not dialled again; a link that is up stays until it ends
//! by itself, since a look-up that went wrong is no reason to part from a gateway that lives.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use metacluster_discovery::{Local, Running, Value, build, set_default, spawn};
use metacluster_types::{SourceUpdate, TopologyName};
use rand::RngExt as _;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tracing::{info, warn};

use super::{hub::Hub, links, tls::Identity};
use crate::{
    config::TopologyConfig,
    members::{Seed, Sources},
};

/// The port of gateways when nothing else is said.
pub(super) const PORT: u16 = 4391;
/// So many addresses are dialled; what is beyond waits for others to go. Above the gateways that the machine keeps.
const PEERS_MAX: usize = 256;
/// Answers of topologies that wait.
const QUEUE: usize = 64;

/// See the module.
pub(super) struct Peers {
    hub: Arc<Hub>,
    identity: Arc<Identity>,
    /// Whether each address is still to be dialled.
    dialled: BTreeMap<String, watch::Sender<bool>>,
    tasks: JoinSet<()>,
    full: bool,
}

impl Peers {
    pub(super) fn new(hub: Arc<Hub>, identity: Arc<Identity>) -> Self {
        Self { hub, identity, dialled: BTreeMap::new(), tasks: JoinSet::new(), full: false }
    }

    /// These are to be dialled, and no others.
    fn want(&mut self, wanted: &BTreeSet<String>) {
        while self.tasks.try_join_next().is_some() {}
        for (address, dialled) in &self.dialled {
            let before = dialled.send_replace(wanted.contains(address));
            if before && !wanted.contains(address) {
                info!("federation: {address} is not dialled any more");
            }
        }
        // Those whose task has ended: it keeps the other end of the channel.
        self.dialled.retain(|_, dialled| dialled.receiver_count() > 0);
        for address in wanted {
            if self.dialled.contains_key(address) {
                continue;
            }
            if self.dialled.len() >= PEERS_MAX {
                if !std::mem::replace(&mut self.full, true) {
                    warn!("federation: more than {PEERS_MAX} gateways; the rest is left out");
                }
                return;
            }
            let (on_in, on) = watch::channel(true);
            self.dialled.insert(address.clone(), on_in);
            let jitter = rand::rng().random_range(0.8..1.2);
            let (hub, identity) = (Arc::clone(&self.hub), Arc::clone(&self.identity));
            self.tasks.spawn(links::dial(hub, identity, address.clone(), jitter, on));
        }
        self.full = false;
    }

    /// Dials those that are given, found and of other cells until it is aborted.
    pub(super) async fn keep(
        mut self,
        given: Vec<String>,
        topologies: Vec<TopologyConfig>,
        local: watch::Receiver<Local>,
        mut cells: watch::Receiver<BTreeSet<String>>,
        epmd_port: u16,
    ) {
        let (updates_in, mut updates) = mpsc::channel::<(TopologyName, SourceUpdate)>(QUEUE);
        let running: Vec<Running> =
            topologies.into_iter().filter_map(|topology| begin(topology, &local, &updates_in, epmd_port)).collect();
        let mut sources = Sources::default();
        let mut failing = BTreeSet::new();
        let mut told = true;
        loop {
            if told {
                let mut wanted: BTreeSet<String> = given.iter().cloned().collect();
                wanted.extend(sources.seeds(PORT).into_iter().map(|seed| match seed {
                    Seed::Address(address) => address.to_string(),
                    Seed::Name(name, port) => format!("{name}:{port}"),
                }));
                wanted.extend(cells.borrow_and_update().iter().cloned());
                self.want(&wanted);
            }
            told = tokio::select! {
                Some((topology, update)) = updates.recv() => {
                    note(&topology, &update, &mut failing);
                    sources.update(&topology, &update)
                }
                Ok(()) = cells.changed() => true,
                else => break,
            };
        }
        drop(running);
        while self.tasks.join_next().await.is_some() {}
    }
}

fn begin(
    mut topology: TopologyConfig,
    local: &watch::Receiver<Local>,
    updates: &mpsc::Sender<(TopologyName, SourceUpdate)>,
    epmd_port: u16,
) -> Option<Running> {
    set_default(&topology.strategy, &mut topology.settings, "epmd_port", Value::Integer(epmd_port.into()));
    match build(&topology.strategy, &topology.settings) {
        Ok(strategy) => Some(spawn(topology.name, strategy, local.clone(), updates.clone())),
        // The configuration was validated, so only its surroundings can be to blame.
        Err(faults) => {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            warn!("federation: topology {}: {}", topology.name, faults.join("; "));
            None
        }
    }
}

/// One line when a look-up begins to fail, and one when it is over.
fn note(topology: &TopologyName, update: &SourceUpdate, failing: &mut BTreeSet<TopologyName>) {
    match update {
        SourceUpdate::Failed(error) => {
            if failing.insert(topology.clone()) {
                warn!("federation: topology {topology}: {error}; what it found before stays");
            }
        }
        SourceUpdate::Notes(_) => {}
        SourceUpdate::Snapshot(_) | SourceUpdate::Hosts(_) | SourceUpdate::Found(_) | SourceUpdate::Lost(_) => {
            if failing.remove(topology) {
                info!("federation: topology {topology}: answers again");
            }
        }
    }
}
