//! Through a DNS server: the zone grows, and then the server is no more.

use anyhow::Result;
use metacluster_testbed::{Host, Knot, Network, Tool, require};

use crate::support::{NEEDED, candidates_are, fails, full_mesh, sites};

fn zone(hosts: &[Host]) -> String {
    hosts.iter().map(|host| format!("shop 1 A {}\n", host.address())).collect()
}

#[test]
fn nodes_form_by_the_addresses_of_a_name_and_stay_when_the_server_dies() -> Result<()> {
    if !require(&NEEDED) || !require(&[Tool::Knot]) {
        return Ok(());
    }
    let network = Network::new()?;
    let server = network.host()?;
    let mut knot = Knot::start_on(&server)?;
    let hosts: [_; 3] = network.hosts()?;
    knot.set_zone(&zone(&hosts[..2]))?;
    let settings = format!(
        "strategy = \"dns\"\nquery = \"shop.test.\"\nservers = [\"{}\"]\nbasename = \"shop\"\ntimeout = \"1s\"\n",
        server.address()
    );
    let sites = sites(&hosts, &settings)?;
    candidates_are(&sites[2], &sites[..2])?;
    knot.set_zone(&zone(&hosts))?;
    candidates_are(&sites[0], &sites)?;
    full_mesh(&sites)?;

    knot.kill9()?;
    fails(&sites[0], "shop.test.")?;
    full_mesh(&sites)
}
