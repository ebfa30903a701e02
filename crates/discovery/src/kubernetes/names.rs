//! The name of a host in the DNS of its cluster, and the domain of that cluster.
//!
//! Follows "DNS for Services and Pods" and the DNS specification of Kubernetes: `<ip-with-dashes>.<namespace>.pod.<domain>`
//! for any pod, `<hostname>.<service>.<namespace>.svc.<domain>` for one that a headless service governs.

use std::{fs, net::IpAddr};

use super::peers::Peer;

/// Where a pod's DNS is set up.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The domain of a cluster that has no other.
const DOMAIN: &str = "cluster.local";

/// The choice of the key `naming`: what a host is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Naming {
    /// By its address; its name is the pod's.
    #[default]
    Ip,
    /// By its address as a name of DNS.
    Dns,
    /// By its host name in its service.
    Hostname,
}

impl Naming {
    /// The words of the key.
    pub(super) const WORDS: &'static [&'static str] = &["ip", "dns", "hostname"];

    pub(super) fn of_word(word: &str) -> Self {
        match word {
            "dns" => Self::Dns,
            "hostname" => Self::Hostname,
            _ => Self::Ip,
        }
    }

    /// The name of a peer whose preferred address comes first; `None` if it cannot have one of this kind.
    pub(super) fn name(self, peer: &Peer, service: Option<&str>, domain: &str) -> Option<String> {
        let namespace = &peer.namespace;
        match self {
            Self::Ip => peer.host.name.clone(),
            Self::Dns => {
                let address = dashed(*peer.host.addresses.first()?);
                Some(format!("{address}.{namespace}.pod.{domain}"))
            }
            Self::Hostname => {
                let hostname = peer.hostname.as_ref()?;
                let service = service.or(Some(&peer.service).filter(|it| !it.is_empty()).map(String::as_str))?;
                Some(format!("{hostname}.{service}.{namespace}.svc.{domain}"))
            }
        }
    }
}

/// An address as a label of DNS, which begins and ends with a digit: `10-0-0-4`, `fd00--1`, `0--1`.
fn dashed(address: IpAddr) -> String {
    let mut text = address.to_string();
    if text.starts_with(':') {
        text.insert(0, '0');
    }
    if text.ends_with(':') {
        text.push('0');
    }
    text.replace(['.', ':'], "-")
}

/// The domain of the cluster in which this runs, as the resolver's configuration says.
pub(super) fn own_domain() -> String {
    domain_of(&fs::read_to_string(RESOLV_CONF).unwrap_or_default())
}

/// The domain that a `resolv.conf` tells: a kubelet puts `<namespace>.svc.<domain>` and `svc.<domain>` on the search list.
fn domain_of(resolv_conf: &str) -> String {
    let mut lines = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("search"));
    // The last list counts, as resolv.conf(5) says.
    let searched: Vec<&str> = lines.next_back().map(|list| list.split_whitespace().collect()).unwrap_or_default();
    let of_services = searched.iter().find_map(|name| name.trim_end_matches('.').strip_prefix("svc."));
    let of_namespace = searched.iter().find_map(|name| name.trim_end_matches('.').split_once(".svc."));
    let domain = of_services.or(of_namespace.map(|(_, domain)| domain));
    domain.filter(|domain| !domain.is_empty()).unwrap_or(DOMAIN).to_owned()
}

#[cfg(test)]
mod tests {
    use metacluster_types::Host;

    use super::*;

    fn peer(address: &str, service: &str, hostname: Option<&str>) -> Peer {
        Peer {
            host: Host {
                name: Some("shop-0".to_owned()),
                addresses: vec![address.parse().expect("an address")],
                ..Host::default()
            },
            namespace: "prod".to_owned(),
            service: service.to_owned(),
            hostname: hostname.map(str::to_owned),
            node: None,
        }
    }

    #[test]
    fn a_pod_is_named_by_its_address_with_dashes() {
        for (address, label) in
            [("10.0.0.4", "10-0-0-4"), ("fd00::1", "fd00--1"), ("::1", "0--1"), ("fd00::", "fd00--0")]
        {
            let name = Naming::Dns.name(&peer(address, "", None), None, "cluster.local");
            assert_eq!(name.as_deref(), Some(format!("{label}.prod.pod.cluster.local").as_str()));
        }
    }

    #[test]
    fn a_pod_of_a_service_is_named_by_its_host_name() {
        let name = |peer: &Peer, service| Naming::Hostname.name(peer, service, "k8s.example");
        let governed = peer("10.0.0.4", "shop", Some("shop-0"));
        assert_eq!(name(&governed, None).as_deref(), Some("shop-0.shop.prod.svc.k8s.example"));
        assert_eq!(name(&governed, Some("other")).as_deref(), Some("shop-0.other.prod.svc.k8s.example"));
        assert_eq!(name(&peer("10.0.0.4", "shop", None), None), None, "it has no host name");
        assert_eq!(name(&peer("10.0.0.4", "", Some("shop-0")), None), None, "no service governs it");
    }

    #[test]
    fn by_address_it_keeps_the_name_of_the_pod() {
        assert_eq!(Naming::Ip.name(&peer("10.0.0.4", "", None), None, "").as_deref(), Some("shop-0"));
    }

    #[test]
    fn the_domain_stands_on_the_search_list() {
        for (text, domain) in [
            ("nameserver 10.96.0.10\nsearch prod.svc.k8s.example svc.k8s.example k8s.example\n", "k8s.example"),
            ("search prod.svc.corp.example. lan\n", "corp.example"),
            ("search lan\nsearch\tsvc.a.b\n", "a.b"),
            ("search lan example.com\nnameserver 1.1.1.1\n", "cluster.local"),
            ("search svc.\n", "cluster.local"),
            ("", "cluster.local"),
        ] {
            assert_eq!(domain_of(text), domain, "{text:?}");
        }
    }
}
