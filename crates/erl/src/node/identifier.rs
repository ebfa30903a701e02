//! Makes the pids and references of one life of a node. None is made twice.
//!
//! Pids stay within 15 bits of id and 13 of serial, and the first word of a reference within 18 bits, so that every OTP
//! release can hold them.

use std::sync::atomic::{AtomicU64, Ordering};

use metacluster_erl_wire::{Atom, Pid, Reference};

/// What a reference was made for. It is written into the reference, so that an answer that comes too late is known for
/// one without remembering the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A call, whose answer is `{Reference, Answer}`.
    Call = 1,
    /// A monitor.
    Monitor = 2,
    /// Whatever a caller wants one for.
    Other = 3,
    /// One of another node, which a relay keeps.
    Relay = 4,
}

/// See the module.
pub(crate) struct Identifiers {
    node: Atom,
    creation: u32,
    salt: u32,
    pids: AtomicU64,
    references: AtomicU64,
}

impl Identifiers {
    pub(crate) fn new(node: Atom, creation: u32) -> Self {
        Self {
            node,
            creation,
            salt: rand::random::<u32>() & !0xf,
            pids: AtomicU64::new(1),
            references: AtomicU64::new(1),
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        let number = self.pids.fetch_add(1, Ordering::Relaxed);
        self.own_pid((number & 0x7fff) as u32, (number >> 15 & 0x1fff) as u32)
    }

    /// The pid of these numbers, of this life of the node.
    pub(crate) fn own_pid(&self, id: u32, serial: u32) -> Pid {
        Pid { node: self.node.clone(), id, serial, creation: self.creation }
    }

    pub(crate) fn reference(&self, purpose: Purpose) -> Reference {
        let number = self.references.fetch_add(1, Ordering::Relaxed);
        let ids = vec![(number & 0x3_ffff) as u32, (number >> 18) as u32, self.salt | purpose as u32];
        Reference { node: self.node.clone(), creation: self.creation, ids }
    }

    /// The last word of the references of this kind.
    pub(crate) fn mark(&self, purpose: Purpose) -> u32 {
        self.salt | purpose as u32
    }

    /// Whether this node made the reference, in this life, for a call.
    pub(crate) fn is_call(&self, reference: &Reference) -> bool {
        reference.creation == self.creation
            && reference.ids.get(2) == Some(&(self.salt | Purpose::Call as u32))
            && reference.node == self.node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_of_this_life_and_never_twice() {
        let now = Identifiers::new(Atom::from_static("a@b"), 7);
        let before = Identifiers::new(Atom::from_static("a@b"), 6);
        assert_ne!(now.pid(), now.pid());
        assert_ne!(now.pid(), before.pid(), "another life");
        let call = now.reference(Purpose::Call);
        assert_ne!(call, now.reference(Purpose::Call));
        assert!(now.is_call(&call));
        assert!(!now.is_call(&now.reference(Purpose::Monitor)));
        assert!(!before.is_call(&call));
    }
}
