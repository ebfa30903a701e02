//! The bytes of Erlang distribution: terms, epmd, handshake, control messages, fragments.
//!
//! Pure: no clock, socket, thread, async or random number. Bytes come in, values and bytes go out, and whatever a peer
//! claims is checked against a limit before it is believed. Nothing here panics on input.
//!
//! - [`term`](mod@term): terms and the external term format, both ways; [`term!`] writes one down.
//! - [`serde`](mod@serde): terms to types of Rust, and back.
//! - [`epmd`]: the requests and replies of the port mapper, both ways.
//! - [`handshake`]: version 6 of the distribution handshake, one machine a side.
//! - [`control`]: the control messages, from and to terms.
//! - [`frame`]: what follows the handshake: ticks, messages, fragments.
//! - [`rewrite`]: messages routed and their identifiers replaced, without building terms.
//!
//! The source of the formats is OTP's *Distribution Protocol* and *External Term Format* guides, corrected by what
//! OTP 25 to 29 do.

pub mod control;
pub mod epmd;
pub mod frame;
pub mod handshake;
pub mod rewrite;
pub mod serde;
pub mod sink;
pub mod term;

pub use control::Control;
pub use frame::{Frame, Message, Payload};
pub use term::{Atom, BigInteger, ExportFun, Fun, Pid, Port, Reference, Term};
