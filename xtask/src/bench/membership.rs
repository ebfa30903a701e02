//! Membership under simulation: the figures of the bench of `sim`, beside those of foca in the same simulator.

use anyhow::{Context as _, Result, bail};
use metacluster_testbed::capture;

use super::report::{Bound, Report};
use crate::{arguments::Options, process::cargo};

/// The bench itself, which cargo builds and runs.
const BENCH: [&str; 6] = ["bench", "--quiet", "--package", "metacluster-sim", "--bench", "membership"];

/// Some twenty minutes on two cores; with `--quick` some two.
pub(super) fn run(options: &Options) -> Result<Option<Report>> {
    let mut report = Report::beside("membership", "foca");
    let quick: &[&str] = if options.is_given("quick") { &["--", "--quick"] } else { &[] };
    for line in capture(&mut cargo(&[&BENCH, quick].concat()))?.lines() {
        add(&mut report, line).with_context(|| format!("the bench printed `{line}`"))?;
    }
    Ok(Some(report))
}

/// Adds a figure of a bench of `sim`.
pub(super) fn add(report: &mut Report, line: &str) -> Result<()> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [what, unit, bound, of, ours, theirs] = fields[..] else { bail!("not six fields") };
    let unit = match unit {
        "s" => "s",
        "B/s" => "B/s",
        "B" => "B",
        _ => "",
    };
    let bound = match (bound, of) {
        ("-", _) => None,
        (bound, "most") => Some(Bound::Most(bound.parse()?)),
        (bound, _) => Some(Bound::Median(bound.parse()?)),
    };
    let samples = |list: &str| -> Result<Vec<f64>> {
        let list = if list == "-" { "" } else { list };
        list.split(',').filter(|sample| !sample.is_empty()).map(|sample| Ok(sample.parse()?)).collect()
    };
    report.compare(what, unit, samples(ours)?, bound.as_slice(), samples(theirs)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_bench_becomes_a_row() {
        let mut report = Report::beside("membership", "foca");
        add(&mut report, "crash\ts\t5\tmedian\t3.000,4.000\t10.000").expect("a row");
        add(&mut report, "split\t\t0\tmost\t0.000\t-").expect("a row");
        assert_eq!(report.median("crash"), Some(3.0));
        let text = report.to_string();
        assert!(text.contains("10.0 s  5 s: held") && text.contains("most 0 : held"), "{text}");
        assert!(add(&mut report, "crash\ts").is_err());
    }
}
