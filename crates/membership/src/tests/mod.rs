//! Machine scenarios on virtual time.

mod ending;
mod joining;
mod judging;
mod talking;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use metacluster_types::{AgentId, ClusterName, Instant, Place, Tags};

use crate::{
    ChangeKind, Description, Epoch, Identity, Input, LeaveProof, Membership, Notice, Output, Query, QueryId, Reply,
    Settings, Standing, StreamToken,
};

/// A packet takes so long.
const DELAY: Duration = Duration::from_millis(1);

struct Agent {
    machine: Membership,
    address: SocketAddr,
    /// Whether its process runs; one that does not neither hears nor speaks.
    runs: bool,
    told: Vec<(AgentId, ChangeKind)>,
    /// Batches that told of somebody down.
    batches: usize,
    notices: Vec<Notice>,
    /// User events that were delivered, by sender, number and name.
    events: Vec<(AgentId, u32, String)>,
    queries: Vec<Query>,
    replies: Vec<(QueryId, Reply)>,
    /// Answers every query with its payload.
    echoes: bool,
}

/// Agents on a network without loss. Streams are carried too.
struct Cluster {
    now: Instant,
    agents: Vec<Agent>,
    wires: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Input)>,
    streams: BTreeMap<StreamToken, (SocketAddr, crate::ExchangeId)>,
    sent: u64,
    /// Whether packets are lost; streams are not.
    udp_works: bool,
    /// Pairs between which nothing passes, in this direction.
    cuts: BTreeSet<(usize, usize)>,
}

fn id(number: usize) -> AgentId {
    AgentId(1000 + number as u128)
}

fn at(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(number).expect("few")], 45893))
}

fn description(name: &str, address: SocketAddr) -> Description {
    let (place, roles, tags) = (Place::default(), BTreeSet::new(), Tags::new());
    Description { name: name.to_owned(), address, place, roles, tags, state: Vec::new() }
}

fn machine(now: Instant, number: usize, epoch: u64, cluster: &str) -> Membership {
    placed(now, number, epoch, cluster, Place::default())
}

fn placed(now: Instant, number: usize, epoch: u64, cluster: &str, place: Place) -> Membership {
    let cluster = ClusterName::new(cluster).expect("a name");
    let proof = LeaveProof([u8::try_from(number).expect("few"); 16]);
    let identity = Identity { id: id(number), epoch: Epoch(epoch), cluster, proof };
    let described = Description { place, ..description(&format!("agent-{number}"), at(number)) };
    Membership::new(now, identity, described, Settings::lan(), number as u64).expect("it fits")
}

impl Cluster {
    /// So many agents that know the first.
    fn of(agents: usize) -> Self {
        Self::by(agents, |number| machine(Instant::ZERO, number, 1, "main"))
    }

    fn by(agents: usize, machine: impl Fn(usize) -> Membership) -> Self {
        let mut cluster = Self {
            now: Instant::ZERO,
            agents: Vec::new(),
            wires: BTreeMap::new(),
            streams: BTreeMap::new(),
            sent: 0,
            udp_works: true,
            cuts: BTreeSet::new(),
        };
        for number in 0..agents {
            cluster.add(machine(number), at(number));
        }
        for number in 1..agents {
            cluster.input(number, Input::Seeds(vec![at(0)]));
        }
        cluster
    }

    /// As [`Cluster::of`], once all know all.
    fn formed(agents: usize) -> Self {
        Self::of(agents).settled()
    }

    fn settled(mut self) -> Self {
        self.run(Duration::from_secs(5));
        let agents = self.agents.len();
        for agent in &mut self.agents {
            assert_eq!(agent.machine.live(), agents);
            agent.told.clear();
            agent.batches = 0;
        }
        self
    }

    fn add(&mut self, machine: Membership, address: SocketAddr) -> usize {
        self.agents.push(Agent {
            machine,
            address,
            runs: true,
            told: Vec::new(),
            batches: 0,
            notices: Vec::new(),
            events: Vec::new(),
            queries: Vec::new(),
            replies: Vec::new(),
            echoes: false,
        });
        self.agents.len() - 1
    }

    fn input(&mut self, number: usize, input: Input) {
        self.agents[number].machine.handle_input(self.now, input);
        self.drain(number);
    }

    fn drain(&mut self, number: usize) {
        while let Some(output) = self.agents[number].machine.poll_output(self.now) {
            let from = self.agents[number].address;
            match output {
                Output::Transmit { to, bytes } => {
                    // With what the seal, UDP and IPv6 add, it is shorter than what Ethernet and most tunnels carry.
                    assert!(bytes.len() <= Settings::lan().datagram_bytes_max, "{} bytes", bytes.len());
                    if self.udp_works {
                        self.wire(from, to, Input::Packet { from, bytes });
                    }
                }
                Output::Request { exchange, to, bytes } => {
                    self.sent += 1;
                    let stream = StreamToken(self.sent);
                    self.streams.insert(stream, (from, exchange));
                    self.wire(from, to, Input::StreamRequest { stream, bytes });
                }
                Output::Reply { stream, bytes } => {
                    if let Some((to, exchange)) = self.streams.remove(&stream) {
                        self.wire(from, to, Input::StreamReply { exchange, bytes });
                    }
                }
                Output::Close { stream } => {
                    if let Some((to, exchange)) = self.streams.remove(&stream) {
                        self.wire(from, to, Input::StreamFailed { exchange });
                    }
                }
                Output::View(changes) => {
                    let downs = changes.iter().any(|change| matches!(change.kind, ChangeKind::Down(_)));
                    self.agents[number].batches += usize::from(downs);
                    self.agents[number].told.extend(changes.iter().map(|change| (change.id, change.kind)));
                }
                Output::Notice(notice) => self.agents[number].notices.push(notice),
                Output::UserEvent(event) => {
                    self.agents[number].events.push((event.sender, event.sequence, event.name));
                }
                Output::Query(query) => {
                    let agent = &mut self.agents[number];
                    if agent.echoes {
                        agent.machine.answer(self.now, query.token, &query.payload).expect("it is open");
                    }
                    agent.queries.push(query);
                }
                Output::Replied { query, reply } => self.agents[number].replies.push((query, reply)),
            }
        }
    }

    fn wire(&mut self, from: SocketAddr, to: SocketAddr, input: Input) {
        self.sent += 1;
        self.wires.insert((self.now + DELAY, self.sent), (from, to, input));
    }

    fn owner(&self, address: SocketAddr) -> Option<usize> {
        self.agents.iter().position(|agent| agent.runs && agent.address == address)
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let deadlines = self.agents.iter().filter(|agent| agent.runs).filter_map(|a| a.machine.next_deadline());
            let wire = self.wires.first_key_value().map(|(&(at, _), _)| at);
            let Some(next) = deadlines.chain(wire).min().filter(|&next| next <= end) else { break };
            self.now = self.now.max(next);
            while let Some(entry) = self.wires.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (from, to, input) = entry.remove();
                if let Some(number) = self.owner(to)
                    && !self.owner(from).is_some_and(|sender| self.cuts.contains(&(sender, number)))
                {
                    self.input(number, input);
                }
            }
            for number in 0..self.agents.len() {
                let due = self.agents[number].machine.next_deadline().is_some_and(|due| due <= self.now);
                if self.agents[number].runs && due {
                    self.drain(number);
                }
            }
        }
        self.now = end;
    }

    /// Runs until it is so; gives the time that it took.
    fn until(&mut self, most: Duration, so: impl Fn(&Self) -> bool) -> Duration {
        let begin = self.now;
        while !so(self) {
            assert!(self.now.since(begin) < most, "not so after {most:?}");
            self.run(Duration::from_millis(20));
        }
        self.now.since(begin)
    }

    fn standing(&self, observer: usize, of: usize) -> Option<Standing> {
        self.agents[observer].machine.standing(id(of)).map(|(_, standing)| standing)
    }

    fn all_hold(&self, of: usize, standing: Standing) -> bool {
        let others = (0..self.agents.len()).filter(|&observer| observer != of && self.agents[observer].runs);
        others.into_iter().all(|observer| self.standing(observer, of) == Some(standing))
    }

    fn kinds(&self, observer: usize, of: usize) -> Vec<ChangeKind> {
        self.agents[observer].told.iter().filter(|(other, _)| *other == id(of)).map(|(_, kind)| *kind).collect()
    }
}
