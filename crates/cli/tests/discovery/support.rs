//! What the tests share: hosts with an agent and a node each, whose only topology is the one under test.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use metacluster_testbed::{Agent, Beam, Host, Tool, eventually};
use serde_json::Value;

/// How long a thing may take that nobody promised a time for, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// What every test of several hosts needs.
pub(crate) const NEEDED: [Tool; 3] = [Tool::Namespaces, Tool::Nftables, Tool::Erl];

/// The binary under test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_metacluster"))
}

/// An agent and a node. They drop in this order.
pub(crate) struct Site {
    pub(crate) beam: Beam,
    pub(crate) agent: Agent,
}

/// An agent on each host with this one topology (the lines of its table), and a node `shop` that links with nobody by
/// itself.
pub(crate) fn sites(hosts: &[Host], topology: &str) -> Result<Vec<Site>> {
    let sites: Result<Vec<Site>> = hosts.iter().map(|host| site(host, topology, &[])).collect();
    let sites = sites?;
    for site in &sites {
        site.beam.wait_ready()?;
    }
    Ok(sites)
}

/// One of them, whose agent has these variables. Its node may not be up yet.
pub(crate) fn site(host: &Host, topology: &str, environment: &[(&str, &str)]) -> Result<Site> {
    let mut agent = host.agent(binary()).config(&format!("[[topology]]\nname = \"only\"\n{topology}"))?;
    for (name, value) in environment {
        agent = agent.env(name, value);
    }
    let agent = agent.start()?;
    Ok(Site { beam: host.beam("shop").flags("-connect_all false").spawn()?, agent })
}

/// Waits until each of these nodes sees exactly the others.
pub(crate) fn full_mesh(sites: &[Site]) -> Result<()> {
    for site in sites {
        let others = sites.iter().map(|other| other.beam.name()).filter(|&name| name != site.beam.name());
        site.beam.wait_nodes(SOON, &others.collect::<Vec<_>>()).with_context(|| site.agent.log())?;
    }
    Ok(())
}

/// The row of the topology under test in `metacluster topologies --json`.
pub(crate) fn topology(site: &Site) -> Result<Value> {
    let answer = site.agent.json("topologies")?;
    let mut rows = answer["topologies"].as_array().into_iter().flatten();
    rows.find(|row| row["name"] == "only").cloned().context("the topology has a row")
}

/// Waits until the topology's row is such, and gives it.
pub(crate) fn row_becomes(site: &Site, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut found = Value::Null;
    eventually(SOON, what, || {
        found = topology(site).map_err(|error| format!("{error:#}"))?;
        if is_so(&found) { Ok(()) } else { Err(found.to_string()) }
    })?;
    Ok(found)
}

/// Waits until the source itself names the nodes of just these sites, its own or not.
pub(crate) fn candidates_are(site: &Site, wanted: &[Site]) -> Result<()> {
    let mut names: Vec<&str> = wanted.iter().map(|site| site.beam.name()).collect();
    names.sort_unstable();
    row_becomes(site, &format!("the candidates {names:?}"), |row| {
        let mut found: Vec<&str> =
            row["candidates"].as_array().into_iter().flatten().filter_map(|it| it["node"].as_str()).collect();
        found.sort_unstable();
        found == names
    })
    .map(drop)
}

/// Waits until the source fails for a reason that holds this text, and gives the reason.
pub(crate) fn fails(site: &Site, says: &str) -> Result<()> {
    row_becomes(site, &format!("a failure that says `{says}`"), |row| {
        row["state"] == "failing" && row["last_error"].as_str().is_some_and(|line| line.contains(says))
    })
    .map(drop)
}
