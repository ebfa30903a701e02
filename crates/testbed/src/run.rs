//! What one run of the tests leaves behind, so that `cargo xtask test` can count and check it.
//!
//! The folder named by [`RUN_VARIABLE`] collects one line a skipped test and one a namespace that was made. Every
//! process that a test starts carries the variable too, and so can be found when it outlives its test.

use std::{env, fs, io::Write as _, path::Path, path::PathBuf};

use anyhow::{Context as _, Result};

/// The environment variable that names the folder of a test run.
pub const RUN_VARIABLE: &str = "MC_TEST_RUN";

const SKIPPED: &str = "skipped";
const NAMESPACES: &str = "namespaces";

/// The folder of a test run.
#[derive(Clone, Debug)]
pub struct TestRun {
    folder: PathBuf,
}

impl TestRun {
    /// The run in this folder.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The run that this process is part of, if `cargo xtask test` started it.
    #[must_use]
    pub fn current() -> Option<Self> {
        env::var_os(RUN_VARIABLE).map(|folder| Self { folder: folder.into() })
    }

    /// Notes that a test was skipped, why, and how to get it.
    pub fn note_skipped(&self, test: &str, why: &str) -> Result<()> {
        self.append(SKIPPED, &format!("{test}: {why}"))
    }

    /// The skipped tests, one line each.
    pub fn skipped(&self) -> Result<Vec<String>> {
        self.lines(SKIPPED)
    }

    pub(crate) fn note_namespace(&self, name: &str) -> Result<()> {
        self.append(NAMESPACES, name)
    }

    /// The namespaces that were made.
    pub fn namespaces(&self) -> Result<Vec<String>> {
        self.lines(NAMESPACES)
    }

    /// The processes that carry this run's mark, with their command lines. The caller and its parents do not.
    pub fn processes(&self) -> Result<Vec<(u32, String)>> {
        let mark = format!("{RUN_VARIABLE}={}", self.folder.display());
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").context("no /proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            if environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes()) {
                let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ").trim().to_owned()));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn append(&self, file: &str, line: &str) -> Result<()> {
        let path = self.folder.join(file);
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&path)?;
        file.write_all(format!("{line}\n").as_bytes()).with_context(|| format!("cannot write {}", path.display()))
    }

    fn lines(&self, file: &str) -> Result<Vec<String>> {
        let path = self.folder.join(file);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Child;
    use std::process::Command;

    #[test]
    fn a_process_that_outlives_its_test_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = TestRun::new(folder.path());
        let child = Child::spawn(Command::new("sleep").arg("600").env(RUN_VARIABLE, folder.path()), "sleep");
        let child = child.expect("sleep");
        let found = crate::eventually_value(std::time::Duration::from_secs(10), "it is found", || {
            let found = run.processes().map_err(|error| error.to_string())?;
            if found.is_empty() { Err("nothing".to_owned()) } else { Ok(found) }
        });
        assert_eq!(found.expect("one")[0].0, child.pid());
        drop(child);
        assert_eq!(run.processes().expect("none"), []);
    }

    #[test]
    fn skips_are_collected() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = TestRun::new(folder.path());
        assert_eq!(run.skipped().expect("none"), Vec::<String>::new());
        run.note_skipped("a_test", "erl is missing").expect("written");
        assert_eq!(run.skipped().expect("one"), ["a_test: erl is missing"]);
    }
}
