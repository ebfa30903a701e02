//! The gateway's node and the nodes of its cluster: it is connected to each, hidden, since a scope of groups tells only
//! those that it is connected to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use metacluster_erl::{Node, NodeEvent};
use metacluster_types::{NodeName, Place};
use tokio::{
    sync::broadcast::error::RecvError,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::{debug, info};

use super::{hub::Hub, is_agent};
use crate::view::{NodeState, View, ViewReceiver};

/// Nodes that are reached at once.
const REACHING_MAX: usize = 16;
/// How soon a node that could not be reached is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Tells the machine who is connected.
pub(super) async fn watch_nodes(hub: Arc<Hub>) {
    let mut known: BTreeMap<NodeName, u64> = BTreeMap::new();
    loop {
        let mut events = hub.node().events();
        // What was missed, or was there before.
        let now: BTreeMap<NodeName, u64> =
            hub.node().peers().into_iter().map(|peer| (peer.name, peer.connection)).collect();
        for (node, connection) in &known {
            if now.get(node) != Some(connection) {
                hub.node_down(node);
            }
        }
        now.keys().filter(|node| !is_agent(hub.node().name(), node.as_str())).for_each(|node| hub.node_up(node));
        known = now;
        loop {
            match events.recv().await {
                Ok(NodeEvent::Up { peer }) => {
                    if !is_agent(hub.node().name(), peer.name.as_str()) {
                        hub.node_up(&peer.name);
                    }
                    known.insert(peer.name, peer.connection);
                }
                Ok(NodeEvent::Down { peer, .. }) => {
                    // One that was replaced is up already.
                    if known.get(&peer.name) == Some(&peer.connection) {
                        known.remove(&peer.name);
                        hub.node_down(&peer.name);
                    }
                }
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return,
            }
        }
    }
}

/// Tells the machine where nodes are.
pub(super) async fn watch_places(hub: Arc<Hub>, mut view: ViewReceiver) {
    loop {
        let places: Vec<(NodeName, Place)> = {
            let view = view.borrow_and_update();
            let own = view.nodes.iter().filter(|node| node.cluster == view.agent.cluster);
            own.map(|node| (node.name.clone(), Place { zone: node.zone.clone(), region: node.region.clone() }))
                .collect()
        };
        hub.groups(|machine, _| places.iter().for_each(|(node, place)| machine.set_place(node, place)));
        if view.changed().await.is_err() {
            return;
        }
    }
}

/// The nodes of other cells, which others publish.
fn elsewhere(view: &View) -> BTreeSet<NodeName> {
    let own = view.members.iter().find(|member| member.own).and_then(|member| member.cell.as_ref());
    let others = view.members.iter().filter(|member| member.cell.as_ref() != own);
    others.flat_map(|member| member.nodes.iter().map(|node| node.name.clone())).collect()
}

/// Connects to each node of the cluster, or of its cell, that is up, and parts from those of other cells, whose members
/// are not its own to publish.
pub(super) async fn reach_all(node: Node, mut view: ViewReceiver, epmd_port: u16) {
    let mut reaching = JoinSet::new();
    let mut waiting: BTreeMap<NodeName, Instant> = BTreeMap::new();
    let mut events = node.events();
    loop {
        let (own, elsewhere) = {
            let view = view.borrow();
            (view.agent.cluster.clone(), elsewhere(&view))
        };
        for other in elsewhere.iter().filter(|name| node.peer(name).is_some()) {
            info!("federation: {other} is of another cell, and parted from");
            node.disconnect(other);
        }
        let wanted: Vec<NodeName> = view
            .borrow_and_update()
            .nodes
            .iter()
            .filter(|other| other.state == NodeState::Up && other.cluster == own)
            .map(|other| other.name.clone())
            .filter(|name| !elsewhere.contains(name))
            .filter(|name| !is_agent(node.name(), name.as_str()) && node.peer(name).is_none())
            .collect();
        waiting.retain(|name, _| wanted.contains(name));
        let now = Instant::now();
        for name in wanted {
            if reaching.len() >= REACHING_MAX || waiting.get(&name).is_some_and(|at| *at > now) {
                continue;
            }
            waiting.insert(name.clone(), now + AGAIN);
            let node = node.clone();
            reaching.spawn(async move {
                match node.reach_through(&name, epmd_port).await {
                    Ok(_) => info!("federation: connected to {name}"),
                    Err(error) => debug!("federation: {name} is not reached: {error}"),
                }
            });
        }
        // Those that are due wait for room.
        let next = waiting.values().filter(|at| **at > now).min().copied();
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            Some(_) = reaching.join_next() => {}
            event = events.recv() => if matches!(event, Err(RecvError::Closed)) { return },
            () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
        }
    }
}
