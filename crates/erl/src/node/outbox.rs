//! What waits to be written to a peer: bounded in bytes, in order.
//!
//! A message finds room or is refused as busy; one message of any size fits an empty queue. Signals and must-answers
//! may go past the bound, up to four times it: they are few, and must not be lost. A peer that lets even those pile up
//! asks and does not read; its connection ends.
//!
//! What is queued is taken by the [`Schedule`](super::schedule::Schedule) of the connection, which keeps the order of
//! each sender alone. Short messages are queued as the bytes that are written: each then costs its sender a copy, and
//! the connection nearly nothing.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use metacluster_erl_wire::frame::{Message, Payload};
use tokio::sync::Notify;

use super::schedule::Lane;

/// What a message costs beside its payload: its control message, about.
pub(crate) const CONTROL_BYTES: usize = 64;

/// How far signals may go past the bound of messages.
const SIGNALS_FACTOR: usize = 4;

/// Short messages are gathered up to so many bytes.
const RUN_BYTES_MAX: usize = 32 << 10;

/// Why something was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Too many bytes wait.
    Busy,
    /// The connection has ended.
    Closed,
}

/// What waits, as one piece.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a run stands for hundreds, and a box would cost each entry an allocation"
)]
pub(crate) enum Queued {
    /// Short messages, one behind the other.
    Run(Run),
    /// One message of any length.
    Entry(Entry),
}

/// Messages of one frame each, as they are written.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) frames: BytesMut,
    /// Whose each is, and how many bytes it takes.
    pub(crate) messages: Vec<(Lane, usize)>,
}

/// A message, and whose order it keeps.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) lane: Lane,
    pub(crate) message: Outgoing,
}

/// What is to be written.
#[derive(Clone, Debug)]
pub(crate) enum Outgoing {
    /// A message of this node.
    Message(Message),
    /// One that is bytes already: the control message, without version byte, and the payload.
    Encoded(Bytes, Option<Payload>),
}

/// See the module.
pub(crate) struct Outbox {
    inner: Mutex<Inner>,
    bytes_max: usize,
    ready: Notify,
    room: Notify,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<Queued>,
    /// The short messages behind it.
    run: Run,
    /// Of both, and of what is being written.
    bytes: usize,
    closed: bool,
}

impl Inner {
    /// Whether a message of this cost is taken.
    fn check(&self, cost: usize, bytes_max: usize) -> Result<(), Full> {
        if self.closed {
            Err(Full::Closed)
        } else if self.bytes > 0 && self.bytes.saturating_add(cost) > bytes_max {
            Err(Full::Busy)
        } else {
            Ok(())
        }
    }

    fn push(&mut self, entry: Entry, bytes_max: usize) -> Result<(), Full> {
        let cost = cost(&entry.message);
        self.check(cost, bytes_max)?;
        self.bytes += cost;
        self.end_run();
        self.queue.push_back(Queued::Entry(entry));
        Ok(())
    }

    fn push_short(&mut self, lane: Lane, write: impl FnOnce(&mut BytesMut)) {
        let start = self.run.frames.len();
        write(&mut self.run.frames);
        let cost = self.run.frames.len() - start;
        self.run.messages.push((lane, cost));
        self.bytes += cost;
        if self.run.frames.len() >= RUN_BYTES_MAX {
            self.end_run();
        }
    }

    fn end_run(&mut self) {
        if !self.run.messages.is_empty() {
            self.queue.push_back(Queued::Run(std::mem::take(&mut self.run)));
        }
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.run.messages.is_empty()
    }
}

impl Outbox {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { inner: Mutex::default(), bytes_max, ready: Notify::new(), room: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something in, and wakes the connection if nothing waited: if something did, it is awake.
    fn put<T>(&self, put: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let waited = !inner.is_empty();
        let done = put(&mut inner);
        let wakes = !waited && !inner.is_empty();
        drop(inner);
        if wakes {
            self.ready.notify_one();
        }
        done
    }

    /// Queues messages and, where so marked, signals, in this order. `refused` is told of each that found no room, and
    /// whether it was a signal.
    pub(crate) fn push_all(&self, entries: impl Iterator<Item = (Entry, bool)>, mut refused: impl FnMut(Full, bool)) {
        self.put(|inner| {
            for (entry, signal) in entries {
                let bytes_max = if signal { self.signal_bytes_max() } else { self.bytes_max };
                if let Err(full) = inner.push(entry, bytes_max) {
                    refused(full, signal);
                }
            }
        });
    }

    /// Queues a message.
    pub(crate) fn push_message(&self, entry: Entry) -> Result<(), Full> {
        self.put(|inner| inner.push(entry, self.bytes_max))
    }

    /// Queues a message of one frame, which `write` appends; it has no more than so many bytes.
    pub(crate) fn push_short(&self, lane: Lane, bytes: usize, write: impl FnOnce(&mut BytesMut)) -> Result<(), Full> {
        self.put(|inner| {
            inner.check(bytes, self.bytes_max)?;
            inner.push_short(lane, write);
            Ok(())
        })
    }

    /// Queues a signal.
    pub(crate) fn push_signal(&self, entry: Entry) -> Result<(), Full> {
        self.put(|inner| inner.push(entry, self.signal_bytes_max()))
    }

    /// How many bytes may wait at most, signals included.
    pub(crate) fn signal_bytes_max(&self) -> usize {
        self.bytes_max.saturating_mul(SIGNALS_FACTOR)
    }

    /// Waits until something that waited is written, or nothing waits, or nothing more is taken.
    pub(crate) async fn room(&self) {
        let room = self.room.notified();
        tokio::pin!(room);
        // Listens before it looks, as below.
        room.as_mut().enable();
        let waits = {
            let inner = self.lock();
            inner.bytes > 0 && !inner.closed
        };
        if waits {
            room.await;
        }
    }

    /// Queues a message once there is room.
    pub(crate) async fn push_when_room(&self, entry: Entry) -> Result<(), Full> {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // Listens before it looks, so that no wake-up falls between the two.
            room.as_mut().enable();
            match self.push_message(entry.clone()) {
                Err(Full::Busy) => room.await,
                other => return other,
            }
        }
    }

    /// Takes nothing more. What is queued is still written.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_one();
        self.room.notify_waiters();
    }

    /// Takes all that is queued into a queue that is empty. It counts as waiting until it is [`Outbox::written`].
    pub(crate) fn take(&self, into: &mut VecDeque<Queued>) {
        let mut inner = self.lock();
        inner.end_run();
        std::mem::swap(&mut inner.queue, into);
    }

    /// Waits until something is queued; false when all is taken and no more can come. Safe to cancel.
    pub(crate) async fn ready(&self) -> bool {
        loop {
            let ready = self.ready.notified();
            {
                let inner = self.lock();
                if !inner.is_empty() {
                    return true;
                }
                if inner.closed {
                    return false;
                }
            }
            ready.await;
        }
    }

    /// Messages of this cost are written, and make room. Who waits for it is woken when half of the bound is free: to be
    /// woken for each piece, and mostly in vain, would cost more than the piece.
    pub(crate) fn written(&self, cost: usize) {
        let mut inner = self.lock();
        inner.bytes = inner.bytes.saturating_sub(cost);
        let half_free = inner.bytes <= self.bytes_max / 2;
        drop(inner);
        if half_free {
            self.room.notify_waiters();
        }
    }
}

/// What a message takes of the bound.
pub(crate) fn cost(message: &Outgoing) -> usize {
    let payload = match message {
        Outgoing::Message(message) => &message.payload,
        Outgoing::Encoded(_, payload) => payload,
    };
    CONTROL_BYTES + payload.as_ref().map_or(0, Payload::len)
}

#[cfg(test)]
mod tests {
    use metacluster_erl_wire::{Atom, Pid, control::Control};

    use super::*;

    /// A message of this cost.
    fn message(cost: usize) -> Entry {
        let to = Pid { node: Atom::EMPTY, id: 1, serial: 0, creation: 4 };
        let payload = Some(Payload::from_bytes(vec![0; cost - CONTROL_BYTES].into()));
        let message = Message { control: Control::Send { to, trace: None }, payload };
        Entry { lane: Lane::NODE, message: Outgoing::Message(message) }
    }

    /// Queues so many bytes as a short message.
    fn push_short(outbox: &Outbox, bytes: usize) -> Result<(), Full> {
        outbox.push_short(Lane::NODE, bytes, |out| out.resize(out.len() + bytes, 0))
    }

    /// How many pieces are taken at once.
    fn taken(outbox: &Outbox) -> usize {
        let mut queue = VecDeque::new();
        outbox.take(&mut queue);
        queue.len()
    }

    #[tokio::test]
    async fn a_full_queue_refuses_messages_and_takes_signals() {
        let outbox = Outbox::new(1_000);
        assert_eq!(outbox.push_message(message(5_000)), Ok(()), "an empty queue takes any size");
        assert_eq!(outbox.push_message(message(100)), Err(Full::Busy));
        assert!(outbox.ready().await);
        assert_eq!(taken(&outbox), 1);
        assert_eq!(outbox.push_message(message(100)), Err(Full::Busy), "what is being written counts");
        outbox.written(5_000);
        assert_eq!(outbox.push_message(message(1_000)), Ok(()));
        assert_eq!(outbox.push_message(message(100)), Err(Full::Busy));
        assert_eq!(outbox.push_signal(message(3_000)), Ok(()));
        assert_eq!(outbox.push_signal(message(100)), Err(Full::Busy), "signals have a bound too");
    }

    #[tokio::test]
    async fn of_several_at_once_those_that_find_no_room_are_named() {
        let outbox = Outbox::new(1_000);
        let mut refused = Vec::new();
        let entries = [(900, false), (200, false), (500, true), (100, false), (3_000, true)];
        let entries = entries.map(|(cost, signal)| (message(cost), signal));
        outbox.push_all(entries.into_iter(), |full, signal| refused.push((full, signal)));
        assert_eq!(refused, [(Full::Busy, false), (Full::Busy, false), (Full::Busy, true)]);
        assert!(outbox.ready().await);
        assert_eq!(taken(&outbox), 2);
        outbox.close();
        outbox.push_all([(message(100), true)].into_iter(), |full, _| assert_eq!(full, Full::Closed));
    }

    #[tokio::test]
    async fn short_messages_are_gathered_between_others_within_the_bound() {
        let outbox = Outbox::new(1_000);
        for _ in 0..3 {
            assert_eq!(push_short(&outbox, 100), Ok(()));
        }
        assert_eq!(outbox.push_message(message(300)), Ok(()));
        assert_eq!(push_short(&outbox, 400), Ok(()));
        assert_eq!(push_short(&outbox, 1), Err(Full::Busy));
        let mut queue = VecDeque::new();
        outbox.take(&mut queue);
        let sizes = queue.iter().map(|queued| match queued {
            Queued::Run(run) => run.messages.len(),
            Queued::Entry(_) => 0,
        });
        assert_eq!(sizes.collect::<Vec<_>>(), [3, 0, 1]);
        outbox.written(1_000);
        assert_eq!(push_short(&outbox, 1), Ok(()));
        outbox.close();
        assert_eq!(push_short(&outbox, 1), Err(Full::Closed));
    }

    #[tokio::test]
    async fn what_finds_no_room_in_an_empty_queue_leaves_it_empty() {
        let outbox = Outbox::new(100);
        assert_eq!(push_short(&outbox, 100), Ok(()));
        assert_eq!(taken(&outbox), 1);
        assert_eq!(push_short(&outbox, 1), Err(Full::Busy), "what is being written counts");
        assert_eq!(taken(&outbox), 0);
        outbox.written(100);
        assert_eq!(push_short(&outbox, 1), Ok(()));
        assert!(outbox.ready().await);
    }

    #[tokio::test]
    async fn a_closed_queue_is_drained_and_then_ends() {
        let outbox = Outbox::new(1_000);
        outbox.push_message(message(100)).expect("room");
        outbox.close();
        assert_eq!(outbox.push_signal(message(100)), Err(Full::Closed));
        assert!(outbox.ready().await);
        assert_eq!(taken(&outbox), 1);
        assert!(!outbox.ready().await);
    }

    #[tokio::test]
    async fn who_waits_for_room_gets_it() {
        let outbox = Outbox::new(1_000);
        outbox.push_message(message(1_000)).expect("room");
        let push = outbox.push_when_room(message(100));
        tokio::pin!(push);
        let early = tokio::select! {
            biased;
            _ = &mut push => true,
            () = tokio::task::yield_now() => false,
        };
        assert!(!early, "there is no room");
        outbox.written(1_000);
        assert_eq!(push.await, Ok(()));
    }
}
