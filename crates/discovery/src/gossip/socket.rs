//! The socket of gossip: shared port, group memberships that follow the interfaces, sending through each of them.
//!
//! libcluster joins and sends on the one interface that the routes give for the group. That misses a host's other
//! networks, and fails on a host with nothing but loopback; so, unless `multicast_if` names one interface, the group is
//! joined on the route's choice and on every interface that can, and each datagram goes through all of those.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddrV4},
};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use tokio::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use super::interfaces::{INTERFACES_MAX, Interface, interfaces};

/// Datagrams of ours that may miss on an interface before its membership is taken for lost.
const UNHEARD_MAX: u32 = 5;
/// The first wait before a membership is renewed again; it doubles up to [`RENEWAL_MAX`].
const RENEWAL_MIN: Duration = Duration::from_secs(5);
const RENEWAL_MAX: Duration = Duration::from_secs(300);

/// Where to listen and where to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) bind: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) mode: Mode,
}

/// How a datagram reaches everyone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// To a group; through one interface, or through all.
    Multicast { group: Ipv4Addr, interface: Option<Ipv4Addr>, ttl: u32 },
    /// To a broadcast address; 255.255.255.255 stands for that of each interface.
    Broadcast { to: Ipv4Addr },
}

/// Why the socket is of no use. The line says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    #[error(
        "UDP port {port} is held by a program that does not share it; stop that program, or give all nodes another \
         `port` (a program shares the port by setting SO_REUSEADDR)"
    )]
    Held { port: u16 },
    #[error("this host has no address {0}; set `if_addr` to one of its own, or leave it out")]
    NotOurs(Ipv4Addr),
    #[error("no interface is up that has the address {0} of `multicast_if`")]
    NoSuchInterface(Ipv4Addr),
    #[error("no interface is up that has an IPv4 address and can join {0}")]
    NoInterface(Ipv4Addr),
    #[error("cannot join {group}: {error}")]
    Join { group: Ipv4Addr, error: io::Error },
    #[error("cannot send: {0}")]
    Send(io::Error),
    #[error("the socket failed: {0}")]
    Io(#[from] io::Error),
}

/// What is known of the membership on one interface.
#[derive(Debug)]
struct Membership {
    unheard: u32,
    renewed: Instant,
    patience: Duration,
}

/// The open socket.
#[derive(Debug)]
pub(crate) struct GossipSocket {
    udp: UdpSocket,
    address: Address,
    through: BTreeMap<Interface, Membership>,
}

impl GossipSocket {
    /// Opens the socket and joins the group wherever that is possible. Must be called within a tokio runtime.
    pub(crate) fn open(address: &Address) -> Result<Self, SocketError> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        socket.set_broadcast(true)?;
        socket.set_nonblocking(true)?;
        if let Mode::Multicast { ttl, .. } = address.mode {
            socket.set_multicast_ttl_v4(ttl)?;
            socket.set_multicast_loop_v4(true)?;
        }
        socket.bind(&SocketAddrV4::new(address.bind, address.port).into()).map_err(|error| {
            if error.kind() == io::ErrorKind::AddrInUse {
                SocketError::Held { port: address.port }
            } else if error.kind() == io::ErrorKind::AddrNotAvailable {
                SocketError::NotOurs(address.bind)
            } else {
                SocketError::Io(error)
            }
        })?;
        let udp = UdpSocket::from_std(socket.into())?;
        let mut open = Self { udp, address: address.clone(), through: BTreeMap::new() };
        open.follow_interfaces()?;
        Ok(open)
    }

    /// Joins on interfaces that are new and leaves those that are gone. Says whether there are new ones. When an error
    /// comes back, no interface is of use at present; the next call may find one.
    pub(crate) fn follow_interfaces(&mut self) -> Result<bool, SocketError> {
        let wanted = self.wanted()?;
        let gone: Vec<Interface> = self.through.keys().filter(|known| !wanted.contains(*known)).cloned().collect();
        for interface in gone {
            self.leave(&interface);
            self.through.remove(&interface);
            tracing::debug!(interface = interface.name, address = %interface.address, "left an interface");
        }
        let mut fresh = false;
        let mut failure = None;
        for interface in wanted {
            if self.through.contains_key(&interface) {
                continue;
            }
            match self.join(&interface) {
                Ok(()) => {
                    fresh = true;
                    tracing::debug!(interface = interface.name, address = %interface.address, "joined an interface");
                    let membership = Membership { unheard: 0, renewed: Instant::now(), patience: RENEWAL_MIN };
                    self.through.insert(interface, membership);
                }
                Err(error) => failure = Some(error),
            }
        }
        if fresh {
            self.join_by_route();
        }
        match (&self.address.mode, failure) {
            (Mode::Multicast { group, .. }, Some(error)) if self.through.is_empty() => {
                Err(SocketError::Join { group: *group, error })
            }
            (Mode::Multicast { group, .. }, None) if self.through.is_empty() => Err(SocketError::NoInterface(*group)),
            (Mode::Multicast { .. } | Mode::Broadcast { .. }, _) => Ok(fresh),
        }
    }

    fn wanted(&self) -> Result<Vec<Interface>, SocketError> {
        match self.address.mode {
            Mode::Multicast { interface: Some(address), .. } => {
                let one = interfaces(Some(address))?.into_iter().find(|interface| interface.address == address);
                one.map(|interface| vec![interface]).ok_or(SocketError::NoSuchInterface(address))
            }
            Mode::Multicast { interface: None, .. } => {
                let all = interfaces(None)?.into_iter().filter(|interface| interface.multicast);
                Ok(all.take(INTERFACES_MAX).collect())
            }
            Mode::Broadcast { .. } => {
                let all = interfaces(None)?.into_iter().filter(|interface| interface.broadcast.is_some());
                Ok(all.take(INTERFACES_MAX).collect())
            }
        }
    }

    fn join(&self, interface: &Interface) -> io::Result<()> {
        let Mode::Multicast { group, .. } = self.address.mode else { return Ok(()) };
        let joined =
            SockRef::from(&self.udp).join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface.index));
        match joined {
            // The route's choice joined it before.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
            joined => joined,
        }
    }

    fn leave(&self, interface: &Interface) {
        let Mode::Multicast { group, .. } = self.address.mode else { return };
        let index = InterfaceIndexOrAddress::Index(interface.index);
        if let Err(error) = SockRef::from(&self.udp).leave_multicast_v4_n(&group, &index) {
            tracing::trace!(interface = interface.name, %error, "nothing to leave");
        }
    }

    /// Joins where the routes say, as libcluster does. Mostly that is joined already, or there is no such route.
    fn join_by_route(&self) {
        let Mode::Multicast { group, interface: None, .. } = self.address.mode else { return };
        if let Err(error) = SockRef::from(&self.udp).join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED) {
            tracing::trace!(%error, "nothing more to join by route");
        }
    }

    /// Sends a datagram to everyone. It is an error only if it went nowhere.
    pub(crate) fn send(&mut self, datagram: &[u8]) -> Result<(), SocketError> {
        let mut failure = io::Error::from(io::ErrorKind::NetworkUnreachable);
        let mut sent = false;
        let mut note = |result: io::Result<usize>| match result {
            Ok(_) => {
                sent = true;
                true
            }
            Err(error) => {
                failure = error;
                false
            }
        };
        // Past tokio, which holds a socket for busy until its first turn; UDP is hardly ever so.
        let raw = SockRef::from(&self.udp);
        let send = |to: Ipv4Addr| raw.send_to(datagram, &SocketAddrV4::new(to, self.address.port).into());
        match self.address.mode {
            Mode::Multicast { group, .. } => {
                for (interface, membership) in &mut self.through {
                    if note(raw.set_multicast_if_v4(&interface.address).and_then(|()| send(group))) {
                        membership.unheard = membership.unheard.saturating_add(1);
                    }
                }
            }
            Mode::Broadcast { to: Ipv4Addr::BROADCAST } => {
                for address in self.through.keys().filter_map(|interface| interface.broadcast) {
                    note(send(address));
                }
                if self.through.is_empty() {
                    note(send(Ipv4Addr::BROADCAST));
                }
            }
            Mode::Broadcast { to: address } => {
                note(send(address));
            }
        }
        if sent { Ok(()) } else { Err(SocketError::Send(failure)) }
    }

    /// A datagram of ours came back from one of our addresses, so the membership there holds.
    pub(crate) fn heard_own(&mut self, from: Ipv4Addr) {
        for (_, membership) in self.through.iter_mut().filter(|(interface, _)| interface.address == from) {
            membership.unheard = 0;
            membership.patience = RENEWAL_MIN;
        }
    }

    /// Renews the memberships on which our own datagrams do not come back: an interface that lost its address for a
    /// moment drops out of its groups and nobody is told.
    pub(crate) fn renew_memberships(&mut self) {
        if self.address.bind != Ipv4Addr::UNSPECIFIED || !matches!(self.address.mode, Mode::Multicast { .. }) {
            return;
        }
        let silent = |membership: &Membership| {
            membership.unheard >= UNHEARD_MAX && membership.renewed.elapsed() >= membership.patience
        };
        let stale: Vec<Interface> =
            self.through.iter().filter(|(_, membership)| silent(membership)).map(|(known, _)| known.clone()).collect();
        for interface in stale {
            self.leave(&interface);
            if let Err(error) = self.join(&interface) {
                tracing::debug!(interface = interface.name, %error, "cannot join again");
            }
            if let Some(membership) = self.through.get_mut(&interface) {
                membership.unheard = 0;
                membership.renewed = Instant::now();
                membership.patience = (membership.patience * 2).min(RENEWAL_MAX);
            }
        }
    }

    /// Waits until there may be something to receive.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.udp.readable().await
    }

    /// Takes one datagram, if there is one, into `buffer`: its length and where it came from.
    pub(crate) fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, Ipv4Addr)>> {
        match self.udp.try_recv_from(buffer) {
            Ok((length, std::net::SocketAddr::V4(from))) => Ok(Some((length, *from.ip()))),
            Ok((length, std::net::SocketAddr::V6(_))) => Ok(Some((length, Ipv4Addr::UNSPECIFIED))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}
