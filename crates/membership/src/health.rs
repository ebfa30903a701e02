//! Trust in oneself (Lifeguard's local health multiplier), and what a pause of the process means.

use std::time::Duration;

use metacluster_types::Instant;

use crate::{Membership, Notice, Output, settings::HEALTH_MAX, timers::Timer};

/// A score from 0, sound, to 8. Times of probes are multiplied by one more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health(u32);

impl Health {
    pub(crate) fn worse(&mut self) {
        self.0 = (self.0 + 1).min(HEALTH_MAX);
    }

    pub(crate) fn better(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    pub(crate) const fn score(self) -> u32 {
        self.0
    }

    pub(crate) fn scale(self, time: Duration) -> Duration {
        time * (self.0 + 1)
    }
}

impl Membership {
    /// This process stood still. What did not come in that while says nothing about others: probes are void, and
    /// suspicions begin anew.
    pub(crate) fn on_pause(&mut self, now: Instant, late: Duration) {
        self.counters.pauses += 1;
        self.health.worse();
        self.probes.clear();
        self.relays.clear();
        self.timers.retain(|timer| {
            !matches!(
                timer,
                Timer::AckTimeout(_) | Timer::ProbeEnds(_) | Timer::Nack(_) | Timer::RelayEnds(_) | Timer::Suspicion(_)
            )
        });
        let suspects: Vec<_> = if self.members.suspects == 0 {
            Vec::new()
        } else {
            self.members.iter().filter(|(_, member)| member.is_live()).map(|(id, _)| id).collect()
        };
        for id in suspects {
            self.restart_suspicion(now, id);
        }
        self.syncing.hurry(now);
        self.user.stood_still(now, late);
        if late > self.settings.suspicion_min {
            self.outputs.push_back(Output::Notice(Notice::Paused(late)));
        }
        // A timer that was due long ago would make the next call see the same pause again.
        self.postpone(now);
    }

    /// Moves what was due in the past to now.
    fn postpone(&mut self, now: Instant) {
        self.timers.lift(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_stays_within_its_bounds() {
        let mut health = Health::default();
        health.better();
        assert_eq!(health.scale(Duration::from_secs(1)), Duration::from_secs(1));
        for _ in 0..20 {
            health.worse();
        }
        assert_eq!(health.scale(Duration::from_secs(1)), Duration::from_secs(9));
    }
}
