//! Hosts die, agents die alone, cables are cut in part: the nodes are told of the dead at once though their own ticks
//! take a minute, and those who live keep their links.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use metacluster_testbed::{Agent, Contention, Sighting, eventually, require};
use serde_json::Value;

use crate::support::{NEEDED, SOON, Site, full_mesh, logs, sites};

/// How soon after the death of a host every surviving node must know, with the BEAM's default `net_ticktime` of 60 s.
const TOLD_WITHIN: Duration = Duration::from_secs(3);
/// How soon after the heal of a cable the mesh must be whole.
const WHOLE_WITHIN: Duration = Duration::from_secs(5);
/// Long enough for a host to be failed, checked and dropped, twice over.
const LONG_ENOUGH: Duration = Duration::from_secs(8);

/// The state of the member on that host, as an agent knows it.
fn member_state(agent: &Agent, site: &Site) -> Result<String> {
    let Some(member) = member(agent, site)? else { return Ok("unknown".to_owned()) };
    Ok(member["state"].as_str().unwrap_or_default().to_owned())
}

/// The member on that host, as an agent knows it.
fn member(agent: &Agent, site: &Site) -> Result<Option<Value>> {
    let address = site.host.address().to_string();
    let members = agent.get("/v1/members")?;
    let members = members["members"].as_array().cloned().unwrap_or_default();
    let of_site = |member: &&Value| {
        let told = member["address"].as_str().unwrap_or_default();
        told == address || told.starts_with(&format!("{address}:"))
    };
    Ok(members.iter().find(of_site).cloned())
}

/// Waits until every agent knows every other one as alive and with its node, and every node is linked to every other one.
/// What fails before its node was told takes no node with it.
fn whole(sites: &[Site]) -> Result<()> {
    full_mesh(SOON, sites.iter().map(|site| &site.beam))?;
    for site in sites {
        for other in sites.iter().filter(|other| other.host.address() != site.host.address()) {
            eventually(SOON, "every agent is a member with its node", || {
                let member = member(&site.agent, other).map_err(|error| error.to_string())?.unwrap_or_default();
                let has_node = member["nodes"].to_string().contains(other.beam.name());
                if member["state"] == "alive" && has_node { Ok(()) } else { Err(member.to_string()) }
            })?;
        }
    }
    Ok(())
}

/// Looks again and again for as long as that, and fails as soon as a node of these sees a change of any but those.
fn nothing_changes(sites: &[Site], seen: &[Sighting<'_>], but: &[&str], during: Duration) -> Result<()> {
    let begin = Instant::now();
    loop {
        for sighting in seen {
            let changes = sighting.changes()?;
            let strange = changes.iter().find(|change| !but.contains(&change.node.as_str()));
            ensure!(strange.is_none(), "{strange:?} of {changes:?}\n{}", logs(sites));
        }
        if begin.elapsed() >= during {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_silent_death_of_a_host_is_nodedown_on_every_surviving_node_within_three_seconds() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let sites: [_; 4] = sites("")?;
    whole(&sites)?;
    let [survivors @ .., dead] = &sites;
    let seen = survivors.iter().map(|site| site.beam.watch()).collect::<Result<Vec<_>>>()?;
    dead.host.cable().cut()?;
    let (cut, contention) = (Instant::now(), Contention::start());
    for site in survivors {
        let others: Vec<&str> =
            survivors.iter().map(|other| other.beam.name()).filter(|&name| name != site.beam.name()).collect();
        site.beam.wait_nodes((TOLD_WITHIN + contention.lost()).saturating_sub(cut.elapsed()), &others)?;
    }
    // The dead host's own node is cut off as well, and is told so.
    dead.beam.wait_nodes(SOON, &[])?;
    nothing_changes(&sites, &seen, &[dead.beam.name()], Duration::from_secs(2))?;
    eventually(SOON, "the member failed", || {
        let state = member_state(&survivors[0].agent, dead).map_err(|error| error.to_string())?;
        if state == "failed" { Ok(()) } else { Err(state) }
    })?;
    dead.host.cable().heal()?;
    full_mesh(WHOLE_WITHIN, sites.iter().map(|site| &site.beam))?;
    nothing_changes(&sites, &seen, &[dead.beam.name()], Duration::from_secs(2))
}

#[test]
fn the_death_of_an_agent_alone_costs_no_link_and_is_shown_as_what_it_is() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let mut sites: [_; 3] = sites("")?;
    whole(&sites)?;
    sites[2].agent.kill9()?;
    let [first, second, alone] = &sites;
    let seen = [first.beam.watch()?, second.beam.watch()?, alone.beam.watch()?];
    let (_following, events) = first.agent.follow()?;
    events.wait_for(SOON, "the agent is said to be down and its nodes to live", |line| {
        line.contains("member_update") && line.contains("the agent is down, its nodes live")
    })?;
    nothing_changes(&sites, &seen, &[], LONG_ENOUGH)?;
    full_mesh(Duration::ZERO, sites.iter().map(|site| &site.beam))?;
    assert_eq!(member_state(&first.agent, alone)?, "failed");
    let nodes = crate::support::states(&first.agent)?;
    assert!(nodes.contains(&(alone.beam.name().to_owned(), "up".to_owned())), "{nodes:?}");
    Ok(())
}

#[test]
fn two_hosts_that_cannot_see_each_other_while_a_third_sees_both_drop_nothing() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let sites: [_; 3] = sites("")?;
    whole(&sites)?;
    let [first, second, third] = &sites;
    let seen = [first.beam.watch()?, second.beam.watch()?, third.beam.watch()?];
    first.host.cable().cut_towards(&second.host)?;
    nothing_changes(&sites, &seen, &[], LONG_ENOUGH)?;
    second.host.cable().cut_towards(&first.host)?;
    nothing_changes(&sites, &seen, &[], LONG_ENOUGH)?;
    for (agent, other) in [(&first.agent, second), (&second.agent, first), (&third.agent, first)] {
        assert_eq!(member_state(agent, other)?, "alive", "a third sees it");
    }
    first.host.cable().heal()?;
    second.host.cable().heal()?;
    full_mesh(WHOLE_WITHIN, sites.iter().map(|site| &site.beam))
}

#[test]
fn a_cable_that_flaps_costs_no_link_between_two_healthy_hosts_and_each_flap_ends_in_the_full_mesh() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let sites: [_; 4] = sites("")?;
    whole(&sites)?;
    for (count, pause) in flaps().into_iter().enumerate() {
        let victim = &sites[count % sites.len()];
        let healthy = sites.iter().filter(|site| site.host.address() != victim.host.address());
        let seen = healthy.map(|site| site.beam.watch()).collect::<Result<Vec<_>>>()?;
        victim.host.cable().cut()?;
        let flap = |error: anyhow::Error| error.context(format!("flap {count} of {pause:?}"));
        nothing_changes(&sites, &seen, &[victim.beam.name()], pause).map_err(flap)?;
        victim.host.cable().heal()?;
        let healed = Instant::now();
        full_mesh(WHOLE_WITHIN, sites.iter().map(|site| &site.beam)).map_err(flap)?;
        // What was on its way then arrives; the next flap must not find it half done.
        nothing_changes(&sites, &seen, &[victim.beam.name()], Duration::from_secs(1)).map_err(flap)?;
        full_mesh(WHOLE_WITHIN.saturating_sub(healed.elapsed()), sites.iter().map(|site| &site.beam)).map_err(flap)?;
    }
    Ok(())
}

/// The lengths of the flaps: ten, or as many as `FLAPS` says, spread evenly over half a second to four.
/// Shorter and longer than it takes to hold a host failed, and just as long: then the host is back as it is dropped.
fn flaps() -> Vec<Duration> {
    let count = std::env::var("FLAPS").ok().and_then(|count| count.parse().ok()).unwrap_or(10_u32);
    let step = Duration::from_millis(3_500) / count.max(2).saturating_sub(1);
    // Long and short ones take turns, so that a long one meets what a short one left.
    (0..count).map(|at| Duration::from_millis(500) + step * ((at * 7) % count.max(1))).collect()
}
