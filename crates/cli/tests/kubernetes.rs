//! Real BEAM nodes that the binary forms through a Kubernetes API, in the place of a pod's agent: by the service account
//! and the environment that a kubelet gives.

use std::{path::Path, time::Duration};

use anyhow::Result;
use metacluster_testbed::{Agent, Beam, Host, Kmock, Network, Tool, endpoint, endpoint_slice, eventually, require};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";

/// An agent and a node that links with nobody by itself. They drop in this order.
struct Site {
    beam: Beam,
    agent: Agent,
}

fn site(host: &Host, kmock: &Kmock) -> Result<Site> {
    let account = kmock.account().display();
    let config = format!(
        "[[topology]]\nname = \"pods\"\nstrategy = \"kubernetes\"\nservice = \"shop\"\nbasename = \"shop\"\n\
         service_account = \"{account}\"\nidle_timeout = \"1s\"\n"
    );
    let mut agent = host.agent(Path::new(env!("CARGO_BIN_EXE_metacluster"))).config(&config)?;
    for (name, value) in kmock.environment() {
        agent = agent.env(name, &value);
    }
    let agent = agent.start()?;
    let beam = host.beam("shop").flags("-connect_all false").start()?;
    Ok(Site { beam, agent })
}

/// The service as it is with these pods, the last of which was told to end if `ending`.
fn service(hosts: &[Host], ending: bool) -> Value {
    let pods = hosts.iter().enumerate().map(|(n, host)| endpoint(&format!("shop-{n}"), &host.address().to_string()));
    let mut slice = endpoint_slice("shop", "shop-x", "shop", &pods.collect::<Vec<_>>());
    if ending && let Some(last) = slice["endpoints"].as_array_mut().and_then(|all| all.last_mut()) {
        last["conditions"] = serde_json::json!({"ready": false, "serving": true, "terminating": true});
    }
    slice
}

fn full_mesh(sites: &[Site]) -> Result<()> {
    for site in sites {
        let others = sites.iter().map(|other| other.beam.name()).filter(|&name| name != site.beam.name());
        site.beam.wait_nodes(SOON, &others.collect::<Vec<_>>())?;
    }
    Ok(())
}

/// The row of the topology under test, as the agent of a site tells it.
fn topology(site: &Site) -> Result<Value, String> {
    let answer = site.agent.json("topologies").map_err(|error| format!("{error:#}"))?;
    let rows = answer["topologies"].as_array().cloned().unwrap_or_default();
    rows.into_iter().find(|row| row["name"] == "pods").ok_or_else(|| answer.to_string())
}

/// Waits until, for the first site, just these of the others have a node that is a candidate.
fn candidates_are(sites: &[Site], wanted: &[bool]) -> Result<()> {
    eventually(SOON, &format!("candidates {wanted:?}"), || {
        let candidates = topology(&sites[0])?["candidates"].to_string();
        let there: Vec<bool> = sites[1..].iter().map(|site| candidates.contains(site.beam.name())).collect();
        if there == wanted { Ok(()) } else { Err(candidates) }
    })
    .map(drop)
}

/// Waits until the topology's row says this.
fn topology_says(site: &Site, text: &str) -> Result<()> {
    eventually(SOON, text, || {
        let row = topology(site)?.to_string();
        if row.contains(text) { Ok(()) } else { Err(row) }
    })
    .map(drop)
}

#[test]
fn nodes_form_through_the_api_and_stay_when_it_forbids_and_dies() -> Result<()> {
    if !require(&[Tool::Namespaces, Tool::Nftables, Tool::Erl, Tool::Kmock]) {
        return Ok(());
    }
    let network = Network::new()?;
    let api = network.host()?;
    let kmock = Kmock::start_on(&api)?;
    let hosts: [_; 3] = network.hosts()?;
    kmock.apply(SLICES, &service(&hosts[..2], false))?;
    let mut sites = Vec::new();
    for host in &hosts {
        sites.push(site(host, &kmock)?);
    }
    candidates_are(&sites, &[true, false])?;
    kmock.wait_for_watches("endpointslices", 3)?;
    kmock.apply(SLICES, &service(&hosts, false))?;
    candidates_are(&sites, &[true, true])?;
    full_mesh(&sites)?;

    // A pod that was told to end is no candidate any more, and keeps its links while it lives.
    kmock.wait_for_watches("endpointslices", 3)?;
    kmock.apply(SLICES, &service(&hosts, true))?;
    candidates_are(&sites, &[true, false])?;
    full_mesh(&sites)?;

    kmock.forbid(SLICES)?;
    topology_says(
        &sites[0],
        "add the rule {apiGroups: [\\\"discovery.k8s.io\\\"], resources: [\\\"endpointslices\\\"]",
    )?;
    drop(kmock);
    topology_says(&sites[0], "the Kubernetes API cannot be reached")?;
    full_mesh(&sites)
}
