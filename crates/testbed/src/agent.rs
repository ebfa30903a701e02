//! The `metacluster` binary on a host, as a person runs it.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{Child, Host, Lines, eventually};

/// What an agent will be started with.
#[derive(Clone, Debug)]
pub struct AgentBuilder<'h> {
    host: &'h Host,
    binary: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl<'h> AgentBuilder<'h> {
    pub(crate) fn new(host: &'h Host, binary: &Path) -> Self {
        Self { host, binary: binary.to_owned(), arguments: vec!["up".to_owned()], environment: Vec::new() }
    }

    /// The arguments in place of `up`.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self
    }

    /// One more environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs it from a configuration file with this text.
    pub fn config(self, text: &str) -> Result<Self> {
        let path = self.host.home().join("metacluster.toml");
        fs::write(&path, text).context("cannot write the configuration")?;
        let path = path.display().to_string();
        Ok(self.arguments(&["agent", "--config", &path]))
    }

    /// Starts it and waits until it answers.
    pub fn start(&self) -> Result<Agent> {
        let agent = self.spawn()?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// Starts it. It does not answer yet when this returns.
    pub fn spawn(&self) -> Result<Agent> {
        let state = self.host.home().join("state");
        let mut command = self.host.command(&self.binary);
        command.args(&self.arguments).env("METACLUSTER_STATE_DIR", &state).current_dir(self.host.home());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Child::spawn(&mut command, &format!("the agent of {}", self.host.address()))?;
        let output = Lines::read(child.take_stdout().context("it has an output")?);
        let complaints = Lines::read(child.take_stderr().context("it has an error output")?);
        let socket = state.join("metacluster.sock");
        Ok(Agent { child, binary: self.binary.clone(), socket, output, complaints })
    }
}

/// A running agent. It ends with this guard, without leaving.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    binary: PathBuf,
    socket: PathBuf,
    output: Lines,
    complaints: Lines,
}

impl Agent {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Its admin socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What it printed and logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.output.text() + &self.complaints.text()
    }

    /// The lines of its standard error as they come.
    #[must_use]
    pub fn complaints(&self) -> &Lines {
        &self.complaints
    }

    /// Waits until it answers on its socket.
    pub fn wait_ready(&self) -> Result<Duration> {
        let mut ended = false;
        let waited = eventually(Duration::from_secs(60), "the agent answers", || {
            ended = self.child.has_ended();
            match UnixStream::connect(&self.socket) {
                _ if ended => Ok(()),
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{error}; it said: {}", self.log())),
            }
        })?;
        ensure!(!ended, "the agent has ended: {}", self.log());
        Ok(waited)
    }

    /// A command of the binary that asks this agent.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--socket").arg(&self.socket).stdin(Stdio::null());
        command
    }

    /// Runs such a command to its end.
    pub fn ask(&self, arguments: &[&str]) -> Result<Output> {
        self.command(arguments).output().with_context(|| format!("cannot run {arguments:?}"))
    }

    /// Runs such a command with `--json` and reads its answer.
    pub fn json(&self, command: &str) -> Result<Value> {
        let output = self.ask(&[command, "--json"])?;
        ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).with_context(|| format!("{command} --json is no JSON"))
    }

    /// Follows the events from the first that is kept, as JSON. The process ends with the guard that comes first.
    pub fn follow(&self) -> Result<(Child, Lines)> {
        let mut command = self.command(&["events", "--follow", "--since", "0", "--json"]);
        let mut child = Child::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()), "metacluster events")?;
        let lines = Lines::read(child.take_stdout().context("it has an output")?);
        Ok((child, lines))
    }

    /// Opens the server-sent events of `GET /v1/events` from the first that is kept, and gives their lines.
    pub fn server_sent_events(&self) -> Result<Lines> {
        let mut stream = UnixStream::connect(&self.socket).context("no admin socket")?;
        stream.write_all(
            b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nLast-Event-ID: 0\r\n\r\n",
        )?;
        Ok(Lines::read(stream))
    }

    /// The body of `GET path` on its socket, as JSON.
    pub fn get(&self, path: &str) -> Result<Value> {
        let mut stream = UnixStream::connect(&self.socket).context("no admin socket")?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("the answer is no text")?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).context("the answer has no body")?;
        serde_json::from_str(body).with_context(|| format!("GET {path} is no JSON: {answer}"))
    }

    /// Kills it with SIGKILL.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill9()
    }

    /// Asks it to read its file again (SIGHUP).
    pub fn hang_up(&self) -> Result<()> {
        self.child.signal(Signal::SIGHUP)
    }

    /// Has it stand still (SIGSTOP) until [`resume`](Self::resume).
    pub fn pause(&self) -> Result<()> {
        self.child.signal(Signal::SIGSTOP)
    }

    /// Has it go on (SIGCONT).
    pub fn resume(&self) -> Result<()> {
        self.child.signal(Signal::SIGCONT)
    }

    /// Asks it to end, as a service manager does, and waits for it.
    pub fn terminate(&mut self) -> Result<()> {
        self.child.signal(Signal::SIGTERM)?;
        self.child.wait(Duration::from_secs(10)).map(drop)
    }

    /// Waits for its end and gives the exit code and what it said.
    pub fn ended(&mut self, within: Duration) -> Result<(Option<i32>, String)> {
        let status = self.child.wait(within).with_context(|| self.log())?;
        for lines in [&self.output, &self.complaints] {
            lines.wait_end(within)?;
        }
        Ok((status.code(), self.log()))
    }
}
