//! `metacluster epmd`, and this program when it is started under the name `epmd`: the port mapper alone, with the
//! flags, variables, texts and exit codes of the stock one (`erts/epmd/src/epmd.c`, `epmd_cli.c`).
//!
//! Exit codes are those of stock epmd, not those of the other commands: 0 done, or another epmd has the port already;
//! 1 anything else. What stock epmd has not is `--allow`; what differs is where it does nothing and says nothing: an
//! address that holds the loopback is listened on, and `-daemon` fails when its child does.

mod arguments;
mod ask;
mod daemon;
mod log;
mod serve;

use std::{
    env,
    ffi::{OsStr, OsString},
    path::Path,
};

use arguments::{Action, Surroundings};
use clap::Args;

use crate::{
    failure::{Failure, Outcome},
    output::say,
};

/// The name that makes this program an epmd.
const NAME: &str = "epmd";

/// The arguments of `epmd`. They are those of stock epmd, which no parser of long options takes, so they are read by
/// [`arguments`]; this is for the help and the completions.
#[derive(Args, Debug)]
#[command(after_help = arguments::HELP)]
pub(crate) struct Epmd {
    /// The flags and values of stock epmd; without any, it runs in the foreground
    #[arg(value_name = "FLAGS", trailing_var_arg = true, allow_hyphen_values = true)]
    flags: Vec<OsString>,
}

impl Epmd {
    /// What this process's command line says, if it is to be an epmd.
    pub(crate) fn read() -> Option<Self> {
        let mut arguments = env::args_os();
        let program = arguments.next()?;
        let mut flags: Vec<_> = arguments.collect();
        if Path::new(&program).file_name() == Some(OsStr::new(NAME)) {
            return Some(Self { flags });
        }
        if flags.first().is_some_and(|first| first == NAME) && !asks_for_help(&flags[1..]) {
            flags.remove(0);
            return Some(Self { flags });
        }
        None
    }
}

/// The help of `metacluster epmd` is that of any of its commands.
fn asks_for_help(flags: &[OsString]) -> bool {
    flags.first().is_some_and(|flag| flag == "--help" || flag == "-h")
}

/// Runs it to its end.
pub(crate) fn run(arguments: &Epmd) -> Outcome {
    let done = match arguments::read(&arguments.flags, &Surroundings::capture()) {
        Some(Action::Ask(question)) => ask::run(&question),
        Some(Action::Serve(serve)) => serve::run(&serve),
        None => {
            say(arguments::USAGE);
            false
        }
    };
    if done { Ok(()) } else { Err(Failure::Said) }
}
