//! What can be set, in presets for situations, and every figure that follows from the size of the cluster.
//!
//! Lengths of time grow with the logarithm of the number of members, as in SWIM; probing is faster in small clusters,
//! where it costs little, and slower in large ones, so that the bytes that a member sends stay flat.

use std::time::Duration;

/// How a member probes, gossips and judges. All members of a cluster should use the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The time between two probes in a cluster of up to eight.
    pub probe_interval_min: Duration,
    /// The time between two probes in a large cluster.
    pub probe_interval_max: Duration,
    /// How long an answer may take before other ways are tried.
    pub ack_timeout: Duration,
    /// How long a probe may take in all.
    pub probe_timeout: Duration,
    /// How many others are asked to probe in our stead.
    pub indirect_probes: usize,
    /// Whether an unanswered probe is tried over a stream too.
    pub stream_probe: bool,
    /// The least time between suspicion and failure in a cluster of up to eight.
    pub suspicion_min: Duration,
    /// What part of `suspicion_min`, in per cent, each doubling of the cluster adds.
    pub suspicion_growth_percent: u32,
    /// The most time between suspicion and failure, as a multiple of the least: what an accuser alone must wait.
    pub suspicion_max_factor: u32,
    /// How many others must agree before the least time is enough.
    pub confirmations: usize,
    /// How many members are expected to probe a suspect at once when they hear of it.
    pub confirmers: usize,
    /// The time between two rounds of gossip while there is news.
    pub gossip_interval: Duration,
    /// To how many members a round of gossip goes.
    pub gossip_fanout: usize,
    /// How many times a member sends a piece of news: this times the logarithm (base 10) of the cluster.
    pub retransmit_factor: usize,
    /// Gossip bytes a second, at most; the rest waits for the next round.
    pub gossip_bytes_per_second: usize,
    /// The longest packet, without the bytes that sealing, UDP and IP add.
    pub datagram_bytes_max: usize,
    /// The longest message over a stream.
    pub stream_bytes_max: usize,
    /// How long a stream may take to answer.
    pub stream_timeout: Duration,
    /// The least time between two exchanges that a difference of digests brings about.
    pub sync_interval_min: Duration,
    /// The most time between two exchanges while digests differ.
    pub sync_interval_max: Duration,
    /// The time between two exchanges that take place even when digests seem equal.
    pub sync_interval: Duration,
    /// The time between two tries to reach a failed member or a seed that is no member.
    pub reconnect_interval: Duration,
    /// How long changes are gathered before they are told.
    pub batch_window: Duration,
    /// How long a burst of failures may hold them back: as long as a suspicion lasts at least, so that whoever was
    /// suspect when the first one failed is told with it.
    pub batch_window_max: Duration,
    /// How long a failed member is remembered.
    pub failed_kept: Duration,
    /// How long a member that left is shown.
    pub left_kept: Duration,
    /// How long a member that its provider ended is shown.
    pub ended_kept: Duration,
    /// How long it is remembered that a member's boot has ended, so that old news cannot bring it back.
    pub tombstone_kept: Duration,
    /// How long a member that its provider ended stays silent when it finds itself still alive.
    pub ended_silence: Duration,
    /// A wake-up later than this means that this process stood still.
    pub pause_threshold: Duration,
    /// How many members are kept; news of more is refused.
    pub members_max: usize,
    /// How many seeds are kept.
    pub seeds_max: usize,
    /// How long a user event is kept for members that were away; an older one is nobody's news.
    pub event_kept: Duration,
}

/// The worst local health: the multiplier of probe times is at most one more.
pub(crate) const HEALTH_MAX: u32 = 8;
/// Up to so many members a cluster is small.
const SMALL: usize = 8;
/// From so many members on, probes are as slow as they get.
const LARGE: usize = 1024;

impl Settings {
    /// Members on one machine, or one rack.
    #[must_use]
    pub fn local() -> Self {
        Self {
            probe_interval_min: Duration::from_millis(200),
            ack_timeout: Duration::from_millis(100),
            probe_timeout: Duration::from_millis(300),
            suspicion_min: Duration::from_millis(700),
            gossip_interval: Duration::from_millis(50),
            ..Self::lan()
        }
    }

    /// Members in one region: round trips of some milliseconds. The default.
    #[must_use]
    pub fn lan() -> Self {
        Self {
            probe_interval_min: Duration::from_millis(250),
            probe_interval_max: Duration::from_millis(1250),
            ack_timeout: Duration::from_millis(200),
            probe_timeout: Duration::from_millis(500),
            indirect_probes: 3,
            stream_probe: true,
            suspicion_min: Duration::from_millis(800),
            suspicion_growth_percent: 33,
            suspicion_max_factor: 6,
            confirmations: 3,
            confirmers: 6,
            gossip_interval: Duration::from_millis(100),
            gossip_fanout: 3,
            retransmit_factor: 4,
            gossip_bytes_per_second: 128 * 1024,
            datagram_bytes_max: 1280,
            stream_bytes_max: 8 * 1024 * 1024,
            stream_timeout: Duration::from_secs(3),
            sync_interval_min: Duration::from_millis(400),
            sync_interval_max: Duration::from_secs(15),
            sync_interval: Duration::from_secs(60),
            reconnect_interval: Duration::from_secs(4),
            batch_window: Duration::from_millis(50),
            batch_window_max: Duration::from_millis(800),
            failed_kept: Duration::from_secs(24 * 3600),
            left_kept: Duration::from_secs(300),
            ended_kept: Duration::from_secs(5),
            tombstone_kept: Duration::from_secs(24 * 3600),
            ended_silence: Duration::from_secs(60),
            pause_threshold: Duration::from_millis(300),
            members_max: 20_000,
            seeds_max: 1024,
            event_kept: Duration::from_secs(600),
        }
    }

    /// Members in several regions: round trips of up to some hundred milliseconds.
    #[must_use]
    pub fn wan() -> Self {
        Self {
            probe_interval_min: Duration::from_millis(1000),
            probe_interval_max: Duration::from_millis(3000),
            ack_timeout: Duration::from_millis(1000),
            probe_timeout: Duration::from_millis(2500),
            suspicion_min: Duration::from_millis(5000),
            gossip_interval: Duration::from_millis(250),
            gossip_fanout: 4,
            stream_timeout: Duration::from_secs(10),
            sync_interval_min: Duration::from_secs(2),
            reconnect_interval: Duration::from_secs(10),
            pause_threshold: Duration::from_secs(1),
            ..Self::lan()
        }
    }

    /// The time between two probes among `members`, self included.
    #[must_use]
    pub fn probe_interval(&self, members: usize) -> Duration {
        let doublings = doublings(members).min(doublings(LARGE));
        let span = self.probe_interval_max.saturating_sub(self.probe_interval_min);
        self.probe_interval_min + span.mul_f64(doublings / super::settings::doublings(LARGE))
    }

    /// The least time between suspicion and failure among `members`.
    #[must_use]
    pub fn suspicion_min(&self, members: usize) -> Duration {
        let growth = f64::from(self.suspicion_growth_percent) / 100.0 * doublings(members);
        self.suspicion_min.mul_f64(1.0 + growth)
    }

    /// The most time between suspicion and failure among `members`.
    #[must_use]
    pub fn suspicion_max(&self, members: usize) -> Duration {
        self.suspicion_min(members) * self.suspicion_max_factor.max(1)
    }

    /// How many times one member sends one piece of news among `members`.
    #[must_use]
    pub fn retransmits(&self, members: usize) -> usize {
        let digits = members.saturating_add(1).ilog10() as usize + 1;
        self.retransmit_factor * digits
    }

    /// How long news needs to reach everyone among `members` over gossip, with a margin of two.
    #[must_use]
    pub fn spread(&self, members: usize) -> Duration {
        let rounds = members.max(2).ilog2() + 3;
        self.gossip_interval * rounds * 2
    }

    /// The time in which every survivor holds a dead member failed, however the chance falls: each survivor's ring
    /// comes round, the probe fails, the suspicion runs its longest, and the news spreads.
    #[must_use]
    pub fn failure_bound(&self, members: usize) -> Duration {
        let round = self.probe_interval(members) * 2 * (HEALTH_MAX + 1);
        let probe = self.probe_timeout * (HEALTH_MAX + 1);
        round + probe + self.suspicion_max(members) * 2 + self.spread(members) + self.batch_window_max
    }

    /// The time in which a whole cluster agrees again once every fault has ended: failures complete, failed members
    /// are tried again, and digests are compared until they are equal.
    #[must_use]
    pub fn convergence_bound(&self, members: usize) -> Duration {
        self.failure_bound(members)
            + self.reconnect_interval * 8
            + self.sync_interval_max * 2
            + self.stream_timeout * 2
            + self.spread(members)
    }

    /// How long a gap among a sender's user events is waited for: what gossip needs twice over, and some tries to have
    /// sent again what is missing.
    #[must_use]
    pub fn event_gap(&self, members: usize) -> Duration {
        self.spread(members) * 2 + self.gossip_interval * 10
    }

    /// The time in which the user events of a few dozen senders come to every member that is there, when no packet is
    /// lost: gossip, then some probes that tell of what gossip missed, then the wait for what is before it.
    #[must_use]
    pub fn event_bound(&self, members: usize) -> Duration {
        self.spread(members) + self.probe_interval(members) * 8 + self.event_gap(members)
    }

    /// Values that a machine can work with: nothing is zero that divides or paces.
    #[must_use]
    pub(crate) fn normalised(mut self) -> Self {
        let least = Duration::from_millis(1);
        for duration in [
            &mut self.probe_interval_min,
            &mut self.ack_timeout,
            &mut self.gossip_interval,
            &mut self.sync_interval_min,
            &mut self.reconnect_interval,
            &mut self.stream_timeout,
            &mut self.suspicion_min,
            &mut self.sync_interval,
        ] {
            *duration = (*duration).max(least);
        }
        self.probe_interval_max = self.probe_interval_max.max(self.probe_interval_min);
        self.probe_timeout = self.probe_timeout.max(self.ack_timeout + least);
        self.sync_interval_max = self.sync_interval_max.max(self.sync_interval_min);
        self.datagram_bytes_max = self.datagram_bytes_max.clamp(1200, 60_000);
        self.gossip_bytes_per_second = self.gossip_bytes_per_second.max(self.datagram_bytes_max);
        self.gossip_fanout = self.gossip_fanout.max(1);
        self.retransmit_factor = self.retransmit_factor.max(1);
        self.members_max = self.members_max.max(2);
        self
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::lan()
    }
}

/// How many times a small cluster was doubled to become one of `members`.
fn doublings(members: usize) -> f64 {
    let members = u32::try_from(members.max(SMALL)).unwrap_or(u32::MAX);
    (f64::from(members) / SMALL as f64).log2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_clusters_probe_faster_and_judge_sooner() {
        let lan = Settings::lan();
        assert_eq!((lan.probe_interval(5), lan.suspicion_min(5)), (lan.probe_interval_min, lan.suspicion_min));
        assert!(lan.probe_interval(128) > lan.probe_interval(16));
        assert_eq!(lan.probe_interval(100_000), lan.probe_interval_max);
        assert_eq!(lan.suspicion_min(128), Duration::from_millis(1856));
        assert_eq!((lan.retransmits(5), lan.retransmits(1000)), (4, 16));
    }

    #[test]
    fn settings_of_zero_are_lifted() {
        let zero = Settings { probe_interval_min: Duration::ZERO, gossip_fanout: 0, ..Settings::lan() }.normalised();
        assert!(zero.probe_interval_min > Duration::ZERO && zero.gossip_fanout == 1);
    }
}
