//! Through a file that each host has, which is replaced while the agents run.

use std::fs;

use anyhow::Result;
use metacluster_testbed::{Host, Network, require};

use crate::support::{NEEDED, full_mesh, sites};

fn list(on: &Host, hosts: &[Host]) -> Result<()> {
    let text: String = hosts.iter().map(|host| format!("{}\n", host.address())).collect();
    fs::write(on.home().join("peers.new"), text)?;
    Ok(fs::rename(on.home().join("peers.new"), on.home().join("peers"))?)
}

#[test]
fn nodes_form_by_a_file_that_changes() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let hosts: [_; 3] = network.hosts()?;
    for host in &hosts {
        list(host, &[])?;
    }
    let sites = sites(&hosts, "strategy = \"file\"\npath = \"peers\"\nbasename = \"shop\"\n")?;
    assert!(sites[0].beam.nodes()?.is_empty());
    for host in &hosts {
        list(host, &hosts)?;
    }
    full_mesh(&sites)
}
