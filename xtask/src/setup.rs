//! What the tests and benches need beside Rust: installed where that is possible, named where it is not.

use std::{
    collections::BTreeSet,
    env,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, bail};
use metacluster_testbed::{Python, Tool, succeed};

use crate::process::must;

/// Sees to it that the tools are there. What cannot be installed is named; that is an error only where `CI=true`.
pub(crate) fn provide(tools: &[Tool]) -> Result<()> {
    let missing = missing(tools);
    if missing.is_empty() {
        return Ok(());
    }
    let lacks_package = |tool: &&Tool| tool.python().is_none() || !Python::can_be_made();
    let packages: BTreeSet<&str> =
        missing.iter().filter(lacks_package).flat_map(|tool| tool.debian_package().split(' ')).collect();
    if !packages.is_empty() && can_install() {
        println!("installing {}", join(&packages));
        install(&packages)?;
    }
    if Python::can_be_made() {
        for python in missing.iter().filter_map(|tool| tool.python()) {
            println!("installing {python}");
            if let Err(error) = python.provide() {
                println!("{python} cannot be installed: {error:#}");
            }
        }
    }
    let still_missing = self::missing(&missing);
    for tool in &still_missing {
        println!("not on this machine: {}", tool.how_to_get());
    }
    if !still_missing.is_empty() && env::var("CI").as_deref() == Ok("true") {
        bail!("CI needs all of them");
    }
    Ok(())
}

fn missing(tools: &[Tool]) -> Vec<Tool> {
    tools.iter().copied().filter(|tool| !tool.is_there()).collect()
}

/// Root on Debian, or on what is made from it.
fn can_install() -> bool {
    Path::new("/etc/debian_version").exists() && succeed("apt-get", &["--version"]) && is_root()
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").stderr(Stdio::null()).output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn install(packages: &BTreeSet<&str>) -> Result<()> {
    must(apt_get(&["update", "--quiet"]).stdout(Stdio::null()))?;
    let mut install = apt_get(&["install", "--yes", "--quiet", "--no-install-recommends"]);
    must(install.args(packages).stdout(Stdio::null()))
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command
}

fn join(words: &BTreeSet<&str>) -> String {
    words.iter().copied().collect::<Vec<_>>().join(" ")
}
