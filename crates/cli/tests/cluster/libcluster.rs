//! A host without an agent that gossips as libcluster does is joined, and joins.

use std::time::Duration;

use anyhow::{Context as _, Result};
use metacluster_testbed::{Libcluster, Network, Tool, capture, require};

use crate::support::{NEEDED, SOON, binary, full_mesh};

fn joined(topology: &str, gossip: &Libcluster) -> Result<()> {
    if !require(&NEEDED) || !require(&[Tool::ErlangCrypto]) {
        return Ok(());
    }
    let network = Network::new()?;
    let [with_agent, without] = network.hosts()?;
    let agent = with_agent.agent(binary()).arguments(&["up", "--topology", topology]).start()?;
    let beams = [with_agent.beam("shop").spawn()?, without.beam("old").elixir().spawn()?];
    for beam in &beams {
        beam.wait_ready()?;
    }
    beams[1].gossip(gossip)?;
    full_mesh(SOON, &beams).with_context(|| agent.log())
}

#[test]
fn a_gossiping_host_is_joined() -> Result<()> {
    joined("gossip", &Libcluster::default())
}

#[test]
fn a_gossiping_host_with_a_secret_is_joined() -> Result<()> {
    joined("gossip:secret=hush", &Libcluster::default().secret("hush"))
}

#[test]
fn a_host_that_gossips_by_broadcast_is_joined() -> Result<()> {
    joined("gossip:broadcast_only=true,multicast_addr=10.91.0.255", &Libcluster::default().broadcast([10, 91, 0, 255]))
}

#[test]
fn a_gossiping_host_joins_by_what_the_agent_sends() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [with_agent, without] = network.hosts()?;
    let agent = with_agent.agent(binary()).arguments(&["up", "--topology", "gossip"]).start()?;
    let beams = [with_agent.beam("shop").start()?, without.beam("old").start()?];
    // Nobody can dial the gossiping host, so the link that comes up is one that it dialled itself.
    let rules =
        "table inet closed { chain input { type filter hook input priority 0; iifname eth0 tcp dport 4369 reject; }\n}";
    capture(without.command("nft").arg(rules))?;
    beams[1].gossip(&Libcluster::default())?;
    full_mesh(SOON, &beams).with_context(|| agent.log())
}

#[test]
fn another_secret_joins_nobody() -> Result<()> {
    if !require(&NEEDED) || !require(&[Tool::ErlangCrypto]) {
        return Ok(());
    }
    let network = Network::new()?;
    let [with_agent, without] = network.hosts()?;
    let agent = with_agent.agent(binary()).arguments(&["up", "--topology", "gossip:secret=hush"]).start()?;
    let beams = [with_agent.beam("shop").start()?, without.beam("old").start()?];
    let seen = beams[1].watch()?;
    beams[1].gossip(&Libcluster::default().secret("another"))?;
    // Both send at once and then at least every five seconds: that is two heartbeats of each.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(seen.changes()?, []);
    let candidates = &agent.json("topologies")?["topologies"][0]["candidates"];
    assert_eq!(candidates.as_array().map(Vec::len), Some(0), "{candidates}");
    Ok(())
}
