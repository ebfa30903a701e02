//! What has to hold before a node gets a link back that it lost. A new link joins two meshes: the `global`s of both ends
//! tell each other whom they know, and connect everybody to everybody (`connect_all`). Whatever fails then, they hold for
//! a lost connection, tell all the rest, and healthy links go (see [`super::global`]). Two things fail after a cut:
//!
//! - One end still holds a connection whose other end is gone. A new one would replace it there, which is a loss. So such
//!   connections are forgotten first: those that the peer holds to the local node and to nodes that this is linked to,
//!   and those that nodes of either mesh hold to the end that is to join it. A connection that is being made is known to
//!   one end a moment before it is to the other, so a stale one is one that is held, unchanged, a while later, and by the
//!   other end still not.
//! - One end cannot reach one of the nodes that it would meet: the cut is not healed in all parts, or its kernel still
//!   waits for the answer to a question after the neighbour (ARP) that it asked during the cut. So each end is asked to
//!   reach the hosts that it would meet, and the dial waits until it can.
//!
//! Invariant: a node that cannot reach a host is not linked to a mesh that holds this host.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use metacluster_erl::{CallError, Node, node::Expect, wire::Term};
use metacluster_formation::DialError;
use metacluster_types::NodeName;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tracing::debug;

use super::{
    dial::{Dial, atom},
    global::{self, GLOBAL, connections},
};

/// Pairs that are remembered.
const PARTED_MAX: usize = 10_000;
/// How many other nodes are looked after; those beyond are left to their own agents.
const OTHERS_MAX: usize = 128;
/// How long it may take to connect to a peer that is about to be dialled.
const CONNECT: Duration = Duration::from_secs(2);
/// How long one end of a new connection may be behind the other.
const SETTLES: Duration = Duration::from_millis(150);
/// How long a node may take to forget a connection; what comes of one that takes longer shows by itself.
const FORGETS: Duration = Duration::from_secs(1);
/// How long a node may take to reach a host, how often it tries, and for how long in all: longer than a kernel asks after
/// a neighbour.
const REACH: Duration = Duration::from_millis(500);
const REACH_EVERY: Duration = Duration::from_millis(100);
const REACH_FOR: Duration = Duration::from_millis(2_500);

/// The pairs of which the local node lost or closed its connection, so that the peer may still hold its end. What was
/// remembered first makes room for what comes beyond [`PARTED_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Parted {
    pairs: BTreeMap<(NodeName, NodeName), u64>,
    order: BTreeMap<u64, (NodeName, NodeName)>,
    next: u64,
}

impl Parted {
    pub(crate) fn remember(&mut self, local: &NodeName, peer: &NodeName) {
        let pair = (local.clone(), peer.clone());
        self.forget(&pair);
        if self.pairs.len() >= PARTED_MAX
            && let Some((_, first)) = self.order.pop_first()
        {
            self.pairs.remove(&first);
        }
        self.pairs.insert(pair.clone(), self.next);
        self.order.insert(self.next, pair);
        self.next += 1;
    }

    /// They are connected.
    pub(crate) fn forget(&mut self, pair: &(NodeName, NodeName)) {
        if let Some(number) = self.pairs.remove(pair) {
            self.order.remove(&number);
        }
    }

    /// The local node is gone, and its connections with it.
    pub(crate) fn forget_local(&mut self, gone: &NodeName) {
        self.pairs.retain(|(local, _), _| local != gone);
        self.order.retain(|_, (local, _)| local != gone);
    }

    pub(crate) fn contains(&self, pair: &(NodeName, NodeName)) -> bool {
        self.pairs.contains_key(pair)
    }
}

/// Makes ready for the dial of a peer whose distribution port is there. `linked` is what the local node is linked to.
pub(crate) async fn prepare(dial: &Dial, address: SocketAddr, linked: &[NodeName]) -> Result<(), DialError> {
    let Dial { ours, local, peer, epmd_port, .. } = dial;
    let reach = ours.connect(address, Expect::Exactly(peer.clone()));
    match timeout(CONNECT, reach).await {
        Ok(Ok(_)) => {}
        // The dial itself finds what is wrong.
        Ok(Err(error)) => {
            debug!("{peer} cannot be asked what it holds: {error}");
            return Ok(());
        }
        Err(_) => {
            debug!("{peer} cannot be asked what it holds: no answer");
            return Ok(());
        }
    }
    let outcome = if global::knows_removal(ours, peer).await {
        let held = connections(ours, peer).await;
        let held = clear(ours, local, peer, held, linked).await;
        let (near, far): (BTreeSet<_>, BTreeSet<_>) = (linked.iter().collect(), held.keys().collect());
        let new = |whom: &BTreeSet<&NodeName>, but: &BTreeSet<&NodeName>| {
            let new = whom.difference(but).filter(|node| **node != peer && **node != local);
            new.map(|node| (*node).clone()).take(OTHERS_MAX).collect::<Vec<NodeName>>()
        };
        tokio::join!(
            have_forgotten(ours, local, new(&near, &far), peer),
            have_forgotten(ours, peer, new(&far, &near), local)
        );
        let hosts =
            |nodes: Vec<NodeName>| nodes.iter().map(|node| node.host().to_owned()).collect::<BTreeSet<String>>();
        let from_peer = reaches(ours, peer, hosts(new(&near, &far)), *epmd_port);
        let from_local = reaches(ours, local, hosts(new(&far, &near)), *epmd_port);
        tokio::try_join!(from_peer, from_local).map(drop)
    } else {
        Ok(())
    };
    ours.disconnect(peer);
    outcome
}

/// Has the peer forget stale connections, and gives what it holds.
async fn clear(
    ours: &Node,
    local: &NodeName,
    peer: &NodeName,
    held: BTreeMap<NodeName, Option<u64>>,
    linked: &[NodeName],
) -> BTreeMap<NodeName, Option<u64>> {
    let ends = linked.iter().filter(|other| *other != peer && *other != local).take(OTHERS_MAX);
    let ends = ends.chain([local]).filter(|end| held.contains_key(*end)).cloned().collect();
    let suspects = gone(ours, local, peer, ends).await;
    if suspects.is_empty() {
        return held;
    }
    sleep(SETTLES).await;
    let still = gone(ours, local, peer, suspects).await;
    let mut now = connections(ours, peer).await;
    for end in still {
        if now.contains_key(&end) && now.get(&end) == held.get(&end) {
            debug!("{peer} forgets its connection to {end}, which has none to it");
            global::remove(ours, peer, &end).await;
            now.remove(&end);
        }
    }
    now
}

/// Has each of these nodes forget a stale connection to that one. They are asked by way of a node that is linked to them.
async fn have_forgotten(ours: &Node, way: &NodeName, ends: Vec<NodeName>, whom: &NodeName) {
    let suspects = holders(ours, way, ends, whom).await;
    if suspects.is_empty() {
        return;
    }
    sleep(SETTLES).await;
    let still = holders(ours, way, suspects.keys().cloned().collect(), whom).await;
    let known = connections(ours, whom).await;
    let stale = still.into_iter().filter(|(end, held)| suspects.get(end) == Some(held) && !known.contains_key(end));
    let mut stale: BTreeMap<NodeName, Option<u64>> = stale.collect();
    for end in stale.keys() {
        debug!("{end} forgets its connection to {whom}, which has none to it");
        let to = Term::tuple([Term::atom(GLOBAL), atom(end.as_str())]);
        if let Err(error) = ours.rpc(way, "erlang", "send", vec![to, global::removal(whom)], global::ANSWERS).await {
            debug!("{end} is not told: {error}");
        }
    }
    let until = Instant::now() + FORGETS;
    while !stale.is_empty() && Instant::now() < until {
        let now = holders(ours, way, stale.keys().cloned().collect(), whom).await;
        stale.retain(|end, held| now.get(end) == Some(held));
    }
}

/// Which of these nodes hold a connection to that one, and which.
async fn holders(ours: &Node, way: &NodeName, ends: Vec<NodeName>, whom: &NodeName) -> BTreeMap<NodeName, Option<u64>> {
    let mut asked = JoinSet::new();
    for end in ends {
        let (ours, way, whom) = (ours.clone(), way.clone(), whom.clone());
        asked.spawn(async move {
            let held = global::connections_of(&ours, &way, &end).await.remove(&whom)?;
            Some((end, held))
        });
    }
    asked.join_all().await.into_iter().flatten().collect()
}

/// Which of these nodes, asked by way of the local one, say that they are not connected to the peer.
async fn gone(ours: &Node, local: &NodeName, peer: &NodeName, ends: Vec<NodeName>) -> Vec<NodeName> {
    let mut asked = JoinSet::new();
    for end in ends {
        let (ours, local, peer) = (ours.clone(), local.clone(), peer.clone());
        asked.spawn(async move { has_none(&ours, &local, &end, &peer).await.then_some(end) });
    }
    asked.join_all().await.into_iter().flatten().collect()
}

async fn has_none(ours: &Node, local: &NodeName, end: &NodeName, peer: &NodeName) -> bool {
    let wait = i64::try_from(global::ANSWERS.as_millis()).unwrap_or(1_000);
    let arguments =
        vec![atom(end.as_str()), Term::atom("erlang"), Term::atom("nodes"), Term::list([]), Term::Integer(wait)];
    let answer = ours.rpc(local, "rpc", "call", arguments, global::ANSWERS * 2).await;
    matches!(&answer, Ok(list) if list.as_list().is_some()) && !global::names(answer).contains(peer)
}

/// Waits until a node reaches each of these hosts: until something there takes a connection or refuses it.
async fn reaches(ours: &Node, from: &NodeName, hosts: BTreeSet<String>, port: u16) -> Result<(), DialError> {
    let until = Instant::now() + REACH_FOR;
    let mut missing = hosts;
    loop {
        let mut asked = JoinSet::new();
        for host in missing {
            let (ours, from) = (ours.clone(), from.clone());
            asked.spawn(async move { (!answers(&ours, &from, &host, port).await).then_some(host) });
        }
        missing = asked.join_all().await.into_iter().flatten().collect();
        let Some(first) = missing.first() else { return Ok(()) };
        if Instant::now() >= until {
            return Err(DialError::Unreachable(format!("{from} cannot reach host {first}, which it would meet")));
        }
        debug!("{from} does not reach host {first} yet, which it would meet");
        sleep(REACH_EVERY).await;
    }
}

/// Whether a node finds that host in the network. What says nothing about the network counts as an answer: the node may
/// have a way that we do not know.
async fn answers(ours: &Node, from: &NodeName, host: &str, port: u16) -> bool {
    let wait = i64::try_from(REACH.as_millis()).unwrap_or(500);
    let arguments = vec![Term::string(host), Term::Integer(i64::from(port)), Term::list([]), Term::Integer(wait)];
    let answer = ours.rpc(from, "gen_tcp", "connect", arguments, REACH * 4).await;
    match answer {
        Ok(answer) => !is_silence(&answer),
        Err(CallError::Timeout) => false,
        Err(_) => true,
    }
}

/// Whether `gen_tcp:connect/4` found nobody.
fn is_silence(answer: &Term) -> bool {
    const SILENCE: [&str; 5] = ["timeout", "etimedout", "ehostunreach", "enetunreach", "ehostdown"];
    match answer.as_tuple() {
        Some([error, reason]) => error.is_atom("error") && SILENCE.iter().any(|silence| reason.is_atom(silence)),
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NodeName {
        NodeName::new(text).expect("valid")
    }

    #[test]
    fn pairs_are_remembered_until_they_connect_and_within_a_bound() {
        let mut parted = Parted::default();
        let peer = |count: usize| name(&format!("n{count}@h"));
        for count in 0..=PARTED_MAX {
            parted.remember(&name("a@h"), &peer(count));
        }
        assert!(!parted.contains(&(name("a@h"), peer(0))), "the first made room");
        let last = (name("a@h"), peer(PARTED_MAX));
        assert!(parted.contains(&last));
        parted.forget(&last);
        assert!(!parted.contains(&last));
        parted.remember(&name("b@h"), &peer(1));
        parted.forget_local(&name("a@h"));
        assert_eq!((parted.pairs.len(), parted.order.len()), (1, 1));
    }

    #[test]
    fn only_what_tells_of_the_network_is_silence() {
        let error = |reason: &'static str| Term::tuple([Term::atom("error"), Term::atom(reason)]);
        for silence in ["timeout", "ehostunreach", "enetunreach"] {
            assert!(is_silence(&error(silence)), "{silence}");
        }
        for answer in ["econnrefused", "nxdomain", "emfile", "eafnosupport"] {
            assert!(!is_silence(&error(answer)), "{answer}");
        }
        assert!(!is_silence(&Term::tuple([Term::atom("ok"), Term::Integer(1)])));
    }
}
