//! Functions: closures, which only their own node can call, and `fun M:F/A`, which any node can.

use super::{Atom, Pid, Term};

/// A closure, as `NEW_FUN_EXT` has it. Opaque to all but a node that has the same version of its module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fun {
    /// How many arguments it takes.
    pub arity: u8,
    /// The MD5 of the significant parts of the module.
    pub unique: [u8; 16],
    /// Its place in the module's table of functions.
    pub index: u32,
    /// The module that it is written in.
    pub module: Atom,
    /// Its place as older releases counted.
    pub old_index: i64,
    /// The module's hash as older releases computed it.
    pub old_unique: i64,
    /// The process that made it.
    pub creator: Pid,
    /// The variables that it closes over.
    pub free: Vec<Term>,
}

/// `fun Module:Function/Arity`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExportFun {
    /// The module.
    pub module: Atom,
    /// The function.
    pub function: Atom,
    /// How many arguments it takes.
    pub arity: u8,
}
