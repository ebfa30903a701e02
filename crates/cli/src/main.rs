//! The `metacluster` binary: reads the command line, runs one command, turns its outcome into an exit code.
//!
//! Every command is a module of [`commands`]; it prints its answer on standard output and fails with a [`Failure`],
//! which becomes one line on standard error. Nothing else here writes to either stream. Specification: docs/contracts.md,
//! "Binary".

mod args;
mod client;
mod commands;
mod failure;
mod log;
mod notify;
mod output;
mod picture;
mod running;
mod signals;
mod sse;
mod svg;
mod table;

use std::process::ExitCode;

use crate::failure::Failure;

fn main() -> ExitCode {
    let outcome = match args::Command::read() {
        Ok(command) => commands::run(command),
        Err(error) => {
            // Help and version go to standard output, a usage error to standard error. A closed pipe is success.
            let code = if error.use_stderr() { failure::USAGE } else { 0 };
            return match error.print() {
                Ok(()) | Err(_) => ExitCode::from(code),
            };
        }
    };
    match outcome {
        Ok(()) | Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Err(failure) => {
            match &failure {
                // `file:line: message`, as editors read it.
                Failure::Configuration(faults) => output::say(&format!("{faults}\n")),
                Failure::Said => {}
                Failure::NotSo(_) | Failure::Usage(_) | Failure::NoAgent(_) | Failure::ClosedPipe => {
                    output::complain(&failure.to_string());
                }
            }
            ExitCode::from(failure.exit_code())
        }
    }
}
