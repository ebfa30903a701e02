//! The port mapper's protocol, both ways.
//!
//! A request is a 16-bit length and a body; a reply has no length, and most of them end with the connection. One
//! connection carries one request. Names are text of at most 255 characters; what is larger is refused before it is
//! stored.
//!
//! Follows `erts/epmd` of OTP 25 and the guide's *EPMD Protocol*; the limits are those of `epmd_srv.c`.

mod reply;
mod request;
#[cfg(test)]
mod tests;

pub use self::{
    reply::{DumpReply, KillReply, NameEntry, NamesReply, PortReply, RegisterReply, ReplyError, StopReply},
    request::{NodeType, Registration, Request, RequestError},
};

/// The port that epmd listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 4369;

/// The largest body of a request.
pub const REQUEST_BYTES_MAX: usize = 3057;

/// The most characters of a name.
pub const NAME_CHARACTERS_MAX: usize = 255;

/// The most bytes of a registration's `extra`.
pub const EXTRA_BYTES_MAX: usize = 1020;

/// The version of the distribution protocol that nodes announce: both `highest` and `lowest` since OTP 23 or so.
pub const DISTRIBUTION_VERSION: u16 = 6;

/// The creation that stands in a refusal.
pub const REFUSED_CREATION: u32 = 99;
