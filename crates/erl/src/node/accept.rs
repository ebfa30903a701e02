//! Letting peers in: the listener, and the handshake of who dials us.
//!
//! A connection that is no node costs one of `handshakes_max` places for at most `connect_timeout`, and one line in the
//! log at debug level; a wrong cookie, a bad certificate, and TLS on one side only are logged as warnings, since somebody
//! has to mend them.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use metacluster_erl_wire::handshake::{Acceptor, Decision, Framing, HandshakeError, Naming, Output};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{
    Inner,
    peers::{Claim, Verdict},
    stream::Stream,
    tls::TlsError,
};

/// The wait after an `accept` that failed, most likely for lack of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Why nobody was let in.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Refusal {
    /// Whether it is likely a node of the cluster, which somebody has to set up better.
    fn concerns_somebody(&self) -> bool {
        match self {
            Self::Handshake(error) => matches!(error, HandshakeError::WrongCookie { .. }),
            Self::Tls(error) => !matches!(error, TlsError::Closed | TlsError::Network(_) | TlsError::Protocol(_)),
        }
    }
}

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
            match timeout(inner.options.connect_timeout, secure(&inner, stream)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.concerns_somebody() => tracing::warn!(?address, "refused a node: {error}"),
                Ok(Err(error)) => tracing::debug!(?address, "refused a connection: {error}"),
                Err(_) => tracing::debug!(?address, "refused a connection: it did not finish the handshake in time"),
            }
            drop(place);
        }
    };
    inner.run(task);
}

async fn secure(inner: &Arc<Inner>, stream: TcpStream) -> Result<(), Refusal> {
    let stream = match &inner.options.tls {
        None => Stream::Tcp(stream),
        Some(tls) => Stream::Tls(Box::new(tls.accept(stream).await?)),
    };
    let plain = stream.framing() == Framing::Tcp;
    handshake(inner, stream).await.map_err(|refusal| match refusal {
        Refusal::Handshake(error) if plain && TlsError::is_tls(&error) => Refusal::Tls(TlsError::PeerIsTls),
        Refusal::Handshake(_) | Refusal::Tls(_) => refusal,
    })
}

async fn handshake(inner: &Arc<Inner>, mut stream: Stream) -> Result<(), Refusal> {
    let mut machine = Acceptor::new(inner.local(), rand::random(), stream.framing());
    if inner.options.dynamic_names {
        machine = machine.with_naming(naming());
    }
    let mut claim: Option<Claim> = None;
    let mut input = BytesMut::with_capacity(1024);
    let mut result = Ok(());
    // Why the peer may not come in, although the handshake has no word for it.
    let mut unfit: Option<Refusal> = None;
    loop {
        while let Some(output) = machine.poll_output() {
            match output {
                // A write that fails is followed by a read that tells why.
                Output::Send(bytes) => {
                    drop(stream.write_all(&bytes).await);
                    drop(stream.flush().await);
                }
                Output::Decide(peer) => {
                    if let Err(error) = inner.check_accepted(&stream, &peer.name) {
                        unfit = Some(error.into());
                        result = machine.handle_decision(Decision::NotAllowed);
                        continue;
                    }
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
        if let Some(unfit) = unfit {
            return Err(unfit);
        }
        result?;
        input.clear();
        let read = tokio::select! {
            biased;
            () = killed(claim.as_ref()) => return Err(HandshakeError::Refused.into()),
            read = stream.read_buf(&mut input) => read,
        };
        result = match read {
            Ok(0) => Err(machine.handle_closed()),
            Ok(_) => machine.handle_bytes(&input),
            Err(error) if is_closed(&error) => Err(machine.handle_closed()),
            // A peer that does not like our certificate says so when it is done.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(TlsError::from_io(&error).into()),
            Err(error) => {
                tracing::debug!(%error, "a connection failed during the handshake");
                Err(machine.handle_closed())
            }
        };
    }
}

/// A name that no other node has. OTP's are of the same kind: random letters and digits.
fn naming() -> Naming {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut random = rand::random::<u64>();
    let basename = (0..13).map(|_| {
        let letter = char::from(LETTERS[random as usize % LETTERS.len()]);
        random /= 32;
        letter
    });
    Naming { basename: basename.collect(), creation: rand::random::<u32>().max(4) }
}

/// Whether the peer has closed the connection, be it in TLS without saying so.
pub(super) fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof)
}

/// Waits until the right to go on is taken away, if there is one.
async fn killed(claim: Option<&Claim>) {
    match claim {
        Some(claim) => claim.killed().await,
        None => std::future::pending().await,
    }
}
