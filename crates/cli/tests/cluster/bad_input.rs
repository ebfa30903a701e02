//! What goes wrong while an agent runs is told in one clear line, and what can work goes on working.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use metacluster_testbed::{Agent, Libcluster, Network, Tool, eventually, require};

use crate::support::{NEEDED, SOON, binary, full_mesh};

/// Waits for the line that holds all of `words`, and gives how many there are by then.
fn told(agent: &Agent, words: &[&str]) -> Result<usize> {
    let fits = |line: &str| words.iter().all(|word| line.contains(word));
    agent.complaints().wait_for(SOON, &format!("a line with {words:?}"), fits)?;
    Ok(agent.log().lines().filter(|line| fits(line)).count())
}

#[test]
fn a_local_node_with_another_cookie_is_named_and_left_alone() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [here, there] = network.hosts()?;
    let agents = [here.agent(binary()).start()?, there.agent(binary()).start()?];
    let alien = here.beam("alien").cookie("ANOTHER").start()?;
    let beams = [here.beam("shop").start()?, there.beam("shop").start()?];
    full_mesh(SOON, &beams)?;
    assert_eq!(told(&agents[0], &["WARN", "alien: it has another cookie"])?, 1, "{}", agents[0].log());
    assert!(alien.nodes()?.is_empty() && alien.hidden_nodes()?.is_empty());
    Ok(())
}

#[test]
fn a_peer_with_another_cookie_is_named_once() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [here, there] = network.hosts()?;
    let agent = here.agent(binary()).start()?;
    let (shop, alien) = (here.beam("shop").start()?, there.beam("alien").cookie("ANOTHER").start()?);
    alien.gossip(&Libcluster::default())?;
    told(&agent, &["WARN", "alien@10.91.0.2", "cookie"])?;
    // It goes on trying, without a line for each try.
    tries(&agent, 3)?;
    assert_eq!(told(&agent, &["WARN", "alien@10.91.0.2"])?, 1, "{}", agent.log());
    assert!(shop.nodes()?.is_empty());
    Ok(())
}

/// Waits until so many dials have failed.
fn tries(agent: &Agent, at_least: u64) -> Result<()> {
    eventually(SOON, &format!("{at_least} dials have failed"), || {
        let counters = agent.get("/v1/agent").map_err(|error| format!("{error:#}"))?["counters"].take();
        let failed = counters["dials_failed"].as_u64().unwrap_or_default();
        if failed >= at_least { Ok(()) } else { Err(counters.to_string()) }
    })
    .map(drop)
}

#[test]
fn short_and_long_names_are_told_apart_once() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [here, there] = network.hosts()?;
    let agents = [here.agent(binary()).start()?, there.agent(binary()).start()?];
    let _beams = [here.beam("shop").start()?, there.beam("shop").short().start()?];
    let told = told(&agents[0], &["WARN", "shop@h2", "shop@10.91.0.1", "-sname", "-name"])?;
    assert_eq!(told, 1, "{}", agents[0].log());
    Ok(())
}

#[test]
fn a_host_that_does_not_resolve_is_named_once() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [here, there] = network.hosts()?;
    let peers = "static:nodes=shop@nowhere.test,shop@10.91.0.2";
    let agent = here.agent(binary()).arguments(&["up", "--topology", peers]).start()?;
    let _epmd = there.epmd()?;
    let beams = [here.beam("shop").start()?, there.beam("shop").start()?];
    full_mesh(SOON, &beams)?;
    told(&agent, &["WARN", "shop@nowhere.test", "does not resolve"])?;
    tries(&agent, 3)?;
    assert_eq!(told(&agent, &["WARN", "shop@nowhere.test"])?, 1, "{}", agent.log());
    Ok(())
}

#[test]
fn an_absent_epmd_is_named_and_waited_for() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [here, there] = network.hosts()?;
    let up = ["up", "--topology", "gossip", "--epmd", "external"];
    let agents = [here.agent(binary()).arguments(&up).start()?, there.agent(binary()).arguments(&up).start()?];
    assert_eq!(told(&agents[0], &["WARN", "epmd", "4369"])?, 1, "{}", agents[0].log());
    let (_epmd_here, _epmd_there) = (here.epmd()?, there.epmd()?);
    let beams = [here.beam("shop").start()?, there.beam("shop").start()?];
    full_mesh(SOON, &beams)
}

#[test]
fn hostile_datagrams_are_survived() -> Result<()> {
    if !require(&NEEDED) || !require(&[Tool::ErlangCrypto]) {
        return Ok(());
    }
    let network = Network::new()?;
    let [here, there] = network.hosts()?;
    let agent = here.agent(binary()).start()?;
    let beams = [here.beam("shop").start()?, there.beam("shop").start()?];
    let resident = resident_kib(agent.pid())?;
    // Noise, cut terms, deep nesting, lists and atoms that claim to be huge, names that are none, and a flood of names.
    beams[1].eval(
        "{ok, S} = gen_udp:open(0, [binary, {multicast_ttl, 1}]),
         Send = fun(P) -> gen_udp:send(S, {233,252,1,32}, 45892, P) end,
         Beat = fun(T) -> Send([<<\"heartbeat::\">>, T]) end,
         [Send(crypto:strong_rand_bytes(N rem 1400)) || N <- lists:seq(1, 500)],
         Beat(<<131>>), Beat(<<131,116,255,255,255,255>>), Beat(<<131,108,127,255,255,255,106>>),
         Beat(<<131,80,255,255,255,255,120,156>>), Beat(binary:copy(<<108,0,0,0,1>>, 200)),
         Beat([131, binary:copy(<<104,1>>, 600), 106]), Beat(<<131,100,255,255,97>>),
         [Beat(term_to_binary(#{node => T})) || T <- [nonode, 'a b@c', '@', 'a@', <<\"a@b\">>, 17, [], self()]],
         [Beat(term_to_binary(#{node => list_to_atom(\"n\" ++ integer_to_list(N) ++ \"@10.91.0.77\")})) || N <- lists:seq(1, 3000)],
         ok",
    )?;
    beams[1].gossip(&Libcluster::default())?;
    full_mesh(SOON, &beams)?;
    let grown = resident_kib(agent.pid())?.saturating_sub(resident);
    assert!(grown < 16 * 1024, "the agent grew by {grown} KiB");
    let lines = agent.log().lines().count();
    assert!(lines < 60, "{lines} lines:\n{}", agent.log());
    Ok(())
}

fn resident_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    line.trim().trim_end_matches(" kB").parse().context("a number")
}

#[test]
fn a_handler_that_hangs_is_stopped_and_holds_nobody_up() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [here, there] = network.hosts()?;
    let config = "\
[[topology]]
name = \"lan\"
strategy = \"gossip\"

[[handler]]
on = [\"nodeup\"]
command = [\"sleep\", \"600\"]
timeout = \"300ms\"
at_most = 1
";
    let agent = here.agent(binary()).config(config)?.start()?;
    let (_following, follower) = agent.follow()?;
    let _other = there.agent(binary()).start()?;
    let beams = [here.beam("shop").start()?, there.beam("shop").start()?];
    full_mesh(SOON, &beams)?;
    follower.wait_for(SOON, "the event", |line| line.contains("nodeup") && line.contains(beams[1].name()))?;
    told(&agent, &["WARN", "sleep", "300ms"])?;
    eventually(Duration::from_secs(5), "no command is left", || {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", agent.pid())).unwrap_or_default();
        if children.trim().is_empty() { Ok(()) } else { Err(children) }
    })?;
    Ok(())
}
