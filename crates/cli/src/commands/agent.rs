//! `metacluster agent`: the agent from a configuration file.

use std::path::PathBuf;

use clap::Args;
use metacluster_agent::config::{Config, Environment};

use crate::{commands::check_config, failure::Outcome, running};

/// The arguments of `agent`.
#[derive(Args, Debug)]
pub(crate) struct Agent {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// End when standard input ends, so that the agent never outlives what started it
    #[arg(long, hide = true)]
    until_input_ends: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &Agent) -> Outcome {
    let config =
        Config::load(&arguments.config, &Environment::capture()).map_err(|faults| check_config::refused(&faults))?;
    running::run(config, Some(arguments.config.clone()), arguments.until_input_ends)
}
