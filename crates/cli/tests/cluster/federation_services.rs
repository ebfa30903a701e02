//! Services of several clusters: a key has one partition everywhere, its member is found by a call, and the directory
//! names them all. And what Phoenix sends over `pg` reaches the other cluster.

use std::time::Duration;

use anyhow::{Result, ensure};
use metacluster_testbed::{eventually, require};

use crate::{
    federation::{Cluster, clusters},
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

#[test]
fn a_join_a_leave_and_an_exit_are_known_in_the_other_cluster_within_a_tenth_of_a_second() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let [east, west] = clusters()?;
    east.serve()?;
    west.wait_members(1)?;
    // Both nodes read the clock of this machine.
    west.beam.eval(
        "register(watches, spawn(fun() -> {Ref, _} = pg:monitor(pg, orders),
            (fun Loop() -> receive {Ref, What, _, _} -> At = os:system_time(microsecond),
                receive {seen, What, To} -> To ! {seen, At} end, Loop() end end)() end))",
    )?;
    let time = |text: String| -> Result<u64> { Ok(text.trim().parse()?) };
    let seen =
        |what: &str| {
            time(west.beam.eval(&format!(
                "watches ! {{seen, {what}, self()}}, receive {{seen, At}} -> At after 20000 -> late end"
            ))?)
        };
    let mut took: [Vec<u64>; 3] = Default::default();
    for round in 0..20 {
        let joined = east.beam.eval(
            "Pid = spawn(fun() -> receive stop -> ok end end), register(joined, Pid),
             At = os:system_time(microsecond), ok = pg:join(orders, Pid), At",
        )?;
        took[0].push(seen("join")?.saturating_sub(time(joined)?));
        let ends = round % 2 == 1;
        let left = east.beam.eval(if ends {
            "Pid = whereis(joined), At = os:system_time(microsecond), exit(Pid, kill), At"
        } else {
            "Pid = whereis(joined), At = os:system_time(microsecond), ok = pg:leave(orders, Pid), unregister(joined), At"
        })?;
        took[1 + usize::from(ends)].push(seen("leave")?.saturating_sub(time(left)?));
    }
    // A machine that does much else delays any of them; a timer on the way would delay all.
    let quickest = took.map(|all| Duration::from_micros(all.into_iter().min().unwrap_or(u64::MAX)));
    println!("a join, a leave and an exit, the quickest of each: {quickest:?}");
    ensure!(quickest.iter().all(|took| *took <= KNOWN), "{quickest:?}");
    Ok(())
}
