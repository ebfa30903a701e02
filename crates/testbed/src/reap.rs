//! Namespaces that a killed process left behind.

use std::{fs, path::Path, time::Duration};

use anyhow::Result;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{command::run, eventually};

/// What the name of each of our namespaces starts with; the id of the process that made it follows.
pub(crate) const PREFIX: &str = "mc-";

/// Our namespaces whose process is gone.
pub fn leftover_namespaces() -> Result<Vec<String>> {
    let list = run("ip", &["netns", "list"])?;
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    Ok(names.filter(|name| owner(name).is_some_and(is_gone)).map(str::to_owned).collect())
}

/// Kills what runs in a namespace, and removes it.
pub fn remove_namespace(name: &str) -> Result<()> {
    eventually(Duration::from_secs(5), "a namespace without processes", || {
        let pids = run("ip", &["netns", "pids", name]).map_err(|error| error.to_string())?;
        for pid in pids.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            // It may have ended meanwhile.
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
        if pids.trim().is_empty() { Ok(()) } else { Err(format!("{name} has {}", pids.replace('\n', " "))) }
    })?;
    run("ip", &["netns", "del", name])?;
    fs::remove_dir_all(Path::new("/etc/netns").join(name)).ok();
    // Only when no one else has a namespace with files of its own.
    fs::remove_dir("/etc/netns").ok();
    Ok(())
}

/// Removes what killed processes left behind. Another process may be doing the same at the same time.
pub(crate) fn reap() -> Result<()> {
    for name in leftover_namespaces()? {
        remove_namespace(&name).ok();
    }
    Ok(())
}

fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn is_gone(pid: u32) -> bool {
    !Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_have_an_owner() {
        assert_eq!(owner("mc-123-4"), Some(123));
        for other in ["mc-", "mc-x-1", "vpn", "123"] {
            assert_eq!(owner(other), None, "{other}");
        }
        assert!(!is_gone(std::process::id()));
    }
}
