//! How fast messages are rewritten: the bench of erl-wire, and how many instructions each message takes.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use metacluster_testbed::{capture, succeed};

use super::report::Report;
use crate::{
    arguments::Options,
    process::{cargo, must},
};

/// The bench itself, which cargo builds and runs.
const BENCH: [&str; 6] = ["bench", "--quiet", "--package", "metacluster-erl-wire", "--bench", "rewrite"];

/// Runs of a case from which the instructions of one are worked out.
const COUNTED_RUNS: u32 = 100;

/// Prints the table, or with `--json` or `--instructions` gives a report of the raw figures.
pub(super) fn run(options: &Options) -> Result<Option<Report>> {
    let (json, instructions) = (options.is_given("json"), options.is_given("instructions"));
    if !json && !instructions {
        must(&mut cargo(&BENCH))?;
        return Ok(None);
    }
    let mut report = Report::new("rewrite");
    for line in bench(&["--raw"])?.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(limit)) = (words.next(), words.next()) else { bail!("the bench printed `{line}`") };
        for what in ["renamed", "kept", "copied", "decoded and encoded"] {
            let value = words.next().and_then(|word| word.parse().ok()).context("the bench printed no number")?;
            let limit = if what == "renamed" { limit.parse().ok() } else { None };
            report.add(format!("{name}, {what}"), "ns", vec![value], limit);
        }
    }
    if instructions {
        if !succeed("valgrind", &["--version"]) {
            bail!("instructions are counted by valgrind, which is missing (Debian: apt-get install valgrind)");
        }
        let program = executable()?;
        for name in bench(&["--list"])?.lines() {
            let (none, some) = (instructions_of(&program, name, 0)?, instructions_of(&program, name, COUNTED_RUNS)?);
            let each = (some - none) / f64::from(COUNTED_RUNS);
            report.add(format!("{name}, renamed"), "instructions", vec![each], None);
        }
    }
    Ok(Some(report))
}

fn bench(arguments: &[&str]) -> Result<String> {
    capture(cargo(&BENCH).arg("--").args(arguments))
}

/// The program that cargo built for the bench.
fn executable() -> Result<String> {
    let said = capture(cargo(&BENCH).args(["--no-run", "--message-format", "json"]))?;
    let messages = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let built = messages.filter(|message| message["target"]["name"] == "rewrite");
    let mut programs = built.filter_map(|message| message["executable"].as_str().map(str::to_owned));
    programs.next_back().context("cargo names no program for the bench")
}

fn instructions_of(program: &str, name: &str, runs: u32) -> Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", program, "--count", name, &runs.to_string()])
        .output()
        .context("cannot start valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let count = said.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, count)| count.trim());
    count.and_then(|count| count.parse().ok()).with_context(|| format!("valgrind counted nothing: {said}"))
}
