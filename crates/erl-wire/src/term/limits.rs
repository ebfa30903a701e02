//! What a term from the network may cost.

/// No term that is decoded is deeper than this, whatever [`Limits::depth_max`] says: whoever walks a term recurses, and
/// must fit the 2 MiB stack of a thread.
pub const DEPTH_CEILING: usize = 512;

/// What a term may cost to decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How deep containers may nest; at most [`DEPTH_CEILING`] counts.
    pub depth_max: usize,
    /// How many terms there may be in all, each list cell, character of a string, key and value counted.
    pub elements_max: usize,
    /// How many bytes the term may have, and how many a compressed one may have once inflated.
    pub bytes_max: usize,
}

impl Default for Limits {
    /// 256 deep, about a million elements, 64 MiB: what a node that serves others may be sent.
    fn default() -> Self {
        Self { depth_max: 256, elements_max: 1 << 20, bytes_max: 64 << 20 }
    }
}

impl Limits {
    /// For what has no business being large, such as a datagram or a control message: 64 deep, 4,096 elements, 64 KiB.
    pub const SMALL: Self = Self { depth_max: 64, elements_max: 4096, bytes_max: 64 << 10 };
}
