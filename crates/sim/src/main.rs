//! Runs fresh seeds for a while: `metacluster-sim [--seconds 20] [--seed N] [--nodes N]
//! [--membership N] [--federation N]`.
//!
//! Exit code 0 when all hold, 1 with the seed of the first that does not, 2 for wrong usage. `--seed` runs that one
//! random world; `--nodes` runs a full mesh of so many nodes, with `--seed` or with fresh seeds;
//! `--membership` runs one random world of membership machines, `--federation` one of gateways.

use std::{
    fmt::{Debug, Display},
    io::Write,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use metacluster_sim::{
    federation,
    formation::{Failure, Report, Scenario, run},
    membership,
};

#[derive(Debug, Default)]
struct Arguments {
    seconds: Option<u64>,
    seed: Option<u64>,
    nodes: Option<u32>,
    membership: Option<u64>,
    federation: Option<u64>,
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut parsed = Arguments::default();
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag} wants a number"))?;
        let number = value.parse::<u64>().map_err(|_| format!("{flag} wants a number, not `{value}`"))?;
        match flag.as_str() {
            "--seconds" => parsed.seconds = Some(number),
            "--seed" => parsed.seed = Some(number),
            "--membership" => parsed.membership = Some(number),
            "--federation" => parsed.federation = Some(number),
            "--nodes" => {
                parsed.nodes = Some(u32::try_from(number).map_err(|_| format!("--nodes {number} is too many"))?);
            }
            _ => {
                return Err(format!(
                    "unknown flag {flag}: expected --seconds, --seed, --nodes, --membership or --federation"
                ));
            }
        }
    }
    Ok(parsed)
}

fn say(line: &str) {
    // A closed pipe ends the talk, not the run.
    if writeln!(std::io::stdout(), "{line}").is_err() {}
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long to go on, and where to begin; the runs themselves have no clock"
)]
fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn one(seed: u64, nodes: Option<u32>) -> Result<Report, Failure> {
    match nodes {
        Some(nodes) => run(seed, &Scenario::full_mesh(nodes)),
        None => run(seed, &Scenario::random(seed)),
    }
}

fn failed(failure: &Failure, nodes: Option<u32>) -> ExitCode {
    let nodes = nodes.map(|nodes| format!(" --nodes {nodes}")).unwrap_or_default();
    say(&format!("FAILED {failure}"));
    say(&format!("again: cargo run -p metacluster-sim --release -- --seed {}{nodes}", failure.seed));
    ExitCode::FAILURE
}

/// Says how a single seed of membership or federation went.
fn told(seed: u64, outcome: Result<impl Debug, impl Display>) -> ExitCode {
    match outcome {
        Ok(report) => {
            say(&format!("seed {seed} holds: {report:?}"));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            say(&format!("FAILED {failure}"));
            ExitCode::FAILURE
        }
    }
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            say(&error);
            return ExitCode::from(2);
        }
    };
    let begin = wall_clock();
    if let Some(seed) = arguments.membership {
        return told(seed, membership::run(seed, &membership::Scenario::random(seed)));
    }
    if let Some(seed) = arguments.federation {
        return told(seed, federation::run(seed, &federation::Scenario::random(seed)));
    }
    if let Some(seed) = arguments.seed {
        return match one(seed, arguments.nodes) {
            Ok(report) => {
                let took = wall_clock().saturating_sub(begin);
                say(&format!(
                    "seed {seed} holds: {} dials, {} events, linked {:?} after the last fault (bound {:?}), in {took:.1?}",
                    report.dials, report.events, report.converged_after, report.bound
                ));
                ExitCode::SUCCESS
            }
            Err(failure) => failed(&failure, arguments.nodes),
        };
    }
    let budget = Duration::from_secs(arguments.seconds.unwrap_or(20));
    let first = u64::try_from(begin.as_micros()).unwrap_or_default();
    let (mut seeds, mut dials) = (0_u64, 0_u64);
    while wall_clock().saturating_sub(begin) < budget {
        match one(first.wrapping_add(seeds), arguments.nodes) {
            Ok(report) => dials += report.dials,
            Err(failure) => return failed(&failure, arguments.nodes),
        }
        // The same seed makes a world of membership machines too.
        if arguments.nodes.is_none() {
            let seed = first.wrapping_add(seeds);
            if let Err(failure) = membership::run(seed, &membership::Scenario::random(seed)) {
                say(&format!("FAILED {failure}"));
                say(&format!("again: cargo run -p metacluster-sim --release -- --membership {seed}"));
                return ExitCode::FAILURE;
            }
        }
        if arguments.nodes.is_none() {
            let seed = first.wrapping_add(seeds);
            if let Err(failure) = federation::run(seed, &federation::Scenario::random(seed)) {
                say(&format!("FAILED {failure}"));
                say(&format!("again: cargo run -p metacluster-sim --release -- --federation {seed}"));
                return ExitCode::FAILURE;
            }
        }
        seeds += 1;
    }
    say(&format!("{seeds} seeds from {first} hold: {dials} dials"));
    ExitCode::SUCCESS
}
