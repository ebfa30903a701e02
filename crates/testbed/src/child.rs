//! A process that ends with its guard.
//!
//! Two ties hold it: [`Drop`] kills it, and the kernel kills it when the thread that started it ends
//! (`setpriv --pdeathsig`), so not even a killed test leaves it. Start a child on the thread that keeps it.

use std::{
    process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::eventually_value;

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    what: String,
}

impl Child {
    /// Starts `command`. What it is called in errors is `what`.
    pub fn spawn(command: &mut Command, what: &str) -> Result<Self> {
        let process = command.spawn().with_context(|| format!("cannot start {what}: {command:?}"))?;
        Ok(Self { process, what: what.to_owned() })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.kill().with_context(|| format!("cannot kill {}", self.what))?;
        self.process.wait().with_context(|| format!("cannot wait for {}", self.what))?;
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).context("a process id is positive")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot send {signal} to {}", self.what))
    }

    /// Its exit status, if it has ended.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.process.try_wait().with_context(|| format!("cannot look at {}", self.what))
    }

    /// Whether it has ended; its status can still be asked for.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        // The kernel keeps an entry in state Z until the status is asked for.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        stat.map_or(true, |stat| stat.contains(") Z "))
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let what = format!("{} has ended", self.what);
        eventually_value(within, &what, || match self.process.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it runs".to_owned()),
            Err(error) => Err(error.to_string()),
        })
    }

    pub(crate) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.process.stdin.take()
    }

    /// Its standard output, once, if it is piped.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.process.stdout.take()
    }

    /// Its standard error, once, if it is piped.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.process.stderr.take()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A command that dies with the thread that starts it.
pub(crate) fn tied(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]).stdin(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(pid: u32) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[test]
    fn a_child_ends_with_its_guard() {
        let child = Child::spawn(Command::new("sleep").arg("600"), "sleep").expect("sleep");
        let pid = child.pid();
        assert!(alive(pid));
        drop(child);
        assert!(!alive(pid));
    }

    #[test]
    fn a_tied_child_ends_with_the_thread_that_started_it() {
        let mut process = std::thread::spawn(|| {
            let process = tied("sleep").arg("600").spawn().expect("sleep");
            // Wait until setpriv has tied it and became sleep.
            let comm = format!("/proc/{}/comm", process.id());
            eventually_value(Duration::from_secs(60), "it is sleep", || {
                let name = std::fs::read_to_string(&comm).unwrap_or_default();
                if name.trim() == "sleep" { Ok(()) } else { Err(name) }
            })
            .expect("sleep");
            process
        })
        .join()
        .expect("the thread");
        eventually_value(Duration::from_secs(60), "it is gone", || match process.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .expect("gone");
    }
}
