//! What is asked of a node's `global`, and of its connections, over our own connection to it.
//!
//! Since OTP 25 the `global` of a node that loses another tells all the rest, and they drop it too
//! (`prevent_overlapping_partitions`). `global` itself parts nodes without that, by the message
//! `{remove_connection, Node}` to the `global_name_server` of an end (protocol version 8, OTP 25 and later): that end
//! disconnects and tells nobody. Older nodes, and those with `connect_all` off, have no such protection.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use metacluster_erl::{CallError, Node, wire::Term};
use metacluster_types::NodeName;
use tracing::debug;

use super::dial::atom;

/// The process of `global`.
pub(super) const GLOBAL: &str = "global_name_server";
/// The version of `global`'s protocol that knows `remove_connection`.
const VERSION_MIN: i64 = 8;
/// How long a node may take that is asked by way of another one, so that one which is dead holds up nobody.
pub(super) const ANSWERS: Duration = Duration::from_secs(1);
/// How long a node may take that is asked itself. It lives, since we hold a connection to it, but it may be starved: taken
/// for one that knows no removal, it would be disconnected, and `global` would tell the rest.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// `global` at one node removes another, and has done so when this returns, unless it does not answer.
pub(super) async fn remove(ours: &Node, at: &NodeName, other: &NodeName) {
    if let Err(error) = ours.send_name(at, GLOBAL, removal(other)) {
        debug!("{at} is not told to remove {other}: {error}");
        return;
    }
    // It handles one message after the other.
    if !knows_removal(ours, at).await {
        debug!("global of {at} has not confirmed that it removed {other}");
    }
}

pub(super) async fn knows_removal(ours: &Node, node: &NodeName) -> bool {
    let version = ours.call(node, GLOBAL, Term::atom("get_protocol_version"), PATIENCE).await;
    version.ok().and_then(|version| version.as_i64()).is_some_and(|version| version >= VERSION_MIN)
}

pub(super) fn removal(other: &NodeName) -> Term {
    Term::tuple([Term::atom("remove_connection"), atom(other.as_str())])
}

/// The connections that a node holds to visible nodes, each with what tells it from another to the same node.
pub(super) async fn connections(ours: &Node, node: &NodeName) -> BTreeMap<NodeName, Option<u64>> {
    match ours.rpc(node, "erlang", "nodes", which(), PATIENCE).await {
        Ok(list) => read(&list),
        // Before OTP 25.1 connections are not told apart.
        Err(_) => {
            let list = names(ours.rpc(node, "erlang", "nodes", vec![], PATIENCE).await);
            list.into_iter().map(|name| (name, None)).collect()
        }
    }
}

/// As [`connections`], of a node that is asked by way of another one. None where that takes too long, and before OTP 25.1.
pub(super) async fn connections_of(ours: &Node, way: &NodeName, node: &NodeName) -> BTreeMap<NodeName, Option<u64>> {
    let wait = i64::try_from(ANSWERS.as_millis()).unwrap_or(1_000);
    let arguments =
        vec![atom(node.as_str()), Term::atom("erlang"), Term::atom("nodes"), Term::list(which()), Term::Integer(wait)];
    let answer = ours.rpc(way, "rpc", "call", arguments, ANSWERS * 2).await;
    answer.map(|list| read(&list)).unwrap_or_default()
}

/// The arguments of `erlang:nodes/2`.
fn which() -> Vec<Term> {
    vec![Term::atom("visible"), Term::map([(Term::atom("connection_id"), Term::atom("true"))])]
}

fn read(list: &Term) -> BTreeMap<NodeName, Option<u64>> {
    let read = |item: &Term| {
        let [name, told] = item.as_tuple()? else { return None };
        let name = NodeName::new(name.as_atom()?.as_str()).ok()?;
        Some((name, told.map_get("connection_id").and_then(Term::as_u64)))
    };
    list.as_list().unwrap_or_default().iter().filter_map(read).collect()
}

pub(super) fn names(answer: Result<Term, CallError>) -> BTreeSet<NodeName> {
    let list = answer.ok();
    let items = list.as_ref().and_then(Term::as_list).unwrap_or_default();
    items.iter().filter_map(|item| NodeName::new(item.as_atom()?.as_str()).ok()).collect()
}
