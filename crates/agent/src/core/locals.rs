//! The nodes of this host: found through epmd, held by a hidden connection each, watched through `global_group`.
//!
//! One task holds one name. It connects, asks `global_group` to tell of nodes that come and go (a plain process there
//! does so without any code of ours), reads what is linked already, and reports. What epmd says only starts a
//! connection: while the connection lives, the node lives, whatever becomes of epmd. Follows the facts on driving a
//! BEAM from outside: `monitor_nodes` speaks of visible nodes only, and servers of a node that has just registered may
//! not run yet, so `noproc` is asked again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use metacluster_erl::{
    CallError, ConnectError, Node, NodeEvent, Process, Received,
    node::PeerInfo,
    wire::{
        Term,
        handshake::{Expect, Flags, HandshakeError},
    },
};
use metacluster_types::{NodeName, Pattern};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep},
};
use tracing::debug;

use super::{epmd::Registered, ours::Ours};

/// How long one call to a local node may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// A node that has just registered gets its servers within this.
const BOOT: Duration = Duration::from_secs(30);
/// Between two questions to a server that is not there yet.
const AGAIN: Duration = Duration::from_millis(20);
/// The first and the longest wait before a node that does not answer is tried again.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The waits before a node that refused our cookie is tried again: each try is an error report in that node's log.
const BACK_OFF_REFUSED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(300));
/// How often the links of a node are read again, in case a message was lost.
const RESYNC: Duration = Duration::from_secs(30);
/// How many names are held at most.
const NAMES_MAX: usize = 4_096;

/// What became of a local node.
#[derive(Debug)]
pub(crate) enum LocalEvent {
    /// It holds our connection and can be asked to dial.
    Ready {
        /// Its name.
        node: NodeName,
        /// Its OTP release; none when it is no BEAM.
        otp: Option<String>,
        /// The visible nodes that it is linked to.
        links: BTreeSet<NodeName>,
        /// Our node that holds the connection.
        ours: Node,
    },
    /// It told of a peer that came or went.
    Link {
        /// The local node.
        node: NodeName,
        /// The peer.
        peer: NodeName,
        /// Came or went.
        up: bool,
    },
    /// All that it is linked to now.
    Links {
        /// The local node.
        node: NodeName,
        /// The visible nodes that it is linked to.
        links: BTreeSet<NodeName>,
    },
    /// Our connection to it ended.
    Gone {
        /// The local node.
        node: NodeName,
        /// Why.
        reason: String,
    },
    /// A name that was refused is registered no more.
    Forgotten {
        /// The part before `@`.
        basename: String,
    },
    /// It is registered and cannot be held. Said once for each reason.
    Refused {
        /// The part of its name before `@`.
        basename: String,
        /// Why, and what to do.
        reason: String,
    },
}

/// Which names are ours to hold.
#[derive(Clone)]
pub(crate) struct Selection {
    /// The patterns of `[nodes] names`; all when empty.
    pub(crate) patterns: Vec<Pattern>,
    /// The agent's own basename.
    pub(crate) own: String,
}

impl Selection {
    fn admits_basename(&self, basename: &str) -> bool {
        let admits = |pattern: &Pattern| {
            // Of a pattern with a host part, the part before `@` can be held against what epmd knows.
            let text = pattern.as_str().split('@').next().unwrap_or_default();
            Pattern::new(text).matches(basename)
        };
        basename != self.own && (self.patterns.is_empty() || self.patterns.iter().any(admits))
    }

    fn admits(&self, node: &NodeName) -> bool {
        self.patterns.is_empty() || self.patterns.iter().any(|pattern| pattern.matches_node(node))
    }
}

/// Holds what is registered until it is aborted. Takes up nobody while `free` says that another program has the name of
/// the agent's own node.
pub(crate) async fn watch_registered(
    mut registered: watch::Receiver<Registered>,
    mut free: watch::Receiver<bool>,
    selection: Selection,
    ours: Arc<Ours>,
    events: mpsc::Sender<LocalEvent>,
) {
    let mut held: BTreeMap<String, (watch::Sender<Option<u16>>, Held)> = BTreeMap::new();
    loop {
        if free.wait_for(|&free| free).await.is_err() {
            return;
        }
        let now = Arc::clone(&registered.borrow_and_update());
        held.retain(|_, (_, task)| !task.0.is_finished());
        for (basename, (port, _)) in &held {
            let port_now = now.get(basename).copied();
            port.send_if_modified(|port| std::mem::replace(port, port_now) != port_now);
        }
        for (basename, port) in now.iter().filter(|(basename, _)| selection.admits_basename(basename)) {
            if held.contains_key(basename) || held.len() >= NAMES_MAX {
                continue;
            }
            let (port_in, port) = watch::channel(Some(*port));
            let holder = Holder {
                basename: basename.clone(),
                port,
                selection: selection.clone(),
                ours: Arc::clone(&ours),
                events: events.clone(),
                told: None,
                lost: None,
            };
            held.insert(basename.clone(), (port_in, Held(tokio::spawn(holder.hold()))));
        }
        if registered.changed().await.is_err() {
            return;
        }
    }
}

/// A task that ends with its owner.
struct Held(JoinHandle<()>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Holder {
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
    async fn hold(mut self) {
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
        let nameless = |error: metacluster_types::NameError| Trouble::Refused(error.to_string());
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
        node_events: &mut tokio::sync::broadcast::Receiver<NodeEvent>,
    ) -> Result<String, Trouble> {
        let peer = &info.name;
        let mut process = ours.spawn();
        subscribe(&process, peer).await.map_err(|error| trouble(peer, &error))?;
        let links = read_links(ours, peer).await.map_err(|error| trouble(peer, &error))?;
        if let Some(tick_time) = read_tick_time(ours, peer).await {
            ours.set_tick_time(peer, tick_time);
        }
        let same = self.lost.as_ref().is_some_and(|lost| lost.node == *peer && lost.creation == info.creation);
        let held = if same {
            debug!("{peer} is held again");
            self.lost = None;
            self.send(LocalEvent::Links { node: peer.clone(), links }).await
        } else {
            let otp = read_otp(ours, peer).await;
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
                        if let Some((name, up)) = node_message(&message)
                            && !self.send(LocalEvent::Link { node: peer.clone(), peer: name, up }).await
                        {
                            return Err(Trouble::Over);
                        }
                        false
                    }
                    // `global_group` ended with its link to us: its next life knows nothing of us.
                    Received::Exit { .. } | Received::Down { .. } => {
                        if subscribe(&process, peer).await.is_err() && !connected(ours, peer) {
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
                && let Ok(links) = read_links(ours, peer).await
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

/// Has `global_group` send `{nodeup, Node}` and `{nodedown, Node}` to the process.
async fn subscribe(process: &Process, peer: &NodeName) -> Result<(), CallError> {
    let request = Term::tuple([Term::atom("monitor_nodes"), Term::atom("true")]);
    patiently(|| process.call(peer, "global_group", request.clone(), PATIENCE)).await.map(drop)
}

async fn read_links(ours: &Node, peer: &NodeName) -> Result<BTreeSet<NodeName>, CallError> {
    let nodes = patiently(|| ours.rpc(peer, "erlang", "nodes", vec![], PATIENCE)).await?;
    Ok(nodes
        .as_list()
        .unwrap_or_default()
        .iter()
        .filter_map(Term::as_atom)
        .filter_map(|atom| NodeName::new(atom.as_str()).ok())
        .collect())
}

/// The OTP release; none from what is no BEAM.
async fn read_otp(ours: &Node, peer: &NodeName) -> Option<String> {
    let arguments = vec![Term::atom("otp_release")];
    ours.rpc(peer, "erlang", "system_info", arguments, PATIENCE).await.ok()?.as_text()
}

/// The node's `net_ticktime`: it drops us when it hears nothing of us for so long.
async fn read_tick_time(ours: &Node, peer: &NodeName) -> Option<Duration> {
    let answer = ours.rpc(peer, "net_kernel", "get_net_ticktime", vec![], PATIENCE).await.ok()?;
    // A change under way is `{ongoing_change_to, Seconds}`.
    let seconds = answer.as_i64().or_else(|| answer.as_tuple()?.get(1)?.as_i64())?;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// Repeats a call while the server does not run yet.
async fn patiently<F, Answer>(call: impl Fn() -> F) -> Result<Answer, CallError>
where
    F: Future<Output = Result<Answer, CallError>>,
{
    let begun = Instant::now();
    loop {
        match call().await {
            Err(CallError::NoProcess) if begun.elapsed() < BOOT => sleep(AGAIN).await,
            answer => return answer,
        }
    }
}

/// Reads `{nodeup, Node}` or `{nodedown, Node}`.
fn node_message(message: &Term) -> Option<(NodeName, bool)> {
    let [what, node] = message.as_tuple()? else { return None };
    let up = match what.as_atom()?.as_str() {
        "nodeup" => true,
        "nodedown" => false,
        _ => return None,
    };
    Some((NodeName::new(node.as_atom()?.as_str()).ok()?, up))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(patterns: &[&str]) -> Selection {
        Selection { patterns: patterns.iter().map(|text| Pattern::new(text)).collect(), own: "metacluster".to_owned() }
    }

    #[test]
    fn our_own_name_is_never_held_and_patterns_choose_the_rest() {
        assert!(selection(&[]).admits_basename("shop"));
        assert!(!selection(&[]).admits_basename("metacluster"));
        let some = selection(&["worker-*", "db@10.0.0.4"]);
        assert!(some.admits_basename("worker-1") && some.admits_basename("db"));
        assert!(!some.admits_basename("shop"));
        assert!(!some.admits(&NodeName::new("db@10.0.0.5").expect("valid")), "the host part counts once it is known");
    }

    #[test]
    fn only_messages_of_nodes_are_read() {
        let message = |items: [Term; 2]| node_message(&Term::tuple(items));
        let up = message([Term::atom("nodeup"), Term::atom("a@b")]).expect("read");
        assert_eq!((up.0.as_str(), up.1), ("a@b", true));
        assert!(!message([Term::atom("nodedown"), Term::atom("a@b")]).expect("read").1);
        assert!(message([Term::atom("nodeup"), Term::atom("nohost")]).is_none());
        assert!(message([Term::atom("hello"), Term::atom("a@b")]).is_none());
        assert!(node_message(&Term::atom("nodeup")).is_none());
    }
}
