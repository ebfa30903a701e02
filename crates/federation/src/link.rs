//! One link: hello, signs of life, frames.

use std::fmt;

use bytes::{BufMut, BytesMut};
use metacluster_types::{AgentId, ClusterName, Instant};

use crate::{
    codec::frame::{Inbound, Kind},
    lanes::{Lane, Lanes},
    peer::PeerId,
};

/// A link, by a number of the driver's that is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a link waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The other end's hello.
    AwaitingHello,
    /// Nothing: signals cross.
    Up(PeerId),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    /// Whom the certificate of the other end is for.
    pub(crate) certified: Option<ClusterName>,
    /// Whether this gateway dialled.
    pub(crate) dialled: bool,
    pub(crate) state: State,
    /// Who the other end says to be.
    pub(crate) said: Option<(ClusterName, AgentId)>,
    pub(crate) opened: Instant,
    pub(crate) heard: Instant,
    pub(crate) written: Instant,
    pub(crate) inbound: Inbound,
    pub(crate) lanes: Lanes,
    /// The last ping that has not come back: when it went, which is what it says.
    pub(crate) pinged: Option<Instant>,
    /// When the last one went.
    pub(crate) probed: Instant,
    /// The driver knows that there is something to write.
    pub(crate) woken: bool,
    /// Both ends offer compression.
    pub(crate) squeezes: bool,
    /// Both ends understand that one of them lets the other one go.
    pub(crate) lets_go: bool,
}

impl Link {
    pub(crate) fn new(
        certified: Option<ClusterName>,
        dialled: bool,
        now: Instant,
        inbound: Inbound,
        lanes: Lanes,
    ) -> Self {
        Self {
            certified,
            dialled,
            state: State::AwaitingHello,
            said: None,
            opened: now,
            heard: now,
            written: now,
            inbound,
            lanes,
            pinged: None,
            probed: now,
            woken: false,
            squeezes: false,
            lets_go: false,
        }
    }

    pub(crate) fn peer(&self) -> Option<PeerId> {
        match self.state {
            State::AwaitingHello => None,
            State::Up(peer) => Some(peer),
        }
    }

    /// Asks for a sign of life, which tells how long it takes.
    pub(crate) fn ping(&mut self, now: Instant) {
        (self.pinged, self.probed) = (Some(now), now);
        self.control(Kind::Ping, |out| out.put_u64(nonce(now)));
    }

    /// Queues a frame of the link itself.
    pub(crate) fn control(&mut self, kind: Kind, write: impl FnOnce(&mut BytesMut)) {
        self.lanes.put(Lane::CONTROL, kind, write);
    }
}

/// What a ping of this time says.
pub(crate) fn nonce(now: Instant) -> u64 {
    u64::try_from(now.since_origin().as_micros()).unwrap_or(u64::MAX)
}
