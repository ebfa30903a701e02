//! `metacluster topology`: the picture of the cluster, as text, as a drawing or as JSON.

use std::path::PathBuf;

use clap::Args;
use metacluster_agent::view::NodesAnswer;

use crate::{
    args::Asking,
    failure::{Failure, Outcome},
    output::{self, Paint},
    picture::Picture,
    svg,
};

/// The arguments of `topology`.
#[derive(Args, Debug)]
pub(crate) struct Topology {
    #[command(flatten)]
    asking: Asking,
    /// Write the drawing to this file; `-` is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    svg: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) async fn run(arguments: Topology) -> Outcome {
    let answer: NodesAnswer = arguments.asking.client().get("/v1/nodes").await?;
    let picture = Picture::of(&answer.nodes);
    if arguments.json {
        return output::print_json(&picture);
    }
    match arguments.svg {
        None => output::print(&picture.render(Paint::of_stdout())),
        Some(file) if file.as_os_str() == "-" => output::print(&svg::draw(&picture)),
        Some(file) => std::fs::write(&file, svg::draw(&picture))
            .map_err(|error| Failure::NotSo(format!("cannot write the drawing to {}: {error}", file.display()))),
    }
}
