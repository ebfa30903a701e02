//! Through what hosts were given when they were launched: the first seed is dead, and membership does the rest.

use anyhow::Result;
use metacluster_testbed::{Imds, Network, require};

use crate::support::{NEEDED, full_mesh, site};

#[test]
fn nodes_form_by_seeds_the_first_of_which_is_dead() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let hosts: [_; 4] = network.hosts()?;
    // Nobody has the last address of the network.
    let seeds = format!("10.91.0.250, {}", hosts[0].address());
    let user_data = format!("#!/bin/sh\n#metacluster seed=10.91.0.250 seed={}\nexit 0\n", hosts[0].address());
    let imds = Imds::start_on(
        &hosts[0],
        &[("/latest/user-data", &user_data), ("/latest/meta-data/instance-id", "i-0123456789abcdef0")],
    )?;
    let file = hosts[2].home().join("seeds");
    std::fs::write(&file, &seeds)?;

    let environment = ("METACLUSTER_SEEDS", seeds.as_str());
    let url = imds.url();
    let sites = [
        site(&hosts[0], "strategy = \"launch-data\"\nfrom = \"environment\"\n", &[environment])?,
        site(&hosts[1], "strategy = \"launch-data\"\n", &[environment])?,
        site(&hosts[2], &format!("strategy = \"launch-data\"\npath = \"{}\"\n", file.display()), &[])?,
        site(
            &hosts[3],
            "strategy = \"launch-data\"\nfrom = \"user-data\"\n",
            &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)],
        )?,
    ];
    for site in &sites {
        site.beam.wait_ready()?;
    }
    full_mesh(&sites)
}
