//! Probing: one member each round, in a random order that comes round; others are asked to try, and a stream is
//! tried, before anyone is suspected (SWIM, section 4.1; Lifeguard's health-scaled probing and buddy system).

use std::net::SocketAddr;

use metacluster_types::{AgentId, Instant};
use rand::RngExt;

use crate::{
    Coordinate, Membership, Output,
    codec::message::Message,
    record::{Claim, ClaimKind, Epoch, Stamp, short},
    state::Life,
    sync::Purpose,
    timers::Timer,
};

/// Why a member is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its turn has come.
    Round,
    /// Somebody suspects it.
    Confirm,
    /// Somebody holds it failed, at this stamp; here it is alive.
    Doubt(Stamp),
    /// It is held failed here; perhaps it lives.
    Reconnect,
}

/// A probe that waits for its answer.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) target: AgentId,
    epoch: Epoch,
    why: Why,
    sent_at: Instant,
    ack_due: Instant,
    ends_at: Instant,
    /// Who was asked to try.
    helpers: Vec<AgentId>,
    nacks: usize,
    retried: bool,
}

impl Membership {
    /// How many claims of failure are being checked.
    pub(crate) fn doubts(&self) -> usize {
        self.probes.len()
    }

    pub(crate) fn is_probing(&self, id: AgentId) -> bool {
        self.probes.values().any(|probe| probe.target == id)
    }

    /// The next member's turn.
    pub(crate) fn on_round(&mut self, now: Instant) {
        let interval = self.health.scale(self.settings.probe_interval(self.size()));
        // A tenth of jitter, so that members that started together do not stay in step.
        let jitter = self.rng.random_range(0.95..1.05);
        self.timers.set(now + interval.mul_f64(jitter), Timer::Round);
        if self.is_silent() {
            return;
        }
        if let Some(target) = self.members.next_in_ring(&mut self.rng)
            && !self.is_probing(target)
        {
            self.probe(now, target, Why::Round);
        }
    }

    /// A suspicion that another raised is looked into at once.
    pub(crate) fn confirm(&mut self, now: Instant, id: AgentId) {
        if !self.is_silent() && !self.is_probing(id) {
            self.probe(now, id, Why::Confirm);
        }
    }

    /// Another holds a member failed that is alive here: the member is asked.
    pub(crate) fn doubt(&mut self, now: Instant, id: AgentId, stamp: Stamp) {
        if !self.is_silent() && !self.is_probing(id) {
            self.probe(now, id, Why::Doubt(stamp));
        }
    }

    /// Tries one failed member, so that halves of a cluster that was cut find each other.
    pub(crate) fn on_reconnect(&mut self, now: Instant) {
        let spread = f64::from(self.size().ilog2().max(3)) / 3.0;
        let jitter = self.rng.random_range(0.8..1.2);
        self.timers.set(now + self.settings.reconnect_interval.mul_f64(spread * jitter), Timer::Reconnect);
        let failed = self.members.failed();
        if failed.is_empty() || self.is_silent() {
            return;
        }
        let target = failed[self.rng.random_range(0..failed.len())];
        if !self.is_probing(target) {
            self.probe(now, target, Why::Reconnect);
        }
    }

    fn probe(&mut self, now: Instant, target: AgentId, why: Why) {
        let Some(epoch) = self.members.of(target).map(|member| member.stamp.epoch) else { return };
        let sequence = self.fresh_sequence();
        let ack_due = now + self.health.scale(self.settings.ack_timeout);
        let ends_at = now + self.health.scale(self.settings.probe_timeout);
        self.timers.set(ack_due, Timer::AckTimeout(sequence));
        self.timers.set(ends_at, Timer::ProbeEnds(sequence));
        self.counters.probes += 1;
        let probe =
            Probe { target, epoch, why, sent_at: now, ack_due, ends_at, helpers: Vec::new(), nacks: 0, retried: false };
        self.probes.insert(sequence, probe);
        self.ping(target, sequence, why);
    }

    /// A sequence that none can guess and none has.
    pub(crate) fn fresh_sequence(&mut self) -> u32 {
        loop {
            let sequence = self.rng.random();
            if !self.probes.contains_key(&sequence) && !self.relays.contains_key(&sequence) {
                return sequence;
            }
        }
    }

    /// Sends a ping; a member of which ill is known hears that first, so that it can refute it in its answer.
    fn ping(&mut self, target: AgentId, sequence: u32, why: Why) {
        let mut first = self.ill(target);
        if let (Why::Doubt(stamp), true, Some(member)) = (why, first.is_empty(), self.members.of(target)) {
            let (stamp, version) = (stamp.max(member.stamp), member.version);
            let kind = ClaimKind::Suspect(vec![self.me]);
            first.push(Claim { subject: target, stamp, version, kind, described: None });
        }
        self.send_to_member(target, &Message::Ping { sequence, target: short(target) }, &first);
    }

    /// What is held against a member.
    fn ill(&self, id: AgentId) -> Vec<Claim> {
        let ill = self.members.of(id).filter(|member| member.life != Life::Alive);
        ill.map(|member| member.claim(id, self.me, false)).into_iter().collect()
    }

    pub(crate) fn on_ping(
        &mut self,
        now: Instant,
        from: SocketAddr,
        (sender, epoch): (AgentId, Epoch),
        sequence: u32,
        target: u64,
        about_us: bool,
    ) {
        if target != short(self.me) {
            self.counters.misdirected += 1;
            return;
        }
        let mut first = self.ill(sender);
        let elsewhere = self.members.of(sender).is_some_and(|member| member.described.address != from);
        if elsewhere && (!first.is_empty() || self.rng.random_range(0..4) == 0) {
            // Either it is behind a translator, or somebody told a wrong address of it: it shall see what is told. What
            // is held against it comes with that and not before it, or its answer would outrun the rest.
            first = self.known(sender).into_iter().collect();
        }
        if about_us {
            first.push(self.own_claim(false));
        }
        let message = Message::Ack { sequence, digest: self.digest(), coordinate: self.coordinate };
        self.send(from, &message, &first);
        let known = self.members.of(sender).is_some_and(|member| member.stamp.epoch >= epoch);
        if !known && self.wants_are_fresh(now) {
            self.send(from, &Message::Want { ids: vec![sender] }, &[]);
        }
    }

    pub(crate) fn on_ack(&mut self, now: Instant, sender: AgentId, sequence: u32, digest: u64, coordinate: Coordinate) {
        if self.relay_ack(sender, sequence, digest, coordinate) {
            return;
        }
        let Some(probe) = self.probes.get(&sequence) else { return };
        let direct = sender == probe.target;
        if !direct && !probe.helpers.contains(&sender) {
            self.counters.lies += 1;
            return;
        }
        if direct && !probe.retried {
            let round_trip = now.since(probe.sent_at);
            self.coordinate.observe(&coordinate, round_trip, &mut self.rng);
            self.members.note(sender, |member| member.coordinate = Some(coordinate));
        }
        let target = probe.target;
        self.answered(sequence);
        if direct {
            self.compare(now, target, digest);
        }
    }

    /// The target lives.
    pub(crate) fn answered(&mut self, sequence: u32) {
        if let Some(probe) = self.probes.remove(&sequence) {
            self.timers.take_back(probe.ack_due, Timer::AckTimeout(sequence));
            self.timers.take_back(probe.ends_at, Timer::ProbeEnds(sequence));
            self.health.better();
        }
    }

    pub(crate) fn on_nack(&mut self, sender: AgentId, sequence: u32) {
        if let Some(probe) = self.probes.get_mut(&sequence)
            && probe.helpers.contains(&sender)
        {
            probe.nacks += 1;
        }
    }

    /// No answer yet: once more, through others, and over a stream.
    pub(crate) fn on_ack_timeout(&mut self, now: Instant, sequence: u32) {
        let Some(probe) = self.probes.get_mut(&sequence) else { return };
        let (target, why) = (probe.target, probe.why);
        if why == Why::Reconnect {
            return;
        }
        probe.retried = true;
        let Some(address) = self.members.of(target).map(|member| member.described.address) else { return };
        let sound = |id: AgentId, member: &crate::state::Member| id != target && member.life == Life::Alive;
        let helpers = self.members.draw(self.settings.indirect_probes, &mut self.rng, sound);
        self.ping(target, sequence, why);
        let request = Message::PingRequest { sequence, target, address };
        for &helper in &helpers {
            self.send_to_member(helper, &request, &[]);
        }
        if let Some(probe) = self.probes.get_mut(&sequence) {
            probe.helpers = helpers;
        }
        if self.settings.stream_probe {
            let first = self.ill(target);
            self.request(now, address, &Message::Probe { target }, &first, Purpose::Probe { sequence });
        }
    }

    /// No answer at all.
    pub(crate) fn on_probe_ends(&mut self, now: Instant, sequence: u32) {
        let Some(probe) = self.probes.remove(&sequence) else { return };
        self.timers.take_back(probe.ack_due, Timer::AckTimeout(sequence));
        if probe.why == Why::Reconnect {
            return;
        }
        self.counters.probes_failed += 1;
        if !probe.helpers.is_empty() && probe.nacks == 0 {
            // Not one of those who were asked said anything: it may well be this side.
            self.health.worse();
        }
        let Some(member) = self.members.of(probe.target) else { return };
        if member.is_live() && member.stamp.epoch == probe.epoch {
            let stamp = member.stamp;
            let me = self.me;
            self.suspect(now, probe.target, stamp, &[me]);
        }
    }

    /// Takes notice of a stream that answered a probe.
    pub(crate) fn on_present(&mut self, sender: AgentId, sequence: u32) {
        if self.probes.get(&sequence).is_some_and(|probe| probe.target == sender) {
            self.counters.stream_answers += 1;
            self.answered(sequence);
        }
    }

    pub(crate) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }
}
