//! Erlang terms, and the external term format that carries them.
//!
//! A [`Term`] is a plain tree. Decoding is iterative and bounded by [`Limits`]; whatever else walks a term (encoding,
//! printing, comparing, dropping) recurses, and is safe because no decoded term is deeper than [`DEPTH_CEILING`].
//!
//! Follows OTP's *External Term Format* guide.

mod atom;
mod build;
mod decode;
mod display;
mod encode;
mod fun;
mod identifier;
mod inflate;
mod integer;
mod limits;
mod macros;
mod order;
pub(crate) mod tag;
#[cfg(test)]
pub(crate) mod tests;

use bytes::Bytes;

pub(crate) use self::encode::{NEW_PORT_ID_MAX, encode_atom, encode_pid, encode_reference};
pub use self::{
    atom::{Atom, AtomTooLong},
    decode::{DecodeError, SHARED_BINARY_BYTES_MIN, decode, decode_external, decode_shared, decode_shared_at},
    encode::{bytes_within, encode, encode_external},
    fun::{ExportFun, Fun},
    identifier::{Pid, Port, Reference},
    integer::BigInteger,
    limits::{DEPTH_CEILING, Limits},
    macros::Literal,
};

/// The first byte of a term that stands on its own: the version of the format.
pub const VERSION: u8 = 131;

/// Any Erlang term.
///
/// Equality and order are exact: `1` is not `1.0`.
#[derive(Clone)]
pub enum Term {
    /// An integer that fits 64 bits.
    Integer(i64),
    /// An integer that does not.
    BigInteger(BigInteger),
    /// A finite float.
    Float(f64),
    /// An atom.
    Atom(Atom),
    /// A binary.
    Binary(Bytes),
    /// A bit string whose last byte is not whole.
    BitString {
        /// The bytes; of the last one only the upper `bits` bits count, and the rest are zero.
        bytes: Bytes,
        /// How many bits of the last byte count: 1 to 7.
        bits: u8,
    },
    /// A proper list; `[]` is an empty one. A string is a list of its characters.
    List(Vec<Term>),
    /// A list that ends in something else than `[]`. The elements are not empty and the tail is no list.
    ImproperList(Vec<Term>, Box<Term>),
    /// A tuple.
    Tuple(Vec<Term>),
    /// A map, its entries in the order of their keys, no key twice: as decoding and [`Term::map`] make them. Were it not
    /// so, two maps could only be compared by sorting both, at every level of keys that are maps themselves, and the
    /// time for that grows with the square of what a peer sends.
    Map(Vec<(Term, Term)>),
    /// A process identifier.
    Pid(Pid),
    /// A port identifier.
    Port(Port),
    /// A reference.
    Reference(Reference),
    /// A closure.
    Fun(Box<Fun>),
    /// `fun Module:Function/Arity`.
    ExportFun(ExportFun),
}
