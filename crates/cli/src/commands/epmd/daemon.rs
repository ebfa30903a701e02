//! `-daemon`: starts this program anew, away from the terminal, and returns when it listens.
//!
//! Stock epmd forks twice; a process with a runtime cannot. So the launcher runs the same command line again, with a
//! variable that tells the child its part and a pipe for a standard output. The child makes a session of its own, closes
//! what it inherited, and says on the pipe that it listens or why not; then it has no standard streams. When the
//! launcher ends, the child belongs to nobody.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::{fd::RawFd, unix::process::CommandExt},
    process::{Command, Stdio},
};

use nix::unistd::{chdir, close, dup2_stdout, setsid};

use super::log;

/// Tells a child its part.
const VARIABLE: &str = "METACLUSTER_EPMD_DETACHED";

/// What the child says when it listens.
const READY: &str = "ready";

/// No reason is longer.
const REASON_BYTES_MAX: u64 = 4_096;

/// The part that a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It serves where it was started.
    Foreground,
    /// It starts the one that serves, and returns.
    Launch,
    /// It is the one that serves.
    Detached,
}

impl Stage {
    pub(super) fn current(daemon: bool) -> Self {
        match (daemon, env::var_os(VARIABLE).is_some()) {
            (false, _) => Self::Foreground,
            (true, false) => Self::Launch,
            (true, true) => Self::Detached,
        }
    }
}

/// Starts the child and waits until it listens, or ends; says whether an epmd runs now.
pub(super) fn launch() -> bool {
    launched().unwrap_or_else(|error| {
        log::complain(&format!("cannot start the daemon: {error}"));
        false
    })
}

fn launched() -> io::Result<bool> {
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_default();
    let mut command = Command::new(env::current_exe()?);
    command.arg0(name).args(arguments).env(VARIABLE, "1");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut said = String::new();
    if let Some(pipe) = child.stdout.take() {
        pipe.take(REASON_BYTES_MAX).read_to_string(&mut said)?;
    }
    if said == READY {
        return Ok(true);
    }
    let status = child.wait()?;
    if !said.is_empty() {
        log::complain(&said);
    }
    Ok(status.success())
}

/// Leaves the session, the folder and the files of whoever started the launcher. Before anything else is opened.
pub(super) fn detach() -> io::Result<()> {
    setsid()?;
    chdir("/")?;
    let inherited: Vec<RawFd> = match fs::read_dir("/dev/fd") {
        Ok(entries) => entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect(),
        Err(_) => Vec::new(),
    };
    for descriptor in inherited.into_iter().filter(|descriptor| *descriptor > 2) {
        // The one that listed the others is closed already.
        close(descriptor).ok();
    }
    Ok(())
}

/// Tells the launcher that the port is listened on, and lets it go.
pub(super) fn say_ready() -> io::Result<()> {
    tell(READY);
    let nothing = OpenOptions::new().write(true).open("/dev/null")?;
    dup2_stdout(&nothing)?;
    Ok(())
}

/// Tells the launcher why not.
pub(super) fn say_failed(text: &str) {
    tell(text);
}

fn tell(text: &str) {
    let mut out = io::stdout().lock();
    // A launcher that is gone does not want to know.
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).ok();
}
