//! Agents, epmds and nodes come and go without disturbing a live cluster.

use std::{fs, time::Duration};

use anyhow::Result;
use metacluster_testbed::{Network, eventually, require};

use crate::support::{NEEDED, SOON, agent_node, binary, full_mesh, sites, states};

#[test]
fn a_killed_agent_comes_back_unnoticed() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let mut sites: [_; 2] = sites("")?;
    full_mesh(SOON, sites.iter().map(|site| &site.beam))?;
    let [first, second] = &mut sites;
    let seen = [first.beam.watch()?, second.beam.watch()?];
    first.agent.kill9()?;
    first.agent = first.host.agent(binary()).start()?;
    // The nodes of this host register again with the epmd that came back with the agent.
    let agent = first.host.node_name("metacluster");
    eventually(SOON, "the new agent holds the node again", || {
        let states = states(&first.agent).map_err(|error| format!("{error:#}"))?;
        let up = states.iter().filter(|(_, state)| state == "up").count();
        if up == 2 { Ok(()) } else { Err(format!("{states:?}; {}", first.agent.log())) }
    })?;
    assert_eq!(first.beam.eval(&format!("net_adm:ping('{agent}')"))?, "pong");
    for seen in &seen {
        assert_eq!(seen.changes()?, []);
    }
    // A node that starts now is linked as ever.
    let late = second.host.beam("late").start()?;
    full_mesh(SOON, [&first.beam, &second.beam, &late])
}

#[test]
fn an_agent_that_leaves_takes_no_link_with_it() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let mut sites: [_; 2] = sites("")?;
    full_mesh(SOON, sites.iter().map(|site| &site.beam))?;
    let [first, second] = &mut sites;
    let seen = [first.beam.watch()?, second.beam.watch()?];
    let left = first.agent.ask(&["leave"])?;
    assert!(left.status.success(), "{}", String::from_utf8_lossy(&left.stderr));
    let (code, log) = first.agent.ended(Duration::from_secs(10))?;
    assert_eq!(code, Some(0), "{log}");
    second.agent.terminate()?;
    full_mesh(SOON, [&first.beam, &second.beam])?;
    for seen in &seen {
        assert_eq!(seen.changes()?, []);
    }
    Ok(())
}

#[test]
fn a_stock_epmd_is_worked_with() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [here, there] = network.hosts()?;
    let _epmds = (here.epmd()?, there.epmd()?);
    // One node runs before its agent, the other starts after it.
    let first = here.beam("shop").start()?;
    let agents = [here.agent(binary()).start()?, there.agent(binary()).start()?];
    let second = there.beam("shop").start()?;
    full_mesh(SOON, [&first, &second])?;
    for agent in &agents {
        let waited = agent.ask(&["wait", "--nodes", "2"])?;
        assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
    }
    Ok(())
}

#[test]
fn a_stock_epmd_that_dies_takes_no_link_with_it() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [here, there] = network.hosts()?;
    let mut epmd = here.epmd()?;
    let (first, second) = (here.beam("shop").start()?, there.beam("shop").start()?);
    let agents = [here.agent(binary()).start()?, there.agent(binary()).start()?];
    full_mesh(SOON, [&first, &second])?;
    let seen = [first.watch()?, second.watch()?];
    epmd.kill9()?;
    // The agent takes the epmd's place, and nodes that start from now on are linked too.
    let late = here.beam("late").start()?;
    full_mesh(SOON, [&first, &second, &late])?;
    for seen in &seen {
        let changes = seen.changes()?;
        let logs = || agents.iter().map(|agent| agent.log()).collect::<Vec<_>>().join("\n");
        assert!(changes.iter().all(|change| change.up && change.node == late.name()), "{changes:?}\n{}", logs());
    }
    let waited = agents[1].ask(&["wait", "--nodes", "3"])?;
    assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
    Ok(())
}

#[test]
fn a_node_that_a_list_names_costs_no_link_while_its_epmd_is_new() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [here, there] = network.hosts()?;
    let mut epmd = here.epmd()?;
    let (first, second) = (here.beam("shop").start()?, there.beam("shop").start()?);
    let list = there.home().join("peers");
    let listed = format!("[[topology]]\nname = \"listed\"\nstrategy = \"file\"\npath = \"{}\"\n", list.display());
    let config = format!("[[topology]]\nname = \"lan\"\nstrategy = \"gossip\"\n\n{listed}");
    let agents = [here.agent(binary()).start()?, there.agent(binary()).config(&config)?.start()?];
    full_mesh(SOON, [&first, &second])?;
    let seen = [first.watch()?, second.watch()?];
    epmd.kill9()?;
    // The other host's agent knows the name from elsewhere, and dials as soon as the new epmd has it.
    let late = here.beam("late").spawn()?;
    fs::write(&list, format!("{}\n", late.name()))?;
    late.wait_ready()?;
    full_mesh(SOON, [&first, &second, &late])?;
    for seen in &seen {
        let changes = seen.changes()?;
        let logs = || agents.iter().map(|agent| agent.log()).collect::<Vec<_>>().join("\n");
        assert!(changes.iter().all(|change| change.up && change.node == late.name()), "{changes:?}\n{}", logs());
    }
    Ok(())
}

#[test]
fn readers_of_events_survive_their_agent() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let mut sites: [_; 2] = sites("")?;
    full_mesh(SOON, sites.iter().map(|site| &site.beam))?;
    let [first, second] = &mut sites;
    let agent = agent_node(first);
    first.beam.subscribe(&agent)?;
    first.agent.kill9()?;
    first.agent = first.host.agent(binary()).start()?;
    // A process subscribes again, as after any restart of a server, and hears of what comes.
    eventually(SOON, "the agent is there again", || match first.beam.eval(&format!("net_adm:ping('{agent}')")) {
        Ok(answer) if answer == "pong" => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    let seen = first.beam.subscribe(&agent)?;
    second.beam.kill9()?;
    seen.wait_for(SOON, false, second.beam.name()).map(drop)
}
