//! Cuts the byte stream into the messages of the handshake, and frames ours.

use bytes::{BufMut, Bytes, BytesMut};

use super::HandshakeError;

/// How long a message may be: a name of 1,020 bytes, the fields before it, and room for what later versions add.
const MESSAGE_BYTES_MAX: usize = 4096;

/// How many bytes tell the length of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Two, as over TCP.
    Tcp,
    /// Four, as over TLS; the guide does not say so.
    Tls,
}

impl Framing {
    pub(super) fn frame(self, message: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(message.len() + 4);
        match self {
            // Ours are a name of at most 1,020 bytes and a few fields.
            Self::Tcp => out.put_u16(message.len() as u16),
            Self::Tls => out.put_u32(message.len() as u32),
        }
        out.put_slice(message);
        out.freeze()
    }
}

/// What has come and is not used yet.
pub(super) struct Packets {
    framing: Framing,
    buffer: BytesMut,
}

impl Packets {
    pub(super) fn new(framing: Framing) -> Self {
        Self { framing, buffer: BytesMut::new() }
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    /// Takes bytes in. The caller reads as much as its buffer holds, so that this is bounded by it.
    pub(super) fn extend(&mut self, input: &[u8]) {
        self.buffer.extend_from_slice(input);
    }

    /// What a peer may send before it is answered.
    pub(super) fn check_waiting(&self) -> Result<(), HandshakeError> {
        match self.buffer.len() {
            length if length > MESSAGE_BYTES_MAX => Err(HandshakeError::TooLong(length)),
            _ => Ok(()),
        }
    }

    /// The next whole message.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, HandshakeError> {
        let (header, length) = match (self.framing, self.buffer.as_ref()) {
            (Framing::Tcp, &[a, b, ..]) => (2, usize::from(u16::from_be_bytes([a, b]))),
            (Framing::Tls, &[a, b, c, d, ..]) => {
                (4, usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX))
            }
            (Framing::Tcp | Framing::Tls, _) => return Ok(None),
        };
        if length > MESSAGE_BYTES_MAX {
            return Err(HandshakeError::TooLong(length));
        }
        if self.buffer.len() < header + length {
            return Ok(None);
        }
        Ok(Some(self.buffer.split_to(header + length).freeze().slice(header..)))
    }

    /// All that has come and is not used.
    pub(super) fn take_rest(&mut self) -> BytesMut {
        std::mem::take(&mut self.buffer)
    }
}
