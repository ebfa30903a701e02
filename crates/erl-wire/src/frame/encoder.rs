//! Messages to frames.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{FIRST_FRAGMENT, FRAGMENT_BYTES, NEXT_FRAGMENT, PASS_THROUGH, Payload, VERSION};
use crate::{
    control::Control,
    handshake::Flags,
    term::{self, Term},
};

/// How messages are written, by what both sides can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Whole, each term with its version byte.
    PassThrough,
    /// In fragments, without a cache of atoms.
    Fragments,
}

impl Mode {
    /// The mode that these negotiated flags ask for.
    #[must_use]
    pub fn new(negotiated: Flags) -> Self {
        if negotiated.has(Flags::FRAGMENTS) { Self::Fragments } else { Self::PassThrough }
    }
}

/// Writes the messages of one connection.
#[derive(Clone, Debug)]
pub struct Encoder {
    mode: Mode,
    sequence: u64,
}

impl Encoder {
    /// For one connection.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self { mode, sequence: 0 }
    }

    /// Appends a tick.
    pub fn tick(out: &mut BytesMut) {
        out.put_u32(0);
    }

    /// Appends a whole message, all of its frames in a row.
    pub fn encode(&mut self, control: Control, payload: Option<&Term>, out: &mut BytesMut) {
        let mut frames = self.start(control, payload.map(Payload::from));
        while frames.write_next(out) {}
    }

    /// Starts a message whose frames are then written one by one, so that those of other messages can come between.
    ///
    /// A payload that the control message does not have is left out, and one that it misses is `[]`: what would come
    /// out otherwise would end the connection.
    pub fn start(&mut self, control: Control, payload: Option<Payload>) -> Frames {
        let payload = control.has_payload().then(|| payload.unwrap_or_else(|| Payload::from(&Term::list([]))));
        let mut head = BytesMut::new();
        let control = Term::from(control);
        match self.mode {
            Mode::PassThrough => {
                head.put_slice(&[PASS_THROUGH, VERSION]);
                term::encode(&control, &mut head);
                if payload.is_some() {
                    head.put_u8(VERSION);
                }
            }
            Mode::Fragments => term::encode(&control, &mut head),
        }
        self.sequence = self.sequence.wrapping_add(1);
        let body = payload.map(|payload| payload.bytes().clone()).unwrap_or_default();
        // The control message must be in the first fragment, however long it is.
        let left = body.len().div_ceil(FRAGMENT_BYTES).max(1) as u64;
        Frames { mode: self.mode, sequence: self.sequence, head: Some(head.freeze()), body, left }
    }
}

/// The frames of one message that are still to be written.
#[derive(Clone, Debug)]
pub struct Frames {
    mode: Mode,
    sequence: u64,
    /// The control message, until the first frame is written.
    head: Option<Bytes>,
    body: Bytes,
    /// How many fragments there are to write; this is also the number of the next.
    left: u64,
}

impl Frames {
    /// Appends the next frame; `false` when there was none left.
    ///
    /// # Panics
    /// When a message that may not be cut has 4 GiB.
    pub fn write_next(&mut self, out: &mut BytesMut) -> bool {
        if self.left == 0 {
            return false;
        }
        let start = out.len();
        out.put_u32(0);
        let length = match self.mode {
            Mode::PassThrough => {
                self.left = 0;
                self.body.len()
            }
            Mode::Fragments => {
                out.put_slice(&[VERSION, if self.head.is_some() { FIRST_FRAGMENT } else { NEXT_FRAGMENT }]);
                out.put_u64(self.sequence);
                out.put_u64(self.left);
                if self.head.is_some() {
                    // No references into a cache of atoms.
                    out.put_u8(0);
                }
                self.left -= 1;
                self.body.len().min(FRAGMENT_BYTES)
            }
        };
        if let Some(head) = self.head.take() {
            out.put_slice(&head);
        }
        out.put_slice(&self.body[..length]);
        self.body.advance(length);
        let size = u32::try_from(out.len() - start - 4).expect("a message has fewer than 2^32 bytes");
        out[start..start + 4].copy_from_slice(&size.to_be_bytes());
        true
    }
}
