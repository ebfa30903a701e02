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

/// What starts BEAM nodes on several hosts.
const HOSTS: [Tool; 3] = [Tool::Erl, Tool::Namespaces, Tool::Nftables];

/// A bench.
struct Bench {
    name: &'static str,
    measures: &'static str,
    /// Its options that have a value, beside `--binary` where it measures one.
    valued: &'static [&'static str],
    /// Its flags, beside `--json`.
    flags: &'static [&'static str],
    tools: &'static [Tool],
    run: Run,
}

/// How a bench is run.
enum Run {
    /// It measures this binary.
    Binary(fn(&Path, &Options) -> Result<Report>),
    /// It builds what it measures; without a report it has printed its figures.
    Alone(fn(&Options) -> Result<Option<Report>>),
}

/// Every bench.
const BENCHES: [Bench; 11] = [
    Bench {
        name: "discovery",
        measures: "from a change at a source to the candidate, and the calls of many agents to an API",
        valued: &["agents", "rounds"],
        flags: &[],
        tools: &discovery::TOOLS,
        run: Run::Binary(discovery::run),
    },
    Bench {
        name: "dist",
        measures: "messages of a Rust node to and from a BEAM",
        valued: &[],
        flags: &[],
        tools: &[Tool::Erl],
        run: Run::Alone(dist::run),
    },
    Bench {
        name: "epmd",
        measures: "our epmd beside the stock one",
        valued: &["lookups", "rounds"],
        flags: &[],
        tools: &HOSTS,
        run: Run::Binary(epmd::run),
    },
    Bench {
        name: "federation",
        measures: "two clusters and their gateways, beside direct links and proxies",
        valued: &["only", "rounds"],
        flags: &[],
        tools: &[Tool::Erl, Tool::Namespaces, Tool::Nftables, Tool::Haproxy],
        run: Run::Binary(federation::run),
    },
    Bench {
        name: "formation",
        measures: "from the last agent's start to the full mesh",
        valued: &["nodes"],
        flags: &[],
        tools: &HOSTS,
        run: Run::Binary(formation::run),
    },
    Bench {
        name: "idle",
        measures: "memory and processor time of an idle agent, beside serf",
        valued: &["seconds"],
        flags: &[],
        tools: &[Tool::Erl, Tool::Namespaces, Tool::Nftables, Tool::Serf],
        run: Run::Binary(idle::run),
    },
    Bench {
        name: "link",
        measures: "from a node's registration to its link",
        valued: &["rounds"],
        flags: &[],
        tools: &HOSTS,
        run: Run::Binary(link::run),
    },
    Bench {
        name: "membership",
        measures: "membership simulated, beside foca in the same simulator",
        valued: &[],
        flags: &["quick"],
        tools: &[],
        run: Run::Alone(membership::run),
    },
    Bench {
        name: "membership-real",
        measures: "silent deaths, loss and outages on hosts, beside serf",
        valued: &["only", "runs"],
        flags: &["quick"],
        tools: &[Tool::Erl, Tool::Namespaces, Tool::Nftables, Tool::Serf],
        run: Run::Binary(membership_real::run),
    },
    Bench {
        name: "rewrite",
        measures: "messages rewritten for another cluster",
        valued: &[],
        flags: &["instructions"],
        tools: &[],
        run: Run::Alone(rewrite::run),
    },
    Bench {
        name: "startup",
        measures: "`metacluster up`, until it answers",
        valued: &["rounds"],
        flags: &[],
        tools: &HOSTS,
        run: Run::Binary(startup::run),
    },
];

impl Bench {
    /// All options that have a value.
    fn valued(&self) -> Vec<&'static str> {
        let binary: &[&str] = if matches!(self.run, Run::Binary(_)) { &["binary"] } else { &[] };
        [binary, self.valued].concat()
    }

    /// All flags.
    fn flags(&self) -> Vec<&'static str> {
        [&["json"], self.flags].concat()
    }
}

/// Runs the bench that the first argument names.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let Some((name, rest)) =
        arguments.split_first().filter(|(name, _)| !["help", "--help", "-h"].contains(&name.as_str()))
    else {
        print!("{}", usage());
        return Ok(());
    };
    let Some(bench) = BENCHES.iter().find(|bench| bench.name == name) else {
        let known: Vec<&str> = BENCHES.iter().map(|bench| bench.name).collect();
        bail!("no bench `{name}`; known: {}", known.join(", "));
    };
    let options = Options::read(rest, &bench.valued(), &bench.flags())?;
    setup::provide(bench.tools)?;
    match bench.run {
        Run::Alone(run) => run(&options)?.map_or(Ok(()), |report| show(&report, &options)),
        Run::Binary(run) => {
            let binary = options.text("binary").map_or_else(release_binary, |path| Ok(PathBuf::from(path)))?;
            show(&run(&binary, &options)?, &options)
        }
    }
}

/// Every bench, what it measures, and its options.
fn usage() -> String {
    let mut text = "cargo xtask bench NAME [OPTIONS]; --json keeps the figures in benches/results\n\n".to_owned();
    for bench in &BENCHES {
        let valued = bench.valued().into_iter().map(|name| format!("[--{name} {}]", name.to_uppercase()));
        let flags = bench.flags().into_iter().map(|name| format!("[--{name}]"));
        let options: Vec<String> = valued.chain(flags).collect();
        text += &format!("  {:<16} {}\n  {:<16} {}\n", bench.name, bench.measures, "", options.join(" "));
    }
    text
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
