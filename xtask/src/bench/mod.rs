//! `cargo xtask bench NAME`: wall-clock figures of the release binary with real BEAM nodes on real hosts.
//!
//! Each prints a table of what was measured in this run, next to what it is held against. `--json` also keeps the raw
//! figures in `benches/results`, named by date; a document quotes nothing else.

mod discovery;
mod dist;
mod epmd;
mod federation;
mod formation;
mod idle;
mod link;
mod membership;
mod membership_real;
mod report;
mod rewrite;
mod startup;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use metacluster_testbed::Tool;

use self::report::Report;
use crate::{
    arguments::Options,
    process::{cargo, must, root},
    setup,
};

/// How long anything that is measured may take before the bench gives up.
const GIVE_UP: Duration = Duration::from_secs(120);

/// Every bench.
const KNOWN: &str =
    "discovery, dist, epmd, federation, formation, link, idle, membership, membership-real, startup, rewrite";

/// Runs the bench that the first argument names.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let Some((name, rest)) = arguments.split_first() else { bail!("which? {KNOWN}") };
    if name == "dist" {
        // It needs neither hosts nor the binary.
        setup::provide(&[Tool::Erl])?;
        let options = Options::read(rest, &[], &["json"])?;
        return dist::run(&options)?.map_or(Ok(()), |report| show(&report, &options));
    }
    if name == "rewrite" {
        // It needs neither nodes nor the binary.
        let options = Options::read(rest, &[], &["json", "instructions"])?;
        return rewrite::run(&options)?.map_or(Ok(()), |report| show(&report, &options));
    }
    if name == "membership" {
        // Simulated: it needs neither nodes nor the binary either.
        let options = Options::read(rest, &[], &["json", "quick"])?;
        return show(&membership::run(&options)?, &options);
    }
    let valued: &[&str] = match name.as_str() {
        "discovery" => &["binary", "agents", "rounds"],
        "epmd" => &["binary", "lookups", "rounds"],
        "formation" => &["binary", "nodes"],
        "federation" => &["binary", "only", "rounds"],
        "link" | "startup" => &["binary", "rounds"],
        "idle" => &["binary", "seconds"],
        "membership-real" => &["binary", "only", "runs"],
        other => bail!("no bench `{other}`; known: {KNOWN}"),
    };
    let flags: &[&str] = if name == "membership-real" { &["json", "quick"] } else { &["json"] };
    let options = Options::read(rest, valued, flags)?;
    let mut needed = vec![Tool::Erl, Tool::Namespaces, Tool::Nftables];
    match name.as_str() {
        "idle" | "membership-real" => needed.push(Tool::Serf),
        "discovery" => needed = discovery::TOOLS.to_vec(),
        "federation" => needed.push(Tool::Haproxy),
        _ => {}
    }
    setup::provide(&needed)?;
    let binary = options.text("binary").map_or_else(release_binary, |path| Ok(PathBuf::from(path)))?;
    let report = match name.as_str() {
        "discovery" => discovery::run(&binary, &options)?,
        "epmd" => epmd::run(&binary, &options)?,
        "federation" => federation::run(&binary, &options)?,
        "formation" => formation::run(&binary, &options)?,
        "link" => link::run(&binary, &options)?,
        "idle" => idle::run(&binary, &options)?,
        "membership-real" => membership_real::run(&binary, &options)?,
        _ => startup::run(&binary, &options)?,
    };
    show(&report, &options)
}

fn show(report: &Report, options: &Options) -> Result<()> {
    println!("{report}");
    if options.is_given("json") {
        println!("kept in {}", report.keep(&root().join("benches/results"))?.display());
    }
    Ok(())
}

/// Builds the binary as it is shipped.
fn release_binary() -> Result<PathBuf> {
    must(&mut cargo(&["build", "--quiet", "--release", "--package", "metacluster-cli"]))?;
    let binary = crate::process::target_folder()?.join("release/metacluster");
    binary.is_file().then_some(()).with_context(|| format!("no {}", binary.display()))?;
    Ok(binary)
}

/// The size of a file in MiB.
fn mebibytes(file: &Path) -> Result<f64> {
    let bytes = std::fs::metadata(file).with_context(|| format!("no {}", file.display()))?.len();
    Ok(u32::try_from(bytes / 1024).map(f64::from)? / 1024.0)
}
