//! What the agents of the demo say, taken together: each knows all links of its own zone's nodes.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use metacluster_agent::view::{AgentAnswer, EpmdState, NodeState, NodeView, NodesAnswer};
use metacluster_types::{Event, EventKind, WallClock};
use tokio::{sync::mpsc, task::JoinHandle};

use super::plan::{Plan, Zone};
use crate::{
    client::Client,
    failure::{Failure, Outcome},
    sse::Frame,
};

/// How many events may wait to be looked at.
const EVENTS_MAX: usize = 1024;

/// The agent of a zone.
pub(super) fn client(zone: &Zone) -> Client {
    Client::new(&zone.socket)
}

/// Whether the agent of the zone answers, and finds its epmd.
pub(super) async fn lacks_agent(zone: &Zone, owns_epmd: bool) -> Option<String> {
    match client(zone).get::<AgentAnswer>("/v1/agent").await {
        Ok(answer) => match (answer.agent.epmd.state, owns_epmd) {
            (EpmdState::Own, true) | (EpmdState::External, false) => None,
            (state, _) => Some(format!("the agent of zone {} has no epmd ({state:?})", zone.name)),
        },
        Err(failure) => Some(format!("the agent of zone {} does not answer ({failure})", zone.name)),
    }
}

/// Every node, by name, as the agent of its own zone sees it.
pub(super) async fn nodes(plan: &Plan) -> Outcome<Vec<NodeView>> {
    let mut all: BTreeMap<_, NodeView> = BTreeMap::new();
    for zone in &plan.zones {
        let answer: NodesAnswer = client(zone).get("/v1/nodes").await?;
        for node in answer.nodes {
            if node.local || !all.get(&node.name).is_some_and(|known| known.local) {
                all.insert(node.name.clone(), node);
            }
        }
    }
    Ok(all.into_values().collect())
}

/// What a full mesh lacks; nothing when every node is linked to every other, as each one's own zone says.
pub(super) fn lacks_mesh(plan: &Plan, nodes: &[NodeView]) -> Option<String> {
    let all = plan.nodes().count();
    let links = all * (all - 1);
    let mut linked = 0;
    let mut first_missing = None;
    for (_, name) in plan.nodes() {
        let view = nodes.iter().find(|node| node.name.as_str() == name && node.local && node.state == NodeState::Up);
        for (_, peer) in plan.nodes().filter(|(_, peer)| *peer != name) {
            if view.is_some_and(|view| view.connected.iter().any(|known| known.as_str() == peer)) {
                linked += 1;
            } else if first_missing.is_none() {
                first_missing = Some(match view {
                    Some(_) => format!("{name} is not linked to {peer}"),
                    None => format!("{name} is not up"),
                });
            }
        }
        if view.is_none() && first_missing.is_none() {
            first_missing = Some(format!("{name} is not up"));
        }
    }
    // Each link was counted from both of its ends.
    first_missing.map(|missing| format!("{} of {} links; {missing}", linked / 2, links / 2))
}

/// Who still holds the lost node up; nothing when nobody does.
pub(super) fn lacks_loss(lost: &str, nodes: &[NodeView]) -> Option<String> {
    nodes
        .iter()
        .filter(|node| node.state == NodeState::Up)
        .find(|node| {
            node.name.as_str() == lost || (node.local && node.connected.iter().any(|peer| peer.as_str() == lost))
        })
        .map(|node| format!("{} still holds {lost} up", node.name))
}

/// The events of every agent as they come.
#[derive(Debug)]
pub(super) struct EventWatch {
    events: mpsc::Receiver<(String, Event)>,
    readers: Vec<JoinHandle<()>>,
}

impl EventWatch {
    /// Opens the stream of each agent. Events from before this call may come too.
    pub(super) async fn open(plan: &Plan) -> Outcome<Self> {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let mut readers = Vec::new();
        for zone in &plan.zones {
            let mut stream = client(zone).events("/v1/events", None).await?;
            let (zone, sender) = (zone.name.clone(), sender.clone());
            readers.push(tokio::spawn(async move {
                while let Some(frame) = stream.next().await {
                    if let Some(event) = event(&frame)
                        && sender.send((zone.clone(), event)).await.is_err()
                    {
                        return;
                    }
                }
            }));
        }
        Ok(Self { events, readers })
    }

    /// The next event and the zone whose agent told it.
    pub(super) async fn next(&mut self) -> Outcome<(String, Event)> {
        self.events.recv().await.ok_or_else(|| Failure::NotSo("the agents' events ended".to_owned()))
    }

    /// Waits until the agents of all zones have told that event of that node since then. Gives how long the first and
    /// the last took.
    pub(super) async fn all(
        &mut self,
        plan: &Plan,
        kind: EventKind,
        node: &str,
        since: Moment,
    ) -> Outcome<(Duration, Duration)> {
        let mut told: BTreeMap<String, Duration> = BTreeMap::new();
        loop {
            let (zone, event) = self.next().await?;
            let about = event.subject.node.as_ref().is_some_and(|name| name.as_str() == node);
            if about && event.event == kind && event.at >= since.wall {
                told.entry(zone).or_insert_with(|| since.steady.elapsed());
            }
            if told.len() == plan.zones.len() {
                let first = told.values().min().copied().unwrap_or_default();
                let last = told.values().max().copied().unwrap_or_default();
                return Ok((first, last));
            }
        }
    }
}

impl Drop for EventWatch {
    fn drop(&mut self) {
        for reader in &self.readers {
            reader.abort();
        }
    }
}

/// A point in time on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    steady: Instant,
    wall: WallClock,
}

impl Moment {
    /// This very moment. Events carry milliseconds, so the wall clock is taken one earlier.
    pub(super) fn now() -> Self {
        Self { steady: Instant::now(), wall: WallClock::new(SystemTime::now() - Duration::from_millis(1)) }
    }

    /// Whether that happened later.
    pub(super) fn is_before(self, at: WallClock) -> bool {
        self.wall < at
    }
}

/// The event in a frame, if it holds one.
pub(super) fn event(frame: &Frame) -> Option<Event> {
    serde_json::from_str(&frame.data).ok()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{commands::demo::plan::Ground, picture::tests::node};

    fn plan() -> Plan {
        let ground = Ground {
            folder: PathBuf::from("/tmp/x"),
            epmd_port: 1,
            membership_port: 2,
            gossip_port: 1,
            gossip_secret: String::new(),
            many_addresses: true,
        };
        Plan::new(&ground, 2, 2)
    }

    #[test]
    fn the_mesh_is_judged_by_each_nodes_own_zone() {
        let (a, b) = ("a1@127.0.1.1", "b1@127.0.2.1");
        let linked = [node(a, "a", true, true, &[b]), node(b, "b", true, true, &[a])];
        assert_eq!(lacks_mesh(&plan(), &linked), None);
        let half = [node(a, "a", true, true, &[b]), node(b, "b", true, false, &[a])];
        assert_eq!(lacks_mesh(&plan(), &half).as_deref(), Some("0 of 1 links; b1@127.0.2.1 is not up"));
    }

    #[test]
    fn a_loss_is_complete_when_nobody_holds_the_node_up() {
        let (a, b) = ("a1@127.0.1.1", "b1@127.0.2.1");
        let holds = [node(a, "a", true, true, &[b]), node(b, "b", false, true, &[])];
        assert!(lacks_loss(b, &holds).is_some());
        let lost = [node(a, "a", true, true, &[]), node(b, "b", false, true, &[])];
        assert_eq!(lacks_loss(b, &lost), None);
    }
}
