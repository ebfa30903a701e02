//! Messages of a peer to processes of this node, gathered by receiver.
//!
//! Nearly all that comes are messages, and most come in a row for one process. Those are built from their bytes at once,
//! without a control message between, and go into the mailbox together: one look-up, one lock and one wake-up for all.
//!
//! Invariant: what is gathered is delivered before anything else of the peer is acted on, and before the reader waits. So
//! nothing overtakes, and nothing is late.

use std::sync::Arc;

use bytes::Bytes;
use metacluster_erl_wire::{
    Pid, Term,
    rewrite::{Endpoint, PidView, Route},
    term::{self, DecodeError, Limits},
};

use super::{
    Inner,
    connection::Connection,
    mailbox::Mailbox,
    process::Received,
    signals::{is_limit, say_dropped},
};

/// How many messages are gathered at most.
const GATHERED_MAX: usize = 256;

/// See the module.
pub(crate) struct Inbound<'c> {
    inner: &'c Inner,
    connection: &'c Connection,
    limits: Limits,
    /// Whose messages are gathered.
    receiver: Option<(Pid, Arc<Mailbox>)>,
    gathered: Vec<Received>,
    failed: Option<DecodeError>,
}

impl<'c> Inbound<'c> {
    pub(crate) fn new(inner: &'c Inner, connection: &'c Connection, limits: Limits) -> Self {
        Self { inner, connection, limits, receiver: None, gathered: Vec::new(), failed: None }
    }

    /// Whether it takes this message, whose control message and payload `body` holds in a row.
    pub(crate) fn take(&mut self, route: &Route<'_>, body: &Bytes) -> bool {
        if self.failed.is_some() {
            return true;
        }
        let Some(Endpoint::Pid(to)) = route.to.filter(|_| route.is_common()) else { return false };
        if !self.is_for(&to) && !self.turn_to(&to) {
            return false;
        }
        match self.build(route, body) {
            Ok(message) => self.gather(message),
            Err(error) if is_limit(&error) => say_dropped(self.connection, &error),
            Err(error) => self.failed = Some(error),
        }
        true
    }

    /// Delivers what is gathered, unless the connection has ended: then everybody was told so.
    ///
    /// # Errors
    /// When something that was taken is no term, so that nothing that the peer sends can be trusted.
    pub(crate) fn deliver(&mut self) -> Result<(), DecodeError> {
        self.deliver_gathered();
        self.receiver = None;
        self.failed.take().map_or(Ok(()), Err)
    }

    fn deliver_gathered(&mut self) {
        match &self.receiver {
            Some((_, mailbox)) if !self.gathered.is_empty() && !self.connection.is_ended() => {
                mailbox.push_all(&mut self.gathered);
            }
            Some(_) | None => self.gathered.clear(),
        }
    }

    fn is_for(&self, to: &PidView<'_>) -> bool {
        self.receiver.as_ref().is_some_and(|(pid, _)| to.is(pid))
    }

    /// Gathers for this process from now on; false if it has no mailbox here.
    fn turn_to(&mut self, to: &PidView<'_>) -> bool {
        self.deliver_gathered();
        let pid = self.inner.registry.identifiers().own_pid(to.id, to.serial);
        self.receiver = self.inner.registry.mailbox(&pid).filter(|_| to.is(&pid)).map(|mailbox| (pid, mailbox));
        self.receiver.is_some()
    }

    fn build(&self, route: &Route<'_>, body: &Bytes) -> Result<Term, DecodeError> {
        let start = route.control.len();
        let (message, taken) = term::decode_shared_at(body, start, &self.limits)?;
        match body.len() - start - taken {
            0 => Ok(message),
            trailing => Err(DecodeError::Trailing(trailing)),
        }
    }

    fn gather(&mut self, message: Term) {
        if self.gathered.len() >= GATHERED_MAX || self.inner.registry.is_answer(&message) {
            self.deliver_gathered();
        }
        if let Some(message) = self.inner.registry.answer_call(message) {
            self.gathered.push(Received::Message(message));
        }
    }
}
