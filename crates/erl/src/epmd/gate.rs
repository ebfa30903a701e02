//! Who may hold a connection to an epmd, and how many.
//!
//! Three bounds, each with its place in [`ServerOptions`](super::ServerOptions): all connections together, those of
//! other hosts together (a quarter, so that strangers never keep the nodes of this host from registering), and those of
//! one other host. Past a bound a new connection is closed at once. IPv6 hosts of one /64 count as one, for any of them
//! can take all its addresses.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

/// Another host, as far as bounds go.
type Source = u64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Gate {
    connections_max: usize,
    others_max: usize,
    per_source_max: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    everyone: usize,
    others: usize,
    /// An entry of none is taken out.
    sources: BTreeMap<Source, usize>,
}

/// The right to one connection, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Arc<Gate>,
    source: Option<Source>,
}

impl Gate {
    pub(crate) fn new(connections_max: usize, per_source_max: usize) -> Arc<Self> {
        let others_max = connections_max / 4;
        Arc::new(Self { connections_max, others_max, per_source_max, held: Mutex::default() })
    }

    /// Lets a connection in. `other` is the address of a peer on another host.
    pub(crate) fn enter(self: &Arc<Self>, other: Option<IpAddr>) -> Option<Permit> {
        let source = other.map(source);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.everyone >= self.connections_max {
            return None;
        }
        if let Some(source) = source {
            let own = held.sources.get(&source).copied().unwrap_or(0);
            if held.others >= self.others_max || own >= self.per_source_max {
                return None;
            }
            held.others += 1;
            held.sources.insert(source, own + 1);
        }
        held.everyone += 1;
        Some(Permit { gate: Arc::clone(self), source })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.gate.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.everyone -= 1;
        if let Some(source) = self.source {
            held.others -= 1;
            if let Some(own) = held.sources.get_mut(&source) {
                *own -= 1;
                if *own == 0 {
                    held.sources.remove(&source);
                }
            }
        }
    }
}

fn source(address: IpAddr) -> Source {
    match address.to_canonical() {
        // Not in any /64 that is given to hosts.
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
    }
}

/// Whether the other end is on this host: on the loopback, or at the very address that it reached us on.
pub(crate) fn is_local(peer: SocketAddr, own: impl FnOnce() -> Option<SocketAddr>) -> bool {
    let peer = peer.ip().to_canonical();
    peer.is_loopback() || own().is_some_and(|own| own.ip().to_canonical() == peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn strangers_have_a_quarter_and_each_of_them_a_share() {
        let gate = Gate::new(16, 3);
        let first: Vec<_> = (0..3).filter_map(|_| gate.enter(Some(address("192.0.2.1")))).collect();
        assert_eq!(first.len(), 3);
        assert!(gate.enter(Some(address("192.0.2.1"))).is_none(), "it has its share");
        assert!(gate.enter(Some(address("::ffff:192.0.2.1"))).is_none(), "the same host");
        let second = gate.enter(Some(address("192.0.2.2"))).expect("another one");
        assert!(gate.enter(Some(address("192.0.2.3"))).is_none(), "a quarter is taken");
        let local: Vec<_> = (0..12).map(|_| gate.enter(None).expect("this host")).collect();
        assert!(gate.enter(None).is_none(), "all is taken");
        drop((first, second));
        assert!(gate.enter(Some(address("192.0.2.1"))).is_some());
        drop(local);
        let held = gate.held.lock().expect("whole");
        assert_eq!((held.everyone, held.others, held.sources.len()), (0, 0, 0));
    }

    #[test]
    fn the_addresses_of_one_ipv6_host_are_one_source() {
        let gate = Gate::new(16, 1);
        let first = gate.enter(Some(address("2001:db8::1")));
        assert!(first.is_some());
        assert!(gate.enter(Some(address("2001:db8::ffff:2"))).is_none());
        assert!(gate.enter(Some(address("2001:db8:0:1::1"))).is_some());
    }

    #[test]
    fn this_host_is_loopback_or_the_own_address() {
        let at = |text: &str| SocketAddr::new(address(text), 1);
        for (peer, own, local) in [
            ("127.0.0.1", "10.0.0.1", true),
            ("127.9.9.9", "10.0.0.1", true),
            ("::1", "::1", true),
            ("::ffff:127.0.0.1", "::1", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
            ("10.0.0.2", "10.0.0.1", false),
            ("fd00::2", "fd00::1", false),
        ] {
            assert_eq!(is_local(at(peer), || Some(at(own))), local, "{peer} to {own}");
        }
        assert!(!is_local(at("10.0.0.2"), || None));
    }
}
