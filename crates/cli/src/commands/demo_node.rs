//! `metacluster demo-node`, which is not listed: a node of ours for the demo on a machine without Erlang.

use std::path::PathBuf;

use clap::Parser;
use metacluster_types::NodeName;

use crate::failure::{Failure, Outcome};

/// The arguments of `demo-node`.
#[derive(Debug, Parser)]
pub(crate) struct DemoNode {
    /// Its name
    #[arg(long, value_name = "NAME@HOST")]
    name: NodeName,
    /// The port of its epmd
    #[arg(long, value_name = "PORT")]
    epmd_port: u16,
    /// The file with its cookie
    #[arg(long, value_name = "FILE")]
    cookie_file: PathBuf,
}

/// Runs the command.
pub(crate) async fn run(arguments: DemoNode) -> Outcome {
    Err(Failure::NotSo(format!("{} {} {}", arguments.name, arguments.epmd_port, arguments.cookie_file.display())))
}
