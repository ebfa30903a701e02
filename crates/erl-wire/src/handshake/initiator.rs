//! The side that dials.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::{
    Digest, Established, Expect, Flags, Framing, HandshakeError, Local, Output, Peer, Replaces, Side,
    message::{self, Status},
    packets::Packets,
};

/// The dialling side of a handshake.
pub struct Initiator {
    local: Local,
    expect: Expect,
    challenge: u32,
    packets: Packets,
    state: State,
    outputs: VecDeque<Output>,
}

enum State {
    AwaitStatus,
    /// The peer goes on with the handshake.
    AwaitChallenge {
        replaces: Option<Replaces>,
    },
    AwaitAck {
        peer: Peer,
        replaces: Option<Replaces>,
    },
    Done,
}

impl Initiator {
    /// Starts to dial; the first output is our name. `challenge` must be random.
    #[must_use]
    pub fn new(local: Local, expect: Expect, challenge: u32, framing: Framing) -> Self {
        let name = Output::Send(framing.frame(&message::encode_name(&local)));
        let (packets, outputs) = (Packets::new(framing), VecDeque::from([name]));
        Self { local, expect, challenge, packets, state: State::AwaitStatus, outputs }
    }

    /// Takes what has come over the connection, in any pieces.
    ///
    /// # Errors
    /// When there will be no connection.
    pub fn handle_bytes(&mut self, input: &[u8]) -> Result<(), HandshakeError> {
        self.packets.extend(input);
        while !matches!(self.state, State::Done) {
            let Some(message) = self.packets.next()? else { return Ok(()) };
            // An error leaves the machine done.
            match std::mem::replace(&mut self.state, State::Done) {
                State::AwaitStatus => self.handle_status(&message)?,
                State::AwaitChallenge { replaces } => self.handle_challenge(&message, replaces)?,
                State::AwaitAck { peer, replaces } => self.handle_ack(&message, peer, replaces)?,
                State::Done => {}
            }
        }
        Ok(())
    }

    /// The peer has closed the connection: what that means here.
    #[must_use]
    pub fn handle_closed(&mut self) -> HandshakeError {
        match std::mem::replace(&mut self.state, State::Done) {
            State::AwaitStatus => HandshakeError::Closed("answer to our name"),
            State::AwaitChallenge { .. } => HandshakeError::Closed("challenge"),
            State::AwaitAck { .. } => HandshakeError::WrongCookie { noticed_by: Side::Peer },
            State::Done => HandshakeError::Misused("the handshake is over"),
        }
    }

    /// What to do next; `None` until more comes.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What came behind the handshake: the first bytes of the frames.
    #[must_use]
    pub fn take_rest(&mut self) -> BytesMut {
        self.packets.take_rest()
    }

    fn send(&mut self, message: &[u8]) {
        self.outputs.push_back(Output::Send(self.packets.framing().frame(message)));
    }

    fn handle_status(&mut self, message: &[u8]) -> Result<(), HandshakeError> {
        let replaces = match Status::decode(message)? {
            Status::Ok => None,
            Status::OkSimultaneous => Some(Replaces::Dial),
            Status::Alive => {
                // We would not dial if we had a connection, so the peer's is a leftover.
                self.send(&Status::True.encode());
                Some(Replaces::Connection)
            }
            Status::Nok => return Err(HandshakeError::Nok),
            Status::NotAllowed => return Err(HandshakeError::NotAllowed),
            Status::Named => return Err(HandshakeError::DynamicName),
            Status::True | Status::False => return Err(HandshakeError::Malformed("status")),
        };
        self.state = State::AwaitChallenge { replaces };
        Ok(())
    }

    fn handle_challenge(&mut self, message: &[u8], replaces: Option<Replaces>) -> Result<(), HandshakeError> {
        let (peer, challenge) = message::decode_challenge(message)?;
        let missing = Flags::REQUIRED.without(peer.flags);
        if !missing.is_empty() {
            return Err(HandshakeError::Incompatible { missing });
        }
        if !self.expect.matches(&peer.name) {
            return Err(HandshakeError::NameMismatch { expected: self.expect.clone(), found: peer.name });
        }
        let digest = Digest::new(&self.local.cookie, challenge);
        self.send(&message::encode_reply(self.challenge, digest));
        self.state = State::AwaitAck { peer, replaces };
        Ok(())
    }

    fn handle_ack(&mut self, message: &[u8], peer: Peer, replaces: Option<Replaces>) -> Result<(), HandshakeError> {
        let digest = message::decode_ack(message)?;
        if !digest.matches(&Digest::new(&self.local.cookie, self.challenge)) {
            return Err(HandshakeError::WrongCookie { noticed_by: Side::Local });
        }
        self.outputs.push_back(Output::Established(Established::new(&self.local, peer, replaces)));
        Ok(())
    }
}

impl Established {
    pub(super) fn new(local: &Local, peer: Peer, replaces: Option<Replaces>) -> Self {
        Self {
            flags: local.flags.expanded().common(peer.flags),
            peer: peer.name,
            peer_flags: peer.flags,
            peer_creation: peer.creation,
            replaces,
        }
    }
}
