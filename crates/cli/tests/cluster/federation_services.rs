//! Services of several clusters: a key has one partition everywhere, its member is found by a call, and the directory
//! names them all. And what Phoenix sends over `pg` reaches the other cluster.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use metacluster_testbed::{Beam, Host, Network, eventually, eventually_value, require};

use crate::{
    federation::{Cluster, Nodes, clusters, clusters_of},
    support::{NEEDED, SOON},
};

/// Starts a member of each partition of `orders`, from 1 on, that answers its number and its cluster.
fn serve(cluster: &Cluster, partitions: u32) -> Result<()> {
    cluster.beam.eval(&format!(
        "[begin
            Pid = spawn(fun Loop() -> receive {{'$gen_call', From, who}} -> gen_server:reply(From, {{N, node()}}), Loop();
                                              stop -> ok end end),
            ok = pg:join({{orders, N}}, Pid), put(N, Pid) end || N <- lists:seq(1, {partitions})],
         register(members, spawn(fun() -> receive stop -> ok end end)), ok"
    ))?;
    Ok(())
}

/// Routes these keys; the partition and the node of who answered each.
fn route(cluster: &Cluster, keys: u32) -> Result<String> {
    cluster.beam.eval(&format!(
        "[Gateway] = nodes(hidden),
         [begin {{ok, Pid}} = gen_server:call({{metacluster, Gateway}}, {{route, orders, {{user, Key}}}}),
                gen_server:call(Pid, who) end || Key <- lists:seq(1, {keys})]"
    ))
}

fn wait_partitions(cluster: &Cluster, members: usize) -> Result<()> {
    eventually(SOON, "the service is known", || {
        let count = "[Gateway] = nodes(hidden),
                     lists:sum([length(Pids) || {_, Pids} <- gen_server:call({metacluster, Gateway}, {members, orders})])";
        let known = cluster.beam.eval(count).map_err(|error| format!("{error:#}"))?;
        if known == members.to_string() { Ok(()) } else { Err(format!("{known} members; {}", cluster.agent.log())) }
    })?;
    Ok(())
}

#[test]
fn a_key_is_routed_to_its_partition_and_a_near_member_goes_first() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let [east, west] = clusters()?;
    serve(&east, 4)?;
    wait_partitions(&west, 4)?;
    let far = route(&west, 40)?;
    assert_eq!(far, route(&east, 40)?, "the same members for the same keys, asked in either cluster");
    ensure!((1..=4).all(|partition| far.contains(&format!("{{{partition},"))), "all partitions serve: {far}");

    serve(&west, 4)?;
    wait_partitions(&west, 8)?;
    let near = route(&west, 40)?;
    let partitions = |text: &str| -> Vec<String> {
        text.split('{').skip(1).filter_map(|entry| entry.split(',').next()).map(str::to_owned).collect()
    };
    assert_eq!(partitions(&near), partitions(&far), "the partition of a key is the same");
    ensure!(!near.contains(east.beam.name()), "those of its own cluster go first: {near}");

    let output = west.agent.ask(&["services", "--json"])?;
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let partition = &listed["services"][0]["partitions"][0];
    assert_eq!(listed["services"][0]["name"], "orders", "{listed}");
    assert_eq!((&partition["members"]["east"], &partition["members"]["west"]), (&1.into(), &1.into()), "{listed}");
    let unknown =
        west.beam.eval("[Gateway] = nodes(hidden), gen_server:call({metacluster, Gateway}, {route, nothing, 1})")?;
    assert_eq!(unknown, "{error,no_member}");
    Ok(())
}

/// A join and a leave are known in the other cluster by then, beside what the link takes.
const KNOWN: Duration = Duration::from_millis(100);
/// What a slow link takes, one way.
const FAR: Duration = Duration::from_millis(80);

/// Rounds that are measured, and that are begun at most: one in which the link was lost says nothing.
const ROUNDS: usize = 20;
const BEGUN_MAX: usize = 60;

/// How often a link was lost so far.
fn lost(cluster: &Cluster) -> Result<usize> {
    let events = cluster.agent.ask(&["events", "--since", "0"])?;
    Ok(String::from_utf8(events.stdout)?.matches("cluster_unlinked").count())
}

/// How long joins, leaves and exits in `east` take to be known in `west`, each sorted.
fn changes(east: &Cluster, west: &Cluster) -> Result<[Vec<Duration>; 3]> {
    east.serve()?;
    // Both nodes read the clock of this machine.
    let watch = "catch unregister(watches), register(watches, spawn(fun() -> {Ref, _} = pg:monitor(pg, orders),
        (fun Loop() -> receive {Ref, What, _, _} -> At = os:system_time(microsecond),
            receive {seen, What, To} -> To ! {seen, At} end, Loop() end end)() end)), ok";
    let join = "catch unregister(joined), Pid = spawn(fun() -> receive stop -> ok end end), register(joined, Pid),
                At = os:system_time(microsecond), ok = pg:join(orders, Pid), At";
    let leave =
        "Pid = whereis(joined), At = os:system_time(microsecond), ok = pg:leave(orders, Pid), unregister(joined),
                 exit(Pid, kill), At";
    let exit = "Pid = whereis(joined), At = os:system_time(microsecond), exit(Pid, kill), At";
    let mut took: [Vec<Duration>; 3] = Default::default();
    for _ in 0..BEGUN_MAX {
        west.wait_members(1)?;
        let before = lost(west)?;
        west.beam.eval(watch)?;
        let took_of = |what: &str, does: &str| -> Result<Option<Duration>> {
            let begin: u64 = east.beam.eval(does)?.trim().parse()?;
            let seen = "receive {seen, At} -> At after 5000 -> late end";
            let end = west.beam.eval(&format!("watches ! {{seen, {what}, self()}}, {seen}"))?;
            Ok(end.trim().parse::<u64>().ok().map(|end| Duration::from_micros(end.saturating_sub(begin))))
        };
        let ends = took[2].len() < took[1].len();
        let round = [took_of("join", join)?, took_of("leave", if ends { exit } else { leave })?];
        let whole = lost(west)? == before;
        if let [Some(joined), Some(left)] = round
            && whole
        {
            took[0].push(joined);
            took[1 + usize::from(ends)].push(left);
        } else {
            ensure!(!whole, "{round:?}: {}", west.agent.log());
        }
        if took[0].len() == ROUNDS {
            took.iter_mut().for_each(|all| all.sort());
            return Ok(took);
        }
    }
    bail!("the link was lost in {} rounds: {}", BEGUN_MAX - took[0].len(), west.agent.log())
}

/// The quickest of each, the middle one of each, and both in words.
fn summary(took: &[Vec<Duration>; 3]) -> ([Duration; 3], [Duration; 3], String) {
    let quickest = took.each_ref().map(|all| all[0]);
    let middle = took.each_ref().map(|all| all[all.len() / 2]);
    let text = format!("a join, a leave and an exit: {quickest:?} the quickest of each, {middle:?} the middle one");
    (quickest, middle, text)
}

#[test]
fn a_join_a_leave_and_an_exit_are_known_in_the_other_cluster_within_a_tenth_of_a_second() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let [east, west] = clusters()?;
    // A machine that does much else delays any of them; a timer on the way would delay all.
    let (quickest, _, text) = summary(&changes(&east, &west)?);
    println!("{text}");
    ensure!(quickest.iter().all(|took| *took <= KNOWN), "{text}");
    Ok(())
}

/// Carries connections to the port 4391 of a host, and hands on what comes, either way, after [`FAR`].
fn slow(relay: &Beam, to: &Host) -> Result<()> {
    let [a, b, c, d] = to.address().octets();
    relay.eval(&format!(
        "Now = fun() -> erlang:monotonic_time(millisecond) end,
         Write = fun Loop(To) -> receive
             {{Due, Bytes}} -> receive after max(0, Due - Now()) -> ok end,
                 case Bytes of close -> gen_tcp:close(To); _ -> gen_tcp:send(To, Bytes), Loop(To) end end end,
         Read = fun Loop(From, Writer) -> case gen_tcp:recv(From, 0) of
             {{ok, Bytes}} -> Writer ! {{Now() + {far}, Bytes}}, Loop(From, Writer);
             {{error, _}} -> Writer ! {{Now() + {far}, close}} end end,
         Options = [binary, {{active, false}}, {{nodelay, true}}],
         spawn(fun() -> {{ok, Listener}} = gen_tcp:listen(4391, [{{reuseaddr, true}} | Options]),
             (fun Accept() ->
                 {{ok, One}} = gen_tcp:accept(Listener),
                 Keeper = spawn(fun() -> receive go -> ok end,
                     case gen_tcp:connect({{{a},{b},{c},{d}}}, 4391, Options, 5000) of
                         {{error, _}} -> gen_tcp:close(One);
                         {{ok, Other}} ->
                             Ways = [{{One, Other}}, {{Other, One}}],
                             [begin Writer = spawn_link(fun() -> Write(To) end), spawn_link(fun() -> Read(From, Writer) end)
                              end || {{From, To}} <- Ways],
                             receive stop -> ok end end end),
                 ok = gen_tcp:controlling_process(One, Keeper), Keeper ! go, Accept() end)() end), ok",
        far = FAR.as_millis()
    ))?;
    Ok(())
}

#[test]
fn over_a_slow_link_they_are_known_a_tenth_of_a_second_after_its_delay() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [east, west, between] = network.hosts()?;
    let relay = between.beam("relay").undistributed().spawn()?;
    slow(&relay, &east)?;
    let through = between.address().to_string();
    let nodes = Nodes { east: Some(&through), one_dials: true, ..Nodes::default() };
    let [east, west] = clusters_of(east, west, nodes)?;
    let (quickest, middle, text) = summary(&changes(&east, &west)?);
    println!("{FAR:?} each way: {text}");
    ensure!(quickest.iter().all(|took| *took <= FAR + KNOWN) && middle.iter().all(|took| *took >= FAR), "{text}");
    // There and back.
    let call = "[P | _] = pg:get_members(orders),
                case timer:tc(fun() -> catch gen_server:call(P, {echo, 1}, 20000) end) of
                    {Took, {echoed, _, _, _}} -> Took; {_, Other} -> Other end";
    let answered = eventually_value(SOON, "a call is answered", || {
        let answered = west.beam.eval(call).map_err(|error| format!("{error:#}"))?;
        answered.trim().parse().map(Duration::from_micros).map_err(|_| answered)
    })?;
    ensure!(answered >= FAR * 2, "the link takes {FAR:?} each way, and a call took {answered:?}");
    Ok(())
}
