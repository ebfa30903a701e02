//! The API over real sockets: a hand-written client, so that nothing is hidden.

mod answers;
mod events;
mod sockets;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use metacluster_types::{AgentId, ClusterName, EventKind, NodeName, Subject, TopologyName, WallClock, Zone};
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::*;
use crate::{
    config::{ApiConfig, HttpConfig},
    view::{
        AgentView, CandidateState, CandidateView, Counters, EpmdState, EpmdView, NodeKind, NodeState, NodeView,
        ReadinessView, TopologyState, TopologyView, View,
    },
};

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(30);

/// A served API, and the ends that the core would hold.
struct Api {
    folder: tempfile::TempDir,
    view: watch::Sender<Arc<View>>,
    log: EventLog,
    leaving: mpsc::Receiver<Leave>,
    server: Server,
}

impl Api {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = EventLog::new(ClusterName::new("main").expect("valid"), 100);
        let (view, receiver) = watch::channel(Arc::new(view()));
        let (leave, leaving) = mpsc::channel(1);
        let config = config(&folder.path().join("agent.sock"), Some("127.0.0.1:0"), true);
        let listeners = Listeners::bind(&config).await.expect("bound");
        assert!(listeners.warnings().is_empty());
        let server = listeners.serve(State::new(receiver, log.clone(), Arc::default(), leave));
        Self { folder, view, log, leaving, server }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    fn address(&self) -> SocketAddr {
        self.server.http_address().expect("HTTP")
    }

    async fn unix(&self, method: &str, path: &str) -> Reply {
        let stream = UnixStream::connect(self.socket()).await.expect("connected");
        ask(stream, &format!("{method} {path} HTTP/1.1\r\nHost: metacluster\r\n")).await
    }

    async fn tcp(&self, head: &str) -> Reply {
        let stream = TcpStream::connect(self.address()).await.expect("connected");
        ask(stream, head).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, status: u16) -> T {
        let reply = self.unix("GET", path).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.body);
        serde_json::from_str(&reply.body).unwrap_or_else(|error| panic!("{path}: {error}: {}", reply.body))
    }

    fn publish(&self, count: usize) {
        for _ in 0..count {
            let subject = Subject::node(node("a@h"));
            self.log.publish(EventKind::CandidateFound, subject, None, None).expect("published");
        }
    }
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

/// Sends a request and reads the whole answer. Bodies here have a length, so nothing is chunked.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, head: &str) -> Reply {
    let request = format!("{head}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    timeout(LONG, stream.read_to_end(&mut answer)).await.expect("answered in time").expect("read");
    let answer = String::from_utf8(answer).expect("a text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Reply { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

fn config(socket: &Path, http: Option<&str>, explicit: bool) -> ApiConfig {
    let http = http.map(|address| HttpConfig { address: address.parse().expect("an address"), explicit });
    ApiConfig { socket: socket.to_owned(), http }
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("valid")
}

/// A view with something of everything, and hostile texts where the network has a say.
fn view() -> View {
    let at = WallClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1));
    let cluster = ClusterName::new("main").expect("valid");
    let zone = |name: &str| Some(Zone::new(name).expect("valid"));
    let mut view = View::starting(AgentView {
        id: AgentId(7),
        names: vec![node("metacluster@h1")],
        version: "0.1.0".to_owned(),
        cluster: cluster.clone(),
        zone: zone("z1"),
        region: None,
        roles: Default::default(),
        tags: Default::default(),
        pid: 42,
        started_at: at,
        uptime_seconds: 0,
        epmd: EpmdView { state: EpmdState::Own, port: 4369, error: None },
        http: None,
        leaving: false,
        refused: std::collections::BTreeMap::new(),
    });
    let one = |name: &str, state, local| NodeView {
        name: node(name),
        kind: NodeKind::Beam,
        host: node(name).host().to_owned(),
        cluster: cluster.clone(),
        zone: zone("<b>&\"z"),
        region: None,
        state,
        connected: Vec::new(),
        otp: Some("25".to_owned()),
        local,
        since: Some(at),
        error: None,
    };
    view.nodes = vec![one("a@h1", NodeState::Up, true), one("b@h2", NodeState::Down, false)];
    view.nodes[1].error = Some("<script>alert(1)</script>".to_owned());
    view.topologies = vec![TopologyView {
        name: TopologyName::new("l\"an").expect("valid"),
        strategy: "static".to_owned(),
        state: TopologyState::Failing,
        prune: false,
        candidates: vec![CandidateView {
            node: node("b@h2"),
            place: Default::default(),
            state: CandidateState::Failing,
            attempts: 3,
            error: Some("refused".to_owned()),
        }],
        last_success: None,
        last_error: Some("no <answer>".to_owned()),
        changed_at: Some(at),
        changes: Vec::new(),
        held: None,
        notes: Vec::new(),
    }];
    view.readiness = ReadinessView {
        ready: false,
        nodes_up: 1,
        nodes_min: 2,
        missing: vec![node("b@h2")],
        reason: Some("1 of 2 nodes".to_owned()),
    };
    view.counters = Counters { links: 1, dials: 5, dials_failed: 3, drops: 0 };
    view
}
