//! Which addresses of a host a topology uses, and in which order.

use std::net::{IpAddr, Ipv4Addr};

/// The choice of the key `addresses`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// All, the private ones before the public ones and IPv4 before IPv6.
    #[default]
    Private,
    /// Those that the internet routes, IPv4 before IPv6.
    Public,
    /// IPv6 alone, but for those of one link.
    Ipv6,
}

impl Addresses {
    /// The words of the key.
    pub const WORDS: &'static [&'static str] = &["private", "public", "ipv6"];

    pub(super) fn of_word(word: &str) -> Self {
        match word {
            "public" => Self::Public,
            "ipv6" => Self::Ipv6,
            _ => Self::Private,
        }
    }

    /// Those that a source which tells private from public should list: private ones, or public ones.
    #[must_use]
    pub fn pick(self, private: &[IpAddr], public: &[IpAddr]) -> Vec<IpAddr> {
        let mut picked = match self {
            Self::Private => private.to_vec(),
            Self::Public => public.to_vec(),
            Self::Ipv6 => private.iter().chain(public).copied().collect(),
        };
        self.choose(&mut picked);
        picked
    }

    /// Leaves out what is not wanted, and puts the preferred ones first. Within a class the order stays.
    pub(super) fn choose(self, addresses: &mut Vec<IpAddr>) {
        let mut seen = Vec::new();
        addresses.retain(|address| {
            let wanted = match self {
                Self::Private => true,
                Self::Public => !is_private(*address),
                Self::Ipv6 => matches!(address, IpAddr::V6(v6) if !v6.is_unicast_link_local()),
            };
            let new = !seen.contains(address);
            seen.push(*address);
            wanted && new && !address.is_unspecified() && !address.is_multicast()
        });
        addresses.sort_by_key(|address| match (self, address) {
            (Self::Private, address) => (!is_private(*address), address.is_ipv6()),
            (Self::Public | Self::Ipv6, address) => (false, address.is_ipv6()),
        });
    }
}

/// Whether the internet does not route it.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local() || is_shared(v4),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

/// The addresses of a provider's own network, 100.64.0.0/10 (RFC 6598).
fn is_shared(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    first == 100 && (64..128).contains(&second)
}
