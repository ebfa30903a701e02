//! The machine of gossip: datagrams in, datagrams and updates out. No clock, no socket.
//!
//! Each local node is announced in a datagram of its own: at once, then at uniformly random times around the interval,
//! at once again when a new local node appears, and within 50 ms of hearing an unknown peer, so that a lost packet does
//! not cost a newcomer an interval. Invariants: the work a second, the peers kept and the answers a second are bounded;
//! a time in which nothing could be heard makes no peer expire.

use std::{
    collections::{BTreeSet, VecDeque},
    net::Ipv4Addr,
    time::Duration,
};

use metacluster_types::{Candidate, Instant, NodeName, SourceUpdate};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

use super::{
    ignored::{Ignored, Reason},
    limit::Bucket,
    packet::{About, Packet, PacketFault, Said},
    peers::{Heard, Peers},
    seal::Key,
};
use crate::Local;

/// Longer datagrams are ignored; the longest of ours has some 5,000 bytes.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 8 << 10;
/// How many local nodes are announced.
const LOCAL_NODES_MAX: usize = 1000;
/// Datagrams that are read at once and then a second; those above are dropped unread.
const READS_BURST: u32 = 10_000;
const READS_A_SECOND: f64 = 5_000.0;
/// Answers to newcomers at once and then a second.
const ANSWERS_BURST: u32 = 5;
const ANSWERS_A_SECOND: f64 = 5.0;
/// What all agents of a group may answer in a second together, as far as each can tell from its table.
const GROUP_ANSWERS_A_SECOND: f64 = 500.0;
/// The longest random wait before an answer.
const ANSWER_DELAY_MAX: Duration = Duration::from_millis(40);
/// How often silences are looked at.
const SWEEP: Duration = Duration::from_millis(500);
/// A sweep that is later than this says that the process or the machine stood still.
const STANDSTILL: Duration = Duration::from_secs(2);

/// What the engine needs of the settings.
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) key: Option<Key>,
    pub(crate) interval: Duration,
    pub(crate) expire: Duration,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Send this datagram to the group.
    Send(Vec<u8>),
    /// Push this.
    Update(SourceUpdate),
    /// Log this line.
    Report(String),
}

/// What became of a datagram, as far as the socket's side has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was read.
    Read,
    /// It is our own that came back.
    Own,
    /// It was dropped unread: stop reading for a while.
    Overloaded,
}

/// The machine.
pub(crate) struct Engine {
    rules: Rules,
    local: Local,
    peers: Peers,
    ignored: Ignored,
    reads: Bucket,
    answers: Bucket,
    random: StdRng,
    outputs: VecDeque<Output>,
    beat_at: Instant,
    answer_at: Option<Instant>,
    sweep_at: Instant,
    settle_at: Option<Instant>,
    deaf_since: Option<Instant>,
    restarted: bool,
}

impl Engine {
    /// An engine that cannot hear yet. `restarted` says that an earlier run has told of peers that this one does not
    /// know: then the first whole answer waits until everyone could be heard.
    pub(crate) fn new(now: Instant, rules: Rules, local: Local, restarted: bool, seed: [u8; 32]) -> Self {
        Self {
            peers: Peers::new(rules.interval, rules.expire),
            rules,
            local,
            ignored: Ignored::default(),
            reads: Bucket::new(now, READS_BURST),
            answers: Bucket::new(now, ANSWERS_BURST),
            random: StdRng::from_seed(seed),
            outputs: VecDeque::new(),
            beat_at: now,
            answer_at: None,
            sweep_at: now + SWEEP,
            settle_at: None,
            deaf_since: Some(now),
            restarted,
        }
    }

    /// The socket is open, or works again: the next heartbeat goes out at once.
    pub(crate) fn handle_open(&mut self, now: Instant) {
        if let Some(since) = self.deaf_since.take() {
            self.peers.forgive(now.since(since));
        }
        self.beat_at = now;
        self.sweep_at = now + SWEEP;
        if self.restarted && self.peers.len() == 0 {
            self.settle_at = Some(now + self.rules.expire);
        } else {
            self.outputs.push_back(Output::Update(SourceUpdate::Snapshot(self.peers.candidates())));
        }
    }

    /// The socket is gone: nobody can be heard until [`Engine::handle_open`].
    pub(crate) fn handle_deaf(&mut self, now: Instant) {
        self.deaf_since = self.deaf_since.or(Some(now));
    }

    /// Someone may not have heard us: the next heartbeat goes out at once.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.beat_at = now;
    }

    /// What the agent is now. A new node is announced at once; one that is gone just falls silent, since an agent that
    /// lost sight of its node for a moment must not take it from everyone.
    pub(crate) fn handle_local(&mut self, now: Instant, local: Local) {
        let mut added = local.nodes.difference(&self.local.nodes).peekable();
        if added.peek().is_some() {
            self.beat_at = now;
        }
        for node in added {
            if self.peers.forget(node) {
                self.outputs.push_back(Output::Update(SourceUpdate::Lost(node.clone())));
            }
        }
        self.local = local;
    }

    /// Takes a datagram of the group that came from this address.
    pub(crate) fn handle_datagram(&mut self, now: Instant, from: Ipv4Addr, datagram: &[u8]) -> Verdict {
        if !self.reads.take(now, READS_A_SECOND) {
            self.ignored.count(Reason::Flood);
            return Verdict::Overloaded;
        }
        match self.read(datagram) {
            Ok(packet) if self.is_own(&packet) => Verdict::Own,
            Ok(packet) => {
                self.handle_packet(now, from, packet);
                Verdict::Read
            }
            Err(reason) => {
                self.ignored.count(reason);
                Verdict::Read
            }
        }
    }

    fn read(&self, datagram: &[u8]) -> Result<Packet, Reason> {
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return Err(Reason::Oversized);
        }
        let opened = match &self.rules.key {
            Some(key) => Some(key.open(datagram).ok_or(Reason::Sealed)?),
            None => None,
        };
        Packet::decode(opened.as_deref().unwrap_or(datagram)).map_err(|fault| match (fault, &opened) {
            // With the wrong secret, one packet in 256 has a padding that looks right.
            (PacketFault::Prefix, Some(_)) => Reason::Sealed,
            (PacketFault::Prefix, None) => Reason::Prefix,
            (PacketFault::Term, _) => Reason::Term,
            (PacketFault::Content, _) => Reason::Content,
            (PacketFault::Undistributed, _) => Reason::Undistributed,
        })
    }

    fn is_own(&self, packet: &Packet) -> bool {
        let by_us = packet.about.as_ref().is_some_and(|about| about.agent == self.local.agent);
        by_us || self.local.nodes.contains(&packet.node)
    }

    fn handle_packet(&mut self, now: Instant, from: Ipv4Addr, packet: Packet) {
        if packet.about.as_ref().is_some_and(|about| about.cluster != self.local.cluster) {
            self.ignored.count(Reason::OtherCluster);
            return;
        }
        match (packet.said, &packet.about) {
            (Said::Goodbye, Some(about)) => {
                if self.peers.bid_goodbye(&packet.node, about.agent) {
                    self.outputs.push_back(Output::Update(SourceUpdate::Lost(packet.node)));
                }
            }
            (Said::Goodbye, None) => self.ignored.count(Reason::Content),
            (Said::Heartbeat, _) => match self.peers.hear(now, from, packet) {
                Heard::New(candidate) => {
                    self.push_found(candidate);
                    self.plan_answer(now);
                }
                Heard::Changed(candidate) => self.push_found(candidate),
                Heard::Again => {}
                Heard::Refused => self.ignored.count(Reason::Full),
            },
        }
    }

    fn push_found(&mut self, candidate: Candidate) {
        self.outputs.push_back(Output::Update(SourceUpdate::Found(candidate)));
    }

    /// Plans one answer for all newcomers of the next moments, unless a heartbeat is due by then.
    fn plan_answer(&mut self, now: Instant) {
        let at = now + self.random.random_range(Duration::ZERO..=ANSWER_DELAY_MAX);
        if self.answer_at.is_some() || self.beat_at <= at || self.local.nodes.is_empty() {
            return;
        }
        let peers = u32::try_from(self.peers.len().max(1)).unwrap_or(u32::MAX);
        if self.answers.take(now, ANSWERS_A_SECOND.min(GROUP_ANSWERS_A_SECOND / f64::from(peers))) {
            self.answer_at = Some(at);
        }
    }

    /// What is to be done now. Drain it, then wait for [`Engine::next_deadline`].
    pub(crate) fn poll_output(&mut self, now: Instant) -> Option<Output> {
        if self.deaf_since.is_none() {
            if now >= self.beat_at {
                let factor = self.random.random_range(0.5..1.5);
                self.beat_at = now + self.rules.interval.mul_f64(factor);
                self.announce(Said::Heartbeat);
            } else if self.answer_at.is_some_and(|at| now >= at) {
                self.announce(Said::Heartbeat);
            }
            if now >= self.sweep_at {
                self.sweep(now);
            }
        }
        self.outputs.pop_front()
    }

    /// When [`Engine::poll_output`] has something to do by itself; never while there is no socket. A call at another
    /// time does no harm.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let answer_at = self.answer_at.unwrap_or(self.beat_at);
        self.deaf_since.is_none().then(|| self.beat_at.min(self.sweep_at).min(answer_at))
    }

    /// The datagrams that say goodbye for every local node.
    pub(crate) fn goodbye(&mut self) -> Vec<Vec<u8>> {
        self.outputs.clear();
        self.announce(Said::Goodbye);
        let goodbyes = self.outputs.drain(..);
        goodbyes.filter_map(|output| if let Output::Send(datagram) = output { Some(datagram) } else { None }).collect()
    }

    fn sweep(&mut self, now: Instant) {
        let late = now.since(self.sweep_at);
        if late > STANDSTILL {
            self.peers.forgive(late);
        }
        self.sweep_at = now + SWEEP;
        for node in self.peers.expire(now) {
            self.outputs.push_back(Output::Update(SourceUpdate::Lost(node)));
        }
        if self.settle_at.is_some_and(|at| now >= at) {
            self.settle_at = None;
            self.restarted = false;
            self.outputs.push_back(Output::Update(SourceUpdate::Snapshot(self.peers.candidates())));
        }
        if let Some(line) = self.ignored.report(now) {
            self.outputs.push_back(Output::Report(line));
        }
    }

    fn announce(&mut self, said: Said) {
        self.answer_at = None;
        let about =
            About { agent: self.local.agent, cluster: self.local.cluster.clone(), place: self.local.place.clone() };
        let nodes: BTreeSet<NodeName> = self.local.nodes.iter().take(LOCAL_NODES_MAX).cloned().collect();
        for node in nodes {
            let plain = Packet { said, node, about: Some(about.clone()) }.encode();
            let datagram = match &self.rules.key {
                Some(key) => {
                    let mut iv = [0; 16];
                    self.random.fill_bytes(&mut iv);
                    key.seal(iv, &plain)
                }
                None => plain,
            };
            self.outputs.push_back(Output::Send(datagram));
        }
    }

    #[cfg(test)]
    pub(super) fn ignored(&self) -> &Ignored {
        &self.ignored
    }
}
