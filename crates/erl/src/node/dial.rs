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
    Inner,
    error::ConnectError,
    event::PeerInfo,
    peers::{Claim, Dial},
};

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
    let mut lost = false;
    loop {
        changes.borrow_and_update();
        let found = match &expect {
            Expect::Exactly(name) => inner.peers.dial(name),
            Expect::Basename(basename) => inner.peers.dial_basename(address, basename),
        };
        match found {
            Dial::Up(peer) => return Ok(peer),
            Dial::Closed => return Err(ConnectError::Shutdown),
            // A race that was lost is settled by the connection of the peer, which is looked for on each change.
            Dial::Go(claim) if !lost => match attempt(inner, address, &expect, &claim, deadline).await {
                Ok(peer) => return Ok(peer),
                Err(Failed::Error(error)) => return Err(error),
                Err(Failed::RaceLost) => lost = true,
            },
            Dial::Go(claim) => {
                drop(claim);
                if let Expect::Basename(basename) = &expect
                    && let Some(peer) = inner.peers.up_with_basename(basename)
                {
                    return Ok(peer);
                }
                // The drop of the claim is a change of our own.
                changes.borrow_and_update();
                if timeout_at(deadline, changes.changed()).await.is_err() {
                    return Err(ConnectError::RaceLost(address));
                }
            }
            Dial::Wait => {
                if timeout_at(deadline, changes.changed()).await.is_err() {
                    return Err(ConnectError::Timeout { address, stage: "finish its own handshake with us", after });
                }
            }
        }
    }
}

fn check_names(inner: &Inner, peer: &metacluster_types::NodeName) -> Result<(), ConnectError> {
    let local = &inner.options.name;
    if local == peer {
        return Err(ConnectError::Oneself(peer.clone()));
    }
    if local.is_long() != peer.is_long() {
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
            timeout_at(deadline, handshake(inner, address, expect, stream)).await.unwrap_or_else(|_| Err(timeout("finish the handshake")))
        } => result,
    }
}

async fn handshake(
    inner: &Arc<Inner>,
    address: SocketAddr,
    expect: &Expect,
    mut stream: TcpStream,
) -> Result<PeerInfo, Failed> {
    let machine = Initiator::new(inner.local(), expect.clone(), rand::random(), Framing::Tcp);
    let (established, rest) = match drive(machine, &mut stream).await {
        Ok(done) => done,
        Err(Broken::Handshake(HandshakeError::Nok | HandshakeError::AlreadyConnected)) => {
            return Err(Failed::RaceLost);
        }
        Err(Broken::Handshake(error)) => return Err(Failed::Error(ConnectError::Handshake { address, error })),
        Err(Broken::Network(error)) => return Err(Failed::Error(from_io(address, &error))),
    };
    if established.peer == inner.options.name {
        return Err(Failed::Error(ConnectError::Oneself(established.peer)));
    }
    inner.start_connection(stream, rest, established, false).ok_or(Failed::Error(ConnectError::Shutdown))
}

enum Broken {
    Handshake(HandshakeError),
    Network(io::Error),
}

async fn drive(mut machine: Initiator, stream: &mut TcpStream) -> Result<(Established, BytesMut), Broken> {
    let mut input = BytesMut::with_capacity(1024);
    loop {
        while let Some(output) = machine.poll_output() {
            match output {
                // A write that fails is followed by a read that tells why.
                Output::Send(bytes) => drop(stream.write_all(&bytes).await),
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
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(Broken::Handshake(machine.handle_closed()));
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
