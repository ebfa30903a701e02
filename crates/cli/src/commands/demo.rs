//! `metacluster demo`.

use clap::Args;

use crate::failure::{Failure, Outcome};

/// The arguments of `demo`.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// End after the heal instead of staying up
    #[arg(long)]
    exit: bool,
}

/// Runs the command.
pub(crate) async fn run(arguments: Demo) -> Outcome {
    Err(Failure::NotSo(format!("this build has no agent yet ({})", arguments.exit)))
}
