//! Parts two nodes in such a way that nobody else is cut.
//!
//! Since OTP 25 the `global` of a node that loses another tells all the rest, and they drop it too
//! (`prevent_overlapping_partitions`). For a dead peer that does no harm. But a host may come back in the very moment
//! in which it is dropped: then its own `global` tells as well, each end has the other one dropped by everybody, and
//! healthy links go. `global` itself parts nodes without that, by the message `{remove_connection, Node}` to the
//! `global_name_server` of an end (protocol version 8, OTP 25 and later): that end disconnects and tells nobody.
//!
//! So both ends get it. The peer's goes first, over the very connection that is then closed: it arrives before the
//! close does, be that at once or when a cable is healed. Invariant: no third node learns of a parting. Older nodes, and
//! those with `connect_all` off, have no such protection, and are just disconnected.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use metacluster_erl::{CallError, Node, node::Expect, wire::Term};
use metacluster_types::NodeName;
use tokio::{task::JoinSet, time::timeout};
use tracing::debug;

use super::dial::atom;

/// The process of `global`.
const GLOBAL: &str = "global_name_server";
/// The version of `global`'s protocol that knows `remove_connection`.
const VERSION_MIN: i64 = 8;
/// How long `global` may take. It waits for nobody while it handles its messages, but it may have many.
const GLOBAL_ANSWERS: Duration = Duration::from_secs(1);
/// How long the disconnect itself may take.
const DISCONNECT: Duration = Duration::from_secs(9);
/// How many other nodes are asked whether they parted from a peer too; those beyond are left to their own agents.
const OTHERS_MAX: usize = 128;
/// How long it may take to reach a peer that is about to be dialled.
const REACH: Duration = Duration::from_secs(2);

/// Ends the connection of a local node to a peer.
pub(crate) async fn part(ours: &Node, local: &NodeName, peer: &NodeName) -> Result<(), CallError> {
    if knows_removal(ours, local).await {
        let to = Term::tuple([Term::atom(GLOBAL), atom(peer.as_str())]);
        let options = Term::list([Term::atom("noconnect"), Term::atom("nosuspend")]);
        let message = vec![to, removal(local), options];
        // A connection that takes no more bytes is closed without a word.
        if let Err(error) = ours.rpc(local, "erlang", "send", message, GLOBAL_ANSWERS).await {
            debug!("{peer} is not told that {local} parts: {error}");
        }
        remove(ours, local, peer).await;
    }
    ours.rpc(local, "erlang", "disconnect_node", vec![atom(peer.as_str())], DISCONNECT).await.map(drop)
}

/// Has a peer forget the connections that it still holds and whose other end parted from it, so that a new one does not
/// replace any of them there: to the peer's `global` that would be a loss, and it would tell all the rest. These are the
/// one to the local node, and those to nodes that the local node is `linked` to and that hold none: once it has one
/// new connection, their `global`s connect on their own account (`connect_all`).
pub(crate) async fn clear(ours: &Node, local: &NodeName, peer: &NodeName, address: SocketAddr, linked: &[NodeName]) {
    let reach = ours.connect(address, Expect::Exactly(peer.clone()));
    match timeout(REACH, reach).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return debug!("{peer} cannot be asked to forget {local}: {error}"),
        Err(_) => return debug!("{peer} cannot be asked to forget {local}: no answer"),
    }
    if knows_removal(ours, peer).await {
        remove(ours, peer, local).await;
        let holds = names(ours.rpc(peer, "erlang", "nodes", vec![], GLOBAL_ANSWERS).await);
        let mut others = JoinSet::new();
        for other in linked.iter().filter(|other| *other != peer && holds.contains(*other)).take(OTHERS_MAX) {
            let (ours, local, peer, other) = (ours.clone(), local.clone(), peer.clone(), other.clone());
            others.spawn(async move {
                if parted(&ours, &local, &other, &peer).await {
                    remove(&ours, &peer, &other).await;
                }
            });
        }
        while others.join_next().await.is_some() {}
    }
    ours.disconnect(peer);
}

/// Whether another node, asked by way of the local one, says that it is not connected to the peer.
async fn parted(ours: &Node, local: &NodeName, other: &NodeName, peer: &NodeName) -> bool {
    let wait = i64::try_from(GLOBAL_ANSWERS.as_millis()).unwrap_or(1_000);
    let arguments =
        [atom(other.as_str()), Term::atom("erlang"), Term::atom("nodes"), Term::list([]), Term::Integer(wait)];
    let answer = ours.rpc(local, "rpc", "call", arguments.to_vec(), GLOBAL_ANSWERS * 2).await;
    matches!(&answer, Ok(list) if list.as_list().is_some()) && !names(answer).contains(peer)
}

fn names(answer: Result<Term, CallError>) -> BTreeSet<NodeName> {
    let list = answer.ok();
    let items = list.as_ref().and_then(Term::as_list).unwrap_or_default();
    items.iter().filter_map(|item| NodeName::new(item.as_atom()?.as_str()).ok()).collect()
}

/// `global` at one node removes another, and has done so when this returns, unless it does not answer.
async fn remove(ours: &Node, at: &NodeName, other: &NodeName) {
    if let Err(error) = ours.send_name(at, GLOBAL, removal(other)) {
        debug!("{at} is not told to remove {other}: {error}");
        return;
    }
    // It handles one message after the other.
    if !knows_removal(ours, at).await {
        debug!("global of {at} has not confirmed that it removed {other}");
    }
}

async fn knows_removal(ours: &Node, node: &NodeName) -> bool {
    let version = ours.call(node, GLOBAL, Term::atom("get_protocol_version"), GLOBAL_ANSWERS).await;
    version.ok().and_then(|version| version.as_i64()).is_some_and(|version| version >= VERSION_MIN)
}

fn removal(other: &NodeName) -> Term {
    Term::tuple([Term::atom("remove_connection"), atom(other.as_str())])
}
