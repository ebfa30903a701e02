//! A process of this node: a pid, names, a bounded mailbox.
//!
//! Dropping a [`Process`] ends it: its names are free at once, those who are linked to it get an `EXIT`, those who
//! monitor it a `DOWN`, both with reason `normal`; [`Process::exit`] gives another reason.

use std::{sync::Arc, time::Duration};

use metacluster_erl_wire::{Atom, Pid, Reference, Term};
use metacluster_types::NodeName;

use super::{
    Node,
    error::{CallError, RegisterError, SendError},
    mailbox::Mailbox,
    registry::Target,
};
use crate::gen_server;

/// What a process finds in its mailbox.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// A message.
    Message(Term),
    /// What was monitored ended, never was (`noproc`), or cannot be heard any more (`noconnection`).
    Down {
        /// What [`Process::monitor`] returned.
        reference: Reference,
        /// Why.
        reason: Term,
    },
    /// A linked process ended, the link was cut (`noconnection`), or somebody sent an exit signal.
    Exit {
        /// Who.
        from: Pid,
        /// Why.
        reason: Term,
    },
    /// Here messages are missing: the mailbox was full. A process that counts on messages must ask anew.
    Lost {
        /// How many.
        messages: u64,
    },
}

/// A process of this node. Made by [`Node::spawn`].
pub struct Process {
    node: Node,
    pid: Pid,
    mailbox: Arc<Mailbox>,
}

impl Process {
    pub(crate) fn new(node: Node, pid: Pid, mailbox: Arc<Mailbox>) -> Self {
        Self { node, pid, mailbox }
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> &Pid {
        &self.pid
    }

    /// The node that it is of.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Gives it a name, so that `{Name, Node} ! Message` reaches it.
    ///
    /// # Errors
    /// When the name is taken or none; then nothing changes.
    pub fn register(&self, name: &str) -> Result<(), RegisterError> {
        let atom = Atom::new(name).map_err(|_| RegisterError::BadName(name.to_owned()))?;
        self.node.registry().register(&self.pid, &atom)
    }

    /// Takes the name away; false if it was not this process's.
    pub fn unregister(&self, name: &str) -> bool {
        Atom::new(name).is_ok_and(|atom| self.node.registry().unregister(&self.pid, &atom))
    }

    /// Waits for the next entry of the mailbox. Safe to cancel.
    pub async fn recv(&mut self) -> Received {
        self.mailbox.recv().await
    }

    /// The next entry, if there is one.
    pub fn try_recv(&mut self) -> Option<Received> {
        self.mailbox.pop()
    }

    /// Sends to a process, of this node or of a connected one. To a pid that no longer is, nothing is sent, as in
    /// Erlang.
    ///
    /// # Errors
    /// When the message was not queued.
    pub fn send(&self, to: &Pid, message: Term) -> Result<(), SendError> {
        self.node.send_from(&self.pid, to, message)
    }

    /// Sends to a registered name of a node.
    ///
    /// # Errors
    /// When the message was not queued.
    pub fn send_name(&self, node: &NodeName, name: &str, message: Term) -> Result<(), SendError> {
        self.node.send_name_from(&self.pid, node, name, message)
    }

    /// [`Process::send`] that waits for room in the queue to the other node: for who sends much, and must not lose any.
    ///
    /// # Errors
    /// When there is no connection, or it ended meanwhile.
    pub async fn send_when_room(&self, to: &Pid, message: Term) -> Result<(), SendError> {
        // Who sends without end lets the connection write now and then, before its queue is larger than the processor's
        // caches.
        tokio::task::coop::consume_budget().await;
        loop {
            match self.send(to, message.clone()) {
                Err(SendError::Busy) => self.node.room(to).await,
                done => return done,
            }
        }
    }

    /// `gen_server:cast({Server, Node}, Request)`.
    ///
    /// # Errors
    /// When the request was not queued. A server that does not exist is no error, as in Erlang.
    pub fn cast(&self, node: &NodeName, server: &str, request: Term) -> Result<(), SendError> {
        self.send_name(node, server, gen_server::cast(request))
    }

    /// `gen_server:cast(Pid, Request)`.
    ///
    /// # Errors
    /// When the request was not queued.
    pub fn cast_pid(&self, server: &Pid, request: Term) -> Result<(), SendError> {
        self.send(server, gen_server::cast(request))
    }

    /// Monitors a process. Exactly one [`Received::Down`] follows, at once if there is no connection to its node.
    pub fn monitor(&self, pid: &Pid) -> Reference {
        self.node.monitor(&self.pid, pid.node.as_str(), Target::Pid(pid.clone()))
    }

    /// Monitors a registered name of a node. The `Down` comes as for a pid.
    ///
    /// # Errors
    /// When no atom can be made of the name.
    pub fn monitor_name(&self, node: &NodeName, name: &str) -> Result<Reference, RegisterError> {
        let atom = Atom::new(name).map_err(|_| RegisterError::BadName(name.to_owned()))?;
        Ok(self.node.monitor(&self.pid, node.as_str(), Target::Name(atom)))
    }

    /// Ends a monitor. A `Down` that is in the mailbox already stays there.
    pub fn demonitor(&self, reference: &Reference) {
        self.node.demonitor(&self.pid, reference);
    }

    /// Links to a process. When that ends, is no process, or is cut off, a [`Received::Exit`] comes.
    pub fn link(&self, pid: &Pid) {
        self.node.link(&self.pid, pid);
    }

    /// Takes a link back. No `Exit` of it comes after this.
    pub fn unlink(&self, pid: &Pid) {
        self.node.unlink(&self.pid, pid);
    }

    /// Sends an exit signal, as `exit(Pid, Reason)`.
    ///
    /// # Errors
    /// When the signal was not queued.
    pub fn exit_other(&self, pid: &Pid, reason: Term) -> Result<(), SendError> {
        self.node.exit_from(&self.pid, pid, reason)
    }

    /// Becomes the group leader of a process of another node, as `group_leader(self(), Pid)`: what it reads and prints, and
    /// what those do that it starts from then on, comes here as the requests of Erlang's I/O protocol. Processes of this
    /// node have none.
    ///
    /// # Errors
    /// When the signal was not queued.
    pub fn lead(&self, pid: &Pid) -> Result<(), SendError> {
        self.node.lead_from(&self.pid, pid)
    }

    /// [`Node::call`] with this process as the caller, so that what the server does to its caller (a subscription, a
    /// link, later messages) comes to this mailbox. The answer itself does not.
    ///
    /// # Errors
    /// As [`Node::call`].
    pub async fn call(
        &self,
        node: &NodeName,
        server: &str,
        request: Term,
        timeout: Duration,
    ) -> Result<Term, CallError> {
        self.node.call_from(&self.pid, node, server, request, timeout).await
    }

    /// [`Node::call_pid`] with this process as the caller.
    ///
    /// # Errors
    /// As [`Node::call`].
    pub async fn call_pid(&self, server: &Pid, request: Term, timeout: Duration) -> Result<Term, CallError> {
        let target = Target::Pid(server.clone());
        self.node.call_target(&self.pid, server.node.as_str(), target, request, timeout).await
    }

    /// Ends the process with this reason.
    pub fn exit(self, reason: Term) {
        self.node.end_process(&self.pid, &reason);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.node.end_process(&self.pid, &Term::atom("normal"));
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("pid", &self.pid).finish_non_exhaustive()
    }
}
