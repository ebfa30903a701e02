//! A peer of which the test holds every byte.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::BytesMut;
use metacluster_erl::{
    DownReason, Node, NodeEvent,
    node::Expect,
    wire::{
        Atom, Pid, Reference, Term,
        control::Control,
        frame::{Bounds, Decoder, Encoder, Frame, Message, Mode},
        handshake::{Acceptor, Decision, Established, Flags, Framing, HandshakeError, Initiator, Local, Output},
    },
};
use metacluster_types::Cookie;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::broadcast,
};

use super::{COOKIE, name, within};

/// The name of a raw peer.
pub(crate) const PEER: &str = "mmm@127.0.0.1";

/// A peer after its handshake.
pub(crate) struct RawPeer {
    pub(crate) stream: TcpStream,
    pub(crate) established: Established,
    decoder: Decoder,
    encoder: Encoder,
}

fn local(text: &str, flags: Flags) -> Local {
    Local { name: name(text), creation: 5, flags, cookie: Cookie::new(COOKIE) }
}

pub(crate) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

impl RawPeer {
    /// Dials a node of ours under this name.
    pub(crate) async fn dial(address: SocketAddr, node: &str, ours: &str) -> Result<Self, HandshakeError> {
        Self::dial_with(address, node, ours, Flags::offered(true)).await
    }

    pub(crate) async fn dial_with(
        address: SocketAddr,
        node: &str,
        ours: &str,
        flags: Flags,
    ) -> Result<Self, HandshakeError> {
        let mut stream = TcpStream::connect(address).await.expect("somebody listens");
        let mut machine = Initiator::new(local(ours, flags), Expect::Exactly(name(node)), 7, Framing::Tcp);
        let mut input = BytesMut::new();
        loop {
            while let Some(output) = machine.poll_output() {
                match output {
                    Output::Send(bytes) => stream.write_all(&bytes).await.expect("written"),
                    Output::Established(established) => {
                        return Ok(Self::new(stream, established, &machine.take_rest()));
                    }
                    Output::Decide(_) => unreachable!("an initiator decides nothing"),
                }
            }
            input.clear();
            match within("the handshake", stream.read_buf(&mut input)).await {
                Ok(1..) => machine.handle_bytes(&input)?,
                Ok(0) | Err(_) => return Err(machine.handle_closed()),
            }
        }
    }

    /// Answers a node of ours that has dialled.
    pub(crate) async fn answer(mut stream: TcpStream, ours: &str) -> Result<Self, HandshakeError> {
        let mut machine = Acceptor::new(local(ours, Flags::offered(true)), 8, Framing::Tcp);
        let mut input = BytesMut::new();
        loop {
            while let Some(output) = machine.poll_output() {
                match output {
                    Output::Send(bytes) => stream.write_all(&bytes).await.expect("written"),
                    Output::Established(established) => {
                        return Ok(Self::new(stream, established, &machine.take_rest()));
                    }
                    Output::Decide(_) => machine.handle_decision(Decision::Accept)?,
                }
            }
            input.clear();
            match within("the handshake", stream.read_buf(&mut input)).await {
                Ok(1..) => machine.handle_bytes(&input)?,
                Ok(0) | Err(_) => return Err(machine.handle_closed()),
            }
        }
    }

    fn new(stream: TcpStream, established: Established, rest: &[u8]) -> Self {
        let mut decoder = Decoder::new(Bounds::default());
        decoder.feed(rest);
        let encoder = Encoder::new(Mode::new(established.flags));
        Self { stream, established, decoder, encoder }
    }

    pub(crate) async fn send(&mut self, control: Control, payload: Option<&Term>) {
        let mut out = BytesMut::new();
        self.encoder.encode(control, payload, &mut out);
        self.stream.write_all(&out).await.expect("written");
    }

    /// The next frame; none when the connection has ended.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("good frames") {
                return Some(frame);
            }
            let read = within("a frame", self.stream.read_buf(&mut self.decoder.room(64 << 10))).await;
            match read {
                Ok(bytes @ 1..) => self.decoder.came(bytes),
                Ok(_) | Err(_) => return None,
            }
        }
    }

    /// The next message; ticks are skipped.
    pub(crate) async fn message(&mut self) -> Option<Message> {
        loop {
            match self.frame().await? {
                Frame::Tick => {}
                Frame::Message(message) => return Some(message),
            }
        }
    }
}

pub(crate) fn pid(number: u32) -> Pid {
    Pid { node: Atom::from_static(PEER), id: number, serial: 0, creation: 5 }
}

pub(crate) fn reference(number: u32) -> Reference {
    Reference { node: Atom::from_static(PEER), creation: 5, ids: vec![number, 0, 0] }
}

pub(crate) fn exactly() -> Expect {
    Expect::Exactly(name(PEER))
}

pub(crate) async fn down(events: &mut broadcast::Receiver<NodeEvent>) -> DownReason {
    loop {
        if let NodeEvent::Down { reason, .. } = within("down", events.recv()).await.expect("no event is missed") {
            return reason;
        }
    }
}

/// Waits until a node has a peer.
pub(crate) async fn up(node: &Node) {
    let mut events = node.events();
    while node.peers().is_empty() {
        within("up", events.recv()).await.expect("no event is missed");
    }
}
