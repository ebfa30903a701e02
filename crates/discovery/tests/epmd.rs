//! The strategies that ask epmds, against a real epmd server on the loopback interface.

use std::{collections::BTreeSet, fs, net::Ipv4Addr, path::Path, time::Duration};

use metacluster_discovery::{Local, Running, build, look_up, spawn, spec::Spec};
use metacluster_erl::{
    epmd::{Registered, Server, ServerOptions, register},
    wire::epmd::{NodeType, Registration},
};
use metacluster_types::{AgentId, ClusterName, NodeName, Place, SourceUpdate, TopologyName};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

/// How long anything here may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a node")
}

async fn epmd(port: u16) -> Server {
    Server::bind(ServerOptions::new(vec![(Ipv4Addr::LOCALHOST, port).into()])).await.expect("an epmd")
}

fn port_of(server: &Server) -> u16 {
    server.addresses()[0].port()
}

async fn registered(port: u16, name: &str) -> Registered {
    let address = (Ipv4Addr::LOCALHOST, port).into();
    register(address, Registration::new(name, 40_000, NodeType::Normal)).await.expect("registered")
}

struct Topology {
    _running: Running,
    local: watch::Sender<Local>,
    updates: mpsc::Receiver<(TopologyName, SourceUpdate)>,
}

impl Topology {
    fn start(spec: &str) -> Self {
        let spec: Spec = spec.parse().expect("a spec");
        let strategy = build(&spec.strategy, &spec.settings).expect("valid settings");
        let (sender, updates) = mpsc::channel(64);
        let (local, receiver) = watch::channel(local(&[]));
        let running = spawn(TopologyName::new("t").expect("a name"), strategy, receiver, sender);
        Self { _running: running, local, updates }
    }

    async fn next(&mut self) -> SourceUpdate {
        timeout(PATIENCE, self.updates.recv()).await.expect("an update in time").expect("a running strategy").1
    }

    async fn snapshot(&mut self) -> Vec<String> {
        match self.next().await {
            SourceUpdate::Snapshot(candidates) => candidates.iter().map(|found| found.node.to_string()).collect(),
            other @ (SourceUpdate::Found(_)
            | SourceUpdate::Hosts(_)
            | SourceUpdate::Notes(_)
            | SourceUpdate::Lost(_)
            | SourceUpdate::Failed(_)) => panic!("{other:?}"),
        }
    }

    async fn failure(&mut self) -> String {
        match self.next().await {
            SourceUpdate::Failed(line) => line,
            other @ (SourceUpdate::Found(_)
            | SourceUpdate::Hosts(_)
            | SourceUpdate::Notes(_)
            | SourceUpdate::Lost(_)
            | SourceUpdate::Snapshot(_)) => panic!("{other:?}"),
        }
    }
}

fn local(nodes: &[&str]) -> Local {
    Local {
        agent: AgentId(1),
        cluster: ClusterName::new("main").expect("a name"),
        place: Place::default(),
        nodes: nodes.iter().map(|name| node(name)).collect(),
        agents: BTreeSet::new(),
        port: None,
    }
}

#[tokio::test]
async fn a_host_gives_all_that_is_registered_but_agents() {
    let server = epmd(0).await;
    let port = port_of(&server);
    let _agents = (registered(port, "metacluster").await, registered(port, "metacluster-a").await);
    let shop = registered(port, "shop").await;
    let mut topology = Topology::start(&format!("epmd:hosts=127.0.0.1,epmd_port={port},interval=100ms"));
    assert_eq!(topology.snapshot().await, ["shop@127.0.0.1"]);
    let _worker = registered(port, "worker").await;
    assert_eq!(topology.snapshot().await, ["shop@127.0.0.1", "worker@127.0.0.1"]);
    drop(shop);
    assert_eq!(topology.snapshot().await, ["worker@127.0.0.1"]);
}

#[tokio::test]
async fn a_given_node_is_wanted_at_all_times_and_told_again_when_it_starts() {
    let server = epmd(0).await;
    let port = port_of(&server);
    let _other = registered(port, "other").await;
    let mut topology = Topology::start(&format!("epmd:nodes=shop@127.0.0.1,epmd_port={port},interval=1h"));
    assert_eq!(topology.snapshot().await, ["shop@127.0.0.1"], "before anything is known of it");

    let settings = format!("epmd:nodes=shop@127.0.0.1,hosts=127.0.0.1,epmd_port={port},interval=100ms");
    let mut topology = Topology::start(&settings);
    let found = |update| matches!(update, SourceUpdate::Found(found) if found.node == node("shop@127.0.0.1"));
    assert!(found(topology.next().await), "at once");
    assert_eq!(topology.snapshot().await, ["other@127.0.0.1", "shop@127.0.0.1"], "when the host was asked");
    let shop = registered(port, "shop").await;
    assert!(found(topology.next().await), "it was started");
    drop(shop);
    let _other = registered(port, "third").await;
    assert_eq!(topology.snapshot().await.len(), 3, "it stays wanted");
}

#[tokio::test]
async fn an_epmd_that_dies_takes_no_candidate_and_is_told_once() {
    let server = epmd(0).await;
    let port = port_of(&server);
    let shop = registered(port, "shop").await;
    let mut topology = Topology::start(&format!("epmd:hosts=127.0.0.1,epmd_port={port},interval=100ms"));
    assert_eq!(topology.snapshot().await, ["shop@127.0.0.1"]);
    drop(shop);
    server.shutdown().await;
    // The registration may be seen to end before the server does.
    let mut line = topology.next().await;
    if matches!(&line, SourceUpdate::Snapshot(none) if none.is_empty()) {
        line = topology.next().await;
    }
    let SourceUpdate::Failed(line) = line else { panic!("{line:?}") };
    assert!(line.contains("127.0.0.1") && line.contains("no epmd listens"), "{line}");

    let _server = epmd(port).await;
    let _shop = registered(port, "shop").await;
    while topology.snapshot().await != ["shop@127.0.0.1"] {}
}

#[tokio::test]
async fn one_silent_host_of_two_is_no_failure() {
    let server = epmd(0).await;
    let port = port_of(&server);
    let _shop = registered(port, "shop").await;
    // Nothing listens on 127.0.0.9.
    let mut topology = Topology::start(&format!("epmd:hosts=127.0.0.1,127.0.0.9,epmd_port={port},interval=100ms"));
    assert_eq!(topology.snapshot().await, ["shop@127.0.0.1"]);
}

#[tokio::test]
async fn names_of_this_host_are_the_nodes_that_the_agent_holds() {
    let server = epmd(0).await;
    let port = port_of(&server);
    let _both = (registered(port, "shop").await, registered(port, "worker").await);
    // So long an interval that only news of local nodes brings a question.
    let mut topology = Topology::start(&format!("local-epmd:epmd_port={port},interval=1h"));
    assert_eq!(topology.snapshot().await, [""; 0], "none is held");
    topology.local.send_replace(local(&["shop@10.0.0.4"]));
    assert_eq!(topology.snapshot().await, ["shop@10.0.0.4"], "worker may have another cookie");
    topology.local.send_replace(local(&["shop@10.0.0.4", "worker@web"]));
    assert_eq!(topology.snapshot().await, ["shop@10.0.0.4", "worker@web"]);

    let mut topology = Topology::start(&format!("local-epmd:epmd_port={port},host=h.example"));
    assert_eq!(topology.snapshot().await, ["shop@h.example", "worker@h.example"]);
}

#[tokio::test]
async fn one_look_up_of_this_host_needs_no_agent() {
    let server = epmd(0).await;
    let port = port_of(&server);
    let _shop = registered(port, "shop").await;
    let spec: Spec = format!("local-epmd:epmd_port={port}").parse().expect("a spec");
    let found =
        look_up(build(&spec.strategy, &spec.settings).expect("valid"), PATIENCE).await.expect("an answer").candidates;
    let names: BTreeSet<&str> = found.iter().map(|found| found.node.basename()).collect();
    assert_eq!(names, BTreeSet::from(["shop"]));
    drop(server);
    let failure = look_up(build(&spec.strategy, &spec.settings).expect("valid"), PATIENCE).await;
    assert!(failure.is_err_and(|line| line.contains("no epmd")), "nobody answers");
}

#[tokio::test]
async fn a_file_of_hosts_is_followed() {
    let server = epmd(0).await;
    let port = port_of(&server);
    let _shop = registered(port, "shop").await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(".hosts.erlang");
    let mut topology = Topology::start(&format!("erlang-hosts:path={},epmd_port={port}", path.display()));
    assert!(topology.failure().await.contains(".hosts.erlang"), "there is no file yet");
    write(&path, "% ours\n'127.0.0.1'.\n");
    assert_eq!(topology.snapshot().await, ["shop@127.0.0.1"]);
    write(&path, "'127.0.0.1'.\n'localhost'.\n");
    assert_eq!(topology.snapshot().await, ["shop@127.0.0.1", "shop@localhost"]);
    write(&path, "'127.0.0.1'.\nlocalhost\n");
    assert!(
        topology
            .failure()
            .await
            .ends_with(".hosts.erlang:2: `localhost` has no full stop after it: expected 'localhost'.")
    );
}

/// A file is never seen half written.
fn write(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("written");
    fs::rename(&new, path).expect("in place");
}
