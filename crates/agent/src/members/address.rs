//! Which address an agent gives to others.
//!
//! In this order: the one that it was told to give; the one that it is bound to, if that is one; the host part of a local
//! node's name, since peers dial that; `host`; the source address of the default route; any address of an interface;
//! loopback. A name counts by its addresses that are this machine's own. A loopback address that a name resolves to
//! counts only if nothing better is there: many systems map their own name to one.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};

/// The addresses of this machine's interfaces that are up.
pub(super) fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    interfaces
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
        .filter_map(|interface| {
            let storage = interface.address?;
            let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect()
}

/// The source address of packets that take the default route. Nothing is sent for it.
pub(super) fn default_route() -> Option<IpAddr> {
    // Addresses of documentation, which no host has.
    let v4 = (SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9)));
    let far = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let v6 = (SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), SocketAddr::from((far, 9)));
    [v4, v6].into_iter().find_map(|(from, to)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        (!ip.is_unspecified()).then_some(ip)
    })
}

/// What is known for the choice.
pub(super) struct Known<'a> {
    /// What the configuration says.
    pub(super) advertise: Option<IpAddr>,
    /// What the socket is bound to.
    pub(super) bound: IpAddr,
    /// The host parts of the local nodes, then `host`.
    pub(super) hosts: &'a [&'a str],
    /// The addresses of this machine.
    pub(super) own: &'a [IpAddr],
    /// The source address of the default route.
    pub(super) default_route: Option<IpAddr>,
}

/// The address to give. `resolve` knows the addresses of names.
pub(super) fn choose<'r>(known: &Known<'_>, resolve: impl Fn(&str) -> &'r [IpAddr]) -> IpAddr {
    if let Some(ip) = known.advertise {
        return ip;
    }
    if !known.bound.is_unspecified() {
        return known.bound;
    }
    let is_own = |ip: &IpAddr| known.own.contains(ip) || ip.is_loopback();
    let takes = |ip: &IpAddr| known.bound.is_ipv6() || ip.is_ipv4();
    for host in known.hosts {
        if let Ok(ip) = host.parse::<IpAddr>() {
            if is_own(&ip) && takes(&ip) {
                return ip;
            }
            continue;
        }
        let mut candidates = resolve(host).iter().copied().filter(|ip| is_own(ip) && takes(ip) && !ip.is_loopback());
        if let Some(ip) = candidates.next() {
            return ip;
        }
    }
    let usable = |ip: &&IpAddr| !ip.is_loopback() && !is_link_local(ip) && takes(ip);
    let others: BTreeSet<&IpAddr> = known.own.iter().filter(usable).collect();
    known
        .default_route
        .filter(|ip| takes(ip))
        .or_else(|| others.first().copied().copied())
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// An address that means another host on each link.
fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn chosen(change: impl FnOnce(&mut Known<'_>), resolves_to: &[IpAddr]) -> String {
        let own = [ip("127.0.0.1"), ip("10.0.0.4"), ip("10.1.0.4"), ip("fe80::1"), ip("::1")];
        let mut known = Known {
            advertise: None,
            bound: Ipv4Addr::UNSPECIFIED.into(),
            hosts: &[],
            own: &own,
            default_route: Some(ip("10.1.0.4")),
        };
        change(&mut known);
        choose(&known, |_| resolves_to).to_string()
    }

    #[test]
    fn what_was_said_comes_first_and_the_default_route_before_any_interface() {
        assert_eq!(chosen(|known| known.advertise = Some(ip("192.0.2.9")), &[]), "192.0.2.9");
        assert_eq!(chosen(|known| known.bound = ip("127.0.3.1"), &[]), "127.0.3.1");
        assert_eq!(chosen(|_| {}, &[]), "10.1.0.4");
        assert_eq!(chosen(|known| known.default_route = None, &[]), "10.0.0.4");
        let alone = |known: &mut Known<'_>| (known.default_route, known.own) = (None, &[]);
        assert_eq!(chosen(alone, &[]), "127.0.0.1");
    }

    #[test]
    fn a_local_nodes_host_counts_when_it_is_this_machine() {
        assert_eq!(chosen(|known| known.hosts = &["10.0.0.4"], &[]), "10.0.0.4");
        assert_eq!(chosen(|known| known.hosts = &["10.9.9.9", "10.0.0.4"], &[]), "10.0.0.4");
        assert_eq!(chosen(|known| known.hosts = &["127.0.0.1"], &[]), "127.0.0.1", "its peers are here too");
        assert_eq!(chosen(|known| known.hosts = &["web"], &[ip("10.0.0.4")]), "10.0.0.4");
        assert_eq!(chosen(|known| known.hosts = &["web"], &[ip("127.0.1.1")]), "10.1.0.4", "as Debian maps it");
        assert_eq!(chosen(|known| known.hosts = &["web"], &[ip("10.9.9.9")]), "10.1.0.4", "another machine's");
        assert_eq!(chosen(|known| known.hosts = &["::1"], &[]), "10.1.0.4", "bound to IPv4 alone");
    }

    #[test]
    fn this_machine_has_a_loopback() {
        assert!(own_addresses().iter().any(IpAddr::is_loopback));
        assert!(default_route().is_none_or(|ip| !ip.is_unspecified()));
    }
}
