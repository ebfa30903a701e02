//! What those who watch a scope or a group are told.

use metacluster_erl_wire::{Pid, Term};
use tokio::sync::broadcast::{self, error::RecvError};

/// A change of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These processes joined.
    Joined {
        /// The group.
        group: Term,
        /// Who; a process as often as it joined.
        pids: Vec<Pid>,
    },
    /// These processes left, ended, or are on a node that is gone.
    Left {
        /// The group.
        group: Term,
        /// Who.
        pids: Vec<Pid>,
    },
    /// The reader was too slow and missed changes: what it knows is out of date. Ask for the members again.
    Missed {
        /// How many, of all groups.
        changes: u64,
    },
}

/// The changes of a scope or of one group, in order.
#[derive(Debug)]
pub struct Changes {
    receiver: broadcast::Receiver<Change>,
    group: Option<Term>,
}

impl Changes {
    pub(super) fn new(receiver: broadcast::Receiver<Change>, group: Option<Term>) -> Self {
        Self { receiver, group }
    }

    /// Waits for the next change; none when the scope has ended. Safe to cancel.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            match self.receiver.recv().await {
                Ok(change) if self.concerns(&change) => return Some(change),
                Ok(_) => {}
                Err(RecvError::Lagged(changes)) => return Some(Change::Missed { changes }),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn concerns(&self, change: &Change) -> bool {
        match (change, &self.group) {
            (Change::Joined { group, .. } | Change::Left { group, .. }, Some(wanted)) => group == wanted,
            (Change::Joined { .. } | Change::Left { .. }, None) | (Change::Missed { .. }, _) => true,
        }
    }
}
