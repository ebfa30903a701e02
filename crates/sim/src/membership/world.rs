//! The world: agents with their machines, addresses, zones and the network between them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use metacluster_membership::{
    Change, ChangeKind, Description, DownReason, Epoch, ExchangeId, Identity, Input, LeaveProof, Membership, Notice,
    Output, Snapshot, StreamToken,
};
use metacluster_types::{AgentId, ClusterName, Instant, Place, Tags, Zone};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    checks::{Checker, Violation},
    faults::{self, Fault},
    scenario::Scenario,
    talk::Talk,
};
use crate::{
    network::{HostId, Network},
    queue::Queue,
};

/// What UDP and IP add to a packet, and what sealing adds.
pub(crate) const PACKET_OVERHEAD: u64 = 28 + 20;
/// What a stream costs beside its bytes: handshake and end.
const STREAM_OVERHEAD: u64 = 7 * 40 + 20;
/// A socket's buffer holds so many packets while its process stands still.
const INBOX_MAX: usize = 2000;
pub(super) const CLUSTER: &str = "main";

/// What a process does first when it goes on after it stood still, and how much of it before it may stand still again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waking {
    /// All that is due and all that came, the one or the other first: a real process may see either.
    Whole,
    /// What is due, then so many of the packets that came; the rest waits in the socket until it stood still once more.
    /// So it is with a process that gets hardly any time.
    Starved(usize),
}

#[derive(Debug)]
pub(crate) enum Event {
    Boot(HostId),
    Wake { host: HostId, boot: u32, at: Instant },
    Input { to: SocketAddr, boot: Option<u32>, input: Input },
    Handle { host: HostId, boot: u32, input: Input },
    StreamRequest { to: SocketAddr, asker: (HostId, u32, ExchangeId), bytes: Vec<u8> },
    Resume { host: HostId, boot: u32 },
    Fault(Fault),
    Sample,
}

/// A host and the process on it, if one runs.
pub(crate) struct Host {
    pub(crate) id: AgentId,
    pub(crate) address: SocketAddr,
    pub(crate) boot: u32,
    pub(crate) machine: Option<(Membership, Checker)>,
    pub(super) wake_at: Option<Instant>,
    pub(super) paused: bool,
    inbox: VecDeque<Input>,
    pub(super) lag: Duration,
    /// By how much its clock is ahead of the world's.
    pub(super) ahead: Duration,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) sent: u64,
    /// What its processes before this one counted as skipped.
    pub(super) skipped: u64,
    /// Whether it left or was ended, and shall not come back as what it was.
    pub(crate) over: bool,
}

/// A member was told to be down somewhere.
#[derive(Clone, Copy, Debug)]
pub struct DownSeen {
    /// When.
    pub at: Instant,
    /// By the agent of this host.
    pub observer: u32,
    /// Of whom.
    pub member: AgentId,
    /// Why.
    pub reason: DownReason,
}

pub(crate) struct World<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) queue: Queue<Event>,
    pub(crate) network: Network,
    pub(crate) hosts: Vec<Host>,
    addresses: BTreeMap<SocketAddr, HostId>,
    streams: BTreeMap<StreamToken, (HostId, u32, ExchangeId, HostId)>,
    next_stream: u64,
    pub(super) ids: BTreeSet<AgentId>,
    pub(crate) quiet: bool,
    pub(crate) events: u64,
    pub(crate) downs: Vec<DownSeen>,
    pub(super) talk: Talk,
    /// Seeds that are given instead of those of the scenario.
    pub(crate) seeds: Option<Vec<SocketAddr>>,
    pub(crate) waking: Waking,
}

pub(crate) type Broken = (HostId, Violation);

pub(crate) fn address(number: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0001 + number), 45893))
}

impl<'a> World<'a> {
    pub(crate) fn new(scenario: &'a Scenario, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut queue = Queue::default();
        for number in 0..scenario.hosts {
            let at = rng.random_range(Duration::ZERO..=scenario.start_within);
            queue.push_at(
                Instant::from_origin(if number == 0 { Duration::ZERO } else { at }),
                Event::Boot(HostId(number)),
            );
        }
        for (at, fault) in faults::draw(scenario, &mut rng) {
            queue.push_at(at, Event::Fault(fault));
        }
        queue.push_after(Duration::from_secs(1), Event::Sample);
        let mut world = Self {
            scenario,
            network: Network::new(scenario.network.clone()),
            queue,
            hosts: Vec::new(),
            addresses: BTreeMap::new(),
            streams: BTreeMap::new(),
            next_stream: 0,
            ids: BTreeSet::new(),
            quiet: false,
            events: 0,
            downs: Vec::new(),
            talk: Talk::default(),
            seeds: None,
            waking: Waking::Whole,
            rng,
        };
        for number in 0..scenario.hosts {
            world.add_host(address(number));
        }
        world
    }

    pub(crate) fn add_host(&mut self, address: SocketAddr) -> HostId {
        let id = AgentId(self.rng.random());
        self.ids.insert(id);
        let host = HostId(u32::try_from(self.hosts.len()).unwrap_or(u32::MAX));
        self.hosts.push(Host {
            id,
            address,
            boot: 0,
            machine: None,
            wake_at: None,
            paused: false,
            inbox: VecDeque::new(),
            lag: Duration::ZERO,
            ahead: Duration::ZERO,
            snapshot: None,
            sent: 0,
            skipped: 0,
            over: false,
        });
        host
    }

    pub(crate) fn host(&mut self, host: HostId) -> &mut Host {
        &mut self.hosts[host.0 as usize]
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = (HostId, &Host, &Membership)> {
        (0..)
            .map(HostId)
            .zip(&self.hosts)
            .filter_map(|(number, host)| host.machine.as_ref().map(|(machine, _)| (number, host, machine)))
    }

    pub(super) fn description(&mut self, host: HostId, revision: u32) -> Description {
        let zones = self.scenario.zones.max(1);
        let address = self.host(host).address;
        let zone = Zone::new(&format!("zone-{}", host.0 % zones)).ok();
        let tags = Tags::from([("revision".to_owned(), revision.to_string())]);
        Description {
            name: format!("host-{}", host.0),
            address,
            place: Place { zone, region: None },
            roles: BTreeSet::new(),
            tags,
            state: Vec::new(),
        }
    }

    pub(crate) fn boot(&mut self, host: HostId) -> Result<(), Broken> {
        let now = self.queue.now();
        let at = self.host(host).address;
        let taken = self.addresses.get(&at).is_some_and(|&owner| self.hosts[owner.0 as usize].machine.is_some());
        if self.host(host).machine.is_some() || self.host(host).over || taken {
            return Ok(());
        }
        self.addresses.insert(at, host);
        let description = self.description(host, 0);
        let (seed, proof) = (self.rng.random(), LeaveProof(self.rng.random()));
        let state = self.host(host);
        state.boot += 1;
        state.paused = false;
        state.inbox.clear();
        state.wake_at = None;
        let at_least = Epoch(now.since_origin().as_secs());
        let epoch = state.snapshot.as_ref().map_or(at_least, |snapshot| snapshot.next_epoch(at_least));
        let id = state.id;
        let clock = now + state.ahead;
        let Ok(cluster) = ClusterName::new(CLUSTER) else { return Ok(()) };
        let identity = Identity { id, epoch, cluster, proof };
        let machine = Membership::new(clock, identity, description, self.scenario.settings.clone(), seed);
        let Ok(mut machine) = machine else { return Ok(()) };
        let mut seeds = self.draw_seeds(host);
        if let Some(snapshot) = &self.host(host).snapshot {
            machine.restore(clock, snapshot);
            seeds.extend(snapshot.addresses());
        }
        self.talk.booted(now, id);
        self.host(host).machine = Some((machine, Checker::new(id)));
        self.handle_input(host, Input::Seeds(seeds))
    }

    fn draw_seeds(&mut self, host: HostId) -> Vec<SocketAddr> {
        if let Some(seeds) = &self.seeds {
            return seeds.clone();
        }
        let hosts = self.scenario.hosts;
        if self.scenario.seeds == 0 || self.quiet {
            return self.hosts.iter().map(|host| host.address).collect();
        }
        let mut seeds = vec![address(0)];
        for _ in 1..self.scenario.seeds {
            seeds.push(address(self.rng.random_range(0..hosts)));
        }
        if host == HostId(0) {
            seeds.push(address(1 % hosts));
        }
        seeds
    }

    pub(crate) fn kill(&mut self, host: HostId) {
        let state = self.host(host);
        if let Some((machine, _)) = state.machine.take() {
            state.snapshot = Some(machine.snapshot());
            state.skipped += machine.counters().events_skipped;
        }
        state.wake_at = None;
    }

    /// Everything is up and discovery tells the truth; nothing fails any more.
    pub(crate) fn calm(&mut self) -> Result<(), Broken> {
        self.quiet = true;
        self.network.end_loss();
        let hosts: Vec<HostId> = self.running().map(|(host, _, _)| host).collect();
        for host in hosts {
            self.host(host).lag = Duration::ZERO;
            let seeds = self.draw_seeds(host);
            self.input(host, Input::Seeds(seeds))?;
        }
        Ok(())
    }

    pub(crate) fn handle(&mut self, event: Event) -> Result<(), Broken> {
        self.events += 1;
        match event {
            Event::Boot(host) => self.boot(host),
            Event::Wake { host, boot, at } => {
                let state = self.host(host);
                if state.boot != boot || state.wake_at != Some(at) || state.paused {
                    return Ok(());
                }
                state.wake_at = None;
                self.drain(host)
            }
            Event::Input { to, boot, input } => {
                let Some(&host) = self.addresses.get(&to) else { return Ok(()) };
                let state = self.host(host);
                let (current, lag) = (state.boot, state.lag);
                if boot.is_some_and(|boot| boot != current) {
                    return Ok(());
                }
                if lag > Duration::ZERO {
                    self.queue.push_after(lag, Event::Handle { host, boot: current, input });
                    return Ok(());
                }
                self.input(host, input)
            }
            Event::Handle { host, boot, input } => {
                if self.host(host).boot == boot {
                    self.input(host, input)
                } else {
                    Ok(())
                }
            }
            Event::StreamRequest { to, asker, bytes } => self.stream_request(to, asker, bytes),
            Event::Resume { host, boot } => self.resume(host, boot),
            Event::Fault(fault) => self.fault(fault),
            Event::Sample => {
                self.queue.push_after(Duration::from_secs(1), Event::Sample);
                // Ids that a liar made up are there too.
                let ids = self.ids.len();
                for (number, host) in (0..).zip(&mut self.hosts) {
                    if let Some((machine, checker)) = &mut host.machine {
                        checker.sample(machine, ids).map_err(|violation| (HostId(number), violation))?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Hands an input in, or keeps it while the process stands still.
    pub(crate) fn input(&mut self, host: HostId, input: Input) -> Result<(), Broken> {
        let state = self.host(host);
        if state.machine.is_none() {
            return Ok(());
        }
        if state.paused {
            if state.inbox.len() < INBOX_MAX {
                state.inbox.push_back(input);
            }
            return Ok(());
        }
        self.handle_input(host, input)
    }

    pub(super) fn handle_input(&mut self, host: HostId, input: Input) -> Result<(), Broken> {
        let now = self.queue.now();
        let state = self.host(host);
        let clock = now + state.ahead;
        if let Some((machine, _)) = &mut state.machine {
            machine.handle_input(clock, input);
        }
        self.drain(host)
    }

    /// Does what the machine says until it says nothing more.
    pub(super) fn drain(&mut self, host: HostId) -> Result<(), Broken> {
        let now = self.queue.now();
        let clock = now + self.host(host).ahead;
        while let Some(output) = self.host(host).machine.as_mut().and_then(|(machine, _)| machine.poll_output(clock)) {
            self.output(host, output)?;
        }
        let state = self.host(host);
        let Some((machine, checker)) = &mut state.machine else { return Ok(()) };
        checker.drained(clock, machine).map_err(|violation| (host, violation))?;
        if let Some(due) = machine.next_deadline() {
            let at = (due - state.ahead).max(now);
            if state.wake_at.is_none_or(|wake| at < wake) {
                state.wake_at = Some(at);
                let (boot, lag) = (state.boot, state.lag);
                if lag > Duration::ZERO {
                    state.wake_at = Some(at + lag);
                }
                self.queue.push_at(at + lag, Event::Wake { host, boot, at: at + lag });
            }
        }
        Ok(())
    }

    fn output(&mut self, host: HostId, output: Output) -> Result<(), Broken> {
        let now = self.queue.now();
        match output {
            Output::Transmit { to, bytes } => {
                self.host(host).sent += bytes.len() as u64 + PACKET_OVERHEAD;
                let from = self.host(host).address;
                self.transmit(host, from, to, bytes);
            }
            Output::Request { exchange, to, bytes } => {
                self.host(host).sent += bytes.len() as u64 + STREAM_OVERHEAD;
                let asker = (host, self.host(host).boot, exchange);
                let target = self.addresses.get(&to).copied();
                let delay = target.and_then(|target| self.stream_delay(host, target));
                if let Some(delay) = delay {
                    self.queue.push_after(delay, Event::StreamRequest { to, asker, bytes });
                }
            }
            Output::Reply { stream, bytes } => {
                self.host(host).sent += bytes.len() as u64;
                if let Some((asker, boot, exchange, _)) = self.streams.remove(&stream)
                    && let Some(delay) = self.stream_delay(host, asker)
                {
                    let (to, input) = (self.host(asker).address, Input::StreamReply { exchange, bytes });
                    self.queue.push_after(delay, Event::Input { to, boot: Some(boot), input });
                }
            }
            Output::Close { stream } => {
                if let Some((asker, boot, exchange, _)) = self.streams.remove(&stream)
                    && let Some(delay) = self.stream_delay(host, asker)
                {
                    let (to, input) = (self.host(asker).address, Input::StreamFailed { exchange });
                    self.queue.push_after(delay, Event::Input { to, boot: Some(boot), input });
                }
            }
            Output::View(changes) => self.changes(now, host, &changes)?,
            Output::Notice(notice) => self.notice(host, &notice),
            Output::UserEvent(event) => {
                let receiver = self.host(host).id;
                self.talk.delivered(receiver, &event).map_err(|violation| (host, violation))?;
            }
            Output::Query(query) => self.answer(host, &query),
            Output::Replied { query, reply } => {
                let asker = (self.host(host).id, self.host(host).boot);
                self.talk.replied(now, asker, query, &reply).map_err(|violation| (host, violation))?;
            }
        }
        Ok(())
    }

    fn changes(&mut self, now: Instant, host: HostId, changes: &[Change]) -> Result<(), Broken> {
        let clock = now + self.host(host).ahead;
        if let Some((_, checker)) = &mut self.host(host).machine {
            checker.changes(clock, changes).map_err(|violation| (host, violation))?;
        }
        for change in changes {
            if let ChangeKind::Down(reason) = change.kind {
                self.downs.push(DownSeen { at: now, observer: host.0, member: change.id, reason });
            }
        }
        Ok(())
    }

    fn notice(&mut self, host: HostId, notice: &Notice) {
        if *notice == Notice::LeaveTold {
            self.host(host).over = true;
            self.kill(host);
        } else if *notice == Notice::IdentityTaken {
            // The driver starts a member with a fresh id.
            let id = AgentId(self.rng.random());
            self.ids.insert(id);
            self.kill(host);
            let state = self.host(host);
            (state.id, state.snapshot) = (id, None);
            self.queue.push_after(Duration::from_millis(100), Event::Boot(host));
        }
    }

    pub(super) fn transmit(&mut self, host: HostId, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let Some(&target) = self.addresses.get(&to) else { return };
        let twice = self.scenario.duplicates_per_mille > 0
            && !self.quiet
            && self.rng.random_range(0..1000) < self.scenario.duplicates_per_mille;
        for _ in 0..=usize::from(twice) {
            if let Some(delay) = self.network.send(host, target, &mut self.rng) {
                let input = Input::Packet { from, bytes: bytes.clone() };
                self.queue.push_after(delay, Event::Input { to, boot: None, input });
            }
        }
    }

    /// How long one way of a stream takes: what is lost is sent again; `None` when a direction is cut.
    fn stream_delay(&mut self, from: HostId, to: HostId) -> Option<Duration> {
        if from != to && !self.network.connects(from, to) {
            return None;
        }
        let mut delay = Duration::ZERO;
        for attempt in 0..6 {
            if let (Some(there), Some(back)) =
                (self.network.send(from, to, &mut self.rng), self.network.send(to, from, &mut self.rng))
            {
                return Some(delay + there * 2 + back);
            }
            delay += Duration::from_millis(200) * 2_u32.pow(attempt);
        }
        None
    }

    fn stream_request(
        &mut self,
        to: SocketAddr,
        asker: (HostId, u32, ExchangeId),
        bytes: Vec<u8>,
    ) -> Result<(), Broken> {
        let Some(&host) = self.addresses.get(&to) else { return Ok(()) };
        if self.host(host).machine.is_none() {
            // Where the host lives without its agent, the refusal comes back; a dead host says nothing.
            return Ok(());
        }
        self.next_stream += 1;
        let stream = StreamToken(self.next_stream);
        self.streams.insert(stream, (asker.0, asker.1, asker.2, host));
        self.input(host, Input::StreamRequest { stream, bytes })
    }

    pub(crate) fn pause(&mut self, host: HostId, time: Duration) {
        let state = self.host(host);
        if state.machine.is_some() && !state.paused {
            state.paused = true;
            let boot = state.boot;
            self.queue.push_after(time, Event::Resume { host, boot });
        }
    }

    fn resume(&mut self, host: HostId, boot: u32) -> Result<(), Broken> {
        let (timers_first, packets) = match self.waking {
            Waking::Whole => (self.rng.random(), INBOX_MAX),
            Waking::Starved(packets) => (true, packets),
        };
        let state = self.host(host);
        if state.boot != boot || !state.paused {
            return Ok(());
        }
        state.paused = false;
        state.wake_at = None;
        let taken = state.inbox.len().min(packets);
        let inbox: Vec<Input> = state.inbox.drain(..taken).collect();
        if timers_first {
            self.drain(host)?;
        }
        for input in inbox {
            self.input(host, input)?;
        }
        self.drain(host)
    }
}
