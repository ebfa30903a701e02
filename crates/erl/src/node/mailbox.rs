//! The queue of one process: messages are bounded, signals are not lost.
//!
//! Invariant: at most `messages_max` plain messages wait. One that finds the box full is dropped and counted, and the
//! process reads the count as [`Received::Lost`] in the place where the gap is. A `Down`, and the `Exit` of a link, always
//! fit: there are only as many as the process has monitors and links, which are bounded where they are made.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::process::Received;

/// See the module.
pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
    filled: Notify,
    discards: bool,
}

struct Inner {
    queue: VecDeque<Entry>,
    messages: usize,
    messages_max: usize,
}

impl Inner {
    fn push(&mut self, received: Received) {
        if self.messages < self.messages_max {
            self.messages += 1;
            self.queue.push_back(Entry::Counted(received));
        } else if let Some(Entry::Free(Received::Lost { messages })) = self.queue.back_mut() {
            *messages += 1;
        } else {
            self.queue.push_back(Entry::Free(Received::Lost { messages: 1 }));
        }
    }
}

enum Entry {
    /// Counts against the bound.
    Counted(Received),
    /// Does not.
    Free(Received),
}

impl Mailbox {
    pub(crate) fn new(messages_max: usize) -> Self {
        Self {
            inner: Mutex::new(Inner { queue: VecDeque::new(), messages: 0, messages_max }),
            filled: Notify::new(),
            discards: false,
        }
    }

    /// A mailbox that nobody reads and that keeps nothing.
    pub(crate) fn discarding() -> Self {
        Self { discards: true, ..Self::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in what a peer may send as often as it likes, or counts it as lost.
    pub(crate) fn push(&self, received: Received) {
        if self.discards {
            return;
        }
        self.lock().push(received);
        self.filled.notify_one();
    }

    /// [`Mailbox::push`] of several, which are taken out.
    pub(crate) fn push_all(&self, all: &mut Vec<Received>) {
        if self.discards {
            return all.clear();
        }
        let mut inner = self.lock();
        for received in all.drain(..) {
            inner.push(received);
        }
        drop(inner);
        self.filled.notify_one();
    }

    /// Puts in a signal that must not be lost.
    pub(crate) fn push_signal(&self, signal: Received) {
        if self.discards {
            return;
        }
        self.lock().queue.push_back(Entry::Free(signal));
        self.filled.notify_one();
    }

    /// Takes the next entry, if there is one.
    pub(crate) fn pop(&self) -> Option<Received> {
        let mut inner = self.lock();
        match inner.queue.pop_front()? {
            Entry::Counted(received) => {
                inner.messages -= 1;
                Some(received)
            }
            Entry::Free(received) => Some(received),
        }
    }

    /// Waits for the next entry. Safe to cancel: nothing is taken before it is returned.
    pub(crate) async fn recv(&self) -> Received {
        loop {
            if let Some(received) = self.pop() {
                return received;
            }
            // Of what is put in between the two, a permit is left.
            self.filled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metacluster_erl_wire::Term;

    #[test]
    fn a_full_box_counts_what_it_drops_and_keeps_signals() {
        let mailbox = Mailbox::new(2);
        for n in 0..5 {
            mailbox.push(Received::Message(Term::Integer(n)));
        }
        let signal = Received::Message(Term::atom("signal"));
        mailbox.push_signal(signal.clone());
        mailbox.push(Received::Message(Term::Integer(9)));
        let mut read = Vec::new();
        while let Some(received) = mailbox.pop() {
            read.push(received);
        }
        assert_eq!(
            read,
            [
                Received::Message(Term::Integer(0)),
                Received::Message(Term::Integer(1)),
                Received::Lost { messages: 3 },
                signal,
                Received::Lost { messages: 1 },
            ]
        );
    }
}
