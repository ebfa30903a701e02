//! The inner loop: over all that is no identifier.

use super::table::TABLE;

/// Where a scan is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    /// Of the next token; behind the input when the last one goes on there.
    pub(super) at: usize,
    /// How many terms are still to come.
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
    /// At a token that is not in the table.
    Special,
}

/// Goes on until something needs a closer look.
#[inline]
pub(super) fn scan(input: &[u8], cursor: &mut Cursor, floor: u64) -> Stop {
    let Cursor { mut at, mut awaited } = *cursor;
    let stop = loop {
        if awaited <= floor {
            break Stop::Done;
        }
        let Some(rest) = input.get(at..) else { break Stop::End };
        let mut padded = [0; 5];
        let window = match rest.first_chunk::<5>() {
            Some(window) => window,
            None if rest.is_empty() => break Stop::End,
            None => {
                padded[..rest.len()].copy_from_slice(rest);
                &padded
            }
        };
        let [tag, word @ ..] = *window;
        let entry = TABLE[usize::from(tag)];
        if entry.special {
            break Stop::Special;
        }
        if rest.len() < 5 && rest.len() < usize::from(entry.header) {
            break Stop::Cut;
        }
        let word = u64::from(u32::from_be_bytes(word));
        at = at.saturating_add(usize::from(entry.base) + (word >> entry.byte_shift) as usize);
        let terms = ((word >> entry.term_shift) << entry.doubled) + u64::from(entry.more);
        // Each adds less than 2^33, and takes five bytes: more than any message has before this could overflow.
        awaited = (awaited - 1).saturating_add(terms);
    };
    *cursor = Cursor { at, awaited };
    stop
}
