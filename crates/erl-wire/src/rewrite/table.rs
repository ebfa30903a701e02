//! What the first five bytes of a token say, for each tag: how far to go, and how many terms more there are.
//!
//! All of these tags go through the same few instructions, with no branch on the tag. An entry is one number, so that one
//! load gives all of it: where the next token stands waits for nothing else.

use crate::term::tag;

/// How to read one tag. From the lowest byte: the byte shift, the term shift, the base, the doubling, the extra term, the
/// header.
#[derive(Clone, Copy)]
pub(super) struct Entry(u64);

/// Shifts 32 bits to nothing.
const NONE: u8 = 32;

impl Entry {
    /// Looked at by [`super::token`], since this table cannot tell.
    const SPECIAL: Self = Self::new(NONE, NONE, 0, 0, 0, 1);

    const fn new(byte_shift: u8, term_shift: u8, base: u8, doubling: u8, more: u8, header: u8) -> Self {
        Self(u64::from_le_bytes([byte_shift, term_shift, base, doubling, more, header, 0, 0]))
    }

    /// A token of a known size.
    const fn fixed(base: u8) -> Self {
        Self::new(NONE, NONE, base, 0, 0, 1)
    }

    /// A token of bytes that are counted by a field of `width`.
    const fn bytes(base: u8, width: u8) -> Self {
        Self::new(NONE - 8 * width, NONE, base, 0, 0, 1 + width)
    }

    /// A container whose terms are counted by a field of `width`; a list has one more, a map twice as many.
    const fn terms(width: u8, doubling: u8, more: u8) -> Self {
        Self::new(NONE, NONE - 8 * width, 1 + width, doubling, more, 1 + width)
    }

    #[inline(always)]
    pub(super) fn of(tag: u8) -> Self {
        TABLE[usize::from(tag)]
    }

    #[inline(always)]
    pub(super) fn is_special(self) -> bool {
        self.0 & 0xff_0000 == 0
    }

    /// How many bytes must be there to tell the rest: the tag and its length field.
    #[inline(always)]
    pub(super) fn header(self) -> usize {
        (self.0 >> 40) as usize
    }

    /// How many bytes the token takes, by the 32 bits behind its tag.
    #[inline(always)]
    pub(super) fn size(self, word: u32) -> u64 {
        // The processor looks at no more than the lowest six bits of a shift, and so does this.
        (self.0 >> 16 & 0xff) + (u64::from(word) >> (self.0 & 63))
    }

    /// How many terms it holds, by the 32 bits behind its tag.
    #[inline(always)]
    pub(super) fn held(self, word: u32) -> u64 {
        (u64::from(word) >> (self.0 >> 8 & 63) << (self.0 >> 24 & 63)) + (self.0 >> 32 & 0xff)
    }
}

/// By tag. What is not here is an atom, an identifier, a closure, rare, or unknown.
static TABLE: [Entry; 256] = {
    let mut table = [Entry::SPECIAL; 256];
    table[tag::SMALL_INTEGER as usize] = Entry::fixed(2);
    table[tag::INTEGER as usize] = Entry::fixed(5);
    table[tag::NIL as usize] = Entry::fixed(1);
    table[tag::STRING as usize] = Entry::bytes(3, 2);
    table[tag::BINARY as usize] = Entry::bytes(5, 4);
    // Behind the length field stands the sign.
    table[tag::SMALL_BIG as usize] = Entry::bytes(3, 1);
    table[tag::LARGE_BIG as usize] = Entry::bytes(6, 4);
    table[tag::SMALL_TUPLE as usize] = Entry::terms(1, 0, 0);
    table[tag::LARGE_TUPLE as usize] = Entry::terms(4, 0, 0);
    table[tag::LIST as usize] = Entry::terms(4, 0, 1);
    table[tag::MAP as usize] = Entry::terms(4, 1, 0);
    table
};
