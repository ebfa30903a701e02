//! The configuration: read with the origin of every value, then validated as a whole into [`Config`].
//!
//! Nothing binds or dials before that succeeds, and every fault is reported at once as `file:line: message`. One table
//! (`keys`) makes the parser, the names of the environment variables, the reference and the tests. A flag wins over the
//! environment, which wins over the file, which wins over the default (docs/contracts.md, Configuration).

mod cookie;
mod distribution;
mod environment;
mod fault;
mod federation;
mod handler;
mod keys;
mod membership;
mod raw;
#[cfg(test)]
mod tests;
mod topology;
mod validate;
mod values;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use metacluster_discovery::{Settings, settings::COMMON, spec::Spec};
use metacluster_erl::{Tls, epmd::Network};
use metacluster_federation::{ExportRule, Limits, cells::Rules};
use metacluster_formation::Guard;
use metacluster_types::{
    ClusterName, Cookie, Event, EventKind, NodeName, Pattern, Place, Role, Said, Tags, TopologyName,
};

pub use environment::Environment;
pub use fault::{Fault, Faults};
pub use keys::reference_markdown;
pub use membership::{Encryption, MembershipConfig, MembershipProfile};

use cookie::read_bounded;

/// A configuration in which everything is valid. It has no `Debug`, since it holds the cookie.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// The cluster of this host.
    pub cluster: ClusterName,
    /// Where this host is. The zone is always known: `local` when nothing else is said.
    pub place: Place,
    /// Whether the zone was said, and not made up.
    pub zone_said: bool,
    /// What this host is for.
    pub roles: BTreeSet<Role>,
    /// Labels of this host.
    pub tags: Tags,
    /// The cookie of the local nodes.
    pub cookie: Cookie,
    /// Where the agent keeps its id and its socket. It need not exist yet.
    pub state_dir: PathBuf,
    /// The part before `@` of the agent's own node.
    pub node_name: String,
    /// The part after `@` of the agent's own node; learned from the local nodes when it is not said.
    pub host: Option<String>,
    /// Where the agent's own node takes connections of BEAM nodes; without it, on a free port and from this host only.
    pub listen: Option<SocketAddr>,
    /// TLS with the BEAM nodes, ready for use; plain distribution without.
    pub distribution: Option<Tls>,
    /// Which local nodes are ours; all that take the cookie when empty.
    pub nodes: Vec<Pattern>,
    /// The topologies, in the order of the file. Their names differ.
    pub topologies: Vec<TopologyConfig>,
    /// The epmd of this host.
    pub epmd: EpmdConfig,
    /// When this host counts as clustered.
    pub readiness: ReadinessConfig,
    /// Commands to run on events.
    pub handlers: Vec<HandlerConfig>,
    /// What makes this agent a gateway to other clusters, if it is one.
    pub federation: Option<FederationConfig>,
    /// Where the API listens.
    pub api: ApiConfig,
    /// What divides the nodes into meshes of their own, if anything does.
    pub cells: Option<Rules>,
    /// How many gateways a cell has.
    pub cell_gateways: usize,
    /// How agents find and judge one another.
    pub membership: MembershipConfig,
    /// How many events are kept.
    pub events_keep: usize,
    /// What is logged.
    pub log_level: LogLevel,
    /// What is no fault, and still worth a line in the log.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads and validates a file.
    ///
    /// # Errors
    /// Every fault of the file, the environment and the flags at once. The syntax of the file comes first: where it is
    /// wrong, that alone is reported. Nothing was bound, dialled or started; only the files of the cookie and of
    /// `[distribution]` were read.
    pub fn load(path: &Path, environment: &Environment) -> Result<Self, Faults> {
        match raw::read(path) {
            Ok(file) => validate::validate(file, validate::Topologies::File, environment),
            Err(fault) => Err(Faults::one(fault)),
        }
    }

    /// The configuration without a file: the defaults, the environment, the flags, and these topologies. Where none is
    /// given, `gossip` and `local-epmd`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn embedded(topologies: Vec<Spec>, environment: &Environment) -> Result<Self, Faults> {
        let given = validate::Topologies::Given(topology::from_specs(topologies));
        validate::validate(raw::RawTable::new(), given, environment)
    }
}

/// One topology.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct TopologyConfig {
    /// Its name.
    pub name: TopologyName,
    /// The strategy, which exists.
    pub strategy: String,
    /// Whether a peer that leaves the source is dropped.
    pub prune: bool,
    /// The local nodes that it is for; all that are ours when empty.
    pub local_nodes: Vec<Pattern>,
    /// When its answers are doubted.
    pub guard: Guard,
    /// What the strategy takes: [`metacluster_discovery::build`] accepts it.
    pub settings: Settings,
}

impl TopologyConfig {
    /// One topology as the command line and the API have it.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn from_spec(spec: Spec) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let mut topologies = topology::validate(topology::from_specs(vec![spec]), &mut faults);
        Faults::check(faults)?;
        topologies.pop().ok_or_else(|| Faults::one(Fault::new(&fault::Origin::Default, "no topology")))
    }

    /// Whether both find the same peers in the same way, whatever the agent makes of them.
    pub(crate) fn same_source(&self, other: &Self) -> bool {
        let own = |config: &Self| -> Settings {
            let common = |key: &str| COMMON.iter().any(|common| common.name == key);
            config
                .settings
                .iter()
                .filter(|(key, _)| !common(key))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        };
        self.strategy == other.strategy && own(self) == own(other)
    }
}

impl Config {
    /// The keys and sections, but for the topologies, in which another configuration differs. They take effect with a
    /// restart.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let log = |config: &Self| config.log_level as u8;
        let options = |config: &Self| config.distribution.as_ref().map(|tls| tls.options().clone());
        [
            ("cluster", self.cluster != other.cluster),
            ("zone or region", self.place != other.place),
            ("roles", self.roles != other.roles),
            ("tags", self.tags != other.tags),
            ("the cookie", self.cookie.reveal() != other.cookie.reveal()),
            ("state_dir", self.state_dir != other.state_dir),
            ("node_name", self.node_name != other.node_name),
            ("host", self.host != other.host),
            ("listen", self.listen != other.listen),
            ("distribution", options(self) != options(other)),
            ("nodes", self.nodes != other.nodes),
            ("epmd", self.epmd != other.epmd),
            ("readiness", self.readiness != other.readiness),
            ("handler", self.handlers != other.handlers),
            ("cells", (&self.cells, self.cell_gateways) != (&other.cells, other.cell_gateways)),
            ("federation", self.federation != other.federation),
            ("api", self.api != other.api),
            ("events", self.events_keep != other.events_keep),
            ("membership", !self.membership.same(&other.membership)),
            ("log", log(self) != log(other)),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }
}

/// Who is the epmd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpmdMode {
    /// The agent when the port is free, else the one that runs.
    Auto,
    /// The agent; it is an error when it cannot be.
    Own,
    /// The one that runs.
    External,
}

/// The epmd of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EpmdConfig {
    /// Who is it.
    pub mode: EpmdMode,
    /// Its port.
    pub port: u16,
    /// Where it listens when the agent is it; every address when empty, as the stock epmd.
    pub addresses: Vec<IpAddr>,
    /// Which networks of other hosts may ask it who is registered when the agent is it; everybody when empty, as the
    /// stock epmd.
    pub allow: Vec<Network>,
    /// How often an epmd of another is asked; at least a second.
    pub poll_interval: Duration,
}

/// When this host counts as clustered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadinessConfig {
    /// How many nodes must be up, those of this host included.
    pub nodes_min: usize,
    /// Peers that must be up.
    pub mandatory: Vec<NodeName>,
    /// How long a start may take before the agent says that it is not formed.
    pub timeout: Duration,
}

/// A command to run on events.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerConfig {
    /// The kinds of events that it is for.
    pub on: BTreeSet<EventKind>,
    /// The user events and queries that it is for, by name. Not empty where `on` is.
    pub named: Vec<(EventKind, Pattern)>,
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
    /// How many may run at once; at least one.
    pub at_most: usize,
    /// How long one may run.
    pub timeout: Duration,
}

impl HandlerConfig {
    /// Whether it is for this event.
    #[must_use]
    pub fn wants(&self, event: &Event) -> bool {
        let named = |said: &Said| self.wants_named(event.event, &said.name);
        self.on.contains(&event.event) || event.subject.said.as_ref().is_some_and(named)
    }

    /// Whether it is for a user event, or a query, of this name.
    #[must_use]
    pub fn wants_named(&self, kind: EventKind, name: &str) -> bool {
        self.on.contains(&kind) || self.named.iter().any(|(of, pattern)| *of == kind && pattern.matches(name))
    }
}

/// A gateway to other clusters.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct FederationConfig {
    /// Where it takes links.
    pub listen: Option<SocketAddr>,
    /// Whom it dials: addresses or names, with ports.
    pub peers: Vec<String>,
    /// Whether links are compressed to gateways that want it, too.
    pub compress: bool,
    /// The file with its certificate and key.
    pub identity: PathBuf,
    /// The files with the certificates of the clusters that it trusts; never empty.
    pub trust: Vec<PathBuf>,
    /// What finds others that it dials.
    pub topologies: Vec<TopologyConfig>,
    /// Which groups it lets out.
    pub exports: Vec<ExportRule>,
    /// Its bounds, among them what one gateway of another cluster may bring.
    pub limits: Limits,
}

/// Where the API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApiConfig {
    /// The Unix socket.
    pub socket: PathBuf,
    /// The loopback HTTP; none when it is off.
    pub http: Option<HttpConfig>,
}

/// The loopback HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpConfig {
    /// Where it listens: a loopback address. Port 0 lets the system choose.
    pub address: SocketAddr,
    /// Whether somebody asked for this address. If nobody did, a taken port is a warning and no error.
    pub explicit: bool,
}

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what went wrong.
    Error,
    /// And what may go wrong.
    Warn,
    /// And what changed.
    Info,
    /// And why.
    Debug,
    /// And every step.
    Trace,
}
