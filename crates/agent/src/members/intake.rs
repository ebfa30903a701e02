//! What comes from the network: opened, counted where it is refused, handed to the machine.

use std::net::SocketAddr;

use metacluster_membership::{ExchangeId, Input, StreamToken};
use tracing::debug;

use super::{
    complaints::Refusal,
    driver::{Asked, Driver},
    stream::Request,
};

/// So many batches of packets are taken before anything else gets its turn.
const TURN: usize = 8;

impl Driver {
    /// Takes what is there to receive, up to a turn's worth.
    pub(super) fn receive(&mut self) {
        for _ in 0..TURN {
            let received = self.packets.receive(&mut self.buffers);
            if received.is_empty() {
                return;
            }
            for packet in received {
                if packet.cut {
                    self.refuse(Refusal::Malformed, packet.from);
                } else if let Some(bytes) = self.open(packet.from, &packet.bytes) {
                    self.hand_in(Input::Packet { from: packet.from, bytes }, packet.from);
                }
            }
        }
    }

    /// A peer's message on a stream, which the machine answers or closes at once.
    pub(super) fn on_request(&mut self, request: Request) {
        let Some(bytes) = self.open(request.from, &request.bytes) else { return };
        self.next_stream += 1;
        let stream = StreamToken(self.next_stream);
        self.answering.insert(stream, request.reply);
        self.hand_in(Input::StreamRequest { stream, bytes }, request.from);
    }

    /// What came of a stream that the machine asked for.
    pub(super) fn on_asked(&mut self, (exchange, to, outcome): Asked) {
        let opened = match outcome {
            Ok(bytes) => self.open(to, &bytes),
            Err(error) => {
                debug!("a stream to {to}: {error}");
                None
            }
        };
        self.hand_in(outcome_of(exchange, opened), to);
    }

    /// Hands in what came from there, and says it when some of it was untrue.
    fn hand_in(&mut self, input: Input, from: SocketAddr) {
        let lies = self.machine.counters().lies;
        self.machine.handle_input(self.clock.now(), input);
        if self.machine.counters().lies > lies {
            self.complaints.refuse(self.clock.now(), Refusal::Lie, from);
        }
        self.drain();
    }

    fn open(&mut self, from: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
        match self.sealer.open(bytes) {
            Ok(opened) => {
                if !self.truth.is_empty() {
                    self.truth.heard(from.ip());
                }
                Some(opened)
            }
            Err(error) => {
                self.refuse(Refusal::of(error), from);
                None
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal, from: SocketAddr) {
        *self.counted.refused.entry(refusal).or_default() += 1;
        self.complaints.refuse(self.clock.now(), refusal, from);
    }
}

fn outcome_of(exchange: ExchangeId, opened: Option<Vec<u8>>) -> Input {
    match opened {
        Some(bytes) => Input::StreamReply { exchange, bytes },
        None => Input::StreamFailed { exchange },
    }
}
