//! Letting peers in: the listener, and the handshake of who dials us.
//!
//! A connection that is no node costs one of `handshakes_max` places for at most `connect_timeout`, and one line in the
//! log at debug level; a wrong cookie is logged as a warning, since somebody has to mend it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use metacluster_erl_wire::handshake::{Acceptor, Decision, Framing, HandshakeError, Output};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{
    Inner,
    peers::{Claim, Verdict},
};

/// The wait after an `accept` that failed, most likely for lack of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepts until the node shuts down.
pub(super) async fn listen(inner: Arc<Inner>, address: SocketAddr, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => start(&inner, stream),
            Err(error) => {
                tracing::warn!(%error, %address, "cannot accept distribution connections");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Starts the handshake with who dialled, if there is a place.
pub(super) fn start(inner: &Arc<Inner>, stream: TcpStream) {
    let Ok(place) = Arc::clone(&inner.handshakes).try_acquire_owned() else {
        tracing::debug!("too many handshakes are under way, one more is refused");
        return;
    };
    let task = {
        let inner = Arc::clone(inner);
        async move {
            let address = stream.peer_addr();
            match timeout(inner.options.connect_timeout, handshake(&inner, stream)).await {
                Ok(Ok(())) => {}
                Ok(Err(error @ HandshakeError::WrongCookie { .. })) => {
                    tracing::warn!(?address, "refused a node: {error}");
                }
                Ok(Err(error)) => tracing::debug!(?address, "refused a connection: {error}"),
                Err(_) => tracing::debug!(?address, "refused a connection: it did not finish the handshake in time"),
            }
            drop(place);
        }
    };
    inner.run(task);
}

async fn handshake(inner: &Arc<Inner>, mut stream: TcpStream) -> Result<(), HandshakeError> {
    let mut machine = Acceptor::new(inner.local(), rand::random(), Framing::Tcp);
    let mut claim: Option<Claim> = None;
    let mut input = BytesMut::with_capacity(1024);
    let mut result = Ok(());
    loop {
        while let Some(output) = machine.poll_output() {
            match output {
                // A write that fails is followed by a read that tells why.
                Output::Send(bytes) => drop(stream.write_all(&bytes).await),
                Output::Decide(peer) => {
                    let decision = match inner.peers.accept(&peer.name) {
                        Verdict::Accept(taken) => (Decision::Accept, Some(taken)),
                        Verdict::AcceptInstead(taken) => (Decision::OkSimultaneous, Some(taken)),
                        Verdict::Refuse => (Decision::Nok, None),
                        Verdict::Alive => (Decision::Alive, None),
                        Verdict::NotAllowed => (Decision::NotAllowed, None),
                    };
                    claim = decision.1;
                    result = machine.handle_decision(decision.0);
                }
                Output::Established(established) => {
                    // None: the node is shutting down, and the peer sees its connection closed.
                    inner.start_connection(stream, machine.take_rest(), established, true);
                    return Ok(());
                }
            }
        }
        result?;
        input.clear();
        let read = tokio::select! {
            biased;
            () = killed(claim.as_ref()) => return Err(HandshakeError::Refused),
            read = stream.read_buf(&mut input) => read,
        };
        result = match read {
            Ok(0) => Err(machine.handle_closed()),
            Ok(_) => machine.handle_bytes(&input),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(machine.handle_closed()),
            Err(error) => {
                tracing::debug!(%error, "a connection failed during the handshake");
                Err(machine.handle_closed())
            }
        };
    }
}

/// Waits until the right to go on is taken away, if there is one.
async fn killed(claim: Option<&Claim>) {
    match claim {
        Some(claim) => claim.killed().await,
        None => std::future::pending().await,
    }
}
