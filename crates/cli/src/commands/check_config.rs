//! `metacluster check-config`: every fault of a configuration file at once. Nothing is started.

use std::path::{Path, PathBuf};

use clap::Args;
use metacluster_agent::config::{Config, Environment, Faults};

use crate::{
    failure::{Failure, Outcome},
    output,
    picture::count,
};

/// The arguments of `check-config`.
#[derive(Args, Debug)]
pub(crate) struct CheckConfig {
    /// The file
    file: PathBuf,
}

/// Runs the command.
pub(crate) fn run(arguments: &CheckConfig) -> Outcome {
    let config = Config::load(&arguments.file, &Environment::capture()).map_err(|faults| refused(&faults))?;
    for warning in &config.warnings {
        output::say(&format!("{} {warning}\n", output::Paint::of_stderr().yellow("warning:")));
    }
    output::print(&summary(&arguments.file, &config))
}

/// All faults, one a line.
pub(crate) fn refused(faults: &Faults) -> Failure {
    Failure::Configuration(faults.to_string())
}

fn summary(file: &Path, config: &Config) -> String {
    let zone = config.place.zone.as_ref().map_or("none", |zone| zone.as_str());
    let topologies: Vec<String> =
        config.topologies.iter().map(|topology| format!("{} ({})", topology.name, topology.strategy)).collect();
    let topologies = if topologies.is_empty() { "none".to_owned() } else { topologies.join(", ") };
    output::clean(&format!(
        "{}: good: cluster {}, zone {zone}, topologies {topologies}, {}",
        file.display(),
        config.cluster,
        count(config.handlers.len(), "handler"),
    )) + "\n"
}
