//! Bytes on the wire, version 1. Every length is checked against a limit before anything is stored.
//!
//! ```text
//! packet    = header body
//! header    = version:u8=1 flags:u8 cluster:text8 sender:u128 epoch:varint counter:varint [key:u32 if sealed]
//! body      = message item*                                   (the sealed part; a tag of 16 bytes follows)
//! item      = claim | event | query | head                    (the last three: `user`)
//! claim     = subject:u128 epoch:varint incarnation:varint version:varint kind:u8 … [description:bytes16]
//! text8     = length:u8 utf-8        bytes16 = length:u16 bytes        integers are big-endian, varints are LEB128
//! ```

pub(crate) mod claim;
pub(crate) mod message;
pub(crate) mod packet;
pub(crate) mod user;

#[cfg(test)]
mod tests;

use metacluster_types::AgentId;

use crate::error::DecodeError;

/// Takes fields from bytes. Never reads past the end, never copies more than was there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn id(&mut self) -> Result<AgentId, DecodeError> {
        Ok(AgentId(u128::from_be_bytes(self.array()?)))
    }

    pub(crate) fn f32(&mut self) -> Result<f32, DecodeError> {
        let value = f32::from_be_bytes(self.array()?);
        if value.is_finite() { Ok(value) } else { Err(DecodeError::Invalid("number")) }
    }

    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::Invalid("varint"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Invalid("varint"))
    }

    pub(crate) fn varint32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.varint()?).map_err(|_| DecodeError::Invalid("varint"))
    }

    pub(crate) fn text8(&mut self) -> Result<&'a str, DecodeError> {
        let length = usize::from(self.u8()?);
        std::str::from_utf8(self.take(length)?).map_err(|_| DecodeError::Invalid("utf-8"))
    }

    pub(crate) fn bytes16(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = usize::from(self.u16()?);
        self.take(length)
    }
}

/// Appends fields to bytes. The callers keep to the limits; a text that is too long is cut, never miscounted.
pub(crate) trait Writer {
    fn put_id(&mut self, id: AgentId);
    fn put_varint(&mut self, value: u64);
    fn put_text8(&mut self, text: &str);
    fn put_bytes16(&mut self, bytes: &[u8]);
}

impl Writer for Vec<u8> {
    fn put_id(&mut self, id: AgentId) {
        self.extend_from_slice(&id.0.to_be_bytes());
    }

    fn put_varint(&mut self, mut value: u64) {
        loop {
            let [bits, ..] = (value & 0x7f).to_le_bytes();
            value >>= 7;
            if value == 0 {
                self.push(bits);
                return;
            }
            self.push(bits | 0x80);
        }
    }

    fn put_text8(&mut self, text: &str) {
        let mut length = text.len().min(255);
        while !text.is_char_boundary(length) {
            length -= 1;
        }
        self.push(u8::try_from(length).unwrap_or_default());
        self.extend_from_slice(&text.as_bytes()[..length]);
    }

    fn put_bytes16(&mut self, bytes: &[u8]) {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.extend_from_slice(&length.to_be_bytes());
        self.extend_from_slice(&bytes[..usize::from(length)]);
    }
}
