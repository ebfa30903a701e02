//! A host without an agent: a BEAM node that gossips as libcluster does. The script is ours, written from the
//! published packet format.

use anyhow::{Context as _, Result};

use crate::Beam;

const SCRIPT: &str = include_str!("../scripts/libcluster.script");

/// How the gossip of libcluster is set up.
#[derive(Clone, Debug)]
pub struct Libcluster {
    group: [u8; 4],
    port: u16,
    secret: Option<String>,
    broadcast: bool,
}

impl Default for Libcluster {
    /// libcluster's own defaults: multicast to 233.252.1.32:45892, no secret.
    fn default() -> Self {
        Self { group: [233, 252, 1, 32], port: 45892, secret: None, broadcast: false }
    }
}

impl Libcluster {
    /// Encrypts with this secret.
    #[must_use]
    pub fn secret(mut self, secret: &str) -> Self {
        self.secret = Some(secret.to_owned());
        self
    }

    /// Broadcasts to that address in place of multicast.
    #[must_use]
    pub fn broadcast(mut self, address: [u8; 4]) -> Self {
        self.group = address;
        self.broadcast = true;
        self
    }

    /// Lets a node gossip from now on.
    pub fn start(&self, beam: &Beam) -> Result<()> {
        let [a, b, c, d] = self.group;
        let secret = self.secret.as_ref().map_or_else(|| "none".to_owned(), |text| format!("<<{text:?}>>"));
        let mode = if self.broadcast { "broadcast" } else { "multicast" };
        // In the order of their names, as erl_eval keeps them.
        let bindings = format!(
            "[{{'Group', {{{a},{b},{c},{d}}}}}, {{'Mode', {mode}}}, {{'Port', {}}}, {{'Secret', {secret}}}]",
            self.port
        );
        let path = beam.write_script("libcluster.script", SCRIPT)?;
        let answer = beam.eval(&format!("file:script({path:?}, {bindings})"))?;
        anyhow::ensure!(answer == "{ok,ok}", "the gossip does not start: {answer}");
        Ok(())
    }
}

impl Beam {
    /// Lets this node gossip as libcluster does.
    pub fn gossip(&self, settings: &Libcluster) -> Result<()> {
        settings.start(self).with_context(|| format!("{} cannot gossip", self.name()))
    }
}
