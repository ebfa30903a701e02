//! Three clusters with three cookies in a row: the ends know one another only through the one between, and what passes
//! through it can be called and monitored for as long as there is a way.

use std::time::Duration;

use anyhow::Result;
use metacluster_testbed::{Agent, Beam, Host, Network, eventually, require};

use crate::{
    federation::{folder, prove},
    support::{NEEDED, SOON, binary},
};

/// A link that brings nothing is dead by then, and what hangs on it has fired; a busy machine may add as much.
const FIRED: Duration = Duration::from_secs(6);

/// A gateway, a node with `pg`, and the host of both.
struct Cluster {
    beam: Beam,
    agent: Agent,
    host: Host,
}

impl Cluster {
    fn links(&self) -> Result<usize, String> {
        let answer = self.agent.get("/v1/federation").map_err(|error| format!("{error:#}"))?;
        let gateways = answer["gateways"].as_array().cloned().unwrap_or_default();
        Ok(gateways.iter().filter(|gateway| gateway["linked"] == true).count())
    }

    /// Waits until a group has a member of another cluster here.
    fn wait_member(&self, group: &str) -> Result<()> {
        eventually(SOON, &format!("{group} has a member"), || {
            let members = self.beam.eval(&format!("length(pg:get_members({group}))"));
            if matches!(members.as_deref(), Ok("1")) {
                Ok(())
            } else {
                Err(format!("{members:?} {}", self.agent.log()))
            }
        })?;
        Ok(())
    }

    /// Starts a server in this group: it answers `{echo, Term}` with the term and both pids as it sees them, makes links
    /// when told so, and keeps what it is sent until it is asked for it.
    fn serve(&self, group: &str) -> Result<()> {
        self.beam.eval(&format!(
            "Server = spawn(fun() -> process_flag(trap_exit, true), (fun Loop(Kept) -> receive
                {{'$gen_call', {{Caller, _}} = From, {{echo, Term}}}} ->
                    gen_server:reply(From, {{Term, self(), Caller}}), Loop(Kept);
                {{'$gen_call', From, stop}} -> gen_server:reply(From, ok), exit(stopped);
                {{'$gen_call', From, kept}} -> gen_server:reply(From, lists:reverse(Kept)), Loop([]);
                {{send, To, Term}} -> To ! Term, Loop(Kept);
                {{watch, Pid}} -> monitor(process, Pid), Loop(Kept);
                {{link, Pid}} -> link(Pid), Loop(Kept);
                Term -> Loop([Term | Kept]) end end)([]) end),
             ok = pg:join({group}, Server), register({group}, Server)"
        ))?;
        Ok(())
    }

    /// The monitor and the link of the client have fired, each once.
    fn wait_fired(&self) -> Result<Duration> {
        self.wait_one_of(
            "client",
            &["{down,noconnection}{exit,noconnection}", "{exit,noconnection}{down,noconnection}"],
        )
    }

    /// What the server here has kept, once it is this.
    fn wait_kept(&self, group: &str, wanted: &str) -> Result<Duration> {
        self.wait_one_of(group, &[wanted])
    }

    fn wait_one_of(&self, group: &str, wanted: &[&str]) -> Result<Duration> {
        let mut kept = String::new();
        eventually(FIRED, &format!("{group} has {wanted:?}"), || {
            let more = self.beam.eval(&format!(
                "[case Term of {{'DOWN', _, process, _, Why}} -> {{down, Why}}; {{'EXIT', _, Why}} -> {{exit, Why}};
                  _ -> Term end || Term <- gen_server:call({group}, kept)]"
            ));
            let more = more.map_err(|error| format!("{error:#}"))?;
            // Several at once, or one after the other.
            kept.push_str(&more.trim_matches(['[', ']']).replace("},{", "}{"));
            if wanted.contains(&kept.as_str()) { Ok(()) } else { Err(format!("{kept:?}")) }
        })
    }
}

/// `east`, `middle` and `west`: each end is linked to the middle.
fn row() -> Result<[Cluster; 3]> {
    let network = Network::new()?;
    let hosts: [Host; 3] = network.hosts()?;
    let names = ["east", "middle", "west"];
    for (host, name) in hosts.iter().zip(names) {
        prove(host, name)?;
    }
    let neighbours: [&[usize]; 3] = [&[1], &[0, 2], &[1]];
    let mut configs = Vec::new();
    for (place, host) in hosts.iter().enumerate() {
        let list = |of: &dyn Fn(&Host) -> String| {
            let all: Vec<String> = neighbours[place].iter().map(|&other| of(&hosts[other])).collect();
            format!("[{}]", all.join(", "))
        };
        configs.push(format!(
            "cluster = \"{}\"\nlisten = \"0.0.0.0:0\"\n\n[federation]\nidentity = {:?}\ntrust = {}\n\
             listen = \"0.0.0.0:4391\"\npeers = {}\n\n[[federation.export]]\nto = [\"*\"]\ngroups = [\"*\"]\n",
            names[place],
            folder(host).join("federation.pem"),
            list(&|other| format!("{:?}", folder(other).join("federation-ca.pem"))),
            list(&|other| format!("\"{}:4391\"", other.address())),
        ));
    }
    let mut clusters = Vec::new();
    for (host, config) in hosts.into_iter().zip(&configs) {
        let agent = host.agent(binary()).config(config)?.start()?;
        let beam = host.beam("shop").flags("-kernel start_pg true").spawn()?;
        clusters.push(Cluster { beam, agent, host });
    }
    for (cluster, neighbours) in clusters.iter().zip(neighbours) {
        cluster.beam.wait_ready()?;
        eventually(SOON, "each is linked to its neighbours", || match cluster.links()? {
            links if links == neighbours.len() => Ok(()),
            links => Err(format!("{links} links; {}", cluster.agent.log())),
        })?;
    }
    clusters.try_into().map_err(|_| anyhow::anyhow!("three"))
}

/// The one between makes the server known to the client.
const MEET: &str = "[Client] = pg:get_members(client), [Server] = pg:get_members(server), Client ! {meet, Server}";

/// The server of `west` is made known to the process `client` of `east` by the one between, and nobody else.
fn introduced() -> Result<[Cluster; 3]> {
    let [east, middle, west] = row()?;
    east.serve("client")?;
    west.serve("server")?;
    middle.wait_member("client")?;
    middle.wait_member("server")?;
    assert_eq!(east.beam.eval("pg:get_members(server)")?, "[]", "the ends are not linked");
    middle.beam.eval(MEET)?;
    let met = east.beam.eval(
        "[{meet, Server}] = (fun Loop() -> case gen_server:call(client, kept) of [] -> Loop(); Kept -> Kept end end)(),
         persistent_term:put(server, Server), node(Server) =:= hd(nodes(hidden))",
    )?;
    assert_eq!(met, "true", "it is a pid of the gateway");
    Ok([east, middle, west])
}

#[test]
fn a_process_of_a_third_cluster_is_called_monitored_and_linked_through_the_one_between() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let [east, _middle, west] = introduced()?;
    let called = east.beam.eval(
        "Server = persistent_term:get(server),
         {hello, Same, Me} = gen_server:call(Server, {echo, hello}), {Same =:= Server, Me =:= self()}",
    )?;
    assert_eq!(called, "{true,true}", "pids that travel to the third cluster and back are the originals");

    let order = east.beam.eval(
        "Server = persistent_term:get(server), Ref = make_ref(), Self = self(),
         [Server ! {send, Self, {Ref, N}} || N <- lists:seq(1, 1000)],
         [receive {Ref, N} -> N after 10000 -> late end || _ <- lists:seq(1, 1000)] =:= lists:seq(1, 1000)",
    )?;
    assert_eq!(order, "true");

    // The server watches the far client, and the client the server: each fires with its reason.
    east.beam.eval(
        "Server = persistent_term:get(server),
         Short = spawn(fun() -> receive stop -> exit(short) end end),
         Server ! {watch, Short}, {1, _, _} = gen_server:call(Server, {echo, 1}), Short ! stop,
         client ! {watch, Server}, client ! {link, Server}, gen_server:call(client, {echo, 1})",
    )?;
    west.wait_kept("server", "{down,short}")?;
    // A call behind the monitor: when it is answered, the monitor is there.
    east.beam.eval("Server = persistent_term:get(server), gen_server:call(Server, {echo, 2})")?;
    let stopped = east.beam.eval("gen_server:call(persistent_term:get(server), stop)")?;
    assert_eq!(stopped, "ok");
    east.wait_one_of("client", &["{down,stopped}{exit,stopped}", "{exit,stopped}{down,stopped}"])?;
    let dead = east.beam.eval(
        "{M, S} = {make_ref(), persistent_term:get(server)}, Monitor = monitor(process, S),
         {M, receive {'DOWN', Monitor, process, S, Why} -> Why after 10000 -> late end}",
    )?;
    assert!(dead.ends_with(",noproc}"), "{dead}");
    Ok(())
}

#[test]
fn a_way_through_a_third_cluster_that_is_lost_fires_what_hangs_on_it() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let [east, mut middle, west] = introduced()?;
    let watch = "Server = persistent_term:get(server), client ! {watch, Server}, client ! {link, Server},
                 gen_server:call(client, {echo, 1}), element(1, gen_server:call(Server, {echo, 2}))";
    assert_eq!(east.beam.eval(watch)?, "2");
    // The far half of the way goes first: the near half stays up and says so.
    west.host.cable().cut()?;
    let fired = east.wait_fired()?;
    println!("the far half was cut: fired after {fired:?}");
    let failed = east.beam.eval("catch gen_server:call(persistent_term:get(server), {echo, 3}, 3000)")?;
    let as_dead = ["noconnection", "noproc", "nodedown"].into_iter().any(|why| failed.contains(why));
    assert!(as_dead, "as to a dead node: {failed}");

    west.host.cable().heal()?;
    middle.wait_member("server")?;
    middle.beam.eval(MEET)?;
    let again = east.beam.eval(
        "[{meet, Server}] = (fun Loop() -> case gen_server:call(client, kept) of [] -> Loop(); Kept -> Kept end end)(),
         persistent_term:put(server, Server), element(1, gen_server:call(Server, {echo, 4}))",
    )?;
    assert_eq!(again, "4");
    assert_eq!(east.beam.eval(watch)?, "2");
    middle.agent.kill9()?;
    let fired = east.wait_fired()?;
    println!("the gateway between was killed: fired after {fired:?}");
    Ok(())
}
