//! The world: agents with their machines, nodes, sources and the network between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use metacluster_formation::{Formation, Input, Settings};
use metacluster_types::{AgentId, Candidate, Instant, NodeName, Pattern, SourceUpdate, TopologyName};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    beam::{Beams, Connection, LifeId, NameId},
    checks::{Checker, Violation},
    faults::{self, Fault, Lie},
    machine::Machine,
    members::{JUDGE_INTERVAL, Members},
    scenario::{Scenario, SourceKind},
};
use crate::{
    network::{HostId, Network},
    queue::Queue,
};

/// How long a dead node stays in a registry, at most.
const LINGER_MAX: Duration = Duration::from_secs(10);
/// How often sizes are checked.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) enum Event {
    Fault(Fault),
    /// Faults are over.
    Quiet,
    Sample,
    Wake {
        host: HostId,
        epoch: u32,
    },
    /// An agent connected to a local node.
    NodeSeen {
        host: HostId,
        epoch: u32,
        life: LifeId,
    },
    NodeMissed {
        host: HostId,
        epoch: u32,
        life: LifeId,
    },
    Deregister(NameId),
    Poll {
        host: HostId,
        epoch: u32,
        topology: usize,
    },
    Heartbeat {
        host: HostId,
        epoch: u32,
        topology: usize,
    },
    /// A strategy of an agent hears something.
    Hear {
        host: HostId,
        topology: usize,
        update: SourceUpdate,
    },
    /// A node reports a change of its connections.
    Notice {
        life: LifeId,
        peer: NameId,
        up: bool,
    },
    DialEnds {
        host: HostId,
        epoch: u32,
        local: LifeId,
        peer: NameId,
        target: Option<LifeId>,
        silent: bool,
    },
    Input {
        host: HostId,
        epoch: u32,
        input: Input,
    },
    /// An agent's check of a peer comes in.
    CheckEnds {
        host: HostId,
        epoch: u32,
        peer: NodeName,
        number: u32,
        alive: bool,
    },
    /// One end learns that a connection is gone.
    Reset {
        life: LifeId,
        held: Connection,
    },
    /// The ticks of a host's connections to hosts that it is cut off from run out.
    TicksOut {
        host: HostId,
    },
    /// The BEAM completes its mesh.
    MeshDial {
        one: LifeId,
        other: LifeId,
    },
    /// Every agent judges the others.
    Judge,
    /// By now every survivor must have been told of this death.
    Told {
        host: HostId,
        boot: u32,
    },
}

/// One topology's source, as one agent has it.
#[derive(Debug, Default)]
struct Source {
    lie: Option<Lie>,
    stale: Vec<NameId>,
}

pub(crate) struct Agent<M> {
    pub(crate) epoch: u32,
    pub(crate) machine: Option<(M, Checker)>,
    pub(crate) ready: BTreeSet<LifeId>,
    /// How many checks of each peer were begun: the outcome of the last one counts.
    pub(crate) checks: BTreeMap<NodeName, u32>,
    sources: Vec<Source>,
    wake_at: Option<Instant>,
}

/// One topology as the world has it.
struct Topology {
    name: TopologyName,
    lists: Vec<bool>,
}

pub(crate) struct World<'a, M, F> {
    pub(crate) scenario: &'a Scenario,
    new_machine: F,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) queue: Queue<Event>,
    pub(crate) network: Network,
    pub(crate) beams: Beams,
    pub(crate) agents: Vec<Agent<M>>,
    pub(crate) members: Members,
    topologies: Vec<Topology>,
    registered: Vec<bool>,
    quiet: bool,
    pub(crate) dials: u64,
    pub(crate) events: u64,
}

/// What went wrong where.
pub(crate) type Broken = (HostId, Violation);

impl<'a, M: Machine, F: FnMut(Settings, u64) -> M> World<'a, M, F> {
    pub(crate) fn new(scenario: &'a Scenario, seed: u64, new_machine: F) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut beams = Beams::default();
        let mut queue = Queue::default();
        let nodes = scenario.nodes();
        for number in 0..nodes {
            let host = number / scenario.nodes_per_host;
            let kind = if number % scenario.core_every.max(1) == 0 { "core" } else { "edge" };
            // One node of some worlds has a short name, and is never to be linked.
            let dot = if number == 4 && nodes > 10 { "" } else { "." };
            let name = format!("{kind}{number}@h{host}{dot}x");
            beams.add_name(NodeName::new(&name).expect("a name and a host"), HostId(host));
        }
        let names: Vec<NameId> = beams.names().collect();
        for &name in &names {
            let at = Instant::from_origin(rng.random_range(Duration::ZERO..=scenario.start_within));
            queue.push_at(at, Event::Fault(Fault::Start(name, beams.home(name))));
        }
        for (at, fault) in faults::draw(scenario, &names, &mut rng) {
            queue.push_at(at, Event::Fault(fault));
        }
        for host in 0..scenario.hosts {
            let at = Instant::from_origin(rng.random_range(Duration::ZERO..=scenario.start_within));
            queue.push_at(at, Event::Fault(Fault::StartAgent(HostId(host))));
        }
        queue.push_at(Instant::from_origin(scenario.faults.within), Event::Quiet);
        queue.push_after(SAMPLE_INTERVAL, Event::Sample);
        if scenario.membership {
            queue.push_after(JUDGE_INTERVAL, Event::Judge);
        }
        let topologies = scenario
            .topologies
            .iter()
            .map(|plan| {
                let lists = Pattern::new(plan.lists);
                Topology {
                    name: TopologyName::new(plan.name).expect("a name"),
                    lists: names.iter().map(|&name| lists.matches_node(beams.name(name))).collect(),
                }
            })
            .collect();
        let agents = (0..scenario.hosts)
            .map(|_| Agent {
                epoch: 0,
                machine: None,
                ready: BTreeSet::new(),
                checks: BTreeMap::new(),
                sources: scenario.topologies.iter().map(|_| Source::default()).collect(),
                wake_at: None,
            })
            .collect();
        Self {
            network: Network::new(scenario.network.clone()),
            registered: vec![false; names.len()],
            scenario,
            new_machine,
            rng,
            queue,
            beams,
            agents,
            members: Members::new(scenario.hosts),
            topologies,
            quiet: false,
            dials: 0,
            events: 0,
        }
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_micros(self.rng.random_range(least * 1_000..=most * 1_000))
    }

    fn agent(&mut self, host: HostId) -> &mut Agent<M> {
        &mut self.agents[host.0 as usize]
    }

    fn current(&self, host: HostId, epoch: u32) -> bool {
        let agent = &self.agents[host.0 as usize];
        agent.epoch == epoch && agent.machine.is_some()
    }

    pub(crate) fn handle(&mut self, event: Event) -> Result<(), Broken> {
        self.events += 1;
        match event {
            Event::Fault(fault) => self.on_fault(fault),
            Event::Quiet => {
                self.quiet = true;
                self.network.end_loss();
                Ok(())
            }
            Event::Sample => {
                self.queue.push_after(SAMPLE_INTERVAL, Event::Sample);
                self.sample()
            }
            Event::Wake { host, epoch } => {
                if !self.current(host, epoch) {
                    return Ok(());
                }
                // A wake-up for a deadline that moved comes all the same, and must be harmless.
                let now = self.queue.now();
                let agent = self.agent(host);
                agent.wake_at = agent.wake_at.filter(|&at| at != now);
                self.drain(host)
            }
            Event::NodeSeen { host, epoch, life } => self.on_node_seen(host, epoch, life),
            Event::NodeMissed { host, epoch, life } => self.on_node_missed(host, epoch, life),
            Event::Deregister(name) => {
                self.registered[name.0 as usize] &= self.beams.current(name).is_some();
                Ok(())
            }
            Event::Poll { host, epoch, topology } => self.on_poll(host, epoch, topology),
            Event::Heartbeat { host, epoch, topology } => {
                self.on_heartbeat(host, epoch, topology);
                Ok(())
            }
            Event::Hear { host, topology, update } => self.on_hear(host, topology, update),
            Event::Notice { life, peer, up } => self.on_notice(life, peer, up),
            Event::DialEnds { host, epoch, local, peer, target, silent } => {
                self.on_dial_ends(host, epoch, (local, peer, target), silent);
                Ok(())
            }
            Event::Input { host, epoch, input } => {
                if self.current(host, epoch) {
                    self.feed(host, input)
                } else {
                    Ok(())
                }
            }
            Event::CheckEnds { host, epoch, peer, number, alive } => {
                let last = self.agents[host.0 as usize].checks.get(&peer) == Some(&number);
                if self.current(host, epoch) && last {
                    self.feed(host, Input::PeerChecked { peer, alive })
                } else {
                    Ok(())
                }
            }
            Event::Reset { life, held } => {
                self.lose(life, held);
                Ok(())
            }
            Event::TicksOut { host } => {
                self.on_ticks_out(host);
                Ok(())
            }
            Event::MeshDial { one, other } => {
                self.establish(one, other);
                Ok(())
            }
            Event::Judge => {
                self.queue.push_after(JUDGE_INTERVAL, Event::Judge);
                self.judge()
            }
            Event::Told { host, boot } => self.everybody_was_told(host, boot),
        }
    }

    fn on_fault(&mut self, fault: Fault) -> Result<(), Broken> {
        match fault {
            Fault::Start(name, host) => self.start_node(name, host),
            Fault::Kill(name) => self.kill_node(name),
            Fault::Retire(name) => self.registered[name.0 as usize] = false,
            Fault::StopAgent(host) => self.stop_agent(host),
            Fault::StartAgent(host) => return self.start_agent(host),
            Fault::Cut(pairs) => self.cut(pairs),
            Fault::Heal(pairs) => self.heal(pairs),
            Fault::HostsDie(hosts) => self.hosts_die(&hosts),
            Fault::HostsBoot(hosts) => return self.hosts_boot(&hosts),
            Fault::Mute(host) => self.members.mute(host),
            Fault::Unmute(host) => self.members.unmute(host),
            Fault::Lie { host, topology, lie } => {
                let stale = if lie == Some(Lie::Stale) { self.listing(topology) } else { Vec::new() };
                self.agent(host).sources[topology] = Source { lie, stale };
            }
        }
        Ok(())
    }

    pub(crate) fn stop_agent(&mut self, host: HostId) {
        let agent = self.agent(host);
        agent.machine = None;
        agent.ready.clear();
        agent.epoch += 1;
        self.members.forget_view(host);
    }

    pub(crate) fn cut(&mut self, pairs: Vec<(HostId, HostId)>) {
        let mut ends = BTreeSet::new();
        for (from, to) in pairs {
            self.network.cut(from, to);
            ends.extend([from, to]);
        }
        for host in ends {
            let tick = self.scenario.tick_time;
            let wait = self.rng.random_range(tick * 3 / 4..=tick * 5 / 4);
            self.queue.push_after(wait, Event::TicksOut { host });
        }
    }

    pub(crate) fn heal(&mut self, pairs: Vec<(HostId, HostId)>) {
        let now = self.queue.now();
        let mut ends = BTreeSet::new();
        for (from, to) in pairs {
            if self.network.heal(from, to) {
                self.members.healed(now, from, to);
                ends.extend([from, to]);
            }
        }
        ends.into_iter().for_each(|host| self.reset_half_open(host));
    }

    pub(crate) fn start_node(&mut self, name: NameId, host: HostId) {
        if self.beams.current(name).is_some() || self.members.is_down(host) {
            return;
        }
        let life = self.beams.start(name, host);
        self.registered[name.0 as usize] = true;
        let (epoch, wait) = (self.agent(host).epoch, self.millis(10, 1_000));
        self.queue.push_after(wait, Event::NodeSeen { host, epoch, life });
    }

    pub(crate) fn kill_node(&mut self, name: NameId) {
        let Some(life) = self.beams.current(name) else { return };
        let host = self.beams.life(life).host;
        for held in self.beams.end(life) {
            self.closed_by(life, held);
        }
        let (epoch, wait) = (self.agent(host).epoch, self.millis(1, 5));
        self.queue.push_after(wait, Event::NodeMissed { host, epoch, life });
        let linger = self.rng.random_range(Duration::ZERO..=LINGER_MAX);
        self.queue.push_after(linger, Event::Deregister(name));
    }

    pub(crate) fn start_agent(&mut self, host: HostId) -> Result<(), Broken> {
        if self.agent(host).machine.is_some() || self.members.is_down(host) {
            return Ok(());
        }
        let seed = self.rng.random();
        let machine = (self.new_machine)(self.scenario.settings.clone(), seed);
        let mut checker = Checker::new(self.scenario.settings.clone());
        if self.scenario.nodes() > 500 {
            checker.skip_links();
        }
        let agent = self.agent(host);
        agent.machine = Some((machine, checker));
        agent.wake_at = None;
        let epoch = agent.epoch;
        for life in self.beams.alive_on(host) {
            let wait = self.millis(1, 50);
            self.queue.push_after(wait, Event::NodeSeen { host, epoch, life });
        }
        for (topology, plan) in self.scenario.topologies.iter().enumerate() {
            let rules = metacluster_formation::TopologyRules {
                prune: plan.prune,
                nodes: if plan.nodes == "*" { Vec::new() } else { vec![Pattern::new(plan.nodes)] },
                ..metacluster_formation::TopologyRules::default()
            };
            self.feed(host, Input::TopologyAdded { name: self.topologies[topology].name.clone(), rules })?;
            let event = match plan.kind {
                SourceKind::Poll { .. } => Event::Poll { host, epoch, topology },
                SourceKind::Gossip { .. } => Event::Heartbeat { host, epoch, topology },
            };
            let wait = self.millis(1, 50);
            self.queue.push_after(wait, event);
        }
        Ok(())
    }

    fn on_node_seen(&mut self, host: HostId, epoch: u32, life: LifeId) -> Result<(), Broken> {
        if !self.current(host, epoch) || !self.beams.life(life).alive || !self.agent(host).ready.insert(life) {
            return Ok(());
        }
        let local = self.beams.name(self.beams.life(life).name).clone();
        let peers: Vec<NameId> = self.beams.life(life).view.keys().copied().collect();
        for peer in peers {
            let peer = self.beams.name(peer).clone();
            self.feed(host, Input::LinkUp { local: local.clone(), peer })?;
        }
        self.feed(host, Input::LocalReady { node: local })
    }

    fn on_node_missed(&mut self, host: HostId, epoch: u32, life: LifeId) -> Result<(), Broken> {
        if !self.current(host, epoch) || !self.agent(host).ready.remove(&life) {
            return Ok(());
        }
        let node = self.beams.name(self.beams.life(life).name).clone();
        for (topology, plan) in self.scenario.topologies.iter().enumerate() {
            if matches!(plan.kind, SourceKind::Gossip { .. }) {
                self.tell_others(host, topology, &SourceUpdate::Lost(node.clone()));
            }
        }
        self.feed(host, Input::LocalGone { node })
    }

    /// The names that a registry has.
    fn listing(&self, topology: usize) -> Vec<NameId> {
        let lists = &self.topologies[topology].lists;
        self.beams.names().filter(|name| lists[name.0 as usize] && self.registered[name.0 as usize]).collect()
    }

    fn on_poll(&mut self, host: HostId, epoch: u32, topology: usize) -> Result<(), Broken> {
        let SourceKind::Poll { interval } = self.scenario.topologies[topology].kind else { return Ok(()) };
        if !self.current(host, epoch) {
            return Ok(());
        }
        let wait = self.rng.random_range(interval * 3 / 4..=interval * 5 / 4);
        self.queue.push_after(wait, Event::Poll { host, epoch, topology });
        let mut names = self.listing(topology);
        match self.agent(host).sources[topology].lie {
            None => {}
            Some(Lie::Failing) => {
                return self.source(host, topology, SourceUpdate::Failed("the registry does not answer".to_owned()));
            }
            Some(Lie::Empty) => names.clear(),
            Some(Lie::Partial) => names.retain(|_| self.rng.random_range(0..10) < 4),
            Some(Lie::Stale) => names.clone_from(&self.agent(host).sources[topology].stale),
        }
        let candidates = names.into_iter().map(|name| Candidate::new(self.beams.name(name).clone())).collect();
        self.source(host, topology, SourceUpdate::Snapshot(candidates))
    }

    fn source(&mut self, host: HostId, topology: usize, update: SourceUpdate) -> Result<(), Broken> {
        let topology = self.topologies[topology].name.clone();
        self.feed(host, Input::Source { topology, update })
    }

    fn on_heartbeat(&mut self, host: HostId, epoch: u32, topology: usize) {
        let SourceKind::Gossip { interval } = self.scenario.topologies[topology].kind else { return };
        if !self.current(host, epoch) {
            return;
        }
        let wait = self.rng.random_range(interval / 5..=interval);
        self.queue.push_after(wait, Event::Heartbeat { host, epoch, topology });
        for life in self.agent(host).ready.clone() {
            let name = self.beams.life(life).name;
            if self.topologies[topology].lists[name.0 as usize] {
                let agent = Some(AgentId(u128::from(host.0)));
                let candidate = Candidate { agent, ..Candidate::new(self.beams.name(name).clone()) };
                self.tell_others(host, topology, &SourceUpdate::Found(candidate));
            }
        }
    }

    fn tell_others(&mut self, from: HostId, topology: usize, update: &SourceUpdate) {
        for host in (0..self.scenario.hosts).map(HostId).filter(|&host| host != from) {
            if let Some(wait) = self.network.send(from, host, &mut self.rng) {
                self.queue.push_after(wait, Event::Hear { host, topology, update: update.clone() });
            }
        }
    }

    fn on_hear(&mut self, host: HostId, topology: usize, update: SourceUpdate) -> Result<(), Broken> {
        if self.agent(host).machine.is_none() {
            return Ok(());
        }
        match self.agent(host).sources[topology].lie {
            None => self.source(host, topology, update),
            Some(Lie::Failing) => self.source(host, topology, SourceUpdate::Failed("the socket is gone".to_owned())),
            Some(Lie::Empty | Lie::Partial | Lie::Stale) => Ok(()),
        }
    }

    fn on_notice(&mut self, life: LifeId, peer: NameId, up: bool) -> Result<(), Broken> {
        let host = self.beams.life(life).host;
        if !self.agent(host).ready.contains(&life) {
            return Ok(());
        }
        let local = self.beams.name(self.beams.life(life).name).clone();
        let peer = self.beams.name(peer).clone();
        self.feed(host, if up { Input::LinkUp { local, peer } } else { Input::LinkDown { local, peer } })
    }

    fn on_ticks_out(&mut self, host: HostId) {
        for life in self.beams.alive_on(host) {
            for held in self.beams.connections(life) {
                if !self.network.connects(host, self.beams.life(held.to).host) {
                    self.lose(life, held);
                }
            }
        }
    }

    /// After a heal, a connection of which the other end knows nothing is reset.
    fn reset_half_open(&mut self, host: HostId) {
        for life in self.beams.alive_on(host) {
            for held in self.beams.connections(life) {
                let reached = self.network.connects(host, self.beams.life(held.to).host);
                if reached && self.beams.half_open(life, held) {
                    let wait = self.millis(1, 100);
                    self.queue.push_after(wait, Event::Reset { life, held });
                }
            }
        }
    }

    /// What one end closed, the other learns of: at once, or when its tick runs out.
    pub(crate) fn closed_by(&mut self, life: LifeId, held: Connection) {
        let (from, to) = (self.beams.life(life).host, self.beams.life(held.to).host);
        let wait = if self.network.connects(from, to) {
            self.millis(1, 20)
        } else {
            let tick = self.scenario.tick_time;
            self.rng.random_range(tick * 3 / 4..=tick * 5 / 4)
        };
        let end = Connection { to: life, number: held.number };
        self.queue.push_after(wait, Event::Reset { life: held.to, held: end });
    }

    /// A live node holds a connection no more, if it did.
    pub(crate) fn lose(&mut self, life: LifeId, held: Connection) {
        if self.beams.lose(life, held) {
            let peer = self.beams.life(held.to).name;
            self.notice(life, peer, false);
        }
    }

    pub(crate) fn notice(&mut self, life: LifeId, peer: NameId, up: bool) {
        // One connection carries all notices of a node to its agent, so they keep their order.
        self.queue.push_after(Duration::from_millis(1), Event::Notice { life, peer, up });
    }

    pub(crate) fn silent(&mut self) -> bool {
        !self.quiet && self.rng.random_range(0..1000) < self.scenario.silent_dials_per_mille
    }

    pub(crate) fn feed(&mut self, host: HostId, input: Input) -> Result<(), Broken> {
        let now = self.queue.now();
        let Some((machine, checker)) = &mut self.agent(host).machine else { return Ok(()) };
        checker.on_input(&input);
        machine.handle_input(now, input);
        self.drain(host)
    }

    fn drain(&mut self, host: HostId) -> Result<(), Broken> {
        let now = self.queue.now();
        loop {
            let Some((machine, checker)) = &mut self.agents[host.0 as usize].machine else { return Ok(()) };
            let Some(output) = machine.poll_output(now) else {
                let deadline = machine.next_deadline();
                checker.on_drained(now, deadline).map_err(|violation| (host, violation))?;
                let agent = &mut self.agents[host.0 as usize];
                if let Some(at) = deadline
                    && agent.wake_at.is_none_or(|wake| at < wake)
                {
                    agent.wake_at = Some(at);
                    let epoch = agent.epoch;
                    self.queue.push_at(at, Event::Wake { host, epoch });
                }
                return Ok(());
            };
            checker.on_output(now, &output).map_err(|violation| (host, violation))?;
            self.check_drop(host, &output)?;
            self.act(host, output);
        }
    }

    fn sample(&self) -> Result<(), Broken> {
        for (agent, host) in self.agents.iter().zip((0..).map(HostId)) {
            if let Some((machine, checker)) = &agent.machine {
                checker.on_sizes(machine.counters()).map_err(|violation| (host, violation))?;
            }
        }
        Ok(())
    }

    /// The wanted links of live nodes that are missing: how many, and one of them.
    pub(crate) fn missing(&self) -> (usize, Option<(NodeName, NodeName)>) {
        let (mut count, mut example) = (0, None);
        let prunes = self.scenario.topologies.iter().any(|plan| plan.prune);
        let out = |name: NameId| prunes && !self.registered[name.0 as usize];
        let alive: Vec<(LifeId, NameId)> = self.beams.alive().map(|life| (life, self.beams.life(life).name)).collect();
        let in_mesh: Vec<(LifeId, NameId)> = alive.into_iter().filter(|&(_, name)| !out(name)).collect();
        for (topology, plan) in self.topologies.iter().zip(&self.scenario.topologies) {
            let pattern = Pattern::new(plan.nodes);
            let gossip = matches!(plan.kind, SourceKind::Gossip { .. });
            // What a registry lists; an agent gossips all its nodes, but not to itself.
            let listed = |name: NameId| topology.lists[name.0 as usize] && (gossip || self.registered[name.0 as usize]);
            let listed: Vec<(LifeId, NameId)> = in_mesh.iter().copied().filter(|&(_, name)| listed(name)).collect();
            for &(local, name) in &in_mesh {
                let (local_name, host) = (self.beams.name(name), self.beams.life(local).host);
                if !pattern.matches_node(local_name) {
                    continue;
                }
                let long = local_name.is_long();
                for &(peer, peer_name) in &listed {
                    if local == peer || (gossip && self.beams.life(peer).host == host) {
                        continue;
                    }
                    if !self.beams.linked(local, peer) && self.beams.name(peer_name).is_long() == long {
                        count += 1;
                        example.get_or_insert_with(|| (local_name.clone(), self.beams.name(peer_name).clone()));
                    }
                }
            }
        }
        (count, example)
    }

    /// Whether each machine knows just the links that its nodes hold.
    pub(crate) fn links_agree(&self) -> Result<(), Broken> {
        for (agent, host) in self.agents.iter().zip((0..).map(HostId)) {
            let Some((machine, _)) = &agent.machine else { continue };
            let mut pairs = BTreeSet::new();
            for &life in &agent.ready {
                let name = self.beams.life(life).name;
                for &peer in self.beams.life(life).view.keys() {
                    let (local, other) = (self.beams.name(name), self.beams.name(peer));
                    if !machine.is_linked(local, other) {
                        let (local, peer) = (local.clone(), other.clone());
                        return Err((host, Violation::LinksDiverged { local, peer, truth: true }));
                    }
                    pairs.insert((name.min(peer), name.max(peer)));
                }
            }
            if machine.links() != pairs.len() {
                let find = |&life: &LifeId| {
                    let local = self.beams.life(life);
                    let strange = self.beams.names().find(|name| {
                        !local.view.contains_key(name)
                            && machine.is_linked(self.beams.name(local.name), self.beams.name(*name))
                    });
                    strange.map(|peer| (self.beams.name(local.name).clone(), self.beams.name(peer).clone()))
                };
                if let Some((local, peer)) = agent.ready.iter().find_map(find) {
                    return Err((host, Violation::LinksDiverged { local, peer, truth: false }));
                }
            }
        }
        Ok(())
    }
}

/// The machine that the world runs unless a test brings a broken one.
pub(crate) fn sound(settings: Settings, seed: u64) -> Formation {
    Formation::new(settings, seed)
}
