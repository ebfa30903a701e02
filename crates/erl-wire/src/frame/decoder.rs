//! Frames to messages, from a peer that has proved the cookie but may still be wrong.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut, buf::Limit};

use super::{
    FIRST_FRAGMENT, Frame, HEADER, Message, NEXT_FRAGMENT, PASS_THROUGH, Payload, VERSION, assembly::Assembly,
};
use crate::{
    control::{Control, ControlError, Names},
    rewrite::Route,
    term::{self, DecodeError, Limits},
};

/// What a connection may make us hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The longest frame.
    pub frame_bytes_max: usize,
    /// How many messages may be under way in fragments: OTP has one for each sending process.
    pub sequences_max: usize,
    /// How many bytes of unfinished messages are held, all together.
    pub held_bytes_max: usize,
    /// For control messages.
    pub control: Limits,
}

impl Default for Bounds {
    /// Frames of 64 MiB, since a peer without fragments sends large messages whole; 4,096 sequences and 256 MiB.
    fn default() -> Self {
        Self {
            frame_bytes_max: 64 << 20,
            sequences_max: 4096,
            held_bytes_max: 256 << 20,
            control: Limits { depth_max: 128, elements_max: 1 << 16, bytes_max: 1 << 20 },
        }
    }
}

/// Takes messages as bytes, before anything is built of them: see [`Decoder::next_frame_but`].
pub type Taken<'t> = dyn FnMut(&Route<'_>, &Bytes) -> bool + 't;

/// Why a connection cannot go on. Frames are read in order, so there is no way to skip what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame above [`Bounds::frame_bytes_max`].
    #[error("a frame of {0} bytes is more than this connection may carry")]
    TooLong(usize),
    /// A frame of no known kind.
    #[error("a frame that is neither a tick, a message nor a fragment: it starts with {0:?}")]
    UnknownKind(Vec<u8>),
    /// A frame that refers to a cache of atoms, which was not negotiated.
    #[error("a frame that refers to a cache of atoms, which was not negotiated")]
    AtomCache,
    /// A fragment that continues nothing, is out of turn, or starts what has started.
    #[error("a fragment that is out of turn: sequence {sequence}, fragment {fragment}")]
    FragmentOrder {
        /// Its sequence.
        sequence: u64,
        /// Its number.
        fragment: u64,
    },
    /// More messages under way than [`Bounds::sequences_max`].
    #[error("more than {0} messages under way in fragments")]
    TooManySequences(usize),
    /// More bytes of unfinished messages than [`Bounds::held_bytes_max`].
    #[error("unfinished messages take more than {0} bytes")]
    TooMuchHeld(usize),
    /// A control message that is no term, or that is cut.
    #[error("a control message that is no term: {0}")]
    Term(#[from] DecodeError),
    /// A term that is no control message.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A payload where there is none, or none where there must be one.
    #[error("a control message with a payload that it does not have, or without the one that it has")]
    Payload,
}

/// A frame of this size that has not come whole is read to where it is kept, and not through the buffer.
const DIRECT_BYTES_MIN: usize = 16 << 10;
/// How much is reserved for a frame at its start, at most; a longer one grows as it comes.
const RESERVED_BYTES_MAX: usize = 2 << 20;
/// How much is read at once behind a frame that was read directly: enough for small ones and for the start of a further large
/// one, most of which can then be read directly, too.
const PEEK_BYTES: usize = 4 << 10;
/// The longest start of a frame, before its terms.
const START_BYTES: usize = 19;

/// Reads the messages of one connection.
#[derive(Debug)]
pub struct Decoder {
    bounds: Bounds,
    buffer: BytesMut,
    assembly: Assembly,
    direct: Option<Direct>,
    names: Names,
    /// Whether the last frame was read directly.
    large: bool,
}

/// A large frame that has come in part.
#[derive(Debug)]
struct Direct {
    missing: usize,
    to: To,
}

#[derive(Debug)]
enum To {
    Whole(BytesMut),
    /// What the assembly has of this sequence.
    Fragment(u64),
}

impl Decoder {
    /// For one connection.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let assembly = Assembly::new(bounds.sequences_max, bounds.held_bytes_max);
        Self { assembly, bounds, buffer: BytesMut::new(), direct: None, names: Names::default(), large: false }
    }

    /// Takes what has come over the connection, in any pieces. Take the frames out before giving more.
    pub fn feed(&mut self, mut input: &[u8]) {
        while !input.is_empty() {
            let mut room = self.room(input.len());
            let (now, later) = input.split_at(room.remaining_mut().min(input.len()));
            room.put_slice(now);
            self.came(now.len());
            input = later;
        }
    }

    /// Where to put what comes next, at most so many bytes, for who reads from a socket right into it. Tell
    /// [`Decoder::came`] how many it were, and take the frames out before asking again.
    pub fn room(&mut self, bytes_max: usize) -> Limit<&mut BytesMut> {
        if let Some(Direct { missing: missing @ 1.., to }) = &mut self.direct {
            let buffer = match to {
                To::Whole(bytes) => bytes,
                // It is there until its fragment is complete.
                To::Fragment(sequence) => self.assembly.buffer(*sequence).unwrap_or(&mut self.buffer),
            };
            let missing = (*missing).min(RESERVED_BYTES_MAX);
            buffer.reserve(missing);
            return buffer.limit(missing);
        }
        let bytes_max = if self.large { bytes_max.min(PEEK_BYTES) } else { bytes_max };
        self.buffer.reserve(bytes_max);
        (&mut self.buffer).limit(bytes_max)
    }

    /// So many bytes were put into the [`Decoder::room`].
    pub fn came(&mut self, bytes: usize) {
        if let Some(direct) = &mut self.direct {
            direct.missing = direct.missing.saturating_sub(bytes);
        }
    }

    /// The next tick or whole message; `None` until more has come.
    ///
    /// # Errors
    /// When the connection cannot go on.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        self.next_frame_but(&mut |_, _| false)
    }

    /// As [`Decoder::next_frame`], without the messages that `taken` takes: it is shown the route of each whole message, and
    /// its control message and payload in a row, without version byte. No term is built of what it takes.
    ///
    /// # Errors
    /// As [`Decoder::next_frame`].
    pub fn next_frame_but(&mut self, taken: &mut Taken<'_>) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(direct) = self.direct.take_if(|direct| direct.missing == 0) {
                self.large = true;
                let message = match direct.to {
                    To::Whole(bytes) => self.message(bytes.freeze(), taken)?,
                    To::Fragment(sequence) => match self.assembly.end(sequence) {
                        Some(whole) => self.whole(whole, taken)?,
                        None => None,
                    },
                };
                if let Some(message) = message {
                    return Ok(Some(Frame::Message(message)));
                }
            }
            if self.direct.is_some() {
                return Ok(None);
            }
            let Some(length) = self.buffer.first_chunk::<4>() else { return Ok(None) };
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            if length > self.bounds.frame_bytes_max {
                return Err(FrameError::TooLong(length));
            }
            if self.buffer.len() - 4 < length {
                if length >= DIRECT_BYTES_MIN && self.buffer.len() - 4 >= START_BYTES {
                    self.buffer.advance(4);
                    self.direct = Some(self.start_direct(length)?);
                }
                return Ok(None);
            }
            self.large = false;
            self.buffer.advance(4);
            if length == 0 {
                return Ok(Some(Frame::Tick));
            }
            let frame = self.buffer.split_to(length).freeze();
            if let Some(message) = self.message(frame, taken)? {
                return Ok(Some(Frame::Message(message)));
            }
        }
    }

    /// Begins a frame of so many bytes that has come in part, and of which at least [`START_BYTES`] are there.
    fn start_direct(&mut self, length: usize) -> Result<Direct, FrameError> {
        let come = self.buffer.split();
        let fragment = match *come {
            [VERSION, kind @ (FIRST_FRAGMENT | NEXT_FRAGMENT), ref rest @ ..] => {
                rest.split_first_chunk::<8>().and_then(|(sequence, rest)| {
                    let (fragment, rest) = rest.split_first_chunk::<8>()?;
                    Some((kind, u64::from_be_bytes(*sequence), u64::from_be_bytes(*fragment), rest))
                })
            }
            _ => None,
        };
        let start_bytes = come.len() - fragment.map_or(come.len(), |(.., rest)| rest.len());
        let (to, buffer, body) = match fragment {
            Some((NEXT_FRAGMENT, sequence, fragment, rest)) => {
                let buffer = self.assembly.begin_next(sequence, fragment, length - start_bytes)?;
                (To::Fragment(sequence), buffer, rest)
            }
            Some((_, sequence, fragment @ 2.., [0, rest @ ..])) => {
                let buffer = self.assembly.begin_first(sequence, fragment, length - start_bytes - 1)?;
                (To::Fragment(sequence), buffer, rest)
            }
            Some(_) | None => {
                let mut bytes = BytesMut::with_capacity(length.min(RESERVED_BYTES_MAX));
                bytes.extend_from_slice(&come);
                return Ok(Direct { missing: length - come.len(), to: To::Whole(bytes) });
            }
        };
        buffer.extend_from_slice(body);
        Ok(Direct { missing: length - come.len(), to })
    }

    fn message(&mut self, mut frame: Bytes, taken: &mut Taken<'_>) -> Result<Option<Message>, FrameError> {
        match *frame {
            [PASS_THROUGH, ..] => {
                frame.advance(1);
                self.pass_through(frame, taken)
            }
            [VERSION, HEADER, 0, ..] => {
                frame.advance(3);
                self.whole(frame, taken)
            }
            [VERSION, HEADER, _, ..] => Err(FrameError::AtomCache),
            [VERSION, kind @ (FIRST_FRAGMENT | NEXT_FRAGMENT), ref rest @ ..] => {
                let unknown = || FrameError::UnknownKind(start_of(&frame));
                let (sequence, rest) = rest.split_first_chunk::<8>().ok_or_else(unknown)?;
                let (fragment, rest) = rest.split_first_chunk::<8>().ok_or_else(unknown)?;
                let (sequence, fragment) = (u64::from_be_bytes(*sequence), u64::from_be_bytes(*fragment));
                let whole = if kind == NEXT_FRAGMENT {
                    self.assembly.next(sequence, fragment, frame.slice_ref(rest))?
                } else {
                    match rest {
                        [0, body @ ..] => self.assembly.first(sequence, fragment, frame.slice_ref(body))?,
                        [_, ..] => return Err(FrameError::AtomCache),
                        [] => return Err(unknown()),
                    }
                };
                match whole {
                    Some(whole) => self.whole(whole, taken),
                    None => Ok(None),
                }
            }
            _ => Err(FrameError::UnknownKind(start_of(&frame))),
        }
    }

    /// Terms that have their version byte.
    fn pass_through(&self, bytes: Bytes, taken: &mut Taken<'_>) -> Result<Option<Message>, FrameError> {
        if let Some((&VERSION, terms)) = bytes.split_first()
            && let Ok(route) = Route::read(terms)
            && let Some((&VERSION, payload)) = route.payload.split_first().or(Some((&VERSION, &[])))
            && route.has_payload() != payload.is_empty()
        {
            // Rare: only what has no fragments sends it. The terms stand apart, and are put in a row.
            let whole = Bytes::from([route.control, payload].concat());
            if Route::read(&whole).is_ok_and(|route| taken(&route, &whole)) {
                return Ok(None);
            }
        }
        let (control, length) = term::decode_external(&bytes, &self.bounds.control)?;
        let rest = bytes.slice(length..);
        match rest.first() {
            None => message(control.try_into()?, rest).map(Some),
            Some(&VERSION) => message(control.try_into()?, rest.slice(1..)).map(Some),
            Some(&other) => Err(DecodeError::Version(other).into()),
        }
    }

    /// Terms that have none.
    fn whole(&mut self, bytes: Bytes, taken: &mut Taken<'_>) -> Result<Option<Message>, FrameError> {
        if let Ok(route) = Route::read(&bytes)
            && route.has_payload() != route.payload.is_empty()
        {
            if taken(&route, &bytes) {
                return Ok(None);
            }
            if let Some(control) = self.names.control(&route) {
                let payload = bytes.slice(route.control.len()..);
                return message(control, payload).map(Some);
            }
        }
        let (control, length) = term::decode(&bytes, &self.bounds.control)?;
        message(control.try_into()?, bytes.slice(length..)).map(Some)
    }
}

fn message(control: Control, rest: Bytes) -> Result<Message, FrameError> {
    if control.has_payload() == rest.is_empty() {
        return Err(FrameError::Payload);
    }
    let payload = (!rest.is_empty()).then(|| Payload::from_bytes(rest));
    Ok(Message { control, payload })
}

fn start_of(frame: &[u8]) -> Vec<u8> {
    frame.iter().take(4).copied().collect()
}
