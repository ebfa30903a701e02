//! An epmd: the registrations of this host, for BEAM nodes and for whoever asks.
//!
//! A registration lives with its connection. Subscribers ([`Server::watch`]) learn of it before the node gets its
//! answer. Where the guide is silent it does as `epmd_srv.c` of OTP does: one request a connection, silence for what it
//! does not understand, a name twice refused with result 1, only this host may register. `KILL` and `STOP` are refused
//! unless [`ServerOptions::relaxed`].

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use metacluster_erl_wire::epmd::{DumpReply, Registration};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

use super::{
    connection::{is_local, serve},
    error::BindError,
    table::{Names, Table, Taken, Token},
};

/// The wait after an `accept` that failed, most likely for lack of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How an epmd is to be.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where to listen. A port of 0 takes a free one, and after it those that follow take the same.
    pub addresses: Vec<SocketAddr>,
    /// The time that a connection has for its request. Default 60 s.
    pub packet_timeout: Duration,
    /// Open connections, registered nodes included; past that a new one is closed at once. Other hosts have a quarter
    /// of them at most. Default 16,384.
    pub connections_max: usize,
    /// Whether `KILL` and `STOP` do what they say. Default false.
    pub relaxed: bool,
}

impl ServerOptions {
    /// Listens on these addresses.
    #[must_use]
    pub fn new(addresses: Vec<SocketAddr>) -> Self {
        Self { addresses, packet_timeout: Duration::from_secs(60), connections_max: 16_384, relaxed: false }
    }

    /// Listens on every address of the host, IPv4 and IPv6.
    #[must_use]
    pub fn everywhere(port: u16) -> Self {
        Self::new(vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()])
    }

    /// Listens on the loopback, IPv4 and IPv6.
    #[must_use]
    pub fn loopback(port: u16) -> Self {
        Self::new(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()])
    }
}

/// An epmd that runs until it is shut down or dropped. Then its sockets are closed, so nodes know and register anew
/// with the next one.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Server {
    /// Listens on all addresses, or on none. An IPv6 address is left out when the host has no IPv6 and another address
    /// could be had.
    ///
    /// # Errors
    /// When an address cannot be listened on; the error says which one and why.
    pub async fn bind(options: ServerOptions) -> Result<Self, BindError> {
        let listeners = listen(&options.addresses)?;
        let addresses = listeners.iter().map(|(address, _)| *address).collect();
        let (names, _) = watch::channel(Names::default());
        let (killed, _) = watch::channel(false);
        let shared = Arc::new(Shared {
            table: Mutex::default(),
            names,
            killed,
            packet_timeout: options.packet_timeout,
            relaxed: options.relaxed,
        });
        let everyone = Arc::new(Semaphore::new(options.connections_max));
        let others = Arc::new(Semaphore::new(options.connections_max / 4));
        let mut tasks = JoinSet::new();
        for (address, listener) in listeners {
            let (shared, everyone, others) = (Arc::clone(&shared), Arc::clone(&everyone), Arc::clone(&others));
            tasks.spawn(accept(shared, address, listener, everyone, others));
        }
        // Lets the accept tasks run, so that what connects right after this is served.
        tokio::task::yield_now().await;
        Ok(Self { addresses, shared, tasks })
    }

    /// Where it listens, with the ports that it got.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Who is registered now.
    #[must_use]
    pub fn names(&self) -> Names {
        self.shared.names()
    }

    /// Follows who is registered. A change is there before the node that made it has its answer.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Names> {
        self.shared.watch()
    }

    /// Waits until a `KILL` was obeyed, which only a relaxed epmd does. Then the caller should shut down.
    pub async fn killed(&self) {
        let mut killed = self.shared.killed.subscribe();
        // The sender lives in `self`.
        drop(killed.wait_for(|killed| *killed).await);
    }

    /// Closes all sockets; when this returns the port is free.
    pub async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }
}

/// What the connections of one server share.
#[derive(Debug)]
pub(crate) struct Shared {
    table: Mutex<Table>,
    names: watch::Sender<Names>,
    killed: watch::Sender<bool>,
    packet_timeout: Duration,
    relaxed: bool,
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn names(&self) -> Names {
        self.table().names()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Names> {
        self.names.subscribe()
    }

    pub(crate) fn token(&self, name: &str) -> Option<Token> {
        self.table().token(name)
    }

    pub(crate) fn dump(&self, own_port: u32) -> DumpReply {
        self.table().dump(own_port)
    }

    pub(crate) fn register(&self, registration: Registration, descriptor: i32) -> Result<(Token, u32), Taken> {
        let mut table = self.table();
        let registered = table.register(registration, seed(), descriptor)?;
        // Under the lock, so that subscribers see the changes in their order.
        self.names.send_replace(table.names());
        Ok(registered)
    }

    pub(crate) fn unregister(&self, name: &str, token: Token) -> bool {
        let mut table = self.table();
        let was = table.unregister(name, token);
        if was {
            self.names.send_replace(table.names());
        }
        was
    }

    pub(crate) fn packet_timeout(&self) -> Duration {
        self.packet_timeout
    }

    pub(crate) fn is_relaxed(&self) -> bool {
        self.relaxed
    }

    pub(crate) fn kill(&self) {
        self.killed.send_replace(true);
    }
}

/// The creation of a name that was never seen: the clock, so that it differs from the one of an earlier epmd.
fn seed() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs() as u32
}

async fn accept(
    shared: Arc<Shared>,
    own: SocketAddr,
    listener: TcpListener,
    everyone: Arc<Semaphore>,
    others: Arc<Semaphore>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let local = stream.local_addr().is_ok_and(|own| is_local(peer, own));
                    if let Some(permits) = permits(local, &everyone, &others) {
                        let shared = Arc::clone(&shared);
                        connections.spawn(async move {
                            serve(shared, stream, local).await;
                            drop(permits);
                        });
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, address = %own, "epmd cannot accept");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

fn permits(
    local: bool,
    everyone: &Arc<Semaphore>,
    others: &Arc<Semaphore>,
) -> Option<(OwnedSemaphorePermit, Option<OwnedSemaphorePermit>)> {
    let other = if local { None } else { Some(Arc::clone(others).try_acquire_owned().ok()?) };
    Some((Arc::clone(everyone).try_acquire_owned().ok()?, other))
}

fn listen(addresses: &[SocketAddr]) -> Result<Vec<(SocketAddr, TcpListener)>, BindError> {
    let mut listeners: Vec<(SocketAddr, TcpListener)> = Vec::new();
    let mut absent = None;
    for &(mut address) in addresses {
        if let (0, Some((first, _))) = (address.port(), listeners.first()) {
            address.set_port(first.port());
        }
        match listener(address) {
            Ok(listener) => listeners.push(listener),
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
#[cfg(target_os = "linux")]
const AFNOSUPPORT: i32 = 97;
#[cfg(not(target_os = "linux"))]
const AFNOSUPPORT: i32 = 47;

fn listener(address: SocketAddr) -> io::Result<(SocketAddr, TcpListener)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for the connections of the last run to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    let listener = TcpListener::from_std(socket.into())?;
    Ok((listener.local_addr()?, listener))
}
