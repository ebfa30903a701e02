//! Bytes of a link, version 1. Integers are big-endian; every length is checked before anything is stored.
//!
//! ```text
//! frame   = kind:u8 lane:u8 length:u32 body
//! 1 hello     magic:"mcfd" lowest:u8 highest:u8 features:u32 cluster:text8 gateway:u128 epoch:u64 node:text16
//!             zone:text8 region:text8, either may be empty
//! 2 ping      nonce:u64            3 pong   nonce:u64
//! 4 signal    a control message and its payload, as terms without version byte, identifiers in home form
//! 5 part      of a signal that is larger than a frame, in the lane's order      6 last part
//! 7 digest    64 × u64: the sender asks for the receiver's groups, of which it has these
//! 8 differing mask:u64: the groups of these parts follow, all of them
//! 9 group     one group of those, or a part of it      10 in step   all have come, changes follow
//! 11 join     12 leave
//! 13 bye      reason:text16 cluster:text8 gateway:u128, of who says it
//! 14 role     may_ask:u8           15 resting: the sender asks no more
//! 16 squeezed size:u32 length:u32 length × u8 padding: a zstd frame that holds so many bytes of whole frames, none of them
//!             squeezed, where both hellos have the feature 1
//! 17 let go   the sender asks no more, as it would rather ask another gateway; where both hellos have the feature 2
//! 9, 11, 12 = scope:text8 group:bytes16 names:u16 (text16)* members:u32 (name:u16 creation:u32 id:u32 serial:u32)*
//! text8 = length:u8 utf-8     text16, bytes16 = length:u16 bytes
//! ```
//! A frame has at most [`frame::FRAME_BYTES_MAX`] bytes. What a later version adds to the end of hello is not read.

pub(crate) mod frame;
pub(crate) mod group;
pub(crate) mod hello;
#[cfg(test)]
mod tests;

use bytes::{BufMut, BytesMut};

/// Why bytes of a link are none of version 1. The link is closed: what follows cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes end within a field.
    #[error("the bytes end within a field")]
    Truncated,
    /// Bytes are left over.
    #[error("bytes are left after the last field")]
    Trailing,
    /// A field holds what it cannot.
    #[error("a field holds what it cannot: {0}")]
    Invalid(&'static str),
    /// A field, a frame or a message is longer than allowed.
    #[error("longer than allowed: {0}")]
    TooLong(&'static str),
    /// No frame of this version.
    #[error("a frame of the unknown kind {0}")]
    UnknownKind(u8),
    /// Not a gateway at the other end.
    #[error("the other end is no gateway")]
    NotAGateway,
}

/// Takes fields from bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn end(&self) -> Result<(), CodecError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(CodecError::Trailing) }
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(CodecError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(CodecError::Truncated)?;
        self.bytes = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, CodecError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, CodecError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, CodecError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, CodecError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn u128(&mut self) -> Result<u128, CodecError> {
        Ok(u128::from_be_bytes(self.array()?))
    }

    pub(crate) fn bytes16(&mut self) -> Result<&'a [u8], CodecError> {
        let length = usize::from(self.u16()?);
        self.take(length)
    }

    pub(crate) fn text8(&mut self) -> Result<&'a str, CodecError> {
        let length = usize::from(self.u8()?);
        std::str::from_utf8(self.take(length)?).map_err(|_| CodecError::Invalid("utf-8"))
    }

    pub(crate) fn text16(&mut self) -> Result<&'a str, CodecError> {
        std::str::from_utf8(self.bytes16()?).map_err(|_| CodecError::Invalid("utf-8"))
    }
}

/// Appends a text of at most 255 bytes; callers keep to it, and what is longer is cut.
pub(crate) fn put_text8(out: &mut BytesMut, text: &str) {
    let text = &text[..text.floor_char_boundary(255.min(text.len()))];
    out.put_u8(text.len() as u8);
    out.put_slice(text.as_bytes());
}

/// Appends bytes of at most 65,535; callers keep to it, and what is longer is cut.
pub(crate) fn put_bytes16(out: &mut BytesMut, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
    out.put_u16(bytes.len() as u16);
    out.put_slice(bytes);
}
