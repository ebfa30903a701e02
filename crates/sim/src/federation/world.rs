//! The world: gateways, links that carry in order and with delay, and what processes do.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use metacluster_erl_wire::{Atom, Pid};
use metacluster_federation::{ExportRule, Federation, Limits, LinkId, Output, Settings, Times};
use metacluster_types::{AgentId, ClusterName, Instant, NodeName, Pattern, Place};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Process, Report, Sabotage, Scenario, Violation, figures::group, processes::Actor};
use crate::queue::Queue;

/// The kind of a frame that is a hello, and where the features stand in it.
const HELLO: u8 = 1;
const HELLO_FEATURES: std::ops::Range<usize> = 12..16;

/// The settings of a gateway: everything of the group `shop` is let out.
pub(super) fn settings(cluster: usize, number: usize, epoch: u64, identifiers_max: usize) -> Settings {
    let name = format!("c{cluster}");
    Settings {
        cluster: ClusterName::new(&name).expect("a name"),
        gateway: AgentId(cluster as u128 * 10 + number as u128 + 1),
        epoch,
        node: NodeName::new(&format!("gateway@{name}-{number}")).expect("a name"),
        place: Place::default(),
        creation: 10 + epoch as u32,
        reference_mark: 0x5104,
        exports: vec![ExportRule {
            to: vec![Pattern::new("*")],
            scope: "pg".to_owned(),
            groups: vec![Pattern::new("shop")],
        }],
        times: Times::default(),
        compress: false,
        limits: Limits { identifiers_max, identifiers_of_peer_max: identifiers_max, ..Limits::default() },
    }
}

/// Those of a gateway of this scenario.
fn settings_of(scenario: &Scenario, cluster: usize, number: usize, epoch: u64) -> Settings {
    let mut settings = settings(cluster, number, epoch, scenario.identifiers_max);
    if scenario.sabotage == Some(Sabotage::KeepPair) {
        settings.times.settled_after = Duration::from_secs(86_400);
    }
    settings
}

/// What happens at a time.
#[derive(Debug)]
pub(super) enum Event {
    /// Bytes arrive at the end of a link.
    Bytes(LinkId, Bytes),
    /// The end of a link is told that it has ended.
    Closed(LinkId),
    /// Two clusters are linked, if they are not.
    Link(usize, usize),
    /// A process does something.
    Act,
    /// A link is cut, or goes silent one way.
    Cut,
    /// A gateway is killed.
    Kill,
}

/// The end of a link.
#[derive(Debug)]
pub(super) struct End {
    at: usize,
    other: LinkId,
    /// When the last bytes that were sent to it arrive.
    arrives: Instant,
    /// What is sent to it is lost without a word.
    silent: bool,
}

/// A gateway.
pub(super) struct Gateway {
    /// Its cluster, and its number there.
    pub(super) at: usize,
    number: usize,
    pub(super) node: Atom,
    pub(super) machine: Federation,
    epoch: u64,
    /// Whom its pids stand for, in this life of it.
    pub(super) faces: BTreeMap<Pid, Process>,
    pub(super) published: Vec<Pid>,
}

/// A cluster.
pub(super) struct Cluster {
    pub(super) actors: Vec<Actor>,
    /// Links of a process to a far pid.
    pub(super) links: BTreeSet<(u32, Pid)>,
}

pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) rng: ChaCha8Rng,
    pub(super) queue: Queue<Event>,
    pub(super) clusters: Vec<Cluster>,
    pub(super) gateways: Vec<Gateway>,
    pub(super) ends: BTreeMap<LinkId, End>,
    pub(super) last_link: u64,
    pub(super) last_word: u32,
    pub(super) faulty: bool,
    pub(super) sabotaged: bool,
    pub(super) held: Option<(usize, Bytes, Option<Bytes>)>,
    pub(super) report: Report,
}

impl World {
    pub(super) fn new(seed: u64, scenario: &Scenario) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut queue = Queue::default();
        let clusters = (0..scenario.clusters).map(|at| {
            let actor = |number| {
                let node = format!("n{}@c{at}", number % 2);
                Actor::new(Process { cluster: at, number: number as u32 + 1 }, &node)
            };
            Cluster { actors: (0..scenario.processes).map(actor).collect(), links: BTreeSet::new() }
        });
        let clusters = clusters.collect();
        let gateways = (0..scenario.clusters * scenario.gateways).map(|place| {
            let (at, number) = (place / scenario.gateways, place % scenario.gateways);
            let settings = settings_of(scenario, at, number, 1);
            let node = Atom::from(&settings.node);
            let mut machine = Federation::new(settings, Instant::ZERO);
            nodes_up(&mut machine, at);
            Gateway { at, number, node, machine, epoch: 1, faces: BTreeMap::new(), published: Vec::new() }
        });
        let gateways = gateways.collect();
        let mut at = |milliseconds: u64| Instant::from_origin(Duration::from_millis(rng.random_range(0..milliseconds)));
        for _ in 0..scenario.actions {
            queue.push_at(at(60_000), Event::Act);
        }
        for _ in 0..scenario.cuts {
            queue.push_at(at(60_000), Event::Cut);
        }
        for kill in 1..=scenario.kills as u64 {
            // One after the other, each back before the next, where the order is held against all ways.
            let spaced = Instant::from_origin(Duration::from_secs(13 * kill));
            queue.push_at(if scenario.cuts == 0 { spaced } else { at(60_000) }, Event::Kill);
        }
        let mut world = Self {
            scenario: *scenario,
            rng,
            queue,
            clusters,
            gateways,
            ends: BTreeMap::new(),
            last_link: 0,
            last_word: 0,
            faulty: true,
            sabotaged: false,
            held: None,
            report: Report::default(),
        };
        world.link_all();
        world
    }

    pub(super) fn now(&self) -> Instant {
        self.queue.now()
    }

    pub(super) fn report(&self) -> Report {
        self.report
    }

    /// The time of faults.
    pub(super) fn play(&mut self) -> Result<(), Violation> {
        self.pass(Duration::from_secs(60))
    }

    /// The faults are over: groups are soon what they are elsewhere.
    pub(super) fn settle(&mut self, bound: Duration) -> Result<(), Violation> {
        // A link that lost bytes is never whole again, as a stream is not: it is found dead, and another one comes.
        self.faulty = false;
        self.pass(Duration::from_secs(5))?;
        self.link_all();
        self.pass(bound)?;
        for at in 0..self.clusters.len() {
            let mut published = Vec::new();
            for gateway in self.gateways.iter().filter(|gateway| gateway.at == at) {
                // Whom a member stands for is known from what it was announced as.
                published.extend(gateway.published.iter().map(|pid| gateway.faces.get(pid).copied()));
            }
            let count = published.len();
            let members: Vec<Process> = (0..self.clusters.len())
                .filter(|other| *other != at && (!self.scenario.chain || other.abs_diff(at) == 1))
                .flat_map(|other| self.clusters[other].actors.iter())
                .filter(|actor| actor.alive && actor.member)
                .map(|actor| actor.is)
                .collect();
            let known: Vec<Process> = published.into_iter().flatten().collect();
            let crowded = self.scenario.identifiers_max < 100;
            if !crowded && (count != members.len() || known.iter().any(|process| !members.contains(process))) {
                return Err(Violation::NotConverged { at, published: known, members });
            }
        }
        self.paired()
    }

    /// Both ways between two clusters go by the same two gateways.
    fn paired(&self) -> Result<(), Violation> {
        let linked = |one: usize, other: usize| !self.scenario.chain || other == one + 1;
        for one in 0..self.clusters.len() {
            for other in (one + 1..self.clusters.len()).filter(|other| linked(one, *other)) {
                let there = self.asked(one, other);
                let back: Vec<_> = self.asked(other, one).into_iter().map(|(asking, asked)| (asked, asking)).collect();
                // One of an earlier version is asked until it is lost.
                if there.len() != 1 || back.len() != 1 || (there != back && !self.scenario.mixed) {
                    return Err(Violation::OtherPair { one, other, there, back });
                }
            }
        }
        Ok(())
    }

    /// Which gateways of the one cluster ask which of the other, by number.
    fn asked(&self, one: usize, other: usize) -> Vec<(usize, usize)> {
        let mut asked = Vec::new();
        for gateway in self.gateways.iter().filter(|gateway| gateway.at == one) {
            for far in self.gateways.iter().filter(|far| far.at == other) {
                let id = far.machine.settings().gateway;
                let status = gateway.machine.status(self.now());
                if status.gateways.iter().any(|known| known.gateway == id && known.asked) {
                    asked.push((gateway.number, far.number));
                }
            }
        }
        asked
    }

    /// Every process ends: every monitor fires, and nothing is left.
    pub(super) fn end(&mut self) -> Result<(), Violation> {
        for at in 0..self.clusters.len() {
            for place in 0..self.clusters[at].actors.len() {
                self.exit(at, place)?;
            }
            self.pass(Duration::from_secs(10))?;
            // Those of the clusters behind still wait for it.
            for actor in self.clusters.iter().flat_map(|cluster| &cluster.actors) {
                if let Some((_, target)) = actor.monitors.values().find(|(_, target)| target.cluster <= at) {
                    return Err(Violation::NeverFired(actor.is, *target));
                }
            }
        }
        self.pass(Duration::from_secs(8_000))?;
        for gateway in &self.gateways {
            let sizes = gateway.machine.sizes();
            if sizes.far + sizes.own + sizes.watches > 0 || !gateway.published.is_empty() {
                return Err(Violation::Leftover { at: gateway.at, kept: sizes.far + sizes.own + sizes.watches });
            }
        }
        Ok(())
    }

    fn pass(&mut self, time: Duration) -> Result<(), Violation> {
        let until = self.now() + time;
        loop {
            self.drain()?;
            let due = self.gateways.iter().filter_map(|gateway| gateway.machine.next_deadline()).min();
            let due = due.filter(|due| *due <= until).map_or(until, |due| due.max(self.now()));
            match self.queue.pop_until(due) {
                Some(event) => self.handle(event)?,
                None => {
                    let now = self.now();
                    for gateway in &mut self.gateways {
                        if gateway.machine.next_deadline().is_some_and(|due| due <= now) {
                            gateway.machine.handle_timeout(now);
                        }
                    }
                    if now >= until {
                        return self.drain();
                    }
                }
            }
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), Violation> {
        let now = self.now();
        match event {
            Event::Bytes(link, bytes) => {
                if let Some(end) = self.ends.get(&link) {
                    self.gateways[end.at].machine.handle_link(now, link, &bytes);
                }
            }
            Event::Closed(link) => {
                if let Some(end) = self.ends.remove(&link) {
                    self.gateways[end.at].machine.link_closed(now, link);
                }
            }
            Event::Link(one, other) => self.link(one, other),
            Event::Act if self.faulty => self.act()?,
            Event::Cut if self.faulty => self.cut(),
            Event::Kill if self.faulty => self.kill()?,
            Event::Act | Event::Cut | Event::Kill => {}
        }
        Ok(())
    }

    fn link_all(&mut self) {
        for one in 0..self.gateways.len() {
            for other in one + 1..self.gateways.len() {
                let (here, there) = (self.gateways[one].at, self.gateways[other].at);
                if here != there && (!self.scenario.chain || there == here + 1) {
                    self.link(one, other);
                }
            }
        }
    }

    fn link(&mut self, one: usize, other: usize) {
        let linked = self.ends.values().any(|end| {
            let far = self.ends.get(&end.other).map(|end| end.at);
            end.at == one && far == Some(other)
        });
        if linked {
            return;
        }
        self.last_link += 2;
        let (here, there) = (LinkId(self.last_link), LinkId(self.last_link + 1));
        let now = self.now();
        self.ends.insert(here, End { at: one, other: there, arrives: now, silent: false });
        self.ends.insert(there, End { at: other, other: here, arrives: now, silent: false });
        self.gateways[one].machine.link_opened(now, here, None, true);
        self.gateways[other].machine.link_opened(now, there, None, false);
    }

    /// Cuts a link: at once for both ends, or with one way silent.
    fn cut(&mut self) {
        let links: Vec<LinkId> = self.ends.keys().copied().collect();
        let Some(&link) = links.get(self.rng.random_range(0..links.len().max(1))) else { return };
        if self.rng.random_bool(0.5) {
            if let Some(end) = self.ends.get_mut(&link) {
                end.silent = true;
            }
            return;
        }
        self.sever(link);
    }

    /// What is under way is lost; each end is told in its time.
    fn sever(&mut self, link: LinkId) {
        let Some(end) = self.ends.get_mut(&link) else { return };
        end.silent = true;
        let (at, other) = (end.at, end.other);
        let Some(far) = self.ends.get_mut(&other) else { return };
        far.silent = true;
        let to = far.at;
        for link in [link, other] {
            let wait = Duration::from_millis(self.rng.random_range(0..2_000));
            self.queue.push_after(wait, Event::Closed(link));
        }
        let wait = Duration::from_millis(self.rng.random_range(2_500..8_000));
        self.queue.push_after(wait, Event::Link(at, to));
    }

    /// A gateway is gone and comes back with nothing: its cluster's nodes fire what hung on its pids.
    fn kill(&mut self) -> Result<(), Violation> {
        let place = self.rng.random_range(0..self.gateways.len());
        let links: Vec<LinkId> = self.ends.iter().filter(|(_, end)| end.at == place).map(|(link, _)| *link).collect();
        for link in links {
            self.sever(link);
            self.ends.remove(&link);
        }
        let now = self.now();
        let gateway = &mut self.gateways[place];
        gateway.epoch += 1;
        let settings = settings_of(&self.scenario, gateway.at, gateway.number, gateway.epoch);
        gateway.machine = Federation::new(settings, now);
        nodes_up(&mut gateway.machine, gateway.at);
        gateway.faces.clear();
        gateway.published.clear();
        let cluster = &mut self.clusters[gateway.at];
        cluster.links.retain(|(_, far)| far.node != gateway.node);
        for actor in &mut cluster.actors {
            actor.watchers.retain(|(watcher, _)| watcher.node != gateway.node);
            // They fire, all of them.
            let fired = actor.monitors.extract_if(.., |_, (target, _)| target.node == gateway.node);
            fired.for_each(drop);
            actor.known.retain(|(pid, _)| pid.node != gateway.node);
            if actor.alive && actor.member {
                gateway.machine.local_joined(now, &group(), std::slice::from_ref(&actor.pid));
            }
        }
        Ok(())
    }

    pub(super) fn drain(&mut self) -> Result<(), Violation> {
        let now = self.now();
        for at in 0..self.gateways.len() {
            while let Some(output) = self.gateways[at].machine.poll_output() {
                match output {
                    Output::Transmit(link) => {
                        let mut bytes = BytesMut::new();
                        while let Some(piece) = self.gateways[at].machine.poll_transmit(now, link) {
                            bytes.extend_from_slice(piece.head.as_ref().map_or(&[][..], |head| head));
                            bytes.extend_from_slice(&piece.body);
                        }
                        self.carry(link, bytes.freeze());
                    }
                    Output::Close { link, farewell, .. } => {
                        self.carry(link, farewell);
                        self.sever(link);
                        self.ends.remove(&link);
                    }
                    Output::Deliver { control, payload, .. } => {
                        self.deliver(at, control, payload.map(|payload| payload.bytes()))?;
                    }
                    Output::Signal { control, payload, .. } => self.signal(at, control, payload)?,
                    Output::Publish { members, .. } => self.publish(at, members)?,
                    Output::Withdraw { mut members, .. } => {
                        if self.scenario.sabotage == Some(Sabotage::KeepMember) {
                            members.clear();
                        }
                        let published = &mut self.gateways[at].published;
                        for member in members {
                            if let Some(place) = published.iter().position(|known| *known == member) {
                                published.remove(place);
                            }
                        }
                    }
                    Output::Notice(_) => {}
                }
            }
            let sizes = self.gateways[at].machine.sizes();
            // Pids, ports and references, each.
            let max = 3 * self.scenario.identifiers_max;
            if sizes.far > max || sizes.own > max {
                return Err(Violation::TooMuchKept { kept: sizes.far.max(sizes.own), max });
            }
        }
        Ok(())
    }

    /// What a gateway says, as it is said where one end is of an earlier version.
    fn as_spoken(&self, at: usize, other: LinkId, bytes: Bytes) -> Bytes {
        let to = self.ends.get(&other).map(|end| end.at);
        let old = [Some(at), to].into_iter().flatten().any(|place| self.gateways[place].number == 1);
        if !self.scenario.mixed || !old || bytes.first() != Some(&HELLO) {
            return bytes;
        }
        let mut bytes = BytesMut::from(bytes);
        bytes[HELLO_FEATURES].fill(0);
        bytes.freeze()
    }

    /// Bytes go to the other end, behind those before.
    fn carry(&mut self, link: LinkId, bytes: Bytes) {
        let Some((at, other)) = self.ends.get(&link).map(|end| (end.at, end.other)) else { return };
        let bytes = self.as_spoken(at, other, bytes);
        let delay = Duration::from_micros(self.rng.random_range(100..80_000));
        let now = self.now();
        let Some(far) = self.ends.get_mut(&other) else { return };
        if far.silent || bytes.is_empty() {
            return;
        }
        self.report.carried += bytes.len() as u64;
        far.arrives = far.arrives.max(now + delay);
        // A stream is cut anywhere.
        let cut = self.rng.random_range(0..=bytes.len());
        let at = far.arrives;
        self.queue.push_at(at, Event::Bytes(other, bytes.slice(..cut)));
        self.queue.push_at(at, Event::Bytes(other, bytes.slice(cut..)));
    }
}

fn nodes_up(machine: &mut Federation, at: usize) {
    for node in 0..2 {
        machine.node_up(&NodeName::new(&format!("n{node}@c{at}")).expect("a name"));
    }
}
