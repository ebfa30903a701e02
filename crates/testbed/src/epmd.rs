//! The stock epmd, in the foreground, on a host's port 4369.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result};

use crate::{Child, Host, capture, eventually};

/// The stock epmd of a host. It ends with this guard.
#[derive(Debug)]
pub struct Epmd {
    child: Child,
}

impl Epmd {
    pub(crate) fn start(host: &Host) -> Result<Self> {
        let mut command = host.command("epmd");
        let child = Child::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()), "epmd")?;
        let epmd = Self { child };
        eventually(Duration::from_secs(60), "epmd answers", || {
            capture(host.command("epmd").arg("-names")).map(drop).map_err(|error| error.to_string())
        })
        .context("the stock epmd does not start")?;
        Ok(epmd)
    }

    /// Kills it with SIGKILL. Nodes do not register again by themselves.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill9()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }
}
