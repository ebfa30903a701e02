//! `metacluster cells plan`: how the nodes of all members would be divided into small clusters, and what that saves.
//!
//! Nothing is changed: it asks an agent for its members, and computes what every agent would.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};
use metacluster_agent::{
    federation::cells::{By, Placed, Rules, assign, connections},
    view::{MemberState, MemberView, MembersAnswer},
};
use metacluster_types::{AgentId, CellName, NodeName};
use serde::Serialize;

use crate::{
    args::Listing,
    failure::Outcome,
    output::{self, Paint},
    table::Table,
};

/// Gateways of a cell that the plan counts with, so that one may die.
const GATEWAYS: usize = 2;

/// The arguments of `cells`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Cells {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Show the cells, and the connections before and after; nothing is changed
    Plan {
        /// What is never mixed in a cell: `zone`, `tag:NAME`, or `size` for nothing
        #[arg(long, value_name = "WHAT", default_value = "zone")]
        by: By,
        /// The most nodes of a cell
        #[arg(long, value_name = "N", default_value_t = 50)]
        nodes_max: usize,
        /// The fewest nodes of a cell, where there are as many; goes before the most
        #[arg(long, value_name = "N", default_value_t = 3)]
        nodes_min: usize,
        #[command(flatten)]
        listing: Listing,
    },
}

/// What `--json` prints.
#[derive(Serialize)]
struct Plan {
    version: u32,
    cells: BTreeMap<CellName, BTreeSet<NodeName>>,
    nodes: usize,
    connections_before: usize,
    connections_after: usize,
    gateway_links: usize,
}

/// Runs the command.
pub(crate) async fn run(arguments: Cells) -> Outcome {
    let What::Plan { by, nodes_max, nodes_min, listing } = arguments.what;
    let answer: MembersAnswer = listing.asking.client().get("/v1/members").await?;
    let members: Vec<&MemberView> = answer.members.iter().filter(|member| member.state != MemberState::Left).collect();
    let hosts: Vec<Placed> = members.iter().map(|member| member.placed()).collect();
    let nodes: BTreeMap<AgentId, &Placed> = hosts.iter().map(|placed| (placed.agent, placed)).collect();
    let nodes_of = |agents: BTreeSet<AgentId>| -> BTreeSet<NodeName> {
        agents.iter().filter_map(|agent| nodes.get(agent)).flat_map(|placed| placed.nodes.iter().cloned()).collect()
    };
    let cells = assign(&hosts, &Rules { by, nodes_max, nodes_min });
    let cells: BTreeMap<CellName, BTreeSet<NodeName>> =
        cells.into_iter().map(|(cell, agents)| (cell, nodes_of(agents))).collect();
    let count: usize = cells.values().map(BTreeSet::len).sum();
    let plan = Plan {
        version: answer.version,
        nodes: count,
        connections_before: connections(count),
        connections_after: cells.values().map(|cell| connections(cell.len())).sum(),
        gateway_links: connections(cells.len()) * GATEWAYS * GATEWAYS,
        cells,
    };
    if listing.json {
        return output::print(&format!("{}\n", serde_json::to_string(&plan).unwrap_or_default()));
    }
    let mut table = Table::new(&["CELL", "NODES", "WHO"]);
    for (name, cell) in &plan.cells {
        let who: Vec<&str> = cell.iter().map(NodeName::as_str).collect();
        table.row(vec![name.as_str().into(), cell.len().to_string().into(), who.join(" ").as_str().into()]);
    }
    output::print(&format!(
        "{}{} nodes: {} connections as one mesh, {} in cells and {} links between gateways ({GATEWAYS} a cell)\n",
        table.render(Paint::of_stdout(), output::columns()),
        plan.nodes,
        plan.connections_before,
        plan.connections_after,
        plan.gateway_links
    ))
}
