//! The project's own commands: `cargo xtask tidy | test | ci | bench | otp | soak`.
//!
//! Each ends with a non-zero status when the thing it checks is not so. None of them needs anything but Rust to start;
//! what else is needed, `test` and `bench` install or name.
#![expect(clippy::print_stdout, reason = "a command says what it does")]

mod arguments;
mod bench;
mod ci;
mod otp;
mod process;
mod setup;
mod soak;
mod test;
mod tidy;

use std::process::ExitCode;

use arguments::Options;

const USAGE: &str = "\
cargo xtask COMMAND

  test [CARGO TEST ARGUMENTS]   all tests; sets up what they need, and checks that nothing is left behind
  tidy                          the house rules that no compiler knows
  ci [--no-tests]               every gate: formatting, tidy, clippy, documentation, licences, tests, fresh seeds
  bench [NAME [OPTIONS]]        measures; without a name it lists what, and the options
  otp 25|27|29                  the tests of distribution and epmd against that release of Erlang/OTP
  soak [--minutes N]            fuzzing, and long simulations with fresh seeds (default: 10 minutes)
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let outcome = match command.as_str() {
        "test" => test::run(&rest),
        "tidy" => Options::read(&rest, &[], &[]).and_then(|_| tidy::run()),
        "ci" => ci::run(&rest),
        "bench" => bench::run(&rest),
        "otp" => otp::run(&rest),
        "soak" => soak::run(&rest),
        "" | "help" | "--help" | "-h" => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => {
            eprint(&format!("xtask: no command `{other}`\n\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint(&format!("xtask {command}: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "a refusal goes to standard error")]
fn eprint(text: &str) {
    eprint!("{text}");
}
