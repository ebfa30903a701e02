//! Takes the connections of one listening socket, and owns their tasks.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::unix::AsyncFd,
    sync::watch,
    task::{JoinSet, yield_now},
    time::sleep,
};

use super::{
    connection::{Caller, Conversation, Greeted, Hold, INPUT_BYTES_MAX, greet, turn_away},
    gate::{Gate, is_local},
    server::Shared,
};

/// The wait after an `accept` that failed, most likely for lack of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Connections that are taken before other tasks get a turn. A client that is fast enough would keep them from it.
const TURN: usize = 32;

/// How often a connection is looked at, at most, before it is waited for: some microseconds in all.
const LOOKS_MAX: u32 = 24;

/// See the module.
#[derive(Debug)]
pub(super) struct Acceptor {
    looks: u32,
    input: Box<[u8; INPUT_BYTES_MAX]>,
    shared: Arc<Shared>,
    gate: Arc<Gate>,
    own: SocketAddr,
    conversations: JoinSet<Option<Hold>>,
    holds: JoinSet<()>,
}

impl Acceptor {
    pub(super) fn new(shared: Arc<Shared>, gate: Arc<Gate>, own: SocketAddr) -> Self {
        Self {
            looks: LOOKS_MAX,
            input: Box::new([0; INPUT_BYTES_MAX]),
            shared,
            gate,
            own,
            conversations: JoinSet::new(),
            holds: JoinSet::new(),
        }
    }

    /// Runs until it is aborted. The socket is closed when the server is told to free its port.
    pub(super) async fn run(mut self, listener: AsyncFd<TcpListener>) {
        let mut closing = self.shared.closing.subscribe();
        let mut listener = Some(listener);
        loop {
            tokio::select! {
                () = turn(listener.as_ref(), self.shared.options.delay_accept) => {
                    if let Some(listener) = &listener {
                        self.take_turn(listener).await;
                    }
                }
                Some(ended) = self.conversations.join_next() => {
                    if let Ok(Some(hold)) = ended {
                        self.hold(hold);
                    }
                }
                Some(_) = self.holds.join_next() => {}
                () = closed(&mut closing), if listener.is_some() => {
                    listener = None;
                    self.shared.listening.send_modify(|listening| *listening -= 1);
                }
            }
        }
    }

    /// Takes what waits, up to a bound.
    async fn take_turn(&mut self, listener: &AsyncFd<TcpListener>) {
        // A client connects first and asks then: by the time that all are taken, most have.
        let mut silent = Vec::new();
        let mut taken = 0;
        while taken < TURN {
            let Ok(mut ready) = listener.readable().await else { break };
            match ready.try_io(|listener| listener.get_ref().accept()) {
                Ok(Ok((stream, peer))) => {
                    taken += 1;
                    if let Greeted::Silent(stream, caller) = self.admit(stream, peer) {
                        silent.push((stream, caller));
                    }
                }
                Ok(Err(error)) => {
                    tracing::warn!(target: "epmd", %error, address = %self.own, "error in accept");
                    sleep(ACCEPT_RETRY).await;
                    break;
                }
                Err(_) => break,
            }
        }
        for (stream, caller) in silent {
            self.ask_again(stream, caller);
        }
        if taken == TURN {
            yield_now().await;
        }
    }

    /// Looks again for what comes a moment after the connection, which is cheaper than to wait for it properly.
    fn ask_again(&mut self, mut stream: TcpStream, mut caller: Caller) {
        for _ in 0..self.looks {
            match self.greet(stream, caller) {
                Greeted::Silent(again, still) => (stream, caller) = (again, still),
                Greeted::Done | Greeted::Waits(_) | Greeted::Holds(_) => {
                    self.looks = LOOKS_MAX;
                    return;
                }
            }
        }
        // Who says nothing makes the next one wait less.
        self.looks = (self.looks / 2).max(1);
        self.converse(Conversation::new(stream, caller));
    }

    /// Lets a connection in, if there is room for it.
    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) -> Greeted {
        let local = is_local(peer, || stream.local_addr().ok());
        let allow = &self.shared.options.allow;
        let allowed = local || allow.is_empty() || allow.iter().any(|network| network.contains(peer.ip()));
        let permit = if allowed { self.gate.enter((!local).then(|| peer.ip())) } else { None };
        match permit {
            Some(permit) => {
                tracing::trace!(target: "epmd", %peer, "opening connection");
                self.greet(stream, Caller { local, own_port: self.own.port(), permit })
            }
            None => {
                tracing::debug!(target: "epmd", %peer, allowed, "failed opening connection");
                if local {
                    self.shared.say_full();
                }
                turn_away(&stream);
                Greeted::Done
            }
        }
    }

    /// Answers what has come, and keeps what is not done.
    fn greet(&mut self, stream: TcpStream, caller: Caller) -> Greeted {
        match greet(&self.shared, stream, caller, &mut self.input) {
            Greeted::Waits(conversation) => self.converse(*conversation),
            Greeted::Holds(hold) => self.hold(hold),
            Greeted::Silent(stream, caller) => return Greeted::Silent(stream, caller),
            Greeted::Done => {}
        }
        Greeted::Done
    }

    fn converse(&mut self, conversation: Conversation) {
        self.conversations.spawn(conversation.run(Arc::clone(&self.shared)));
    }

    fn hold(&mut self, hold: Hold) {
        let entry = hold.registered.as_ref().map(|registered| Arc::clone(&registered.entry));
        match hold.run(self.shared.options.packet_timeout) {
            Ok(run) => {
                let holder = self.holds.spawn(run);
                if let Some(entry) = entry {
                    self.shared.hold(&entry, holder);
                }
            }
            Err(error) => tracing::warn!(target: "epmd", %error, "a connection cannot be held"),
        }
    }
}

/// Waits until something can be accepted; forever on a socket that is closed.
async fn turn(listener: Option<&AsyncFd<TcpListener>>, delay: Duration) {
    let Some(listener) = listener else { return std::future::pending().await };
    if let Err(error) = listener.readable().await.map(drop) {
        // The reactor is gone, and with it everything.
        tracing::warn!(target: "epmd", %error, "error in accept");
        return std::future::pending().await;
    }
    if !delay.is_zero() {
        sleep(delay).await;
    }
}

/// Waits until the port is to be freed.
async fn closed(closing: &mut watch::Receiver<bool>) {
    // The acceptor has the sender, so there is no other end.
    drop(closing.wait_for(|closing| *closing).await);
}
