//! Frames: cut from the stream, and large messages put together again, within bounds.
//!
//! What comes of a part of a message goes where the message is put together, whether all of the part is there or not, so
//! that large messages are copied once, and nobody else sees one before it is whole.

use std::ops::Deref;

use bytes::{Bytes, BytesMut};

use super::CodecError;
use crate::lanes::LANES;

/// The bytes before the body.
pub(crate) const HEAD_BYTES: usize = 6;
/// A larger message is written in parts of this size.
pub(crate) const CHUNK_BYTES: usize = 32 << 10;
/// The longest body of a frame.
pub(crate) const FRAME_BYTES_MAX: usize = 64 << 10;
/// How many of the largest messages may be under way in parts at once.
const HELD_FACTOR: usize = 2;
/// For so many parts there is room from the first one on.
const FIRST_PARTS: usize = 4;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Hello = 1,
    Ping = 2,
    Pong = 3,
    Signal = 4,
    Part = 5,
    LastPart = 6,
    Digest = 7,
    Differing = 8,
    Group = 9,
    InStep = 10,
    Join = 11,
    Leave = 12,
    Bye = 13,
    Role = 14,
    Resting = 15,
    Squeezed = 16,
    LetGo = 17,
}

impl Kind {
    fn read(byte: u8) -> Result<Self, CodecError> {
        Ok(match byte {
            1 => Self::Hello,
            2 => Self::Ping,
            3 => Self::Pong,
            4 => Self::Signal,
            5 => Self::Part,
            6 => Self::LastPart,
            7 => Self::Digest,
            8 => Self::Differing,
            9 => Self::Group,
            10 => Self::InStep,
            11 => Self::Join,
            12 => Self::Leave,
            13 => Self::Bye,
            14 => Self::Role,
            15 => Self::Resting,
            16 => Self::Squeezed,
            17 => Self::LetGo,
            other => return Err(CodecError::UnknownKind(other)),
        })
    }
}

/// The start of a frame.
pub(crate) fn head(kind: Kind, lane: u8, length: usize) -> [u8; HEAD_BYTES] {
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [kind as u8, lane, a, b, c, d]
}

/// The body of a frame.
#[derive(Debug)]
pub(crate) enum Body<'i> {
    /// Where it stands in what came.
    Come(&'i [u8]),
    /// Of a frame or a message that came in pieces.
    Held(Bytes),
}

impl Body<'_> {
    /// It may be shared, and not only looked at.
    pub(crate) fn shared(&self) -> Option<&Bytes> {
        match self {
            Self::Come(_) => None,
            Self::Held(bytes) => Some(bytes),
        }
    }
}

impl Deref for Body<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Come(bytes) => bytes,
            Self::Held(bytes) => bytes,
        }
    }
}

/// A part of a message that is coming.
#[derive(Clone, Copy, Debug)]
struct Coming {
    lane: usize,
    missing: usize,
    last: bool,
}

/// The frames of one link, from the bytes as they come.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// The start of a frame of which the rest has not come; of a part its head, at most.
    begun: BytesMut,
    coming: Option<Coming>,
    parts: [Option<BytesMut>; LANES],
    /// Of the messages in parts, with what is still to come of those parts that have begun.
    held: usize,
    message_bytes_max: usize,
}

impl Inbound {
    pub(crate) fn new(message_bytes_max: usize) -> Self {
        Self { begun: BytesMut::new(), coming: None, parts: Default::default(), held: 0, message_bytes_max }
    }

    /// Takes the next whole frame from the front of what came; a message that came in parts is one of kind
    /// [`Kind::Signal`]. `None` when all is taken.
    pub(crate) fn next<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<(Kind, Body<'i>)>, CodecError> {
        loop {
            if let Some(coming) = self.coming {
                match self.go_on(coming, input) {
                    Some(message) => return Ok(Some((Kind::Signal, Body::Held(message)))),
                    None if self.coming.is_some() => return Ok(None),
                    None => {}
                }
            }
            if !self.begun.is_empty() && self.begun.len() < HEAD_BYTES {
                self.begin(HEAD_BYTES, input);
            }
            let start: &[u8] = if self.begun.is_empty() { input } else { &self.begun };
            let Some(&[kind, lane, a, b, c, d]) = start.first_chunk::<HEAD_BYTES>() else {
                self.begin(HEAD_BYTES, input);
                return Ok(None);
            };
            let kind = Kind::read(kind)?;
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            if length > FRAME_BYTES_MAX {
                return Err(CodecError::TooLong("frame"));
            }
            let lane = usize::from(lane);
            if lane >= LANES {
                return Err(CodecError::Invalid("lane"));
            }
            match kind {
                Kind::Part | Kind::LastPart => {
                    if self.begun.is_empty() {
                        *input = &input[HEAD_BYTES..];
                    }
                    self.begun.clear();
                    self.begin_part(lane, length, kind == Kind::LastPart)?;
                    continue;
                }
                // What is whole cannot stand within a message of the same lane.
                Kind::Signal if self.parts[lane].is_some() => return Err(CodecError::Invalid("part")),
                Kind::Hello
                | Kind::Ping
                | Kind::Pong
                | Kind::Signal
                | Kind::Digest
                | Kind::Differing
                | Kind::Group
                | Kind::InStep
                | Kind::Join
                | Kind::Leave
                | Kind::Bye
                | Kind::Role
                | Kind::Resting
                | Kind::Squeezed
                | Kind::LetGo => {}
            }
            let whole = HEAD_BYTES + length;
            if let Some((frame, rest)) = input.split_at_checked(whole)
                && self.begun.is_empty()
            {
                *input = rest;
                return Ok(Some((kind, Body::Come(&frame[HEAD_BYTES..]))));
            }
            self.begin(whole, input);
            if self.begun.len() < whole {
                return Ok(None);
            }
            let body = std::mem::take(&mut self.begun).split_off(HEAD_BYTES);
            return Ok(Some((kind, Body::Held(body.freeze()))));
        }
    }

    /// Whether no frame has begun of which the rest has not come.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.begun.is_empty() && self.coming.is_none()
    }

    /// Keeps the start of a frame, up to so many bytes of it.
    fn begin(&mut self, bytes: usize, input: &mut &[u8]) {
        let missing = bytes.saturating_sub(self.begun.len());
        let (taken, rest) = input.split_at(missing.min(input.len()));
        if !taken.is_empty() {
            self.begun.reserve(missing);
            self.begun.extend_from_slice(taken);
        }
        *input = rest;
    }

    /// Makes room for a part of so many bytes.
    fn begin_part(&mut self, lane: usize, length: usize, last: bool) -> Result<(), CodecError> {
        let part = self.parts[lane].get_or_insert_default();
        if part.len() + length > self.message_bytes_max {
            return Err(CodecError::TooLong("message"));
        }
        if self.held + length > self.message_bytes_max.saturating_mul(HELD_FACTOR) {
            return Err(CodecError::TooLong("messages under way"));
        }
        if part.is_empty() && !last {
            // Most that come in parts come in few.
            part.reserve(FIRST_PARTS * CHUNK_BYTES);
        }
        self.held += length;
        self.coming = Some(Coming { lane, missing: length, last });
        Ok(())
    }

    /// Takes what has come of a part; the message, when that was the last of it.
    fn go_on(&mut self, coming: Coming, input: &mut &[u8]) -> Option<Bytes> {
        let part = self.parts[coming.lane].get_or_insert_default();
        let (taken, rest) = input.split_at(coming.missing.min(input.len()));
        part.extend_from_slice(taken);
        *input = rest;
        let missing = coming.missing - taken.len();
        self.coming = (missing > 0).then_some(Coming { missing, ..coming });
        if missing > 0 || !coming.last {
            return None;
        }
        let whole = self.parts[coming.lane].take().unwrap_or_default();
        self.held -= whole.len();
        Some(whole.freeze())
    }
}
