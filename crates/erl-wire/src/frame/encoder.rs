//! Messages to frames.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{FIRST_FRAGMENT, FRAGMENT_BYTES, HEADER, NEXT_FRAGMENT, PASS_THROUGH, Payload, VERSION};
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
        // The control message must be in the first fragment, however long it is; the payload fills that one up.
        let first = match self.mode {
            Mode::PassThrough => body.len(),
            Mode::Fragments => FRAGMENT_BYTES.saturating_sub(head.len()).min(body.len()),
        };
        let left = 1 + (body.len() - first).div_ceil(FRAGMENT_BYTES) as u64;
        Frames { mode: self.mode, sequence: self.sequence, head: Some((head.freeze(), first)), body, left }
    }
}

/// The frames of one message that are still to be written.
#[derive(Clone, Debug)]
pub struct Frames {
    mode: Mode,
    sequence: u64,
    /// The control message, and how much of the payload stands beside it, until the first frame is written.
    head: Option<(Bytes, usize)>,
    body: Bytes,
    /// How many frames there are to write; this is also the number of the next fragment.
    left: u64,
}

impl Frames {
    /// How many frames there are still to write.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }

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
        let head = self.head.take();
        if self.mode == Mode::Fragments {
            match (&head, self.left) {
                // A message of one frame is no fragment, and refers to no cache of atoms.
                (Some(_), 1) => out.put_slice(&[VERSION, HEADER, 0]),
                (Some(_), _) => {
                    self.fragment(FIRST_FRAGMENT, out);
                    out.put_u8(0);
                }
                (None, _) => self.fragment(NEXT_FRAGMENT, out),
            }
        }
        let length = match &head {
            Some((_, length)) => *length,
            None => self.body.len().min(FRAGMENT_BYTES),
        };
        if let Some((head, _)) = &head {
            out.put_slice(head);
        }
        out.put_slice(&self.body[..length]);
        self.body.advance(length);
        self.left -= 1;
        let size = u32::try_from(out.len() - start - 4).expect("a message has fewer than 2^32 bytes");
        out[start..start + 4].copy_from_slice(&size.to_be_bytes());
        true
    }

    fn fragment(&self, kind: u8, out: &mut BytesMut) {
        out.put_slice(&[VERSION, kind]);
        out.put_u64(self.sequence);
        out.put_u64(self.left);
    }
}
