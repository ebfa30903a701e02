//! What an agent says of itself in the TXT record of its service (RFC 6763 6), and what is taken from that of others.
//!
//! ```text
//! id=<agent id>  cluster=<name>  zone=<name>  region=<name>  n0=<node>  n1=<node>  …
//! ```

use std::net::IpAddr;

use mdns_sd::{ResolvedService, ScopedIp, ServiceInfo};
use metacluster_types::{AgentId, Candidate, ClusterName, Host, NodeName, Place, Region, Zone};

use crate::{Local, naming::Addresses};

/// The service (RFC 6763 7).
pub(super) const SERVICE: &str = "_metacluster._udp.local.";
/// How many nodes of one agent are said, and heard.
const NODES_MAX: usize = 64;
/// What all nodes may take, so that the whole fits a datagram.
const NODES_BYTES_MAX: usize = 900;
/// How many addresses of one agent are kept.
const ADDRESSES_MAX: usize = 16;

/// Our own service.
pub(super) fn own(local: &Local, port: u16) -> Result<ServiceInfo, mdns_sd::Error> {
    let id = local.agent.to_string();
    let mut texts = vec![("id".to_owned(), id.clone()), ("cluster".to_owned(), local.cluster.to_string())];
    texts.extend(local.place.zone.as_ref().map(|zone| ("zone".to_owned(), zone.to_string())));
    texts.extend(local.place.region.as_ref().map(|region| ("region".to_owned(), region.to_string())));
    let mut bytes = 0;
    for (at, node) in local.nodes.iter().take(NODES_MAX).enumerate() {
        bytes += node.as_str().len() + 5;
        if bytes > NODES_BYTES_MAX {
            tracing::warn!(nodes = local.nodes.len(), said = at, "too many nodes for an announcement by mDNS");
            break;
        }
        texts.push((format!("n{at}"), node.to_string()));
    }
    let host = format!("metacluster-{id}.local.");
    let mut service = ServiceInfo::new(SERVICE, &id, &host, "", port, texts.as_slice())?.enable_addr_auto();
    // The name is drawn from 128 random bits, so nobody else has it; and the library does not announce a TXT record that
    // changes while its name is probed.
    service.set_requires_probe(false);
    Ok(service)
}

/// Another agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) agent: AgentId,
    pub(super) cluster: ClusterName,
    pub(super) host: Host,
    pub(super) nodes: Vec<NodeName>,
}

impl Heard {
    /// What a service says. `None` if it is no agent's.
    pub(super) fn read(service: &ResolvedService) -> Option<Self> {
        let text = |key: &str| service.get_property_val_str(key);
        let agent = text("id")?.parse().ok()?;
        let cluster = ClusterName::new(text("cluster")?).ok()?;
        let place = Place {
            zone: text("zone").and_then(|zone| Zone::new(zone).ok()),
            region: text("region").and_then(|region| Region::new(region).ok()),
        };
        let nodes = (0..NODES_MAX).map_while(|at| text(&format!("n{at}"))).filter_map(|node| NodeName::new(node).ok());
        let host = Host {
            name: Some(service.get_hostname().trim_end_matches('.').to_owned()),
            addresses: addresses(service.get_addresses()),
            port: Some(service.get_port()).filter(|&port| port > 0),
            place,
            ..Host::default()
        };
        Some(Self { agent, cluster, host, nodes: nodes.collect() })
    }

    /// Its nodes, as candidates.
    pub(super) fn candidates(&self) -> impl Iterator<Item = Candidate> + '_ {
        self.nodes.iter().map(|node| Candidate { node: node.clone(), agent: Some(self.agent), host: self.host.clone() })
    }
}

/// The addresses at which another host reaches it. Those of one link would need the link too.
fn addresses<'a>(found: impl IntoIterator<Item = &'a ScopedIp>) -> Vec<IpAddr> {
    let of_link = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let mut all: Vec<IpAddr> = found.into_iter().map(ScopedIp::to_ip_addr).filter(|it| !of_link(it)).collect();
    if all.iter().any(|address| !address.is_loopback()) {
        all.retain(|address| !address.is_loopback());
    }
    all.sort_unstable();
    all.truncate(ADDRESSES_MAX);
    Addresses::Private.pick(&all, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(nodes: usize) -> Local {
        Local {
            agent: AgentId(7),
            cluster: ClusterName::new("main").expect("a name"),
            place: Place { zone: Zone::new("z1").ok(), region: None },
            nodes: (0..nodes).map(|at| NodeName::new(&format!("node-{at:03}@10.0.0.4")).expect("a node")).collect(),
            agents: [].into(),
            port: None,
        }
    }

    #[test]
    fn what_is_said_is_what_is_heard() {
        let service = own(&local(3), 4000).expect("valid").as_resolved_service();
        let heard = Heard::read(&service).expect("an agent");
        assert_eq!((heard.agent, heard.cluster.as_str(), heard.host.port), (AgentId(7), "main", Some(4000)));
        assert_eq!((heard.nodes.len(), heard.host.place.zone), (3, Zone::new("z1").ok()));
    }

    #[test]
    fn an_announcement_fits_a_datagram_however_many_nodes_there_are() {
        let service = own(&local(1000), 4000).expect("valid");
        let bytes: usize = service.get_properties().iter().map(|it| it.key().len() + it.val_str().len() + 2).sum();
        assert!(bytes < 1200, "{bytes}");
        assert!(Heard::read(&service.as_resolved_service()).expect("an agent").nodes.len() > 30);
    }

    #[test]
    fn a_service_of_somebody_else_is_none_of_ours() {
        let other = ServiceInfo::new(SERVICE, "printer", "printer.local.", "10.0.0.4", 1, &[("id", "x")][..]);
        assert_eq!(Heard::read(&other.expect("valid").as_resolved_service()), None);
    }
}
