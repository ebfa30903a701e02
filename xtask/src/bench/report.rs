//! What a bench measured: a table for people and JSON for later.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use metacluster_testbed::run;
use serde_json::{Value, json};

/// The figures of one run of one bench.
#[derive(Debug)]
pub(crate) struct Report {
    name: &'static str,
    /// What stands beside, if anything does.
    beside: Option<&'static str>,
    rows: Vec<Row>,
}

/// What is to be reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    /// The median is at most this.
    Median(f64),
    /// Every sample is at most this.
    Most(f64),
    /// The median is at least this.
    Least(f64),
}

impl Bound {
    fn limit(self) -> f64 {
        match self {
            Self::Median(limit) | Self::Most(limit) | Self::Least(limit) => limit,
        }
    }

    fn holds(self, samples: &[f64]) -> bool {
        match self {
            Self::Median(limit) => percentile(samples, 50) <= limit,
            Self::Most(limit) => percentile(samples, 100) <= limit,
            Self::Least(limit) => percentile(samples, 50) >= limit,
        }
    }
}

#[derive(Debug)]
struct Row {
    what: String,
    unit: &'static str,
    samples: Vec<f64>,
    bounds: Vec<Bound>,
    /// The same of what stands beside.
    theirs: Vec<f64>,
}

impl Report {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, beside: None, rows: Vec::new() }
    }

    /// A report with a column for another program.
    pub(crate) fn beside(name: &'static str, other: &'static str) -> Self {
        Self { beside: Some(other), ..Self::new(name) }
    }

    /// Adds what was measured, and the most that the median should be, if there is such a bound.
    pub(crate) fn add(&mut self, what: impl Into<String>, unit: &'static str, samples: Vec<f64>, limit: Option<f64>) {
        self.compare(what, unit, samples, &limit.map(Bound::Median).into_iter().collect::<Vec<_>>(), Vec::new());
    }

    /// Adds what was measured, what it should be, and the same of what stands beside.
    pub(crate) fn compare(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        samples: Vec<f64>,
        bounds: &[Bound],
        theirs: Vec<f64>,
    ) {
        self.rows.push(Row { what: what.into(), unit, samples, bounds: bounds.to_vec(), theirs });
    }

    /// The median of a row that was added.
    pub(crate) fn median(&self, what: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.what == what).map(|row| percentile(&row.samples, 50))
    }

    /// Writes the raw figures into a file of today, and gives its path.
    pub(crate) fn keep(&self, folder: &Path) -> Result<PathBuf> {
        let date = run("date", &["-u", "+%F"])?;
        let path = folder.join(format!("{}-{}.json", date.trim(), self.name));
        let rows = self.rows.iter().map(|row| {
            let limits: Vec<f64> = row.bounds.iter().map(|bound| bound.limit()).collect();
            let mut value = json!({"what": row.what, "unit": row.unit, "median": percentile(&row.samples, 50),
                                   "limit": limits.first(), "samples": row.samples});
            if let (Some(other), false) = (self.beside, row.theirs.is_empty()) {
                value[other] = json!(row.theirs);
            }
            value
        });
        let machine = json!({
            "cores": std::thread::available_parallelism()?.get(),
            "kernel": run("uname", &["-sr"])?.trim(),
            "rustc": run("rustc", &["--version"])?.trim(),
            "commit": run("git", &["rev-parse", "--short", "HEAD"])?.trim(),
        });
        let text =
            json!({"bench": self.name, "date": date.trim(), "machine": machine, "rows": rows.collect::<Value>()});
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::write(&path, format!("{text:#}\n")).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self.rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0).max(self.name.len());
        let beside = self.beside.map(|other| format!("  {other:>10}")).unwrap_or_default();
        writeln!(
            f,
            "{:widest$}  {:>10}  {:>10}  {:>10}  {:>4}{beside}  to reach",
            self.name, "median", "least", "most", "n"
        )?;
        for row in &self.rows {
            let bound = |bound: &Bound| {
                let which = match bound {
                    Bound::Median(_) => "",
                    Bound::Most(_) => "most ",
                    Bound::Least(_) => "at least ",
                };
                let verdict = if bound.holds(&row.samples) { "held" } else { "MISSED" };
                format!("{which}{} {}: {verdict}", bound.limit(), row.unit)
            };
            let bounds: Vec<String> = row.bounds.iter().map(bound).collect();
            let digits = if row.unit == "x" { 2 } else { 1 };
            let figure = |value: f64| format!("{value:.digits$} {}", row.unit);
            let theirs = match self.beside {
                Some(_) if row.theirs.is_empty() => format!("  {:>10}", "-"),
                Some(_) => format!("  {:>10}", figure(percentile(&row.theirs, 50))),
                None => String::new(),
            };
            writeln!(
                f,
                "{:widest$}  {:>10}  {:>10}  {:>10}  {:>4}{theirs}  {}",
                row.what,
                figure(percentile(&row.samples, 50)),
                figure(percentile(&row.samples, 0)),
                figure(percentile(&row.samples, 100)),
                row.samples.len(),
                bounds.join(", "),
            )?;
        }
        Ok(())
    }
}

/// A duration in milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The sample below or at which so many of a hundred lie; zero of no samples.
fn percentile(samples: &[f64], percent: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_bound_is_said() {
        let mut report = Report::new("startup");
        report.add("ready", "ms", vec![3.0, 1.0, 2.0], Some(1.5));
        let text = report.to_string();
        assert!(text.contains("2.0 ms") && text.contains("1.5 ms: MISSED"), "{text}");
        assert_eq!(report.median("ready"), Some(2.0));
    }

    #[test]
    fn a_bound_on_every_sample_is_missed_by_one() {
        let mut report = Report::beside("membership", "foca");
        let (median, most) = (Bound::Median(2.0), Bound::Most(2.5));
        report.compare("death", "s", vec![1.0, 2.0, 3.0], &[median, most], vec![9.0]);
        report.compare("rate", "x", vec![0.4, 0.6, 0.7], &[Bound::Least(0.5)], Vec::new());
        let text = report.to_string();
        assert!(text.contains("at least 0.5 x: held"), "{text}");
        assert!(text.contains("2 s: held, most 2.5 s: MISSED") && text.contains("foca"), "{text}");
        assert!(text.contains("9.0 s"), "{text}");
    }

    #[test]
    fn what_was_measured_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut report = Report::new("link");
        report.add("own epmd", "ms", vec![4.0], None);
        let path = report.keep(folder.path()).expect("kept");
        assert!(path.display().to_string().ends_with("-link.json"));
        let text = fs::read_to_string(path).expect("written");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["rows"][0]["samples"][0], 4.0);
    }
}
