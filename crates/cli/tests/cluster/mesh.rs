//! Hosts with an agent each end in a full mesh, however their nodes were started.

use std::collections::BTreeSet;

use anyhow::Result;
use metacluster_testbed::{Network, eventually, require};

use crate::support::{NEEDED, SOON, agent_node, binary, full_mesh, sites, states};

#[test]
fn three_hosts_end_in_a_full_mesh() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let hosts: [_; 3] = network.hosts()?;
    let mut agents = Vec::new();
    for host in &hosts {
        agents.push(host.agent(binary()).start()?);
    }
    let beams = [
        hosts[0].beam("shop").spawn()?,
        hosts[1].beam("shop").elixir().spawn()?,
        hosts[2].beam("shop").spawn()?,
        hosts[2].beam("worker-1").elixir().spawn()?,
    ];
    for beam in &beams {
        beam.wait_ready()?;
    }
    full_mesh(SOON, &beams)?;
    for agent in &agents {
        let waited = agent.ask(&["wait", "--nodes", "4", "--timeout", "20s"])?;
        assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
        assert!(states(agent)?.iter().all(|(_, state)| state == "up"), "{:?}", states(agent)?);
    }
    let too_many = agents[0].ask(&["wait", "--nodes", "5", "--timeout", "100ms"])?;
    assert_eq!(too_many.status.code(), Some(1));
    Ok(())
}

#[test]
fn the_agent_answers_a_ping_and_stays_hidden() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let [site] = sites("")?;
    let agent = agent_node(&site);
    let hidden = BTreeSet::from([agent.clone()]);
    eventually(SOON, "the agent is connected", || {
        let nodes = site.beam.hidden_nodes().map_err(|error| format!("{error:#}"))?;
        if nodes == hidden { Ok(()) } else { Err(format!("{nodes:?}")) }
    })?;
    assert_eq!(site.beam.eval(&format!("net_adm:ping('{agent}')"))?, "pong");
    assert!(site.beam.nodes()?.is_empty());
    Ok(())
}

#[test]
fn nodes_that_do_not_mesh_by_themselves_are_linked_by_the_agents() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let sites: [_; 3] = sites("-connect_all false")?;
    full_mesh(SOON, sites.iter().map(|site| &site.beam))
}

#[test]
fn only_the_local_nodes_that_were_named_are_ours() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [here, there] = network.hosts()?;
    let ours = ["up", "--names", "shop,worker-*"];
    let _agents = (here.agent(binary()).arguments(&ours).start()?, there.agent(binary()).arguments(&ours).start()?);
    let mut beams = Vec::new();
    for (host, name) in [(&here, "shop"), (&here, "worker-1"), (&there, "worker-2"), (&there, "private")] {
        beams.push(host.beam(name).flags("-connect_all false").spawn()?);
    }
    for beam in &beams {
        beam.wait_ready()?;
    }
    full_mesh(SOON, &beams[..3])?;
    assert!(beams[3].nodes()?.is_empty(), "a node that was not named stays alone");
    assert!(beams[3].hidden_nodes()?.is_empty(), "a node that was not named is not even connected to");
    Ok(())
}

#[test]
fn topologies_link_basenames_of_their_own() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [here, there] = network.hosts()?;
    let config = "\
[[topology]]
name = \"shops\"
strategy = \"gossip\"
basename = \"shop\"
local_nodes = [\"shop\"]

[[topology]]
name = \"workers\"
strategy = \"gossip\"
port = 45895
basename = \"worker\"
local_nodes = [\"worker\"]
";
    let _agents = (here.agent(binary()).config(config)?.start()?, there.agent(binary()).config(config)?.start()?);
    let mut beams = Vec::new();
    for (host, name) in [(&here, "shop"), (&there, "shop"), (&here, "worker"), (&there, "worker")] {
        beams.push(host.beam(name).flags("-connect_all false").spawn()?);
    }
    for beam in &beams {
        beam.wait_ready()?;
    }
    full_mesh(SOON, &beams[..2])?;
    full_mesh(SOON, &beams[2..])
}

#[test]
fn short_names_form_a_cluster_too() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [here, there] = network.hosts()?;
    let _agents = (here.agent(binary()).start()?, there.agent(binary()).start()?);
    let beams = [here.beam("shop").short().spawn()?, there.beam("web").short().elixir().spawn()?];
    for beam in &beams {
        beam.wait_ready()?;
    }
    full_mesh(SOON, &beams)
}
