//! Queries: what is known now.

use std::time::Duration;

use metacluster_types::{AgentId, Instant};

use crate::{
    Coordinate, Membership,
    codec::claim::description,
    record::{Commitment, Description, DownReason, Ending, Epoch, Stamp, Standing, age},
    state::{Life, Member},
    user::UserSizes,
};

/// A member, as people and programs see it.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberView {
    /// Its id.
    pub id: AgentId,
    /// Its boot, and what it last said of itself.
    pub stamp: Stamp,
    /// Whether it lives.
    pub standing: Standing,
    /// Why it is down, if it is.
    pub reason: Option<DownReason>,
    /// What it says of itself.
    pub description: Description,
    /// Since when its standing is what it is.
    pub since: Instant,
    /// Where it is on the network's map, if it was probed from here.
    pub coordinate: Option<Coordinate>,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Packets sent.
    pub packets_sent: u64,
    /// Their bytes, without what sealing, UDP and IP add.
    pub bytes_sent: u64,
    /// Bytes sent over streams.
    pub stream_bytes_sent: u64,
    /// Packets of this cluster that were read.
    pub packets_received: u64,
    /// Packets of other clusters, refused.
    pub foreign: u64,
    /// Packets that were no packets, or larger than any may be.
    pub malformed: u64,
    /// Packets of another version of the protocol.
    pub incompatible: u64,
    /// Packets of boots that are over.
    pub stale: u64,
    /// Packets that bear the own id.
    pub own: u64,
    /// Probes meant for another member that is, or was, at this address.
    pub misdirected: u64,
    /// Claims that could not be true.
    pub lies: u64,
    /// What found its table full.
    pub refused: u64,
    /// Probes sent.
    pub probes: u64,
    /// Probes without any answer.
    pub probes_failed: u64,
    /// Probes that only a stream answered: something on the way drops UDP.
    pub stream_answers: u64,
    /// Suspicions of this member that it refuted.
    pub refuted: u64,
    /// Members that were held failed here.
    pub failed: u64,
    /// Views compared over a stream.
    pub syncs: u64,
    /// How often this process stood still.
    pub pauses: u64,
    /// User events of this member.
    pub events_sent: u64,
    /// User events of others that were delivered.
    pub events_delivered: u64,
    /// User events that never came, or came too late for their order.
    pub events_skipped: u64,
    /// How often user events were asked for once more.
    pub recalls: u64,
    /// Queries of this member.
    pub queries_sent: u64,
    /// Queries that were for this member.
    pub queries_received: u64,
    /// Answers that came after the end of their query, or to none.
    pub answers_late: u64,
    /// Events, queries and answers beyond what one member may have, of strangers, or too old.
    pub user_refused: u64,
}

/// How much is kept, for the checks of the simulation and for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Records of members.
    pub members: usize,
    /// Boots that ended.
    pub tombstones: usize,
    /// News on its way.
    pub news: usize,
    /// Probes, also those for others.
    pub probes: usize,
    /// Streams.
    pub exchanges: usize,
    /// Seeds.
    pub seeds: usize,
    /// Timers.
    pub timers: usize,
    /// Events and queries.
    pub user: UserSizes,
}

impl Membership {
    /// The own id.
    #[must_use]
    pub const fn id(&self) -> AgentId {
        self.me
    }

    /// The own boot and incarnation.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// What this member says of itself.
    #[must_use]
    pub const fn description(&self) -> &Description {
        &self.description
    }

    /// The own place on the network's map.
    #[must_use]
    pub const fn coordinate(&self) -> Coordinate {
        self.coordinate
    }

    /// How little this member trusts itself, from 0 to 8.
    #[must_use]
    pub const fn health(&self) -> u32 {
        self.health.score()
    }

    /// Every other member, in order of ids.
    pub fn members(&self) -> impl Iterator<Item = MemberView> {
        self.members.iter().map(|(id, member)| view(id, member))
    }

    /// One other member.
    #[must_use]
    pub fn member(&self, id: AgentId) -> Option<MemberView> {
        self.members.of(id).map(|member| view(id, member))
    }

    /// Whether a member lives, without a copy of its description.
    #[must_use]
    pub fn standing(&self, id: AgentId) -> Option<(Stamp, Standing)> {
        self.members.of(id).map(|member| (member.stamp, member.standing()))
    }

    /// The stamp and the standing of every other member, in order of ids.
    pub fn standings(&self) -> impl Iterator<Item = (AgentId, Stamp, Standing)> {
        self.members.iter().map(|(id, member)| (id, member.stamp, member.standing()))
    }

    /// How many live, self included.
    #[must_use]
    pub fn live(&self) -> usize {
        self.size()
    }

    /// The estimate of the round trip to a member, if it was probed from here.
    #[must_use]
    pub fn round_trip(&self, id: AgentId) -> Option<Duration> {
        let other = self.members.of(id)?.coordinate?;
        Some(self.coordinate.distance(&other))
    }

    /// For how long a member's standing has been what it is.
    #[must_use]
    pub fn standing_age(&self, now: Instant, id: AgentId) -> Option<Duration> {
        self.members.of(id).map(|member| age(now, member.since))
    }

    /// The boot of which it is known that it ended for good, for an id that has no record any more.
    #[must_use]
    pub fn ended_boot(&self, id: AgentId) -> Option<Epoch> {
        self.tombstones.iter().find(|(other, stone)| *other == id && stone.left).map(|(_, stone)| stone.stamp.epoch)
    }

    /// Counts since the start.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// How much is kept.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        Sizes {
            members: self.members.len(),
            tombstones: self.tombstones.len(),
            news: self.news.len(),
            probes: self.probes.len() + self.relays.len(),
            exchanges: self.syncing.exchanges(),
            seeds: self.syncing.seeds(),
            timers: self.timers.len(),
            user: self.user.sizes(),
        }
    }
}

fn view(id: AgentId, member: &Member) -> MemberView {
    let reason = match &member.life {
        Life::Alive | Life::Suspect(_) => None,
        Life::Failed => Some(DownReason::Failed),
        Life::Left(Ending::Leave(_)) => Some(DownReason::Left),
        Life::Left(Ending::Provider(_)) => Some(DownReason::Provider),
    };
    let described = description(&member.described.bytes).ok();
    let (description, _) = described.unwrap_or_else(|| (empty(member), Commitment([0; 16])));
    MemberView {
        id,
        stamp: member.stamp,
        standing: member.standing(),
        reason,
        description,
        since: member.since,
        coordinate: member.coordinate,
    }
}

/// Descriptions were checked when they came, so this is never seen.
fn empty(member: &Member) -> Description {
    Description {
        name: String::new(),
        address: member.described.address,
        place: metacluster_types::Place::default(),
        roles: std::collections::BTreeSet::new(),
        tags: metacluster_types::Tags::new(),
        state: Vec::new(),
    }
}
