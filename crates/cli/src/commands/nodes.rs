//! `metacluster nodes`: every node that the agent knows.

use metacluster_agent::view::{NodeState, NodeView, NodesAnswer};

use crate::{
    args::Listing,
    failure::Outcome,
    output::{self, Paint},
    picture::count,
    table::{Cell, Table, Tone},
};

/// Runs the command.
pub(crate) async fn run(arguments: Listing) -> Outcome {
    let client = arguments.asking.client();
    if arguments.json {
        let text = client.get_text("/v1/nodes").await?;
        return output::print(&format!("{}\n", text.trim_end()));
    }
    let answer: NodesAnswer = client.get("/v1/nodes").await?;
    if answer.nodes.is_empty() {
        return output::print("no nodes are known yet: no local node has registered, and no topology has found one\n");
    }
    output::print(&render(&answer.nodes, Paint::of_stdout(), output::columns()))
}

/// The table, and a line that sums it up.
pub(crate) fn render(nodes: &[NodeView], paint: Paint, columns: Option<usize>) -> String {
    let up = nodes.iter().filter(|node| node.state == NodeState::Up).count();
    let with_errors = nodes.iter().any(|node| node.error.is_some());
    let mut head = vec!["NODE", "STATE", "ZONE", "LINKS", "OTP", "WHERE"];
    if with_errors {
        head.push("WHY");
    }
    let mut table = Table::new(&head);
    for node in nodes {
        let state = match node.state {
            NodeState::Up => Cell::toned("up", Tone::Good),
            NodeState::Down => Cell::toned("down", Tone::Bad),
        };
        let place = if node.local { "here" } else { "there" };
        table.row(vec![
            node.name.as_str().into(),
            state,
            node.zone.as_ref().map_or("-", |zone| zone.as_str()).into(),
            node.connected.len().to_string().into(),
            node.otp.as_deref().unwrap_or("-").into(),
            Cell::toned(place, Tone::Faint),
            Cell::toned(node.error.as_deref().unwrap_or(""), Tone::Doubtful),
        ]);
    }
    let mut text = table.render(paint, columns);
    text.push_str(&paint.dim(&format!("{up} of {} up", count(nodes.len(), "node"))));
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::tests::node;

    #[test]
    fn a_node_is_a_line() {
        let mut down = node("b@h", "", false, false, &[]);
        down.error = Some("connection_closed".to_owned());
        let text = render(&[node("a@h", "east", true, true, &["b@h"]), down], Paint::PLAIN, None);
        assert_eq!(
            text,
            "NODE  STATE  ZONE  LINKS  OTP  WHERE  WHY\n\
             a@h   up     east  1      -    here\n\
             b@h   down   -     0      -    there  connection_closed\n\
             1 of 2 nodes up\n"
        );
    }
}
