//! What a local node is asked, and what it sends by itself.

use std::{collections::BTreeSet, time::Duration};

use metacluster_erl::{CallError, Node, Process, wire::Term};
use metacluster_types::NodeName;
use tokio::time::{Instant, sleep};

/// How long one call to a local node may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// A node that has just registered gets its servers within this.
const BOOT: Duration = Duration::from_secs(30);
/// Between two questions to a server that is not there yet.
const AGAIN: Duration = Duration::from_millis(20);
/// Has `global_group` send `{nodeup, Node}` and `{nodedown, Node}` to the process.
pub(super) async fn subscribe(process: &Process, peer: &NodeName) -> Result<(), CallError> {
    let request = Term::tuple([Term::atom("monitor_nodes"), Term::atom("true")]);
    patiently(|| process.call(peer, "global_group", request.clone(), PATIENCE)).await.map(drop)
}

pub(super) async fn read_links(ours: &Node, peer: &NodeName) -> Result<BTreeSet<NodeName>, CallError> {
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
pub(super) async fn read_otp(ours: &Node, peer: &NodeName) -> Option<String> {
    let arguments = vec![Term::atom("otp_release")];
    ours.rpc(peer, "erlang", "system_info", arguments, PATIENCE).await.ok()?.as_text()
}

/// The node's `net_ticktime`: it drops us when it hears nothing of us for so long.
pub(super) async fn read_tick_time(ours: &Node, peer: &NodeName) -> Option<Duration> {
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
pub(super) fn node_message(message: &Term) -> Option<(NodeName, bool)> {
    let [what, node] = message.as_tuple()? else { return None };
    let up = match what.as_atom()?.as_str() {
        "nodeup" => true,
        "nodedown" => false,
        _ => return None,
    };
    Some((NodeName::new(node.as_atom()?.as_str()).ok()?, up))
}

#[cfg(test)]
mod tests {
    use super::*;

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
