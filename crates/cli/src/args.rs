//! The command line. Each command's own arguments stand in its module.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    agent, cells, check_config, completions, demo, demo_node, discover, epmd, event, events, federation, keys, leave,
    members, query, sql, tags, topologies, topology, up, version, wait,
};

/// Gets nodes into a cluster and keeps them in it.
#[derive(Debug, Parser)]
#[command(
    name = "metacluster",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Start with `metacluster demo`, or with `metacluster up` on each host.\n\
                  Exit codes: 0 done, 1 not so, 2 wrong usage, 64 bad configuration, 69 no agent."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Every command of this release.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Form a cluster of real nodes on this machine, lose one, heal
    Demo(demo::Demo),
    /// Run the agent without a configuration file
    Up(Box<up::Up>),
    /// Run the agent from a configuration file
    Agent(agent::Agent),
    /// Tell every fault of a configuration file
    CheckConfig(check_config::CheckConfig),
    /// List the agents of the cluster
    Members(members::Members),
    /// List the nodes
    Nodes(Listing),
    /// List the topologies and what they found, add one, remove one
    Topologies(topologies::Topologies),
    /// Tell what happened, one line an event
    Events(events::Events),
    /// Tell every agent something
    Event(event::Event),
    /// Ask the agents something, one line an answer
    Query(query::Query),
    /// Set, unset and list the tags of this agent while it runs
    Tags(tags::Tags),
    /// Change what seals the packets between agents, on all of them
    Keys(keys::Keys),
    /// Wait until the nodes are up and linked
    Wait(wait::Wait),
    /// Join clusters: certificates of gateways, their links, and who is cut off
    Federation(federation::Federation),
    /// List the services of all clusters: groups named {Service, Partition}
    Services(Listing),
    /// Show how the nodes would be divided into small clusters
    Cells(cells::Cells),
    /// Ask a strategy once, without an agent
    Discover(discover::Discover),
    /// Draw the cluster: zones, nodes, links
    Topology(topology::Topology),
    /// Be the epmd of this host, or ask it, with the flags of the stock one
    Epmd(epmd::Epmd),
    /// Make what the strategy `sql` needs in a database
    Sql(sql::Sql),
    /// Make the agent leave and end
    Leave(leave::Leave),
    /// Tell the version of this program
    Version(version::Version),
    /// Write the completions of a shell
    Completions(completions::Completions),
    /// A node for the demo where Erlang is missing: what the demo itself starts, so it is in no help and completion
    #[command(skip)]
    DemoNode(demo_node::DemoNode),
}

impl Command {
    /// Reads this process's command line.
    ///
    /// # Errors
    /// A wrong usage, or a wish for help; clap knows the text and the stream for it.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        if std::env::args_os().nth(1).is_some_and(|first| first == DEMO_NODE) {
            return demo_node::DemoNode::try_parse_from(std::env::args_os().skip(1)).map(Self::DemoNode);
        }
        if let Some(epmd) = epmd::Epmd::read() {
            return Ok(Self::Epmd(epmd));
        }
        Cli::try_parse().map(|cli| cli.command)
    }
}

/// What the demo starts this program with, to make it a node.
pub(crate) const DEMO_NODE: &str = "demo-node";

/// What every command that asks an agent takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Asking {
    /// The socket of the agent [default: $METACLUSTER_SOCKET, else metacluster.sock in its state folder]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

impl Asking {
    /// The agent that is asked.
    pub(crate) fn client(&self) -> crate::client::Client {
        crate::client::Client::new(&crate::client::socket_or_default(self.socket.as_deref()))
    }
}

/// What a listing takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Listing {
    #[command(flatten)]
    pub(crate) asking: Asking,
    /// Print JSON for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// A duration such as `30s`.
pub(crate) fn duration(text: &str) -> Result<std::time::Duration, String> {
    metacluster_types::time::parse_duration(text)
}
