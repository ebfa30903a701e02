//! An epmd: the registrations of this host, for BEAM nodes and for whoever asks.
//!
//! A registration lives with its connection. Subscribers ([`Server::watch`]) learn of it before the node gets its
//! answer. Where the guide is silent it does as `epmd_srv.c` of OTP does: one request a connection, silence for what it
//! does not understand, a name twice refused with result 1, only this host may register, the newest name first in a
//! listing. `KILL` and `STOP` are refused unless [`ServerOptions`] allow them.
//!
//! It differs from stock epmd where that one is weak: no bound near 1,000 nodes, a bound for each other host, networks
//! that may ask, nobody who can hold it up (stock epmd waits for each writer), no name without a character, and an end
//! for the connection of a node that was refused and does not leave.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use metacluster_erl_wire::epmd::Registration;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use super::{
    accept::Acceptor,
    error::BindError,
    gate::Gate,
    listen::{descriptors_max, listen},
    names::{Entry, Names},
    network::Network,
    table::{Table, Taken},
};

/// Descriptors that are left to the rest of the process.
const DESCRIPTORS_SPARED: usize = 64;

/// How an epmd is to be.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where to listen. A port of 0 takes a free one, and after it those that follow take the same.
    pub addresses: Vec<SocketAddr>,
    /// The longest silence in a request or an answer; the whole takes at most ten times that. Default 60 s.
    pub packet_timeout: Duration,
    /// Open connections, registered nodes included; past that a new one is closed at once. Other hosts have a quarter
    /// of them at most. Default 65,536, and never more than the limit of descriptors leaves
    /// ([`raise_descriptor_limit`](super::raise_descriptor_limit)).
    pub connections_max: usize,
    /// Open connections of one other host; past that a new one is closed at once. Default 256.
    pub connections_per_source_max: usize,
    /// The networks of other hosts that may ask who is registered; everybody when empty, as with stock epmd. This host
    /// always may. Others are closed without an answer.
    pub allow: Vec<Network>,
    /// Whether `STOP` does what it says, and `KILL` even with nodes registered. Default false.
    pub relaxed: bool,
    /// Whether `KILL` does what it says when no node is registered, as with stock epmd. Default false.
    pub killable: bool,
    /// Names whose creation is remembered after they went, beyond those that went at once. Default 1,000.
    pub remembered_max: usize,
    /// A pause before each connection is accepted, to play a busy server. Default none.
    pub delay_accept: Duration,
    /// A pause before each write, to play a busy server. Default none.
    pub delay_write: Duration,
}

impl ServerOptions {
    /// Listens on these addresses.
    #[must_use]
    pub fn new(addresses: Vec<SocketAddr>) -> Self {
        Self {
            addresses,
            packet_timeout: Duration::from_secs(60),
            connections_max: 65_536,
            connections_per_source_max: 256,
            allow: Vec::new(),
            relaxed: false,
            killable: false,
            remembered_max: 1_000,
            delay_accept: Duration::ZERO,
            delay_write: Duration::ZERO,
        }
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
        Self::serve(listeners, options).await
    }

    /// Serves sockets that listen already, such as those of systemd. [`ServerOptions::addresses`] is not looked at.
    ///
    /// # Errors
    /// When there is none, or one of them is no socket that listens.
    pub async fn serve(listeners: Vec<TcpListener>, options: ServerOptions) -> Result<Self, BindError> {
        let mut addresses = Vec::new();
        let mut sockets = Vec::new();
        for listener in listeners {
            let unusable = |error: io::Error| BindError::Unusable((Ipv4Addr::UNSPECIFIED, 0).into(), error.to_string());
            let address = listener.local_addr().map_err(unusable)?;
            let failed = |error: io::Error| BindError::from_io(address, &error);
            listener.set_nonblocking(true).map_err(failed)?;
            sockets.push((address, watched(listener).map_err(failed)?));
            addresses.push(address);
        }
        if addresses.is_empty() {
            return Err(BindError::NoAddress);
        }
        let descriptors = descriptors_max().saturating_sub(DESCRIPTORS_SPARED).max(1);
        let most = options.connections_max.min(descriptors);
        let bound = if descriptors < options.connections_max {
            tracing::info!(
                target: "epmd",
                "at most {most} nodes can register: the limit of descriptors bounds them (ulimit -n, LimitNOFILE=)"
            );
            "the limit of descriptors (ulimit -n, LimitNOFILE=)"
        } else {
            "`connections_max`"
        };
        let gate = Gate::new(most, options.connections_per_source_max);
        let shared = Arc::new(Shared {
            table: Mutex::new(Table::new(options.remembered_max)),
            names: watch::Sender::new(Names::default()),
            closing: watch::Sender::new(false),
            listening: watch::Sender::new(sockets.len()),
            killed: watch::Sender::new(false),
            bound,
            full: AtomicBool::new(false),
            options,
        });
        let mut tasks = JoinSet::new();
        for (address, listener) in sockets {
            let acceptor = Acceptor::new(Arc::clone(&shared), Arc::clone(&gate), address);
            tasks.spawn(acceptor.run(listener));
        }
        // Lets the acceptors run, so that what connects right after this is served.
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
        self.shared.table().names().clone()
    }

    /// Follows who is registered. A change is there before the node that made it has its answer.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Names> {
        self.shared.names.subscribe()
    }

    /// Waits until a `KILL` was obeyed ([`ServerOptions::killable`], [`ServerOptions::relaxed`]). Then the port is free
    /// already, and the caller should shut down.
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

#[expect(deprecated, reason = "the descriptor of a listener of std never changes, which is what its successor asks")]
fn watched(listener: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    AsyncFd::with_interest(listener, Interest::READABLE)
}

/// What the connections of one server share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: ServerOptions,
    table: Mutex<Table>,
    names: watch::Sender<Names>,
    /// Whether the acceptors have to close their sockets.
    pub(super) closing: watch::Sender<bool>,
    /// How many acceptors have not.
    pub(super) listening: watch::Sender<usize>,
    killed: watch::Sender<bool>,
    /// What bounds the connections.
    bound: &'static str,
    /// Whether a connection of this host was turned away.
    full: AtomicBool,
}

impl Shared {
    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn register(&self, registration: Registration, descriptor: i32) -> Result<Arc<Entry>, Taken> {
        let mut table = self.table();
        let entry = table.register(registration, seed(), descriptor)?;
        self.publish(&table);
        Ok(entry)
    }

    /// Notes the task that holds the connection of a registration, or ends it if the registration has ended.
    pub(super) fn hold(&self, entry: &Entry, holder: AbortHandle) {
        let ends = holder.clone();
        if !self.table().hold(entry, holder) {
            ends.abort();
        }
    }

    pub(super) fn unregister(&self, entry: &Entry) -> bool {
        let mut table = self.table();
        let was = table.unregister(entry);
        if was {
            self.publish(&table);
        }
        was
    }

    pub(super) fn stop(&self, name: &str) -> bool {
        let mut table = self.table();
        let was = table.stop(name);
        if was {
            self.publish(&table);
        }
        was
    }

    /// Tells subscribers. Under the lock of the table, so that they see the changes in their order.
    fn publish(&self, table: &Table) {
        self.names.send_replace(table.names().clone());
    }

    /// Says, once, that a connection of this host found no room.
    pub(super) fn say_full(&self) {
        if !self.full.swap(true, Ordering::Relaxed) {
            let registered = self.table().names().len();
            let bound = self.bound;
            tracing::warn!(target: "epmd", "no room for more connections, with {registered} nodes registered: {bound}");
        }
    }

    pub(super) fn may_be_killed(&self) -> bool {
        self.options.relaxed || (self.options.killable && self.table().names().is_empty())
    }

    /// Frees the port; what is connected stays so.
    pub(super) async fn close_listeners(&self) {
        self.closing.send_replace(true);
        let mut listening = self.listening.subscribe();
        // The sender lives in `self`.
        drop(listening.wait_for(|listening| *listening == 0).await);
    }

    pub(super) fn say_killed(&self) {
        self.killed.send_replace(true);
    }
}

/// The creation of a name that was never seen: the clock, so that it differs from the one of an earlier epmd.
fn seed() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs() as u32
}
