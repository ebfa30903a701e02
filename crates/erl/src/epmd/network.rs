//! Networks that may ask an epmd: an address and how many of its leading bits count (CIDR, RFC 4632 and RFC 4291).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A network such as `10.0.0.0/8`, `fd00::/8`, or the single address `192.0.2.7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether the address is in the network. An IPv4 address that is written as an IPv6 one is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (own.to_bits() ^ other.to_bits()) & mask_v4(self.prefix) == 0,
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits() ^ other.to_bits()) & mask_v6(self.prefix) == 0,
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

fn mask_v4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn mask_v6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// What was written is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// No address, or no number of bits that such an address has.
    #[error("`{0}` is no network: expected one such as 10.0.0.0/8, fd00::/8 or 192.0.2.7")]
    Malformed(String),
    /// The address names one host, and the prefix many.
    #[error("`{given}` has bits behind its prefix: write `{meant}` for the network, or the address alone for the host")]
    Ambiguous {
        /// What was written.
        given: String,
        /// The network that it is in.
        meant: Network,
    },
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let malformed = || NetworkError::Malformed(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            // `u8` also takes a sign.
            Some(digits) if !digits.starts_with('+') => digits.parse().map_err(|_| malformed())?,
            Some(_) => return Err(malformed()),
            None => bits,
        };
        if prefix > bits {
            return Err(malformed());
        }
        let first = match address {
            IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & mask_v4(prefix)).into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & mask_v6(prefix)).into(),
        };
        let network = Self { address: first, prefix };
        if first != address {
            return Err(NetworkError::Ambiguous { given: text.to_owned(), meant: network });
        }
        Ok(network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().expect("a network")
    }

    #[test]
    fn a_network_holds_its_addresses() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"][..], &["11.0.0.0", "9.255.255.255"][..]),
            ("192.0.2.7", &["192.0.2.7"], &["192.0.2.6", "::1"]),
            ("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::1"]),
            ("fd00::/8", &["fd00::1", "fdff::"], &["fe00::1", "10.0.0.1"]),
            ("::/0", &["::1", "2001:db8::1"], &["10.0.0.1"]),
            ("2001:db8::/127", &["2001:db8::1"], &["2001:db8::2"]),
        ] {
            let network = network(text);
            for address in inside {
                assert!(network.contains(address.parse().expect("an address")), "{address} is in {network}");
            }
            for address in outside {
                assert!(!network.contains(address.parse().expect("an address")), "{address} is not in {network}");
            }
        }
    }

    #[test]
    fn a_network_is_written_as_it_is_read() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "fd00::/8", "::1/128"] {
            assert_eq!(network(text).to_string(), text);
        }
        assert_eq!(network("::1").to_string(), "::1/128");
    }

    #[test]
    fn what_is_no_network_is_refused_with_what_is_meant() {
        for text in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "host", "::/129", "10.0.0.0/-1"] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError::Malformed(text.to_owned())));
        }
        let error = "10.1.2.3/8".parse::<Network>().expect_err("ambiguous");
        assert!(error.to_string().contains("`10.0.0.0/8`"), "{error}");
    }
}
