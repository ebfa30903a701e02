//! The library: what it starts, tells and refuses, and what its stream says of a real node.

use std::{
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, SystemTime},
};

use metacluster::{
    Builder, Candidate, Cluster, Cookie, EventKind, Feed, NodeName, Notice, SourceUpdate, StartError, Strategy, Work,
};
use metacluster_testbed::{Child, Tool, free_port, require};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;

/// How long anything here may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Finds one node, and fails once it has.
struct One(NodeName);

impl Strategy for One {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move {
            feed.push(SourceUpdate::Found(Candidate::new(self.0.clone()))).await;
            feed.push(SourceUpdate::Failed("that was all".to_owned())).await;
            feed.stopped().await;
        })
    }
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a node")
}

/// A builder whose cluster disturbs nothing on this machine.
fn builder(folder: &tempfile::TempDir) -> Builder {
    let port = free_port().expect("a port");
    builder_at(folder, port)
}

fn builder_at(folder: &tempfile::TempDir, port: u16) -> Builder {
    Cluster::builder()
        .cookie(Cookie::new("secret"))
        .state_dir(folder.path())
        .set("epmd.addresses", "127.0.0.1")
        .set("host", "127.0.0.1")
        .epmd_port(port)
}

#[tokio::test]
async fn a_strategy_of_ones_own_is_heard_and_the_stream_ends_with_the_cluster() {
    let folder = tempfile::tempdir().expect("a folder");
    let builder = builder(&folder).cluster("shop").zone("a").strategy("mine", One(node("db@10.255.0.1")));
    let cluster = builder.start().await.expect("started");
    let mut events = cluster.events_since(0);
    let mut kinds = Vec::new();
    while kinds.len() < 2 {
        let notice = timeout(PATIENCE, events.next()).await.expect("in time");
        let Some(Notice::Event(event)) = notice else { panic!("{notice:?}") };
        assert_eq!(event.cluster.as_str(), "shop");
        assert_eq!(event.subject.topology.as_ref().map(ToString::to_string).as_deref(), Some("mine"));
        kinds.push(event.event);
    }
    assert_eq!(kinds, [EventKind::CandidateFound, EventKind::TopologyError]);
    let mut watch = cluster.watch();
    let view = timeout(PATIENCE, watch.wait_for(|view| !view.topologies.is_empty())).await.expect("in time");
    let view = Arc::clone(&view.expect("running"));
    let names: Vec<&str> = view.topologies.iter().map(|topology| topology.name.as_str()).collect();
    assert_eq!(names, ["members", "mine"], "the defaults are for who has nothing");
    assert!(!cluster.is_ready(), "there is no node here");
    assert!(cluster.nodes().iter().all(|node| !node.local));

    timeout(PATIENCE, cluster.leave()).await.expect("in time");
    while timeout(PATIENCE, events.next()).await.expect("in time").is_some() {}
}

#[tokio::test]
async fn all_faults_are_told_with_the_calls_that_made_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let builder = builder(&folder).cluster("").set("readiness.nodes_min", "many").topology("gossip:prot=1");
    let Err(StartError::Settings(faults)) = builder.start().await else { panic!("three faults") };
    let text = faults.to_string();
    for part in ["Builder::set(\"readiness.nodes_min\")", "prot", "did you mean `port`?"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let builder = builder(&folder).topology("static:nodes=a@h,name=mine").strategy("mine", One(node("b@h")));
    let Err(StartError::Topology(line)) = builder.start().await else { panic!("a fault") };
    assert!(line.contains("`mine`"), "{line}");
    assert!(std::fs::read_dir(folder.path()).expect("a folder").next().is_none(), "nothing was begun");
}

#[tokio::test]
async fn the_stream_tells_of_a_death_within_a_second_and_of_the_return() {
    if !require(&[Tool::Erl]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port().expect("a port");
    let cluster = builder_at(&folder, port).topology("local-epmd").start().await.expect("started");
    let mut events = cluster.events_since(0);
    let start = || {
        let mut erl = Command::new("erl");
        erl.args(["-noinput", "-name", "shop@127.0.0.1", "-setcookie", "secret"]);
        erl.env("ERL_EPMD_PORT", port.to_string()).env("HOME", folder.path());
        erl.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Child::spawn(&mut erl, "a node").expect("it starts")
    };
    let mut shop = start();
    for kind in [EventKind::NodeUp, EventKind::NodeDown, EventKind::NodeUp] {
        let killed = (kind == EventKind::NodeDown).then(|| {
            shop.kill9().expect("killed");
            SystemTime::now()
        });
        let told = loop {
            let notice = timeout(PATIENCE, events.next()).await.expect("in time");
            let Some(Notice::Event(event)) = notice else { panic!("{notice:?}") };
            if matches!(event.event, EventKind::NodeUp | EventKind::NodeDown) {
                break event;
            }
        };
        assert_eq!((told.event, told.subject.node.clone()), (kind, Some(node("shop@127.0.0.1"))));
        if let Some(killed) = killed {
            let late = told.at.as_system_time().duration_since(killed).unwrap_or_default();
            assert!(late < Duration::from_secs(1), "told after {late:?}");
            shop = start();
        }
    }
    timeout(PATIENCE, cluster.leave()).await.expect("in time");
}
