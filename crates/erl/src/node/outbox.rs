//! What waits to be written to a peer: bounded in bytes, in order.
//!
//! A message finds room or is refused as busy; one message of any size fits an empty queue. Signals and must-answers
//! may go past the bound, up to four times it: they are few, and must not be lost. A peer that lets even those pile up
//! asks and does not read; its connection ends.
//!
//! What is queued is taken by the [`Schedule`](super::schedule::Schedule) of the connection, which keeps the order of
//! each sender alone.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use metacluster_erl_wire::frame::{Message, Payload};
use tokio::sync::Notify;

use super::schedule::Lane;

/// What a message costs beside its payload: its control message, about.
const CONTROL_BYTES: usize = 64;

/// How far signals may go past the bound of messages.
const SIGNALS_FACTOR: usize = 4;

/// Why something was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Too many bytes wait.
    Busy,
    /// The connection has ended.
    Closed,
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
    queue: VecDeque<Entry>,
    /// Of the queue, and of what is being written.
    bytes: usize,
    closed: bool,
}

impl Inner {
    fn push(&mut self, entry: Entry, bytes_max: usize) -> Result<(), Full> {
        if self.closed {
            return Err(Full::Closed);
        }
        let cost = cost(&entry.message);
        if self.bytes > 0 && self.bytes.saturating_add(cost) > bytes_max {
            return Err(Full::Busy);
        }
        self.bytes += cost;
        self.queue.push_back(entry);
        Ok(())
    }
}

impl Outbox {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { inner: Mutex::default(), bytes_max, ready: Notify::new(), room: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push_below(&self, entry: Entry, bytes_max: usize) -> Result<(), Full> {
        self.lock().push(entry, bytes_max)?;
        self.ready.notify_one();
        Ok(())
    }

    /// Queues messages and, where so marked, signals, in this order. `refused` is told of each that found no room, and
    /// whether it was a signal.
    pub(crate) fn push_all(&self, entries: impl Iterator<Item = (Entry, bool)>, mut refused: impl FnMut(Full, bool)) {
        let mut inner = self.lock();
        for (entry, signal) in entries {
            let bytes_max = if signal { self.signal_bytes_max() } else { self.bytes_max };
            if let Err(full) = inner.push(entry, bytes_max) {
                refused(full, signal);
            }
        }
        drop(inner);
        self.ready.notify_one();
    }

    /// Queues a message.
    pub(crate) fn push_message(&self, entry: Entry) -> Result<(), Full> {
        self.push_below(entry, self.bytes_max)
    }

    /// Queues a signal.
    pub(crate) fn push_signal(&self, entry: Entry) -> Result<(), Full> {
        self.push_below(entry, self.signal_bytes_max())
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
    pub(crate) fn take(&self, into: &mut VecDeque<Entry>) {
        std::mem::swap(&mut self.lock().queue, into);
    }

    /// Waits until something is queued; false when all is taken and no more can come. Safe to cancel.
    pub(crate) async fn ready(&self) -> bool {
        loop {
            let ready = self.ready.notified();
            {
                let inner = self.lock();
                if !inner.queue.is_empty() {
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

    /// How many messages are taken at once.
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
