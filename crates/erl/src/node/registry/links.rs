//! Links. One that is being taken back is off, and stays in the table until the peer has acknowledged it.
//!
//! Follows the section "Link Protocol" of the guide.

use metacluster_erl_wire::{Pid, Term};

use super::{Link, Registry, Signal};
use crate::node::process::Received;

impl Registry {
    /// A process of ours links to somebody; false when it is linked already, or has ended.
    pub(crate) fn link(&self, process: &Pid, connection: u64, to: &Pid) -> bool {
        let mut tables = self.lock();
        let Some(entry) = tables.processes.get_mut(process) else { return false };
        match entry.links.insert(to.clone(), Link { connection, unlinking: None }) {
            Some(before) => before.unlinking.is_some(),
            None => true,
        }
    }

    /// A process of ours takes a link back; the connection to say so on. The link stays, switched off, until the peer
    /// acknowledges: an `EXIT` that is under way must not come through.
    pub(crate) fn unlink(&self, process: &Pid, to: &Pid, id: u64) -> Option<u64> {
        let mut tables = self.lock();
        let link = tables.processes.get_mut(process)?.links.get_mut(to)?;
        if link.unlinking.is_some() {
            return None;
        }
        link.unlinking = Some(id);
        Some(link.connection)
    }

    /// The peer has acknowledged an unlink.
    pub(crate) fn unlinked(&self, process: &Pid, to: &Pid, id: u64) {
        let mut tables = self.lock();
        let Some(entry) = tables.processes.get_mut(process) else { return };
        if entry.links.get(to).is_some_and(|link| link.unlinking == Some(id)) {
            entry.links.remove(to);
        }
    }

    /// Somebody links to a process of ours; the signal to answer with, if that cannot be.
    pub(crate) fn link_from(&self, connection: u64, from: Pid, to: &Pid) -> Option<Signal> {
        let mut tables = self.lock();
        let Some(entry) = tables.processes.get_mut(to) else {
            return Some(Signal::Exit { from: to.clone(), to: from, reason: Term::atom("noproc") });
        };
        if entry.held() >= self.watchers_max {
            return Some(Signal::Exit { from: to.clone(), to: from, reason: Term::atom("system_limit") });
        }
        // A link that is being taken back stays so: the peer will see our unlink after its own link.
        entry.links.entry(from).or_insert(Link { connection, unlinking: None });
        None
    }

    /// Somebody takes a link back.
    pub(crate) fn unlink_from(&self, from: &Pid, to: &Pid) {
        let mut tables = self.lock();
        let Some(entry) = tables.processes.get_mut(to) else { return };
        if entry.links.get(from).is_some_and(|link| link.unlinking.is_none()) {
            entry.links.remove(from);
        }
    }

    /// A linked process ended. Without a link, nothing happens.
    pub(crate) fn exit_from(&self, from: &Pid, to: &Pid, reason: Term) {
        let mut tables = self.lock();
        let Some(entry) = tables.processes.get_mut(to) else { return };
        if entry.links.get(from).is_some_and(|link| link.unlinking.is_none()) {
            entry.links.remove(from);
            entry.mailbox.push_signal(Received::Exit { from: from.clone(), reason });
        }
    }

    /// Somebody sent an exit signal, link or not. A peer may send any number of these, so they count as messages.
    pub(crate) fn exit_signal(&self, from: &Pid, to: &Pid, reason: Term) {
        if let Some(entry) = self.lock().processes.get(to) {
            entry.mailbox.push(Received::Exit { from: from.clone(), reason });
        }
    }
}
