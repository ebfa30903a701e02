//! The inner loop: over all that is no identifier.
//!
//! Integers, atoms and binaries have a branch each. Terms repeat their shape, so that the processor mostly guesses them
//! right, and then the next token waits for no load from the table: more than twice the speed for integers, half as much
//! again for documents. What is left goes through the table.

use super::{table::Entry, token::is_ascii};
use crate::term::tag;

/// Where a scan is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    /// Of the next token; behind the input when the last one goes on there.
    pub(super) at: u64,
    /// How many terms are still to come. What takes five bytes adds at most 2^33 to it, and messages are bounded far below
    /// the bytes that would let it overflow.
    pub(super) awaited: u64,
}

/// Why a scan stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// No more terms than `floor` are to come.
    Done,
    /// The input ends, between two tokens or in the bytes that one has counted.
    End,
    /// The input ends in the first bytes of a token.
    Cut,
    /// At a token that needs a closer look.
    Special,
}

/// Goes on until something needs a closer look.
#[inline(always)]
pub(super) fn scan(input: &[u8], cursor: &mut Cursor, floor: u64) -> Stop {
    let Cursor { mut at, mut awaited } = *cursor;
    let stop = loop {
        if awaited <= floor {
            break Stop::Done;
        }
        let Some(rest) = usize::try_from(at).ok().and_then(|at| input.get(at..)) else { break Stop::End };
        let Some(&[tag, a, b, c, d]) = rest.first_chunk() else {
            match last_bytes(rest) {
                Ok((size, held)) => {
                    at += size;
                    awaited = awaited - 1 + held;
                    continue;
                }
                Err(stop) => break stop,
            }
        };
        if tag == tag::SMALL_ATOM_UTF8 {
            match rest.get(2..2 + usize::from(a)) {
                Some([]) => {}
                Some([_]) if b < 0x80 => {}
                Some([_, _]) if b | c < 0x80 => {}
                Some([_, _, _]) if b | c | d < 0x80 => {}
                Some(text @ [_, _, _, _, ..]) if is_ascii(text) => {}
                Some(_) | None => break Stop::Special,
            }
            at += 2 + u64::from(a);
            awaited -= 1;
            continue;
        }
        if tag == tag::BINARY {
            at += 5 + u64::from(u32::from_be_bytes([a, b, c, d]));
            awaited -= 1;
            continue;
        }
        if tag == tag::INTEGER {
            at += 5;
            awaited -= 1;
            continue;
        }
        if tag == tag::SMALL_INTEGER {
            at += 2;
            awaited -= 1;
            continue;
        }
        let entry = Entry::of(tag);
        if entry.is_special() {
            break Stop::Special;
        }
        let word = u32::from_be_bytes([a, b, c, d]);
        at += entry.size(word);
        awaited = awaited - 1 + entry.held(word);
    };
    *cursor = Cursor { at, awaited };
    stop
}

/// A token that begins in the last four bytes of the input: its size and how many terms it holds.
#[inline(never)]
fn last_bytes(rest: &[u8]) -> Result<(u64, u64), Stop> {
    let Some(tag) = rest.first() else { return Err(Stop::End) };
    let entry = Entry::of(*tag);
    if entry.is_special() {
        return Err(Stop::Special);
    }
    if rest.len() < entry.header() {
        return Err(Stop::Cut);
    }
    let mut padded = [0; 4];
    for (byte, given) in padded.iter_mut().zip(&rest[1..]) {
        *byte = *given;
    }
    let word = u32::from_be_bytes(padded);
    Ok((entry.size(word), entry.held(word)))
}
