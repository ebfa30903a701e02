//! The programs of the demo: agents and nodes, each in a process group of its own.
//!
//! None outlives the demo. When the value goes, its whole group is killed; should the demo itself be killed, each
//! program sees the end of its standard input, which only the demo holds open, and ends. They are in groups of their
//! own so that Ctrl-C reaches the demo alone, which then ends them in order.

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::plan::{Ground, Zone};
use crate::failure::{Failure, Outcome};

/// How much of a log is shown when its program failed.
const LOG_TAIL: u64 = 2_000;

/// Run in each BEAM node: ends it when standard input ends.
const HALT_AT_END: &str = "spawn(fun F() -> case io:get_line(\"\") of eof -> erlang:halt(0); {error, _} -> erlang:halt(0); _ -> F() end end).";

/// What the nodes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NodeProgram {
    /// Real Erlang.
    Erl(PathBuf),
    /// Ours, which speaks the same protocol.
    Own,
}

impl NodeProgram {
    /// Erlang when `erl` is on the path.
    pub(super) fn find() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|folder| folder.join("erl"))
            .find(|program| nix::unistd::access(program, nix::unistd::AccessFlags::X_OK).is_ok() && program.is_file())
            .map_or(Self::Own, Self::Erl)
    }
}

/// A running program.
#[derive(Debug)]
pub(super) struct Program {
    what: String,
    child: Child,
    log: PathBuf,
    /// Its end was seen, so its number may be another's by now.
    ended: bool,
}

impl Program {
    /// Starts the agent of a zone.
    pub(super) fn agent(zone: &Zone) -> Outcome<Self> {
        let mut command = own_binary()?;
        command.arg("agent").arg("--config").arg(zone.config_file()).arg("--until-input-ends");
        // Nothing of the surroundings reaches the configuration.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("METACLUSTER_") {
                command.env_remove(name);
            }
        }
        Self::start(&format!("the agent of zone {}", zone.name), command, zone.folder.join("agent.log"))
    }

    /// Starts a node.
    pub(super) fn node(program: &NodeProgram, zone: &Zone, name: &str, ground: &Ground) -> Outcome<Self> {
        let command = match program {
            NodeProgram::Erl(erl) => {
                let mut command = Command::new(erl);
                // One scheduler is enough, and none spins while it waits: many nodes share this machine.
                command.args(["+S", "1:1", "+SDcpu", "1:1", "+SDio", "1", "+A", "1", "+sbwt", "none"]);
                command.args(["-noshell", "-name", name, "-start_epmd", "false"]);
                // Nobody beyond this machine can reach it.
                let interface = format!("{{{}}}", zone.address.to_string().replace('.', ","));
                command.args(["-kernel", "inet_dist_use_interface", &interface]);
                command.args(["-eval", HALT_AT_END]);
                for variable in ["ERL_FLAGS", "ERL_AFLAGS", "ERL_ZFLAGS", "ERL_EPMD_ADDRESS", "ERL_CRASH_DUMP"] {
                    command.env_remove(variable);
                }
                command.env("ERL_CRASH_DUMP_SECONDS", "0");
                command
            }
            NodeProgram::Own => {
                let mut command = own_binary()?;
                command.args(["demo-node", "--name", name, "--epmd-port", &ground.epmd_port.to_string()]);
                command.arg("--cookie-file").arg(ground.cookie_file());
                command
            }
        };
        let file = zone.folder.join(format!("{}.log", name.split('@').next().unwrap_or(name)));
        let mut command = command;
        command
            .env("HOME", &ground.folder)
            .env("ERL_EPMD_PORT", ground.epmd_port.to_string())
            .current_dir(&ground.folder);
        Self::start(&format!("node {name}"), command, file)
    }

    fn start(what: &str, mut command: Command, log: PathBuf) -> Outcome<Self> {
        let failed = |error| Failure::NotSo(format!("cannot start {what}: {error}"));
        let out = fs::OpenOptions::new().create(true).append(true).open(&log).map_err(failed)?;
        let err = out.try_clone().map_err(failed)?;
        let child = command.stdin(Stdio::piped()).stdout(out).stderr(err).process_group(0).spawn().map_err(failed)?;
        Ok(Self { what: what.to_owned(), child, log, ended: false })
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub(super) fn kill(&mut self) {
        if self.ended {
            return;
        }
        // The group holds what the program started itself. It may be gone already.
        if let Ok(group) = i32::try_from(self.child.id()) {
            match killpg(Pid::from_raw(group), Signal::SIGKILL) {
                Ok(()) | Err(_) => {}
            }
        }
        match self.child.kill().and_then(|()| self.child.wait()) {
            Ok(_) | Err(_) => {}
        }
        self.ended = true;
    }

    /// Fails when the program has ended, which it never should by itself.
    pub(super) fn check(&mut self) -> Outcome {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                self.ended = true;
                Err(Failure::NotSo(format!("{} ended ({status}){}", self.what, tail(&self.log))))
            }
            Err(error) => Err(Failure::NotSo(format!("cannot look after {}: {error}", self.what))),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

fn own_binary() -> Outcome<Command> {
    std::env::current_exe()
        .map(Command::new)
        .map_err(|error| Failure::NotSo(format!("cannot find this program's own file: {error}")))
}

/// The end of a log, or nothing when there is none.
fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    match read() {
        Ok(text) if !text.is_empty() => format!("; its last words:\n{text}"),
        Ok(_) | Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn a_program_goes_with_its_value() {
        let folder = folder();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & sleep 1000"]);
        let mut program = Program::start("a test", command, folder.path().join("log")).expect("started");
        program.check().expect("it runs");
        let group = Pid::from_raw(i32::try_from(program.child.id()).expect("a pid"));
        drop(program);
        // A child that it left is reaped by init, so the group may need a moment to go.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while killpg(group, None).is_ok() {
            assert!(std::time::Instant::now() < until, "the group lives on");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_program_that_ends_by_itself_is_told_with_its_last_words() {
        let folder = folder();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such thing >&2; exit 3"]);
        let mut program = Program::start("a test", command, folder.path().join("log")).expect("started");
        program.child.wait().expect("ended");
        let failure = program.check().expect_err("it ended").to_string();
        assert!(failure.contains("a test ended") && failure.ends_with("no such thing"), "{failure}");
    }
}
