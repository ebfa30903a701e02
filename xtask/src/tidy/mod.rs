//! `cargo xtask tidy`: the house rules that no compiler knows. Every fault is reported, not only the first.

mod crates;
mod files;

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::process::{metadata, root};

/// Checks the crates and the files.
pub(crate) fn run() -> Result<()> {
    let mut faults = crates::check(&metadata()?)?;
    for path in tracked()? {
        let full = root().join(&path);
        // A file that was deleted but not yet committed, or a picture, has no text.
        if let Ok(text) = fs::read_to_string(&full) {
            faults.extend(files::check(&path, &text));
        }
    }
    for fault in &faults {
        println!("{fault}");
    }
    if !faults.is_empty() {
        bail!("{} faults", faults.len());
    }
    Ok(())
}

/// Every file that is tracked, or new and not ignored.
fn tracked() -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]).current_dir(root());
    let output = git.output().context("cannot start git")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    }
    let names = String::from_utf8(output.stdout).context("a file name is no text")?;
    Ok(names.split_terminator('\0').map(str::to_owned).collect())
}
