//! Which claim supersedes which, and what becomes of each.
//!
//! A later boot wins over all that is known of an earlier one. Within a boot an end for good wins over everything;
//! else the later incarnation wins, and at one incarnation failed over suspect over alive. So claims may come in any
//! order, twice, or late, and every member ends with the same record.

use std::net::SocketAddr;

use metacluster_types::{AgentId, Instant};

use crate::{
    Membership, Notice, Output,
    codec::message::{Message, WANTS_MAX},
    record::{Claim, ClaimKind, Ending, Incarnation, LeaveProof, Stamp, Version},
    state::{Life, Member, Told},
    timers::Timer,
};

/// One claim may raise an incarnation by so much; more is a lie.
const INCARNATION_JUMP_MAX: u32 = 1 << 12;
/// One claim may raise a version by so much; more is a lie, and would soon leave its subject none to go beyond.
const VERSION_JUMP_MAX: u32 = 1 << 16;
/// For a member that was out of reach both grow by this each second: it went on, and a long cut must not make it a liar.
const DESCRIBED_PER_SECOND: u32 = 10;
/// A boot that is contradicted so often within this time is not ours alone.
const CONTRADICTED_MAX: usize = 8;
const CONTRADICTED_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);
/// Members whose failure is claimed are checked, so many at a time.
const DOUBTS_MAX: usize = 64;
/// A member that came back so often is given no more time than this many doublings.
const FLAPS_MAX: u32 = 4;

impl Membership {
    /// Takes in claims of one message; asks their teller, at `from`, for what it left out.
    pub(crate) fn apply_all(
        &mut self,
        now: Instant,
        claims: Vec<Claim>,
        teller: AgentId,
        from: Option<SocketAddr>,
    ) -> usize {
        let mut news = 0;
        let mut wants = Vec::new();
        for claim in claims {
            let subject = claim.subject;
            match self.apply(now, claim, teller) {
                Applied::News => news += 1,
                Applied::Nothing => {}
                Applied::Want => {
                    if wants.len() < WANTS_MAX && !wants.contains(&subject) {
                        wants.push(subject);
                    }
                }
            }
        }
        if let (Some(from), false) = (from, wants.is_empty() || self.is_silent()) {
            self.send(from, &Message::Want { ids: wants }, &[]);
        }
        news
    }

    /// A peer lacks some descriptions.
    pub(crate) fn on_want(&mut self, from: SocketAddr, ids: &[AgentId]) {
        let mut ids: Vec<_> = ids.iter().copied().take(WANTS_MAX).collect();
        while !ids.is_empty() {
            let mut claims = Vec::new();
            let mut room = self.settings.datagram_bytes_max.saturating_sub(100);
            while let Some(&id) = ids.last() {
                if let Some(claim) = self.known(id) {
                    let need = claim.described.as_ref().map_or(0, |described| described.bytes.len()) + 64;
                    if need > room && !claims.is_empty() {
                        break;
                    }
                    room = room.saturating_sub(need);
                    claims.push(claim);
                }
                ids.pop();
            }
            if !claims.is_empty() {
                self.send(from, &Message::Gossip, &claims);
            }
        }
    }

    /// All that is known of a member, self included.
    pub(crate) fn known(&self, id: AgentId) -> Option<Claim> {
        if id == self.me {
            return Some(self.own_claim(true));
        }
        self.members.of(id).map(|member| member.claim(id, self.me, true))
    }

    fn apply(&mut self, now: Instant, claim: Claim, teller: AgentId) -> Applied {
        if claim.subject == self.me {
            self.on_claim_about_self(now, &claim);
            return Applied::Nothing;
        }
        let Some(member) = self.members.of(claim.subject) else {
            return self.apply_to_stranger(now, &claim);
        };
        if claim.stamp.epoch > member.stamp.epoch {
            return self.apply_to_later_boot(now, claim, teller);
        }
        if claim.stamp.epoch < member.stamp.epoch || matches!(member.life, Life::Left(_)) {
            return Applied::Nothing;
        }
        let jump = claim.stamp.incarnation.0.saturating_sub(member.stamp.incarnation.0);
        let leap = claim.version.0.saturating_sub(member.version.0);
        let unheard = unheard(now, member);
        if jump > INCARNATION_JUMP_MAX.saturating_add(unheard) || leap > VERSION_JUMP_MAX.saturating_add(unheard) {
            self.counters.lies += 1;
            return Applied::Nothing;
        }
        match claim.kind {
            ClaimKind::Alive => self.apply_alive(now, claim),
            ClaimKind::Suspect(ref accusers) => {
                let accusers = accusers.clone();
                if self.suspect(now, claim.subject, claim.stamp, &accusers) { Applied::News } else { Applied::Nothing }
            }
            ClaimKind::Failed(accuser) => self.apply_failed(now, &claim, accuser),
            ClaimKind::Left(ending) => self.apply_left(now, &claim, ending),
        }
    }

    fn apply_to_stranger(&mut self, now: Instant, claim: &Claim) -> Applied {
        if self.tombstones.covers(now, claim.subject, claim.stamp) {
            return Applied::Nothing;
        }
        if matches!(claim.kind, ClaimKind::Left(_)) {
            // It ended before it was known: nothing to show, but old news shall not bring it up.
            return Applied::Nothing;
        }
        if self.members.len() >= self.settings.members_max {
            self.counters.refused += 1;
            return Applied::Nothing;
        }
        let Some(described) = claim.described.clone() else {
            let worth = matches!(claim.kind, ClaimKind::Alive | ClaimKind::Suspect(_));
            return if worth { Applied::Want } else { Applied::Nothing };
        };
        let failed = matches!(claim.kind, ClaimKind::Failed(_));
        let member = Member {
            stamp: claim.stamp,
            version: claim.version,
            life: if failed { Life::Failed } else { Life::Alive },
            described,
            since: now,
            told: Told::Nothing,
            flaps: 0,
            flapped_at: now,
            coordinate: None,
        };
        self.members.insert(claim.subject, member, &mut self.rng);
        self.syncing.view_changed(now);
        if failed {
            self.keep_for(now, claim.subject, self.settings.failed_kept);
            return Applied::News;
        }
        self.changed(now, claim.subject, false);
        self.notice_shared_name(claim.subject);
        self.spread(now, &Claim { kind: ClaimKind::Alive, ..claim.clone() });
        if let ClaimKind::Suspect(accusers) = &claim.kind {
            self.suspect(now, claim.subject, claim.stamp, accusers);
        }
        Applied::News
    }

    /// A member booted again; what was known of the boot before is over.
    fn apply_to_later_boot(&mut self, now: Instant, claim: Claim, teller: AgentId) -> Applied {
        match &claim.kind {
            ClaimKind::Left(Ending::Provider(_)) => {
                return self.apply_left(now, &claim, Ending::Provider(teller));
            }
            // Whether it was the member itself that left cannot be known without its description.
            ClaimKind::Left(Ending::Leave(_)) | ClaimKind::Failed(_) if claim.described.is_none() => {
                return Applied::Want;
            }
            ClaimKind::Alive | ClaimKind::Suspect(_) if claim.described.is_none() => return Applied::Want,
            ClaimKind::Alive | ClaimKind::Suspect(_) | ClaimKind::Failed(_) | ClaimKind::Left(_) => {}
        }
        if matches!(claim.kind, ClaimKind::Left(_)) {
            let proven = claim.described.as_ref().map(|described| described.commitment);
            if let ClaimKind::Left(Ending::Leave(proof)) = claim.kind
                && proven == Some(proof.commitment())
            {
                return self.end(now, &claim, Ending::Leave(proof));
            }
            self.counters.lies += 1;
            return Applied::Nothing;
        }
        let failed = matches!(claim.kind, ClaimKind::Failed(_));
        self.take_back_suspicion(claim.subject);
        let described = claim.described.clone();
        self.members.change(claim.subject, |member| {
            member.stamp = claim.stamp;
            member.version = claim.version;
            member.life = if failed { Life::Failed } else { Life::Alive };
            member.since = now;
            if let Some(described) = described {
                member.described = described;
            }
        });
        self.syncing.view_changed(now);
        self.changed(now, claim.subject, failed);
        if failed {
            self.keep_for(now, claim.subject, self.settings.failed_kept);
        } else {
            self.spread(now, &Claim { kind: ClaimKind::Alive, ..claim.clone() });
        }
        if let ClaimKind::Suspect(accusers) = &claim.kind {
            self.suspect(now, claim.subject, claim.stamp, accusers);
        }
        Applied::News
    }

    /// It says of itself that it lives.
    fn apply_alive(&mut self, now: Instant, claim: Claim) -> Applied {
        let Some(member) = self.members.of(claim.subject) else { return Applied::Nothing };
        let newer = claim.stamp > member.stamp;
        if !newer {
            return Applied::Nothing;
        }
        if claim.version != member.version && claim.described.is_none() {
            return Applied::Want;
        }
        let was_failed = member.life == Life::Failed;
        self.take_back_suspicion(claim.subject);
        let described = claim.described.clone();
        self.members.change(claim.subject, |member| {
            if member.life != Life::Alive {
                member.since = now;
            }
            member.life = Life::Alive;
            member.stamp = claim.stamp;
            member.version = claim.version;
            if let Some(described) = described {
                member.described = described;
            }
            if was_failed {
                member.flaps = (member.flaps_by(now) + 1).min(FLAPS_MAX);
                member.flapped_at = now;
            }
        });
        self.syncing.view_changed(now);
        self.changed(now, claim.subject, false);
        self.spread(now, &claim);
        Applied::News
    }

    /// Another holds it failed. Who suspects it too takes that; who does not asks the member itself first.
    fn apply_failed(&mut self, now: Instant, claim: &Claim, accuser: AgentId) -> Applied {
        let Some(member) = self.members.of(claim.subject) else { return Applied::Nothing };
        if claim.stamp < member.stamp {
            return Applied::Nothing;
        }
        match &member.life {
            Life::Failed | Life::Left(_) => Applied::Nothing,
            Life::Suspect(suspicion) => {
                let old = now.since(suspicion.since) * 2 >= self.settings.suspicion_min(self.size());
                if old {
                    self.fail(now, claim.subject, accuser);
                    return Applied::News;
                }
                let news = self.suspect(now, claim.subject, claim.stamp, &[accuser]);
                if news { Applied::News } else { Applied::Nothing }
            }
            Life::Alive => {
                if self.doubts() < DOUBTS_MAX {
                    self.doubt(now, claim.subject, claim.stamp);
                }
                Applied::Nothing
            }
        }
    }

    fn apply_left(&mut self, now: Instant, claim: &Claim, ending: Ending) -> Applied {
        if let Ending::Leave(LeaveProof(proof)) = ending {
            let known = self.members.of(claim.subject).map(|member| member.described.commitment);
            if known != Some(LeaveProof(proof).commitment()) {
                self.counters.lies += 1;
                return Applied::Nothing;
            }
        }
        self.end(now, claim, ending)
    }

    /// A boot ended for good.
    pub(crate) fn end(&mut self, now: Instant, claim: &Claim, ending: Ending) -> Applied {
        let id = claim.subject;
        self.take_back_suspicion(id);
        let Some(stamp) = self.members.change(id, |member| {
            member.stamp = member.stamp.max(claim.stamp);
            member.life = Life::Left(ending);
            member.since = now;
            member.stamp
        }) else {
            return Applied::Nothing;
        };
        self.tombstones.set(id, stamp, true, now + self.settings.tombstone_kept);
        self.syncing.view_changed(now);
        self.changed(now, id, false);
        let kept = match ending {
            Ending::Leave(_) => self.settings.left_kept,
            Ending::Provider(_) => self.settings.ended_kept,
        };
        self.keep_for(now, id, kept);
        let claim =
            Claim { subject: id, stamp, version: claim.version, kind: ClaimKind::Left(ending), described: None };
        self.spread(now, &claim);
        Applied::News
    }

    fn on_claim_about_self(&mut self, now: Instant, claim: &Claim) {
        if matches!(self.phase, crate::leave::Phase::Left | crate::leave::Phase::Leaving | crate::leave::Phase::Taken) {
            return;
        }
        if claim.stamp.epoch > self.stamp.epoch {
            self.raise_epoch(now, claim.stamp.epoch);
            return;
        }
        if claim.stamp.epoch < self.stamp.epoch {
            return;
        }
        let untrue = claim.described.as_ref().is_some_and(|described| *described != self.described);
        match &claim.kind {
            ClaimKind::Alive => {
                let other = claim.version != self.version || untrue;
                let ahead = claim.stamp > self.stamp;
                if ahead || (claim.stamp == self.stamp && other) {
                    self.counters.lies += 1;
                    if self.is_doubled(now) || !self.describe_beyond(claim.version) {
                        return self.raise_epoch(now, self.stamp.epoch);
                    }
                    self.raise_incarnation(now, claim.stamp.incarnation);
                    self.announce(now, true);
                }
            }
            ClaimKind::Suspect(_) | ClaimKind::Failed(_) => {
                if claim.stamp >= self.stamp {
                    self.counters.refuted += 1;
                    self.health.worse();
                    // Who believes in a description that is not ours must be told the right one.
                    let other = claim.version != self.version || untrue;
                    let ahead = claim.version > self.version || (claim.version == self.version && untrue);
                    if ahead && !self.describe_beyond(claim.version) {
                        return self.raise_epoch(now, self.stamp.epoch);
                    }
                    self.raise_incarnation(now, claim.stamp.incarnation);
                    self.announce(now, other);
                }
            }
            ClaimKind::Left(Ending::Provider(_)) => self.on_ended(now),
            ClaimKind::Left(Ending::Leave(_)) => self.counters.lies += 1,
        }
    }

    /// Somebody holds a description that is not ours. What is told from here on bears a version that no such description
    /// has: at the same one, who hears of the new incarnation alone would take it and keep what is wrong. Says whether
    /// there is such a version that others believe.
    fn describe_beyond(&mut self, version: Version) -> bool {
        let next = self.version.max(version).0.saturating_add(1);
        let believed = next - self.version.0 <= VERSION_JUMP_MAX && next < u32::MAX;
        if believed {
            self.version = Version(next);
        }
        believed
    }

    /// Whether this boot was contradicted so often that another process is at work under its id and its very epoch, as
    /// when two copies of a disk boot in the same second. A later boot of one of them then settles it.
    fn is_doubled(&mut self, now: Instant) -> bool {
        while self.contradicted.front().is_some_and(|&at| now.since(at) > CONTRADICTED_WITHIN) {
            self.contradicted.pop_front();
        }
        self.contradicted.push_back(now);
        let doubled = self.contradicted.len() > CONTRADICTED_MAX;
        if doubled {
            self.contradicted.clear();
        }
        doubled
    }

    /// Goes beyond what is said of this member; begins a new boot when the counter comes near its end.
    pub(crate) fn raise_incarnation(&mut self, now: Instant, beyond: Incarnation) {
        let own = self.stamp.incarnation.0;
        let next = beyond.0.max(own).saturating_add(1);
        // Others would not believe such a jump.
        let leap = next - own > INCARNATION_JUMP_MAX;
        if leap || next > crate::record::INCARNATION_MAX.0 {
            self.raise_epoch(now, self.stamp.epoch);
        } else {
            self.stamp.incarnation = Incarnation(next);
        }
    }

    fn notice_shared_name(&mut self, id: AgentId) {
        // Quadratic in a cold start, so only where it is cheap; the driver can look at the view as it likes.
        if self.members.len() > 256 {
            return;
        }
        let Some(name) = self.members.of(id).map(|member| member.described.name_hash) else { return };
        let other = if name == self.described.name_hash {
            Some(self.me)
        } else {
            let same = |other, member: &Member| other != id && member.is_live() && member.described.name_hash == name;
            self.members.iter().find(|&(other, member)| same(other, member)).map(|(other, _)| other)
        };
        if let Some(one) = other {
            self.outputs.push_back(Output::Notice(Notice::NameShared { one, other: id }));
        }
    }

    pub(crate) fn keep_for(&mut self, now: Instant, id: AgentId, kept: std::time::Duration) {
        self.timers.set(now + kept, Timer::Reap(id));
    }

    /// A record has been kept long enough, unless the member came back since.
    pub(crate) fn on_reap(&mut self, now: Instant, id: AgentId) {
        let Some(member) = self.members.of(id) else { return };
        let (kept, left) = match member.life {
            Life::Alive | Life::Suspect(_) => return,
            Life::Failed => (self.settings.failed_kept, false),
            Life::Left(Ending::Leave(_)) => (self.settings.left_kept, true),
            Life::Left(Ending::Provider(_)) => (self.settings.ended_kept, true),
        };
        if now.since(member.since) < kept {
            return;
        }
        let stamp: Stamp = member.stamp;
        self.on_flush();
        self.tombstones.set(id, stamp, left, now + self.settings.tombstone_kept);
        self.members.remove(id);
        self.gone(now, id, stamp.epoch);
    }
}

/// How often a member that was out of reach may have described itself anew meanwhile.
fn unheard(now: Instant, member: &Member) -> u32 {
    match member.life {
        Life::Failed => {
            u32::try_from(now.since(member.since).as_secs()).unwrap_or(u32::MAX).saturating_mul(DESCRIBED_PER_SECOND)
        }
        Life::Alive | Life::Suspect(_) | Life::Left(_) => 0,
    }
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It changed something.
    News,
    /// It was known, old, or not believed.
    Nothing,
    /// It cannot be used without the description that it lacks.
    Want,
}
