//! Pids, ports and references: the identifiers that carry the name of the node that made them.

use super::Atom;

/// A process identifier.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid {
    /// The node that the process runs on.
    pub node: Atom,
    /// The lower part of the process number.
    pub id: u32,
    /// The upper part of the process number.
    pub serial: u32,
    /// Which life of the node: a node that restarts under its name has another creation.
    pub creation: u32,
}

/// A port identifier.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port {
    /// The node that the port is open on.
    pub node: Atom,
    /// The port's number.
    pub id: u64,
    /// Which life of the node.
    pub creation: u32,
}

/// A reference.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// The node that made it.
    pub node: Atom,
    /// Which life of the node.
    pub creation: u32,
    /// One to five words, in the order of the wire.
    pub ids: Vec<u32>,
}

impl Reference {
    /// The most words that a reference may have.
    pub const IDS_MAX: usize = 5;
}
