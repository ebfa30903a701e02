//! Through multicast DNS on one link, as another implementation sees it too.

use anyhow::{Context as _, Result, ensure};
use metacluster_testbed::{Avahi, Host, Network, Tool, capture, eventually, require};

use crate::support::{NEEDED, SOON, binary, full_mesh, site, sites, topology};

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

/// Sends to the group of mDNS: noise, messages that break off, and the announcements of some agents of another cluster.
const LOUD: &str = r#"
    {ok, S} = gen_udp:open(0, [binary, {multicast_if, {HOST}}, {multicast_ttl, 255}, {sndbuf, 4000000}]),
    Say = fun(Bytes) -> gen_udp:send(S, {224,0,0,251}, 5353, Bytes) end,
    Name = fun(Labels) -> iolist_to_binary([[<<(byte_size(L))>>, L] || L <- Labels] ++ [<<0>>]) end,
    Record = fun(Owner, Type, Class, Data) -> <<Owner/binary, Type:16, Class:16, 120:32, (byte_size(Data)):16, Data/binary>> end,
    Service = Name([<<"_metacluster">>, <<"_udp">>, <<"local">>]),
    Text = fun(T) -> <<(byte_size(T)), T/binary>> end,
    Agent = fun(N) ->
        Id = iolist_to_binary(io_lib:format("~32.16.0b", [N])),
        Instance = Name([Id, <<"_metacluster">>, <<"_udp">>, <<"local">>]),
        Target = Name([<<"metacluster-", Id/binary>>, <<"local">>]),
        <<0:16, 16#8400:16, 0:16, 4:16, 0:16, 0:16,
          (Record(Service, 12, 1, Instance))/binary,
          (Record(Instance, 33, 16#8001, <<0:16, 0:16, 45893:16, Target/binary>>))/binary,
          (Record(Instance, 16, 16#8001, <<(Text(<<"id=", Id/binary>>))/binary, (Text(<<"cluster=other">>))/binary,
              (Text(<<"n0=ghost@10.9.9.9">>))/binary>>))/binary,
          (Record(Target, 1, 16#8001, <<10, (N rem 250), (N div 250 rem 250), 9>>))/binary>>
    end,
    [Say(crypto:strong_rand_bytes(rand:uniform(1400))) || _ <- lists:seq(1, 20)],
    [begin Whole = Agent(N), Say(binary:part(Whole, 0, rand:uniform(byte_size(Whole) - 1))) end || N <- lists:seq(1, 20)],
    [Say(Agent(N)) || N <- lists:seq(FROM + 1, FROM + 500)],
    gen_udp:close(S)"#;
/// How often, each time with 500 other agents.
const TIMES: usize = 20;
/// What an agent may take in all, in MiB, with all that these announce.
const MEBIBYTES_MAX: u64 = 256;

/// The memory of a process that is in use, in MiB.
fn mebibytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("its memory")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? / 1024)
}

#[test]
fn a_link_full_of_garbage_and_strangers_costs_no_peer() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let stranger = network.host()?;
    let hosts: [_; 3] = network.hosts()?;
    let sites = sites(&hosts[..2], "strategy = \"mdns\"\n")?;
    full_mesh(&sites)?;
    let seen = sites[0].beam.watch()?;
    let loud = stranger.beam("loud").start()?;
    let address = stranger.address().octets().map(|part| part.to_string()).join(",");
    for time in 0..TIMES {
        loud.eval(&LOUD.replace("HOST", &address).replace("FROM", &(time * 500).to_string()))?;
    }
    // Who comes now is found all the same, and nobody was lost for it.
    let newcomer = site(&hosts[2], "strategy = \"mdns\"\n", &[])?;
    newcomer.beam.wait_ready()?;
    newcomer.beam.wait_nodes(SOON, &[sites[0].beam.name(), sites[1].beam.name()])?;
    let downs: Vec<_> = seen.changes()?.into_iter().filter(|change| !change.up).collect();
    ensure!(downs.is_empty(), "{downs:?}");
    for site in sites.iter().chain([&newcomer]) {
        let row = topology(site)?.to_string();
        ensure!(!row.contains("ghost@"), "an agent of another cluster: {row}");
        let used = mebibytes(site.agent.pid())?;
        ensure!(used < MEBIBYTES_MAX, "an agent takes {used} MiB");
    }
    Ok(())
}
