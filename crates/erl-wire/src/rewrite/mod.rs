//! The relay path: messages are routed and rewritten as bytes; no term is built.
//!
//! - [`Envelope`] and [`Route`] read a frame as far as its control message, which must be in the first fragment whole:
//!   what it is for, who sends it, who gets it.
//! - A [`Rewriter`] takes terms in pieces, cut anywhere, and appends them to a buffer with each pid, port and reference
//!   kept or replaced as a [`Translate`] says. What needs no change is copied in runs. Atoms are not touched, also those
//!   that are names of nodes; nor are identifiers inside binaries, which nobody can know of.
//!
//! Terms tell no length, only counts of elements, so that an identifier can be replaced by a longer or a shorter one
//! with nothing else to mend, and so that one number, how many terms are still to come, is all the state that nesting
//! needs. The one exception is a closure, which begins with its size in bytes: one that is cut by the end of a piece is
//! held until all of it is there, within [`RewriteLimits::fun_bytes_max`].
//!
//! **What is checked**: each tag, count and size, the texts of atoms, floats, the words of references, the sizes of
//! closures. What is written is read by a node if what came in would be; the exceptions are a map that has a key
//! twice, which only a decoder can find, and two keys that a translation makes equal.
//!
//! Follows OTP's *External Term Format* and *Distribution Protocol* guides, as [`crate::term`](mod@crate::term) and [`crate::control`].

mod error;
mod identifier;
mod rewriter;
mod route;
mod scan;
mod short;
mod table;
#[cfg(test)]
mod tests;
mod token;
mod translate;
mod tree;

pub use self::{
    error::{RewriteError, RewriteFault},
    identifier::{AtomView, PidView, PortView, ReferenceIds, ReferenceView},
    rewriter::{RewriteLimits, Rewriter},
    route::{Endpoint, Envelope, Route, RouteError},
    translate::{Keep, Translate},
    tree::translate_term,
};
