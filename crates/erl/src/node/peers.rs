//! The table of peers: who is connected, who is about to be, and the rules when both sides dial at once.
//!
//! Invariants: at most one connection a name is up; an event is sent under the lock that changes the table, so `Up` and
//! `Down` of a peer alternate; a connection that went up later takes the place of an earlier one, since a BEAM node lets
//! nobody in twice. Lock order: this table, then the registry of processes; never the other way.
//!
//! Follows `net_kernel.erl` (`accept_pending`) and the section "Handshake" of the guide.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metacluster_erl_wire::handshake::Expect;
use metacluster_types::NodeName;
use tokio::sync::{Notify, broadcast, watch};

use super::{
    connection::Connection,
    error::DownReason,
    event::{NodeEvent, PeerInfo},
    registry::Registry,
};

/// Events that a slow reader may be behind before it is told that it missed some.
const EVENTS_MAX: usize = 1_024;

/// What is about to become a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// A handshake with this node.
    Node(NodeName),
    /// A dial to a node of which only the first part of the name is known.
    Basename(SocketAddr, String),
}

struct Pending {
    id: u64,
    dialling: bool,
    killed: Arc<Notify>,
}

/// See the module.
pub(crate) struct Peers {
    own: NodeName,
    state: Mutex<State>,
    /// Counts the changes, for those who wait for one.
    changed: watch::Sender<u64>,
    events: broadcast::Sender<NodeEvent>,
}

#[derive(Default)]
struct State {
    up: BTreeMap<NodeName, Arc<Connection>>,
    by_id: BTreeMap<u64, Arc<Connection>>,
    pending: BTreeMap<Key, Pending>,
    claims: u64,
    closed: bool,
}

/// The right to bring a connection up. Dropping it gives the right back.
pub(crate) struct Claim {
    peers: Arc<Peers>,
    key: Key,
    id: u64,
    killed: Arc<Notify>,
}

/// What a dial finds.
pub(crate) enum Dial {
    /// Nobody else is at it.
    Go(Claim),
    /// The connection is up.
    Up(PeerInfo),
    /// The peer, or who says to be it, is dialling us; look again after a change.
    Accepting,
    /// Another task is dialling it; look again after a change.
    Dialling,
    /// The node is shutting down.
    Closed,
}

/// What a peer that dials is told.
pub(crate) enum Verdict {
    /// `ok`.
    Accept(Claim),
    /// `ok_simultaneous`: our own dial is given up.
    AcceptInstead(Claim),
    /// `nok`: our own dial goes on.
    Refuse,
    /// `alive`: there is a connection; the peer knows whether it is dead.
    Alive,
    /// `not_allowed`.
    NotAllowed,
}

impl Peers {
    pub(crate) fn new(own: NodeName) -> Self {
        Self { own, state: Mutex::default(), changed: watch::channel(0).0, events: broadcast::channel(EVENTS_MAX).0 }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<NodeEvent> {
        self.events.subscribe()
    }

    pub(crate) fn connection(&self, node: &str) -> Option<Arc<Connection>> {
        self.lock().up.get(node).cloned()
    }

    pub(crate) fn connection_of(&self, node: &NodeName) -> Option<Arc<Connection>> {
        self.lock().up.get(node).cloned()
    }

    pub(crate) fn by_id(&self, id: u64) -> Option<Arc<Connection>> {
        self.lock().by_id.get(&id).cloned()
    }

    pub(crate) fn list(&self) -> Vec<PeerInfo> {
        self.lock().up.values().map(|connection| connection.info().clone()).collect()
    }

    fn connections(&self) -> Vec<Arc<Connection>> {
        self.lock().up.values().cloned().collect()
    }

    /// Wants to dial. `take_over` does so although somebody says to be that peer and dials us.
    pub(crate) fn dial(self: &Arc<Self>, address: SocketAddr, expect: &Expect, take_over: bool) -> Dial {
        let mut state = self.lock();
        if state.closed {
            return Dial::Closed;
        }
        if let Some(peer) = state.find(address, expect, false) {
            return Dial::Up(peer);
        }
        let key = match expect {
            Expect::Exactly(node) => Key::Node(node.clone()),
            Expect::Basename(basename) => Key::Basename(address, basename.clone()),
        };
        match state.pending.get(&key) {
            Some(pending) if pending.dialling => return Dial::Dialling,
            Some(_) if !take_over => return Dial::Accepting,
            // Its own handshake goes on; whichever is done last stays.
            Some(_) => drop(state.pending.remove(&key)),
            None => {}
        }
        Dial::Go(self.claim(&mut state, key, true))
    }

    /// The connection that a dial would find up. With `lost`, also one that only the first part of the name tells: the
    /// peer said that it dials us, and did.
    pub(crate) fn find(&self, address: SocketAddr, expect: &Expect, lost: bool) -> Option<PeerInfo> {
        self.lock().find(address, expect, lost)
    }

    /// A node dials us.
    pub(crate) fn accept(self: &Arc<Self>, node: &NodeName) -> Verdict {
        let mut state = self.lock();
        if state.closed || *node == self.own {
            return Verdict::NotAllowed;
        }
        if state.up.contains_key(node) {
            return Verdict::Alive;
        }
        let key = Key::Node(node.clone());
        let dialling = match state.pending.get(&key) {
            None => false,
            Some(pending) if pending.dialling && self.own > *node => return Verdict::Refuse,
            // Our dial gives way; or the peer has given up its first attempt and tries anew.
            Some(pending) => {
                pending.killed.notify_one();
                pending.dialling
            }
        };
        state.pending.remove(&key);
        let claim = self.claim(&mut state, key, false);
        if dialling { Verdict::AcceptInstead(claim) } else { Verdict::Accept(claim) }
    }

    /// Takes a place that is free.
    fn claim(self: &Arc<Self>, state: &mut State, key: Key, dialling: bool) -> Claim {
        state.claims += 1;
        let (id, killed) = (state.claims, Arc::new(Notify::new()));
        state.pending.insert(key.clone(), Pending { id, dialling, killed: Arc::clone(&killed) });
        Claim { peers: Arc::clone(self), key, id, killed }
    }

    /// A handshake is done. False when the node is shutting down.
    pub(crate) fn install(&self, connection: &Arc<Connection>, registry: &Registry) -> bool {
        let name = &connection.info().name;
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        if let Some(old) = state.up.get(name).cloned() {
            self.remove(&mut state, &old, registry, DownReason::Replaced);
        }
        state.up.insert(name.clone(), Arc::clone(connection));
        state.by_id.insert(connection.info().connection, Arc::clone(connection));
        // Nobody may be listening.
        drop(self.events.send(NodeEvent::Up { peer: connection.info().clone() }));
        drop(state);
        self.touch();
        true
    }

    /// A connection ended. Nothing happens when that is known.
    pub(crate) fn finish(&self, connection: &Arc<Connection>, registry: &Registry, reason: DownReason) {
        let mut state = self.lock();
        self.remove(&mut state, connection, registry, reason);
        drop(state);
        self.touch();
    }

    fn remove(&self, state: &mut State, connection: &Arc<Connection>, registry: &Registry, reason: DownReason) {
        let info = connection.info();
        if state.by_id.remove(&info.connection).is_none() {
            return;
        }
        state.up.remove(&info.name);
        // Closed first: what is made on the connection after the registry was swept finds it closed.
        connection.close(reason.clone());
        registry.connection_lost(info.connection);
        drop(self.events.send(NodeEvent::Down { peer: info.clone(), reason }));
    }

    /// Lets nobody in any more, and ends every connection.
    pub(crate) fn shutdown(&self, registry: &Registry) {
        let mut state = self.lock();
        state.closed = true;
        for pending in state.pending.values() {
            pending.killed.notify_one();
        }
        drop(state);
        for connection in self.connections() {
            self.finish(&connection, registry, DownReason::Shutdown);
        }
        self.touch();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }
}

impl State {
    fn find(&self, address: SocketAddr, expect: &Expect, lost: bool) -> Option<PeerInfo> {
        let connection = match expect {
            Expect::Exactly(node) => self.up.get(node),
            Expect::Basename(basename) => self.up.values().find(|connection| {
                let info = connection.info();
                // One that was dialled there; or one that came from that host, whatever port it came from.
                let same_place = info.address == address || info.accepted && info.address.ip() == address.ip();
                info.name.basename() == basename && (lost || same_place)
            }),
        };
        connection.map(|connection| connection.info().clone())
    }
}

impl Claim {
    /// Waits until another handshake takes the place of this one, or the node shuts down.
    pub(crate) async fn killed(&self) {
        self.killed.notified().await;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.peers.lock();
        if state.pending.get(&self.key).is_some_and(|pending| pending.id == self.id) {
            state.pending.remove(&self.key);
        }
        drop(state);
        self.peers.touch();
    }
}
