//! The side that is dialled.

use std::collections::VecDeque;

use bytes::BytesMut;
use metacluster_types::NodeName;

use super::{
    Decision, Digest, Established, Flags, Framing, HandshakeError, Local, Output, Peer, Replaces, Side,
    message::{self, Status},
    packets::Packets,
};

/// The accepting side of a handshake.
pub struct Acceptor {
    local: Local,
    challenge: u32,
    /// For a peer that has no name.
    naming: Option<Naming>,
    packets: Packets,
    state: State,
    outputs: VecDeque<Output>,
}

/// What a peer that asks for a name gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    /// The part before the `@`; the peer brings the rest. Nobody else may have it, so it must be random.
    pub basename: String,
    /// Which life of the name this is.
    pub creation: u32,
}

enum State {
    AwaitName,
    AwaitDecision {
        peer: Peer,
    },
    /// We have a connection to this peer; it is to say whether it has, too.
    AwaitAnswer {
        peer: Peer,
    },
    AwaitReply {
        peer: Peer,
        replaces: Option<Replaces>,
    },
    Done,
}

impl Acceptor {
    /// Waits for the name of who dials. `challenge` must be random.
    #[must_use]
    pub fn new(local: Local, challenge: u32, framing: Framing) -> Self {
        let packets = Packets::new(framing);
        Self { local, challenge, naming: None, packets, state: State::AwaitName, outputs: VecDeque::new() }
    }

    /// Gives a name to a peer that asks for one; without this it is refused.
    #[must_use]
    pub fn with_naming(self, naming: Naming) -> Self {
        Self { naming: Some(naming), ..self }
    }

    /// Takes what has come over the connection, in any pieces.
    ///
    /// # Errors
    /// When there will be no connection. Drain the outputs even so: they may tell the peer.
    pub fn handle_bytes(&mut self, input: &[u8]) -> Result<(), HandshakeError> {
        self.packets.extend(input);
        if matches!(self.state, State::AwaitDecision { .. }) {
            // It is not its turn; a little is kept all the same, and turns out to be right or wrong later.
            return self.packets.check_waiting();
        }
        self.advance()
    }

    /// Answers an [`Output::Decide`].
    ///
    /// # Errors
    /// [`HandshakeError::Refused`] when the decision was to refuse (drain the outputs, then close), and
    /// [`HandshakeError::Misused`] when nothing was asked.
    pub fn handle_decision(&mut self, decision: Decision) -> Result<(), HandshakeError> {
        let peer = match std::mem::replace(&mut self.state, State::Done) {
            State::AwaitDecision { peer } => peer,
            other @ (State::AwaitName | State::AwaitAnswer { .. } | State::AwaitReply { .. } | State::Done) => {
                self.state = other;
                return Err(HandshakeError::Misused("nothing to decide"));
            }
        };
        match decision {
            Decision::Accept => self.challenge(Some(Status::Ok), peer, None),
            Decision::OkSimultaneous => self.challenge(Some(Status::OkSimultaneous), peer, Some(Replaces::Dial)),
            Decision::Alive => {
                self.send(&Status::Alive.encode());
                self.state = State::AwaitAnswer { peer };
            }
            Decision::Nok => return self.refuse(Status::Nok),
            Decision::NotAllowed => return self.refuse(Status::NotAllowed),
        }
        self.advance()
    }

    /// The peer has closed the connection: what that means here.
    #[must_use]
    pub fn handle_closed(&mut self) -> HandshakeError {
        match std::mem::replace(&mut self.state, State::Done) {
            State::AwaitName => HandshakeError::Closed("name"),
            State::AwaitDecision { .. } => HandshakeError::Closed("patience"),
            State::AwaitAnswer { .. } => HandshakeError::Closed("word on the old connection"),
            State::AwaitReply { .. } => HandshakeError::Closed("answer to the challenge"),
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

    fn refuse(&mut self, status: Status) -> Result<(), HandshakeError> {
        self.send(&status.encode());
        Err(HandshakeError::Refused)
    }

    fn advance(&mut self) -> Result<(), HandshakeError> {
        loop {
            if matches!(self.state, State::AwaitDecision { .. } | State::Done) {
                return Ok(());
            }
            let Some(message) = self.packets.next()? else { return Ok(()) };
            // An error leaves the machine done.
            match std::mem::replace(&mut self.state, State::Done) {
                State::AwaitName => self.handle_name(&message)?,
                State::AwaitAnswer { peer } => self.handle_answer(&message, peer)?,
                State::AwaitReply { peer, replaces } => self.handle_reply(&message, peer, replaces)?,
                State::AwaitDecision { .. } | State::Done => {}
            }
        }
    }

    fn handle_name(&mut self, message: &[u8]) -> Result<(), HandshakeError> {
        let mut peer = message::decode_name(message);
        if peer == Err(HandshakeError::DynamicName)
            && let Some(Naming { basename, creation }) = &self.naming
        {
            let (host, flags) = message::decode_host(message)?;
            let text = format!("{basename}@{host}");
            let name = NodeName::new(&text).map_err(|_| HandshakeError::BadName(text.chars().take(64).collect()));
            peer = name.map(|name| Peer { name, flags, creation: *creation });
        }
        if matches!(peer, Err(HandshakeError::DynamicName | HandshakeError::BadName(_))) {
            self.send(&Status::NotAllowed.encode());
        }
        let peer = peer?;
        let missing = Flags::REQUIRED.without(peer.flags);
        if !missing.is_empty() {
            self.send(&Status::NotAllowed.encode());
            return Err(HandshakeError::Incompatible { missing });
        }
        self.outputs.push_back(Output::Decide(peer.clone()));
        self.state = State::AwaitDecision { peer };
        Ok(())
    }

    fn handle_answer(&mut self, message: &[u8], peer: Peer) -> Result<(), HandshakeError> {
        match Status::decode(message)? {
            Status::True => {
                self.challenge(None, peer, Some(Replaces::Connection));
                Ok(())
            }
            Status::False => Err(HandshakeError::AlreadyConnected),
            Status::Ok | Status::OkSimultaneous | Status::Nok | Status::NotAllowed | Status::Alive | Status::Named => {
                Err(HandshakeError::Malformed("word on the old connection"))
            }
        }
    }

    fn challenge(&mut self, status: Option<Status>, peer: Peer, replaces: Option<Replaces>) {
        match status {
            // It learns its name with the word that it may go on.
            Some(_) if peer.flags.has(Flags::NAME_ME) => {
                self.send(&message::encode_named(&peer.name, peer.creation));
            }
            Some(status) => self.send(&status.encode()),
            None => {}
        }
        let mut local = self.local.clone();
        // A peer that gets a name takes it only from a node that says that it gives them.
        local.flags = local.flags.and(peer.flags.common(Flags::NAME_ME));
        self.send(&message::encode_challenge(&local, self.challenge));
        self.state = State::AwaitReply { peer, replaces };
    }

    fn handle_reply(&mut self, message: &[u8], peer: Peer, replaces: Option<Replaces>) -> Result<(), HandshakeError> {
        let (challenge, digest) = message::decode_reply(message)?;
        if !digest.matches(&Digest::new(&self.local.cookie, self.challenge)) {
            // As OTP does: not a word to who does not know the cookie.
            return Err(HandshakeError::WrongCookie { noticed_by: Side::Local });
        }
        self.send(&message::encode_ack(Digest::new(&self.local.cookie, challenge)));
        self.outputs.push_back(Output::Established(Established::new(&self.local, peer, replaces)));
        Ok(())
    }
}
