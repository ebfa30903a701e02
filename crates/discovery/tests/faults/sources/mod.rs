//! The sources that the table is held against, each with hosts that a test sets and faults that it commits.

mod dns;
mod epmd;
mod local;
mod servers;

use std::net::Ipv4Addr;

use metacluster_testbed::Wire;

pub(crate) use self::{
    dns::dns,
    epmd::epmd,
    local::{exec, file, launch_data, sqlite},
    servers::{consul, etcd, kubernetes, postgresql, rancher},
};

/// A source with hosts, and the strategy that asks it.
pub(crate) trait Source {
    /// What stands in the line about this fault.
    fn says(&self, wire: Wire) -> &'static str;

    /// The strategy that asks it, and waits for an answer for this long where that can be set.
    fn spec(&self, timeout: &str) -> String;

    /// The node that a host becomes.
    fn node(&self, host: Ipv4Addr) -> String {
        format!("shop@{host}")
    }

    /// From now on it knows just these hosts. While a fault is committed, nobody can see that.
    fn set(&self, hosts: &[Ipv4Addr]);

    /// From now on it does this.
    fn wire(&mut self, wire: Wire);

    /// How much of an answer without an end was taken, in bytes, if that can be told.
    fn drunk(&self) -> Option<usize> {
        None
    }

    /// How many of very many hosts are known.
    fn hosts_max(&self) -> usize {
        10_000
    }
}
