//! The member's sockets: UDP for packets, TCP for streams, on one port.
//!
//! Packets go out and come in several a system call where the kernel can (Linux: `sendmmsg`, `recvmmsg`). Each is at
//! most [`DATAGRAM_BYTES_MAX`] bytes before it is sealed, so that with seal, UDP and IPv6 headers it fits into the 1280
//! bytes that every IPv6 link carries (RFC 8200, section 5): no path drops it for its size, whatever firewalls do to
//! ICMP.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};
#[cfg(target_os = "linux")]
use tokio::io::Interest;
use tokio::net::{TcpListener, UdpSocket};

/// What the machine may put into one packet: 1280 less 40 of IPv6, 8 of UDP, 16 of the seal and 4 of the key's id.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 1_212;
/// Longer than any packet of ours; what does not fit is cut and refused.
const BUFFER_BYTES: usize = 2_048;
/// So many packets go through one system call.
const BATCH: usize = 32;
/// Packets of a burst wait in the kernel, so many bytes.
const KERNEL_BYTES: usize = 1 << 20;
const BACKLOG: i32 = 128;
/// Tries to find one free port for both.
const PORT_TRIES: usize = 16;

/// A packet that came.
pub(super) struct Received {
    pub(super) from: SocketAddr,
    pub(super) bytes: Vec<u8>,
    /// Whether it was longer than a packet may be, and was cut.
    pub(super) cut: bool,
}

/// The packets' socket.
#[derive(Debug)]
pub(super) struct Packets {
    udp: UdpSocket,
    /// Whether it takes IPv4 too, in IPv6's form.
    mapped: bool,
}

/// Binds both to one port; with port 0, to any that is free for both.
pub(super) fn bind(ip: IpAddr, port: u16) -> io::Result<(Packets, TcpListener, SocketAddr)> {
    if !ip.is_unspecified() {
        return bind_to(ip, port);
    }
    // Both families on one socket, where the host has IPv6.
    match bind_to(Ipv6Addr::UNSPECIFIED.into(), port) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => bind_to(Ipv4Addr::UNSPECIFIED.into(), port),
        bound => bound,
    }
}

fn bind_to(ip: IpAddr, port: u16) -> io::Result<(Packets, TcpListener, SocketAddr)> {
    let mut tries = 0;
    loop {
        tries += 1;
        let udp = open(ip, port, Type::DGRAM)?;
        let address = udp.local_addr()?.as_socket().ok_or_else(|| io::Error::other("no address of the internet"))?;
        match open(ip, address.port(), Type::STREAM) {
            Ok(tcp) => {
                tcp.listen(BACKLOG)?;
                let packets = Packets { udp: UdpSocket::from_std(udp.into())?, mapped: ip == Ipv6Addr::UNSPECIFIED };
                return Ok((packets, TcpListener::from_std(tcp.into())?, canonical(address)));
            }
            Err(error) if port == 0 && error.kind() == io::ErrorKind::AddrInUse && tries < PORT_TRIES => {}
            Err(error) => return Err(error),
        }
    }
}

fn open(ip: IpAddr, port: u16, kind: Type) -> io::Result<Socket> {
    let protocol = if kind == Type::DGRAM { Protocol::UDP } else { Protocol::TCP };
    let socket = Socket::new(if ip.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 }, kind, Some(protocol))?;
    if ip == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(false)?;
    }
    if kind == Type::STREAM {
        // Of a connection that ended a moment ago, nothing is left that this could mix up.
        socket.set_reuse_address(true)?;
    } else {
        // The kernel gives what it may.
        socket.set_recv_buffer_size(KERNEL_BYTES)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(ip, port).into())?;
    Ok(socket)
}

/// An IPv4 address in IPv6's form, as IPv4.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Packets {
    /// Resolves when there is something to take, most likely.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.udp.readable().await
    }

    /// An address as this socket sends to it.
    fn to(&self, address: SocketAddr) -> SocketAddr {
        match address.ip() {
            IpAddr::V4(ip) if self.mapped => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
            IpAddr::V4(_) | IpAddr::V6(_) => address,
        }
    }

    /// Takes what is there, up to a batch; nothing when nothing is.
    pub(super) fn receive(&self, buffers: &mut Buffers) -> Vec<Received> {
        // Nothing is there, or an answer of ICMP to what was sent before: the next call gives what follows.
        receive(&self.udp, buffers).unwrap_or_default()
    }

    /// Sends all; a packet that the kernel has no room or no way for is lost, as on the network. Says how many were.
    pub(super) fn send(&self, packets: &[(SocketAddr, Vec<u8>)]) -> usize {
        let mut lost = 0;
        for batch in packets.chunks(BATCH) {
            let addressed: Vec<_> = batch.iter().map(|(to, bytes)| (self.to(*to), bytes.as_slice())).collect();
            let mut rest = addressed.as_slice();
            while !rest.is_empty() {
                match send(&self.udp, rest) {
                    Ok(sent) => rest = rest.get(sent.max(1)..).unwrap_or_default(),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        lost += rest.len();
                        rest = &[];
                    }
                    Err(error) => {
                        tracing::debug!("a packet to {} was not sent: {error}", rest[0].0);
                        lost += 1;
                        rest = &rest[1..];
                    }
                }
            }
        }
        lost
    }
}

/// Room for one batch.
pub(super) struct Buffers(Vec<[u8; BUFFER_BYTES]>);

impl Default for Buffers {
    fn default() -> Self {
        Self(vec![[0; BUFFER_BYTES]; BATCH])
    }
}

#[cfg(target_os = "linux")]
fn receive(udp: &UdpSocket, buffers: &mut Buffers) -> io::Result<Vec<Received>> {
    use std::{io::IoSliceMut, os::fd::AsRawFd};

    use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};

    let taken: Vec<(usize, Option<SocketAddr>, bool)> = {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            buffers.0.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
        let fd = udp.as_raw_fd();
        udp.try_io(Interest::READABLE, || {
            let received = recvmmsg(fd, &mut headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
            Ok(received
                .map(|message| {
                    let from = message.address.as_ref().and_then(address);
                    (message.bytes, from, message.flags.contains(MsgFlags::MSG_TRUNC))
                })
                .collect())
        })?
    };
    let with_bytes = taken.into_iter().zip(&buffers.0).filter_map(|((length, from, cut), buffer)| {
        Some(Received { from: from?, bytes: buffer.get(..length)?.to_vec(), cut })
    });
    Ok(with_bytes.collect())
}

#[cfg(target_os = "linux")]
fn address(storage: &nix::sys::socket::SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| canonical(SocketAddr::from((v6.ip(), v6.port())))))
}

#[cfg(not(target_os = "linux"))]
fn receive(udp: &UdpSocket, buffers: &mut Buffers) -> io::Result<Vec<Received>> {
    let mut received = Vec::new();
    for buffer in &mut buffers.0 {
        let Ok((length, from)) = udp.try_recv_from(buffer) else { break };
        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
        received.push(Received { from: canonical(from), cut: length == BUFFER_BYTES, bytes });
    }
    Ok(received)
}

#[cfg(target_os = "linux")]
fn send(udp: &UdpSocket, packets: &[(SocketAddr, &[u8])]) -> io::Result<usize> {
    use std::{io::IoSlice, os::fd::AsRawFd};

    use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};

    let slices: Vec<[IoSlice<'_>; 1]> = packets.iter().map(|(_, bytes)| [IoSlice::new(bytes)]).collect();
    let addresses: Vec<Option<SockaddrStorage>> = packets.iter().map(|(to, _)| Some((*to).into())).collect();
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(packets.len(), None);
    // Nobody waits until the socket takes more, so the runtime need not know of it.
    let sent = sendmmsg(udp.as_raw_fd(), &mut headers, &slices, &addresses, [], MsgFlags::MSG_DONTWAIT)?;
    Ok(sent.count())
}

#[cfg(not(target_os = "linux"))]
fn send(udp: &UdpSocket, packets: &[(SocketAddr, &[u8])]) -> io::Result<usize> {
    let Some((to, bytes)) = packets.first() else { return Ok(0) };
    socket2::SockRef::from(udp).send_to(bytes, &(*to).into()).map(|_| 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn take(packets: &Packets, many: usize) -> Vec<Received> {
        let mut buffers = Buffers::default();
        let mut all = Vec::new();
        while all.len() < many {
            let readable = tokio::time::timeout(Duration::from_secs(10), packets.readable()).await;
            readable.expect("something comes").expect("readable");
            all.extend(packets.receive(&mut buffers));
        }
        all
    }

    #[tokio::test]
    async fn a_burst_arrives_whole_with_its_sources() {
        let (one, _tcp, from) = bind(Ipv4Addr::LOCALHOST.into(), 0).expect("a port");
        let (other, _other_tcp, to) = bind(Ipv4Addr::LOCALHOST.into(), 0).expect("a port");
        let burst: Vec<_> = (0..100_u8).map(|n| (to, vec![n; usize::from(n) + 1])).collect();
        assert_eq!(one.send(&burst), 0);
        let got = take(&other, burst.len()).await;
        assert!(got.iter().all(|packet| packet.from == from && !packet.cut));
        assert!(got.iter().map(|packet| &packet.bytes).eq(burst.iter().map(|(_, bytes)| bytes)));
    }

    #[tokio::test]
    async fn a_socket_for_all_addresses_speaks_both_families() {
        let (all, _tcp, bound) = bind(Ipv4Addr::UNSPECIFIED.into(), 0).expect("a port");
        let (v4, _v4_tcp, v4_at) = bind(Ipv4Addr::LOCALHOST.into(), 0).expect("a port");
        assert_eq!(v4.send(&[((Ipv4Addr::LOCALHOST, bound.port()).into(), b"x".to_vec())]), 0);
        assert_eq!(take(&all, 1).await[0].from, v4_at, "in the form of IPv4");
        assert_eq!(all.send(&[(v4_at, b"y".to_vec())]), 0);
        assert_eq!(take(&v4, 1).await[0].bytes, b"y");
    }

    #[tokio::test]
    async fn what_is_too_long_is_cut_and_marked() {
        let (one, _tcp, _) = bind(Ipv4Addr::LOCALHOST.into(), 0).expect("a port");
        let (other, _other_tcp, to) = bind(Ipv4Addr::LOCALHOST.into(), 0).expect("a port");
        assert_eq!(one.send(&[(to, vec![7; 9_000]), (to, vec![8; 100])]), 0);
        let got = take(&other, 2).await;
        assert!(got[0].cut && !got[1].cut);
    }

    #[tokio::test]
    async fn a_destination_that_cannot_be_costs_one_packet() {
        let (one, _tcp, _) = bind(Ipv4Addr::LOCALHOST.into(), 0).expect("a port");
        let (other, _other_tcp, to) = bind(Ipv4Addr::LOCALHOST.into(), 0).expect("a port");
        let nowhere: SocketAddr = "192.0.2.1:0".parse().expect("an address");
        assert_eq!(one.send(&[(to, b"a".to_vec()), (nowhere, b"b".to_vec()), (to, b"c".to_vec())]), 1);
        assert_eq!(take(&other, 2).await.len(), 2);
    }

    #[tokio::test]
    async fn one_port_is_taken_once() {
        let (_packets, _tcp, at) = bind(Ipv4Addr::LOCALHOST.into(), 0).expect("a port");
        assert_eq!(bind(at.ip(), at.port()).expect_err("taken").kind(), io::ErrorKind::AddrInUse);
    }
}
