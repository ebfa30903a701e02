//! The driver on loopback sockets.

mod hostile;

use std::{net::Ipv4Addr, time::Duration};

use metacluster_types::{Host, HostState, SourceUpdate, TopologyName};
use tempfile::TempDir;
use tokio::{net::UdpSocket, time::timeout};

use super::*;
use crate::{
    config::{Encryption, MembershipProfile},
    events::EventLog,
    talk::{Panel, Talk},
    view::MemberState,
};

const SOON: Duration = Duration::from_secs(60);

/// An agent's members, in a folder and on a port of their own.
struct Site {
    members: Members,
    folder: Option<TempDir>,
    id: AgentId,
}

struct Plan {
    cluster: &'static str,
    cookie: &'static str,
    encryption: Encryption,
    folder: TempDir,
    id: AgentId,
    host: &'static str,
    instance: Option<&'static str>,
}

impl Plan {
    fn new(id: u128) -> Self {
        Self {
            cluster: "main",
            cookie: "secret",
            encryption: Encryption::Required,
            folder: tempfile::tempdir().expect("a folder"),
            id: AgentId(id),
            host: "",
            instance: None,
        }
    }

    fn start(self) -> Site {
        self.start_with_log().0
    }

    /// As [`Plan::start`], with what it tells people.
    fn start_with_log(self) -> (Site, EventLog) {
        let agent = Agent {
            id: self.id,
            cluster: ClusterName::new(self.cluster).expect("valid"),
            cookie: Cookie::new(self.cookie),
            place: Place::default(),
            roles: BTreeSet::new(),
            tags: Tags::new(),
            node_name: "metacluster".to_owned(),
            host: Some(if self.host.is_empty() { format!("h{}", self.id.0) } else { self.host.to_owned() }),
            listen: None,
            state_dir: self.folder.path().to_owned(),
            started_at: WallClock::new(std::time::SystemTime::now()),
        };
        let config = MembershipConfig {
            enabled: true,
            listen: Some(Ipv4Addr::LOCALHOST.into()),
            port: Some(0),
            advertise: None,
            profile: MembershipProfile::Local,
            encryption: self.encryption,
            keys: Vec::new(),
            candidates: true,
            instance: self.instance.map(str::to_owned),
        };
        let ends = ends();
        let log = ends.log.clone();
        let members = Members::start(agent, config, ends).expect("it starts");
        (Site { members, id: self.id, folder: Some(self.folder) }, log)
    }
}

impl Site {
    fn at(&self) -> SocketAddr {
        self.members.view.borrow().members[0].address
    }

    fn told_of(&self, hosts: Vec<Host>) {
        let lan = TopologyName::new("lan").expect("valid");
        self.members.inlets.source(|sources| sources.update(&lan, &SourceUpdate::Hosts(hosts)));
    }

    fn seed(&self, others: &[&Self]) {
        self.told_of(others.iter().map(|other| host(other.at(), HostState::Running)).collect());
    }

    /// The next event that is of this kind.
    async fn told(&mut self, of: AgentId, change: MemberChange) -> MemberEvent {
        let wait = async {
            loop {
                let event = self.members.events.recv().await.expect("it runs");
                if event.id == of && event.change == change {
                    return event;
                }
            }
        };
        timeout(SOON, wait).await.unwrap_or_else(|_| panic!("{change:?} of {of} was not told"))
    }

    /// What the view says, once it says so.
    async fn shows(&mut self, what: &str, holds: impl FnMut(&MembersView) -> bool) {
        self.shows_within(SOON, what, holds).await;
    }

    async fn shows_within(&mut self, within: Duration, what: &str, mut holds: impl FnMut(&MembersView) -> bool) {
        let wait = self.members.view.wait_for(|view| holds(view));
        let shown = matches!(timeout(within, wait).await, Ok(Ok(_)));
        assert!(shown, "{what}: {:?}", self.members.view.borrow());
    }

    fn state(view: &MembersView, of: AgentId) -> Option<MemberState> {
        view.members.iter().find(|member| member.id == of).map(|member| member.state)
    }

    async fn leave(&self) {
        self.members.inlets.leave().await;
    }

    /// Ends without a word, and gives the folder back.
    fn crash(mut self) -> TempDir {
        self.folder.take().expect("it has one")
    }
}

fn host(at: SocketAddr, state: HostState) -> Host {
    Host { addresses: vec![at.ip()], port: Some(at.port()), state, ..Host::default() }
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("valid")
}

#[tokio::test]
async fn members_find_one_another_tell_of_their_nodes_and_of_a_leave() {
    let (mut one, mut two, mut three) = (Plan::new(1).start(), Plan::new(2).start(), Plan::new(3).start());
    two.seed(&[&one]);
    three.seed(&[&two]);
    for (site, others) in [(&mut one, [2, 3]), (&mut two, [1, 3]), (&mut three, [1, 2])] {
        site.shows("all are there", |view| {
            others.iter().all(|&other| Site::state(view, AgentId(other)) == Some(MemberState::Alive))
        })
        .await;
    }
    let nodes = LocalNodes { nodes: [node("shop@h1"), node("web@h1")].into(), links: 4, gateway: None };
    one.members.inlets.local(nodes.clone());
    let event = three.told(AgentId(1), MemberChange::NodesChanged).await;
    assert_eq!(event.nodes, nodes.nodes);
    assert_eq!(event.name, "metacluster@h1");

    two.leave().await;
    three.told(AgentId(2), MemberChange::Left(DownReason::Left)).await;
    one.told(AgentId(2), MemberChange::Left(DownReason::Left)).await;
    one.shows("it left", |view| Site::state(view, AgentId(2)) == Some(MemberState::Left)).await;
}

#[tokio::test]
async fn a_crash_is_told_and_the_next_boot_comes_back_from_its_snapshot() {
    let (mut one, mut two) = (Plan::new(1).start(), Plan::new(2).start());
    two.seed(&[&one]);
    two.told(AgentId(1), MemberChange::Joined).await;
    one.told(AgentId(2), MemberChange::Joined).await;
    let epoch = one.members.view.borrow().members.iter().find(|member| member.id == two.id).map(|member| member.epoch);
    // The snapshot holds the other by then, so no source has to tell of it.
    let path = two.folder.as_ref().expect("a folder").path().join("members.snapshot");
    let written = async {
        loop {
            let bytes = std::fs::read(&path).unwrap_or_default();
            let known = metacluster_membership::Snapshot::decode(&bytes).is_ok_and(|kept| kept.members.len() == 1);
            if known {
                return;
            }
            two.members.view.changed().await.expect("it runs");
        }
    };
    timeout(SOON, written).await.expect("the snapshot is written");
    let folder = two.crash();
    one.told(AgentId(2), MemberChange::Suspect).await;
    one.told(AgentId(2), MemberChange::Failed).await;
    let mut two = Plan { folder, ..Plan::new(2) }.start();
    one.told(AgentId(2), MemberChange::Joined).await;
    two.told(AgentId(1), MemberChange::Joined).await;
    let later = one.members.view.borrow().members.iter().find(|member| member.id == two.id).map(|member| member.epoch);
    assert!(later > epoch, "{later:?} after {epoch:?}");
}

#[tokio::test]
async fn strangers_are_counted_and_harm_nobody() {
    let (mut one, mut two) = (Plan::new(1).start(), Plan::new(2).start());
    let foreign = Plan { cluster: "other", ..Plan::new(3) }.start();
    let wrong_key = Plan { cookie: "other", ..Plan::new(4) }.start();
    let plain = Plan { encryption: Encryption::Off, ..Plan::new(5) }.start();
    two.seed(&[&one]);
    for stranger in [&foreign, &wrong_key, &plain] {
        stranger.seed(&[&one]);
    }
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let mut sent = 0;
    for length in [0, 1, 2, 40, 1_300, 2_048, 2_049, 9_000] {
        for first in [0, 1, 2, 255] {
            let mut bytes = vec![7; length];
            if let Some(byte) = bytes.first_mut() {
                *byte = first;
            }
            sent += socket.send_to(&bytes, one.at()).await.map_or(0, |_| 1);
        }
    }
    two.told(AgentId(1), MemberChange::Joined).await;
    one.shows("they are counted", |view| {
        let counters = view.counters;
        let refused = counters.malformed + counters.incompatible;
        counters.foreign > 0 && counters.wrong_key > 0 && counters.plain > 0 && refused >= sent
    })
    .await;
    let view = Arc::clone(&one.members.view.borrow());
    assert_eq!(view.members.iter().map(|member| member.id).collect::<Vec<_>>(), [AgentId(1), AgentId(2)]);
    assert_eq!(Site::state(&view, AgentId(2)), Some(MemberState::Alive));
}

#[tokio::test]
async fn what_the_provider_ended_leaves_and_its_address_can_be_used_again() {
    let mut one = Plan::new(1).start();
    let two = Plan { instance: Some("i-2"), ..Plan::new(2) }.start();
    two.seed(&[&one]);
    one.told(AgentId(2), MemberChange::Joined).await;
    let at = two.at();
    let ended = Host { instance: Some("i-2".to_owned()), ..host(at, HostState::Terminated) };
    drop(two.crash());
    one.told_of(vec![ended.clone()]);
    let event = one.told(AgentId(2), MemberChange::Left(DownReason::Provider)).await;
    assert_eq!(event.address, at);
    // Another agent where it was, while the source still tells of the one that ended.
    let three = Plan { instance: Some("i-3"), ..Plan::new(3) }.start();
    one.told_of(vec![ended, host(three.at(), HostState::Running)]);
    one.told(AgentId(3), MemberChange::Joined).await;
    one.shows("the new one is alive", |view| Site::state(view, AgentId(3)) == Some(MemberState::Alive)).await;
}

#[tokio::test]
async fn a_taken_port_is_an_error_when_it_was_asked_for() {
    let site = Plan::new(1).start();
    let (_packets, _tcp, taken) = socket::bind(Ipv4Addr::LOCALHOST.into(), 0).expect("a port");
    let plan = Plan::new(2);
    let agent = Agent {
        id: plan.id,
        cluster: ClusterName::new("main").expect("valid"),
        cookie: Cookie::new("x"),
        place: Place::default(),
        roles: BTreeSet::new(),
        tags: Tags::new(),
        node_name: "metacluster".to_owned(),
        host: None,
        listen: None,
        state_dir: plan.folder.path().to_owned(),
        started_at: WallClock::new(std::time::SystemTime::now()),
    };
    let config = MembershipConfig {
        enabled: true,
        listen: Some(taken.ip()),
        port: Some(taken.port()),
        advertise: None,
        profile: MembershipProfile::Lan,
        encryption: Encryption::Required,
        keys: Vec::new(),
        candidates: true,
        instance: None,
    };
    let error = Members::start(agent, config, ends()).err().expect("taken").to_string();
    assert!(error.contains("membership.port") && error.contains(&taken.to_string()), "{error}");
    drop(site);
}

/// Talk that nobody uses.
fn ends() -> TalkEnds {
    let (panel, answers) = Panel::new(&[]);
    let (_, wishes) = Talk::new();
    TalkEnds { wishes, answers, panel, log: EventLog::new(ClusterName::new("main").expect("a name"), 100) }
}
