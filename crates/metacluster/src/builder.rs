//! Says what a cluster is to be. Each call is a key of the agent's configuration; nothing happens before `start`.

use std::{collections::BTreeMap, path::Path};

use metacluster_agent::{
    config::{Config, Environment},
    core::{Agent, CustomTopology},
};
use metacluster_discovery::{Strategy, spec::Spec};
use metacluster_types::{Cookie, TopologyName};

use crate::{Cluster, StartError};

/// What a cluster is to be. See [`Cluster::builder`].
#[must_use = "nothing happens before `start`"]
pub struct Builder {
    /// Key of the configuration to the call that set it, and the value.
    keys: BTreeMap<&'static str, (String, String)>,
    cookie: Option<Cookie>,
    topologies: Vec<String>,
    custom: Vec<Custom>,
}

struct Custom {
    name: String,
    prune: bool,
    strategy: Box<dyn Strategy>,
}

impl Builder {
    /// No HTTP unless asked for, since a library should listen where nobody looks as little as it can.
    pub(crate) fn new() -> Self {
        let builder = Self { keys: BTreeMap::new(), cookie: None, topologies: Vec::new(), custom: Vec::new() };
        builder.set_as("http", "api.http", "off")
    }

    fn set_as(mut self, call: &str, key: &'static str, value: &str) -> Self {
        self.keys.insert(key, (format!("Builder::{call}"), value.to_owned()));
        self
    }

    /// Sets any key of the agent's configuration, such as `readiness.nodes_min`. Lists are joined by commas. What is not
    /// set comes from the variables `METACLUSTER_…`, else it is the default.
    pub fn set(self, key: &'static str, value: &str) -> Self {
        self.set_as(&format!("set(\"{key}\")"), key, value)
    }

    /// The name of the cluster. Default `main`.
    pub fn cluster(self, name: &str) -> Self {
        self.set_as("cluster", "cluster", name)
    }

    /// The cookie of the nodes. Default: that of `~/.erlang.cookie`.
    pub fn cookie(mut self, cookie: Cookie) -> Self {
        self.cookie = Some(cookie);
        self
    }

    /// The availability zone of this host. Default `local`.
    pub fn zone(self, zone: &str) -> Self {
        self.set_as("zone", "zone", zone)
    }

    /// The region of this host. Default none.
    pub fn region(self, region: &str) -> Self {
        self.set_as("region", "region", region)
    }

    /// The folder of the id and the socket; two clusters never share one. Default: as the agent's.
    pub fn state_dir(self, folder: &Path) -> Self {
        self.set_as("state_dir", "state_dir", &folder.to_string_lossy())
    }

    /// Which nodes of this host take part: patterns, joined by commas. Default: all that take the cookie.
    pub fn nodes(self, patterns: &str) -> Self {
        self.set_as("nodes", "nodes.names", patterns)
    }

    /// The port of epmd. Default: `ERL_EPMD_PORT`, else 4369.
    pub fn epmd_port(self, port: u16) -> Self {
        self.set_as("epmd_port", "epmd.port", &port.to_string())
    }

    /// The loopback address of the HTTP API and the dashboard. Default: none.
    pub fn http(self, address: &str) -> Self {
        self.set_as("http", "api.http", address)
    }

    /// Adds a topology in one line, such as `gossip:secret=s3` or `static:nodes=a@h1,b@h2`. Without any topology there
    /// are `gossip` and `local-epmd`.
    pub fn topology(mut self, spec: &str) -> Self {
        self.topologies.push(spec.to_owned());
        self
    }

    /// Adds a topology whose peers a strategy of the program's own finds. A peer that leaves its source keeps its
    /// links.
    pub fn strategy(mut self, name: &str, strategy: impl Strategy) -> Self {
        self.custom.push(Custom { name: name.to_owned(), prune: false, strategy: Box::new(strategy) });
        self
    }

    /// Adds a topology as [`Builder::strategy`], but a peer that leaves its source is disconnected.
    pub fn strategy_that_prunes(mut self, name: &str, strategy: impl Strategy) -> Self {
        self.custom.push(Custom { name: name.to_owned(), prune: true, strategy: Box::new(strategy) });
        self
    }

    /// Starts. Returns when everything runs; the cluster forms from then on.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When settings are wrong, or something that they ask for cannot be had. Then nothing runs.
    pub async fn start(self) -> Result<Cluster, StartError> {
        let mut environment = Environment::capture();
        for (key, (call, value)) in &self.keys {
            environment = environment.with_flag(call, key, value);
        }
        if let Some(cookie) = &self.cookie {
            environment = environment.with_variable("METACLUSTER_COOKIE", cookie.reveal());
        }
        let specs = self.topologies.iter().map(|text| text.parse()).collect::<Result<Vec<Spec>, _>>();
        let mut config =
            Config::embedded(specs.map_err(StartError::Topology)?, &environment).map_err(StartError::Settings)?;
        if self.topologies.is_empty() && !self.custom.is_empty() {
            // The defaults are for who has nothing.
            config.topologies.clear();
        }
        let mut custom = Vec::new();
        for Custom { name, prune, strategy } in self.custom {
            let name = TopologyName::new(&name).map_err(|error| StartError::Topology(error.to_string()))?;
            let listed = config.topologies.iter().map(|topology| &topology.name);
            if listed.chain(custom.iter().map(|topology: &CustomTopology| &topology.name)).any(|taken| *taken == name) {
                return Err(StartError::Topology(format!("another topology is called `{name}`")));
            }
            custom.push(CustomTopology { name, prune, local_nodes: Vec::new(), strategy });
        }
        Ok(Cluster::new(Agent::start_with(config, custom).await?))
    }
}
