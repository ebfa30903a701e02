//! `metacluster version`: what this program is.

use clap::Args;
use serde_json::json;

use crate::{failure::Outcome, output};

/// The arguments of `version`.
#[derive(Args, Debug)]
pub(crate) struct Version {
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &Version) -> Outcome {
    let release = env!("CARGO_PKG_VERSION");
    if arguments.json {
        output::print_json(&json!({
            "version": metacluster_agent::view::VERSION,
            "release": release,
            "os": std::env::consts::OS,
            "architecture": std::env::consts::ARCH,
        }))
    } else {
        output::print(&format!("metacluster {release}\n"))
    }
}
