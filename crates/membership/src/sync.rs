//! Joining, and comparing whole views over streams.
//!
//! Every answer to a probe carries a digest of the view. When it differs from the own one for longer than news needs
//! to spread, the two views are compared part by part, and what differs is traded: cheap when nothing differs, and
//! certain in the end however much gossip was lost. A member that learned much looks for more at once, so a cluster
//! that starts cold knows itself within a few exchanges.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use metacluster_types::{AgentId, Instant};
use rand::RngExt;

use crate::{
    ExchangeId, Membership, Output, Settings, StreamToken,
    codec::{
        claim::{Items, put_claim},
        message::{BUCKETS, Message, Summary},
        user::{Head, UserItem},
    },
    record::Claim,
    state::{bucket, contribution},
    timers::Timer,
    user::QueryToken,
};

/// So many streams are open at once; a probe or an exchange that finds none left goes without.
const EXCHANGES_MAX: usize = 64;
/// So many seeds are tried at once.
const SEEDS_AT_ONCE: usize = 3;
/// Who learned so many things in one exchange looks for more at once.
const MUCH_NEWS: usize = 1;
/// For so long after it came a member looks for more whenever views differ: others come at the same time.
const YOUNG: Duration = Duration::from_secs(10);
/// One exchange trades so many records at most; the next one goes on.
const TRADE_MAX: usize = 20_000;
/// The longest pause between two tries of a seed that is no member.
const SEED_PAUSE_MAX: Duration = Duration::from_secs(30);

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Probe { sequence: u32 },
    Join { seed: SocketAddr },
    Sync,
    Trade,
    Answer { token: QueryToken },
}

#[derive(Clone, Debug)]
struct Exchange {
    to: SocketAddr,
    purpose: Purpose,
    ends_at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Seed {
    next_try: Instant,
    tries: u32,
}

/// Where the comparing of views stands.
#[derive(Debug)]
pub(crate) struct Syncing {
    exchanges: BTreeMap<ExchangeId, Exchange>,
    next_exchange: u64,
    seeds: BTreeMap<SocketAddr, Seed>,
    seeds_due: Option<Instant>,
    /// When views were last found to differ, or to be settled, and what to wait before the next time.
    next_at: Instant,
    pause: Duration,
    last_at: Instant,
    born_at: Instant,
    /// When the own view last changed.
    changed_at: Instant,
    /// Whether to look for more at once.
    hungry: bool,
    due: Option<Instant>,
    wanted_at: Option<Instant>,
}

impl Syncing {
    pub(crate) fn new(now: Instant, settings: &Settings) -> Self {
        Self {
            exchanges: BTreeMap::new(),
            next_exchange: 0,
            seeds: BTreeMap::new(),
            seeds_due: None,
            next_at: now,
            pause: settings.sync_interval_min,
            last_at: now,
            born_at: now,
            changed_at: now,
            hungry: true,
            due: None,
            wanted_at: None,
        }
    }

    pub(crate) fn view_changed(&mut self, now: Instant) {
        self.changed_at = now;
    }

    /// What is known may be old.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.next_at = now;
        self.hungry = true;
    }

    pub(crate) fn exchanges(&self) -> usize {
        self.exchanges.len()
    }

    pub(crate) fn seeds(&self) -> usize {
        self.seeds.len()
    }

    fn is_comparing(&self) -> bool {
        self.exchanges.values().any(|exchange| matches!(exchange.purpose, Purpose::Sync | Purpose::Trade))
    }
}

impl Membership {
    /// The digest of the whole view, the own record among it.
    pub(crate) fn digest(&self) -> u64 {
        let others = self.members.digests().iter().fold(0, |all, part| all ^ part);
        others ^ contribution(self.me, self.stamp, self.version)
    }

    fn digests(&self) -> Box<[u64; BUCKETS]> {
        let mut digests = Box::new(*self.members.digests());
        digests[bucket(self.me)] ^= contribution(self.me, self.stamp, self.version);
        digests
    }

    /// Whether a stranger may be asked who it is; seldom, so that strangers cause no storm.
    pub(crate) fn wants_are_fresh(&mut self, now: Instant) -> bool {
        let fresh = self.syncing.wanted_at.is_none_or(|at| now.since(at) >= self.settings.gossip_interval / 4);
        if fresh {
            self.syncing.wanted_at = Some(now);
        }
        fresh
    }

    /// A probed member's digest came.
    pub(crate) fn compare(&mut self, now: Instant, with: AgentId, digest: u64) {
        if digest == self.digest() {
            self.syncing.hungry = false;
            return;
        }
        let spread = self.settings.spread(self.size());
        let settled = now.since(self.syncing.changed_at) >= spread;
        let long_ago = now.since(self.syncing.last_at) >= self.settings.sync_interval_max;
        let young = self.is_young(now);
        if now >= self.syncing.next_at && (settled || long_ago || young || self.syncing.hungry) {
            self.sync_with(now, with);
        }
    }

    pub(crate) fn is_young(&self, now: Instant) -> bool {
        now.since(self.syncing.born_at) < YOUNG
    }

    /// The time to compare with somebody, digests or not.
    pub(crate) fn on_sync_due(&mut self, now: Instant) {
        let hungry = self.syncing.due.take().is_some_and(|at| at <= now) && self.syncing.hungry;
        let often = self.settings.sync_interval.mul_f64(f64::from(self.size().ilog2().max(5)) / 5.0);
        if hungry || now.since(self.syncing.last_at) >= often / 2 {
            let target = self.members.draw(1, &mut self.rng, |_, _| true);
            if let Some(&target) = target.first() {
                self.sync_with(now, target);
            }
        }
        if !hungry {
            let jitter = self.rng.random_range(0.75..1.25);
            self.timers.set(now + often.mul_f64(jitter), Timer::Sync);
        }
    }

    fn sync_with(&mut self, now: Instant, with: AgentId) {
        if self.is_silent() || self.syncing.is_comparing() {
            return;
        }
        let Some(address) = self.members.of(with).map(|member| member.described.address) else { return };
        self.syncing.last_at = now;
        self.syncing.next_at = now + self.syncing.pause;
        self.counters.syncs += 1;
        let digests = self.digests();
        self.request(now, address, &Message::Sync { digests }, &[], Purpose::Sync);
    }

    /// An exchange ended with so much that was new here; the views may be found equal by it.
    fn synced(&mut self, now: Instant, news: usize, equal: bool) {
        let (least, most) = (self.settings.sync_interval_min, self.settings.sync_interval_max);
        let differs = !equal && self.is_young(now);
        self.syncing.pause = if news > 0 || differs { least } else { (self.syncing.pause * 2).min(most) };
        let jitter = self.rng.random_range(0.75..1.25);
        self.syncing.next_at = now + self.syncing.pause.mul_f64(jitter);
        self.syncing.hungry = news >= MUCH_NEWS || differs;
        if self.syncing.hungry && self.syncing.due.is_none() {
            self.syncing.due = Some(self.syncing.next_at);
            self.timers.set(self.syncing.next_at, Timer::Sync);
        }
    }

    /// Asks for a stream. When too many are open, nothing happens.
    pub(crate) fn request(
        &mut self,
        now: Instant,
        to: SocketAddr,
        message: &Message,
        claims: &[Claim],
        purpose: Purpose,
    ) {
        if self.syncing.exchanges.len() >= EXCHANGES_MAX {
            self.counters.refused += 1;
            return;
        }
        self.syncing.next_exchange += 1;
        let exchange = ExchangeId(self.syncing.next_exchange);
        let ends_at = now + self.settings.stream_timeout;
        self.timers.set(ends_at, Timer::ExchangeEnds(exchange));
        self.syncing.exchanges.insert(exchange, Exchange { to, purpose, ends_at });
        let mut bytes = self.begin(message);
        claims.iter().for_each(|claim| put_claim(&mut bytes, claim));
        if matches!(message, Message::Join | Message::Sync { .. } | Message::Trade { .. }) {
            self.put_wants(&mut bytes);
        }
        self.counters.stream_bytes_sent += bytes.len() as u64;
        self.push(Output::Request { exchange, to, bytes });
    }

    pub(crate) fn on_stream_request(&mut self, now: Instant, stream: StreamToken, bytes: &[u8]) {
        let reply = if bytes.len() > self.settings.stream_bytes_max || self.is_silent() {
            None
        } else {
            let opened = self.open(bytes);
            let later = self.outdated.take().and_then(|id| self.known(id));
            if let (None, Some(later)) = (&opened, later) {
                let bytes = self.compose(&Message::Records, [later]);
                return self.push(Output::Reply { stream, bytes });
            }
            opened.and_then(|(header, message, Items { claims, user })| {
                let sender = header.sender;
                let wants_all = matches!(message, Message::Join);
                self.apply_all(now, claims, sender, None);
                let heads = heads(&user);
                self.apply_user(now, user, sender);
                match message {
                    Message::Probe { target } => (target == self.me).then(|| {
                        let own = self.own_claim(false);
                        self.compose(&Message::Present, [own])
                    }),
                    Message::Join | Message::Trade { .. } => {
                        let wants = if let Message::Trade { wants } = message { wants } else { Vec::new() };
                        let mut bytes = self.answer_records(wants_all, &wants);
                        self.put_lacking(&mut bytes, &heads);
                        Some(bytes)
                    }
                    Message::Sync { digests } => {
                        let mut bytes = self.answer_differing(&digests);
                        self.put_lacking(&mut bytes, &heads);
                        Some(bytes)
                    }
                    Message::Answer { number, kind, payload } => {
                        self.on_answer(now, sender, number, kind, payload);
                        Some(self.compose(&Message::Taken { number }, []))
                    }
                    Message::Ping { .. }
                    | Message::Ack { .. }
                    | Message::PingRequest { .. }
                    | Message::Nack { .. }
                    | Message::Gossip
                    | Message::Want { .. }
                    | Message::Recall { .. }
                    | Message::Taken { .. }
                    | Message::Present
                    | Message::Differing { .. }
                    | Message::Records => {
                        self.counters.malformed += 1;
                        None
                    }
                }
            })
        };
        match reply {
            Some(bytes) => {
                self.counters.stream_bytes_sent += bytes.len() as u64;
                self.push(Output::Reply { stream, bytes });
            }
            None => self.push(Output::Close { stream }),
        }
    }

    fn compose(&mut self, message: &Message, claims: impl IntoIterator<Item = Claim>) -> Vec<u8> {
        let mut bytes = self.begin(message);
        for claim in claims {
            put_claim(&mut bytes, &claim);
        }
        bytes
    }

    fn answer_records(&mut self, all: bool, wants: &[AgentId]) -> Vec<u8> {
        let mut bytes = self.begin(&Message::Records);
        let ids: Vec<AgentId> = if all {
            std::iter::once(self.me).chain(self.members.iter().map(|(id, _)| id)).collect()
        } else {
            wants.iter().copied().take(TRADE_MAX).collect()
        };
        self.put_known(&mut bytes, &ids);
        bytes
    }

    /// Adds what is known of each, as much as one message may hold.
    fn put_known(&self, bytes: &mut Vec<u8>, ids: &[AgentId]) {
        for &id in ids {
            let Some(claim) = self.known(id) else { continue };
            let begin = bytes.len();
            put_claim(bytes, &claim);
            if bytes.len() > self.settings.stream_bytes_max {
                bytes.truncate(begin);
                return;
            }
        }
    }

    fn summaries(&self, buckets: u64) -> Vec<Summary> {
        let own = Summary { id: self.me, stamp: self.stamp, version: self.version, rank: 0 };
        let all = std::iter::once(own).chain(self.members.iter().map(|(id, member)| member.summary(id)));
        all.filter(|summary| buckets & (1 << bucket(summary.id)) != 0).collect()
    }

    fn answer_differing(&mut self, theirs: &[u64; BUCKETS]) -> Vec<u8> {
        let own = self.digests();
        let parts = own.iter().zip(theirs).enumerate().filter(|(_, (own, theirs))| own != theirs);
        let buckets = parts.fold(0_u64, |buckets, (place, _)| buckets | (1 << place));
        let summaries = self.summaries(buckets);
        self.compose(&Message::Differing { buckets, summaries }, [])
    }

    pub(crate) fn on_stream_reply(&mut self, now: Instant, exchange: ExchangeId, bytes: &[u8]) {
        let Some(done) = self.syncing.exchanges.remove(&exchange) else { return };
        self.timers.take_back(done.ends_at, Timer::ExchangeEnds(exchange));
        if self.is_silent() || bytes.len() > self.settings.stream_bytes_max {
            return;
        }
        let Some((header, message, Items { claims, user })) = self.open(bytes) else {
            return self.exchange_failed(now, done.purpose);
        };
        let sender = header.sender;
        let many = self.members.len();
        let news = self.apply_all(now, claims, sender, None);
        self.apply_user(now, user, sender);
        match (done.purpose, message) {
            (Purpose::Probe { sequence }, Message::Present) => self.on_present(sender, sequence),
            (Purpose::Join { seed }, Message::Records) => {
                self.no_longer_fresh();
                self.on_joined(now, seed);
                // All that was there is new to one that had nothing; it need not look for more.
                self.synced(now, if many == 0 { MUCH_NEWS } else { news }, false);
            }
            (Purpose::Sync, Message::Differing { buckets, summaries }) => {
                self.trade(now, done.to, buckets, &summaries);
            }
            (Purpose::Trade, Message::Records) => self.synced(now, news, false),
            (Purpose::Answer { .. }, Message::Taken { number }) => self.on_taken(sender, number),
            (
                Purpose::Probe { .. } | Purpose::Join { .. } | Purpose::Sync | Purpose::Trade | Purpose::Answer { .. },
                _,
            ) => {
                self.counters.malformed += 1;
                self.exchange_failed(now, done.purpose);
            }
        }
    }

    /// Asks for what they know better, and tells what is known better here.
    fn trade(&mut self, now: Instant, with: SocketAddr, buckets: u64, theirs: &[Summary]) {
        let order = |summary: &Summary| (summary.stamp.epoch, summary.rank == 3, summary.stamp, summary.rank);
        let own: BTreeMap<AgentId, Summary> =
            self.summaries(buckets).into_iter().map(|summary| (summary.id, summary)).collect();
        let mut told = BTreeSet::new();
        let (mut wants, mut tell) = (Vec::new(), Vec::new());
        for summary in theirs {
            told.insert(summary.id);
            match own.get(&summary.id) {
                None => {
                    if !self.tombstones.covers(now, summary.id, summary.stamp) && summary.rank != 3 {
                        wants.push(summary.id);
                    }
                }
                Some(known) if order(summary) > order(known) => wants.push(summary.id),
                Some(known) if order(summary) < order(known) => tell.push(summary.id),
                Some(_) => {}
            }
        }
        tell.extend(own.keys().filter(|id| !told.contains(id)));
        if wants.is_empty() && tell.is_empty() {
            return self.synced(now, 0, true);
        }
        wants.truncate(TRADE_MAX);
        tell.truncate(TRADE_MAX);
        let claims: Vec<Claim> = tell.iter().filter_map(|&id| self.known(id)).collect();
        self.request(now, with, &Message::Trade { wants }, &claims, Purpose::Trade);
    }

    pub(crate) fn on_stream_failed(&mut self, now: Instant, exchange: ExchangeId) {
        if let Some(done) = self.syncing.exchanges.remove(&exchange) {
            self.timers.take_back(done.ends_at, Timer::ExchangeEnds(exchange));
            self.exchange_failed(now, done.purpose);
        }
    }

    fn exchange_failed(&mut self, now: Instant, purpose: Purpose) {
        match purpose {
            Purpose::Sync | Purpose::Trade => self.synced(now, 0, false),
            // The answer's own timer tries once more.
            Purpose::Probe { .. } | Purpose::Join { .. } | Purpose::Answer { .. } => {}
        }
    }

    pub(crate) fn on_seeds(&mut self, now: Instant, seeds: &[SocketAddr]) {
        let own = self.description.address;
        let wanted: BTreeSet<SocketAddr> =
            seeds.iter().copied().filter(|&seed| seed != own).take(self.settings.seeds_max).collect();
        self.syncing.seeds.retain(|seed, _| wanted.contains(seed));
        for seed in wanted {
            self.syncing.seeds.entry(seed).or_insert(Seed { next_try: now, tries: 0 });
        }
        self.set_seeds(now);
    }

    fn set_seeds(&mut self, now: Instant) {
        let next = self.syncing.seeds.values().map(|seed| seed.next_try).min();
        if let Some(next) = next {
            let at = next.max(now);
            if self.syncing.seeds_due.is_none_or(|due| at < due) {
                if let Some(due) = self.syncing.seeds_due.replace(at) {
                    self.timers.take_back(due, Timer::Seeds);
                }
                self.timers.set(at, Timer::Seeds);
            }
        }
    }

    /// Tries seeds that are no live member's address.
    pub(crate) fn on_seeds_due(&mut self, now: Instant) {
        self.syncing.seeds_due = None;
        let live: BTreeSet<SocketAddr> = self
            .members
            .iter()
            .filter(|(_, member)| member.is_live())
            .map(|(_, member)| member.described.address)
            .collect();
        let alone = live.is_empty();
        let least = if alone { Duration::from_millis(500) } else { self.settings.reconnect_interval };
        let most = if alone { Duration::from_secs(5) } else { SEED_PAUSE_MAX };
        let mut tries = Vec::new();
        for (&address, seed) in &mut self.syncing.seeds {
            if seed.next_try > now {
                continue;
            }
            if live.contains(&address) {
                seed.tries = 0;
                seed.next_try = now + SEED_PAUSE_MAX;
            } else if tries.len() < SEEDS_AT_ONCE {
                let pause = (least * 2_u32.saturating_pow(seed.tries.min(8))).min(most);
                seed.tries = seed.tries.saturating_add(1);
                seed.next_try = now + pause.mul_f64(self.rng.random_range(0.75..1.25));
                tries.push(address);
            } else {
                seed.next_try = now + least.mul_f64(self.rng.random_range(0.1..0.5));
            }
        }
        if !self.is_silent() {
            for seed in tries {
                let own = self.own_claim(true);
                self.request(now, seed, &Message::Join, &[own], Purpose::Join { seed });
            }
        }
        self.set_seeds(now);
    }

    fn on_joined(&mut self, now: Instant, seed: SocketAddr) {
        if let Some(seed) = self.syncing.seeds.get_mut(&seed) {
            seed.tries = 0;
            seed.next_try = now + SEED_PAUSE_MAX;
        }
        // Whoever was there already hears of this member from here too.
        self.announce(now, true);
    }

    /// Tries every seed again at once, as after a silence.
    pub(crate) fn retry_seeds(&mut self, now: Instant) {
        for seed in self.syncing.seeds.values_mut() {
            *seed = Seed { next_try: now, tries: 0 };
        }
        self.set_seeds(now);
    }
}

/// The last events that a peer says it has.
fn heads(items: &[UserItem]) -> Vec<Head> {
    let head = |item: &UserItem| match item {
        UserItem::Head(head) => Some(*head),
        UserItem::Event(_) | UserItem::Query(_) => None,
    };
    items.iter().filter_map(head).collect()
}
