//! `cargo xtask ci`: every gate, the same on a laptop and in CI. All of them run, whatever fails before.

use anyhow::{Result, bail};
use metacluster_testbed::succeed;

use crate::{
    arguments::Options,
    process::{cargo, must, step},
    test, tidy,
};

/// Runs every gate and names those that failed. With `--no-tests` the tests are left to `cargo xtask test`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let options = Options::read(arguments, &[], &["no-tests"])?;
    let mut failed: Vec<&str> = Vec::new();
    let mut gate = |name: &'static str, work: &mut dyn FnMut() -> Result<()>| {
        if let Err(error) = step(name, work) {
            println!("{error:#}");
            failed.push(name);
        }
    };
    if succeed("cargo", &["fmt", "--version"]) {
        gate("formatting", &mut || must(&mut cargo(&["fmt", "--all", "--check"])));
    } else {
        println!("formatting: skipped, rustfmt is not installed (rustup component add rustfmt)");
    }
    gate("tidy", &mut tidy::run);
    if succeed("cargo", &["clippy", "--version"]) {
        let clippy = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"];
        gate("clippy", &mut || must(&mut cargo(&clippy)));
    } else {
        println!("clippy: skipped, it is not installed (rustup component add clippy)");
    }
    gate("documentation", &mut || {
        let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"]);
        must(doc.env("RUSTDOCFLAGS", "--deny warnings"))
    });
    if succeed("cargo", &["deny", "--version"]) {
        gate("licences and duplicates", &mut || must(&mut cargo(&["deny", "check", "bans", "licenses", "sources"])));
    } else {
        println!("licences and duplicates: skipped, cargo-deny is not installed (cargo install cargo-deny --locked)");
    }
    let mut count = None;
    if !options.is_given("no-tests") {
        gate("tests", &mut || {
            let (counted, outcome) = test::run_counted(&[])?;
            count = Some(counted);
            outcome
        });
    }
    gate("fresh simulation seeds", &mut || simulate(20));
    if let Some(count) = count {
        println!("{count}");
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Simulates fresh seeds for that long.
pub(crate) fn simulate(seconds: u64) -> Result<()> {
    let seconds = seconds.to_string();
    must(&mut cargo(&["run", "--quiet", "--release", "--package", "metacluster-sim", "--", "--seconds", &seconds]))
}
