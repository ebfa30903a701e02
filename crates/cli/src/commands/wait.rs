//! `metacluster wait`: ends when the nodes are up and linked, for scripts and for the order of a start-up.
//!
//! An agent that is not there yet is waited for as well. Formed means: at least so many nodes are up, and each node of
//! the agent's own host that is up is linked to all others that are, save those that no topology wants it linked to.

use std::{collections::BTreeSet, time::Duration};

use clap::Args;
use metacluster_agent::view::{CandidateState, NodeState, NodesAnswer, TopologiesAnswer};
use metacluster_types::{NodeName, time::format_duration};
use tokio::time::{Instant, sleep};

use crate::{
    args::{Asking, duration},
    client::Client,
    failure::{Failure, Outcome},
    output,
    picture::{Picture, count},
};

/// How often the agent is asked.
const LOOK: Duration = Duration::from_millis(50);
/// The most names that the refusal lists.
const LISTED_MAX: usize = 5;

/// The arguments of `wait`.
#[derive(Args, Debug)]
pub(crate) struct Wait {
    #[command(flatten)]
    asking: Asking,
    /// How many nodes must be up and linked, those of this host included
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    nodes: u32,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    timeout: Duration,
}

/// Runs the command.
pub(crate) async fn run(arguments: Wait) -> Outcome {
    let client = arguments.asking.client();
    let until = Instant::now() + arguments.timeout;
    let wanted = usize::try_from(arguments.nodes).unwrap_or(usize::MAX);
    loop {
        let failure = match look(&client).await {
            Ok((answer, topologies)) => match lacking(&answer, &topologies, wanted) {
                None => return output::print(&format!("{} up and linked\n", count(up(&answer), "node"))),
                Some(lacking) => {
                    Failure::NotSo(format!("not formed after {}: {lacking}", format_duration(arguments.timeout)))
                }
            },
            Err(failure) => failure,
        };
        if Instant::now() >= until {
            return Err(failure);
        }
        sleep(LOOK.min(until - Instant::now())).await;
    }
}

async fn look(client: &Client) -> Outcome<(NodesAnswer, TopologiesAnswer)> {
    let nodes = client.get("/v1/nodes").await?;
    Ok((nodes, client.get("/v1/topologies").await?))
}

fn up(answer: &NodesAnswer) -> usize {
    answer.nodes.iter().filter(|node| node.state == NodeState::Up).count()
}

/// What is missing, in one line; nothing when the cluster is formed.
fn lacking(answer: &NodesAnswer, topologies: &TopologiesAnswer, wanted: usize) -> Option<String> {
    let picture = Picture::of(&answer.nodes);
    let settled = settled(topologies);
    let up = up(answer);
    let mut reasons = Vec::new();
    if up < wanted {
        reasons.push(format!("{up} of {} up", count(wanted, "node")));
        let down = answer.nodes.iter().filter(|node| node.state == NodeState::Down);
        let down = listed(down.map(|node| match &node.error {
            Some(error) => format!("{} ({})", node.name, output::clean(error)),
            None => node.name.to_string(),
        }));
        if !down.is_empty() {
            reasons.push(format!("down: {down}"));
        }
    }
    let missing = picture.unlinked.iter().filter(|(a, b)| !settled.contains(a) && !settled.contains(b));
    let unlinked = listed(missing.map(|(a, b)| format!("{a} and {b}")));
    if !unlinked.is_empty() {
        reasons.push(format!("not linked: {unlinked}"));
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// The peers elsewhere that have every link that formation wants, though that may not be one to each node of this host.
fn settled(topologies: &TopologiesAnswer) -> BTreeSet<&NodeName> {
    let candidates = || topologies.topologies.iter().flat_map(|topology| &topology.candidates);
    let is_settled = |state| match state {
        CandidateState::Linked | CandidateState::Idle => true,
        CandidateState::Local | CandidateState::Dialling | CandidateState::Waiting | CandidateState::Failing => false,
    };
    let mut settled: BTreeSet<&NodeName> = candidates().map(|candidate| &candidate.node).collect();
    for candidate in candidates().filter(|candidate| !is_settled(candidate.state)) {
        settled.remove(&candidate.node);
    }
    settled
}

fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    let shown = names.iter().take(LISTED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use metacluster_agent::view::{CandidateView, NodeView, TopologyState, TopologyView};
    use metacluster_types::{Place, TopologyName};

    use super::*;
    use crate::picture::tests::node;

    fn lacks(nodes: Vec<NodeView>, candidates: &[(&str, CandidateState)], wanted: usize) -> Option<String> {
        let candidates = candidates.iter().map(|(name, state)| CandidateView {
            node: NodeName::new(name).expect("valid"),
            place: Place::default(),
            state: *state,
            attempts: 0,
            error: None,
        });
        let topology = TopologyView {
            name: TopologyName::new("lan").expect("valid"),
            strategy: "static".to_owned(),
            state: TopologyState::Ok,
            prune: false,
            candidates: candidates.collect(),
            last_success: None,
            last_error: None,
            changed_at: None,
            changes: Vec::new(),
            held: None,
            notes: Vec::new(),
        };
        let topologies = TopologiesAnswer { version: 1, topologies: vec![topology] };
        lacking(&NodesAnswer { version: 1, nodes }, &topologies, wanted)
    }

    #[test]
    fn formed_is_enough_nodes_and_every_link_that_is_known() {
        let nodes = || vec![node("a@h", "", true, true, &["b@h"]), node("b@h", "", true, false, &["a@h"])];
        assert_eq!(lacks(nodes(), &[], 2), None);
        assert_eq!(lacks(nodes(), &[], 3).as_deref(), Some("2 of 3 nodes up"));
    }

    #[test]
    fn a_link_that_nobody_wants_is_not_waited_for() {
        let nodes = || {
            vec![
                node("a@h", "", true, true, &["c@x"]),
                node("b@h", "", true, true, &[]),
                node("c@x", "", true, false, &["a@h"]),
            ]
        };
        let here = "not linked: a@h and b@h";
        assert_eq!(lacks(nodes(), &[("c@x", CandidateState::Linked)], 3).as_deref(), Some(here));
        let both = "not linked: a@h and b@h, b@h and c@x";
        assert_eq!(lacks(nodes(), &[("c@x", CandidateState::Dialling)], 3).as_deref(), Some(both));
        assert_eq!(lacks(nodes(), &[], 3).as_deref(), Some(both));
    }

    #[test]
    fn the_line_says_who_is_missing() {
        let mut down = node("b@h", "", false, false, &[]);
        down.error = Some("refused".to_owned());
        let nodes = vec![node("a@h", "", true, true, &[]), down, node("c@h", "", true, true, &[])];
        assert_eq!(
            lacks(nodes, &[], 3).as_deref(),
            Some("2 of 3 nodes up; down: b@h (refused); not linked: a@h and c@h")
        );
    }

    #[test]
    fn a_long_list_is_cut() {
        assert_eq!(listed((0..7).map(|n| n.to_string())), "0, 1, 2, 3, 4 and 2 more");
    }
}
