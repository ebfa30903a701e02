//! `avahi-daemon` on a host of its own, with its own D-Bus, and `avahi-browse` to see what others announce.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{Child, Host, Lines, eventually};

const START_WITHIN: Duration = Duration::from_secs(60);

/// A D-Bus that lets everybody do all: it lives in a folder of its own.
const BUS: &str = "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"
 \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">
<busconfig><type>system</type><listen>unix:path=SOCKET</listen><auth>EXTERNAL</auth>
<policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/><allow send_destination=\"*\"/>
<allow send_type=\"method_call\"/><allow receive_type=\"method_call\"/>
<allow send_type=\"method_return\"/><allow receive_type=\"method_return\"/>
<allow send_type=\"error\"/><allow receive_type=\"error\"/>
<allow send_type=\"signal\"/><allow receive_type=\"signal\"/></policy></busconfig>";

/// An mDNS responder. It ends with this guard.
#[derive(Debug)]
pub struct Avahi<'h> {
    host: &'h Host,
    bus: String,
    _daemon: Child,
    _bus: Child,
}

impl<'h> Avahi<'h> {
    /// Starts it on a host. [`Tool::Avahi`](crate::Tool::Avahi) must be there.
    pub fn start(host: &'h Host) -> Result<Self> {
        let folder = host.home().join("avahi");
        fs::create_dir(&folder).context("no folder for avahi")?;
        let socket = folder.join("bus");
        let bus = format!("unix:path={}", socket.display());
        fs::write(folder.join("bus.conf"), BUS.replace("SOCKET", &socket.display().to_string()))?;
        fs::write(
            folder.join("avahi.conf"),
            "[server]\nuse-ipv4=yes\nuse-ipv6=yes\n[publish]\ndisable-publishing=yes\n",
        )?;
        let mut command = host.command("dbus-daemon");
        command.arg("--nofork").arg("--nopidfile").arg(format!("--config-file={}", folder.join("bus.conf").display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(folder.join("bus.log"))?);
        let bus_daemon = Child::spawn(&mut command, "dbus-daemon")?;
        eventually(START_WITHIN, "the bus is there", || {
            if socket.exists() { Ok(()) } else { Err(read(&folder.join("bus.log"))) }
        })?;
        // Its process id goes into /run, which is one for all hosts of this machine unless it gets its own.
        let script = "mount -t tmpfs tmpfs /run && mkdir /run/avahi-daemon && \
                      exec avahi-daemon --no-drop-root --no-rlimits --no-chroot -f \"$0\"";
        let mut command = host.command("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(folder.join("avahi.conf"));
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &bus);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(folder.join("log"))?);
        let mut daemon = Child::spawn(&mut command, "avahi-daemon")?;
        eventually(START_WITHIN, "avahi-daemon is up", || {
            let log = read(&folder.join("log"));
            if let Ok(Some(status)) = daemon.exited() {
                return Err(format!("it ended with {status}: {log}"));
            }
            if log.contains("Server startup complete") { Ok(()) } else { Err(log) }
        })?;
        Ok(Self { host, bus, _daemon: daemon, _bus: bus_daemon })
    }

    /// Browses for a service, such as `_http._tcp`, until the child is dropped: a line `+…` for each that appears, `=…` when
    /// it is resolved, `-…` when it is gone, with fields between semicolons.
    pub fn browse(&self, service: &str) -> Result<(Child, Lines)> {
        let mut command: Command = self.host.command("avahi-browse");
        command.args(["--resolve", "--parsable", service]).env("DBUS_SYSTEM_BUS_ADDRESS", &self.bus);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = Child::spawn(&mut command, "avahi-browse")?;
        let lines = Lines::read(child.take_stdout().context("it has an output")?);
        Ok((child, lines))
    }
}

fn read(path: &std::path::Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
