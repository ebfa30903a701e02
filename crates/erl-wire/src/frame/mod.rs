//! What follows the handshake: ticks and messages, whole or in fragments.
//!
//! A frame is a 32-bit length and that many bytes; a frame of length 0 is a tick. What a message looks like depends on
//! what both sides can do ([`Mode`]):
//!
//! - neither fragments nor the cache of atoms: `70`, the control message and the payload, each with its byte 131;
//! - fragments alone, which is what we negotiate: `83 44`, no cache references, then the control message and the
//!   payload without 131; what is larger than 64 KiB starts with `83 45`, sequence, fragment number, and goes on in
//!   frames of `83 46`. Fragment numbers count down to 1, and fragments of several sequences may come in turns.
//!   OTP closes a connection of this mode over a frame of the other one.
//!
//! A [`Decoder`] accepts all of these, whatever was negotiated.
//!
//! The payload stays bytes until somebody asks: a node that only passes messages on, or does not know the receiver,
//! need not build its term.
//!
//! Follows the guide's *Distribution Header*; what OTP does without the cache of atoms is not in the guide and was
//! taken from the wire.

mod assembly;
mod decoder;
mod encoder;
mod payload;
#[cfg(test)]
mod tests;

pub use self::{
    decoder::{Bounds, Decoder, FrameError, Taken},
    encoder::{Encoder, Frames, Mode, SHORT_BYTES_MAX},
    payload::Payload,
};
use crate::control::Control;

/// How many bytes of control message and payload a fragment carries, as OTP has it.
pub const FRAGMENT_BYTES: usize = 64 << 10;

pub(crate) const PASS_THROUGH: u8 = 112;
pub(crate) const VERSION: u8 = crate::term::VERSION;
pub(crate) const HEADER: u8 = 68;
pub(crate) const FIRST_FRAGMENT: u8 = 69;
pub(crate) const NEXT_FRAGMENT: u8 = 70;

/// What comes over a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are messages, and a box would cost each an allocation")]
pub enum Frame {
    /// A sign of life, and nothing else.
    Tick,
    /// A message, complete.
    Message(Message),
}

/// A control message, and the payload of those that have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is for.
    pub control: Control,
    /// There is one exactly when [`Control::has_payload`] says so.
    pub payload: Option<Payload>,
}
