//! The strategies there are, each with its one table of keys, and how one is made from its settings.

use std::sync::Arc;

use metacluster_types::Pattern;
use tokio::time::Duration;

use crate::{
    Fault, Feed, Settings, Strategy, Value, aws, consul, dns, epmd, etcd, exec,
    feed::Work,
    file, fixed, gossip, kubernetes, launch_data, mdns,
    naming::{BASENAME, Gives, HOST_KEYS},
    rancher,
    settings::{Key, Reader, nearest},
    sql,
};

/// One strategy, as help, reference and parser see it.
#[derive(Clone, Copy, Debug)]
pub struct StrategyInfo {
    /// The name in a configuration.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Whether it finds nodes or hosts.
    pub gives: Gives,
    /// Its own keys; [`StrategyInfo::all_keys`] has those that come on top.
    pub keys: &'static [Key],
    /// Makes one from settings that the table has read.
    make: fn(&mut Reader<'_>) -> Box<dyn Strategy>,
}

impl StrategyInfo {
    /// Its own keys, then [`BASENAME`], then [`HOST_KEYS`] if it finds hosts. A key of its own goes before a common one of
    /// the same name. The keys of [`settings::COMMON`](crate::settings::COMMON) come on top.
    #[must_use]
    pub fn all_keys(&self) -> Vec<Key> {
        let mut keys = self.keys.to_vec();
        let common = if self.gives.hosts() { HOST_KEYS } else { &[] };
        let common = [BASENAME].into_iter().chain(common.iter().copied());
        keys.extend(common.filter(|key| !self.keys.iter().any(|own| own.name == key.name)));
        keys
    }
}

static STRATEGIES: &[StrategyInfo] = &[
    StrategyInfo {
        name: "static",
        summary: "A fixed list of nodes",
        gives: Gives::Names,
        keys: fixed::KEYS,
        make: fixed::make,
    },
    StrategyInfo {
        name: "epmd",
        summary: "Given nodes, and the nodes of given hosts, as their epmds know them",
        gives: Gives::Names,
        keys: epmd::GIVEN_KEYS,
        make: epmd::make_given,
    },
    StrategyInfo {
        name: "local-epmd",
        summary: "The nodes of this host, as its epmd knows them",
        gives: Gives::Names,
        keys: epmd::LOCAL_KEYS,
        make: epmd::make_local,
    },
    StrategyInfo {
        name: "erlang-hosts",
        summary: "The nodes of the hosts of a .hosts.erlang, as their epmds know them",
        gives: Gives::Names,
        keys: epmd::HOSTS_KEYS,
        make: epmd::make_hosts,
    },
    StrategyInfo {
        name: "gossip",
        summary: "Heartbeats by multicast or broadcast, compatible with libcluster's",
        gives: Gives::Names,
        keys: gossip::KEYS,
        make: gossip::make,
    },
    StrategyInfo {
        name: "dns",
        summary: "The hosts that A, AAAA and SRV records name",
        gives: Gives::Hosts,
        keys: dns::KEYS,
        make: dns::make,
    },
    StrategyInfo {
        name: "kubernetes",
        summary: "The endpoints of a service, or pods, as the Kubernetes API tells them",
        gives: Gives::Hosts,
        keys: kubernetes::KEYS,
        make: kubernetes::make,
    },
    StrategyInfo {
        name: "ec2",
        summary: "The instances of an AWS account, by tag, security group or Auto Scaling group",
        gives: Gives::Hosts,
        keys: aws::ec2::KEYS,
        make: aws::ec2::make,
    },
    StrategyInfo {
        name: "ecs",
        summary: "The tasks of an AWS ECS cluster, by service or family",
        gives: Gives::Hosts,
        keys: aws::ecs::KEYS,
        make: aws::ecs::make,
    },
    StrategyInfo {
        name: "launch-data",
        summary: "Seeds that were given at launch: user data, environment, file or kernel command line",
        gives: Gives::Hosts,
        keys: launch_data::KEYS,
        make: launch_data::make,
    },
    StrategyInfo {
        name: "sql",
        summary: "The peers that a database knows: PostgreSQL, or a file of SQLite",
        gives: sql::GIVES,
        keys: sql::KEYS,
        make: sql::make,
    },
    StrategyInfo {
        name: "etcd",
        summary: "The peers below a prefix of etcd's keys",
        gives: etcd::GIVES,
        keys: etcd::KEYS,
        make: etcd::make,
    },
    StrategyInfo {
        name: "consul",
        summary: "The instances of a service that Consul knows",
        gives: consul::GIVES,
        keys: consul::KEYS,
        make: consul::make,
    },
    StrategyInfo {
        name: "rancher",
        summary: "The containers of a service, by the metadata of Rancher 1.x",
        gives: rancher::GIVES,
        keys: rancher::KEYS,
        make: rancher::make,
    },
    StrategyInfo {
        name: "file",
        summary: "The nodes and hosts that a file lists, watched",
        gives: Gives::Both,
        keys: file::KEYS,
        make: file::make,
    },
    StrategyInfo {
        name: "exec",
        summary: "The nodes and hosts that a program prints",
        gives: Gives::Both,
        keys: exec::KEYS,
        make: exec::make,
    },
    StrategyInfo {
        name: "mdns",
        summary: "Agents on the same link, by multicast DNS",
        gives: Gives::Names,
        keys: mdns::KEYS,
        make: mdns::make,
    },
];

/// Every strategy, in the order of the documentation.
#[must_use]
pub fn strategies() -> &'static [StrategyInfo] {
    STRATEGIES
}

/// Makes a strategy. Keys that the agent reads ([`settings::COMMON`](crate::settings::COMMON)) may be among the
/// settings and change nothing here.
///
/// # Errors
/// Every fault of the settings at once. Nothing is bound, dialled or started.
pub fn build(strategy: &str, settings: &Settings) -> Result<Box<dyn Strategy>, Vec<Fault>> {
    let Some(info) = strategies().iter().find(|info| info.name == strategy) else {
        let names = strategies().iter().map(|info| info.name);
        return Err(vec![Fault::new("strategy", &unknown_strategy(strategy, names))]);
    };
    let mut reader = Reader::new(&[&info.all_keys()], settings);
    let inner: Arc<dyn Strategy> = Arc::from((info.make)(&mut reader));
    // Where hosts are found, the naming has applied it already.
    let basename = if info.gives.hosts() { Vec::new() } else { reader.patterns("basename") };
    reader.finish()?;
    Ok(Box::new(Filtered { inner, basename: basename.into() }))
}

/// Sets a key that the surroundings know better than the table, such as `epmd_port` in an agent that has one of its own:
/// nothing happens when the key is given already or the strategy has none of that name.
pub fn set_default(strategy: &str, settings: &mut Settings, key: &str, value: Value) {
    let known = strategies().iter().any(|info| info.name == strategy && info.keys.iter().any(|own| own.name == key));
    if known {
        settings.entry(key.to_owned()).or_insert(value);
    }
}

fn unknown_strategy<'a>(given: &str, names: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(given, names.clone()) {
        Some(name) => format!("there is no strategy `{given}`; did you mean `{name}`?"),
        None => format!("there is no strategy `{given}`; there are {}", names.collect::<Vec<_>>().join(", ")),
    }
}

/// A strategy whose candidates pass the topology's `basename`, if it names them itself.
struct Filtered {
    inner: Arc<dyn Strategy>,
    basename: Arc<[Pattern]>,
}

impl Strategy for Filtered {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Arc::clone(&self.inner).run(feed.with_basename(Arc::clone(&self.basename)))
    }

    fn listens(&self) -> Option<Duration> {
        self.inner.listens()
    }
}
