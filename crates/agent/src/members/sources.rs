//! Where agents may be, as the topologies say: the hosts that they list and those of their candidates.
//!
//! The core keeps the [`Sources`] as updates come and hands on a copy; the members' task makes of it the seeds that the
//! machine tries, and what providers say has ended. A later answer of a topology replaces the earlier one, so a seed is
//! tried for as long as some topology says it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use metacluster_types::{Host, HostState, NodeName, SourceUpdate, TopologyName};

/// So many hosts, and so many candidates, of one topology are looked at.
const HOSTS_MAX: usize = 4_096;
/// So many addresses of one host are tried.
const ADDRESSES_MAX: usize = 4;

/// What one topology says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Source {
    hosts: Vec<Host>,
    candidates: BTreeMap<NodeName, Reach>,
}

/// Where the agent of a candidate may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reach {
    addresses: Vec<IpAddr>,
    port: Option<u16>,
}

/// What all topologies say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sources(BTreeMap<TopologyName, Arc<Source>>);

/// A host that its provider says has ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Gone {
    /// Its provider's id, if the source told it.
    pub(super) instance: Option<String>,
    /// Where it was, and the port of its agent if the source told it.
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) port: Option<u16>,
}

/// A place to try: an address, or a name that is yet to be resolved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seed {
    Address(SocketAddr),
    Name(String, u16),
}

impl Sources {
    /// Takes in what a topology says. Whether anything changed.
    pub(crate) fn update(&mut self, topology: &TopologyName, update: &SourceUpdate) -> bool {
        let source = self.0.entry(topology.clone()).or_default();
        match update {
            SourceUpdate::Hosts(hosts) => {
                let hosts: Vec<Host> = hosts.iter().take(HOSTS_MAX).cloned().collect();
                let changed = source.hosts != hosts;
                if changed {
                    Arc::make_mut(source).hosts = hosts;
                }
                changed
            }
            SourceUpdate::Snapshot(candidates) => {
                let candidates: BTreeMap<NodeName, Reach> = candidates
                    .iter()
                    .take(HOSTS_MAX)
                    .map(|candidate| (candidate.node.clone(), Reach::of(&candidate.host)))
                    .collect();
                let changed = source.candidates != candidates;
                if changed {
                    Arc::make_mut(source).candidates = candidates;
                }
                changed
            }
            SourceUpdate::Found(candidate) => {
                let reach = Reach::of(&candidate.host);
                let known = source.candidates.get(&candidate.node);
                if known == Some(&reach) || (known.is_none() && source.candidates.len() >= HOSTS_MAX) {
                    return false;
                }
                Arc::make_mut(source).candidates.insert(candidate.node.clone(), reach);
                true
            }
            SourceUpdate::Lost(node) => {
                source.candidates.contains_key(node) && Arc::make_mut(source).candidates.remove(node).is_some()
            }
            SourceUpdate::Failed(_) | SourceUpdate::Notes(_) => false,
        }
    }

    /// Every place where an agent may be. `port` is that of agents of which none is known.
    pub(crate) fn seeds(&self, port: u16) -> BTreeSet<Seed> {
        let mut seeds = BTreeSet::new();
        for source in self.0.values() {
            let hosts = source.hosts.iter().filter(|host| host.state != HostState::Terminated);
            for host in hosts {
                let port = host.port.unwrap_or(port);
                add(&mut seeds, &host.addresses, port);
                if let (true, Some(name)) = (host.addresses.is_empty(), &host.name) {
                    add_name(&mut seeds, name, port);
                }
            }
            for (node, reach) in &source.candidates {
                let port = reach.port.unwrap_or(port);
                add(&mut seeds, &reach.addresses, port);
                if reach.addresses.is_empty() {
                    add_name(&mut seeds, node.host(), port);
                }
            }
        }
        seeds
    }

    /// Every host that a provider says has ended, and that none says is there.
    pub(super) fn gone(&self) -> BTreeSet<Gone> {
        let hosts = || self.0.values().flat_map(|source| &source.hosts);
        let there: BTreeSet<&String> = hosts()
            .filter(|host| host.state != HostState::Terminated)
            .filter_map(|host| host.instance.as_ref())
            .collect();
        hosts()
            .filter(|host| host.state == HostState::Terminated)
            .filter(|host| host.instance.as_ref().is_none_or(|instance| !there.contains(instance)))
            .map(|host| Gone {
                instance: host.instance.clone(),
                addresses: host.addresses.iter().map(IpAddr::to_canonical).collect(),
                port: host.port,
            })
            .collect()
    }
}

impl Reach {
    fn of(host: &Host) -> Self {
        Self { addresses: host.addresses.iter().take(ADDRESSES_MAX).copied().collect(), port: host.port }
    }
}

fn add(seeds: &mut BTreeSet<Seed>, addresses: &[IpAddr], port: u16) {
    let usable = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast();
    for ip in addresses.iter().take(ADDRESSES_MAX).map(IpAddr::to_canonical).filter(usable) {
        seeds.insert(Seed::Address(SocketAddr::new(ip, port)));
    }
}

fn add_name(seeds: &mut BTreeSet<Seed>, name: &str, port: u16) {
    match name.parse::<IpAddr>() {
        Ok(ip) => add(seeds, &[ip], port),
        Err(_) => drop(seeds.insert(Seed::Name(name.to_owned(), port))),
    }
}

#[cfg(test)]
mod tests {
    use metacluster_types::Candidate;

    use super::*;

    fn topology(name: &str) -> TopologyName {
        TopologyName::new(name).expect("valid")
    }

    fn candidate(node: &str) -> Candidate {
        Candidate::new(NodeName::new(node).expect("valid"))
    }

    fn host(address: &str, state: HostState, instance: Option<&str>) -> Host {
        Host {
            addresses: vec![address.parse().expect("an address")],
            state,
            instance: instance.map(str::to_owned),
            ..Host::default()
        }
    }

    fn seed(text: &str) -> Seed {
        Seed::Address(text.parse().expect("an address"))
    }

    #[test]
    fn hosts_and_candidates_are_seeds_until_their_source_says_otherwise() {
        let mut sources = Sources::default();
        let (lan, aws) = (topology("lan"), topology("aws"));
        let snapshot = vec![candidate("a@10.0.0.1"), candidate("b@web"), candidate("c@10.0.0.1")];
        assert!(sources.update(&lan, &SourceUpdate::Snapshot(snapshot.clone())));
        assert!(!sources.update(&lan, &SourceUpdate::Snapshot(snapshot)), "nothing new");
        assert!(!sources.update(&lan, &SourceUpdate::Found(candidate("b@web"))), "a sign of life is no change");
        let hosts = vec![
            Host { port: Some(9), ..host("10.0.0.7", HostState::Pending, None) },
            host("10.0.0.8", HostState::Terminated, None),
            host("0.0.0.0", HostState::Running, None),
        ];
        assert!(sources.update(&aws, &SourceUpdate::Hosts(hosts)));
        assert!(!sources.update(&aws, &SourceUpdate::Failed("no answer".to_owned())));
        let seeds = [seed("10.0.0.1:1"), seed("10.0.0.7:9"), Seed::Name("web".to_owned(), 1)];
        assert_eq!(sources.seeds(1), seeds.into());
        assert!(sources.update(&lan, &SourceUpdate::Lost(NodeName::new("b@web").expect("valid"))));
        assert!(sources.update(&aws, &SourceUpdate::Hosts(Vec::new())));
        assert_eq!(sources.seeds(1), [seed("10.0.0.1:1")].into());
    }

    #[test]
    fn a_candidate_with_addresses_needs_no_name() {
        let mut sources = Sources::default();
        let mut found = candidate("a@web");
        found.host.addresses = vec!["10.0.0.3".parse().expect("an address")];
        assert!(sources.update(&topology("lan"), &SourceUpdate::Found(found)));
        assert_eq!(sources.seeds(1), [seed("10.0.0.3:1")].into());
    }

    #[test]
    fn a_host_that_another_source_still_has_is_not_gone() {
        let mut sources = Sources::default();
        let ended = |instance| host("10.0.0.1", HostState::Terminated, Some(instance));
        sources.update(&topology("one"), &SourceUpdate::Hosts(vec![ended("i-1"), ended("i-2")]));
        let there = host("10.0.0.2", HostState::Running, Some("i-2"));
        sources.update(&topology("two"), &SourceUpdate::Hosts(vec![there]));
        let gone: Vec<Option<String>> = sources.gone().into_iter().map(|gone| gone.instance).collect();
        assert_eq!(gone, [Some("i-1".to_owned())]);
    }

    #[test]
    fn what_one_topology_says_is_bounded() {
        let mut sources = Sources::default();
        let many: Vec<Candidate> = (0..HOSTS_MAX + 10).map(|n| candidate(&format!("a@h{n}"))).collect();
        sources.update(&topology("lan"), &SourceUpdate::Snapshot(many));
        assert_eq!(sources.seeds(1).len(), HOSTS_MAX);
        assert!(!sources.update(&topology("lan"), &SourceUpdate::Found(candidate("a@one-more"))));
    }
}
