//! Scenarios of the engine on virtual time.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use metacluster_types::{AgentId, ClusterName, Instant, NodeName, Place, Secret, SourceUpdate, Zone};

use super::{
    engine::{DATAGRAM_BYTES_MAX, Engine, Output, Rules, Verdict},
    ignored::Reason,
    packet::{About, Packet, Said},
    peers::PEERS_MAX,
    seal::Key,
};
use crate::Local;

const INTERVAL: Duration = Duration::from_secs(1);
const EXPIRE: Duration = Duration::from_secs(15);
const FROM: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a node")
}

fn local(agent: u128, nodes: &[&str]) -> Local {
    Local {
        agent: AgentId(agent),
        cluster: ClusterName::new("main").expect("a name"),
        place: Place { zone: Zone::new("a").ok(), region: None },
        nodes: nodes.iter().map(|name| node(name)).collect(),
        agents: BTreeSet::new(),
        port: None,
    }
}

fn libcluster(name: &str) -> Vec<u8> {
    Packet { said: Said::Heartbeat, node: node(name), about: None }.encode()
}

fn agents(said: Said, agent: u128, cluster: &str, name: &str) -> Vec<u8> {
    let cluster = ClusterName::new(cluster).expect("a name");
    let about = Some(About { agent: AgentId(agent), cluster, place: Place::default() });
    Packet { said, node: node(name), about }.encode()
}

/// An engine and its clock.
struct World {
    engine: Engine,
    now: Instant,
}

/// What an engine put out: heartbeats by node and time, and updates.
#[derive(Debug, Default)]
struct Seen {
    sent: Vec<(Instant, Packet)>,
    updates: Vec<SourceUpdate>,
    lines: Vec<String>,
}

impl Seen {
    fn found(&self) -> Vec<String> {
        let found = self.updates.iter().filter_map(|update| match update {
            SourceUpdate::Found(candidate) => Some(candidate.node.to_string()),
            SourceUpdate::Snapshot(_)
            | SourceUpdate::Hosts(_)
            | SourceUpdate::Lost(_)
            | SourceUpdate::Notes(_)
            | SourceUpdate::Failed(_) => None,
        });
        found.collect()
    }

    fn lost(&self) -> Vec<String> {
        let lost = self.updates.iter().filter_map(|update| match update {
            SourceUpdate::Lost(node) => Some(node.to_string()),
            SourceUpdate::Snapshot(_)
            | SourceUpdate::Hosts(_)
            | SourceUpdate::Found(_)
            | SourceUpdate::Notes(_)
            | SourceUpdate::Failed(_) => None,
        });
        lost.collect()
    }
}

impl World {
    /// Agent 1, open, with its first heartbeat sent.
    fn new(nodes: &[&str]) -> Self {
        let mut world = Self::unopened(nodes, false);
        world.engine.handle_open(world.now);
        world.drain();
        world
    }

    fn unopened(nodes: &[&str], restarted: bool) -> Self {
        let now = Instant::from_origin(Duration::from_secs(1000));
        let rules = Rules { key: None, interval: INTERVAL, expire: EXPIRE };
        Self { engine: Engine::new(now, rules, local(1, nodes), restarted, [7; 32]), now }
    }

    fn hear(&mut self, datagram: &[u8]) -> Seen {
        self.hear_from(FROM, datagram)
    }

    fn hear_from(&mut self, from: Ipv4Addr, datagram: &[u8]) -> Seen {
        self.engine.handle_datagram(self.now, from, datagram);
        self.drain()
    }

    fn drain(&mut self) -> Seen {
        let mut seen = Seen::default();
        while let Some(output) = self.engine.poll_output(self.now) {
            match output {
                Output::Send(datagram) => seen.sent.push((self.now, Packet::decode(&datagram).expect("our own"))),
                Output::Update(update) => seen.updates.push(update),
                Output::Report(line) => seen.lines.push(line),
            }
        }
        seen
    }

    /// Runs on, deadline by deadline.
    fn run(&mut self, time: Duration) -> Seen {
        let end = self.now + time;
        let mut seen = Seen::default();
        loop {
            let next = self.engine.next_deadline().filter(|&next| next <= end);
            self.now = next.unwrap_or(end);
            let Seen { sent, updates, lines } = self.drain();
            seen.sent.extend(sent);
            seen.updates.extend(updates);
            seen.lines.extend(lines);
            if next.is_none() {
                return seen;
            }
        }
    }
}

#[test]
fn the_first_heartbeat_goes_out_at_once_and_says_who_we_are() {
    let mut world = World::unopened(&["shop@h", "worker@h"], false);
    assert_eq!(world.drain().sent, [], "nothing before the socket is open");
    world.engine.handle_open(world.now);
    let seen = world.drain();
    let nodes: Vec<_> = seen.sent.iter().map(|(_, packet)| packet.node.as_str()).collect();
    assert_eq!(nodes, ["shop@h", "worker@h"], "one datagram a node");
    let about = seen.sent[0].1.about.clone().expect("details");
    assert_eq!((about.agent, about.cluster.as_str()), (AgentId(1), "main"));
    assert_eq!(about.place.zone, Zone::new("a").ok());
    assert_eq!(seen.updates, [SourceUpdate::Snapshot(vec![])]);
}

#[test]
fn heartbeats_keep_their_mean_and_their_bounds() {
    let mut world = World::new(&["shop@h"]);
    let times: Vec<Instant> = world.run(Duration::from_secs(1000)).sent.into_iter().map(|(at, _)| at).collect();
    assert!((900..1100).contains(&times.len()), "{} in 1,000 s", times.len());
    for pair in times.windows(2) {
        let gap = pair[1].since(pair[0]);
        assert!((INTERVAL / 2..=INTERVAL * 3 / 2).contains(&gap), "{gap:?}");
    }
}

#[test]
fn a_new_local_node_is_announced_at_once() {
    let mut world = World::new(&["shop@h"]);
    world.engine.handle_local(world.now, local(1, &["shop@h", "worker@h"]));
    assert_eq!(world.drain().sent.len(), 2);
    world.engine.handle_local(world.now, local(1, &["worker@h"]));
    assert_eq!(world.drain().sent, [], "one that is gone falls silent");
}

#[test]
fn a_newcomer_is_answered_within_50_ms() {
    for newcomer in [libcluster("new@x"), agents(Said::Heartbeat, 2, "main", "new@x")] {
        let mut world = World::new(&["shop@h"]);
        world.run(Duration::from_millis(100));
        let asked = world.now;
        assert_eq!(world.hear(&newcomer).found(), ["new@x"]);
        let answers = world.run(Duration::from_millis(50)).sent;
        assert_eq!(answers.len(), 1, "{asked:?}: {answers:?}");
        assert_eq!(world.hear(&newcomer).updates, [], "known by now");
        assert_eq!(world.run(Duration::from_millis(50)).sent, [], "and not answered again");
    }
}

#[test]
fn one_answer_serves_many_newcomers_and_answers_are_limited() {
    let mut world = World::new(&["shop@h"]);
    for at in 0..50 {
        world.engine.handle_datagram(world.now, FROM, &libcluster(&format!("n{at}@x")));
    }
    assert!(world.run(Duration::from_millis(50)).sent.len() <= 2, "an answer, and a heartbeat at most");

    let mut sent = 0;
    for at in 0..1000 {
        world.engine.handle_datagram(world.now, FROM, &libcluster(&format!("m{at}@x")));
        sent += world.run(Duration::from_millis(10)).sent.len();
    }
    // 10 s: at most 5 answers and 2 heartbeats a second, and the burst.
    assert!(sent <= 5 + 10 * (5 + 2), "{sent} datagrams in 10 s");
}

#[test]
fn who_was_silent_for_long_is_found_again_and_answered() {
    let mut world = World::new(&["shop@h"]);
    let peer = agents(Said::Heartbeat, 2, "main", "p@x");
    world.hear(&peer);
    world.run(Duration::from_millis(2900));
    assert_eq!(world.hear(&peer).updates, []);
    world.run(Duration::from_millis(3100));
    assert_eq!(world.hear(&peer).found(), ["p@x"], "a sign of life");

    let peer = libcluster("l@x");
    world.hear(&peer);
    world.run(Duration::from_secs(5));
    assert_eq!(world.hear(&peer).updates, [], "libcluster has such gaps");
}

#[test]
fn a_goodbye_counts_from_the_agent_alone() {
    let mut world = World::new(&["shop@h"]);
    world.hear(&agents(Said::Heartbeat, 2, "main", "p@x"));
    assert_eq!(world.hear(&agents(Said::Goodbye, 3, "main", "p@x")).updates, [], "another agent");
    assert_eq!(world.hear(&agents(Said::Goodbye, 2, "main", "q@x")).updates, [], "an unknown node");
    assert_eq!(world.hear(&agents(Said::Goodbye, 2, "main", "p@x")).lost(), ["p@x"]);
    assert_eq!(world.hear(&agents(Said::Goodbye, 2, "main", "p@x")).updates, [], "once");
    assert_eq!(world.hear(&agents(Said::Heartbeat, 2, "main", "p@x")).found(), ["p@x"], "back again");
}

#[test]
fn our_goodbye_names_every_local_node_and_is_no_heartbeat() {
    let mut world = World::new(&["shop@h", "worker@h"]);
    let goodbyes = world.engine.goodbye();
    assert_eq!(goodbyes.len(), 2);
    for goodbye in goodbyes {
        assert!(!goodbye.starts_with(b"heartbeat::"), "libcluster must not take it for one");
        assert_eq!(Packet::decode(&goodbye).expect("ours").said, Said::Goodbye);
    }
}

#[test]
fn a_peer_that_falls_silent_is_lost_after_a_while() {
    let mut world = World::new(&["shop@h"]);
    world.hear(&libcluster("p@x"));
    let begun = world.now;
    let mut lost = Vec::new();
    for _ in 0..16 {
        world.hear(&libcluster("q@x"));
        lost.extend(world.run(Duration::from_secs(1)).lost());
        assert!(lost.is_empty() || world.now.since(begun) > EXPIRE, "not before its time");
    }
    assert_eq!(lost, ["p@x"]);
}

#[test]
fn everyone_at_once_is_doubted_for_as_long_again() {
    let mut world = World::new(&["shop@h"]);
    world.hear(&libcluster("p@x"));
    world.hear(&libcluster("q@x"));
    assert_eq!(world.run(EXPIRE * 2 - Duration::from_secs(1)).lost(), [""; 0]);
    assert_eq!(world.run(Duration::from_secs(2)).lost(), ["p@x", "q@x"]);
}

#[test]
fn a_time_without_a_socket_or_at_a_standstill_makes_nobody_expire() {
    let mut world = World::new(&["shop@h"]);
    world.hear(&libcluster("p@x"));
    world.engine.handle_deaf(world.now);
    assert_eq!(world.run(Duration::from_secs(60)).updates, []);
    world.engine.handle_open(world.now);
    let seen = world.drain();
    assert!(matches!(&seen.updates[..], [SourceUpdate::Snapshot(peers)] if peers.len() == 1), "{seen:?}");
    assert_eq!(seen.sent.len(), 1, "and a heartbeat at once");

    world.now = world.now + Duration::from_secs(60);
    assert_eq!(world.drain().lost(), [""; 0], "the machine stood still");
    assert_eq!(world.run(EXPIRE + Duration::from_secs(1)).lost(), ["p@x"]);
}

#[test]
fn our_own_and_other_clusters_are_left_out() {
    let mut world = World::new(&["shop@h"]);
    for own in [libcluster("shop@h"), agents(Said::Heartbeat, 1, "main", "old@h")] {
        assert_eq!(world.engine.handle_datagram(world.now, FROM, &own), Verdict::Own);
    }
    assert_eq!(world.hear(&agents(Said::Heartbeat, 2, "other", "p@x")).updates, []);
    assert_eq!(world.engine.ignored().fresh(Reason::OtherCluster), 1);
}

#[test]
fn a_peer_that_becomes_a_local_node_is_no_peer_any_more() {
    let mut world = World::new(&[]);
    world.hear(&libcluster("shop@h"));
    world.engine.handle_local(world.now, local(1, &["shop@h"]));
    assert_eq!(world.drain().lost(), ["shop@h"]);
}

#[test]
fn details_are_kept_when_libcluster_speaks_for_the_same_node() {
    let mut world = World::new(&[]);
    world.hear(&agents(Said::Heartbeat, 2, "main", "p@x"));
    assert_eq!(world.hear(&libcluster("p@x")).updates, []);
    let SourceUpdate::Found(found) = world.hear(&agents(Said::Heartbeat, 3, "main", "p@x")).updates.remove(0) else {
        panic!("new details are told");
    };
    assert_eq!(found.agent, Some(AgentId(3)));
}

#[test]
fn the_host_of_a_peer_is_where_its_heartbeats_come_from() {
    let mut world = World::new(&[]);
    let told = |seen: Seen| {
        let last = seen.updates.into_iter().next_back();
        let Some(SourceUpdate::Found(found)) = last else { panic!("{last:?}") };
        found.host.addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let (agent, plain) = (agents(Said::Heartbeat, 2, "main", "p@no-such-name"), libcluster("l@x"));
    assert_eq!(told(world.hear(&agent)), ["10.0.0.9"]);
    assert_eq!(told(world.hear(&plain)), ["10.0.0.9"], "libcluster's host as well");
    let another = Ipv4Addr::new(10, 1, 0, 9);
    assert_eq!(told(world.hear_from(another, &agent)), ["10.0.0.9", "10.1.0.9"], "through another interface");
    assert_eq!(world.hear(&agent).updates, []);
    assert_eq!(world.hear_from(Ipv4Addr::LOCALHOST, &agent).updates, [], "says nothing to others");
    // It moved: where it was not heard from for long is forgotten.
    for _ in 0..=EXPIRE.as_secs() {
        world.run(Duration::from_secs(1));
        assert_eq!(world.hear_from(another, &agent).updates, []);
    }
    assert_eq!(told(world.hear_from(Ipv4Addr::new(10, 2, 0, 9), &agent)), ["10.1.0.9", "10.2.0.9"]);
    for last in 0..10 {
        world.hear_from(Ipv4Addr::new(10, 3, 0, last), &agent);
    }
    assert_eq!(told(world.hear_from(FROM, &agents(Said::Heartbeat, 3, "main", "p@no-such-name"))).len(), 4, "bounded");
}

#[test]
fn hostile_datagrams_change_nothing_and_are_told_once_a_minute() {
    let mut world = World::new(&["shop@h"]);
    let hostile: [&[u8]; 5] =
        [b"", b"heartbeat::", b"heartbeat::\x83t\xff\xff\xff\xff", &[0; DATAGRAM_BYTES_MAX + 1], b"goodbye::\x83a\x01"];
    for datagram in hostile {
        assert_eq!(world.hear(datagram).updates, []);
    }
    let lines = world.run(Duration::from_secs(50)).lines;
    assert_eq!(
        lines,
        ["ignored datagrams: 1 too long, 1 that are no heartbeats (sealed with a secret, or of another program), \
            2 with a broken term, 1 without a node's name (5 in all)"]
    );
    world.hear(b"rubbish");
    assert_eq!(world.run(Duration::from_secs(5)).lines, [""; 0]);
    assert_eq!(world.run(Duration::from_secs(60)).lines.len(), 1);
}

#[test]
fn a_flood_is_bounded_in_work_and_in_peers() {
    let mut world = World::new(&["shop@h"]);
    let mut names = BTreeSet::new();
    let mut read = 0;
    for at in 0..60_000 {
        world.now = world.now + Duration::from_micros(50);
        let verdict = world.engine.handle_datagram(world.now, FROM, &libcluster(&format!("n{at}@x")));
        read += usize::from(verdict == Verdict::Read);
        names.extend(world.drain().found());
    }
    // 3 s of 20,000 a second.
    assert!(read <= 10_000 + 3 * 5_000 + 1, "{read} were read");
    assert_eq!(names.len(), PEERS_MAX);
    assert!(world.engine.ignored().fresh(Reason::Full) > 0, "refused peers are counted");
    world.run(Duration::from_secs(1));
    let verdict = world.engine.handle_datagram(world.now, FROM, &libcluster("shop@h"));
    assert_eq!(verdict, Verdict::Own, "it reads again when the flood is over");
}

#[test]
fn a_run_that_was_begun_anew_waits_before_its_first_whole_answer() {
    let mut world = World::unopened(&["shop@h"], true);
    world.engine.handle_open(world.now);
    assert_eq!(world.drain().updates, []);
    world.hear(&libcluster("p@x"));
    assert_eq!(world.run(EXPIRE - Duration::from_secs(1)).updates, []);
    world.hear(&libcluster("p@x"));
    let seen = world.run(Duration::from_secs(2));
    assert!(matches!(&seen.updates[..], [SourceUpdate::Snapshot(peers)] if peers.len() == 1), "{seen:?}");
}

#[test]
fn a_secret_keeps_strangers_out() {
    let engine = |secret: Option<&[u8]>| {
        let key = secret.map(|secret| Key::derive(&Secret::new(secret)));
        let mut engine = Engine::new(
            Instant::ZERO,
            Rules { key, interval: INTERVAL, expire: EXPIRE },
            local(1, &["a@h"]),
            false,
            [1; 32],
        );
        engine.handle_open(Instant::ZERO);
        engine
    };
    let first = |mut engine: Engine| loop {
        match engine.poll_output(Instant::ZERO) {
            Some(Output::Send(datagram)) => return datagram,
            Some(Output::Update(_) | Output::Report(_)) => {}
            None => panic!("no heartbeat"),
        }
    };
    let (plain, ours, theirs) = (first(engine(None)), first(engine(Some(b"s3"))), first(engine(Some(b"s4"))));
    let key = Key::derive(&Secret::new(b"s3"));
    assert_eq!(key.open(&ours).map(|opened| Packet::decode(&opened)), Some(Packet::decode(&plain)));

    let mut receiver = engine(Some(b"s3"));
    for (datagram, verdict) in [(&ours, Verdict::Own), (&theirs, Verdict::Read), (&plain, Verdict::Read)] {
        assert_eq!(receiver.handle_datagram(Instant::ZERO, FROM, datagram), verdict);
    }
    assert_eq!(receiver.ignored().fresh(Reason::Sealed), 2);
    let mut without = engine(None);
    without.handle_datagram(Instant::ZERO, FROM, &ours);
    assert_eq!(without.ignored().fresh(Reason::Prefix), 1);
}
