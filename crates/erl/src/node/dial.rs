//! Dialling a peer: the socket, the handshake, and what happens when the peer dials at the same time.

use std::{io, net::SocketAddr, sync::Arc};

use bytes::BytesMut;
use metacluster_erl_wire::handshake::{Established, Expect, Framing, HandshakeError, Initiator, Output};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{
    Inner, accept,
    error::ConnectError,
    event::PeerInfo,
    peers::{Claim, Dial},
    stream::Stream,
    tls::TlsError,
};

/// A peer that dials at the same time has this part of the connect timeout.
const PATIENCE_PARTS: u32 = 4;

/// How one attempt ended without a connection.
enum Failed {
    /// The dial of the peer goes first.
    RaceLost,
    /// For good.
    Error(ConnectError),
}

/// Connects, unless the connection is up or comes up meanwhile.
pub(super) async fn connect(inner: &Arc<Inner>, address: SocketAddr, expect: Expect) -> Result<PeerInfo, ConnectError> {
    if let Expect::Exactly(peer) = &expect {
        check_names(inner, peer)?;
    }
    let after = inner.options.connect_timeout;
    let deadline = Instant::now() + after;
    let mut changes = inner.peers.changes();
    // A peer that dials us, or says that it does, has this long before we dial it (again): whoever knows a name can
    // claim to be that peer, and must not keep us from it.
    let patience = after / PATIENCE_PARTS;
    let mut lost_until = None;
    let mut accepting_until = None;
    loop {
        changes.borrow_and_update();
        let now = Instant::now();
        let lost = lost_until.filter(|until| now < *until);
        let until = if let Some(until) = lost {
            if let Some(peer) = inner.peers.find(address, &expect, true) {
                return Ok(peer);
            }
            until
        } else {
            let take_over = accepting_until.is_some_and(|until| now >= until);
            match inner.peers.dial(address, &expect, take_over) {
                Dial::Up(peer) => return Ok(peer),
                Dial::Closed => return Err(ConnectError::Shutdown),
                Dial::Go(claim) => match attempt(inner, address, &expect, &claim, deadline).await {
                    Ok(peer) => return Ok(peer),
                    Err(Failed::Error(error)) => return Err(error),
                    Err(Failed::RaceLost) => {
                        lost_until = Some(Instant::now() + patience);
                        continue;
                    }
                },
                Dial::Accepting => *accepting_until.get_or_insert(now + patience),
                Dial::Dialling => deadline,
            }
        };
        if inner.peers.is_closed() {
            return Err(ConnectError::Shutdown);
        }
        if now >= deadline {
            return Err(if lost_until.is_some() {
                ConnectError::RaceLost(address)
            } else {
                ConnectError::Timeout { address, stage: "finish the handshake", after }
            });
        }
        // Either way the table is looked at again.
        drop(timeout_at(until.min(deadline), changes.changed()).await);
    }
}

fn check_names(inner: &Inner, peer: &metacluster_types::NodeName) -> Result<(), ConnectError> {
    let local = &inner.options.name;
    if local == peer {
        return Err(ConnectError::Oneself(peer.clone()));
    }
    // Nobody needs to dial a hidden node, so it may talk to both kinds.
    if !inner.options.hidden && local.is_long() != peer.is_long() {
        return Err(ConnectError::LongAndShort { local: local.clone(), peer: peer.clone() });
    }
    Ok(())
}

async fn attempt(
    inner: &Arc<Inner>,
    address: SocketAddr,
    expect: &Expect,
    claim: &Claim,
    deadline: Instant,
) -> Result<PeerInfo, Failed> {
    let after = inner.options.connect_timeout;
    let timeout = |stage| Failed::Error(ConnectError::Timeout { address, stage, after });
    tokio::select! {
        biased;
        () = claim.killed() => Err(Failed::RaceLost),
        result = async {
            let stream = match timeout_at(deadline, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return Err(Failed::Error(from_io(address, &error))),
                Err(_) => return Err(timeout("accept the connection")),
            };
            let stream = match &inner.options.tls {
                None => Stream::Tcp(stream),
                Some(tls) => match timeout_at(deadline, tls.connect(stream, address, expect)).await {
                    Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
                    Ok(Err(error)) => return Err(Failed::Error(ConnectError::Tls { address, error })),
                    Err(_) => return Err(timeout("answer in TLS (does it speak plain distribution?)")),
                },
            };
            timeout_at(deadline, handshake(inner, address, expect, stream)).await.unwrap_or_else(|_| Err(timeout("finish the handshake")))
        } => result,
    }
}

async fn handshake(
    inner: &Arc<Inner>,
    address: SocketAddr,
    expect: &Expect,
    mut stream: Stream,
) -> Result<PeerInfo, Failed> {
    let framing = stream.framing();
    let machine = Initiator::new(inner.local(), expect.clone(), rand::random(), framing);
    let (established, rest) = match drive(machine, &mut stream).await {
        Ok(done) => done,
        Err(Broken::Handshake(HandshakeError::Nok | HandshakeError::AlreadyConnected)) => {
            return Err(Failed::RaceLost);
        }
        Err(Broken::Handshake(error)) if framing == Framing::Tcp && TlsError::is_tls(&error) => {
            return Err(Failed::Error(ConnectError::Tls { address, error: TlsError::PeerIsTls }));
        }
        Err(Broken::Tls(error)) => return Err(Failed::Error(ConnectError::Tls { address, error })),
        Err(Broken::Handshake(error)) => return Err(Failed::Error(ConnectError::Handshake { address, error })),
        Err(Broken::Network(error)) => return Err(Failed::Error(from_io(address, &error))),
    };
    if established.peer == inner.options.name {
        return Err(Failed::Error(ConnectError::Oneself(established.peer)));
    }
    if let Err(error) = inner.check_dialled(&stream, &established.peer) {
        return Err(Failed::Error(ConnectError::Tls { address, error }));
    }
    inner.start_connection(stream, rest, established, false).ok_or(Failed::Error(ConnectError::Shutdown))
}

enum Broken {
    Handshake(HandshakeError),
    Tls(TlsError),
    Network(io::Error),
}

async fn drive(mut machine: Initiator, stream: &mut Stream) -> Result<(Established, BytesMut), Broken> {
    let mut input = BytesMut::with_capacity(1024);
    loop {
        while let Some(output) = machine.poll_output() {
            match output {
                // A write that fails is followed by a read that tells why.
                Output::Send(bytes) => {
                    drop(stream.write_all(&bytes).await);
                    drop(stream.flush().await);
                }
                Output::Established(established) => return Ok((established, machine.take_rest())),
                // Only who accepts decides.
                Output::Decide(_) => {}
            }
        }
        input.clear();
        match stream.read_buf(&mut input).await {
            Ok(0) => return Err(Broken::Handshake(machine.handle_closed())),
            Ok(_) => machine.handle_bytes(&input).map_err(Broken::Handshake)?,
            // A peer that closes with bytes of ours unread resets the connection.
            Err(error) if accept::is_closed(&error) => return Err(Broken::Handshake(machine.handle_closed())),
            // In TLS 1.3 the peer looks at our certificate when we are done already.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(Broken::Tls(TlsError::from_io(&error)));
            }
            Err(error) => return Err(Broken::Network(error)),
        }
    }
}

fn from_io(address: SocketAddr, error: &io::Error) -> ConnectError {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        ConnectError::Refused(address)
    } else {
        ConnectError::Unreachable(address, error.to_string())
    }
}
