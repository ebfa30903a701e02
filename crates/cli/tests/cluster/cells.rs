//! A cluster that is divided into cells: each zone is a mesh of its own, whoever finds whom.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use metacluster_testbed::{Host, Network, eventually, eventually_value, require};

use crate::{
    federation::{command, folder, prove},
    support::{NEEDED, SOON, Site, binary, full_mesh, logs},
};

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
    sites[2].beam.wait_nodes(SOON, &[]).with_context(|| logs(&sites))?;

    // Its agent comes back in another zone; the node knows nothing of that.
    sites[1].agent.kill9()?;
    let config = "zone = \"b\"\n\n[[topology]]\nname = \"lan\"\nstrategy = \"gossip\"\n\n[cells]\nby = \"zone\"\n";
    sites[1].agent = sites[1].host.agent(binary()).config(config)?.start()?;
    let moved = full_mesh(Duration::from_secs(60), [1, 2].map(|at| &sites[at].beam));
    moved.with_context(|| logs(&sites))?;
    sites[0].beam.wait_nodes(SOON, &[]).with_context(|| logs(&sites))?;
    Ok(())
}

/// The configuration of a gateway between cells: its own cluster's authority is the one that it trusts.
fn gateway(authority: &Host, host: &Host) -> Result<String> {
    let folder = folder(authority);
    let identity = host.home().join("gateway.pem");
    let (from, out) = (folder.display().to_string(), identity.display().to_string());
    command(authority, &["federation", "issue", "--dir", &from, "--out", &out])?;
    host.write_cookie("COOKIEmain")?;
    Ok(format!(
        "gateways = 1\n\n[federation]\nlisten = \"0.0.0.0:4391\"\nidentity = \"{out}\"\ntrust = [\"{}\"]\n\n\
         [[federation.export]]\nto = [\"main\"]\ngroups = [\"orders*\"]\n",
        folder.join("federation-ca.pem").display()
    ))
}

/// The clusters to which an agent's gateway is linked; none where it is no gateway.
fn linked(site: &Site) -> Vec<String> {
    let answer = site.agent.get("/v1/federation").unwrap_or_default();
    let gateways = answer["gateways"].as_array().cloned().unwrap_or_default();
    let linked = gateways.iter().filter(|gateway| gateway["linked"] == true);
    linked.map(|gateway| gateway["cluster"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn cells_find_one_another_through_members_and_groups_cross_between_them() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let hosts: [Host; 4] = network.hosts()?;
    prove(&hosts[0], "main")?;
    let configs: Vec<String> = hosts.iter().map(|host| gateway(&hosts[0], host)).collect::<Result<_>>()?;
    let mut sites = Vec::new();
    for ((host, config), zone) in hosts.into_iter().zip(&configs).zip(["a", "a", "b", "b"]) {
        sites.push(site_on(host, zone, config)?);
    }
    for pair in [[0, 1], [2, 3]] {
        full_mesh(SOON, pair.map(|at| &sites[at].beam)).with_context(|| logs(&sites))?;
    }

    sites[0].beam.eval(SERVE)?;
    for at in [2, 3] {
        let seen = eventually(SOON, "the other cell sees the member", || {
            let members = sites[at].beam.eval("length(pg:get_members(orders) -- pg:get_local_members(orders))");
            let members = members.map_err(|error| format!("{error:#}"))?;
            if members == "1" { Ok(()) } else { Err(members) }
        });
        seen.with_context(|| logs(&sites))?;
        let called = sites[at].beam.eval("gen_server:call(hd(pg:get_members(orders)), {hello, node()})")?;
        ensure!(called.starts_with("{echoed,{hello,"), "{called}");
    }
    // Gateways are linked to those of the other cell, and the nodes stay apart.
    let links: Vec<Vec<String>> = sites.iter().map(linked).collect();
    for (own, far) in [(0..2, "main:b-1"), (2..4, "main:a-1")] {
        let of_cell = links[own].concat();
        assert!(!of_cell.is_empty() && of_cell.iter().all(|cluster| cluster == far), "{links:?}");
    }
    // Its own cell's, and no stand-in for it.
    eventually(SOON, "the group has one member in its own cell", || {
        let members = sites[1].beam.eval("length(pg:get_members(orders))").map_err(|error| format!("{error:#}"))?;
        if members == "1" { Ok(()) } else { Err(members) }
    })?;
    for pair in [[0, 1], [2, 3]] {
        full_mesh(SOON, pair.map(|at| &sites[at].beam)).with_context(|| logs(&sites))?;
    }

    // The gateway of the far cell dies: the other host of that cell stands in.
    let gateway = if links[2].is_empty() { 3 } else { 2 };
    sites[gateway].agent.kill9()?;
    let other = 5 - gateway;
    let again = eventually(SOON, "the other host of the cell is its gateway", || {
        let called = sites[other].beam.eval("catch gen_server:call(hd(pg:get_members(orders)), hello)");
        let called = called.map_err(|error| format!("{error:#}"))?;
        if called == "{echoed,hello}" && !linked(&sites[other]).is_empty() { Ok(()) } else { Err(called) }
    });
    again.with_context(|| logs(&sites))?;
    Ok(())
}

/// A gateway between cells by rack, which its configuration or `metacluster tags set` says.
fn rack(host: Host, rack: &str, of_gateway: &str) -> Result<Site> {
    let config = format!(
        "tags = {{ rack = \"{rack}\" }}\n\n[[topology]]\nname = \"lan\"\nstrategy = \"gossip\"\n\n[cells]\n\
         by = \"tag:rack\"\n{of_gateway}"
    );
    let agent = host.agent(binary()).config(&config)?.start()?;
    let beam = host.beam("shop").flags("-kernel start_pg true").spawn()?;
    Ok(Site { beam, agent, host })
}

/// Starts a server in the group `orders`.
const SERVE: &str = "Server = spawn(fun Loop() -> receive
                         {'$gen_call', From, Term} -> gen_server:reply(From, {echoed, Term}), Loop() end end),
                     ok = pg:join(orders, Server)";

/// Waits until the group `orders` has so many members here, and each answers.
fn wait_served(site: &Site, members: usize) -> Result<Duration> {
    eventually(SOON, &format!("{} sees {members} members that answer", site.beam.name()), || {
        let asked = "[catch gen_server:call(P, hello, 5000) || P <- pg:get_members(orders)]";
        let answers = site.beam.eval(asked).map_err(|error| format!("{error:#}"))?;
        let wanted = vec!["{echoed,hello}"; members].join(",");
        if answers == format!("[{wanted}]") { Ok(()) } else { Err(answers) }
    })
}

#[test]
fn a_gateway_whose_host_moves_to_another_cell_speaks_for_that_one_while_it_runs() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let hosts: [Host; 4] = network.hosts()?;
    prove(&hosts[0], "main")?;
    let configs: Vec<String> = hosts.iter().map(|host| gateway(&hosts[0], host)).collect::<Result<_>>()?;
    let mut sites = Vec::new();
    for ((host, config), of) in hosts.into_iter().zip(&configs).zip(["a", "a", "b", "b"]) {
        sites.push(rack(host, of, config)?);
    }
    let told = (|| {
        for pair in [[0, 1], [2, 3]] {
            full_mesh(SOON, pair.map(|at| &sites[at].beam))?;
        }
        // A server in each rack.
        for at in [0, 2] {
            sites[at].beam.eval(SERVE)?;
        }
        for site in &sites {
            wait_served(site, 2)?;
        }
        // The gateway of `a` that publishes moves to `b`, and its node with it.
        let far = "[Far] = [P || P <- pg:get_members(orders), not lists:member(node(P), [node() | nodes()])]";
        let publishes = sites[0].beam.eval(&format!("{far}, node(Far)"))?;
        let moves = usize::from(!publishes.contains(&sites[0].host.address().to_string()));
        let stays = 1 - moves;
        sites[stays].beam.eval(&format!(
            "{far}, Test = self(),
             register(watcher, spawn(fun() -> M = monitor(process, Far), Test ! ready,
                 receive {{'DOWN', M, process, _, Why}} -> receive {{ask, To}} -> To ! {{why, Why, Far}} end end end)),
             receive ready -> gen_server:call(Far, hello) end"
        ))?;
        let output = sites[moves].agent.ask(&["tags", "set", "rack=b"])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        full_mesh(SOON * 2, [2, 3, moves].map(|at| &sites[at].beam))?;
        sites[stays].beam.wait_nodes(SOON, &[])?;
        // The pids of its first life are nobody's, though it lives.
        let why = "watcher ! {ask, self()}, receive {why, Why, Far} -> {Why, catch gen_server:call(Far, hello, 5000)}
                   after 20000 -> late end";
        let why = sites[stays].beam.eval(why)?;
        ensure!(why.starts_with("{noconnection,{'EXIT',"), "{why}");
        // The server of the host that moved, if it was that one, is of `b` now; either way each rack sees both.
        for site in &sites {
            wait_served(site, 2)?;
        }
        // The one that stays is the gateway of `a`, and none of `b` says that it is of `a`.
        let seen = eventually(SOON, "gateways are linked to those of the other cell", || {
            let links: Vec<Vec<String>> = sites.iter().map(linked).collect();
            let only = |at: usize, cell: &str| links[at].iter().all(|cluster| cluster == cell);
            let of_b = [2, 3, moves].into_iter().all(|at| only(at, "main:a-1"));
            let right = of_b && only(stays, "main:b-1") && !links[stays].is_empty();
            if right { Ok(()) } else { Err(format!("{links:?}")) }
        })?;
        Ok(format!("linked anew after {seen:?}"))
    })();
    println!("{}", told.with_context(|| logs(&sites))?);
    Ok(())
}

#[test]
fn a_cluster_that_runs_is_divided_by_number_alone_as_the_plan_says() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let hosts: [Host; 4] = network.hosts()?;
    prove(&hosts[0], "main")?;
    let gateways: Vec<String> = hosts.iter().map(|host| gateway(&hosts[0], host)).collect::<Result<_>>()?;
    let whole = "[[topology]]\nname = \"lan\"\nstrategy = \"gossip\"\n";
    let mut sites = Vec::new();
    for host in hosts {
        let agent = host.agent(binary()).config(whole)?.start()?;
        let beam = host.beam("shop").flags("-kernel start_pg true").spawn()?;
        sites.push(Site { beam, agent, host });
    }
    let connections = |sites: &[Site]| -> Result<usize, String> {
        let seen: Result<usize> = sites.iter().map(|site| Ok(site.beam.nodes()?.len())).sum();
        Ok(seen.map_err(|error| format!("{error:#}"))? / 2)
    };
    full_mesh(SOON, sites.iter().map(|site| &site.beam)).with_context(|| logs(&sites))?;

    // One agent says what would be, and changes nothing.
    let plan = ["cells", "plan", "--by", "size", "--nodes-max", "2", "--nodes-min", "1"];
    let planned = eventually_value(SOON, "the agent knows the four nodes", || {
        let output = sites[0].agent.ask(&[&plan[..], &["--json"]].concat()).map_err(|error| format!("{error:#}"))?;
        let planned: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
        if planned["nodes"] == 4 { Ok(planned) } else { Err(planned.to_string()) }
    })?;
    let number = |key: &str| planned[key].as_u64().unwrap_or_default() as usize;
    let figures = (number("connections_before"), number("connections_after"), number("gateway_links"));
    assert_eq!(figures, (6, 2, 4), "{planned}");
    let said = String::from_utf8(sites[0].agent.ask(&plan)?.stdout)?;
    let words = "4 nodes: 6 connections as one mesh, 2 in cells and 4 links between gateways (2 a cell)";
    assert!(said.contains(words), "{said}");
    assert_eq!(connections(&sites).map_err(anyhow::Error::msg)?, figures.0, "as the nodes have them");

    // The agents come back with the section; the nodes know nothing of that.
    for (site, gateway) in sites.iter_mut().zip(&gateways) {
        let gateway = gateway.replace("gateways = 1", "gateways = 2");
        let config = format!("{whole}\n[cells]\nby = \"size\"\nnodes_max = 2\nnodes_min = 1\n{gateway}");
        site.agent.kill9()?;
        site.agent = site.host.agent(binary()).config(&config)?.start()?;
    }
    let divided = (|| {
        for cell in planned["cells"].as_object().into_iter().flat_map(|cells| cells.values()) {
            let nodes: Vec<&str> = cell.as_array().into_iter().flatten().filter_map(|node| node.as_str()).collect();
            ensure!(nodes.len() == 2, "{planned}");
            let mates = sites.iter().filter(|site| nodes.contains(&site.beam.name()));
            full_mesh(SOON * 2, mates.map(|site| &site.beam))?;
        }
        let left = connections(&sites).map_err(anyhow::Error::msg)?;
        ensure!(left == figures.1, "{left} connections: {planned}");
        eventually(SOON, "each gateway is linked to each of the other cell", || {
            let links: usize = sites.iter().map(|site| linked(site).len()).sum();
            if links == 2 * figures.2 { Ok(()) } else { Err(format!("{links} ends of links")) }
        })?;
        sites[0].beam.eval(SERVE)?;
        for site in &sites {
            wait_served(site, 1)?;
        }
        Ok(())
    })();
    divided.with_context(|| logs(&sites))
}
