//! Messages to frames.

use bytes::{Bytes, BytesMut};

use super::{FIRST_FRAGMENT, FRAGMENT_BYTES, HEADER, NEXT_FRAGMENT, PASS_THROUGH, Payload, VERSION, payload::Rest};
use crate::{
    control::{Control, Sending},
    handshake::Flags,
    sink::{SHARED_BYTES_MIN, Sink},
    term::Term,
};

/// The most bytes of a term that [`Mode::put_short`] takes. A longer one can be shared, or cut in fragments.
pub const SHORT_BYTES_MAX: usize = SHARED_BYTES_MIN - 1;
/// The length of a frame, before it.
const LENGTH_BYTES: usize = 4;
/// How long most control messages are.
const CONTROL_BYTES: usize = 128;
/// The memory of a longer one is given back once it is written.
const HEAD_KEPT_BYTES: usize = 4 << 10;

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

    /// Appends a message whole, in its one frame: the term must be of no more than [`SHORT_BYTES_MAX`], as
    /// [`term::bytes_within`](crate::term::bytes_within) says.
    ///
    /// # Panics
    /// When the term has 4 GiB.
    pub fn put_short(self, sending: &Sending<'_>, payload: &Term, out: &mut BytesMut) {
        let start = out.len();
        put_start(whole_start(self), 0, out);
        self.put_control(true, |out| sending.encode(out), out);
        crate::term::encode(payload, out);
        let length = u32::try_from(out.len() - start - LENGTH_BYTES).expect("a short term");
        out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    }

    /// Appends a control message and what stands around it.
    fn put_control(self, has_payload: bool, control: impl FnOnce(&mut BytesMut), out: &mut BytesMut) {
        match self {
            Self::PassThrough => {
                out.put_slice(&[PASS_THROUGH, VERSION]);
                control(out);
                if has_payload {
                    out.put_u8(VERSION);
                }
            }
            Self::Fragments => control(out),
        }
    }
}

/// Writes the messages of one connection.
#[derive(Clone, Debug)]
pub struct Encoder {
    mode: Mode,
    sequence: u64,
    /// The control message of the message that is started, with what stands around it.
    head: BytesMut,
}

impl Encoder {
    /// For one connection.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self { mode, sequence: 0, head: BytesMut::with_capacity(CONTROL_BYTES) }
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
        let payload = payload_of(&control, payload);
        self.write_head(payload.is_some(), |head| control.encode(head));
        self.begin(payload)
    }

    /// As [`Encoder::start`], but writes a message of one frame at once, and gives the frames of others alone.
    pub fn write_or_start(
        &mut self,
        control: Control,
        payload: Option<Payload>,
        out: &mut impl Sink,
    ) -> Option<Frames> {
        let payload = payload_of(&control, payload);
        self.write_head(payload.is_some(), |head| control.encode(head));
        self.write_or_begin(payload, out)
    }

    /// As [`Encoder::start`], of a control message that is bytes already, without version byte. It must have a payload exactly
    /// when there is one here.
    pub fn start_encoded(&mut self, control: &[u8], payload: Option<Payload>) -> Frames {
        self.write_head(payload.is_some(), |head| head.put_slice(control));
        self.begin(payload)
    }

    /// [`Encoder::write_or_start`] of a control message that is bytes already, as [`Encoder::start_encoded`] takes it.
    pub fn write_or_start_encoded(
        &mut self,
        control: &[u8],
        payload: Option<Payload>,
        out: &mut impl Sink,
    ) -> Option<Frames> {
        self.write_head(payload.is_some(), |head| head.put_slice(control));
        self.write_or_begin(payload, out)
    }

    fn write_head(&mut self, has_payload: bool, control: impl FnOnce(&mut BytesMut)) {
        self.head.clear();
        self.mode.put_control(has_payload, control, &mut self.head);
    }

    /// How much of a payload of so many bytes stands in the first frame.
    fn first_bytes(&self, payload_bytes: usize) -> usize {
        // The control message must be in the first fragment, however long it is; the payload fills that one up.
        match self.mode {
            Mode::PassThrough => payload_bytes,
            Mode::Fragments => FRAGMENT_BYTES.saturating_sub(self.head.len()).min(payload_bytes),
        }
    }

    fn begin(&mut self, payload: Option<Payload>) -> Frames {
        self.sequence = self.sequence.wrapping_add(1);
        let body = Rest::new(payload);
        let first = self.first_bytes(body.len());
        let left = 1 + (body.len() - first).div_ceil(FRAGMENT_BYTES) as u64;
        let head = Bytes::copy_from_slice(&self.head);
        if self.head.capacity() > HEAD_KEPT_BYTES {
            self.head = BytesMut::with_capacity(CONTROL_BYTES);
        }
        Frames { mode: self.mode, sequence: self.sequence, head: Some((head, first)), body, left }
    }

    fn write_or_begin(&mut self, payload: Option<Payload>, out: &mut impl Sink) -> Option<Frames> {
        let payload_bytes = payload.as_ref().map_or(0, Payload::len);
        // Long reasons are in control messages; what they take is given back.
        if self.first_bytes(payload_bytes) < payload_bytes || self.head.capacity() > HEAD_KEPT_BYTES {
            return Some(self.begin(payload));
        }
        put_start(whole_start(self.mode), self.head.len() + payload_bytes, out);
        out.put_slice(&self.head);
        payload.iter().flat_map(Payload::pieces).for_each(|piece| out.put_shared(piece));
        None
    }
}

/// What is written behind this control message: nothing, or a term.
fn payload_of(control: &Control, payload: Option<Payload>) -> Option<Payload> {
    control.has_payload().then(|| payload.unwrap_or_else(|| Payload::from(&Term::list([]))))
}

/// The start of a message of one frame, behind its length: it is no fragment, and refers to no cache of atoms.
fn whole_start(mode: Mode) -> &'static [u8] {
    match mode {
        // What starts a whole term is its own first byte.
        Mode::PassThrough => &[],
        Mode::Fragments => &[VERSION, HEADER, 0],
    }
}

/// The length of a frame whose start so many bytes follow, and the start.
fn put_start(start: &[u8], bytes: usize, out: &mut impl Sink) {
    out.put_u32(u32::try_from(start.len() + bytes).expect("a message has fewer than 2^32 bytes"));
    out.put_slice(start);
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
        put_start(start, head.as_ref().map_or(0, Bytes::len) + length, out);
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
            (Mode::PassThrough, _, _) | (Mode::Fragments, true, 1) => whole_start(self.mode),
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
