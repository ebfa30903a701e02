//! The second term of a message, as bytes.

use bytes::{Bytes, BytesMut};

use crate::term::{self, DecodeError, Limits, Term};

/// A term in its external form, without the byte 131. It has not been looked at.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(Bytes);

impl Payload {
    /// Takes a term's bytes, without the byte 131.
    #[must_use]
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes, without 131.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Builds the term.
    ///
    /// # Errors
    /// When the bytes are no term, are more than one, or go beyond the limits.
    pub fn decode(&self, limits: &Limits) -> Result<Term, DecodeError> {
        let (term, taken) = term::decode(&self.0, limits)?;
        match self.0.len() - taken {
            0 => Ok(term),
            trailing => Err(DecodeError::Trailing(trailing)),
        }
    }
}

impl From<&Term> for Payload {
    fn from(term: &Term) -> Self {
        let mut bytes = BytesMut::new();
        term::encode(term, &mut bytes);
        Self(bytes.freeze())
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}
