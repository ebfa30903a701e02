//! Probing in another's stead, with Lifeguard's nack: a helper that hears nothing says so, and by that shows that it
//! was itself reached.

use std::net::SocketAddr;

use metacluster_types::{AgentId, Instant};

use crate::{Coordinate, Membership, codec::message::Message, record::short, timers::Timer};

/// So many probes for others are under way; more are refused.
const RELAYS_MAX: usize = 1024;

/// A probe in another's stead.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    origin: SocketAddr,
    sequence: u32,
    target: AgentId,
    nack_due: Instant,
    ends_at: Instant,
}

impl Membership {
    pub(crate) fn on_ping_request(
        &mut self,
        now: Instant,
        origin: SocketAddr,
        sequence: u32,
        target: AgentId,
        address: SocketAddr,
    ) {
        // Only members are probed for others, at the address that is known here if there is one.
        let Some(known) = self.members.of(target).map(|member| member.described.address) else { return };
        let to = if known.ip() == address.ip() { address } else { known };
        if self.relays.len() >= RELAYS_MAX {
            self.counters.refused += 1;
            return;
        }
        let own = self.fresh_sequence();
        let nack_due = now + self.settings.ack_timeout.mul_f64(0.8);
        let ends_at = now + self.settings.probe_timeout * 2;
        self.timers.set(nack_due, Timer::Nack(own));
        self.timers.set(ends_at, Timer::RelayEnds(own));
        self.relays.insert(own, Relay { origin, sequence, target, nack_due, ends_at });
        self.send(to, &Message::Ping { sequence: own, target: short(target) }, &[]);
    }

    /// Passes an answer on, if it is one to a probe in another's stead.
    pub(crate) fn relay_ack(&mut self, sender: AgentId, sequence: u32, digest: u64, coordinate: Coordinate) -> bool {
        let Some(relay) = self.relays.get(&sequence) else { return false };
        if relay.target != sender {
            self.counters.lies += 1;
            return true;
        }
        let (origin, to_sequence, nack_due, ends_at) = (relay.origin, relay.sequence, relay.nack_due, relay.ends_at);
        self.relays.remove(&sequence);
        self.timers.take_back(nack_due, Timer::Nack(sequence));
        self.timers.take_back(ends_at, Timer::RelayEnds(sequence));
        self.send(origin, &Message::Ack { sequence: to_sequence, digest, coordinate }, &[]);
        true
    }

    pub(crate) fn on_nack_due(&mut self, sequence: u32) {
        if let Some(relay) = self.relays.get(&sequence) {
            let (origin, sequence) = (relay.origin, relay.sequence);
            self.send(origin, &Message::Nack { sequence }, &[]);
        }
    }
}
