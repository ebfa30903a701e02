//! The interfaces that gossip can use at this moment.

use std::{io, net::Ipv4Addr};

use nix::{
    ifaddrs::getifaddrs,
    net::if_::{InterfaceFlags, if_nametoindex},
    sys::socket::SockaddrStorage,
};

/// How many interfaces are joined and sent through. A socket of Linux may have 20 memberships.
pub(crate) const INTERFACES_MAX: usize = 16;

/// An interface that is up and has an IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Interface {
    /// The kernel's number. An interface that is made anew gets another one.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: String,
    /// Its first address.
    pub(crate) address: Ipv4Addr,
    /// Where a broadcast goes, if it can have one.
    pub(crate) broadcast: Option<Ipv4Addr>,
    /// Whether a group can be joined on it. The loopback interface does not say so, but can.
    pub(crate) multicast: bool,
}

/// Every interface of use in the kernel's order, each with its first address, and any further address that `wanted`
/// names.
pub(crate) fn interfaces(wanted: Option<Ipv4Addr>) -> io::Result<Vec<Interface>> {
    let mut found: Vec<Interface> = Vec::new();
    for entry in getifaddrs().map_err(io::Error::from)? {
        let Some(address) = ipv4(entry.address.as_ref()) else { continue };
        let first = !found.iter().any(|interface| interface.name == entry.interface_name);
        if !entry.flags.contains(InterfaceFlags::IFF_UP) || !(first || wanted == Some(address)) {
            continue;
        }
        // It may be gone again by now.
        let Ok(index) = if_nametoindex(entry.interface_name.as_str()) else { continue };
        let loopback = entry.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let broadcasts = entry.flags.contains(InterfaceFlags::IFF_BROADCAST);
        found.push(Interface {
            index,
            name: entry.interface_name,
            address,
            broadcast: ipv4(entry.broadcast.as_ref()).filter(|_| broadcasts),
            multicast: loopback || entry.flags.contains(InterfaceFlags::IFF_MULTICAST),
        });
    }
    Ok(found)
}

fn ipv4(address: Option<&SockaddrStorage>) -> Option<Ipv4Addr> {
    Some(address?.as_sockaddr_in()?.ip())
}
