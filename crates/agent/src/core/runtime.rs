//! Topologies that come, change and go while the agent runs.
//!
//! A topology that changes is stopped and begins anew: its candidates are forgotten until its source names them again,
//! and no link goes for it, since formation never drops a link for the sake of an operator's change. One of which only
//! the rules change goes on. No other topology notices. An old strategy that does not end in time is cut off, apart from
//! the driver.

use std::collections::BTreeMap;

use metacluster_discovery::{Running, spawn};
use metacluster_formation::{Guard, Input, TopologyRules};
use metacluster_types::{SourceUpdate, TopologyName};
use tokio::{sync::mpsc, task::JoinSet};
use tracing::info;

use super::{CustomTopology, built, driver::Driver, peers};
use crate::config::TopologyConfig;

/// A change that an operator asks for.
pub(crate) enum Change {
    /// There is this topology from now on, new or in place of the one of its name.
    Put(Box<TopologyConfig>),
    /// There is no topology of this name any more.
    Remove(TopologyName),
}

/// Why a change was refused. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no topology of this name.
    #[error("there is no topology `{0}`")]
    Unknown(TopologyName),
    /// The name is that of the built-in topology.
    #[error("the topology `{0}` is built in: switch it off with membership.candidates = false")]
    BuiltIn(TopologyName),
    /// What the topology asks for cannot be had.
    #[error("topology `{name}`: {reason}")]
    Refused {
        /// The topology.
        name: TopologyName,
        /// What is wrong.
        reason: String,
    },
    /// The agent ends.
    #[error("the agent is stopping")]
    Stopping,
}

/// The topologies that run.
pub(super) struct Topologies {
    running: BTreeMap<TopologyName, Running>,
    /// Those of the configuration and of operators; a program's own have no configuration.
    configs: BTreeMap<TopologyName, TopologyConfig>,
    updates: mpsc::Sender<(TopologyName, SourceUpdate)>,
    ending: JoinSet<()>,
}

impl Topologies {
    pub(super) fn new(
        configs: impl IntoIterator<Item = TopologyConfig>,
        updates: mpsc::Sender<(TopologyName, SourceUpdate)>,
    ) -> Self {
        let configs = configs.into_iter().map(|config| (config.name.clone(), config)).collect();
        Self { running: BTreeMap::new(), configs, updates, ending: JoinSet::new() }
    }

    /// All of them, to be stopped.
    pub(super) async fn stop(&mut self) {
        for (_, running) in std::mem::take(&mut self.running) {
            running.stop().await;
        }
        while self.ending.join_next().await.is_some() {}
    }
}

/// What formation is told of a topology.
pub(super) fn rules(topology: &CustomTopology, guard: Guard) -> TopologyRules {
    TopologyRules { prune: topology.prune, nodes: topology.local_nodes.clone(), guard }
}

impl Driver {
    /// Begins a topology.
    pub(super) fn begin_topology(&mut self, strategy: &str, topology: CustomTopology, guard: Guard) {
        self.shown.add_topology(&topology.name, strategy, topology.prune);
        let rules = rules(&topology, guard);
        self.input(Input::TopologyAdded { name: topology.name.clone(), rules });
        let CustomTopology { name, strategy, .. } = topology;
        let running = spawn(name.clone(), strategy, self.announce.subscribe(), self.topologies.updates.clone());
        self.topologies.running.insert(name, running);
    }

    fn end_topology(&mut self, name: &TopologyName) {
        if let Some(running) = self.topologies.running.remove(name) {
            self.topologies.ending.spawn(running.stop());
        }
        while self.topologies.ending.try_join_next().is_some() {}
        self.topologies.configs.remove(name);
        self.peers.source(name, &SourceUpdate::Hosts(Vec::new()));
        self.input(Input::TopologyRemoved { name: name.clone() });
        self.shown.remove_topology(name);
    }

    pub(super) fn change_topology(&mut self, change: Change) -> Result<(), ChangeError> {
        match change {
            Change::Put(config) => self.put_topology(*config),
            Change::Remove(name) if name.as_str() == peers::MEMBERS => Err(ChangeError::BuiltIn(name)),
            Change::Remove(name) if !self.topologies.running.contains_key(&name) => Err(ChangeError::Unknown(name)),
            Change::Remove(name) => {
                self.end_topology(&name);
                info!("topology {name} is removed; links to what it found stay");
                Ok(())
            }
        }
    }

    fn put_topology(&mut self, config: TopologyConfig) -> Result<(), ChangeError> {
        let name = config.name.clone();
        if name.as_str() == peers::MEMBERS {
            return Err(ChangeError::BuiltIn(name));
        }
        let known = self.topologies.configs.get(&name);
        if known == Some(&config) {
            return Ok(());
        }
        let refused = |error: super::StartError| ChangeError::Refused { name: name.clone(), reason: error.to_string() };
        let topologies = built(vec![config.clone()], self.epmd_port).map_err(refused)?;
        let same_source = known.is_some_and(|known| known.same_source(&config));
        for (strategy, topology, guard) in topologies {
            if same_source {
                let rules = rules(&topology, guard);
                self.input(Input::TopologyAdded { name: name.clone(), rules });
                self.shown.set_prune(&name, topology.prune);
            } else {
                if self.topologies.running.contains_key(&name) {
                    self.end_topology(&name);
                }
                self.begin_topology(&strategy, topology, guard);
            }
        }
        info!("topology {name} is {}", if same_source { "changed" } else { "begun" });
        self.topologies.configs.insert(name, config);
        Ok(())
    }

    /// Brings the topologies into line with a configuration; says which ones changed. Those that were put through the
    /// API and are in no file go as well: the file says what there is.
    pub(super) fn reload(&mut self, wanted: Vec<TopologyConfig>) -> Vec<Result<TopologyName, ChangeError>> {
        let mut done = Vec::new();
        let gone: Vec<TopologyName> = self
            .topologies
            .configs
            .keys()
            .filter(|name| !wanted.iter().any(|config| config.name == **name))
            .cloned()
            .collect();
        for name in gone {
            done.push(self.change_topology(Change::Remove(name.clone())).map(|()| name));
        }
        for config in wanted {
            if self.topologies.configs.get(&config.name) != Some(&config) {
                let name = config.name.clone();
                done.push(self.put_topology(config).map(|()| name));
            }
        }
        done
    }
}
