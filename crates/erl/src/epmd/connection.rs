//! One connection to the epmd server: one request, one answer, and for a node the registration that follows.
//!
//! A connection costs at most the longest request while it asks, and nothing but its task while it is registered.

use std::{io, net::SocketAddr, os::fd::AsRawFd, sync::Arc};

use bytes::{Bytes, BytesMut};
use metacluster_erl_wire::epmd::{
    KillReply, NameEntry, NamesReply, PortReply, RegisterReply, Registration, Request, RequestError, StopReply,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{server::Shared, table::Token};

/// What a refused registration is told.
const REFUSED: u8 = 1;

/// Serves a connection until it ends.
pub(crate) async fn serve(shared: Arc<Shared>, mut stream: TcpStream, local: bool) {
    let answered = tokio::time::timeout(shared.packet_timeout(), answer(&shared, &mut stream, local)).await;
    let Ok(Ok(Some(held))) = answered else { return };
    // Registered, or refused and left open, as epmd does. Any byte, and the end, ends it.
    let mut byte = [0];
    match &held {
        Hold::Registered(registered) => {
            tokio::select! {
                _ = stream.read(&mut byte) => {}
                () = registered.stopped() => {}
            }
        }
        Hold::Refused => {
            // An answer that is not read ends with the time that any request has.
            drop(tokio::time::timeout(shared.packet_timeout(), stream.read(&mut byte)).await);
        }
    }
}

/// Why a connection stays open after its answer.
enum Hold {
    Registered(Holding),
    Refused,
}

/// A registration; dropping it unregisters.
struct Holding {
    shared: Arc<Shared>,
    name: String,
    token: Token,
}

impl Holding {
    /// Waits until a `STOP` ended the registration, which only a relaxed epmd obeys.
    async fn stopped(&self) {
        if !self.shared.is_relaxed() {
            return std::future::pending().await;
        }
        let mut names = self.shared.watch();
        // Ends when the name is another's or nobody's. The server outlives its connections, so the watch stays.
        drop(names.wait_for(|_| self.shared.token(&self.name) != Some(self.token)).await);
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.shared.unregister(&self.name, self.token);
    }
}

async fn answer(shared: &Arc<Shared>, stream: &mut TcpStream, local: bool) -> io::Result<Option<Hold>> {
    let mut input = BytesMut::with_capacity(128);
    let request = loop {
        match Request::decode(&input) {
            Ok(Some(request)) => break request,
            Ok(None) => {
                if stream.read_buf(&mut input).await? == 0 {
                    return Ok(None);
                }
            }
            Err(RequestError::BadRegistration { highest }) if local => {
                return refuse(stream, highest).await.map(Some);
            }
            // epmd says nothing to what it does not understand.
            Err(_) => return Ok(None),
        }
    };
    let own_port = u32::from(stream.local_addr()?.port());
    let mut reply = BytesMut::new();
    match request {
        Request::Register(registration) if local => return register(shared, stream, registration).await.map(Some),
        Request::PortPlease(name) => {
            let found = shared.names().get(&name).cloned();
            found.map_or(PortReply::NotFound, PortReply::Found).encode(&mut reply);
        }
        Request::Names => {
            let entry = |node: &Registration| NameEntry { name: node.name.clone(), port: node.port };
            NamesReply { port: own_port, nodes: shared.names().values().map(entry).collect() }.encode(&mut reply);
        }
        Request::Dump if local => shared.dump(own_port).encode(&mut reply),
        Request::Kill if local => {
            let allowed = shared.is_relaxed();
            reply.extend_from_slice((if allowed { KillReply::Ok } else { KillReply::No }).as_bytes());
            if allowed {
                stream.write_all(&reply).await?;
                stream.shutdown().await?;
                shared.kill();
                return Ok(None);
            }
        }
        Request::Stop(name) if local && shared.is_relaxed() => {
            let stopped = shared.token(&name).is_some_and(|token| shared.unregister(&name, token));
            reply.extend_from_slice((if stopped { StopReply::Stopped } else { StopReply::NoSuchNode }).as_bytes());
        }
        // Only this host may ask these; others are closed without an answer.
        Request::Register(_) | Request::Dump | Request::Kill | Request::Stop(_) => return Ok(None),
    }
    stream.write_all(&reply).await?;
    stream.shutdown().await?;
    Ok(None)
}

async fn register(shared: &Arc<Shared>, stream: &mut TcpStream, registration: Registration) -> io::Result<Hold> {
    let (name, highest) = (registration.name.clone(), registration.highest);
    let Ok((token, creation)) = shared.register(registration, stream.as_raw_fd()) else {
        tracing::info!(%name, "a node wants a name that another one has");
        return refuse(stream, highest).await;
    };
    let holding = Holding { shared: Arc::clone(shared), name, token };
    // Nodes before version 6 know creations 1 to 3 only.
    let creation = if highest >= 6 { creation } else { creation % 3 + 1 };
    stream.write_all(&encoded(RegisterReply::Registered { creation }, highest)).await?;
    Ok(Hold::Registered(holding))
}

async fn refuse(stream: &mut TcpStream, highest: u16) -> io::Result<Hold> {
    stream.write_all(&encoded(RegisterReply::Refused { result: REFUSED }, highest)).await?;
    Ok(Hold::Refused)
}

fn encoded(reply: RegisterReply, highest: u16) -> Bytes {
    let mut out = BytesMut::new();
    reply.encode(highest, &mut out);
    out.freeze()
}

/// Whether the other end is on this host: on the loopback, or at the very address that it reached us on.
pub(crate) fn is_local(peer: SocketAddr, own: SocketAddr) -> bool {
    let (peer, own) = (peer.ip().to_canonical(), own.ip().to_canonical());
    peer.is_loopback() || peer == own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_is_local() {
        let at = |text: &str| -> SocketAddr { text.parse().expect("an address") };
        for (peer, own, local) in [
            ("127.0.0.1:5", "127.0.0.1:4369", true),
            ("127.9.9.9:5", "127.0.0.1:4369", true),
            ("[::1]:5", "[::1]:4369", true),
            ("10.0.0.4:5", "10.0.0.4:4369", true),
            ("[::ffff:10.0.0.4]:5", "10.0.0.4:4369", true),
            ("10.0.0.5:5", "10.0.0.4:4369", false),
            ("[fe80::1]:5", "[fe80::2]:4369", false),
        ] {
            assert_eq!(is_local(at(peer), at(own)), local, "{peer} to {own}");
        }
    }
}
