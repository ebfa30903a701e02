//! A DNS server on this machine: `knotd`, with a zone `test.` that a test changes at will.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{Child, Host, capture, child::tied, eventually, free_port};

const START_WITHIN: Duration = Duration::from_secs(60);

/// A DNS server of its own, which ends with this guard. It refuses every name outside of `test.` and `broken.`, and has
/// no data for `broken.` (SERVFAIL).
#[derive(Debug)]
pub struct Knot {
    child: Child,
    files: TempDir,
    at: SocketAddr,
    serial: AtomicU32,
}

impl Knot {
    /// One on a free port of the loopback interface, with an empty zone. [`Tool::Knot`](crate::Tool::Knot) must be there.
    pub fn start() -> Result<Self> {
        let mut failure = None;
        // The port was free for TCP; for UDP that is seen when it is bound.
        for _ in 0..5 {
            match Self::begin(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port()?), tied("knotd")) {
                Ok(knot) => return Ok(knot),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.context("at least one try")?)
    }

    /// One on a host's own address and port 53, for every host of its network.
    pub fn start_on(host: &Host) -> Result<Self> {
        Self::begin(SocketAddr::new(IpAddr::V4(host.address()), 53), host.command("knotd"))
    }

    fn begin(at: SocketAddr, mut command: Command) -> Result<Self> {
        let files = tempfile::tempdir().context("no temporary folder")?;
        let folder = files.path();
        let config = format!(
            "server:\n  rundir: {folder}\n  listen: {ip}@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
             control:\n  listen: {folder}/knot.sock\n\
             database:\n  storage: {folder}\n\
             log:\n  - target: stderr\n    any: warning\n\
             template:\n  - id: default\n    storage: {folder}\n    journal-content: none\n    zonefile-load: whole\n    \
             zonefile-sync: -1\n    semantic-checks: off\n\
             zone:\n  - domain: test\n    file: test.zone\n  - domain: broken\n    file: missing.zone\n",
            folder = folder.display(),
            ip = at.ip(),
            port = at.port(),
        );
        fs::write(folder.join("knot.conf"), config).context("cannot write the configuration")?;
        write_zone(folder, 1, "")?;
        command.arg("-c").arg(folder.join("knot.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(folder.join("log"))?);
        let mut child = Child::spawn(&mut command, "knotd")?;
        let path = folder.join("knot.conf");
        eventually(START_WITHIN, "knotd has loaded its zone", || {
            if let Ok(Some(status)) = child.exited() {
                return Err(format!("it ended with {status}"));
            }
            match control(&path, &["zone-status", "test", "+serial"]) {
                Ok(text) if text.contains('1') => Ok(()),
                Ok(text) => Err(text),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .with_context(|| fs::read_to_string(folder.join("log")).unwrap_or_default())?;
        Ok(Self { child, files, at, serial: AtomicU32::new(1) })
    }

    /// Where it listens, over UDP and TCP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.at
    }

    /// Replaces all that the zone `test.` has, beside its own SOA and NS: lines of a zone file, with names below it.
    /// Returns when the server answers so. Negative answers hold for a second.
    pub fn set_zone(&self, records: &str) -> Result<()> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed) + 1;
        write_zone(self.files.path(), serial, records)?;
        control(&self.files.path().join("knot.conf"), &["-b", "zone-reload", "test"]).map(drop)
    }

    /// Stops it in its tracks: its ports stay open, and nothing answers.
    pub fn pause(&self) -> Result<()> {
        self.child.signal(Signal::SIGSTOP)
    }

    /// Lets it go on after [`Knot::pause`].
    pub fn resume(&self) -> Result<()> {
        self.child.signal(Signal::SIGCONT)
    }

    /// Kills it.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill9()
    }
}

fn write_zone(folder: &Path, serial: u32, records: &str) -> Result<()> {
    let text =
        format!("$ORIGIN test.\n$TTL 1\n@ SOA ns admin {serial} 60 60 3600 1\n@ NS ns\nns A 127.0.0.1\n{records}\n");
    // Whole, never half: the server may read it at any time.
    fs::write(folder.join("new.zone"), text)?;
    fs::rename(folder.join("new.zone"), folder.join("test.zone")).context("cannot write the zone")
}

fn control(config: &Path, arguments: &[&str]) -> Result<String> {
    capture(Command::new("knotc").arg("-c").arg(config).args(arguments))
}
