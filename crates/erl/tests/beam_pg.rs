//! Process groups with the `pg` of real BEAM nodes.

mod common;

use common::{Beam, eval, has_erl, node, within};
use metacluster_erl::{
    Node, Process,
    node::Expect,
    pg::{Change, Changes, Scope},
    wire::{Pid, Term, term},
};

const PG: [&str; 3] = ["-kernel", "start_pg", "true"];

fn group(name: &'static str) -> Term {
    Term::atom(name)
}

async fn next(changes: &mut Changes) -> Change {
    within("a change of the group", changes.next()).await.expect("the scope lives")
}

fn joined(group: &Term, pids: impl IntoIterator<Item = Pid>) -> Change {
    Change::Joined { group: group.clone(), pids: pids.into_iter().collect() }
}

fn left(group: &Term, pids: impl IntoIterator<Item = Pid>) -> Change {
    Change::Left { group: group.clone(), pids: pids.into_iter().collect() }
}

fn pids(term: &Term) -> Vec<Pid> {
    let mut pids: Vec<Pid> =
        term.as_list().expect("a list").iter().map(|pid| pid.as_pid().expect("a pid").clone()).collect();
    pids.sort();
    pids
}

/// Waits until the BEAM node sees exactly these members.
async fn beam_sees(control: &Node, beam: &Beam, scope: &str, group: &Term, mut expected: Vec<Pid>) {
    expected.sort();
    within("the view of a BEAM node", async {
        loop {
            let seen = eval(control, &beam.name, &format!("pg:get_members({scope}, {group}).")).await;
            if pids(&seen) == expected {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Waits until our scope sees exactly these members.
async fn we_see(scope: &Scope, group: &Term, mut expected: Vec<Pid>) {
    expected.sort();
    let (mut seen, mut changes) = scope.monitor_group(group);
    within("our view", async {
        loop {
            seen.sort();
            if seen == expected {
                return;
            }
            changes.next().await.expect("the scope lives");
            seen = scope.members(group);
        }
    })
    .await;
}

async fn connect(node: &Node, beam: &Beam) {
    node.connect(beam.address, Expect::Exactly(beam.name.clone())).await.expect("a connection");
}

async fn spawned(control: &Node, beam: &Beam) -> Pid {
    eval(control, &beam.name, "spawn(fun() -> receive stop -> ok end end).").await.as_pid().expect("a pid").clone()
}

#[tokio::test]
async fn a_beam_and_we_are_in_the_same_groups() {
    if !has_erl() {
        return;
    }
    let epmd = common::epmd().await;
    let mut beam = Beam::start(&epmd, "group@127.0.0.1", &PG).await;
    let (control, _) = node("group_control@127.0.0.1").await;
    beam.join(&control).await;
    let (node, _) = node("member@127.0.0.1").await;
    let orders = group("orders");
    let theirs = spawned(&control, &beam).await;
    eval(&control, &beam.name, "pg:join(orders, whereis(init)).").await;
    let init = eval(&control, &beam.name, "whereis(init).").await.as_pid().expect("a pid").clone();

    // What is there before the connection comes with it, both ways.
    let scope = Scope::start(&node, "pg").expect("the name is free");
    assert!(Scope::start(&node, "pg").is_err(), "once a node");
    let (members, mut changes) = scope.monitor_group(&orders);
    assert!(members.is_empty());
    let mine = node.spawn();
    scope.join(&orders, mine.pid()).expect("it is ours");
    assert_eq!(next(&mut changes).await, joined(&orders, [mine.pid().clone()]));
    connect(&node, &beam).await;
    assert_eq!(next(&mut changes).await, joined(&orders, [init.clone()]));
    beam_sees(&control, &beam, "pg", &orders, vec![init.clone(), mine.pid().clone()]).await;

    // What changes then, both ways; a process twice.
    eval(&control, &beam.name, &format!("pg:join(orders, [{0}, {0}]).", local(&theirs))).await;
    assert_eq!(next(&mut changes).await, joined(&orders, [theirs.clone(), theirs.clone()]));
    eval(&control, &beam.name, &format!("pg:leave(orders, {}).", local(&theirs))).await;
    assert_eq!(next(&mut changes).await, left(&orders, [theirs.clone()]));
    scope.join(&orders, mine.pid()).expect("once more");
    beam_sees(
        &control,
        &beam,
        "pg",
        &orders,
        vec![init.clone(), theirs.clone(), mine.pid().clone(), mine.pid().clone()],
    )
    .await;
    assert!(scope.leave(&orders, mine.pid()));
    assert!(!scope.leave(&group("nothing"), mine.pid()));
    assert_eq!(scope.join(&orders, &theirs).unwrap_err().to_string(), format!("{theirs:?} is no process of this node"));
    beam_sees(&control, &beam, "pg", &orders, vec![init.clone(), theirs.clone(), mine.pid().clone()]).await;

    // A member that ends leaves.
    drop(mine);
    beam_sees(&control, &beam, "pg", &orders, vec![init.clone(), theirs.clone()]).await;
    eval(&control, &beam.name, &format!("exit({}, kill).", local(&theirs))).await;
    we_see(&scope, &orders, vec![init.clone()]).await;

    // A call that no scope knows does not end ours.
    let asked = eval(&control, &beam.name, "gen_server:call({pg, 'member@127.0.0.1'}, monitor).").await;
    assert_eq!(asked, term!({error, unknown_request}));

    // The scope process of the BEAM is restarted: ours finds the new one, and is found by it.
    let again = node.spawn();
    scope.join(&orders, again.pid()).expect("it is ours");
    beam_sees(&control, &beam, "pg", &orders, vec![init.clone(), again.pid().clone()]).await;
    eval(&control, &beam.name, "exit(whereis(pg), kill).").await;
    we_see(&scope, &orders, vec![again.pid().clone()]).await;
    beam_sees(&control, &beam, "pg", &orders, vec![again.pid().clone()]).await;

    // The last handle takes the members with it, and so does the end of a node.
    drop(scope);
    beam_sees(&control, &beam, "pg", &orders, vec![]).await;
    let scope = Scope::start(&node, "pg").expect("the name is free again");
    eval(&control, &beam.name, "pg:join(orders, whereis(init)).").await;
    we_see(&scope, &orders, vec![init]).await;
    beam.kill();
    we_see(&scope, &orders, vec![]).await;
    node.shutdown().await;
    control.shutdown().await;
}

/// A pid as an expression that its own node understands.
fn local(pid: &Pid) -> String {
    format!("list_to_pid(\"<0.{}.{}>\")", pid.id, pid.serial)
}

#[tokio::test]
async fn a_scope_that_starts_late_is_found() {
    if !has_erl() {
        return;
    }
    let epmd = common::epmd().await;
    let beam = Beam::start(&epmd, "late@127.0.0.1", &[]).await;
    let (node, _) = node("early@127.0.0.1").await;
    beam.join(&node).await;
    let scope = Scope::start(&node, "shop").expect("the name is free");
    let process = node.spawn();
    let tills = term!({tills, "north"});
    scope.join(&tills, process.pid()).expect("it is ours");
    eval(&node, &beam.name, "pg:start(shop).").await;
    beam_sees(&node, &beam, "shop", &tills, vec![process.pid().clone()]).await;
    node.shutdown().await;
}

/// Joins, leaves, ends and cut connections in an order that differs from run to run: both sides agree in the end, and the
/// scope process of the BEAM is the one that it was.
#[tokio::test]
async fn no_order_of_operations_ends_the_scope_of_a_beam() {
    if !has_erl() {
        return;
    }
    let epmd = common::epmd().await;
    let beam = Beam::start(&epmd, "fuzzed@127.0.0.1", &PG).await;
    let (control, _) = node("fuzz_control@127.0.0.1").await;
    beam.join(&control).await;
    let scope_process = eval(&control, &beam.name, "whereis(pg).").await;
    let (node, _) = node("fuzzer@127.0.0.1").await;
    let scope = Scope::start(&node, "pg").expect("the name is free");
    let groups = [group("red"), group("green"), group("blue")];
    let mut ours: Vec<Process> = Vec::new();
    let mut theirs: Vec<Pid> = Vec::new();
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut state = seed | 1;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize % below
    };
    for _ in 0..1_500 {
        let group = &groups[random(groups.len())];
        match random(16) {
            0 if ours.len() < 6 => ours.push(node.spawn()),
            1 if !ours.is_empty() => drop(ours.swap_remove(random(ours.len()))),
            2 => drop(node.disconnect(&beam.name)),
            3 | 4 => connect(&node, &beam).await,
            5 if theirs.len() < 6 => theirs.push(spawned(&control, &beam).await),
            6 if !theirs.is_empty() => {
                let pid = theirs.swap_remove(random(theirs.len()));
                eval(&control, &beam.name, &format!("exit({}, kill).", local(&pid))).await;
            }
            7 | 8 if !theirs.is_empty() => {
                let pid = local(&theirs[random(theirs.len())]);
                let verb = ["join", "leave"][random(2)];
                eval(&control, &beam.name, &format!("pg:{verb}({group}, {pid}).")).await;
            }
            9 => {
                // The BEAM cuts it.
                eval(&control, &beam.name, "erlang:disconnect_node('fuzzer@127.0.0.1').").await;
            }
            10 | 11 if !ours.is_empty() => drop(scope.leave(group, ours[random(ours.len())].pid())),
            12.. if !ours.is_empty() => {
                scope.join(group, ours[random(ours.len())].pid()).expect("it is ours");
            }
            _ => tokio::task::yield_now().await,
        }
    }
    connect(&node, &beam).await;
    for group in &groups {
        let there = eval(&control, &beam.name, &format!("pg:get_local_members({group}).")).await;
        we_see(&scope, group, [scope.local_members(group), pids(&there)].concat()).await;
        beam_sees(&control, &beam, "pg", group, scope.members(group)).await;
    }
    assert_eq!(eval(&control, &beam.name, "whereis(pg).").await, scope_process, "it never ended (seed {seed})");
    node.shutdown().await;
    control.shutdown().await;
}
