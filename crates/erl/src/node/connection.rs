//! One connection to a peer: its task reads and writes, others put messages into its outbox.
//!
//! The reader and the writer run side by side in one task, so neither waits for the other, and whichever ends first
//! ends both. A tick goes out whenever nothing was written for a tick interval, whatever was read: OTP ticks a hidden
//! peer only when it has heard nothing from it, and would otherwise hold us for dead, or we it. A peer that sends no
//! byte for the tick time is down. A stream of small messages is read a little later and more at a time (`pace`).

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use metacluster_erl_wire::{
    Pid, Term,
    control::{Control, Sending},
    frame::{Bounds, Decoder, Encoder, FRAGMENT_BYTES, Frame, Message, Mode, Payload, SHORT_BYTES_MAX},
    handshake::Flags,
    sink::Chain,
    term::{self, Limits},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use super::{
    Inner,
    error::DownReason,
    event::PeerInfo,
    inbound::Inbound,
    outbox::{CONTROL_BYTES, Entry, Full, Outbox, Outgoing, Queued},
    pace::{Pace, Timer},
    registry::Signal,
    relay::Encoded,
    schedule::{Lane, Schedule},
    signals,
    stream::Stream,
};

/// How much is written at once, if there is as much. With half of it, messages of 1 MiB took an eighth longer.
const BATCH_BYTES: usize = 256 << 10;
/// How much is read at once, while there is as much; an idle connection holds less.
const READ_BYTES: usize = 64 << 10;
/// How much is read at once at first.
const READ_BYTES_IDLE: usize = 4 << 10;
/// A buffer larger than this is given back once it is written.
const BATCH_KEPT_BYTES: usize = 2 * BATCH_BYTES;
/// How many ticks go out in a tick time: OTP's default `net_tickintensity`.
const TICKS: u32 = 4;
/// The shortest tick time that is held to, since a peer may ask for any.
const TICK_TIME_MIN: Duration = Duration::from_millis(400);
/// The time that is left to write what is queued when the connection is ended from here.
const DRAIN: Duration = Duration::from_millis(500);

/// What the rest of the node has of a connection.
pub(crate) struct Connection {
    info: PeerInfo,
    outbox: Outbox,
    closed: Mutex<Option<DownReason>>,
    ended: Notify,
    /// The peer's `net_ticktime`: it must hear from us four times within it, and we from it once.
    tick_time: watch::Sender<Duration>,
    since: Instant,
    /// When the last byte came, in milliseconds since `since`.
    heard: AtomicU64,
}

impl Connection {
    pub(crate) fn new(info: PeerInfo, queue_bytes_max: usize, tick_time: Duration) -> Self {
        Self {
            info,
            outbox: Outbox::new(queue_bytes_max),
            closed: Mutex::default(),
            ended: Notify::new(),
            tick_time: watch::Sender::new(tick_time),
            since: Instant::now(),
            heard: AtomicU64::new(0),
        }
    }

    pub(crate) fn info(&self) -> &PeerInfo {
        &self.info
    }

    pub(crate) fn has(&self, flags: Flags) -> bool {
        self.info.flags.has(flags)
    }

    /// The time since the last byte of the peer.
    pub(crate) fn silent(&self) -> Duration {
        self.since.elapsed().saturating_sub(Duration::from_millis(self.heard.load(Ordering::Relaxed)))
    }

    /// Holds to the peer's own `net_ticktime` from now on.
    pub(crate) fn set_tick_time(&self, tick_time: Duration) {
        self.tick_time.send_replace(tick_time.max(TICK_TIME_MIN));
    }

    fn hear(&self, now: Instant) {
        self.heard.store((now - self.since).as_millis() as u64, Ordering::Relaxed);
    }

    /// Ends it. Of several reasons the first counts. What is queued is written if we are the ones who end it.
    pub(crate) fn close(&self, reason: DownReason) {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.outbox.close();
        self.ended.notify_one();
    }

    /// Whether somebody has ended it.
    pub(crate) fn is_ended(&self) -> bool {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn reason(&self) -> Option<DownReason> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Queues a message.
    pub(crate) fn push(&self, control: Control, payload: Option<&Term>) -> Result<(), Full> {
        self.outbox.push_message(entry(control, payload))
    }

    /// Queues a message to a process, a short one as bytes.
    pub(crate) fn send(&self, sending: &Sending<'_>, message: &Term) -> Result<(), Full> {
        let Some(bytes) = term::bytes_within(message, SHORT_BYTES_MAX) else {
            return self.push(Control::from(*sending), Some(message));
        };
        let mode = Mode::new(self.info.flags);
        let lane = Lane::of(sending.from());
        self.outbox.push_short(lane, CONTROL_BYTES + bytes, |out| mode.put_short(sending, message, out))
    }

    /// Queues a message of this process.
    pub(crate) fn push_of(&self, from: &Pid, control: Control, payload: Option<&Term>) -> Result<(), Full> {
        self.outbox.push_message(Entry { lane: Lane::of(from), ..entry(control, payload) })
    }

    /// Waits until something that waited is written, or nothing waits.
    pub(crate) async fn room(&self) {
        self.outbox.room().await;
    }

    /// Queues a message once there is room.
    pub(crate) async fn push_when_room(&self, control: Control, payload: Option<&Term>) -> Result<(), Full> {
        self.outbox.push_when_room(entry(control, payload)).await
    }

    /// Queues what must not be lost. False when the connection has ended, be it because of this.
    pub(crate) fn push_control(&self, control: Control, payload: Option<&Term>) -> bool {
        self.push_entry(entry(control, payload))
    }

    /// [`Self::push_control`] in the order of another process than the one that the message names.
    pub(crate) fn push_control_in(&self, lane: Lane, control: Control) -> bool {
        self.push_entry(Entry { lane, ..entry(control, None) })
    }

    /// Queues messages that are bytes already.
    pub(crate) fn push_encoded(&self, messages: impl Iterator<Item = Encoded>, mut refused: impl FnMut(Full)) {
        let mut overloaded = false;
        let entries = messages.map(|Encoded { lane, control, payload, signal }| {
            let message = Outgoing::Encoded(control, payload);
            (Entry { lane: Lane::of_number(lane), message }, signal)
        });
        self.outbox.push_all(entries, |full, signal| {
            overloaded |= signal && full == Full::Busy;
            refused(full);
        });
        if overloaded {
            self.close(DownReason::Overloaded(self.outbox.signal_bytes_max()));
        }
    }

    fn push_entry(&self, entry: Entry) -> bool {
        match self.outbox.push_signal(entry) {
            Ok(()) => true,
            Err(Full::Closed) => false,
            Err(Full::Busy) => {
                self.close(DownReason::Overloaded(self.outbox.signal_bytes_max()));
                false
            }
        }
    }

    /// Queues a signal of this process, or of the node, in the form that the peer knows.
    pub(crate) fn push_signal(&self, process: Option<&Pid>, signal: Signal) {
        let payload = self.has(Flags::EXIT_PAYLOAD);
        let mut entry = match signal {
            Signal::Exit { from, to, reason } if payload => {
                entry(Control::PayloadExit { from, to, trace: None }, Some(&reason))
            }
            Signal::Exit { from, to, reason } => entry(Control::Exit { from, to, reason, trace: None }, None),
            Signal::Down { from, to, reference, reason } if payload => {
                entry(Control::PayloadMonitorPExit { from, to, reference }, Some(&reason))
            }
            Signal::Down { from, to, reference, reason } => {
                entry(Control::MonitorPExit { from, to, reference, reason }, None)
            }
            Signal::Demonitor { from, target, reference } => {
                entry(Control::DemonitorP { from, to: target, reference }, None)
            }
        };
        // A monitor by name has its `Down` from that name: only who ends the process knows whose it is.
        entry.lane = process.map_or(entry.lane, Lane::of);
        self.push_entry(entry);
    }

    /// Queues an exit signal that no link carries.
    pub(crate) fn push_exit(&self, from: Pid, to: Pid, reason: Term) -> Result<(), Full> {
        if self.has(Flags::EXIT_PAYLOAD) {
            self.push(Control::PayloadExit2 { from, to, trace: None }, Some(&reason))
        } else {
            self.push(Control::Exit2 { from, to, reason, trace: None }, None)
        }
    }
}

fn entry(control: Control, payload: Option<&Term>) -> Entry {
    let lane = Lane::of_control(&control);
    Entry { lane, message: Outgoing::Message(Message { control, payload: payload.map(Payload::from) }) }
}

/// Runs the connection until it ends, then tells everybody.
pub(crate) async fn run(inner: Arc<Inner>, connection: Arc<Connection>, stream: Stream, rest: BytesMut) {
    // Signals are small and somebody waits for each.
    drop(stream.tcp().set_nodelay(true));
    match stream {
        Stream::Tcp(stream) => {
            let (reader, writer) = stream.into_split();
            drive(inner, connection, reader, writer, rest).await;
        }
        Stream::Tls(stream) => {
            let (reader, writer) = tokio::io::split(stream);
            drive(inner, connection, reader, writer, rest).await;
        }
    }
}

async fn drive(
    inner: Arc<Inner>,
    connection: Arc<Connection>,
    reader: impl AsyncRead + Unpin,
    writer: impl AsyncWrite + Unpin,
    rest: BytesMut,
) {
    let reason = tokio::select! {
        reason = read(&inner, &connection, reader, rest) => reason,
        reason = write(&connection, writer) => reason,
        reason = ended(&connection) => reason,
    };
    inner.finish(&connection, reason);
    // Whoever else ended it may have swept the registry while the reader was still busy with a signal.
    inner.registry.connection_lost(connection.info.connection);
}

/// Waits until somebody else ends the connection, and then until the rest is written or its time is up.
async fn ended(connection: &Connection) -> DownReason {
    loop {
        let ended = connection.ended.notified();
        if let Some(reason) = connection.reason() {
            if matches!(reason, DownReason::Disconnected | DownReason::Shutdown) {
                tokio::time::sleep(DRAIN).await;
            }
            return reason;
        }
        ended.await;
    }
}

async fn read(
    inner: &Arc<Inner>,
    connection: &Arc<Connection>,
    mut reader: impl AsyncRead + Unpin,
    rest: BytesMut,
) -> DownReason {
    let bytes_max = inner.options.message_bytes_max;
    let bounds =
        Bounds { frame_bytes_max: bytes_max, held_bytes_max: bytes_max.saturating_mul(4), ..Bounds::default() };
    let limits = Limits { bytes_max, ..Limits::default() };
    let mut decoder = Decoder::new(bounds);
    decoder.feed(&rest);
    drop(rest);
    let mut room = READ_BYTES_IDLE;
    let mut tick_time = connection.tick_time.subscribe();
    let mut inbound = Inbound::new(inner, connection, limits);
    let (mut pace, mut timer) = (Pace::new(connection.since), Timer::default());
    let mut came = None;
    loop {
        let mut messages = 0;
        loop {
            let relay = inner.relay.get();
            let next = decoder.next_frame_but(&mut |route, body| {
                messages += 1;
                relay.is_some_and(|relay| relay.take(&connection.info, route, body)) || inbound.take(route, body)
            });
            if let Err(error) = inbound.deliver() {
                return DownReason::Protocol(error.to_string());
            }
            match next {
                Ok(Some(Frame::Tick)) => {}
                Ok(Some(Frame::Message(_))) if connection.is_ended() => {}
                Ok(Some(Frame::Message(message))) => match signals::receive(inner, connection, message, &limits) {
                    Ok(()) => {}
                    Err(error) if signals::is_limit(&error) => signals::say_dropped(connection, &error),
                    Err(error) => return DownReason::Protocol(error.to_string()),
                },
                Ok(None) => break,
                Err(error) => return DownReason::Protocol(error.to_string()),
            }
        }
        if let Some(relay) = inner.relay.get() {
            relay.pause();
        }
        if let Some((at, bytes, all)) = came.take()
            && pace.came(at, messages, bytes)
            && all
        {
            timer.nap().await;
        }
        let mut into = decoder.room(room);
        let current = *tick_time.borrow_and_update();
        let read = tokio::select! {
            read = timeout(current, reader.read_buf(&mut into)) => read,
            Ok(()) = tick_time.changed() => continue,
        };
        match read {
            Ok(Ok(0)) => return DownReason::ClosedByPeer,
            Ok(Ok(bytes)) => {
                let now = Instant::now();
                connection.hear(now);
                decoder.came(bytes);
                came = Some((now, bytes, bytes < room));
                room = if bytes < READ_BYTES_IDLE { READ_BYTES_IDLE } else { READ_BYTES };
            }
            Ok(Err(error)) => return from_io(&error),
            Err(_) => return DownReason::TickTimeout { silent: current },
        }
    }
}

async fn write(connection: &Arc<Connection>, mut writer: impl AsyncWrite + Unpin) -> DownReason {
    let mut tick_time = connection.tick_time.subscribe();
    let mut schedule = Schedule::new(Encoder::new(Mode::new(connection.info.flags)));
    let mut queue = VecDeque::new();
    let mut batch = Chain::with_capacity(1024);
    loop {
        if schedule.is_idle() && queue.is_empty() {
            let interval = *tick_time.borrow_and_update() / TICKS;
            let ready = tokio::select! {
                ready = timeout(interval, connection.outbox.ready()) => ready,
                Ok(()) = tick_time.changed() => continue,
            };
            match ready {
                Ok(true) => {}
                Ok(false) => {
                    // Ended from here, and all is written. The peer sees the end at once.
                    drop(writer.shutdown().await);
                    return connection.reason().unwrap_or(DownReason::Disconnected);
                }
                Err(_) => Encoder::tick(&mut batch),
            }
        }
        let written = fill(connection, &mut schedule, &mut queue, &mut batch);
        if let Err(error) = writer.write_all_buf(&mut batch).await {
            return from_io(&error);
        }
        // TLS keeps what the socket did not take at once.
        if let Err(error) = writer.flush().await {
            return from_io(&error);
        }
        if batch.capacity() > BATCH_KEPT_BYTES {
            batch = Chain::default();
        }
        connection.outbox.written(written);
    }
}

/// Fills the batch: what is whole in one frame as it comes, and after each [`FRAGMENT_BYTES`] of it the fragment whose
/// turn it is. Gives the cost of what is written with it.
fn fill(connection: &Connection, schedule: &mut Schedule, queue: &mut VecDeque<Queued>, batch: &mut Chain) -> usize {
    let mut written = 0;
    while batch.len() < BATCH_BYTES {
        let until = (batch.len() + FRAGMENT_BYTES).min(BATCH_BYTES);
        while batch.len() < until {
            if queue.is_empty() {
                connection.outbox.take(queue);
            }
            let Some(queued) = queue.pop_front() else { break };
            written += schedule.insert(queued, batch);
        }
        if schedule.is_idle() && batch.len() < until {
            break;
        }
        written += schedule.advance(batch);
    }
    written
}

fn from_io(error: &io::Error) -> DownReason {
    let by_peer = [
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::BrokenPipe,
        // In TLS, a close without a word.
        io::ErrorKind::UnexpectedEof,
    ];
    if by_peer.contains(&error.kind()) { DownReason::ClosedByPeer } else { DownReason::Network(error.to_string()) }
}
