//! etcd on this machine: Debian's, of one member, in a folder and on ports of its own.

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{Child, Host, capture, child::tied, eventually, free_port};

/// How long it may take to come up on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(60);

/// A server of its own. It ends with this guard, and its folder goes.
#[derive(Debug)]
pub struct Etcd {
    child: Child,
    at: SocketAddr,
    peer: u16,
    tls: Option<Tls>,
    launcher: Option<Command>,
    folder: TempDir,
}

/// The files of a server that speaks TLS.
#[derive(Clone, Debug)]
struct Tls {
    certificate: String,
    key: String,
}

impl Etcd {
    /// One on a free port of the loopback interface. [`crate::Tool::Etcd`] must be there.
    pub fn start() -> Result<Self> {
        Self::begin(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port()?), None, None)
    }

    /// One that speaks TLS with this certificate and key (PEM).
    pub fn start_with_tls(certificate: &Path, key: &Path) -> Result<Self> {
        let text = |path: &Path| path.display().to_string();
        let tls = Tls { certificate: text(certificate), key: text(key) };
        Self::begin(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port()?), Some(tls), None)
    }

    /// One on a host's own address, for the agents of its network.
    pub fn start_on(host: &Host) -> Result<Self> {
        Self::begin(SocketAddr::new(IpAddr::V4(host.address()), 2379), None, Some(host.command("etcd")))
    }

    fn begin(at: SocketAddr, tls: Option<Tls>, launcher: Option<Command>) -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let peer = free_port()?;
        let child = spawn(at, peer, tls.as_ref(), launcher.as_ref(), &folder)?;
        let etcd = Self { child, at, peer, tls, launcher, folder };
        etcd.wait_ready()?;
        Ok(etcd)
    }

    fn wait_ready(&self) -> Result<()> {
        eventually(START_WITHIN, "etcd takes requests", || {
            let log = self.log();
            let ready =
                ["ready to serve client requests", "serving insecure client requests", "serving client requests"];
            if ready.iter().any(|line| log.contains(line)) { Ok(()) } else { Err(log) }
        })
        .map(drop)
    }

    /// Its address as a URL without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.at)
    }

    /// Asks its JSON gateway with `curl`: a POST of JSON.
    pub fn post(&self, path: &str, body: &str) -> Result<String> {
        self.post_as("", path, body)
    }

    /// The same with the token of a user.
    pub fn post_as(&self, token: &str, path: &str, body: &str) -> Result<String> {
        let mut command = match &self.launcher {
            Some(launcher) => {
                // The arguments end with the program, which is etcd there.
                let mut arguments: Vec<_> = launcher.get_args().collect();
                arguments.pop();
                let mut command = Command::new(launcher.get_program());
                command.args(arguments).arg("curl");
                command
            }
            None => Command::new("curl"),
        };
        command.args(["--silent", "--show-error", "--insecure", "--max-time", "20", "--data", body]);
        if !token.is_empty() {
            command.args(["--header", &format!("Authorization: {token}")]);
        }
        capture(command.arg(format!("{}{path}", self.url())))
    }

    /// Kills it with SIGKILL.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill9()
    }

    /// Starts it again, with all that was in it.
    pub fn restart(&mut self) -> Result<()> {
        fs::write(self.folder.path().join("log"), "")?;
        self.child = spawn(self.at, self.peer, self.tls.as_ref(), self.launcher.as_ref(), &self.folder)?;
        self.wait_ready()
    }

    /// Starts it again with nothing in it.
    pub fn restart_empty(&mut self) -> Result<()> {
        fs::remove_dir_all(self.folder.path().join("data"))?;
        self.restart()
    }

    /// Stops it where it is: connections are taken and nothing is answered.
    pub fn pause(&self) -> Result<()> {
        self.child.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<()> {
        self.child.signal(Signal::SIGCONT)
    }

    /// What it logged since it was started.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

fn spawn(at: SocketAddr, peer: u16, tls: Option<&Tls>, launcher: Option<&Command>, folder: &TempDir) -> Result<Child> {
    let mut command = match launcher {
        None => tied("etcd"),
        Some(launcher) => {
            let mut command = Command::new(launcher.get_program());
            command.args(launcher.get_args());
            command
        }
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let (client, peer) = (format!("{scheme}://{at}"), format!("http://127.0.0.1:{peer}"));
    command.arg("--data-dir").arg(folder.path().join("data"));
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("default={peer}")]);
    if let Some(tls) = tls {
        command.args(["--cert-file", &tls.certificate, "--key-file", &tls.key]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::from(File::create(folder.path().join("log"))?));
    Child::spawn(&mut command, "etcd")
}
