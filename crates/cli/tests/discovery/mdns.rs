//! Through multicast DNS on one link, as another implementation sees it too.

use anyhow::Result;
use metacluster_testbed::{Avahi, Host, Network, Tool, capture, eventually, require};

use crate::support::{NEEDED, SOON, binary, full_mesh, sites};

/// The address of the sixth version that a host gets here.
fn sixth(host: &Host) -> String {
    format!("fd91::{}", host.address().octets()[3])
}

#[test]
fn nodes_form_by_mdns_and_avahi_sees_them_come_and_go() -> Result<()> {
    if !require(&NEEDED) || !require(&[Tool::Avahi]) {
        return Ok(());
    }
    let network = Network::new()?;
    let watcher = network.host()?;
    let hosts: [_; 2] = network.hosts()?;
    for host in hosts.iter().chain([&watcher]) {
        let address = format!("{}/64", sixth(host));
        capture(host.command("ip").args(["-6", "addr", "add", &address, "dev", "eth0", "nodad"]))?;
    }
    let avahi = Avahi::start(&watcher)?;
    let (_early, seen) = avahi.browse("_metacluster._udp")?;
    // The agents are not where one would look for them.
    let mut sites = sites(&hosts, "strategy = \"mdns\"\n[membership]\nport = 46000\n")?;
    full_mesh(&sites)?;

    let resolved =
        |line: &str, family: &str| line.starts_with(&format!("=;eth0;{family};")) && line.contains(";46000;");
    // Who browses now is told of the nodes too, which came up after the agents had said who they are.
    let (_late, nodes) = avahi.browse("_metacluster._udp")?;
    let mut ids = Vec::new();
    for (host, site) in hosts.iter().zip(&sites) {
        let address = format!(";{};", host.address());
        let line = seen.wait_for(SOON, &format!("avahi-browse resolves {address}"), |line| {
            resolved(line, "IPv4") && line.contains(&address)
        })?;
        let id = line.text.split(';').nth(3).unwrap_or_default().to_owned();
        seen.wait_for(SOON, "the same over IPv6", |line| resolved(line, "IPv6") && line.contains(&id))?;
        nodes.wait_for(SOON, "avahi-browse sees the node", |line| {
            line.contains(&format!("n0={}", site.beam.name())) && line.contains("cluster=main") && line.contains(&id)
        })?;
        ids.push(id);
    }

    // Over IPv6 alone.
    let rules = "add table ip mc; add chain ip mc in { type filter hook input priority 0; }; \
                 add rule ip mc in udp dport 5353 drop";
    capture(watcher.command("nft").arg(rules))?;
    eventually(SOON, "both are found over IPv6 alone", || {
        let found =
            capture(watcher.command(binary()).args(["discover", "mdns"])).map_err(|error| format!("{error:#}"))?;
        let all = hosts.iter().all(|host| found.contains(&host.node_name("shop")));
        if all && !found.contains("fe80") { Ok(()) } else { Err(found) }
    })?;

    sites[0].agent.terminate()?;
    // Well before the records expire, which takes two minutes.
    seen.wait_for(SOON, "the goodbye", |line| line.starts_with('-') && line.contains(&ids[0]))?;
    Ok(())
}
