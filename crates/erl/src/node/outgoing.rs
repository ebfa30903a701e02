//! What a process of this node does to others: it sends, monitors, links, and ends.
//!
//! Each goes to a process of this node, over a connection, or is refused; a monitor or a link that cannot be made gives
//! its `Down` or `Exit` at once. A signal that went into the tables before its connection ended is told by the sweep of
//! that connection; one that finds it closed is told here. So each is told once.

use std::sync::atomic::Ordering;

use metacluster_erl_wire::{
    Atom, Pid, Reference, Term,
    control::{Control, Sending},
    handshake::Flags,
};
use metacluster_types::NodeName;

use super::{
    Node, Route,
    error::SendError,
    outbox::Full,
    registry::{LOCAL, Target},
    signals,
};

impl Node {
    /// Waits until a message to this process may find room; at once when there is no connection.
    pub(crate) async fn room(&self, to: &Pid) {
        if let Some(Route::Peer(connection)) = self.inner.route(to.node.as_str()) {
            connection.room().await;
        }
    }

    pub(crate) fn send_from(&self, from: &Pid, to: &Pid, message: Term) -> Result<(), SendError> {
        match self.inner.route(to.node.as_str()).ok_or(SendError::NoConnection)? {
            Route::Local => {
                signals::deliver(&self.inner, to, message);
                Ok(())
            }
            Route::Peer(connection) => {
                if connection.has(Flags::SEND_SENDER) {
                    return Ok(connection.send(&Sending::Pid { from, to }, &message)?);
                }
                let control = Control::Send { to: to.clone(), trace: None };
                Ok(connection.push_of(from, control, Some(&message))?)
            }
        }
    }

    pub(crate) fn send_name_from(
        &self,
        from: &Pid,
        node: &NodeName,
        name: &str,
        message: Term,
    ) -> Result<(), SendError> {
        // A name that is no atom is registered nowhere: the message goes where others to nobody go.
        let Ok(to) = Atom::new(name) else { return Ok(()) };
        match self.inner.route(node.as_str()).ok_or(SendError::NoConnection)? {
            Route::Local => {
                signals::deliver_name(&self.inner, &to, message);
                Ok(())
            }
            Route::Peer(connection) => Ok(connection.send(&Sending::Name { from, to: &to }, &message)?),
        }
    }

    /// Sends to an alias, or to the process that made it when the peer does not know aliases.
    pub(crate) fn send_alias_from(
        &self,
        from: &Pid,
        alias: &Reference,
        owner: &Pid,
        message: Term,
    ) -> Result<(), SendError> {
        match self.inner.route(alias.node.as_str()).ok_or(SendError::NoConnection)? {
            Route::Peer(connection) if connection.has(Flags::ALIAS) => {
                Ok(connection.send(&Sending::Alias { from, to: alias }, &message)?)
            }
            Route::Local | Route::Peer(_) => self.send_from(from, owner, message),
        }
    }

    /// As [`Node::send_alias_from`], from the node itself.
    pub(crate) fn send_alias(&self, alias: &Reference, owner: &Pid, message: Term) -> Result<(), SendError> {
        self.send_alias_from(&self.inner.kernel, alias, owner, message)
    }

    pub(crate) fn exit_from(&self, from: &Pid, to: &Pid, reason: Term) -> Result<(), SendError> {
        match self.inner.route(to.node.as_str()).ok_or(SendError::NoConnection)? {
            Route::Local => {
                self.inner.registry.exit_signal(from, to, reason);
                Ok(())
            }
            Route::Peer(connection) => Ok(connection.push_exit(from.clone(), to.clone(), reason)?),
        }
    }

    pub(crate) fn lead_from(&self, from: &Pid, to: &Pid) -> Result<(), SendError> {
        match self.inner.route(to.node.as_str()).ok_or(SendError::NoConnection)? {
            Route::Local => Ok(()),
            Route::Peer(connection) => {
                let control = Control::GroupLeader { from: from.clone(), to: to.clone() };
                Ok(connection.push(control, None)?)
            }
        }
    }

    pub(crate) fn monitor(&self, process: &Pid, node: &str, target: Target) -> Reference {
        let registry = &self.inner.registry;
        let route = self.inner.route(node);
        let id = route.as_ref().map_or(LOCAL, Route::id);
        let Some(reference) = registry.monitor(process, id, target.clone()) else { return self.reference() };
        match route {
            None => registry.down(&reference, Term::atom("noconnection")),
            Some(Route::Local) => {
                if let Some(signal) = registry.watch(LOCAL, process.clone(), target, reference.clone()) {
                    signals::take_local(&self.inner, signal);
                }
            }
            Some(Route::Peer(connection)) => {
                let control = Control::MonitorP { from: process.clone(), to: target, reference: reference.clone() };
                if !connection.push_control(control, None) {
                    registry.down(&reference, Term::atom("noconnection"));
                }
            }
        }
        reference
    }

    pub(crate) fn demonitor(&self, process: &Pid, reference: &Reference) {
        if let Some((connection, signal)) = self.inner.registry.demonitor(process, reference) {
            self.inner.emit(process, connection, signal);
        }
    }

    pub(crate) fn link(&self, process: &Pid, to: &Pid) {
        if process == to {
            return;
        }
        let registry = &self.inner.registry;
        let route = self.inner.route(to.node.as_str());
        let id = route.as_ref().map_or(LOCAL, Route::id);
        if !registry.link(process, id, to) {
            return;
        }
        match route {
            None => registry.exit_from(to, process, Term::atom("noconnection")),
            Some(Route::Local) => {
                if let Some(signal) = registry.link_from(LOCAL, process.clone(), to) {
                    signals::take_local(&self.inner, signal);
                }
            }
            Some(Route::Peer(connection)) => {
                if !connection.push_control(Control::Link { from: process.clone(), to: to.clone() }, None) {
                    registry.exit_from(to, process, Term::atom("noconnection"));
                }
            }
        }
    }

    pub(crate) fn unlink(&self, process: &Pid, to: &Pid) {
        let registry = &self.inner.registry;
        // The wire has 64 bits for it, and never a zero.
        let id = self.inner.unlinks.fetch_add(1, Ordering::Relaxed);
        let Some(on) = registry.unlink(process, to, id) else { return };
        let (from, to) = (process.clone(), to.clone());
        if on == LOCAL {
            registry.unlink_from(&from, &to);
            registry.unlinked(&from, &to, id);
            return;
        }
        let Some(connection) = self.inner.peers.by_id(on) else { return };
        if connection.has(Flags::UNLINK_ID) {
            connection.push_control(Control::UnlinkId { id, from, to }, None);
        } else {
            registry.unlinked(&from, &to, id);
            connection.push_control(Control::Unlink { from, to }, None);
        }
    }

    pub(crate) fn end_process(&self, process: &Pid, reason: &Term) {
        for (connection, signal) in self.inner.registry.end(process, reason) {
            self.inner.emit(process, connection, signal);
        }
    }
}

impl From<Full> for SendError {
    fn from(full: Full) -> Self {
        match full {
            Full::Busy => Self::Busy,
            Full::Closed => Self::NoConnection,
        }
    }
}
