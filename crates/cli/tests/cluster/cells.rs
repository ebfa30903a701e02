//! A cluster that is divided into cells: each zone is a mesh of its own, whoever finds whom.

use std::time::Duration;

use anyhow::{Context as _, Result};
use metacluster_testbed::{Host, Network, eventually, require};

use crate::support::{NEEDED, SOON, Site, binary, full_mesh, logs};

/// A host of a zone, whose topology finds every host of the network.
fn site(network: &Network, zone: &str, more: &str) -> Result<Site> {
    site_on(network.host()?, zone, more)
}

fn site_on(host: Host, zone: &str, more: &str) -> Result<Site> {
    let config = format!(
        "zone = \"{zone}\"\n\n[[topology]]\nname = \"lan\"\nstrategy = \"gossip\"\n\n[cells]\nby = \"zone\"\n{more}"
    );
    let agent = host.agent(binary()).config(&config)?.start()?;
    let beam = host.beam("shop").flags("-kernel start_pg true").spawn()?;
    Ok(Site { beam, agent, host })
}

/// The cells of all members, as an agent has them, by name.
fn cells(site: &Site) -> Result<Vec<(String, String)>> {
    let answer = site.agent.json("members")?;
    let members = answer["members"].as_array().cloned().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    Ok(members.iter().map(|member| (text(&member["name"]), text(&member["cell"]))).collect())
}

#[test]
fn each_zone_is_a_mesh_of_its_own_and_a_new_host_joins_that_of_its_zone() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let mut sites: Vec<Site> =
        ["a", "a", "b", "b"].into_iter().map(|zone| site(&network, zone, "")).collect::<Result<_>>()?;
    let pair = |sites: &[Site], of: [usize; 2]| full_mesh(SOON, of.map(|at| &sites[at].beam));
    pair(&sites, [0, 1]).and_then(|()| pair(&sites, [2, 3])).with_context(|| logs(&sites))?;

    // Every agent knows all, and has all in the same cells.
    let known = eventually(SOON, "each agent has four members in the same cells", || {
        let all: Vec<_> = sites.iter().map(cells).collect::<Result<_>>().map_err(|error| error.to_string())?;
        let sorted = |list: &Vec<(String, String)>| {
            let mut list = list.clone();
            list.sort();
            list
        };
        let first = sorted(&all[0]);
        let zones = first.iter().filter(|(_, cell)| cell == "a-1").count();
        let same = first.len() == 4 && zones == 2 && all.iter().all(|list| sorted(list) == first);
        if same { Ok(()) } else { Err(format!("{all:?}")) }
    });
    known.with_context(|| logs(&sites))?;

    sites.push(site(&network, "b", "")?);
    full_mesh(SOON, [2, 3, 4].map(|at| &sites[at].beam)).with_context(|| logs(&sites))?;
    pair(&sites, [0, 1]).with_context(|| logs(&sites))?;

    // What joins two cells by hand is parted, and nobody of one cell loses another.
    let watch = "register(watch, spawn(fun() -> net_kernel:monitor_nodes(true), (fun Loop(Lost) ->
            receive {nodedown, N} -> Loop([N | Lost]); {nodeup, _} -> Loop(Lost); {ask, To} -> To ! {lost, Lost}, Loop(Lost)
            end end)([]) end))";
    for site in &sites {
        site.beam.eval(watch)?;
    }
    let far = sites[2].beam.name();
    assert_eq!(sites[0].beam.eval(&format!("net_kernel:connect_node('{far}')"))?, "true");
    eventually(SOON, "the two zones are one mesh by hand", || {
        let seen = sites[1].beam.nodes().map_err(|error| format!("{error:#}"))?;
        if seen.len() == 4 { Ok(()) } else { Err(format!("{seen:?}")) }
    })?;
    let parted = pair(&sites, [0, 1]).and_then(|()| full_mesh(SOON, [2, 3, 4].map(|at| &sites[at].beam)));
    parted.with_context(|| logs(&sites))?;
    for (at, site) in sites.iter().enumerate() {
        let lost = site.beam.eval("watch ! {ask, self()}, receive {lost, L} -> L after 5000 -> late end")?;
        let mates = sites.iter().enumerate().filter(|(other, _)| *other != at && (*other < 2) == (at < 2));
        for (_, mate) in mates {
            assert!(!lost.contains(mate.beam.name()), "{} lost {}: {lost}", site.beam.name(), mate.beam.name());
        }
    }
    Ok(())
}

#[test]
fn a_host_that_moves_to_another_zone_leaves_its_cell_for_the_new_one() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let mut sites: Vec<Site> =
        ["a", "a", "b"].into_iter().map(|zone| site(&network, zone, "")).collect::<Result<_>>()?;
    full_mesh(SOON, [0, 1].map(|at| &sites[at].beam)).with_context(|| logs(&sites))?;
    assert!(sites[2].beam.nodes()?.is_empty());

    // Its agent comes back in another zone; the node knows nothing of that.
    sites[1].agent.kill9()?;
    let config = "zone = \"b\"\n\n[[topology]]\nname = \"lan\"\nstrategy = \"gossip\"\n\n[cells]\nby = \"zone\"\n";
    sites[1].agent = sites[1].host.agent(binary()).config(config)?.start()?;
    let moved = full_mesh(Duration::from_secs(60), [1, 2].map(|at| &sites[at].beam));
    moved.with_context(|| logs(&sites))?;
    sites[0].beam.wait_nodes(SOON, &[]).with_context(|| logs(&sites))?;
    Ok(())
}
