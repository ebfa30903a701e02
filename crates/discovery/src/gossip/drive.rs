//! Runs the engine on a socket: opens it, follows the interfaces, says each failure once, says goodbye at the end.

use metacluster_types::{Instant, SourceUpdate};
use tokio::time::{self, Duration, MissedTickBehavior};

use super::{
    engine::{DATAGRAM_BYTES_MAX, Engine, Output, Rules, Verdict},
    socket::{Address, GossipSocket, SocketError},
};
use crate::Feed;

/// How often the interfaces are looked at.
const WATCH: Duration = Duration::from_secs(1);
/// Waits between attempts to open the socket.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// How many datagrams are taken before anything else gets its turn.
const TURN: usize = 256;
/// How long nothing is read once more came than may be read.
const FLOOD_PAUSE: Duration = Duration::from_millis(20);

/// Maps the runtime's clock to the engine's.
#[derive(Clone, Copy)]
struct Clock(time::Instant);

impl Clock {
    fn now(self) -> Instant {
        Instant::from_origin(self.0.elapsed())
    }

    fn at(self, instant: Instant) -> time::Instant {
        self.0 + instant.since_origin()
    }
}

/// Gossips until the feed says stop.
pub(crate) async fn gossip(rules: Rules, address: Address, feed: Feed) {
    let clock = Clock(time::Instant::now());
    let local = feed.local().borrow().clone();
    let engine = Engine::new(clock.now(), rules, local, feed.attempt() > 0, rand::random());
    let mut driver = Driver { clock, engine, address, feed: feed.clone(), failing: None };
    let mut retry = RETRY_MIN;
    loop {
        let error = match GossipSocket::open(&driver.address) {
            Ok(socket) => {
                retry = RETRY_MIN;
                match driver.converse(socket).await {
                    Ok(()) => return,
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        driver.engine.handle_deaf(clock.now());
        tokio::select! {
            () = async { driver.fail(&error).await; time::sleep(retry).await } => {}
            () = feed.stopped() => return,
        }
        retry = (retry * 2).min(RETRY_MAX);
    }
}

struct Driver {
    clock: Clock,
    engine: Engine,
    address: Address,
    feed: Feed,
    /// The failure that was told last and still holds.
    failing: Option<String>,
}

impl Driver {
    /// Works on an open socket until the feed says stop, or the socket is of no use any more.
    async fn converse(&mut self, mut socket: GossipSocket) -> Result<(), SocketError> {
        let feed = self.feed.clone();
        let mut local = feed.local();
        let mut watch = time::interval(WATCH);
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX + 1];
        let mut read_at = time::Instant::now();
        let stopped = feed.stopped();
        tokio::pin!(stopped);

        self.failing = None;
        self.engine.handle_local(self.clock.now(), local.borrow_and_update().clone());
        self.engine.handle_open(self.clock.now());
        loop {
            let broken = tokio::select! {
                broken = self.drain(&mut socket) => broken,
                () = &mut stopped => { self.say_goodbye(&mut socket); return Ok(()) }
            };
            broken?;
            let deadline = self.engine.next_deadline().map_or_else(time::Instant::now, |at| self.clock.at(at));
            tokio::select! {
                () = &mut stopped => { self.say_goodbye(&mut socket); return Ok(()) }
                () = time::sleep_until(deadline) => {}
                readable = async { time::sleep_until(read_at).await; socket.readable().await } => {
                    readable?;
                    if self.receive(&mut socket, &mut buffer)? == Verdict::Overloaded {
                        read_at = time::Instant::now() + FLOOD_PAUSE;
                    }
                }
                changed = local.changed() => match changed {
                    Ok(()) => self.engine.handle_local(self.clock.now(), local.borrow_and_update().clone()),
                    // Whoever said what is local is gone; the word to stop is on its way.
                    Err(_) => { stopped.as_mut().await; self.say_goodbye(&mut socket); return Ok(()) }
                },
                _ = watch.tick() => {
                    if socket.follow_interfaces()? {
                        self.engine.hurry(self.clock.now());
                    }
                    socket.renew_memberships();
                }
            }
        }
    }

    /// Takes what is there to receive, up to a turn's worth.
    fn receive(&mut self, socket: &mut GossipSocket, buffer: &mut [u8]) -> Result<Verdict, SocketError> {
        for _ in 0..TURN {
            let Some((length, from)) = socket.try_receive(buffer)? else { break };
            match self.engine.handle_datagram(self.clock.now(), from, &buffer[..length]) {
                Verdict::Read => {}
                Verdict::Own => socket.heard_own(from),
                Verdict::Overloaded => return Ok(Verdict::Overloaded),
            }
        }
        Ok(Verdict::Read)
    }

    /// Does all that the engine wants done now.
    async fn drain(&mut self, socket: &mut GossipSocket) -> Result<(), SocketError> {
        while let Some(output) = self.engine.poll_output(self.clock.now()) {
            match output {
                Output::Send(datagram) => match socket.send(&datagram) {
                    Ok(()) if self.failing.is_some() => {
                        self.failing = None;
                        self.engine.handle_open(self.clock.now());
                    }
                    Ok(()) => {}
                    Err(error) => self.fail(&error).await,
                },
                Output::Update(update) => self.feed.push(update).await,
                Output::Report(line) => tracing::info!(topology = %self.feed.topology(), "{line}"),
            }
        }
        Ok(())
    }

    /// Tells a failure, once for as long as it is the same.
    async fn fail(&mut self, error: &SocketError) {
        let line = error.to_string();
        if self.failing.as_ref() != Some(&line) {
            self.feed.push(SourceUpdate::Failed(line.clone())).await;
            self.failing = Some(line);
        }
    }

    fn say_goodbye(&mut self, socket: &mut GossipSocket) {
        for datagram in self.engine.goodbye() {
            if let Err(error) = socket.send(&datagram) {
                tracing::debug!(topology = %self.feed.topology(), %error, "no goodbye");
            }
        }
    }
}
