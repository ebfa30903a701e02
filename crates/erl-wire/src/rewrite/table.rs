//! What the first five bytes of a token say, for each tag: how far to go, and how many terms more there are.
//!
//! All common tags go through the same few instructions, with no branch on the tag: a mistaken guess of the processor
//! costs more than all of them.

use crate::term::tag;

/// How to read one tag.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    /// How many bytes the token takes, beside those that its length field counts.
    pub(super) base: u8,
    /// The 32 bits behind the tag, shifted right by this, are how many bytes more it takes; 32 when it has none.
    pub(super) byte_shift: u8,
    /// The 32 bits behind the tag, shifted right by this, are how many terms it holds; 32 when it holds none.
    pub(super) term_shift: u8,
    /// 1 when it holds twice as many, as maps do.
    pub(super) doubled: u8,
    /// 1 when it holds one more, as lists do.
    pub(super) more: u8,
    /// How many bytes must be there to know this: the tag and its length field.
    pub(super) header: u8,
    /// Looked at by [`super::token`]: all else here means nothing.
    pub(super) special: bool,
}

/// Shifts 32 bits to nothing.
const NONE: u8 = 32;

const SPECIAL: Entry =
    Entry { base: 0, byte_shift: NONE, term_shift: NONE, doubled: 0, more: 0, header: 1, special: true };

/// A token of a known size.
const fn fixed(base: u8) -> Entry {
    Entry { base, special: false, ..SPECIAL }
}

/// A token of bytes that are counted by a field of `width`.
const fn bytes(base: u8, width: u8) -> Entry {
    Entry { byte_shift: NONE - 8 * width, header: 1 + width, ..fixed(base) }
}

/// A container whose terms are counted by a field of `width`.
const fn terms(width: u8) -> Entry {
    Entry { term_shift: NONE - 8 * width, header: 1 + width, ..fixed(1 + width) }
}

/// By tag. What is not here is an identifier, a closure, or unknown.
pub(super) static TABLE: [Entry; 256] = {
    let mut table = [SPECIAL; 256];
    table[tag::SMALL_INTEGER as usize] = fixed(2);
    table[tag::INTEGER as usize] = fixed(5);
    table[tag::NIL as usize] = fixed(1);
    table[tag::STRING as usize] = bytes(3, 2);
    table[tag::BINARY as usize] = bytes(5, 4);
    // Behind the length field stands the sign.
    table[tag::SMALL_BIG as usize] = bytes(3, 1);
    table[tag::LARGE_BIG as usize] = bytes(6, 4);
    table[tag::SMALL_TUPLE as usize] = terms(1);
    table[tag::LARGE_TUPLE as usize] = terms(4);
    table[tag::LIST as usize] = Entry { more: 1, ..terms(4) };
    table[tag::MAP as usize] = Entry { doubled: 1, ..terms(4) };
    table
};
