//! The task: feeds the machine, carries out what it wants, wakes it in time.
//!
//! Invariants: it waits for nothing but its inputs; whoever sends to it, the deadlines come first; what comes is opened
//! and counted before the machine sees it; what strangers can make it keep is bounded by `socket`, `stream` and the
//! machine's own limits.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use metacluster_membership::{
    Description, ExchangeId, Identity, Keyring, LeaveProof, Membership, Notice, Output, Policy, Sealer, Settings,
    Snapshot, StreamToken,
};
use metacluster_types::{AgentId, Instant, NodeName, time::format_duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::sleep,
};
use tracing::{debug, info, warn};

use super::{
    Agent, Command, LocalNodes, MemberEvent, MembersError, MembersView, Sources, address,
    book::{self, Book},
    cipher::{ChaCha, default_key},
    clock::BootClock,
    complaints::{Complaints, Refusal},
    keeper::{Keeper, next_epoch},
    own::{TELL_NODES, describe},
    resolver::Resolver,
    socket::{Buffers, DATAGRAM_BYTES_MAX, Packets},
    stream::{self, Bounds, Request, StreamError},
    talk::{TalkEnds, Talking},
    truth::Truth,
};
use crate::{
    config::{Encryption, MembershipConfig, MembershipProfile},
    core::renew_id,
    talk::KeyFile,
    view::MemberCounters,
};

/// So many packets are gathered before they are sent.
const OUTBOX_MAX: usize = 256;
/// While so many changes wait for the core, no packet is read.
const PENDING_MAX: usize = 16_384;
/// So many seeds of a snapshot are tried.
const SNAPSHOT_SEEDS_MAX: usize = 512;
/// Changes within this time are published as one.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);
/// How often counters and round trips are brought up to date.
const REFRESH_EVERY: Duration = Duration::from_secs(5);
/// How often the own addresses are looked at, and what providers say is judged again.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A cipher's tag and the id of the key.
const SEAL_BYTES: usize = 20;

/// The ends of the channels.
pub(super) struct Channels {
    pub(super) events: mpsc::Sender<MemberEvent>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) local: watch::Receiver<LocalNodes>,
    pub(super) sources: watch::Receiver<Sources>,
    pub(super) requests: mpsc::Receiver<Request>,
}

/// What the driver itself counts.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) refused: BTreeMap<Refusal, u64>,
    pub(super) lost: u64,
    pub(super) names_shared: u64,
}

/// What is to be done when.
#[derive(Debug)]
pub(super) struct Schedule {
    pub(super) publish: Option<Instant>,
    pub(super) describe: Option<Instant>,
    pub(super) refresh: Instant,
    pub(super) look: Instant,
}

pub(super) type Asked = (ExchangeId, SocketAddr, Result<Vec<u8>, StreamError>);

/// See the module.
pub(super) struct Driver {
    pub(super) agent: Agent,
    pub(super) config: MembershipConfig,
    pub(super) clock: BootClock,
    pub(super) settings: Settings,
    pub(super) id: AgentId,
    pub(super) machine: Membership,
    pub(super) talking: Talking,
    pub(super) sealer: Sealer<ChaCha>,
    /// Where it listens.
    pub(super) at: SocketAddr,
    pub(super) packets: Packets,
    pub(super) buffers: Buffers,
    pub(super) outbox: Vec<(SocketAddr, Vec<u8>)>,
    pub(super) bounds: Bounds,
    pub(super) answering: BTreeMap<StreamToken, oneshot::Sender<Vec<u8>>>,
    pub(super) next_stream: u64,
    pub(super) asking: JoinSet<Asked>,
    pub(super) channels: Channels,
    pub(super) pending: VecDeque<MemberEvent>,
    pub(super) book: Book,
    pub(super) view: watch::Sender<Arc<MembersView>>,
    pub(super) keeper: Keeper,
    pub(super) kept_seeds: Vec<SocketAddr>,
    pub(super) resolver: Resolver,
    pub(super) truth: Truth,
    pub(super) complaints: Complaints,
    pub(super) counted: Counted,
    pub(super) schedule: Schedule,
    pub(super) own_addresses: Vec<IpAddr>,
    /// Whether it was said that not all nodes fit.
    pub(super) told_short: bool,
    pub(super) told_nodes: BTreeSet<NodeName>,
    pub(super) told_gateway: Option<u16>,
    pub(super) told_address: Option<SocketAddr>,
    pub(super) leaving: Option<oneshot::Sender<()>>,
    pub(super) left: bool,
}

impl Driver {
    /// Everything but the sockets' tasks. Nothing was sent yet.
    pub(super) fn new(
        agent: Agent,
        config: MembershipConfig,
        (packets, at): (Packets, SocketAddr),
        channels: (Channels, TalkEnds),
    ) -> Result<(Self, watch::Receiver<Arc<MembersView>>, Bounds), MembersError> {
        let clock = BootClock::start();
        let settings = Settings {
            datagram_bytes_max: DATAGRAM_BYTES_MAX,
            ..match config.profile {
                MembershipProfile::Local => Settings::local(),
                MembershipProfile::Lan => Settings::lan(),
                MembershipProfile::Wan => Settings::wan(),
            }
        };
        let mut keeper = Keeper::new(&agent.state_dir);
        let kept = keeper.read();
        let mut keys = config.keys.iter().cloned();
        let mut ring = Keyring::new(keys.next().unwrap_or_else(|| default_key(&agent.cookie, &agent.cluster)));
        for key in keys {
            if let Err(error) = ring.install(key) {
                warn!("membership.key_file: {error}");
            }
        }
        let policy = match config.encryption {
            Encryption::Required => Policy::Seal,
            Encryption::Preferred => Policy::SealAndTakePlain,
            Encryption::Off => Policy::Plain,
        };
        let file = KeyFile::new(&agent.state_dir);
        let kept_ring = file.read().map_err(|error| MembersError::Keyring(error.to_string()))?;
        if let Some((kept, _)) = &kept_ring
            && !config.keys.is_empty()
            && kept.used() != ring.used()
        {
            warn!(
                "the keyring in the state folder holds, with key {} in use: membership.key_file is not looked at any more",
                kept.used()
            );
        }
        let (ring, policy) = kept_ring.unwrap_or((ring, policy));
        let sealer = Sealer::new(agent.cluster.clone(), ChaCha::default(), ring, policy);
        let (channels, ends) = channels;
        let talking = Talking::new(ends, file);
        let bounds = Bounds::new(settings.stream_bytes_max + SEAL_BYTES, settings.stream_timeout);
        let own_addresses = address::own_addresses();
        let placeholder = SocketAddr::new(at.ip(), at.port());
        let description = describe(&agent, String::new(), placeholder, Vec::new());
        let id = agent.id;
        let machine = machine(clock.now(), &agent, id, description, &settings, kept.as_ref())?;
        let view = MembersView {
            id,
            members: vec![book::own(&agent, id, &agent.node_name, placeholder)],
            counters: MemberCounters::default(),
        };
        let (view_in, view) = watch::channel(Arc::new(view));
        let mut driver = Self {
            id,
            machine,
            talking,
            sealer,
            at,
            packets,
            buffers: Buffers::default(),
            outbox: Vec::new(),
            bounds: bounds.clone(),
            answering: BTreeMap::new(),
            next_stream: 0,
            asking: JoinSet::new(),
            channels,
            pending: VecDeque::new(),
            book: Book::default(),
            view: view_in,
            keeper,
            kept_seeds: kept.iter().flat_map(Snapshot::addresses).take(SNAPSHOT_SEEDS_MAX).collect(),
            resolver: Resolver::default(),
            truth: Truth::default(),
            complaints: Complaints::default(),
            counted: Counted::default(),
            schedule: Schedule { publish: None, describe: None, refresh: Instant::ZERO, look: Instant::ZERO },
            own_addresses,
            told_short: false,
            told_nodes: BTreeSet::new(),
            told_gateway: None,
            told_address: None,
            leaving: None,
            left: false,
            agent,
            config,
            clock,
            settings,
        };
        driver.describe()?;
        driver.publish();
        Ok((driver, view, bounds))
    }

    /// Runs until this agent has left.
    pub(super) async fn run(mut self) {
        // The boot is on disk before the first packet bears it, or this agent cannot write at all and says so.
        self.keeper.mark(true);
        self.keeper.write_due(self.clock.now(), || self.machine.snapshot());
        self.keeper.written().await;
        self.seed();
        let events = self.channels.events.clone();
        loop {
            self.work();
            if self.left {
                break;
            }
            let wait = self.clock.until(self.deadline());
            let room = self.pending.len() < PENDING_MAX;
            tokio::select! {
                biased;
                Some(command) = self.channels.commands.recv() => self.command(command),
                () = sleep(wait) => {}
                Ok(permit) = events.reserve(), if !self.pending.is_empty() => {
                    if let Some(event) = self.pending.pop_front() {
                        permit.send(event);
                    }
                }
                Ok(()) = self.channels.local.changed() => self.on_local(),
                Ok(()) = self.channels.sources.changed() => {
                    self.seed();
                    self.judge(true);
                }
                changed = self.resolver.resolved() => if changed {
                    self.seed();
                    self.tell_within(TELL_NODES);
                },
                Some(wish) = self.talking.wishes.recv() => self.on_wish(wish),
                Some(answer) = self.talking.answers.recv() => self.on_local_answer(answer),
                () = self.keeper.written() => {}
                Some(written) = self.talking.keeping.join_next() => self.on_kept(written),
                Some(asked) = self.asking.join_next() => match asked {
                    Ok(asked) => self.on_asked(asked),
                    // The machine gives the exchange up by itself.
                    Err(error) => warn!("a stream to a member failed: {error}"),
                },
                Some(request) = self.channels.requests.recv(), if room => self.on_request(request),
                Ok(()) = self.packets.readable(), if room => self.receive(),
            }
        }
        self.keeper.write_last(self.machine.snapshot()).await;
        if let Some(told) = self.leaving.take()
            && told.send(()).is_err()
        {
            debug!("nobody waits for the leave any more");
        }
    }

    fn deadline(&self) -> Option<Instant> {
        [
            self.machine.next_deadline(),
            self.schedule.publish,
            self.schedule.describe,
            Some(self.schedule.refresh),
            Some(self.schedule.look),
            self.keeper.deadline(),
            self.resolver.deadline(),
            self.book.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Leave(told) => {
                let alone = self.machine.live() <= 1;
                self.machine.leave(self.clock.now());
                self.leaving = Some(told);
                // Nobody is there to be told.
                self.left |= alone;
            }
        }
    }

    /// Does all that is due, and carries out what the machine wants.
    fn work(&mut self) {
        let now = self.clock.now();
        if self.schedule.look <= now {
            self.schedule.look = now + LOOK_EVERY;
            self.look();
        }
        if self.schedule.describe.is_some_and(|at| at <= now) {
            self.schedule.describe = None;
            if let Err(error) = self.describe() {
                warn!("{}", MembersError::from(error));
            }
        }
        self.drain();
        self.resolver.wake(now);
        let missing = self.book.expire(now);
        self.tell(missing);
        if self.schedule.publish.is_some_and(|at| at <= now) || self.schedule.refresh <= now {
            self.schedule.publish = None;
            self.schedule.refresh = now + REFRESH_EVERY;
            self.publish();
        }
        self.keeper.write_due(now, || self.machine.snapshot());
        self.transmit();
    }

    /// Carries out what the machine wants.
    pub(super) fn drain(&mut self) {
        while let Some(output) = self.machine.poll_output(self.clock.now()) {
            match output {
                Output::Transmit { to, bytes } => {
                    if let Some(bytes) = self.seal(&bytes) {
                        self.outbox.push((to, bytes));
                    }
                    if self.outbox.len() >= OUTBOX_MAX {
                        self.transmit();
                    }
                }
                Output::Request { exchange, to, bytes } => {
                    if let Some(bytes) = self.seal(&bytes) {
                        let bounds = self.bounds.clone();
                        self.asking.spawn(async move { (exchange, to, stream::ask(to, bytes, bounds).await) });
                    }
                }
                Output::Reply { stream, bytes } => {
                    if let (Some(bytes), Some(reply)) = (self.seal(&bytes), self.answering.remove(&stream))
                        && reply.send(bytes).is_err()
                    {
                        debug!("a stream was gone before its answer");
                    }
                }
                Output::Close { stream } => drop(self.answering.remove(&stream)),
                Output::View(changes) => {
                    let events = self.book.turn(&self.machine, &changes);
                    self.tell(events);
                    self.keeper.mark(false);
                    self.judge(false);
                }
                Output::Notice(notice) => self.notice(&notice),
                Output::UserEvent(event) => {
                    self.on_said(event);
                    self.keeper.mark(false);
                }
                Output::Query(query) => self.on_query(query),
                Output::Replied { query, reply } => self.on_replied(query, reply),
            }
        }
    }

    fn transmit(&mut self) {
        if !self.outbox.is_empty() {
            self.counted.lost += self.packets.send(&self.outbox) as u64;
            self.outbox.clear();
        }
    }

    fn seal(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        match self.sealer.seal(bytes) {
            Ok(sealed) => Some(sealed),
            Err(error) => {
                warn!("a packet of this agent's own was not sealed: {error}");
                None
            }
        }
    }

    /// Hands on what happened, and has the view follow soon.
    fn tell(&mut self, events: Vec<MemberEvent>) {
        if !events.is_empty() {
            self.pending.extend(events);
            self.publish_soon();
        }
    }

    pub(super) fn publish_soon(&mut self) {
        self.schedule.publish.get_or_insert(self.clock.now() + PUBLISH_EVERY);
    }

    fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::LeaveTold => self.left = true,
            Notice::EpochRaised(epoch) => {
                debug!("this agent goes on as boot {}: an earlier one is still known, or was believed in", epoch.0);
                self.keeper.mark(true);
                self.publish_soon();
            }
            Notice::IdentityTaken => self.renew(),
            Notice::EndedByProvider => {
                let silence = format_duration(self.settings.ended_silence);
                warn!(
                    "the provider says that this host has ended: silent for {silence}, and back as a later boot if it lives then"
                );
            }
            Notice::NameShared { one, other } => {
                self.counted.names_shared += 1;
                let name = self.machine.member(*other).map(|member| member.description.name).unwrap_or_default();
                let here = if *one == self.id { "this agent".to_owned() } else { format!("member {one}") };
                warn!(
                    "{here} and member {other} both have the name {name}: give each host a `host` or node names of its own"
                );
            }
            Notice::Paused(time) => {
                info!("this process stood still for {} ms; it judged nobody for that while", time.as_millis());
            }
            // A notice of a later version of the machine.
            _ => debug!("{notice:?}"),
        }
    }

    /// Another process uses this agent's id, as after a disk was copied: it goes on under a fresh one.
    fn renew(&mut self) {
        let (old, fresh) = (self.id, AgentId(rand::random()));
        let kept = renew_id(&self.agent.state_dir, fresh);
        let saved = kept.map_or_else(|error| format!("; it could not be kept: {error}"), |()| String::new());
        warn!("another agent uses the id {old}, as after a copy of state_dir: this one goes on as {fresh}{saved}");
        let now = self.clock.now();
        let description = self.machine.description().clone();
        match machine(now, &self.agent, fresh, description, &self.settings, None) {
            Ok(machine) => {
                (self.machine, self.id) = (machine, fresh);
                self.book.begin_anew(now);
                self.answering.clear();
                self.talking.forget();
                self.asking.abort_all();
                self.keeper.mark(true);
                self.seed();
                self.publish_soon();
            }
            // The description was good a moment ago.
            Err(error) => warn!("members: {error}"),
        }
    }
}

/// A machine that begins a boot later than every boot before.
fn machine(
    now: Instant,
    agent: &Agent,
    id: AgentId,
    description: Description,
    settings: &Settings,
    kept: Option<&Snapshot>,
) -> Result<Membership, MembersError> {
    let identity = Identity {
        id,
        epoch: next_epoch(SystemTime::now(), id, kept, rand::random()),
        cluster: agent.cluster.clone(),
        proof: LeaveProof(rand::random()),
    };
    let mut machine = Membership::new(now, identity, description, settings.clone(), rand::random())?;
    if let Some(kept) = kept {
        machine.restore(now, kept);
    }
    Ok(machine)
}
