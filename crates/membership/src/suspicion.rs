//! The time between suspect and failed: Lifeguard's dynamic suspicion, and the members that confirm at once.

use std::time::Duration;

use metacluster_types::{AgentId, Instant};
use rand::RngExt;

use crate::{
    Membership,
    codec::message::Message,
    record::{ACCUSERS_MAX, Claim, ClaimKind, Stamp},
    state::{Life, Member, Suspicion},
    timers::Timer,
};

/// So many members of a suspect's zone are asked at once.
const ZONE_PROBES: usize = 8;

/// The time after which a suspicion fails its subject, given how many others confirmed it (Lifeguard, section IV).
pub(crate) fn timeout(least: Duration, most: Duration, confirmed: usize, wanted: usize) -> Duration {
    if wanted == 0 || confirmed >= wanted {
        return least;
    }
    let part = ((confirmed + 1) as f64).ln() / ((wanted + 1) as f64).ln();
    least + most.saturating_sub(least).mul_f64((1.0 - part).clamp(0.0, 1.0))
}

impl Membership {
    /// Suspects a member, or adds accusers to its suspicion. Says whether anything changed.
    pub(crate) fn suspect(&mut self, now: Instant, id: AgentId, stamp: Stamp, accusers: &[AgentId]) -> bool {
        let wanted =
            self.settings.confirmations.min(self.members.live().len().saturating_sub(1 + self.members.suspects));
        let Some(member) = self.members.of(id) else { return false };
        if stamp < member.stamp {
            return false;
        }
        match &member.life {
            Life::Alive => {
                let mut known: Vec<AgentId> = Vec::new();
                for &accuser in accusers.iter().filter(|&&accuser| accuser != id).take(ACCUSERS_MAX) {
                    if !known.contains(&accuser) {
                        known.push(accuser);
                    }
                }
                if known.is_empty() {
                    return false;
                }
                let by_self = known.contains(&self.me);
                let suspicion = Suspicion { since: now, deadline: now, accusers: known, wanted };
                self.members.change(id, |member| {
                    member.stamp = stamp;
                    member.life = Life::Suspect(Box::new(suspicion));
                    member.since = now;
                });
                self.syncing.view_changed(now);
                self.changed(now, id, false);
                self.set_suspicion(now, id);
                self.tell_suspicion(now, id, by_self);
                if by_self {
                    self.ask_its_zone(now, id);
                } else {
                    self.confirm_perhaps(now, id);
                }
                true
            }
            Life::Suspect(_) => self.add_accusers(now, id, stamp, accusers),
            Life::Failed | Life::Left(_) => false,
        }
    }

    fn add_accusers(&mut self, now: Instant, id: AgentId, stamp: Stamp, accusers: &[AgentId]) -> bool {
        let me = self.me;
        let mut added = (false, false);
        self.members.change(id, |member| {
            member.stamp = member.stamp.max(stamp);
            let Life::Suspect(suspicion) = &mut member.life else { return };
            for &accuser in accusers {
                let room = suspicion.accusers.len() < ACCUSERS_MAX;
                if room && accuser != id && !suspicion.accusers.contains(&accuser) {
                    suspicion.accusers.push(accuser);
                    added = (true, added.1 || accuser == me);
                }
            }
        });
        if added.0 {
            self.set_suspicion(now, id);
            self.tell_suspicion(now, id, added.1);
        }
        added.0
    }

    /// Sets the end of a suspicion by what is known now.
    fn set_suspicion(&mut self, now: Instant, id: AgentId) {
        let size = self.size();
        let (least, most) = (self.settings.suspicion_min(size), self.settings.suspicion_max(size));
        let set = self.members.note(id, |member| {
            let factor = 1 << member.flaps_by(now);
            let Life::Suspect(suspicion) = &mut member.life else { return None };
            let confirmed = suspicion.accusers.len().saturating_sub(1);
            let wait = timeout(least * factor, most * factor, confirmed, suspicion.wanted);
            let old = suspicion.deadline;
            suspicion.deadline = (suspicion.since + wait).max(now);
            Some((old, suspicion.deadline))
        });
        if let Some((old, new)) = set.flatten() {
            self.timers.take_back(old, Timer::Suspicion(id));
            self.timers.set(new, Timer::Suspicion(id));
        }
    }

    /// Gives a suspect its whole time again.
    pub(crate) fn restart_suspicion(&mut self, now: Instant, id: AgentId) {
        let suspect = self.members.note(id, |member| {
            let Life::Suspect(suspicion) = &mut member.life else { return false };
            suspicion.since = now;
            true
        });
        if suspect == Some(true) {
            self.set_suspicion(now, id);
        }
    }

    pub(crate) fn take_back_suspicion(&mut self, id: AgentId) {
        if let Some(Life::Suspect(suspicion)) = self.members.of(id).map(|member| &member.life) {
            self.timers.take_back(suspicion.deadline, Timer::Suspicion(id));
        }
    }

    /// News of a suspicion; an accuser tells the suspect itself too.
    fn tell_suspicion(&mut self, now: Instant, id: AgentId, by_self: bool) {
        let Some(claim) = self.members.of(id).map(|member| member.claim(id, self.me, false)) else { return };
        self.spread(now, &claim);
        if by_self {
            self.send_to_member(id, &Message::Gossip, &[claim]);
        }
    }

    /// A few of those who hear of a suspicion probe the suspect at once: it is confirmed or refuted in one probe's
    /// time, and not when their rings come round to it.
    fn confirm_perhaps(&mut self, now: Instant, id: AgentId) {
        let others = self.members.live().len().max(1);
        if self.rng.random_range(0..others) < self.settings.confirmers {
            self.confirm(now, id);
        }
    }

    /// Who gets no answer from another zone asks more members there at once: when the whole zone is gone, its members are
    /// suspected together and fail in one burst, and not one by one as their turns come.
    fn ask_its_zone(&mut self, now: Instant, id: AgentId) {
        let zone = self.members.of(id).and_then(|member| member.described.zone_hash);
        if zone.is_none() || zone == self.described.zone_hash {
            return;
        }
        let there = |_, member: &Member| member.life == Life::Alive && member.described.zone_hash == zone;
        for other in self.members.draw(ZONE_PROBES, &mut self.rng, there) {
            self.confirm(now, other);
        }
    }

    /// The time is over.
    pub(crate) fn on_suspicion_ends(&mut self, now: Instant, id: AgentId) {
        let due = self.members.of(id).is_some_and(|member| match &member.life {
            Life::Suspect(suspicion) => suspicion.deadline <= now,
            Life::Alive | Life::Failed | Life::Left(_) => false,
        });
        if due {
            self.fail(now, id, self.me);
        }
    }

    /// Holds a member failed.
    pub(crate) fn fail(&mut self, now: Instant, id: AgentId, accuser: AgentId) {
        self.take_back_suspicion(id);
        let Some((stamp, version)) = self.members.change(id, |member| {
            member.life = Life::Failed;
            member.since = now;
            (member.stamp, member.version)
        }) else {
            return;
        };
        self.counters.failed += 1;
        self.syncing.view_changed(now);
        self.changed(now, id, true);
        self.keep_for(now, id, self.settings.failed_kept);
        let kind = ClaimKind::Failed(accuser);
        self.spread(now, &Claim { subject: id, stamp, version, kind, described: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirmations_bring_the_time_down_to_the_least() {
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(6));
        let times: Vec<_> = (0..=4).map(|confirmed| timeout(least, most, confirmed, 3)).collect();
        assert_eq!((times[0], times[3], times[4]), (most, least, least));
        assert!(times.windows(2).all(|pair| pair[0] >= pair[1]));
        assert_eq!(timeout(least, most, 0, 0), least);
    }
}
