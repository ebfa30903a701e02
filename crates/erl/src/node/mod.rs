//! A node: a name, connections to peers, and processes that the peers can talk to.
//!
//! [`Node`] is a cheap handle; its tasks run until [`Node::shutdown`]. A send never dials: what is not connected is
//! refused at once. Signals between two processes keep their order. Two processes of one node talk the same way as
//! over a connection.
//!
//! Who may lock what: the table of peers before that of processes before a mailbox, each for a few table operations, none across an
//! `await`.

mod accept;
pub mod builder;
mod call;
mod connection;
mod dial;
pub mod error;
pub mod event;
pub mod functions;
mod identifier;
mod inbound;
mod mailbox;
pub mod options;
mod outbox;
mod outgoing;
mod pace;
mod peers;
pub mod process;
pub mod reach;
pub(crate) mod registry;
pub mod relay;
mod schedule;
mod signals;
mod stream;
pub mod tls;
mod typed;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
pub use event::PeerInfo;
pub use metacluster_erl_wire::handshake::Expect;
use metacluster_erl_wire::{
    Atom, Pid, Reference, Term,
    handshake::{Established, Flags, Local},
};
use metacluster_types::NodeName;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, broadcast},
    task::JoinSet,
};

use self::{
    connection::Connection,
    error::{ConnectError, DownReason, SendError},
    event::NodeEvent,
    identifier::{Identifiers, Purpose},
    mailbox::Mailbox,
    options::NodeOptions,
    peers::Peers,
    process::Process,
    registry::{Kind, LOCAL, Registry, Signal},
    stream::Stream,
    tls::TlsError,
};

/// The time that connections have to write what is queued when the node shuts down.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// A node of ours. Cheap to clone; all clones are the same node.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

/// What the tasks of a node share.
pub(crate) struct Inner {
    options: NodeOptions,
    creation: u32,
    registry: Registry,
    peers: Arc<Peers>,
    /// The process that stands for the node itself.
    kernel: Pid,
    connections: AtomicU64,
    unlinks: AtomicU64,
    handshakes: Arc<Semaphore>,
    /// Who takes what is for others.
    relay: OnceLock<Arc<dyn relay::Relay>>,
    tasks: Mutex<Tasks>,
}

/// What runs for a node.
#[derive(Default)]
struct Tasks {
    /// Listeners and handshakes: these are stopped.
    services: JoinSet<()>,
    /// Connections: these end by themselves once they are told to.
    connections: JoinSet<()>,
}

/// The way to a node.
pub(crate) enum Route {
    /// It is this one.
    Local,
    /// Over this connection.
    Peer(Arc<Connection>),
}

impl Route {
    fn id(&self) -> u64 {
        match self {
            Self::Local => LOCAL,
            Self::Peer(connection) => connection.info().connection,
        }
    }
}

impl Node {
    /// Makes a node. It listens nowhere and dials nobody until told to.
    #[must_use]
    pub fn start(options: NodeOptions) -> Self {
        let creation = options.creation.unwrap_or_else(|| rand::random::<u32>().max(4));
        let name = Atom::from(&options.name);
        let registry = Registry::new(Identifiers::new(name, creation), options.watchers_max);
        let kernel = registry.spawn(Kind::Kernel, Arc::new(Mailbox::discarding()));
        // The first name of a fresh registry is free.
        drop(registry.register(&kernel, &Atom::from_static("net_kernel")));
        let inner = Inner {
            creation,
            registry,
            peers: Arc::new(Peers::new(options.name.clone())),
            kernel,
            connections: AtomicU64::new(LOCAL + 1),
            unlinks: AtomicU64::new(1),
            handshakes: Arc::new(Semaphore::new(options.handshakes_max)),
            relay: OnceLock::new(),
            tasks: Mutex::default(),
            options,
        };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn of(inner: &Arc<Inner>) -> Self {
        Self { inner: Arc::clone(inner) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        &self.inner.options.name
    }

    /// Tells this life of the node from others under the same name.
    #[must_use]
    pub fn creation(&self) -> u32 {
        self.inner.creation
    }

    /// Listens for peers; the address with the port that it got. More than one address can be listened on.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn listen(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        self.inner.run(accept::listen(Arc::clone(&self.inner), address, listener));
        Ok(address)
    }

    /// Takes a connection that somebody else accepted. The handshake runs by itself; [`Node::events`] tells if a peer
    /// came of it.
    pub fn accept(&self, stream: TcpStream) {
        accept::start(&self.inner, stream);
    }

    /// Connects to a node, and returns once signals flow. A connection that is up already is returned as it is. Of two
    /// nodes that dial each other at once, one connection comes out.
    ///
    /// # Errors
    /// When there is no connection; the error says whom to blame.
    pub async fn connect(&self, address: SocketAddr, expect: Expect) -> Result<PeerInfo, ConnectError> {
        dial::connect(&self.inner, address, expect).await
    }

    /// Ends the connection to a peer. What is queued is still written. False if there was none.
    pub fn disconnect(&self, peer: &NodeName) -> bool {
        let connection = self.inner.peers.connection_of(peer);
        if let Some(connection) = &connection {
            self.inner.finish(connection, DownReason::Disconnected);
        }
        connection.is_some()
    }

    /// Who is connected, by name.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.inner.peers.list()
    }

    /// The connection to this peer, if there is one.
    #[must_use]
    pub fn peer(&self, name: &NodeName) -> Option<PeerInfo> {
        Some(self.inner.peers.connection_of(name)?.info().clone())
    }

    /// The time since the last byte of this peer, if it is connected.
    #[must_use]
    pub fn silent(&self, name: &NodeName) -> Option<Duration> {
        Some(self.inner.peers.connection_of(name)?.silent())
    }

    /// Holds to a peer's own `net_ticktime` when it is not ours: four ticks go out within it, and a peer that is silent
    /// for all of it is down. False if there is no connection.
    pub fn set_tick_time(&self, name: &NodeName, tick_time: Duration) -> bool {
        let connection = self.inner.peers.connection_of(name);
        if let Some(connection) = &connection {
            connection.set_tick_time(tick_time);
        }
        connection.is_some()
    }

    /// Who comes and goes from now on. A reader that falls 1,024 events behind is told so, and looks at
    /// [`Node::peers`].
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<NodeEvent> {
        self.inner.peers.events()
    }

    /// A new process.
    #[must_use]
    pub fn spawn(&self) -> Process {
        let mailbox = Arc::new(Mailbox::new(self.inner.options.mailbox_messages_max));
        let pid = self.inner.registry.spawn(Kind::Ordinary, Arc::clone(&mailbox));
        Process::new(self.clone(), pid, mailbox)
    }

    /// The process of this node that has this name.
    #[must_use]
    pub fn whereis(&self, name: &str) -> Option<Pid> {
        self.inner.registry.whereis(&Atom::new(name).ok()?)
    }

    /// A reference that nobody else has.
    #[must_use]
    pub fn reference(&self) -> Reference {
        self.inner.registry.identifiers().reference(Purpose::Other)
    }

    /// Sends to a process, of this node or of a connected one. To a pid that no longer is, nothing is sent, as in
    /// Erlang.
    ///
    /// # Errors
    /// When the message was not queued.
    pub fn send(&self, to: &Pid, message: Term) -> Result<(), SendError> {
        self.send_from(&self.inner.kernel, to, message)
    }

    /// Sends to a registered name of a node.
    ///
    /// # Errors
    /// When the message was not queued.
    pub fn send_name(&self, node: &NodeName, name: &str, message: Term) -> Result<(), SendError> {
        self.send_name_from(&self.inner.kernel, node, name, message)
    }

    /// `gen_server:cast({Server, Node}, Request)`.
    ///
    /// # Errors
    /// When the request was not queued. A server that does not exist is no error, as in Erlang.
    pub fn cast(&self, node: &NodeName, server: &str, request: Term) -> Result<(), SendError> {
        self.send_name(node, server, crate::gen_server::cast(request))
    }

    /// Ends the node: nobody is let in any more, what is queued is written, for at most a second, and every connection
    /// is closed. Processes that still live get nothing any more but what is in their mailboxes.
    pub async fn shutdown(&self) {
        self.inner.peers.shutdown(&self.inner.registry);
        let mut tasks = {
            let mut tasks = self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        tasks.services.shutdown().await;
        let drained = async { while tasks.connections.join_next().await.is_some() {} };
        // Those that did not get it written in time are cut off.
        drop(tokio::time::timeout(SHUTDOWN, drained).await);
        tasks.connections.shutdown().await;
    }

    /// Runs a service for as long as the node lives.
    pub(crate) fn run(&self, service: impl Future<Output = ()> + Send + 'static) {
        self.inner.run(service);
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.inner.registry
    }
}

impl Inner {
    /// Who this node is in a handshake.
    fn local(&self) -> Local {
        Local {
            name: self.options.name.clone(),
            creation: self.creation,
            flags: Flags::offered(self.options.hidden),
            cookie: self.options.cookie.clone(),
        }
    }

    fn route(&self, node: &str) -> Option<Route> {
        if node == self.options.name.as_str() {
            return Some(Route::Local);
        }
        self.peers.connection(node).map(Route::Peer)
    }

    /// Sends a signal of this process.
    fn emit(&self, process: &Pid, connection: u64, signal: Signal) {
        if connection == LOCAL {
            signals::take_local(self, signal);
        } else if let Some(connection) = self.peers.by_id(connection) {
            connection.push_signal(Some(process), signal);
        }
    }

    /// Runs a listener or a handshake for as long as the node lives.
    fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.run_in(|tasks| &mut tasks.services, task);
    }

    fn run_in(&self, set: fn(&mut Tasks) -> &mut JoinSet<()>, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let set = set(&mut tasks);
        // What has ended is forgotten.
        while set.try_join_next().is_some() {}
        if !self.peers.is_closed() {
            set.spawn(task);
        }
    }

    /// A handshake is done: the peer is up, unless the node is shutting down.
    fn start_connection(
        self: &Arc<Self>,
        stream: Stream,
        rest: BytesMut,
        established: Established,
        accepted: bool,
    ) -> Option<PeerInfo> {
        let info = PeerInfo {
            name: established.peer,
            creation: established.peer_creation,
            flags: established.flags,
            peer_flags: established.peer_flags,
            address: stream.peer_addr().ok()?,
            connection: self.connections.fetch_add(1, Ordering::Relaxed),
            accepted,
        };
        let connection =
            Arc::new(Connection::new(info.clone(), self.options.queue_bytes_max, self.options.tick_time()));
        if !self.peers.install(&connection, &self.registry) {
            return None;
        }
        self.run_in(|tasks| &mut tasks.connections, connection::run(Arc::clone(self), connection, stream, rest));
        Some(info)
    }

    fn check_dialled(&self, stream: &Stream, peer: &NodeName) -> Result<(), TlsError> {
        match (&self.options.tls, stream) {
            (Some(tls), Stream::Tls(stream)) => tls.check_dialled(stream, peer),
            (_, _) => Ok(()),
        }
    }

    fn check_accepted(&self, stream: &Stream, peer: &NodeName) -> Result<(), TlsError> {
        match (&self.options.tls, stream) {
            (Some(tls), Stream::Tls(stream)) => tls.check_accepted(stream, peer),
            (_, _) => Ok(()),
        }
    }

    fn finish(&self, connection: &Arc<Connection>, reason: DownReason) {
        self.peers.finish(connection, &self.registry, reason);
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("name", self.name())
            .field("creation", &self.inner.creation)
            .finish_non_exhaustive()
    }
}
