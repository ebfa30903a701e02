//! Monitors, those of our processes and those that peers hold on them.
//!
//! A monitor gives one `Down`, from whoever takes it out of the table: the peer, the end of its connection, or nobody
//! when it was taken back.

use metacluster_erl_wire::{Pid, Reference, Term};

use super::{Monitor, Outcome, Registry, Signal, Tables, Target, Watcher};
use crate::node::{identifier::Purpose, process::Received};

impl Registry {
    /// A process of ours watches somebody. None when it has ended.
    pub(crate) fn monitor(&self, process: &Pid, connection: u64, target: Target) -> Option<Reference> {
        let reference = self.identifiers.reference(Purpose::Monitor);
        let mut tables = self.lock();
        tables.processes.get_mut(process)?.monitors.insert(reference.clone());
        tables.monitors.insert(reference.clone(), Monitor { process: process.clone(), connection, target });
        Some(reference)
    }

    /// Takes a monitor of ours back; the signal to send, if it was still on.
    pub(crate) fn demonitor(&self, process: &Pid, reference: &Reference) -> Option<(u64, Signal)> {
        let mut tables = self.lock();
        let entry = tables.processes.get_mut(process)?;
        if !entry.monitors.remove(reference) {
            return None;
        }
        let Monitor { connection, target, .. } = tables.monitors.remove(reference)?;
        Some((connection, Signal::Demonitor { from: process.clone(), target, reference: reference.clone() }))
    }

    /// What a call or a monitor of ours watched ended.
    pub(crate) fn down(&self, reference: &Reference, reason: Term) {
        if self.identifiers.is_call(reference) {
            self.fail_call(reference, Outcome::Down(reason));
            return;
        }
        let mut tables = self.lock();
        let Some(Monitor { process, .. }) = tables.monitors.remove(reference) else { return };
        if let Some(entry) = tables.processes.get_mut(&process) {
            entry.monitors.remove(reference);
            entry.mailbox.push_signal(Received::Down { reference: reference.clone(), reason });
        }
    }

    /// Somebody watches a process of ours; the signal to answer with, if it cannot be watched.
    pub(crate) fn watch(&self, connection: u64, by: Pid, target: Target, reference: Reference) -> Option<Signal> {
        let mut tables = self.lock();
        let Tables { processes, names, watched, .. } = &mut *tables;
        let pid = match &target {
            Target::Pid(pid) => Some(pid.clone()),
            Target::Name(name) => names.get(name).cloned(),
        };
        let entry = pid.as_ref().and_then(|pid| processes.get_mut(pid));
        let (Some(entry), Some(pid)) = (entry, pid) else {
            return Some(Signal::Down { from: target, to: by, reference, reason: Term::atom("noproc") });
        };
        if entry.held() >= self.watchers_max {
            return Some(Signal::Down { from: target, to: by, reference, reason: Term::atom("system_limit") });
        }
        watched.insert((connection, reference.clone()), pid);
        entry.watchers.insert((connection, reference), Watcher { by, target });
        None
    }

    /// Somebody no longer watches.
    pub(crate) fn unwatch(&self, connection: u64, reference: Reference) {
        let mut tables = self.lock();
        let key = (connection, reference);
        if let Some(pid) = tables.watched.remove(&key)
            && let Some(entry) = tables.processes.get_mut(&pid)
        {
            entry.watchers.remove(&key);
        }
    }
}
