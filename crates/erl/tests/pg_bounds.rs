//! Process groups between two nodes of ours whose queues and mailboxes are too small for what happens: what is lost is
//! said again, and both agree in the end.

mod common;

use common::{node_with, options, within};
use metacluster_erl::{
    Node, NodeOptions, Process,
    node::Expect,
    pg::{Change, JoinError, Scope},
    wire::{Pid, Term, term},
};

fn sorted(mut pids: Vec<Pid>) -> Vec<Pid> {
    pids.sort();
    pids
}

async fn same(one: &Scope, other: &Scope, group: &Term) {
    let (_, mut ones) = one.monitor_group(group);
    let (_, mut others) = other.monitor_group(group);
    within("the same members", async {
        while sorted(one.members(group)) != sorted(other.members(group)) {
            tokio::select! {
                _ = ones.next() => {}
                _ = others.next() => {}
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_lost_is_said_again() {
    let small = |name| NodeOptions { mailbox_messages_max: 4, queue_bytes_max: 2_000, ..options(name) };
    let (one, address) = node_with(small("one@127.0.0.1")).await;
    let (two, _) = node_with(small("two@127.0.0.1")).await;
    two.connect(address, Expect::Exactly(one.name().clone())).await.expect("a connection");
    let scopes = [Scope::start(&one, "pg").expect("free"), Scope::start(&two, "pg").expect("free")];
    let groups = [term!(red), term!({blue, 1})];
    let spawn = |node: &Node| -> Vec<Process> { (0..5).map(|_| node.spawn()).collect() };
    let processes = [spawn(&one), spawn(&two)];
    // They know each other before it begins.
    let marker = term!(marker);
    for (scope, processes) in scopes.iter().zip(&processes) {
        scope.join(&marker, processes[0].pid()).expect("it is ours");
    }
    for scope in &scopes {
        let (_, mut changes) = scope.monitor_group(&marker);
        while scope.members(&marker).len() < 2 {
            within("the marker", changes.next()).await;
        }
    }
    for round in 0..3_000_usize {
        for (scope, processes) in scopes.iter().zip(&processes) {
            let (group, process) = (&groups[round % 2], &processes[round % 5]);
            // Two steps forward, one back.
            if round % 3 == 2 {
                assert!(scope.leave(&groups[(round - 1) % 2], processes[(round - 1) % 5].pid()));
            } else {
                scope.join(group, process.pid()).expect("it is ours");
            }
        }
        if round % 500 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for group in &groups {
        assert!(!scopes[0].local_members(group).is_empty());
        same(&scopes[0], &scopes[1], group).await;
    }
    assert_eq!(scopes[0].groups(), scopes[1].groups());

    // A process that ended before it joined leaves at once.
    let gone = one.spawn();
    let pid = gone.pid().clone();
    drop(gone);
    let late = term!(late);
    let (_, mut changes) = scopes[0].monitor_group(&late);
    scopes[0].join(&late, &pid).expect("it was ours");
    assert_eq!(
        within("joined", changes.next()).await,
        Some(Change::Joined { group: late.clone(), pids: vec![pid.clone()] })
    );
    assert_eq!(within("left", changes.next()).await, Some(Change::Left { group: late.clone(), pids: vec![pid] }));

    // With its node a scope ends.
    one.shutdown().await;
    assert_eq!(scopes[0].join(&late, processes[0][0].pid()), Err(JoinError::Ended));
    for group in &groups {
        let (mut seen, mut changes) = scopes[1].monitor_group(group);
        while seen.iter().any(|pid| pid.node.as_str() == one.name().as_str()) {
            within("the end of a node", changes.next()).await.expect("the scope lives");
            seen = scopes[1].members(group);
        }
    }
    two.shutdown().await;
}
