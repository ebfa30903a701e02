//! Far gateways: what is known of one, link or not.

use std::time::Duration;

use metacluster_types::{AgentId, ClusterName, Instant, NodeName, Place};

use crate::{directory::Directory, link::LinkId, refusal::Refusals, squeeze::Squeezed};

/// A far gateway. A gateway knows at most 64, each a bit of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PeerId(u8);

impl PeerId {
    /// How many there may be.
    pub(crate) const COUNT: usize = 64;
    #[cfg(test)]
    pub(crate) const FIRST: Self = Self(0);

    pub(crate) fn new(index: usize) -> Option<Self> {
        u8::try_from(index).ok().filter(|_| index < Self::COUNT).map(Self)
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(crate) fn bit(self) -> u64 {
        1 << self.0
    }
}

/// How many messages and bytes came in this second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    second: u64,
    messages: u32,
    bytes: u32,
}

impl Window {
    /// Counts a message; false when it is one too many.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        bytes: usize,
        messages_max: Option<u32>,
        bytes_max: Option<u32>,
    ) -> bool {
        let second = now.since_origin().as_secs();
        if self.second != second {
            *self = Self { second, messages: 0, bytes: 0 };
        }
        let messages = self.messages.saturating_add(1);
        let bytes = self.bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        // One message of any size has its turn.
        if messages_max.is_some_and(|max| messages > max) || bytes_max.is_some_and(|max| bytes > max && self.bytes > 0)
        {
            return false;
        }
        (self.messages, self.bytes) = (messages, bytes);
        true
    }
}

/// What crossed, either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Signals that went out.
    pub signals_out: u64,
    /// Signals that came in.
    pub signals_in: u64,
    /// Bytes that went out.
    pub bytes_out: u64,
    /// Bytes that came in.
    pub bytes_in: u64,
    /// What of that went out compressed.
    pub squeezed_out: Squeezed,
    /// What of that came in compressed.
    pub squeezed_in: Squeezed,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) cluster: ClusterName,
    pub(crate) gateway: AgentId,
    pub(crate) epoch: u64,
    pub(crate) node: NodeName,
    pub(crate) place: Place,
    /// How long a ping takes there and back, smoothed.
    pub(crate) round_trip: Option<Duration>,
    pub(crate) link: Option<LinkId>,
    /// When the link came up, or went.
    pub(crate) since: Instant,
    /// Its groups.
    pub(crate) directory: Directory,
    /// It has asked for our groups, and gets each change.
    pub(crate) in_step: bool,
    /// What it was told: whether it may ask.
    pub(crate) told_role: Option<bool>,
    /// How often it was told that it may not, and has not answered that it rests.
    pub(crate) restless: u32,
    /// Since when it owes an answer.
    pub(crate) restless_since: Option<Instant>,
    /// What it said: whether this gateway may ask it.
    pub(crate) role: Option<bool>,
    /// This gateway asked it for its groups, and publishes them.
    pub(crate) asked: bool,
    /// How often it was asked and has not said all.
    pub(crate) unanswered: u32,
    pub(crate) window: Window,
    pub(crate) traffic: Traffic,
    pub(crate) refusals: Refusals,
    /// When a refusal was told last.
    pub(crate) told: Option<Instant>,
}
