//! Messages to frames.

use bytes::{Bytes, BytesMut};

use super::{FIRST_FRAGMENT, FRAGMENT_BYTES, HEADER, NEXT_FRAGMENT, PASS_THROUGH, Payload, VERSION, payload::Rest};
use crate::{
    control::Control,
    handshake::Flags,
    sink::Sink,
    term::{self, Term},
};

/// How long most control messages are.
const CONTROL_BYTES: usize = 128;

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
    pub fn tick(out: &mut impl Sink) {
        out.put_u32(0);
    }

    /// Appends a whole message, all of its frames in a row.
    pub fn encode(&mut self, control: Control, payload: Option<&Term>, out: &mut impl Sink) {
        let mut frames = self.start(control, payload.map(Payload::from));
        while frames.write_next(out) {}
    }

    /// Starts a message whose frames are then written one by one, so that those of other messages can come between.
    ///
    /// A payload that the control message does not have is left out, and one that it misses is `[]`: what would come
    /// out otherwise would end the connection.
    pub fn start(&mut self, control: Control, payload: Option<Payload>) -> Frames {
        let payload = control.has_payload().then(|| payload.unwrap_or_else(|| Payload::from(&Term::list([]))));
        self.begin(payload, |head| term::encode(&Term::from(control), head))
    }

    /// As [`Encoder::start`], of a control message that is bytes already, without version byte. It must have a payload exactly
    /// when there is one here.
    pub fn start_encoded(&mut self, control: &[u8], payload: Option<Payload>) -> Frames {
        self.begin(payload, |head| head.put_slice(control))
    }

    fn begin(&mut self, payload: Option<Payload>, control: impl FnOnce(&mut BytesMut)) -> Frames {
        let mut head = BytesMut::with_capacity(CONTROL_BYTES);
        match self.mode {
            Mode::PassThrough => {
                head.put_slice(&[PASS_THROUGH, VERSION]);
                control(&mut head);
                if payload.is_some() {
                    head.put_u8(VERSION);
                }
            }
            Mode::Fragments => control(&mut head),
        }
        self.sequence = self.sequence.wrapping_add(1);
        let body = Rest::new(payload);
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
    body: Rest,
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
    pub fn write_next(&mut self, out: &mut impl Sink) -> bool {
        if self.left == 0 {
            return false;
        }
        let (head, length) = match self.head.take() {
            Some((head, length)) => (Some(head), length),
            None => (None, self.body.len().min(FRAGMENT_BYTES)),
        };
        let mut start = [0; START_BYTES_MAX];
        let start = self.start_of_frame(head.is_some(), &mut start);
        let size = start.len() + head.as_ref().map_or(0, Bytes::len) + length;
        out.put_u32(u32::try_from(size).expect("a message has fewer than 2^32 bytes"));
        out.put_slice(start);
        if let Some(head) = &head {
            out.put_slice(head);
        }
        self.body.write(length, out);
        self.left -= 1;
        true
    }

    /// What stands between the length of a frame and its terms.
    fn start_of_frame<'a>(&self, first: bool, room: &'a mut [u8; START_BYTES_MAX]) -> &'a [u8] {
        match (self.mode, first, self.left) {
            // What starts a whole term is its own first byte.
            (Mode::PassThrough, _, _) => &[],
            // A message of one frame is no fragment, and refers to no cache of atoms.
            (Mode::Fragments, true, 1) => &[VERSION, HEADER, 0],
            (Mode::Fragments, _, _) => {
                room[0] = VERSION;
                room[1] = if first { FIRST_FRAGMENT } else { NEXT_FRAGMENT };
                room[2..10].copy_from_slice(&self.sequence.to_be_bytes());
                room[10..18].copy_from_slice(&self.left.to_be_bytes());
                // The first one refers to no cache of atoms; the others cannot.
                if first { room } else { &room[..18] }
            }
        }
    }
}

/// The longest start of a frame: its kind, sequence and number, and the references to the cache of atoms.
const START_BYTES_MAX: usize = 19;
