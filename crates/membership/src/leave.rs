//! Leaving in good order, being ended by the provider, and what to do when the own id is in other hands.

use std::time::Duration;

use metacluster_types::{AgentId, Instant};
use rand::RngExt;

use crate::{
    Membership, Notice, Output,
    codec::message::Message,
    record::{Claim, ClaimKind, EPOCH_MAX, Ending, Epoch, Incarnation, Stamp, Version},
    state::Life,
    timers::Timer,
};

/// A leave is told to so many members directly; they tell the others.
const LEAVE_DIRECT_MAX: usize = 64;
/// A boot that has to be raised so often within [`RAISES_WITHIN`] is not ours alone.
const RAISES_MAX: usize = 4;
/// A boot is raised by a drawn number, so much at most.
const RAISE_STEP_MAX: u64 = 1 << 10;
const RAISES_WITHIN: Duration = Duration::from_secs(600);

/// What this member awaits for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing: it is a member.
    Member,
    /// That its leave is told.
    Leaving,
    /// That the driver stops.
    Left,
    /// The end of its silence, for its provider says that it has ended.
    Silent,
    /// That the driver starts a member with another id.
    Taken,
}

impl Membership {
    /// Whether this member sends nothing of its own accord.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self.phase, Phase::Left | Phase::Silent | Phase::Taken)
    }

    /// Leaves: every member is told, and [`Notice::LeaveTold`] says when the driver may stop. A second call does
    /// nothing.
    pub fn leave(&mut self, now: Instant) {
        let now = self.arrive(now);
        if self.phase != Phase::Member {
            return;
        }
        self.phase = Phase::Leaving;
        let claim = self.own_claim(true);
        let targets = self.members.draw(LEAVE_DIRECT_MAX, &mut self.rng, |_, _| true);
        self.announce(now, true);
        for target in targets {
            self.send_to_member(target, &Message::Gossip, std::slice::from_ref(&claim));
        }
        self.timers.set(now + self.settings.gossip_interval * 6, Timer::LeaveEnds);
    }

    pub(crate) fn on_leave_ends(&mut self) {
        if self.phase == Phase::Leaving {
            self.phase = Phase::Left;
            self.push(Output::Notice(Notice::LeaveTold));
        }
    }

    /// The driver's own strategy says that a host has ended.
    pub(crate) fn on_terminated(&mut self, now: Instant, id: AgentId) {
        if id == self.me {
            return self.on_ended(now);
        }
        let Some(member) = self.members.of(id) else { return };
        if matches!(member.life, Life::Left(_)) {
            return;
        }
        let ending = Ending::Provider(self.me);
        let kind = ClaimKind::Left(ending);
        let claim = Claim { subject: id, stamp: member.stamp, version: member.version, kind, described: None };
        self.end(now, &claim, ending);
    }

    /// The provider says that this very host has ended. It may be about to; if not, it comes back as a later boot.
    pub(crate) fn on_ended(&mut self, now: Instant) {
        if self.phase == Phase::Member {
            self.phase = Phase::Silent;
            self.push(Output::Notice(Notice::EndedByProvider));
            self.timers.set(now + self.settings.ended_silence, Timer::SilenceEnds);
        }
    }

    pub(crate) fn on_silence_ends(&mut self, now: Instant) {
        if self.phase == Phase::Silent {
            self.phase = Phase::Member;
            self.raise_epoch(now, self.stamp.epoch);
            self.retry_seeds(now);
            self.syncing.hurry(now);
        }
    }

    /// Begins a boot later than `beyond`. Who has to do so again and again shares its id with another process.
    pub(crate) fn raise_epoch(&mut self, now: Instant, beyond: Epoch) {
        while self.epochs_raised.front().is_some_and(|&at| now.since(at) > RAISES_WITHIN) {
            self.epochs_raised.pop_front();
        }
        self.epochs_raised.push_back(now);
        if self.epochs_raised.len() > RAISES_MAX || beyond >= EPOCH_MAX {
            self.phase = Phase::Taken;
            self.push(Output::Notice(Notice::IdentityTaken));
            return;
        }
        // Two processes of one boot that both go beyond it must not meet again in the next one.
        let further = self.rng.random_range(1..=RAISE_STEP_MAX);
        let epoch = Epoch(beyond.0.max(self.stamp.epoch.0) + further);
        (self.stamp, self.version) = (Stamp { epoch, incarnation: Incarnation(0) }, Version(0));
        self.push(Output::Notice(Notice::EpochRaised(epoch)));
        self.announce(now, true);
    }
}
