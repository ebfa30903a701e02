//! Through etcd: each agent writes a key, and the server is killed.

use anyhow::Result;
use metacluster_testbed::{Etcd, Network, Tool, require};

use crate::support::{NEEDED, candidates_are, fails, full_mesh, row_becomes, sites};

#[test]
fn nodes_form_by_the_keys_of_their_agents_and_stay_when_the_server_dies_and_returns() -> Result<()> {
    if !require(&NEEDED) || !require(&[Tool::Etcd]) {
        return Ok(());
    }
    let network = Network::new()?;
    let server = network.host()?;
    let mut etcd = Etcd::start_on(&server)?;
    let hosts: [_; 3] = network.hosts()?;
    let mut sites =
        sites(&hosts, &format!("strategy = \"etcd\"\nendpoints = [\"{}\"]\ntimeout = \"1s\"\n", etcd.url()))?;
    full_mesh(&sites)?;
    candidates_are(&sites[0], &sites[1..])?;

    etcd.kill9()?;
    fails(&sites[0], "etcd")?;
    full_mesh(&sites)?;
    etcd.restart()?;
    row_becomes(&sites[0], "it is well again", |row| row["state"] == "ok")?;

    // Who leaves takes its key along.
    sites[2].agent.terminate()?;
    candidates_are(&sites[0], &sites[1..2])
}
