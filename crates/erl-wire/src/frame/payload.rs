//! The second term of a message, as bytes.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    sink::{Chain, SHARED_BYTES_MIN, Sink},
    term::{self, DecodeError, Limits, Term},
};

/// A term in its external form, without the byte 131. It has not been looked at. Cheap to clone; the large binaries of a
/// term that it was made from are shared with it.
#[derive(Clone)]
pub struct Payload(Pieces);

#[derive(Clone)]
enum Pieces {
    One(Bytes),
    Many(Arc<[Bytes]>),
}

impl Payload {
    /// Takes a term's bytes, without the byte 131.
    #[must_use]
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self(Pieces::One(bytes))
    }

    /// As [`Payload::from_bytes`], of bytes in several pieces.
    #[must_use]
    pub fn from_pieces(pieces: Vec<Bytes>) -> Self {
        Self(Pieces::Many(pieces.into()))
    }

    /// The bytes in their pieces, without 131.
    #[must_use]
    pub fn pieces(&self) -> &[Bytes] {
        match &self.0 {
            Pieces::One(bytes) => std::slice::from_ref(bytes),
            Pieces::Many(pieces) => pieces,
        }
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces().iter().map(Bytes::len).sum()
    }

    /// Whether there are none, which no term has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in one piece, without 131. What came over a connection is in one piece; else they are copied.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        match &self.0 {
            Pieces::One(bytes) => bytes.clone(),
            Pieces::Many(pieces) => pieces.concat().into(),
        }
    }

    /// Builds the term.
    ///
    /// # Errors
    /// When the bytes are no term, are more than one, or go beyond the limits.
    pub fn decode(&self, limits: &Limits) -> Result<Term, DecodeError> {
        let bytes = self.bytes();
        let (term, taken) = term::decode_shared(&bytes, limits)?;
        match bytes.len() - taken {
            0 => Ok(term),
            trailing => Err(DecodeError::Trailing(trailing)),
        }
    }
}

/// How long most terms are.
const TERM_BYTES: usize = 128;
/// The tag and the length of a binary.
const BINARY_HEAD_BYTES: usize = 5;

impl From<&Term> for Payload {
    fn from(term: &Term) -> Self {
        // A binary on its own is copied to where it just fits.
        let room = match term.as_binary() {
            Some(bytes) if bytes.len() < SHARED_BYTES_MIN => BINARY_HEAD_BYTES + bytes.len(),
            Some(_) | None => TERM_BYTES,
        };
        let mut chain = Chain::with_capacity(room);
        term::encode(term, &mut chain);
        match chain.into_one() {
            Ok(only) => Self(Pieces::One(only)),
            Err(chain) => Self(Pieces::Many(chain.into_pieces().into_iter().collect())),
        }
    }
}

/// Equal bytes are equal, in whatever pieces.
impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.pieces().iter().flatten().eq(other.pieces().iter().flatten())
    }
}

impl Eq for Payload {}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

/// What is left of a payload that is written piece by piece.
#[derive(Clone, Debug, Default)]
pub(super) struct Rest {
    payload: Option<Payload>,
    /// The piece that is next, and how much of it is written.
    next: usize,
    written: usize,
    left: usize,
}

impl Rest {
    pub(super) fn new(payload: Option<Payload>) -> Self {
        let left = payload.as_ref().map_or(0, Payload::len);
        Self { payload, next: 0, written: 0, left }
    }

    /// How many bytes are left.
    pub(super) fn len(&self) -> usize {
        self.left
    }

    /// Writes so many of them, or all.
    pub(super) fn write(&mut self, count: usize, out: &mut impl Sink) {
        let mut count = count.min(self.left);
        self.left -= count;
        let pieces = self.payload.as_ref().map_or(&[][..], Payload::pieces);
        while let Some(piece) = pieces.get(self.next).filter(|_| count > 0) {
            let end = piece.len().min(self.written + count);
            out.put_shared(&piece.slice(self.written..end));
            count -= end - self.written;
            self.written = end;
            if end == piece.len() {
                (self.next, self.written) = (self.next + 1, 0);
            }
        }
    }
}
