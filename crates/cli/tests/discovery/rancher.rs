//! Through the metadata service of Rancher: a container more, and then silence.

use anyhow::{Context as _, Result};
use metacluster_testbed::{Host, Network, Rancher, require};

use serde_json::Value;

use crate::support::{NEEDED, Site, candidates_are, fails, full_mesh, row_becomes, sites};

fn containers(hosts: &[Host]) -> String {
    let one = |host: &Host| {
        format!(r#"{{"name":"{0}","uuid":"u-{0}","primary_ip":"{0}","ips":["{0}"],"state":"running"}}"#, host.address())
    };
    hosts.iter().map(one).collect::<Vec<_>>().join(",")
}

/// The last event of a kind that the agent keeps.
fn site_event(site: &Site, kind: &str) -> Result<String> {
    let output = site.agent.ask(&["events", "--json"])?;
    let text = String::from_utf8(output.stdout)?;
    let kind = format!("\"{kind}\"");
    text.lines().rfind(|line| line.contains(&kind)).map(str::to_owned).with_context(|| format!("no {kind} in: {text}"))
}

#[test]
fn nodes_form_by_the_containers_of_a_service_and_stay_when_it_is_silent() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let server = network.host()?;
    let rancher = Rancher::start_on(&server)?;
    let hosts: [_; 3] = network.hosts()?;
    rancher.set_containers(&containers(&hosts[..2]));
    let settings = format!(
        "strategy = \"rancher\"\naddress = \"{}\"\nbasename = \"shop\"\ninterval = \"1s\"\ntimeout = \"1s\"\n",
        rancher.url()
    );
    let sites = sites(&hosts, &settings)?;
    candidates_are(&sites[2], &sites[..2])?;
    rancher.set_containers(&containers(&hosts));
    candidates_are(&sites[0], &sites)?;
    full_mesh(&sites)?;

    // An answer that forgets everyone is held, and a better one ends that.
    rancher.set_containers("");
    let row = row_becomes(&sites[0], "the answer is held", |row| !row["held"].is_null())?;
    assert_eq!((&row["held"]["without"], &row["held"]["until"]), (&3.into(), &Value::Null), "{row}");
    assert!(row["held"]["since"].is_string() && row["last_error"].to_string().contains("is held ("), "{row}");
    let told = site_event(&sites[0], "topology_error")?;
    assert!(told.contains("is held until it is repeated"), "{told}");
    rancher.set_containers(&containers(&hosts));
    row_becomes(&sites[0], "it is held no more", |row| row["held"].is_null())?;
    candidates_are(&sites[0], &sites)?;
    full_mesh(&sites)?;

    drop(rancher);
    fails(&sites[0], "Rancher")?;
    full_mesh(&sites)
}
