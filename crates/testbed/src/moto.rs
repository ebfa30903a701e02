//! AWS on this machine: `moto_server`, and boto3 scripts that change what is in it.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{Child, Host, Tool, capture, child::tied, eventually, free_port};

/// The region that scripts work in, unless they name another.
const REGION: &str = "eu-west-1";
/// What every script begins with. The image is one that moto comes with: to list them all takes it many seconds.
const PRELUDE: &str = "import boto3, os
image = 'ami-12c6146b'
ec2 = boto3.client('ec2')
ecs = boto3.client('ecs')
autoscaling = boto3.client('autoscaling')
";

/// An AWS of its own, empty but for its images. It ends with this guard.
#[derive(Debug)]
pub struct Moto {
    child: Child,
    url: String,
    namespace: Option<Command>,
    log: tempfile::NamedTempFile,
}

impl Moto {
    /// One on a free port of the loopback interface. [`Tool::Moto`] must be there.
    pub fn start() -> Result<Self> {
        Self::begin(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port()?), None)
    }

    /// One on a host's own address, for agents of every host of its network. Scripts run on that host too.
    pub fn start_on(host: &Host) -> Result<Self> {
        let python = Self::program("python")?;
        Self::begin(SocketAddr::new(IpAddr::V4(host.address()), 5000), Some((host, host.command(python))))
    }

    fn program(program: &str) -> Result<std::path::PathBuf> {
        Tool::Moto.python().context("moto is a Python program")?.program(program)
    }

    fn begin(at: SocketAddr, on: Option<(&Host, Command)>) -> Result<Self> {
        let server = Self::program("moto_server")?;
        let log = tempfile::NamedTempFile::new()?;
        let (mut command, namespace) = match on {
            Some((host, python)) => (host.command(server), Some(python)),
            None => (tied(server.to_str().context("a path of letters")?), None),
        };
        command.args(["-H", &at.ip().to_string(), "-p", &at.port().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(File::create(log.path())?));
        let child = Child::spawn(&mut command, "moto_server")?;
        let moto = Self { child, url: format!("http://{at}"), namespace, log };
        eventually(Duration::from_secs(60), "moto_server listens", || {
            if moto.log().contains("Running on") { Ok(()) } else { Err(moto.log()) }
        })?;
        if moto.namespace.is_none() {
            TcpStream::connect(at).context("moto_server does not take connections")?;
        }
        Ok(moto)
    }

    /// Its address, as `AWS_ENDPOINT_URL` takes it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The environment of a program that is to use it: the address, a region and credentials that mean nothing.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT_URL", self.url.clone()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_DEFAULT_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "example".to_owned()),
        ]
    }

    /// Runs a script that has `ec2`, `ecs` and `autoscaling` as clients of boto3 and `image` as the id of an image, and gives
    /// what it printed.
    pub fn script(&self, script: &str) -> Result<String> {
        let mut command = match &self.namespace {
            Some(on) => {
                let mut command = Command::new(on.get_program());
                command.args(on.get_args());
                for (name, value) in on.get_envs() {
                    match value {
                        Some(value) => command.env(name, value),
                        None => command.env_remove(name),
                    };
                }
                command
            }
            None => Command::new(Self::program("python")?),
        };
        command.args(["-c", &format!("{PRELUDE}{script}")]).envs(self.environment()).stdin(Stdio::null());
        Ok(capture(&mut command)?.trim().to_owned())
    }

    /// What it logged: one line a request.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_default()
    }

    /// How many requests it had.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.log().matches("\"POST ").count()
    }

    /// Stops it where it is: requests are taken and not answered.
    pub fn pause(&self) -> Result<()> {
        self.child.signal(nix::sys::signal::Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<()> {
        self.child.signal(nix::sys::signal::Signal::SIGCONT)
    }

    /// Kills it with SIGKILL; all that was in it is gone.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill9()
    }
}
