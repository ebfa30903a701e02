//! The baseline: `foca`, SWIM without Lifeguard, in the same virtual time and on the same network.
//!
//! Its own settings for a LAN of the given size, its own codec, and an identity that renews itself, so that a member that was
//! held down comes back. It joins as its documentation has it: whoever knows nobody announces itself to the first host, once
//! a second. What a packet costs beside its bytes is UDP and IP alone: foca seals nothing.

use std::{collections::VecDeque, num::NonZeroU32, time::Duration};

use foca::{Config, Foca, Identity, NoCustomBroadcast, Notification, PostcardCodec, Runtime, Timer};
use metacluster_sim::{
    membership::Waking,
    network::{HostId, Network, NetworkRules},
    queue::Queue,
};
use metacluster_types::Instant;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// What UDP and IP add to a packet.
const PACKET_OVERHEAD: usize = 28;
/// Between two tries to join.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);

/// Who a member is: its address, and how often it had to renew itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Id {
    address: (u32, u16),
    renewed: u16,
}

impl Identity for Id {
    type Addr = u32;

    fn renew(&self) -> Option<Self> {
        Some(Self { renewed: self.renewed.wrapping_add(1), ..*self })
    }

    fn addr(&self) -> u32 {
        self.address.0
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.renewed > adversary.renewed
    }
}

impl Id {
    fn of(host: u32) -> Self {
        // As wide as an IPv4 address and a port are, so that its packets are.
        Self { address: (0x0a00_0001 + host, 45893), renewed: 0 }
    }

    fn host(self) -> u32 {
        self.address.0 - 0x0a00_0001
    }
}

#[derive(Debug)]
enum Event {
    Start(u32),
    Announce(u32),
    Wake(u32, Box<Timer<Id>>),
    Packet(u32, Box<[u8]>),
    Resume(u32),
}

type Machine = Foca<Id, PostcardCodec, ChaCha8Rng, NoCustomBroadcast>;

struct Host {
    machine: Option<Machine>,
    paused: bool,
    /// What came while it stood still: packets, and timers that were due.
    inbox: VecDeque<Event>,
}

/// A member was told to be down somewhere.
#[derive(Clone, Copy, Debug)]
struct Down {
    at: Instant,
    observer: u32,
    member: u32,
}

struct World {
    queue: Queue<Event>,
    network: Network,
    rng: ChaCha8Rng,
    hosts: Vec<Host>,
    downs: Vec<Down>,
    sent: usize,
    waking: Waking,
}

/// What one call of the machine did.
#[derive(Default)]
struct Effects {
    packets: Vec<(Id, Box<[u8]>)>,
    timers: Vec<(Timer<Id>, Duration)>,
    downs: Vec<u32>,
}

impl Runtime<Id> for Effects {
    fn notify(&mut self, notification: Notification<'_, Id>) {
        if let Notification::MemberDown(id) = notification {
            self.downs.push(id.host());
        }
    }

    fn send_to(&mut self, to: Id, data: &[u8]) {
        self.packets.push((to, data.into()));
    }

    fn submit_after(&mut self, event: Timer<Id>, after: Duration) {
        self.timers.push((event, after));
    }
}

impl World {
    fn new(hosts: u32, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut queue = Queue::default();
        for host in 0..hosts {
            let at = rng.random_range(Duration::ZERO..=Duration::from_secs(1));
            queue.push_at(Instant::from_origin(if host == 0 { Duration::ZERO } else { at }), Event::Start(host));
        }
        let rules = NetworkRules { delay_max: Duration::from_millis(1), ..NetworkRules::default() };
        let host = || Host { machine: None, paused: false, inbox: VecDeque::new() };
        let hosts = (0..hosts).map(|_| host()).collect();
        Self { queue, network: Network::new(rules), rng, hosts, downs: Vec::new(), sent: 0, waking: Waking::Whole }
    }

    fn size(&self) -> u32 {
        u32::try_from(self.hosts.len()).unwrap_or(u32::MAX)
    }

    fn run_until(&mut self, until: Instant) {
        while let Some(event) = self.queue.pop_until(until) {
            self.handle(event);
        }
    }

    fn run_for(&mut self, time: Duration) {
        let until = self.queue.now() + time;
        self.run_until(until);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Start(host) => {
                let config = Config::new_lan(NonZeroU32::new(self.size()).unwrap_or(NonZeroU32::MIN));
                let rng = ChaCha8Rng::seed_from_u64(self.rng.random());
                self.hosts[host as usize].machine = Some(Foca::new(Id::of(host), config, rng, PostcardCodec));
                self.announce(host);
            }
            Event::Announce(host) => self.announce(host),
            Event::Wake(host, _) | Event::Packet(host, _) => {
                let state = &mut self.hosts[host as usize];
                if state.paused {
                    state.inbox.push_back(event);
                } else {
                    self.take_in(event);
                }
            }
            Event::Resume(host) => {
                let state = &mut self.hosts[host as usize];
                state.paused = false;
                let (timers_first, packets) = match self.waking {
                    Waking::Whole => (self.rng.random(), usize::MAX),
                    Waking::Starved(packets) => (true, packets),
                };
                let inbox: Vec<Event> = std::mem::take(&mut self.hosts[host as usize].inbox).into();
                let (timers, mut came): (Vec<_>, Vec<_>) =
                    inbox.into_iter().partition(|event| matches!(event, Event::Wake(..)));
                let waits = came.split_off(came.len().min(packets));
                self.hosts[host as usize].inbox = waits.into();
                let (first, then) = if timers_first { (timers, came) } else { (came, timers) };
                first.into_iter().chain(then).for_each(|event| self.take_in(event));
            }
        }
    }

    /// Whoever knows nobody announces itself to the first host.
    fn announce(&mut self, host: u32) {
        let known = self.hosts[host as usize].machine.as_ref().map_or(0, Foca::num_members);
        if known == 0 && host > 0 {
            self.call(host, |machine, effects| machine.announce(Id::of(0), effects));
        }
        self.queue.push_after(ANNOUNCE_INTERVAL, Event::Announce(host));
    }

    fn take_in(&mut self, event: Event) {
        match event {
            Event::Wake(host, timer) => self.call(host, |machine, effects| machine.handle_timer(*timer, effects)),
            Event::Packet(host, bytes) => self.call(host, |machine, effects| machine.handle_data(&bytes, effects)),
            Event::Start(_) | Event::Announce(_) | Event::Resume(_) => {}
        }
    }

    fn call(&mut self, host: u32, what: impl FnOnce(&mut Machine, &mut Effects) -> Result<(), foca::Error>) {
        let Some(machine) = &mut self.hosts[host as usize].machine else { return };
        let mut effects = Effects::default();
        // It refuses what is late, as from a timer of before; that is no fault.
        let (Ok(()) | Err(_)) = what(machine, &mut effects);
        let now = self.queue.now();
        self.downs.extend(effects.downs.into_iter().map(|member| Down { at: now, observer: host, member }));
        for (timer, after) in effects.timers {
            self.queue.push_after(after, Event::Wake(host, Box::new(timer)));
        }
        for (to, bytes) in effects.packets {
            self.sent += bytes.len() + PACKET_OVERHEAD;
            let to = to.host();
            if let Some(delay) = self.network.send(HostId(host), HostId(to), &mut self.rng) {
                self.queue.push_after(delay, Event::Packet(to, bytes));
            }
        }
    }

    fn whole(&self) -> bool {
        let others = self.hosts.len() - 1;
        self.hosts.iter().all(|host| host.machine.as_ref().is_some_and(|machine| machine.num_members() == others))
    }

    fn run_until_whole(&mut self, step: Duration, most: Duration) -> Option<Duration> {
        let begin = self.queue.now();
        while !self.whole() {
            if self.queue.now().since(begin) > most {
                return None;
            }
            self.run_for(step);
        }
        Some(self.queue.now().since(begin))
    }
}

/// From a cold start within a second until all see all; `None` if not within five minutes.
pub(crate) fn cold_start(hosts: u32, seed: u64) -> Option<Duration> {
    World::new(hosts, seed).run_until_whole(Duration::from_millis(100), Duration::from_secs(300))
}

/// How long a silent death needs to be known by all; `None` if not within two minutes.
pub(crate) fn death(hosts: u32, seed: u64) -> Option<Duration> {
    let mut world = World::new(hosts, seed);
    world.run_until_whole(Duration::from_secs(1), Duration::from_secs(60));
    let moment = world.rng.random_range(Duration::ZERO..Duration::from_secs(2));
    world.run_for(Duration::from_secs(20) + moment);
    let victim = world.rng.random_range(0..hosts);
    world.hosts[victim as usize].machine = None;
    let begin = world.queue.now();
    world.downs.clear();
    for _ in 0..1200 {
        world.run_for(Duration::from_millis(100));
        let told: Vec<Down> = world.downs.iter().filter(|down| down.member == victim).copied().collect();
        if told.len() + 1 >= world.hosts.len() {
            return told.iter().map(|down| down.at).max().map(|at| at.since(begin));
        }
    }
    None
}

/// How many times a healthy member held a healthy one down, while some stand still for `pause` at a time with gaps of a
/// millisecond, for two minutes.
pub(crate) fn expelled(hosts: u32, paused: u32, pause: Duration, waking: Waking, seed: u64) -> usize {
    let mut world = World::new(hosts, seed);
    world.waking = waking;
    world.run_until_whole(Duration::from_secs(1), Duration::from_secs(60));
    world.run_for(Duration::from_secs(10));
    world.downs.clear();
    let end = world.queue.now() + Duration::from_secs(120);
    while world.queue.now() < end {
        for host in 0..paused {
            world.hosts[host as usize].paused = true;
            world.queue.push_after(pause, Event::Resume(host));
        }
        world.run_for(pause + Duration::from_millis(1));
    }
    world.downs.iter().filter(|down| down.observer >= paused && down.member >= paused).count()
}

/// Bytes a second that a member sends in a calm cluster, with what UDP and IP add.
pub(crate) fn load(hosts: u32, seed: u64) -> f64 {
    let mut world = World::new(hosts, seed);
    world.run_until_whole(Duration::from_secs(1), Duration::from_secs(300));
    world.run_for(Duration::from_secs(30));
    let before = world.sent;
    let time = Duration::from_secs(60);
    world.run_for(time);
    (world.sent - before) as f64 / f64::from(hosts) / time.as_secs_f64()
}
