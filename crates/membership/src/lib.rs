//! Who is there: failure detection and dissemination between agents.
//!
//! [`Membership`] is SWIM (Das, Gupta, Motivala, DSN 2002) with all of Lifeguard (Dadgar, Phillips, Currey, arXiv
//! 1707.00788), as a pure machine: it has no clock, socket, thread or randomness of its own. A driver feeds it
//! [`Input`]s with the time, drains [`Membership::poll_output`] after each, and wakes it at
//! [`Membership::next_deadline`]. A wake-up that is late or spurious is harmless; one that is very late tells the
//! machine that its process stood still, and it judges nobody for that while.
//!
//! What it adds to SWIM and Lifeguard: a member is an id and a boot, never an address; a suspicion makes a few others
//! probe at once, so that it is confirmed or refuted in one probe's time; a failure that others claim is checked
//! before it is believed; a leave is proven by the one who left; every answer to a probe carries a digest of the
//! view, and a difference that lasts is settled over a stream; a provider may end a member.
//!
//! Invariants, which the simulation checks: the own incarnation and boot only rise; a boot that left or was ended
//! never comes back; a member never holds itself dead; one record an id; what is kept is bounded; what is told of one
//! member alternates between up and down.
//!
//! | file | holds |
//! |---|---|
//! | `input`, `output`, `error`, `settings`, `record` | the words between machine and world |
//! | `codec` | bytes |
//! | `merge` | which claim supersedes which |
//! | `probe`, `relay`, `health` | probing, probing for others, trust in oneself |
//! | `suspicion` | the time between suspect and failed |
//! | `gossip` | news |
//! | `sync` | joining, comparing and trading whole views |
//! | `leave` | leaving, and being ended |
//! | `user` | user events and queries |
//! | `tell`, `view` | changes in batches, queries |
//! | `snapshot` | coming back |
//! | `seal` | keyring, sealed packets, replays |
//! | `coordinate` | network coordinates |
//! | `state`, `timers` | tables and timers |

mod codec;
mod coordinate;
#[doc(hidden)]
pub mod craft;
mod error;
mod gossip;
mod health;
mod input;
mod leave;
mod merge;
mod output;
mod probe;
mod record;
mod relay;
mod seal;
mod settings;
mod snapshot;
mod state;
mod suspicion;
mod sync;
mod tell;
mod timers;
mod user;
mod view;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
};

use metacluster_types::{AgentId, ClusterName, Instant};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use coordinate::Coordinate;
pub use error::{DecodeError, DescriptionError, OpenError};
pub use input::{ExchangeId, Input, StreamToken};
pub use output::{Change, ChangeKind, Notice, Output};
pub use record::{
    Commitment, Description, DownReason, Ending, Epoch, Incarnation, LeaveProof, Stamp, Standing, Version,
};
pub use seal::{Cipher, Key, KeyId, KeyScope, Keyring, KeyringError, Policy, Sealer};
pub use settings::Settings;
pub use snapshot::{Heard, Snapshot, SnapshotError, SnapshotMember};
pub use user::{
    ANSWER_BYTES_MAX, Ask, Filter, NAME_BYTES_MAX, PAYLOAD_BYTES_MAX, Query, QueryId, QueryToken, Reply, TIMEOUT_MAX,
    UserError, UserEvent, UserSizes,
};
pub use view::{Counters, MemberView, Sizes};

use crate::{
    codec::{
        Reader,
        claim::{Items, describe, items, put_claim},
        message::{AnswerKind, Message, message, put_message},
        packet::{Header, header, put_header},
    },
    gossip::News,
    health::Health,
    leave::Phase,
    probe::Probe,
    record::{Claim, ClaimKind, Described},
    relay::Relay,
    state::{Members, Tombstones},
    sync::Syncing,
    timers::{Timer, Timers},
    user::User,
};

/// Who this member is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its id, kept apart from its address.
    pub id: AgentId,
    /// This boot: greater than that of every boot before.
    pub epoch: Epoch,
    /// The cluster; packets of others are refused and counted.
    pub cluster: ClusterName,
    /// What proves its leave: unguessable, and fresh for each boot.
    pub proof: LeaveProof,
}

/// The machine. See the crate's documentation.
#[derive(Debug)]
pub struct Membership {
    settings: Settings,
    cluster: ClusterName,
    me: AgentId,
    stamp: Stamp,
    version: Version,
    description: Description,
    described: Described,
    proof: LeaveProof,
    phase: Phase,
    epochs_raised: VecDeque<Instant>,
    /// When others said of this boot what it did not say itself.
    contradicted: VecDeque<Instant>,
    /// Who sent the message that was refused last, if a later boot of it is known.
    outdated: Option<AgentId>,
    rng: ChaCha8Rng,
    members: Members,
    tombstones: Tombstones,
    health: Health,
    probes: BTreeMap<u32, Probe>,
    relays: BTreeMap<u32, Relay>,
    news: News,
    gossip_set: bool,
    gossiped_at: Instant,
    syncing: Syncing,
    coordinate: Coordinate,
    counter: u64,
    user: User,
    timers: Timers,
    last_now: Instant,
    /// Members of which something is to be told.
    changed: BTreeSet<AgentId>,
    gone: Vec<Change>,
    flush: Option<(Instant, Instant)>,
    counters: Counters,
    /// What the last input caused. The driver drains it after each input, so it is bounded by what one input can say.
    outputs: VecDeque<Output>,
}

impl Membership {
    /// A member that knows nobody yet. The seed moves jitter and choices, nothing else.
    ///
    /// # Errors
    /// When the description does not fit into a packet.
    pub fn new(
        now: Instant,
        identity: Identity,
        description: Description,
        settings: Settings,
        seed: u64,
    ) -> Result<Self, DescriptionError> {
        let settings = settings.normalised();
        let described = describe(&description, identity.proof.commitment())?;
        let mut machine = Self {
            cluster: identity.cluster,
            me: identity.id,
            stamp: Stamp { epoch: identity.epoch.min(record::EPOCH_MAX), incarnation: Incarnation(0) },
            version: Version(0),
            description,
            described,
            proof: identity.proof,
            phase: Phase::Member,
            epochs_raised: VecDeque::new(),
            contradicted: VecDeque::new(),
            outdated: None,
            rng: ChaCha8Rng::seed_from_u64(seed),
            members: Members::default(),
            tombstones: Tombstones::default(),
            health: Health::default(),
            probes: BTreeMap::new(),
            relays: BTreeMap::new(),
            news: News::default(),
            gossip_set: false,
            gossiped_at: now,
            syncing: Syncing::new(now, &settings),
            coordinate: Coordinate::default(),
            counter: 0,
            user: User::new(now),
            timers: Timers::default(),
            last_now: now,
            changed: BTreeSet::new(),
            gone: Vec::new(),
            flush: None,
            counters: Counters::default(),
            outputs: VecDeque::new(),
            settings,
        };
        let phase = machine.rng.random_range(0.0..1.0);
        machine.timers.set(now + machine.settings.probe_interval_min.mul_f64(phase), Timer::Round);
        machine.timers.set(now + machine.settings.reconnect_interval.mul_f64(0.5 + phase), Timer::Reconnect);
        machine.timers.set(now + machine.settings.sync_interval.mul_f64(phase), Timer::Sync);
        Ok(machine)
    }

    /// The settings in force.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Tells the machine what happened. Drain [`Membership::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        let now = self.arrive(now);
        match input {
            Input::Packet { from, bytes } => self.on_packet(now, from, &bytes),
            Input::StreamRequest { stream, bytes } => self.on_stream_request(now, stream, &bytes),
            Input::StreamReply { exchange, bytes } => self.on_stream_reply(now, exchange, &bytes),
            Input::StreamFailed { exchange } => self.on_stream_failed(now, exchange),
            Input::Seeds(seeds) => self.on_seeds(now, &seeds),
            Input::Terminated(id) => self.on_terminated(now, id),
        }
    }

    /// The next thing to do or to say, if there is one now. Once it gives `None`, nothing comes before
    /// [`Membership::next_deadline`] or the next input.
    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        let now = self.arrive(now);
        while let Some((_, timer)) = self.timers.next_due(now) {
            match timer {
                Timer::Round => self.on_round(now),
                Timer::AckTimeout(sequence) => self.on_ack_timeout(now, sequence),
                Timer::ProbeEnds(sequence) => self.on_probe_ends(now, sequence),
                Timer::Nack(sequence) => self.on_nack_due(sequence),
                Timer::RelayEnds(sequence) => {
                    self.relays.remove(&sequence);
                }
                Timer::Suspicion(id) => self.on_suspicion_ends(now, id),
                Timer::Gossip => self.on_gossip(now),
                Timer::Sync => self.on_sync_due(now),
                Timer::Reconnect => self.on_reconnect(now),
                Timer::Seeds => self.on_seeds_due(now),
                Timer::ExchangeEnds(exchange) => self.on_stream_failed(now, exchange),
                Timer::Reap(id) => self.on_reap(now, id),
                Timer::Flush => self.on_flush(),
                Timer::LeaveEnds => self.on_leave_ends(),
                Timer::SilenceEnds => self.on_silence_ends(now),
                Timer::Gap(sender) => self.on_gap(now, sender),
                Timer::Asked(number) => self.on_asked_due(now, number),
                Timer::Open(token) => self.on_open_due(now, token),
                Timer::Forget => self.on_forget(now),
            }
        }
        self.outputs.pop_front()
    }

    /// When the machine wants to be woken, if at all.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.first()
    }

    /// Changes what this member says of itself.
    ///
    /// # Errors
    /// When the description does not fit into a packet; the old one stays.
    pub fn describe(&mut self, now: Instant, description: Description) -> Result<(), DescriptionError> {
        let now = self.arrive(now);
        if description == self.description {
            return Ok(());
        }
        self.described = describe(&description, self.described.commitment)?;
        self.description = description;
        self.version = Version(self.version.0.saturating_add(1));
        self.raise_incarnation(now, self.stamp.incarnation);
        self.announce(now, true);
        Ok(())
    }

    /// Notes the time, and notices when the process stood still. Time never runs backwards here.
    fn arrive(&mut self, now: Instant) -> Instant {
        let now = now.max(self.last_now);
        self.last_now = now;
        if let Some(due) = self.timers.first() {
            let late = now.since(due);
            if late > self.settings.pause_threshold {
                self.on_pause(now, late);
            }
        }
        now
    }

    fn own_claim(&self, described: bool) -> Claim {
        let kind = match self.phase {
            Phase::Leaving | Phase::Left => ClaimKind::Left(Ending::Leave(self.proof)),
            Phase::Member | Phase::Silent | Phase::Taken => ClaimKind::Alive,
        };
        Claim {
            subject: self.me,
            stamp: self.stamp,
            version: self.version,
            kind,
            described: described.then(|| self.described.clone()),
        }
    }

    /// Tells all what this member says of itself.
    fn announce(&mut self, now: Instant, described: bool) {
        let claim = self.own_claim(described);
        self.spread(now, &claim);
    }

    /// Everyone who lives as far as is known, self included.
    fn size(&self) -> usize {
        self.members.live().len() + 1
    }

    /// The beginning of a packet or a stream message.
    fn begin(&mut self, message: &Message) -> Vec<u8> {
        self.counter += 1;
        let mut bytes = Vec::with_capacity(128);
        let header = Header {
            cluster: self.cluster.as_str(),
            sender: self.me,
            epoch: self.stamp.epoch,
            counter: self.counter,
            key: None,
        };
        put_header(&mut bytes, &header);
        put_message(&mut bytes, message);
        bytes
    }

    /// Sends a packet with some claims first, and as much news as fits behind them. Says whether there was more.
    fn send(&mut self, to: SocketAddr, message: &Message, first: &[Claim]) -> bool {
        let mut bytes = self.begin(message);
        for claim in first {
            let begin = bytes.len();
            put_claim(&mut bytes, claim);
            if bytes.len() > self.settings.datagram_bytes_max {
                bytes.truncate(begin);
                break;
            }
        }
        let (retransmits, bytes_max) = (self.settings.retransmits(self.size()), self.settings.datagram_bytes_max);
        let more = self.news.fill(&mut bytes, bytes_max, retransmits);
        let mut heads = Vec::new();
        if matches!(message, Message::Ping { .. } | Message::Ack { .. }) {
            self.put_recent_heads(&mut heads, bytes_max.saturating_sub(bytes.len()));
        }
        // Who is there comes first; events and queries get the room that is left. Heads stand behind the events: to a
        // new member all that is up to a head is from before it came.
        let more = self.fill_user(&mut bytes, bytes_max - heads.len(), retransmits) || more;
        bytes.extend_from_slice(&heads);
        self.transmit(to, bytes);
        more
    }

    fn transmit(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        self.counters.packets_sent += 1;
        self.counters.bytes_sent += bytes.len() as u64;
        self.outputs.push_back(Output::Transmit { to, bytes });
    }

    fn send_to_member(&mut self, id: AgentId, message: &Message, first: &[Claim]) -> bool {
        let address = self.members.of(id).map(|member| member.described.address);
        address.is_some_and(|address| self.send(address, message, first))
    }

    /// Reads header, message and items; counts what is refused.
    fn open<'a>(&mut self, bytes: &'a [u8]) -> Option<(Header<'a>, Message, Items)> {
        self.outdated = None;
        let mut reader = Reader::new(bytes);
        let header = match header(&mut reader) {
            Ok(header) => header,
            Err(error) => {
                match error {
                    DecodeError::Incompatible(_) => self.counters.incompatible += 1,
                    DecodeError::Truncated
                    | DecodeError::Trailing
                    | DecodeError::Invalid(_)
                    | DecodeError::TooLong(_) => self.counters.malformed += 1,
                }
                return None;
            }
        };
        if header.cluster != self.cluster.as_str() {
            self.counters.foreign += 1;
            return None;
        }
        if header.sender == self.me {
            self.counters.own += 1;
            return None;
        }
        let old = self.members.of(header.sender).is_some_and(|member| header.epoch < member.stamp.epoch);
        if old || header.epoch > record::EPOCH_MAX {
            self.counters.stale += 1;
            self.outdated = old.then_some(header.sender);
            return None;
        }
        let body = message(&mut reader).and_then(|message| Ok((message, items(&mut reader)?)));
        match body {
            Ok((message, items)) => Some((header, message, items)),
            Err(_) => {
                self.counters.malformed += 1;
                None
            }
        }
    }

    /// A boot of which a later one is known still speaks: it goes beyond that one once it hears of it, or learns in the end
    /// that another process uses its id. Without a word it would find everybody silent.
    fn tell_later_boot(&mut self, now: Instant, from: SocketAddr) {
        let later = self.outdated.take().and_then(|id| self.known(id));
        if let Some(later) = later.filter(|_| !self.is_silent())
            && self.wants_are_fresh(now)
        {
            self.send(from, &Message::Gossip, &[later]);
        }
    }

    fn on_packet(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        if bytes.len() > 4 * self.settings.datagram_bytes_max {
            self.counters.malformed += 1;
            return;
        }
        let Some((header, message, Items { claims, user })) = self.open(bytes) else {
            return self.tell_later_boot(now, from);
        };
        if matches!(self.phase, Phase::Left | Phase::Taken) {
            return;
        }
        self.counters.packets_received += 1;
        let sender = header.sender;
        let about_us = claims.iter().any(|claim| claim.subject == self.me);
        self.apply_all(now, claims, sender, Some(from));
        if self.phase == Phase::Silent {
            return;
        }
        self.apply_user(now, user, sender);
        let epoch = header.epoch;
        match message {
            Message::Ping { sequence, target } => self.on_ping(now, from, (sender, epoch), sequence, target, about_us),
            Message::Ack { sequence, digest, coordinate } => self.on_ack(now, sender, sequence, digest, coordinate),
            Message::PingRequest { sequence, target, address } => {
                self.on_ping_request(now, from, sequence, target, address);
            }
            Message::Nack { sequence } => self.on_nack(sender, sequence),
            Message::Gossip => {}
            Message::Want { ids } => self.on_want(from, &ids),
            Message::Recall { sender, epoch, from: first, to } => self.on_recall(now, from, (sender, epoch, first), to),
            Message::Answer { number, kind, payload } => {
                self.on_answer(now, sender, number, kind, payload);
                if kind != AnswerKind::Came {
                    self.send(from, &Message::Taken { number }, &[]);
                }
            }
            Message::Taken { number } => self.on_taken(sender, number),
            Message::Probe { .. }
            | Message::Present
            | Message::Join
            | Message::Sync { .. }
            | Message::Differing { .. }
            | Message::Trade { .. }
            | Message::Records => self.counters.malformed += 1,
        }
    }
}
