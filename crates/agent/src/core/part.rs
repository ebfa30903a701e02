//! Parts two nodes in such a way that nobody else is cut.
//!
//! For a dead peer it does no harm that `global` tells the rest. But a host may come back in the very moment in which it
//! is dropped: then its own `global` tells as well, each end has the other one dropped by everybody, and healthy links
//! go. So both ends are told to remove each other (see [`super::global`]). The peer's goes first, over the very
//! connection that is then closed: it arrives before the close does, be that at once or when a cable is healed.
//! Invariant: no third node learns of a parting. Older nodes are just disconnected.

use std::time::Duration;

use metacluster_erl::{
    CallError, Node,
    wire::{Atom, ExportFun, Term},
};
use metacluster_types::NodeName;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::{
    dial::atom,
    global::{self, GLOBAL},
};

/// How long the disconnect itself may take.
const DISCONNECT: Duration = Duration::from_secs(9);
/// How long `global` may take to disconnect, and how often it is looked whether it has. What comes after that makes noise.
const GOES_FOR: Duration = Duration::from_secs(3);
const GOES_EVERY: Duration = Duration::from_millis(20);

/// Ends the connection of a local node to a peer.
pub(crate) async fn part(ours: &Node, local: &NodeName, peer: &NodeName) -> Result<(), CallError> {
    if global::knows_removal(ours, local).await && tell_both(ours, local, peer).await {
        return Ok(());
    }
    disconnect(ours, local, peer).await
}

/// As [`part`], of a peer that lives: where `global` knows how to part, nothing else ends the connection.
pub(crate) async fn part_gently(ours: &Node, local: &NodeName, peer: &NodeName) -> Result<(), CallError> {
    if !global::knows_removal(ours, local).await {
        return disconnect(ours, local, peer).await;
    }
    if !tell_both(ours, local, peer).await {
        debug!("{local} and {peer} are still connected");
    }
    Ok(())
}

async fn disconnect(ours: &Node, local: &NodeName, peer: &NodeName) -> Result<(), CallError> {
    ours.rpc(local, "erlang", "disconnect_node", vec![atom(peer.as_str())], DISCONNECT).await.map(drop)
}

/// Has `global` at both ends remove the other. Whether the connection is gone.
async fn tell_both(ours: &Node, local: &NodeName, peer: &NodeName) -> bool {
    let Some(held) = global::connections(ours, local).await.remove(peer) else { return true };
    // One process sends both, the one right after the other: the peer may close as soon as it has the first, and
    // what comes of that must find the second in the queue of `global` already. A connection that takes no more
    // bytes is closed without a word.
    let send = ExportFun { module: Atom::from_static("erlang"), function: Atom::from_static("send"), arity: 3 };
    let to = [Term::tuple([Term::atom(GLOBAL), atom(peer.as_str())]), Term::atom(GLOBAL)];
    let messages = [global::removal(local), global::removal(peer)];
    let options = [Term::list([Term::atom("noconnect"), Term::atom("nosuspend")]), Term::list([])];
    let lists = [Term::list(to), Term::list(messages), Term::list(options)];
    let arguments = [Term::ExportFun(send)].into_iter().chain(lists).collect();
    if let Err(error) = ours.rpc(local, "lists", "zipwith3", arguments, global::PATIENCE).await {
        debug!("{local} and {peer} are not told to part: {error}");
    }
    // `global` disconnects, unless it never knew the peer. A connection that came since then is left alone.
    let until = Instant::now() + GOES_FOR;
    while Instant::now() < until {
        if global::connections(ours, local).await.get(peer) != Some(&held) {
            return true;
        }
        sleep(GOES_EVERY).await;
    }
    false
}
