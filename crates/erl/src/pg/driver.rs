//! The scope process: hears peers, notes who comes and goes, asks and says again what was lost.

use std::{collections::BTreeSet, sync::Arc};

use metacluster_erl_wire::{Atom, Term, term};
use metacluster_types::NodeName;
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        watch,
    },
    time::MissedTickBehavior,
};

use super::{DISCOVER_INTERVAL, Shared, message, message::Heard};
use crate::{
    gen_server,
    node::{
        event::NodeEvent,
        process::{Process, Received},
    },
};

/// Ends the scope with the driver, however that ends.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.lock().ended = true;
    }
}

/// Runs until the last handle of the scope is gone, or the node shuts down.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut process: Process,
    mut events: broadcast::Receiver<NodeEvent>,
    mut gone: watch::Receiver<()>,
) {
    let _end = End(Arc::clone(&shared));
    let mut ticks = tokio::time::interval(DISCOVER_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            received = process.recv() => shared.receive(received),
            event = events.recv() => match event {
                Ok(NodeEvent::Up { peer }) => shared.discover(&peer.name),
                // What was there is told by the monitors.
                Ok(NodeEvent::Down { .. }) => {}
                Err(RecvError::Lagged(_)) => shared.discover_strangers(),
                Err(RecvError::Closed) => return,
            },
            // The first tick is at once.
            _ = ticks.tick() => {
                let mut state = shared.lock();
                state.overlay.repeat();
                shared.carry_out(&mut state);
                drop(state);
                shared.discover_strangers();
            }
            _ = gone.changed() => return,
        }
    }
}

impl Shared {
    fn discover(&self, node: &NodeName) {
        let mut state = self.lock();
        state.overlay.connected(node.as_str());
        // Under the lock: nothing but a sync may follow it.
        if let Err(error) = self.node.send_name_from(&self.own, node, &self.name, message::discover(&self.own)) {
            tracing::debug!(%node, %error, scope = self.name, "the node is asked for its scope later");
        }
    }

    /// Asks every connected node whose scope is not known.
    fn discover_strangers(&self) {
        let known: BTreeSet<Atom> = self.lock().overlay.peers().map(|pid| pid.node.clone()).collect();
        for peer in self.node.peers().iter().filter(|peer| !known.contains(peer.name.as_str())) {
            self.discover(&peer.name);
        }
    }

    fn receive(&self, received: Received) {
        match received {
            Received::Message(message) => self.take(message),
            Received::Down { reference, reason: _ } => {
                let mut state = self.lock();
                if let Some(pid) = state.monitored.remove(&reference) {
                    state.monitors.remove(&pid);
                    state.overlay.ended(&pid);
                    self.carry_out(&mut state);
                    let other = pid.node != self.own.node;
                    drop(state);
                    // A scope that was started anew is asked at once.
                    if let (true, Ok(node)) = (other, NodeName::new(pid.node.as_str())) {
                        self.discover(&node);
                    }
                }
            }
            Received::Lost { messages } => {
                tracing::warn!(scope = self.name, messages, "the scope could not keep up, and asks all nodes anew");
                let mut state = self.lock();
                state.overlay.missed();
                state.overlay.repeat();
                self.carry_out(&mut state);
                drop(state);
                self.discover_strangers();
            }
            // The scope links to nobody and ends with its handles only.
            Received::Exit { .. } => {}
        }
    }

    fn take(&self, message: Term) {
        if let Some(heard) = Heard::parse(&message) {
            // What a node says for another, or after its connection ended, is nobody's.
            if self.connected(heard.peer().node.as_str()) {
                let mut state = self.lock();
                state.overlay.heard(heard);
                self.carry_out(&mut state);
            }
        } else if let Ok(call) = gen_server::Call::parse(message) {
            // Joins and monitors are for processes of this node, which have [`super::Scope`].
            if let Err(error) = gen_server::reply(&self.node, &call.from, term!({error, unknown_request})) {
                tracing::debug!(to = ?call.from.pid, %error, "a call of a scope was not answered");
            }
        }
    }

    fn connected(&self, node: &str) -> bool {
        NodeName::new(node).is_ok_and(|node| self.node.peer(&node).is_some())
    }
}
