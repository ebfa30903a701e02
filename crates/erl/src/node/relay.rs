//! Messages that are for others: taken as they come, sent as they are.
//!
//! A gateway's node has pids that stand for processes elsewhere. What is sent to them goes to the node's [`Relay`] as bytes,
//! in the task that reads the connection and before anything is built of it; what comes back is queued as bytes, too.
//! The order of each sender holds both ways.

use std::sync::Arc;

use bytes::Bytes;
use metacluster_erl_wire::{frame::Payload, rewrite::Route};
use metacluster_types::NodeName;

use super::{Node, PeerInfo, error::SendError, identifier::Purpose};

/// Takes the messages that are for others. It is called by the tasks of all connections, and must not wait.
pub trait Relay: Send + Sync {
    /// Whether it takes this message of that peer: its route, and its control message and payload in a row, without
    /// version byte. What it does not take is a message for the node itself.
    fn take(&self, peer: &PeerInfo, route: &Route<'_>, body: &Bytes) -> bool;

    /// All that has come over a connection so far was shown: what was put off may be done now, at once for all of it.
    fn pause(&self) {}
}

/// A message that is bytes already: a control message without version byte, and its payload, which must be there exactly
/// when the operation has one.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Those of one lane keep their order.
    pub lane: u64,
    /// The control message.
    pub control: Bytes,
    /// The payload.
    pub payload: Option<Payload>,
    /// It is not refused because of those that wait.
    pub signal: bool,
}

impl Node {
    /// Sets who takes the messages that are for others; false if somebody does already.
    pub fn set_relay(&self, relay: Arc<dyn Relay>) -> bool {
        self.inner.relay.set(relay).is_ok()
    }

    /// The last word of three of the references that the relay makes for those of other nodes: none that the node makes
    /// itself ends in it.
    #[must_use]
    pub fn mark_of_relay(&self) -> u32 {
        self.inner.registry.identifiers().mark(Purpose::Relay)
    }

    /// Sends messages that are bytes already, in this order, and takes them out of `messages`. `refused` is told of each that
    /// was not queued.
    pub fn send_encoded(&self, node: &NodeName, messages: &mut Vec<Encoded>, mut refused: impl FnMut(SendError)) {
        let Some(connection) = self.inner.peers.connection_of(node) else {
            return messages.drain(..).for_each(|_| refused(SendError::NoConnection));
        };
        connection.push_encoded(messages.drain(..), |full| refused(full.into()));
    }
}
