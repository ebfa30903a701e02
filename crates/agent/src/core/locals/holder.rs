//! One task that holds one name: connects, reports, connects again, and tells when the node is gone.
//!
//! A connection that ends is made again at once, and only a node that cannot be held any more is told gone: what looks
//! like a dead node may be a cut between two programs. A node that refuses us is asked seldom, since each refusal is an
//! error report in its log.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use metacluster_erl::{
    CallError, ConnectError, Node, NodeEvent, Received, TlsError,
    node::PeerInfo,
    wire::handshake::{Expect, Flags, HandshakeError},
};
use metacluster_types::{NameError, NodeName};
use tokio::{
    sync::{broadcast, mpsc, watch},
    time::{Instant, sleep},
};
use tracing::debug;

use super::{LocalEvent, Selection, ask};
use crate::core::ours::Ours;

/// The first and the longest wait before a node that does not answer is tried again.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The waits before a node that refused our cookie is tried again: each try is an error report in that node's log.
const BACK_OFF_REFUSED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(300));
/// How often the links of a node are read again, in case a message was lost.
const RESYNC: Duration = Duration::from_secs(30);

/// Holds one name. See the module.
pub(super) struct Holder {
    basename: String,
    /// The registered port; none while the name is not registered.
    port: watch::Receiver<Option<u16>>,
    selection: Selection,
    ours: Arc<Ours>,
    events: mpsc::Sender<LocalEvent>,
    /// The reason that was last told.
    told: Option<String>,
    /// The node that was held until just now, while nobody has been told that it is gone.
    lost: Option<Lost>,
}

/// A node whose connection ended. The node may well live, so it is gone only when it cannot be held again at once.
struct Lost {
    node: NodeName,
    creation: u32,
    reason: String,
}

/// Why a node is not held.
enum Trouble {
    /// It will not have us, or we not it: ask seldom.
    Refused(String),
    /// It is hidden, such as a remote shell: no business of ours.
    Hidden,
    /// It did not answer: ask again soon.
    Away(String),
    /// It was held, and the connection ended.
    Ended,
    /// The agent ends.
    Over,
}

impl Holder {
    pub(super) fn new(
        basename: &str,
        port: watch::Receiver<Option<u16>>,
        selection: Selection,
        ours: Arc<Ours>,
        events: mpsc::Sender<LocalEvent>,
    ) -> Self {
        Self { basename: basename.to_owned(), port, selection, ours, events, told: None, lost: None }
    }

    /// Holds the name until it is registered no more; then gives it back.
    pub(super) async fn hold(mut self) -> String {
        self.keep().await;
        self.basename
    }

    async fn keep(&mut self) {
        let mut wait = BACK_OFF.0;
        let mut wait_refused = BACK_OFF_REFUSED.0;
        loop {
            let Some(port) = *self.port.borrow_and_update() else {
                // The table makes a new holder when the name comes back.
                if self.gone().await && self.told.is_some() {
                    self.send(LocalEvent::Forgotten { basename: self.basename.clone() }).await;
                }
                return;
            };
            let trouble = self.attempt(port).await;
            if !matches!(trouble, Trouble::Ended) && !self.gone().await {
                return;
            }
            let pause = match trouble {
                Trouble::Over => return,
                Trouble::Ended => {
                    (wait, wait_refused) = (BACK_OFF.0, BACK_OFF_REFUSED.0);
                    self.told = None;
                    continue;
                }
                Trouble::Hidden => BACK_OFF_REFUSED.0,
                Trouble::Away(reason) => {
                    self.tell(reason, wait > BACK_OFF.0 * 8).await;
                    let pause = wait;
                    wait = (wait * 2).min(BACK_OFF.1);
                    pause
                }
                Trouble::Refused(reason) => {
                    self.tell(reason, true).await;
                    let pause = wait_refused;
                    wait_refused = (wait_refused * 2).min(BACK_OFF_REFUSED.1);
                    pause
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                changed = self.port.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    (wait, wait_refused) = (BACK_OFF.0, BACK_OFF_REFUSED.0);
                }
            }
        }
    }

    /// Tells that the node that was lost is gone. False when the agent ends.
    async fn gone(&mut self) -> bool {
        match self.lost.take() {
            Some(Lost { node, reason, .. }) => self.send(LocalEvent::Gone { node, reason }).await,
            None => true,
        }
    }

    async fn tell(&mut self, reason: String, due: bool) {
        if due && self.told.as_ref() != Some(&reason) {
            self.told = Some(reason.clone());
            self.send(LocalEvent::Refused { basename: self.basename.clone(), reason }).await;
        }
    }

    /// Whether the agent still listens.
    async fn send(&self, event: LocalEvent) -> bool {
        self.events.send(event).await.is_ok()
    }

    /// Connects and holds until the connection ends.
    async fn attempt(&mut self, port: u16) -> Trouble {
        let (ours, peer) = match self.connect(port).await {
            Ok(connected) => connected,
            Err(trouble) => return trouble,
        };
        let mut node_events = ours.events();
        match self.watch(&ours, &peer, &mut node_events).await {
            Ok(reason) => {
                self.lost = Some(Lost { node: peer.name, creation: peer.creation, reason });
                Trouble::Ended
            }
            Err(trouble) => {
                ours.disconnect(&peer.name);
                trouble
            }
        }
    }

    /// Connects under the name that suits the node's own form of name.
    async fn connect(&self, port: u16) -> Result<(Node, PeerInfo), Trouble> {
        let nameless = |error: NameError| Trouble::Refused(error.to_string());
        let mut ours = self.ours.any().map_err(nameless)?;
        // Twice at most: the second time the node's host part is known.
        for _ in 0..2 {
            let peer = self.connect_as(&ours, port).await?;
            let name = &peer.name;
            if !self.selection.admits(name) {
                ours.disconnect(name);
                return Err(Trouble::Refused(format!("{name} does not match [nodes] names")));
            }
            if !peer.peer_flags.has(Flags::PUBLISHED) {
                debug!("{name} is a hidden node, which takes no part in a mesh");
                ours.disconnect(name);
                return Err(Trouble::Hidden);
            }
            if ours.name().host() == name.host() {
                return Ok((ours, peer));
            }
            ours.disconnect(name);
            ours = self.ours.at(name.host()).map_err(nameless)?;
        }
        Err(Trouble::Away("its name changes between two connections".to_owned()))
    }

    async fn connect_as(&self, ours: &Node, port: u16) -> Result<PeerInfo, Trouble> {
        // A node may listen on one address alone: of the many loopback addresses that can be the one in its name.
        let named = ours.name().host().parse().ok().filter(IpAddr::is_loopback);
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let loopback = loopback.into_iter().filter(|address| Some(*address) != named);
        let mut last = Trouble::Away("no address".to_owned());
        for address in named.into_iter().chain(loopback).chain(interface_addresses()) {
            let expect = Expect::Basename(self.basename.clone());
            match ours.connect(SocketAddr::new(address, port), expect).await {
                Ok(peer) => return Ok(peer),
                Err(ConnectError::Refused(_) | ConnectError::Unreachable(..)) => {
                    last = Trouble::Away(format!(
                        "{}: registered in epmd, but nobody listens on port {port}",
                        self.basename
                    ));
                }
                Err(ConnectError::Handshake { error: HandshakeError::WrongCookie { .. }, .. }) => {
                    return Err(Trouble::Refused(format!(
                        "{}: it has another cookie; give it the agent's, or name only your own nodes in [nodes] names",
                        self.basename
                    )));
                }
                Err(ConnectError::Tls { error: TlsError::PeerIsTls, .. }) => {
                    return Err(Trouble::Refused(format!(
                        "{}: it speaks TLS (-proto_dist inet_tls), and the agent does not: set `certificate` and \
                         `authorities` in [distribution]",
                        self.basename
                    )));
                }
                Err(ConnectError::Tls { error: TlsError::PeerIsPlain, .. }) => {
                    return Err(Trouble::Refused(format!(
                        "{}: it speaks plain distribution, and the agent TLS: start it with -proto_dist inet_tls, or take \
                         [distribution] away",
                        self.basename
                    )));
                }
                Err(error @ ConnectError::Handshake { .. }) => {
                    return Err(Trouble::Away(format!("{}: {error}", self.basename)));
                }
                Err(ConnectError::Shutdown) => return Err(Trouble::Over),
                Err(error) => return Err(Trouble::Away(format!("{}: {error}", self.basename))),
            }
        }
        Err(last)
    }

    /// Subscribes, tells that the node is ready, and passes on what it says until the connection ends.
    async fn watch(
        &mut self,
        ours: &Node,
        info: &PeerInfo,
        node_events: &mut broadcast::Receiver<NodeEvent>,
    ) -> Result<String, Trouble> {
        let peer = &info.name;
        let mut process = ours.spawn();
        ask::subscribe(&process, peer).await.map_err(|error| trouble(peer, &error))?;
        let links = ask::read_links(ours, peer).await.map_err(|error| trouble(peer, &error))?;
        if let Some(tick_time) = ask::read_tick_time(ours, peer).await {
            ours.set_tick_time(peer, tick_time);
        }
        let same = self.lost.as_ref().is_some_and(|lost| lost.node == *peer && lost.creation == info.creation);
        let held = if same {
            debug!("{peer} is held again");
            self.lost = None;
            self.send(LocalEvent::Links { node: peer.clone(), links }).await
        } else {
            let otp = ask::read_otp(ours, peer).await;
            let ready = LocalEvent::Ready { node: peer.clone(), otp, links, ours: ours.clone() };
            self.gone().await && self.send(ready).await
        };
        if !held {
            return Err(Trouble::Over);
        }
        let mut resync = tokio::time::interval_at(Instant::now() + RESYNC, RESYNC);
        resync.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let stale = tokio::select! {
                received = process.recv() => match received {
                    Received::Message(message) => {
                        if let Some((name, up)) = ask::node_message(&message)
                            && !self.send(LocalEvent::Link { node: peer.clone(), peer: name, up }).await
                        {
                            return Err(Trouble::Over);
                        }
                        false
                    }
                    // `global_group` ended with its link to us: its next life knows nothing of us.
                    Received::Exit { .. } | Received::Down { .. } => {
                        if ask::subscribe(&process, peer).await.is_err() && !connected(ours, peer) {
                            return Ok("connection closed".to_owned());
                        }
                        true
                    }
                    Received::Lost { .. } => true,
                },
                event = node_events.recv() => match event {
                    Ok(NodeEvent::Down { peer: gone, reason }) if gone.name == *peer => return Ok(reason.to_string()),
                    Ok(NodeEvent::Down { .. } | NodeEvent::Up { .. }) => false,
                    Err(_) if connected(ours, peer) => false,
                    Err(_) => return Ok("connection closed".to_owned()),
                },
                _ = resync.tick() => true,
            };
            if stale
                && let Ok(links) = ask::read_links(ours, peer).await
                && !self.send(LocalEvent::Links { node: peer.clone(), links }).await
            {
                return Err(Trouble::Over);
            }
        }
    }
}

fn connected(ours: &Node, peer: &NodeName) -> bool {
    ours.peers().iter().any(|info| info.name == *peer)
}

fn trouble(peer: &NodeName, error: &CallError) -> Trouble {
    Trouble::Away(format!("{peer}: {error}"))
}

/// The addresses of this host, for a node that does not listen on loopback.
fn interface_addresses() -> Vec<IpAddr> {
    const ADDRESSES_MAX: usize = 16;
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    interfaces
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        })
        .filter(|address| !address.is_loopback())
        .take(ADDRESSES_MAX)
        .collect()
}
