//! Servers that are Python programs, each in a virtual environment of its own under cargo's target folder
//! (`target/python/<name>`), made once and kept.
//!
//! Invariant: an environment is there only when its mark names the very requirement that is asked for. The mark is
//! written last and under a lock, so one that was interrupted or is of another version is made anew, and two processes
//! never make the same one at once.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::command::{capture, succeed};

/// The file that says which requirement an environment holds.
const MARK: &str = "holds";

/// One package from PyPI and the environment that it lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Python {
    name: &'static str,
    requirement: &'static str,
}

impl Python {
    /// The package that `requirement` asks of pip, such as `kmock==0.8`, in the environment called `name`.
    #[must_use]
    pub const fn new(name: &'static str, requirement: &'static str) -> Self {
        Self { name, requirement }
    }

    /// Whether the machine can make environments at all.
    #[must_use]
    pub fn can_be_made() -> bool {
        succeed("python3", &["-c", "import venv, ensurepip"])
    }

    /// Whether the environment is there.
    #[must_use]
    pub fn is_there(self) -> bool {
        self.folder().is_ok_and(|folder| self.is_made(&folder))
    }

    /// A program of the package, such as `kmock` or `python`. The environment must be there.
    pub fn program(self, program: &str) -> Result<PathBuf> {
        let folder = self.folder()?;
        ensure!(self.is_made(&folder), "{} is not installed in {}", self.requirement, folder.display());
        Ok(folder.join("bin").join(program))
    }

    /// Makes the environment if it is not there.
    pub fn provide(self) -> Result<()> {
        let folder = self.folder()?;
        let parent = folder.parent().context("an environment lies in a folder")?;
        fs::create_dir_all(parent)?;
        let lock = fs::File::create(parent.join(format!("{}.lock", self.name)))?;
        lock.lock().context("cannot wait for whoever makes the same environment")?;
        if self.is_made(&folder) {
            return Ok(());
        }
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        capture(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let mut pip = Command::new(folder.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", self.requirement]);
        capture(pip.stdin(Stdio::null()))?;
        fs::write(folder.join(MARK), self.requirement)?;
        Ok(())
    }

    fn folder(self) -> Result<PathBuf> {
        Ok(target()?.join("python").join(self.name))
    }

    fn is_made(self, folder: &Path) -> bool {
        fs::read_to_string(folder.join(MARK)).is_ok_and(|mark| mark == self.requirement)
    }
}

impl fmt::Display for Python {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.requirement)
    }
}

/// Cargo's target folder: the one above this program that carries cargo's tag of a cache.
fn target() -> Result<PathBuf> {
    let program = env::current_exe().context("this program has no path")?;
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    Ok(target.context("this program is in no target folder of cargo")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_there_only_with_the_mark_of_its_requirement() {
        let folder = tempfile::tempdir().expect("a folder");
        let wanted = Python::new("none", "none==2");
        assert!(!wanted.is_made(folder.path()));
        fs::write(folder.path().join(MARK), "none==1").expect("written");
        assert!(!wanted.is_made(folder.path()), "it is of another version");
        fs::write(folder.path().join(MARK), "none==2").expect("written");
        assert!(wanted.is_made(folder.path()));
    }

    #[test]
    fn what_is_not_made_has_no_program() {
        let error = Python::new("no-such-environment", "none==1").program("none").expect_err("it is not there");
        assert!(error.to_string().starts_with("none==1 is not installed in "), "{error}");
    }
}
