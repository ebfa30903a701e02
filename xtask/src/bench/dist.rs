//! How fast messages cross a connection, BEAM to BEAM, BEAM to Rust and Rust to BEAM: the bench of the `erl` crate.

use anyhow::{Context as _, Result};
use metacluster_testbed::capture;

use super::report::Report;
use crate::{
    arguments::Options,
    process::{cargo, must},
};

/// The bench itself, which cargo builds and runs.
const BENCH: [&str; 6] = ["bench", "--quiet", "--package", "metacluster-erl", "--bench", "dist"];

/// Prints the table, or with `--json` gives a report of the raw figures.
pub(super) fn run(options: &Options) -> Result<Option<Report>> {
    if !options.is_given("json") {
        must(&mut cargo(&BENCH))?;
        return Ok(None);
    }
    let mut report = Report::new("dist");
    for line in capture(cargo(&BENCH).args(["--", "--raw"]))?.lines() {
        let (what, unit, figures) = read(line).with_context(|| format!("the bench printed `{line}`"))?;
        report.add(what, unit, figures, None);
    }
    Ok(Some(report))
}

/// `64;4;BEAM to Rust;messages/s;12.5 13.0`
fn read(line: &str) -> Option<(String, &'static str, Vec<f64>)> {
    let [size, senders, direction, unit, figures] = line.split(';').collect::<Vec<_>>().try_into().ok()?;
    let unit = ["messages/s", "us", "x BEAM to BEAM", "us of processor"].into_iter().find(|known| *known == unit)?;
    let figures = figures.split_whitespace().map(|figure| figure.parse().ok()).collect::<Option<Vec<_>>>()?;
    let what =
        if size == "ping" { format!("round trip, {direction}") } else { format!("{size} B, {senders}, {direction}") };
    Some((what, unit, figures))
}
