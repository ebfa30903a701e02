//! The sockets that an epmd listens on, and how many it may have.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

use super::error::BindError;

/// Connections that wait to be accepted; the kernel has a bound of its own.
const BACKLOG: i32 = 4_096;

/// Listens on all addresses, or on none. A port of 0 takes a free one, and after it those that follow take the same.
pub(super) fn listen(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners = Vec::new();
    let (mut absent, mut port) = (None, None);
    for &(mut address) in addresses {
        if let (0, Some(port)) = (address.port(), port) {
            address.set_port(port);
        }
        match listener(address).and_then(|listener| Ok((listener.local_addr()?.port(), listener))) {
            Ok((got, listener)) => {
                port.get_or_insert(got);
                listeners.push(listener);
            }
            Err(error) if is_without_ipv6(address, &error) => absent = Some(BindError::from_io(address, &error)),
            Err(error) => return Err(BindError::from_io(address, &error)),
        }
    }
    if listeners.is_empty() { Err(absent.unwrap_or(BindError::NoAddress)) } else { Ok(listeners) }
}

/// Whether the address cannot be had because the host has no IPv6 at all.
fn is_without_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    let IpAddr::V6(ip) = address.ip() else { return false };
    (ip.is_unspecified() || ip.is_loopback())
        && (error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(AFNOSUPPORT))
}

/// `EAFNOSUPPORT`, which has no [`io::ErrorKind`].
const AFNOSUPPORT: i32 = nix::errno::Errno::EAFNOSUPPORT as i32;

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for the connections of the last run to time out.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// How many descriptors this process may have; no bound is a very high one.
pub(super) fn descriptors_max() -> usize {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(usize::MAX, |(soft, _)| usize::try_from(soft).unwrap_or(usize::MAX))
}

/// Lets this process have as many descriptors as its hard limit allows, for each registered node takes one. Programs
/// that it starts inherit that. Gives the limit that holds.
///
/// # Errors
/// When the system refuses; the limit stays as it was.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_descriptors_is_raised_to_the_hard_one() {
        let limit = raise_descriptor_limit().expect("allowed");
        assert_eq!(descriptors_max() as u64, limit);
    }
}
