//! What the tests share: the binary, and hosts with an agent and a node each.

use std::{path::Path, time::Duration};

use anyhow::Result;
use metacluster_testbed::{Agent, Beam, Host, Network, Tool};
use serde_json::Value;

/// How long a thing may take that nobody promised a time for, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// What every test of several hosts needs.
pub(crate) const NEEDED: [Tool; 4] = [Tool::Namespaces, Tool::Nftables, Tool::Erl, Tool::Elixir];

/// The binary under test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_metacluster"))
}

/// A host with an agent and one node. The fields drop in this order.
pub(crate) struct Site {
    pub(crate) beam: Beam,
    pub(crate) agent: Agent,
    pub(crate) host: Host,
}

/// As many hosts, each with an agent that is up without a file, and then a node `shop`.
pub(crate) fn sites<const N: usize>(flags: &str) -> Result<[Site; N]> {
    let network = Network::new()?;
    let mut sites = Vec::new();
    for _ in 0..N {
        let host = network.host()?;
        let agent = host.agent(binary()).start()?;
        let beam = host.beam("shop").flags(flags).spawn()?;
        sites.push(Site { beam, agent, host });
    }
    for site in &sites {
        site.beam.wait_ready()?;
    }
    sites.try_into().map_err(|_| anyhow::anyhow!("as many as were asked for"))
}

/// What the agents and the nodes of these hosts logged, for a test that failed.
pub(crate) fn logs(sites: &[Site]) -> String {
    let of = |site: &Site| format!("--- {}\n{}\n{}", site.host.address(), site.agent.log(), site.beam.log());
    sites.iter().map(of).collect::<Vec<_>>().join("\n")
}

/// Waits until each node sees exactly the others.
pub(crate) fn full_mesh<'b>(within: Duration, beams: impl IntoIterator<Item = &'b Beam>) -> Result<()> {
    let beams: Vec<&Beam> = beams.into_iter().collect();
    for beam in &beams {
        let others: Vec<&str> = beams.iter().map(|other| other.name()).filter(|&name| name != beam.name()).collect();
        beam.wait_nodes(within, &others)?;
    }
    Ok(())
}

/// The agent's own node, as the nodes of its host see it.
pub(crate) fn agent_node(site: &Site) -> String {
    site.host.node_name("metacluster")
}

/// The states of `metacluster nodes --json`, by name.
pub(crate) fn states(agent: &Agent) -> Result<Vec<(String, String)>> {
    let answer = agent.json("nodes")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let nodes = answer["nodes"].as_array().cloned().unwrap_or_default();
    Ok(nodes.iter().map(|node| (text(&node["name"]), text(&node["state"]))).collect())
}
