//! One module a command. Each takes its arguments, prints its answer and gives back its [`Outcome`].

pub(crate) mod agent;
pub(crate) mod cells;
pub(crate) mod check_config;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod demo_node;
pub(crate) mod discover;
pub(crate) mod epmd;
pub(crate) mod event;
pub(crate) mod events;
pub(crate) mod federation;
pub(crate) mod keys;
pub(crate) mod leave;
pub(crate) mod members;
pub(crate) mod nodes;
pub(crate) mod query;
pub(crate) mod services;
pub(crate) mod sql;
pub(crate) mod tags;
pub(crate) mod topologies;
pub(crate) mod topology;
pub(crate) mod up;
pub(crate) mod version;
pub(crate) mod wait;

use crate::{
    args::Command,
    failure::{Failure, Outcome},
};

/// Runs the command.
pub(crate) fn run(command: Command) -> Outcome {
    match command {
        Command::Demo(arguments) => asynchronous(demo::run(arguments)),
        Command::Up(arguments) => up::run(&arguments),
        Command::Agent(arguments) => agent::run(&arguments),
        Command::CheckConfig(arguments) => check_config::run(&arguments),
        Command::Members(arguments) => asynchronous(members::run(arguments)),
        Command::Nodes(arguments) => asynchronous(nodes::run(arguments)),
        Command::Topologies(arguments) => asynchronous(topologies::run(arguments)),
        Command::Events(arguments) => asynchronous(events::run(arguments)),
        Command::Event(arguments) => asynchronous(event::run(arguments)),
        Command::Query(arguments) => asynchronous(query::run(arguments)),
        Command::Tags(arguments) => asynchronous(tags::run(arguments)),
        Command::Keys(arguments) => asynchronous(keys::run(arguments)),
        Command::Wait(arguments) => asynchronous(wait::run(arguments)),
        Command::Federation(arguments) => asynchronous(federation::run(arguments)),
        Command::Cells(arguments) => asynchronous(cells::run(arguments)),
        Command::Services(arguments) => asynchronous(services::run(arguments)),
        Command::Discover(arguments) => asynchronous(discover::run(arguments)),
        Command::Epmd(arguments) => epmd::run(&arguments),
        Command::Topology(arguments) => asynchronous(topology::run(arguments)),
        Command::Sql(arguments) => asynchronous(sql::run(arguments)),
        Command::Leave(arguments) => asynchronous(leave::run(arguments)),
        Command::Version(arguments) => version::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::DemoNode(arguments) => asynchronous(demo_node::run(arguments)),
    }
}

/// Runs a command that waits for others, on this thread.
fn asynchronous(command: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::NotSo(format!("cannot start: {error}")))?
        .block_on(command)
}
