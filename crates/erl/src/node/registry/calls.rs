//! Calls that wait for their outcome. Whoever takes a call out of the table gives it its outcome.

use metacluster_erl_wire::{Pid, Reference};
use tokio::sync::oneshot;

use super::{Call, Outcome, Registry};
use crate::node::identifier::Purpose;

impl Registry {
    pub(crate) fn open_call(&self, connection: u64) -> (Reference, oneshot::Receiver<Outcome>) {
        let reference = self.identifiers.reference(Purpose::Call);
        let (done, outcome) = oneshot::channel();
        self.lock().calls.insert(reference.clone(), Call { connection, spawned: None, done });
        (reference, outcome)
    }

    /// Forgets a call.
    pub(crate) fn close_call(&self, reference: &Reference) {
        self.lock().calls.remove(reference);
    }

    /// The peer started the process that a call asked for. False when nobody waits any more.
    pub(crate) fn call_spawned(&self, reference: &Reference, process: &Pid) -> bool {
        let mut tables = self.lock();
        let call = tables.calls.get_mut(reference);
        let waits = call.is_some();
        if let Some(call) = call {
            call.spawned = Some(process.clone());
        }
        waits
    }

    /// The process that was started for a call.
    pub(crate) fn spawned(&self, reference: &Reference) -> Option<Pid> {
        self.lock().calls.get(reference)?.spawned.clone()
    }

    /// Ends a call without an answer. False if there is no such call.
    pub(crate) fn fail_call(&self, reference: &Reference, outcome: Outcome) -> bool {
        let call = self.lock().calls.remove(reference);
        let was = call.is_some();
        if let Some(call) = call {
            drop(call.done.send(outcome));
        }
        was
    }
}
