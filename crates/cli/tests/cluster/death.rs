//! A node dies and comes back: every reader is told, soon.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use metacluster_testbed::{Beam, Contention, Lines, Network, Sighting, eventually_value, require};
use serde_json::Value;

use crate::support::{NEEDED, SOON, agent_node, binary, full_mesh, sites};

/// How soon every reader must know of a death.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

fn names(line: &str, event: &str, node: &str) -> bool {
    // Server-sent events carry the same object after `data: `.
    let json = line.strip_prefix("data:").unwrap_or(line).trim();
    serde_json::from_str::<Value>(json).is_ok_and(|value| value["event"] == event && value["node"] == node)
}

fn soon_after(killed: SystemTime, contention: &Contention, told: SystemTime, reader: &str) {
    let (delay, lost) = (told.duration_since(killed).unwrap_or_default(), contention.lost());
    assert!(delay <= TOLD_WITHIN + lost, "{reader} was told after {delay:?}, of which {lost:?} were lost to others");
}

#[test]
fn every_reader_is_told_of_a_death_and_of_the_return() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [here, there, third] = network.hosts()?;
    let handled = here.home().join("handled");
    let config = format!(
        "[[topology]]\nname = \"lan\"\nstrategy = \"gossip\"\n\n[[handler]]\non = [\"nodedown\", \"nodeup\"]\n\
         command = [\"sh\", \"-c\", \"cat >> {0}; echo >> {0}\"]\n",
        handled.display()
    );
    let agent = here.agent(binary()).config(&config)?.start()?;
    let _others = (there.agent(binary()).start()?, third.agent(binary()).start()?);
    let (shop, third_beam) = (here.beam("shop").spawn()?, third.beam("shop").spawn()?);
    let mut dies = there.beam("web").elixir().spawn()?;
    for beam in [&shop, &dies, &third_beam] {
        beam.wait_ready()?;
    }
    full_mesh(SOON, [&shop, &dies, &third_beam])?;
    let name = dies.name().to_owned();

    let subscriber = shop.subscribe(&here.node_name("metacluster"))?;
    let stream = agent.server_sent_events()?;
    let (_following, follower) = agent.follow()?;
    // Both streams begin with what is kept, so what they show proves that they are open.
    let up = |line: &str| names(line, "nodeup", &name);
    let down = |line: &str| names(line, "nodedown", &name);
    stream.wait_for(SOON, "server-sent nodeup", up)?;
    follower.wait_for(SOON, "followed nodeup", up)?;
    handled_at(&handled, "nodeup", &name)?;

    let (killed, contention) = (SystemTime::now(), Contention::start());
    dies.kill9()?;
    let heard = subscriber.wait_for(SOON, false, &name)?;
    soon_after(killed, &contention, heard.at, "a BEAM process");
    soon_after(
        killed,
        &contention,
        stream.wait_for(SOON, "server-sent nodedown", down)?.at,
        "a reader of server-sent events",
    );
    soon_after(
        killed,
        &contention,
        follower.wait_for(SOON, "followed nodedown", down)?.at,
        "metacluster events --follow",
    );
    soon_after(killed, &contention, handled_at(&handled, "nodedown", &name)?, "a handler");

    let dies = there.beam("web").elixir().start()?;
    full_mesh(SOON, [&shop, &dies, &third_beam])?;
    subscriber.wait_for(SOON, true, &name)?;
    stream.wait_for_later(killed, SOON, "server-sent nodeup", up)?;
    follower.wait_for_later(killed, SOON, "followed nodeup", up)?;
    alternate(&follower, &name);
    Ok(())
}

/// For one node, `nodeup` and `nodedown` take turns, and no number is missing.
fn alternate(events: &Lines, node: &str) {
    let events: Vec<Value> = events.all().iter().filter_map(|line| serde_json::from_str(&line.text).ok()).collect();
    let numbers: Vec<u64> = events.iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
    let of_node = events.iter().filter(|event| event["node"] == node).filter_map(|event| event["event"].as_str());
    let turns: Vec<&str> = of_node.filter(|event| event.starts_with("node")).collect();
    assert_eq!(turns, ["nodeup", "nodedown", "nodeup"]);
}

fn handled_at(file: &Path, event: &str, node: &str) -> Result<SystemTime> {
    eventually_value(SOON, "the handler ran", || {
        let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
        if !text.lines().any(|line| names(line, event, node)) {
            return Err(text);
        }
        fs::metadata(file).and_then(|metadata| metadata.modified()).map_err(|error| error.to_string())
    })
}

#[test]
fn a_node_that_restarts_is_linked_again_and_disturbs_nobody() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let mut sites: [_; 3] = sites("")?;
    full_mesh(SOON, sites.iter().map(|site| &site.beam))?;
    let [first, second, third] = &mut sites;
    let seen = first.beam.watch()?;
    for _ in 0..2 {
        third.beam.kill9()?;
        second.beam.wait_nodes(SOON, &[first.beam.name()])?;
        third.beam = third.host.beam("shop").start()?;
        full_mesh(SOON, [&first.beam, &second.beam, &third.beam])?;
    }
    only_about(&seen, &third.beam)?;
    assert_eq!(second.beam.eval(&format!("net_adm:ping('{}')", agent_node(second)))?, "pong");
    Ok(())
}

fn only_about(seen: &Sighting<'_>, beam: &Beam) -> Result<()> {
    let changes = seen.changes()?;
    let stranger = changes.iter().find(|change| change.node != beam.name());
    assert!(stranger.is_none(), "{changes:?}");
    changes.first().context("something was seen").map(drop)
}
