//! `metacluster completions`: what a shell needs to complete our command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{args::Cli, failure::Outcome, output};

/// The arguments of `completions`.
#[derive(Args, Debug)]
#[command(after_help = "For bash: metacluster completions bash > /etc/bash_completion.d/metacluster")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

/// Runs the command.
pub(crate) fn run(arguments: &Completions) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "metacluster", &mut text);
    output::print(&String::from_utf8_lossy(&text))
}
