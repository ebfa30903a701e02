//! Faults of a network: a pulled cable, a one-way cut, lost packets. All of them are made at the bridge, so that the
//! hosts cannot tell them from the real thing.

use anyhow::Result;

use crate::{
    Host,
    command::{run, run_with_input},
    network::Shared,
};

/// The cable between a host and the bridge.
#[derive(Debug)]
pub struct Cable<'n> {
    bridge: &'n str,
    port: String,
}

impl<'n> Cable<'n> {
    pub(crate) fn new(network: &'n Shared, index: u32) -> Self {
        Self { bridge: &network.bridge.name, port: format!("p{index}") }
    }

    /// Pulls the cable: nothing passes either way.
    pub fn cut(&self) -> Result<()> {
        run("ip", &["-n", self.bridge, "link", "set", &self.port, "down"]).map(drop)
    }

    /// Plugs it in again and takes back every rule about this host.
    pub fn heal(&self) -> Result<()> {
        run("ip", &["-n", self.bridge, "link", "set", &self.port, "up"])?;
        self.rules("")
    }

    /// Drops what this host sends; what others send still arrives.
    pub fn cut_outbound(&self) -> Result<()> {
        self.rules(&format!("iifname \"{}\" drop", self.port))
    }

    /// Drops what others send to this host.
    pub fn cut_inbound(&self) -> Result<()> {
        self.rules(&format!("oifname \"{}\" drop", self.port))
    }

    /// Drops what this host sends to that one.
    pub fn cut_towards(&self, other: &Host) -> Result<()> {
        self.rules(&format!("iifname \"{}\" oifname \"{}\" drop", self.port, other.cable().port))
    }

    /// Loses this many of a hundred packets in each direction.
    pub fn lose(&self, percent: u8) -> Result<()> {
        let port = &self.port;
        if percent >= 100 {
            return self.rules(&format!("iifname \"{port}\" drop\noifname \"{port}\" drop"));
        }
        self.rules(&format!(
            "iifname \"{port}\" numgen random mod 100 < {percent} drop\n\
             oifname \"{port}\" numgen random mod 100 < {percent} drop"
        ))
    }

    /// One table a host: adding it first makes the deletion valid when there is none.
    fn rules(&self, rules: &str) -> Result<()> {
        let table = &self.port;
        let text = format!(
            "table bridge {table} {{\n}}\ndelete table bridge {table}\n\
             table bridge {table} {{\nchain forward {{\ntype filter hook forward priority 0; policy accept;\n{rules}\n}}\n}}\n"
        );
        run_with_input("ip", &["netns", "exec", self.bridge, "nft", "-f", "-"], &text).map(drop)
    }
}
