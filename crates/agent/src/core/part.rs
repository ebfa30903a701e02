//! Parts two nodes in such a way that nobody else is cut.
//!
//! For a dead peer it does no harm that `global` tells the rest. But a host may come back in the very moment in which it
//! is dropped: then its own `global` tells as well, each end has the other one dropped by everybody, and healthy links
//! go. So both ends are told to remove each other (see [`super::global`]). The peer's goes first, over the very
//! connection that is then closed: it arrives before the close does, be that at once or when a cable is healed.
//! Invariant: no third node learns of a parting. Older nodes are just disconnected.

use std::time::Duration;

use metacluster_erl::{CallError, Node, wire::Term};
use metacluster_types::NodeName;
use tokio::time::sleep;
use tracing::debug;

use super::{
    dial::atom,
    global::{self, GLOBAL},
};

/// How long the disconnect itself may take.
const DISCONNECT: Duration = Duration::from_secs(9);
/// How often it is looked whether `global` has disconnected, and how far apart.
const GOES_TRIES: u32 = 10;
const GOES_EVERY: Duration = Duration::from_millis(20);

/// Ends the connection of a local node to a peer.
pub(crate) async fn part(ours: &Node, local: &NodeName, peer: &NodeName) -> Result<(), CallError> {
    if global::knows_removal(ours, local).await {
        let Some(held) = global::connections(ours, local).await.remove(peer) else { return Ok(()) };
        let to = Term::tuple([Term::atom(GLOBAL), atom(peer.as_str())]);
        let options = Term::list([Term::atom("noconnect"), Term::atom("nosuspend")]);
        let message = vec![to, global::removal(local), options];
        // A connection that takes no more bytes is closed without a word.
        if let Err(error) = ours.rpc(local, "erlang", "send", message, global::ANSWERS).await {
            debug!("{peer} is not told that {local} parts: {error}");
        }
        global::remove(ours, local, peer).await;
        // `global` disconnects, unless it never knew the peer. A connection that came since then is left alone.
        for _ in 0..GOES_TRIES {
            if global::connections(ours, local).await.get(peer) != Some(&held) {
                return Ok(());
            }
            sleep(GOES_EVERY).await;
        }
    }
    ours.rpc(local, "erlang", "disconnect_node", vec![atom(peer.as_str())], DISCONNECT).await.map(drop)
}
