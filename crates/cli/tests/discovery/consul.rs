//! Through Consul: each agent registers its node as an instance of the service.

use anyhow::Result;
use metacluster_testbed::{Consul, Network, require};

use crate::support::{NEEDED, candidates_are, fails, full_mesh, row_becomes, sites};

#[test]
fn nodes_form_by_the_instances_of_a_service_and_stay_when_consul_fails() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let server = network.host()?;
    let consul = Consul::start_on(&server)?;
    let hosts: [_; 3] = network.hosts()?;
    let address = consul.url();
    let settings = format!(
        "strategy = \"consul\"\naddress = \"{address}\"\nservice = \"web\"\nregister = true\ninterval = \"2s\"\n\
         datacenters = [\"dc1\", \"dc2\"]\n"
    );
    let sites = sites(&hosts, &settings)?;
    full_mesh(&sites)?;
    candidates_are(&sites[0], &sites[1..])?;

    // A part that fails is told of, and the whole has not failed.
    consul.change("dc2", |it| it.fails = Some(500));
    let row = row_becomes(&sites[0], "a note", |row| row["notes"].to_string().contains("dc2"))?;
    assert_eq!(row["state"], "ok", "{row}");
    let listing = sites[0].agent.ask(&["topologies"])?.stdout;
    assert!(String::from_utf8_lossy(&listing).contains("note: "), "{}", String::from_utf8_lossy(&listing));
    consul.change("dc2", |it| it.fails = None);
    row_becomes(&sites[0], "no note", |row| row["notes"] == serde_json::json!([]))?;

    for centre in ["dc1", "dc2"] {
        consul.change(centre, |it| it.fails = Some(500));
    }
    fails(&sites[0], "No cluster leader")?;
    full_mesh(&sites)
}
