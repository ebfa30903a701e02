//! Two clusters that share nothing, not even a cookie, and two gateways between them: plain `pg`, `gen_server:call`,
//! `monitor` and `link` work across.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use metacluster_testbed::{Agent, Beam, Host, Network, eventually, require};

use crate::support::{NEEDED, SOON, binary};

/// A cluster of one host: a gateway and a node with `pg`.
pub(crate) struct Cluster {
    pub(crate) beam: Beam,
    pub(crate) agent: Agent,
    pub(crate) host: Host,
    name: &'static str,
}

pub(crate) fn folder(host: &Host) -> PathBuf {
    host.home().join("federation")
}

pub(crate) fn command(host: &Host, arguments: &[&str]) -> Result<String> {
    let output = host.command(binary()).args(arguments).output().context("it runs")?;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{arguments:?}: {complaint}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The configuration of a gateway that trusts that certificate and dials that host.
fn config(host: &Host, name: &str, other: &Host) -> Result<String> {
    let (own, far) = (folder(host), folder(other));
    let (identity, authority) = (own.join("federation.pem"), far.join("federation-ca.pem"));
    let trust = command(
        host,
        &["federation", "trust", &authority.display().to_string(), "--identity", &identity.display().to_string()],
    )?;
    Ok(format!(
        "cluster = \"{name}\"\nlisten = \"0.0.0.0:0\"\n{trust}listen = \"0.0.0.0:4391\"\npeers = [\"{}:4391\"]\n\n",
        other.address()
    ))
}

/// Makes the certificates of a cluster's gateway.
pub(crate) fn prove(host: &Host, name: &str) -> Result<()> {
    let folder = folder(host).display().to_string();
    command(host, &["federation", "init", name, "--dir", &folder])?;
    command(host, &["federation", "issue", "--dir", &folder])?;
    host.write_cookie(&format!("COOKIE{name}"))
}

pub(crate) fn clusters() -> Result<[Cluster; 2]> {
    let network = Network::new()?;
    let [east, west] = network.hosts()?;
    clusters_of(east, west, Nodes::default())
}

/// What the nodes of two clusters are, and what their gateways let out.
#[derive(Clone, Copy)]
pub(crate) struct Nodes<'a> {
    pub(crate) elixir: bool,
    pub(crate) exports: &'a str,
    /// A name in the place of the address of `east`.
    pub(crate) east: Option<&'a str>,
    /// Whether `west` alone dials.
    pub(crate) one_dials: bool,
    /// Lines of `[federation]` of each.
    pub(crate) settings: [&'a str; 2],
}

impl Default for Nodes<'_> {
    fn default() -> Self {
        let exports = "[[federation.export]]\nto = [\"*\"]\ngroups = [\"orders*\"]\n";
        Self { elixir: false, exports, east: None, one_dials: false, settings: ["", ""] }
    }
}

/// As [`clusters`], with other nodes.
pub(crate) fn clusters_of(east: Host, west: Host, nodes: Nodes<'_>) -> Result<[Cluster; 2]> {
    prove(&east, "east")?;
    prove(&west, "west")?;
    let [of_east, of_west] = nodes.settings;
    let (mut east_config, mut west_config) = (
        config(&east, "east", &west)? + of_east + nodes.exports,
        config(&west, "west", &east)? + of_west + nodes.exports,
    );
    if let Some(name) = nodes.east {
        west_config = west_config.replace(&format!("{}:4391", east.address()), &format!("{name}:4391"));
    }
    if nodes.one_dials {
        east_config = east_config.replace(&format!("peers = [\"{}:4391\"]\n", west.address()), "");
    }
    let start = |host: Host, name: &'static str, config: &str| -> Result<Cluster> {
        let agent = host.agent(binary()).config(config)?.start()?;
        let beam = host.beam("shop").flags("-kernel start_pg true");
        let beam = if nodes.elixir { beam.elixir() } else { beam }.spawn()?;
        Ok(Cluster { beam, agent, host, name })
    };
    let (east, west) = (start(east, "east", &east_config)?, start(west, "west", &west_config)?);
    for cluster in [&east, &west] {
        cluster.beam.wait_ready()?;
    }
    Ok([east, west])
}

impl Cluster {
    /// Starts a server in the group `orders`, which answers `{echo, Term}` and ends on `stop`.
    pub(crate) fn serve(&self) -> Result<()> {
        self.beam.eval(
            "Server = spawn(fun Loop() -> receive
                {'$gen_call', {Caller, _} = From, {echo, Term}} ->
                    gen_server:reply(From, {echoed, Term, self(), Caller}), Loop();
                {'$gen_call', From, stop} -> gen_server:reply(From, ok), exit(stopped);
                {forward, To, Term} -> To ! Term, Loop();
                _ -> Loop() end end),
             ok = pg:join(orders, Server)",
        )?;
        Ok(())
    }

    /// Waits until the group `orders` has so many members here that are of another cluster.
    pub(crate) fn wait_members(&self, count: usize) -> Result<Duration> {
        eventually(SOON, &format!("{} sees {count} far members", self.name), || {
            let far = "length(pg:get_members(orders) -- pg:get_local_members(orders))";
            let members = self.beam.eval(far).map_err(|error| format!("{error:#}"))?;
            if members == count.to_string() { Ok(()) } else { Err(format!("{members}; {}", self.agent.log())) }
        })
    }

    pub(crate) fn federation(&self, what: &[&str]) -> Result<String> {
        let output = self.agent.ask(&[&["federation"], what].concat())?;
        ensure!(output.status.success(), "{what:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }
}

#[test]
fn calls_monitors_and_links_cross_between_clusters() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let [east, west] = clusters()?;
    east.serve()?;
    west.wait_members(1)?;
    assert_eq!(west.beam.nodes()?.len(), 0, "the clusters do not mesh");

    let called = west.beam.eval(
        "[P] = pg:get_members(orders), [] = pg:get_local_members(orders),
         {echoed, {hello, [1, 2.5, <<\"x\">>]}, Server, Caller} = gen_server:call(P, {echo, {hello, [1, 2.5, <<\"x\">>]}}),
         {node(P) =:= hd(nodes(hidden)), Server =:= P, Caller =:= self()}",
    )?;
    assert_eq!(called, "{true,true,true}", "a pid that travels there and back is the original");

    let large = west.beam.eval(
        "[P] = pg:get_members(orders), Large = binary:copy(<<7>>, 3000000),
         {echoed, Back, _, _} = gen_server:call(P, {echo, Large}, 20000), Back =:= Large",
    )?;
    assert_eq!(large, "true");

    // A plain send keeps its order, and a reference that is sent comes back.
    let order = west.beam.eval(
        "[P] = pg:get_members(orders), Ref = make_ref(),
         [P ! {forward, self(), {Ref, N}} || N <- lists:seq(1, 1000)],
         Got = [receive {Ref, N} -> N after 10000 -> late end || _ <- lists:seq(1, 1000)],
         Got =:= lists:seq(1, 1000)",
    )?;
    assert_eq!(order, "true");

    let down = west.beam.eval(
        "[P] = pg:get_members(orders), Monitor = monitor(process, P),
         Gone = spawn(fun() -> process_flag(trap_exit, true), link(P), receive {'EXIT', P, R} -> exit({linked, R}) end end),
         Watch = monitor(process, Gone), {echoed, _, _, _} = gen_server:call(P, {echo, 1}),
         ok = gen_server:call(P, stop),
         {receive {'DOWN', Monitor, process, P, Why} -> Why after 10000 -> late end,
          receive {'DOWN', Watch, process, Gone, Reason} -> Reason after 10000 -> late end}",
    )?;
    assert_eq!(down, "{stopped,{linked,stopped}}");
    west.wait_members(0)?;
    Ok(())
}

#[test]
fn a_gateway_that_dies_fires_what_hangs_on_it_and_one_that_returns_is_linked_again() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let [mut east, west] = clusters()?;
    east.serve()?;
    west.wait_members(1)?;
    west.beam.eval(
        "[P] = pg:get_members(orders), Test = self(),
         register(watcher, spawn(fun() -> M = monitor(process, P), Test ! ready,
             receive {'DOWN', M, process, P, Why} -> receive {ask, To} -> To ! {why, Why} end end end)),
         receive ready -> gen_server:call(P, {echo, 1}) end",
    )?;
    east.agent.kill9()?;
    west.wait_members(0)?;
    let why = west.beam.eval("watcher ! {ask, self()}, receive {why, Why} -> Why after 10000 -> late end")?;
    assert_eq!(why, "noconnection");

    east.agent = east.host.agent(binary()).arguments(&["agent", "--config", "metacluster.toml"]).start()?;
    west.wait_members(1)?;
    let called = west.beam.eval("element(1, gen_server:call(hd(pg:get_members(orders)), {echo, 1}))")?;
    assert_eq!(called, "echoed");
    Ok(())
}

#[test]
fn an_operator_sees_cuts_and_allows_a_cluster() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let [east, west] = clusters()?;
    east.serve()?;
    west.wait_members(1)?;
    let status = west.federation(&["status"])?;
    assert!(status.contains("east") && status.contains("up "), "{status}");
    let listed = west.agent.get("/v1/clusters")?;
    assert_eq!(listed["clusters"][1]["name"], "east", "{listed}");

    west.federation(&["cut", "east"])?;
    west.wait_members(0)?;
    let status = west.federation(&["status"])?;
    assert!(status.contains("cut"), "{status}");
    west.federation(&["allow", "east"])?;
    west.wait_members(1)?;
    let events = west.agent.ask(&["events", "--since", "0"])?;
    let events = String::from_utf8(events.stdout)?;
    for event in ["cluster_linked", "cluster_unlinked", "group_join", "group_leave"] {
        assert!(events.contains(event), "{event}: {events}");
    }
    Ok(())
}
