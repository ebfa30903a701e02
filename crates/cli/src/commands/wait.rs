//! `metacluster wait`: ends when the nodes are up and linked, for scripts and for the order of a start-up.
//!
//! An agent that is not there yet is waited for as well. Formed means: at least so many nodes are up, and each node of
//! the agent's own host that is up is linked to all others that are.

use std::time::Duration;

use clap::Args;
use metacluster_agent::view::{NodeState, NodesAnswer};
use metacluster_types::time::format_duration;
use tokio::time::{Instant, sleep};

use crate::{
    args::{Asking, duration},
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
        let failure = match client.get::<NodesAnswer>("/v1/nodes").await {
            Ok(answer) => match lacking(&answer, wanted) {
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

fn up(answer: &NodesAnswer) -> usize {
    answer.nodes.iter().filter(|node| node.state == NodeState::Up).count()
}

/// What is missing, in one line; nothing when the cluster is formed.
fn lacking(answer: &NodesAnswer, wanted: usize) -> Option<String> {
    let picture = Picture::of(&answer.nodes);
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
    let unlinked = listed(picture.unlinked.iter().map(|(a, b)| format!("{a} and {b}")));
    if !unlinked.is_empty() {
        reasons.push(format!("not linked: {unlinked}"));
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
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
    use metacluster_agent::view::NodeView;

    use super::*;
    use crate::picture::tests::node;

    fn answer(nodes: Vec<NodeView>) -> NodesAnswer {
        NodesAnswer { version: 1, nodes }
    }

    #[test]
    fn formed_is_enough_nodes_and_every_link_that_is_known() {
        let a = node("a@h", "", true, true, &["b@h"]);
        let b = node("b@h", "", true, false, &["a@h"]);
        assert_eq!(lacking(&answer(vec![a.clone(), b.clone()]), 2), None);
        assert_eq!(lacking(&answer(vec![a, b]), 3).as_deref(), Some("2 of 3 nodes up"));
    }

    #[test]
    fn the_line_says_who_is_missing() {
        let mut down = node("b@h", "", false, false, &[]);
        down.error = Some("refused".to_owned());
        let nodes = vec![node("a@h", "", true, true, &[]), down, node("c@h", "", true, true, &[])];
        assert_eq!(
            lacking(&answer(nodes), 3).as_deref(),
            Some("2 of 3 nodes up; down: b@h (refused); not linked: a@h and c@h")
        );
    }

    #[test]
    fn a_long_list_is_cut() {
        assert_eq!(listed((0..7).map(|n| n.to_string())), "0, 1, 2, 3, 4 and 2 more");
    }
}
