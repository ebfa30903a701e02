//! A node: a name, connections to peers, and processes that the peers can talk to.
//!
//! [`Node`] is a cheap handle; its tasks run until [`Node::shutdown`]. A send never dials: what is not connected is
//! refused at once. Signals between two processes keep their order. Two processes of one node talk the same way as
//! over a connection.
//!
//! Who may lock what: [`peers`] before [`registry`] before a mailbox, each for a few table operations, none across an
//! `await`.

mod accept;
mod call;
mod connection;
mod dial;
pub mod error;
pub mod event;
mod identifier;
mod mailbox;
pub mod options;
mod outbox;
mod peers;
pub mod process;
mod registry;
mod signals;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
pub use event::PeerInfo;
pub use metacluster_erl_wire::handshake::Expect;
use metacluster_erl_wire::{
    Atom, Pid, Reference, Term,
    control::Control,
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
    outbox::Full,
    peers::Peers,
    process::Process,
    registry::{Kind, LOCAL, Registry, Signal, Target},
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

    pub(crate) fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    pub(crate) fn send_from(&self, from: &Pid, to: &Pid, message: Term) -> Result<(), SendError> {
        match self.inner.route(to.node.as_str()).ok_or(SendError::NoConnection)? {
            Route::Local => {
                signals::deliver(&self.inner, to, message);
                Ok(())
            }
            Route::Peer(connection) => {
                let (to, trace) = (to.clone(), None);
                let control = if connection.has(Flags::SEND_SENDER) {
                    Control::SendSender { from: from.clone(), to, trace }
                } else {
                    Control::Send { to, trace }
                };
                Ok(connection.push(control, Some(&message))?)
            }
        }
    }

    pub(crate) fn send_name_from(
        &self,
        from: &Pid,
        node: &NodeName,
        name: &str,
        message: Term,
    ) -> Result<(), SendError> {
        // A name that is no atom is registered nowhere: the message goes where others to nobody go.
        let Ok(to) = Atom::new(name) else { return Ok(()) };
        match self.inner.route(node.as_str()).ok_or(SendError::NoConnection)? {
            Route::Local => {
                signals::deliver_name(&self.inner, &to, message);
                Ok(())
            }
            Route::Peer(connection) => {
                Ok(connection.push(Control::RegSend { from: from.clone(), to, trace: None }, Some(&message))?)
            }
        }
    }

    /// Sends to an alias, or to the process that made it when the peer does not know aliases.
    pub(crate) fn send_alias(&self, alias: &Reference, owner: &Pid, message: Term) -> Result<(), SendError> {
        match self.inner.route(alias.node.as_str()).ok_or(SendError::NoConnection)? {
            Route::Peer(connection) if connection.has(Flags::ALIAS) => {
                let (from, to) = (self.inner.kernel.clone(), alias.clone());
                Ok(connection.push(Control::AliasSend { from, to, trace: None }, Some(&message))?)
            }
            Route::Local | Route::Peer(_) => self.send(owner, message),
        }
    }

    pub(crate) fn exit_from(&self, from: &Pid, to: &Pid, reason: Term) -> Result<(), SendError> {
        match self.inner.route(to.node.as_str()).ok_or(SendError::NoConnection)? {
            Route::Local => {
                self.inner.registry.exit_signal(from, to, reason);
                Ok(())
            }
            Route::Peer(connection) => Ok(connection.push_exit(from.clone(), to.clone(), reason)?),
        }
    }

    pub(crate) fn monitor(&self, process: &Pid, node: &str, target: Target) -> Reference {
        let registry = &self.inner.registry;
        let route = self.inner.route(node);
        let id = route.as_ref().map_or(LOCAL, Route::id);
        let Some(reference) = registry.monitor(process, id, target.clone()) else { return self.reference() };
        match route {
            None => registry.down(&reference, Term::atom("noconnection")),
            Some(Route::Local) => {
                if let Some(signal) = registry.watch(LOCAL, process.clone(), target, reference.clone()) {
                    signals::take_local(&self.inner, signal);
                }
            }
            Some(Route::Peer(connection)) => {
                let control = Control::MonitorP { from: process.clone(), to: target, reference: reference.clone() };
                if !connection.push_control(control, None) {
                    registry.down(&reference, Term::atom("noconnection"));
                }
            }
        }
        reference
    }

    pub(crate) fn demonitor(&self, process: &Pid, reference: &Reference) {
        if let Some((connection, signal)) = self.inner.registry.demonitor(process, reference) {
            self.inner.emit(connection, signal);
        }
    }

    pub(crate) fn link(&self, process: &Pid, to: &Pid) {
        if process == to {
            return;
        }
        let registry = &self.inner.registry;
        let route = self.inner.route(to.node.as_str());
        let id = route.as_ref().map_or(LOCAL, Route::id);
        if !registry.link(process, id, to) {
            return;
        }
        match route {
            None => registry.exit_from(to, process, Term::atom("noconnection")),
            Some(Route::Local) => {
                if let Some(signal) = registry.link_from(LOCAL, process.clone(), to) {
                    signals::take_local(&self.inner, signal);
                }
            }
            Some(Route::Peer(connection)) => {
                if !connection.push_control(Control::Link { from: process.clone(), to: to.clone() }, None) {
                    registry.exit_from(to, process, Term::atom("noconnection"));
                }
            }
        }
    }

    pub(crate) fn unlink(&self, process: &Pid, to: &Pid) {
        let registry = &self.inner.registry;
        // The wire has 64 bits for it, and never a zero.
        let id = self.inner.unlinks.fetch_add(1, Ordering::Relaxed);
        let Some(on) = registry.unlink(process, to, id) else { return };
        let (from, to) = (process.clone(), to.clone());
        if on == LOCAL {
            registry.unlink_from(&from, &to);
            registry.unlinked(&from, &to, id);
            return;
        }
        let Some(connection) = self.inner.peers.by_id(on) else { return };
        if connection.has(Flags::UNLINK_ID) {
            connection.push_control(Control::UnlinkId { id, from, to }, None);
        } else {
            registry.unlinked(&from, &to, id);
            connection.push_control(Control::Unlink { from, to }, None);
        }
    }

    pub(crate) fn end_process(&self, process: &Pid, reason: &Term) {
        for (connection, signal) in self.inner.registry.end(process, reason) {
            self.inner.emit(connection, signal);
        }
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

    fn emit(&self, connection: u64, signal: Signal) {
        if connection == LOCAL {
            signals::take_local(self, signal);
        } else if let Some(connection) = self.peers.by_id(connection) {
            connection.push_signal(signal);
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
        stream: TcpStream,
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

    fn finish(&self, connection: &Arc<Connection>, reason: DownReason) {
        self.peers.finish(connection, &self.registry, reason);
    }
}

impl From<Full> for SendError {
    fn from(full: Full) -> Self {
        match full {
            Full::Busy => Self::Busy,
            Full::Closed => Self::NoConnection,
        }
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
