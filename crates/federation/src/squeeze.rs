//! Compression of frames, on a link whose ends both offer it.
//!
//! What a turn of a lane writes becomes one frame that holds it compressed, where that pays: it is large enough and shrinks.
//! A lane whose bytes do not shrink is left alone for a while, and longer each time. Each such frame stands for itself (RFC
//! 8878): no lane's bytes tell of another's by their length, and none waits for one before. Invariants: what is inflated is
//! at most [`PLAIN_BYTES_MAX`] and at most [`RATIO_MAX`] times what came, and exactly what was announced; nothing is inflated
//! before the announcement is checked.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use zstd::bulk::{Compressor, Decompressor};

use crate::{
    codec::{
        CodecError, Reader,
        frame::{FRAME_BYTES_MAX, HEAD_BYTES, Kind, head},
    },
    lanes::{LANES, Piece},
};

/// What is smaller is written as it is.
const PLAIN_BYTES_MIN: usize = 512;
/// The most that a frame inflates to.
const PLAIN_BYTES_MAX: usize = 128 << 10;
/// The most by which a frame may shrink; one that would shrink more is padded, so that few bytes never make much work.
const RATIO_MAX: usize = 256;
/// The fastest of the usual levels: a link is to be relieved, and not a processor kept busy.
const LEVEL: i32 = 1;
/// A frame that does not get smaller by this part is written as it is.
const GAIN_PART: usize = 8;
/// How many turns a lane is left alone that did not shrink, at first and at most.
const PAUSE_FIRST: u32 = 4;
const PAUSE_MAX: u32 = 256;
/// What stands in the frame before the compressed bytes: their length, and that of what they hold.
const LENGTHS_BYTES: usize = 8;

/// How a lane fares.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// How many turns it is still left alone.
    pause: u32,
    /// How many it is, if the next try fails.
    next: u32,
}

/// What was compressed, before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Squeezed {
    /// Bytes of the frames as they are.
    pub plain_bytes: u64,
    /// Bytes of the frames that hold them.
    pub squeezed_bytes: u64,
}

impl Squeezed {
    /// Counts more.
    pub(crate) fn add(&mut self, more: Self) {
        self.plain_bytes += more.plain_bytes;
        self.squeezed_bytes += more.squeezed_bytes;
    }
}

/// Compresses what goes out of one link. It holds nothing of what it compressed.
pub struct Squeezer {
    /// Made when it is needed first.
    compressor: Option<Compressor<'static>>,
    lanes: [Trial; LANES],
    /// A piece in a row, and what it becomes.
    plain: Vec<u8>,
    room: Vec<u8>,
    done: Squeezed,
}

impl Default for Squeezer {
    fn default() -> Self {
        let trial = Trial { pause: 0, next: PAUSE_FIRST };
        Self { compressor: None, lanes: [trial; LANES], plain: Vec::new(), room: Vec::new(), done: Squeezed::default() }
    }
}

impl fmt::Debug for Squeezer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Squeezer").field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

impl Squeezer {
    /// What was compressed since this was asked last: see [`crate::Federation::squeezed_out`].
    pub fn done(&mut self) -> Squeezed {
        std::mem::take(&mut self.done)
    }

    /// The frame that holds this piece compressed; none where the piece is to be written as it is.
    pub fn squeeze(&mut self, piece: &Piece) -> Option<Bytes> {
        let head_bytes = piece.head.map_or(0, |head| head.len());
        let size = head_bytes + piece.body.len();
        if !(PLAIN_BYTES_MIN..=PLAIN_BYTES_MAX).contains(&size) {
            return None;
        }
        let trial = self.lanes.get_mut(usize::from(piece.lane))?;
        if trial.pause > 0 {
            trial.pause -= 1;
            return None;
        }
        self.plain.clear();
        self.plain.extend_from_slice(piece.head.as_ref().map_or(&[][..], |head| head));
        self.plain.extend_from_slice(&piece.body);
        // What finds no room here has not shrunk by enough.
        let room = (size - size / GAIN_PART).min(FRAME_BYTES_MAX) - LENGTHS_BYTES;
        self.room.clear();
        self.room.reserve_exact(room);
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => none.insert(Compressor::new(LEVEL).ok()?),
        };
        let squeezed = compressor.compress_to_buffer(&self.plain, &mut self.room).ok().filter(|size| *size <= room);
        let Some(squeezed) = squeezed else {
            (trial.pause, trial.next) = (trial.next, (trial.next * 2).min(PAUSE_MAX));
            return None;
        };
        trial.next = PAUSE_FIRST;
        let padding = size.div_ceil(RATIO_MAX).saturating_sub(squeezed);
        let length = LENGTHS_BYTES + squeezed + padding;
        let mut frame = BytesMut::with_capacity(HEAD_BYTES + length);
        frame.put_slice(&head(Kind::Squeezed, piece.lane, length));
        frame.put_u32(size as u32);
        frame.put_u32(squeezed as u32);
        frame.put_slice(&self.room);
        frame.put_bytes(0, padding);
        self.done.add(Squeezed { plain_bytes: size as u64, squeezed_bytes: frame.len() as u64 });
        Some(frame.freeze())
    }
}

/// Inflates what came.
#[derive(Default)]
pub(crate) struct Inflater {
    /// Made when it is needed first.
    decompressor: Option<Decompressor<'static>>,
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

impl Inflater {
    /// What the body of such a frame holds.
    pub(crate) fn inflate(&mut self, body: &[u8]) -> Result<Vec<u8>, CodecError> {
        let mut reader = Reader::new(body);
        let (size, squeezed) = (reader.u32()? as usize, reader.u32()? as usize);
        if size > PLAIN_BYTES_MAX || size > reader.left().saturating_mul(RATIO_MAX) {
            return Err(CodecError::TooLong("compressed frame"));
        }
        let squeezed = reader.take(squeezed)?;
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(Decompressor::new().map_err(|_| CodecError::Invalid("compression"))?),
        };
        let mut plain = Vec::with_capacity(size);
        // It writes no more than there is room for.
        match decompressor.decompress_to_buffer(squeezed, &mut plain) {
            Ok(inflated) if inflated == size && plain.len() == size => Ok(plain),
            Ok(_) | Err(_) => Err(CodecError::Invalid("compressed frame")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(lane: u8, body: impl Into<Bytes>) -> Piece {
        Piece { head: None, body: body.into(), lane }
    }

    fn inflated(frame: &[u8]) -> Result<Vec<u8>, CodecError> {
        Inflater::default().inflate(&frame[HEAD_BYTES..])
    }

    /// Bytes that do not shrink, always the same.
    fn noise(size: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[0]
        };
        std::iter::repeat_with(next).take(size).collect()
    }

    /// The body of a frame that says these lengths.
    fn body(size: usize, squeezed: usize, bytes: &[u8]) -> Vec<u8> {
        let lengths = [(size as u32).to_be_bytes(), (squeezed as u32).to_be_bytes()].concat();
        [&lengths[..], bytes].concat()
    }

    #[test]
    fn what_repeats_shrinks_and_comes_back_with_its_head() {
        let text = b"{order, 4711, <<\"a customer in the north\">>, [{item, 1}]}".repeat(500);
        let part = Piece { head: Some(head(Kind::Part, 3, text.len())), body: text.clone().into(), lane: 3 };
        let mut squeezer = Squeezer::default();
        let frame = squeezer.squeeze(&part).expect("it shrinks");
        assert!(frame.len() * 10 < text.len(), "{} of {}", frame.len(), text.len());
        assert_eq!(frame[..HEAD_BYTES], head(Kind::Squeezed, 3, frame.len() - HEAD_BYTES));
        assert_eq!(inflated(&frame), Ok([&head(Kind::Part, 3, text.len())[..], &text].concat()));
        let plain_bytes = (HEAD_BYTES + text.len()) as u64;
        assert_eq!(squeezer.done(), Squeezed { plain_bytes, squeezed_bytes: frame.len() as u64 });
        assert_eq!(squeezer.done(), Squeezed::default(), "nothing since then");
    }

    #[test]
    fn what_is_small_or_does_not_shrink_goes_as_it_is() {
        let mut squeezer = Squeezer::default();
        assert_eq!(squeezer.squeeze(&piece(1, vec![7; PLAIN_BYTES_MIN - 1])), None);
        assert_eq!(squeezer.squeeze(&piece(1, vec![7; PLAIN_BYTES_MAX + 1])), None);
        assert_eq!(squeezer.squeeze(&piece(1, noise(40_000))), None);
        assert!(squeezer.squeeze(&piece(1, vec![7; PLAIN_BYTES_MIN])).is_none(), "the lane is left alone");
        assert!(squeezer.squeeze(&piece(2, vec![7; PLAIN_BYTES_MIN])).is_some(), "and no other");
    }

    #[test]
    fn a_lane_that_does_not_shrink_is_tried_ever_more_rarely_until_it_does() {
        let (mut squeezer, noise) = (Squeezer::default(), noise(4_000));
        let mut tries = 0;
        for _ in 0..2_000 {
            tries += u32::from(squeezer.lanes[1].pause == 0);
            assert_eq!(squeezer.squeeze(&piece(1, noise.clone())), None);
        }
        assert!((6..=16).contains(&tries), "{tries} tries");
        assert!(squeezer.lanes[1].pause <= PAUSE_MAX);
        let turns = (0..=PAUSE_MAX).take_while(|_| squeezer.squeeze(&piece(1, vec![7; 4_000])).is_none()).count();
        assert!(turns <= PAUSE_MAX as usize, "it is tried again");
        assert!(squeezer.squeeze(&piece(1, vec![7; 4_000])).is_some(), "and at once after that");
    }

    #[test]
    fn nothing_shrinks_by_more_than_the_bound() {
        let zeros = vec![0; PLAIN_BYTES_MAX];
        let frame = Squeezer::default().squeeze(&piece(1, zeros.clone())).expect("it shrinks");
        assert!(frame.len() - HEAD_BYTES - LENGTHS_BYTES >= PLAIN_BYTES_MAX / RATIO_MAX, "{}", frame.len());
        assert_eq!(inflated(&frame), Ok(zeros));
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_inflated_and_while_it_is() {
        let mut inflater = Inflater::default();
        let too_long = Err(CodecError::TooLong("compressed frame"));
        assert_eq!(inflater.inflate(&body(PLAIN_BYTES_MAX + 1, 600, &[0; 600])), too_long);
        assert_eq!(inflater.inflate(&body(u32::MAX as usize, 10, &[0; 10])), too_long);
        assert_eq!(inflater.inflate(&body(2_561, 10, &[0; 10])), too_long, "from too few bytes");
        assert!(inflater.decompressor.is_none(), "nothing was inflated so far");
        // Megabytes that say to be few.
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], LEVEL).expect("it can");
        let invalid = Err(CodecError::Invalid("compressed frame"));
        assert_eq!(inflater.inflate(&body(100_000, bomb.len(), &bomb)), invalid);
        let hello = zstd::bulk::compress(b"hello", LEVEL).expect("it can");
        assert_eq!(inflater.inflate(&body(6, hello.len(), &hello)), invalid, "fewer than it says");
        assert_eq!(inflater.inflate(&body(4, hello.len(), &hello)), invalid, "more than it says");
        assert_eq!(inflater.inflate(&body(5, hello.len() - 1, &hello)), invalid);
        assert_eq!(inflater.inflate(&body(5, hello.len() + 1, &hello)), Err(CodecError::Truncated));
        assert_eq!(inflater.inflate(&body(5, 10, b"")), too_long);
        assert_eq!(inflater.inflate(b"\0\0\0"), Err(CodecError::Truncated));
        assert_eq!(inflater.inflate(&body(5, hello.len(), &hello)), Ok(b"hello".to_vec()), "it works after all that");
    }

    proptest! {
        #[test]
        fn any_bytes_survive(bytes in prop::collection::vec(0_u8..4, PLAIN_BYTES_MIN..9_000)) {
            if let Some(frame) = Squeezer::default().squeeze(&piece(1, bytes.clone())) {
                prop_assert!(frame.len() < bytes.len());
                prop_assert_eq!(inflated(&frame), Ok(bytes));
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 0_usize..200_000, cut in 0_usize..300) {
            let mut inflater = Inflater::default();
            drop(inflater.inflate(&bytes));
            if let Ok(plain) = inflater.inflate(&body(size, bytes.len(), &bytes)) {
                prop_assert_eq!(plain.len(), size);
            }
            // A true one that is changed somewhere.
            let frame = Squeezer::default().squeeze(&piece(1, vec![5; 2_000])).expect("it shrinks");
            let mut changed = frame[HEAD_BYTES..].to_vec();
            let at = cut % changed.len();
            changed[at] ^= 1 << (cut % 8);
            if let Ok(plain) = inflater.inflate(&changed) {
                prop_assert!(plain.len() <= PLAIN_BYTES_MAX);
            }
        }
    }
}
