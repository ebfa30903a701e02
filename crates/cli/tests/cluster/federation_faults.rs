//! Links between clusters that are cut one way and both ways, and gateways whose addresses change.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use metacluster_testbed::{Host, Network, eventually, require};

use crate::{
    federation::{Cluster, Nodes, clusters, clusters_of},
    support::{NEEDED, SOON, binary},
};

/// A link that brings nothing is dead by then.
const FOUND: Duration = Duration::from_secs(3);
/// What a busy machine and the look itself may add.
const LOOK: Duration = Duration::from_millis(1_500);
/// Calls work again by then once the clusters are linked.
const AGAIN: Duration = Duration::from_secs(2);

impl Cluster {
    fn links(&self) -> Result<bool, String> {
        let answer = self.agent.get("/v1/federation").map_err(|error| format!("{error:#}"))?;
        let gateways = answer["gateways"].as_array().cloned().unwrap_or_default();
        Ok(gateways.iter().any(|gateway| gateway["linked"] == true))
    }

    fn wait_link(&self, within: Duration, up: bool) -> Result<Duration> {
        eventually(within, if up { "the link is up" } else { "the link is down" }, || {
            if self.links()? == up { Ok(()) } else { Err(self.agent.log()) }
        })
    }
}

/// Cuts, and finds both ends down in time; heals, and finds all as it was.
fn cut_and_heal(cut: impl Fn(&Cluster, &Cluster) -> Result<()>) -> Result<String> {
    let [east, west] = clusters()?;
    east.serve()?;
    west.wait_members(1)?;
    let watched = west.beam.eval(
        "[P] = pg:get_members(orders), Test = self(),
         register(watcher, spawn(fun() -> M = monitor(process, P), Test ! ready,
             receive {'DOWN', M, process, P, Why} -> receive {ask, To} -> To ! {why, Why} end end end)),
         receive ready -> element(1, gen_server:call(P, {echo, 1})) end",
    )?;
    assert_eq!(watched, "echoed");

    cut(&east, &west)?;
    let begin = Instant::now();
    west.wait_link(FOUND + LOOK, false)?;
    east.wait_link((FOUND + LOOK).saturating_sub(begin.elapsed()).max(LOOK), false)?;
    let found = begin.elapsed();
    west.wait_members(0)?;
    let why = west.beam.eval("watcher ! {ask, self()}, receive {why, Why} -> Why after 5000 -> late end")?;
    assert_eq!(why, "noconnection");

    east.host.cable().heal()?;
    west.host.cable().heal()?;
    let healed = west.wait_link(SOON, true)?;
    west.wait_members(1)?;
    // Both ends dial once they can, and of two links that come at once one is given up: what went over that one fails as
    // to a dead node.
    eventually(AGAIN, "calls work again", || {
        let called = west.beam.eval("element(1, gen_server:call(hd(pg:get_members(orders)), {echo, 2}))");
        match called {
            Ok(called) if called == "echoed" => Ok(()),
            other => Err(format!("{other:?}: {}", west.agent.log())),
        }
    })?;
    Ok(format!("down at both ends after {found:?}, up again after {healed:?}"))
}

#[test]
fn a_link_that_is_cut_both_ways_is_found_within_three_seconds() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    println!("both ways: {}", cut_and_heal(|east, _| east.host.cable().cut())?);
    Ok(())
}

#[test]
fn a_link_that_is_cut_one_way_is_found_within_three_seconds() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let out = cut_and_heal(|east, west| east.host.cable().cut_towards(&west.host))?;
    let back = cut_and_heal(|east, west| west.host.cable().cut_towards(&east.host))?;
    println!("east to west: {out}; west to east: {back}");
    Ok(())
}

#[test]
fn a_gateway_that_moved_to_another_address_is_linked_again_within_thirty_seconds() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [east, west, new] = network.hosts()?;
    let point = |host: &Host, to: &Host| -> Result<()> {
        let script = format!(
            "grep -v gateway.east /etc/hosts > $HOME/names; echo '{} gateway.east' >> $HOME/names; \
             cat $HOME/names > /etc/hosts",
            to.address()
        );
        ensure!(host.command("sh").args(["-c", &script]).status()?.success(), "the name is not written");
        Ok(())
    };
    point(&west, &east)?;
    let [mut east, west] = clusters_of(east, west, Nodes { east: Some("gateway.east"), ..Nodes::default() })?;
    east.serve()?;
    west.wait_members(1)?;

    // The host is gone, and another one has its part, by the same name.
    east.agent.kill9()?;
    east.beam.kill9()?;
    west.wait_members(0)?;
    // The new one dials nobody: it is found by its name.
    let config = std::fs::read_to_string(east.host.home().join("metacluster.toml"))?;
    let config: Vec<&str> = config.lines().filter(|line| !line.starts_with("peers = ")).collect();
    let config = config.join("\n");
    new.write_cookie("COOKIEeast")?;
    east.agent = new.agent(binary()).config(&config)?.start()?;
    east.beam = new.beam("shop").flags("-kernel start_pg true").spawn()?;
    east.beam.wait_ready()?;
    let begin = Instant::now();
    point(&west.host, &new)?;
    west.wait_link(Duration::from_secs(30), true)?;
    println!("linked at the new address after {:?}", begin.elapsed());
    east.serve()?;
    west.wait_members(1)?;
    let called = west.beam.eval("element(1, gen_server:call(hd(pg:get_members(orders)), {echo, 1}))")?;
    assert_eq!(called, "echoed");
    Ok(())
}
