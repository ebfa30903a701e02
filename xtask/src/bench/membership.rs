//! Membership under simulation: the figures of the bench of `sim`, next to their bounds.

use anyhow::{Context as _, Result, bail};
use metacluster_testbed::capture;

use super::report::Report;
use crate::process::cargo;

/// The bench itself, which cargo builds and runs.
const BENCH: [&str; 6] = ["bench", "--quiet", "--package", "metacluster-sim", "--bench", "membership"];

pub(super) fn run() -> Result<Report> {
    let mut report = Report::new("membership");
    for line in capture(&mut cargo(&BENCH))?.lines() {
        let mut fields = line.split('\t');
        let (Some(what), Some(unit), Some(bound)) = (fields.next(), fields.next(), fields.next()) else {
            bail!("the bench printed `{line}`")
        };
        let unit = match unit {
            "s" => "s",
            "B/s" => "B/s",
            _ => "",
        };
        let samples: Result<Vec<f64>, _> = fields.map(str::parse).collect();
        let samples = samples.with_context(|| format!("the bench printed `{line}`"))?;
        report.add(what, unit, samples, bound.parse().ok());
    }
    Ok(report)
}
