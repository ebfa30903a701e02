//! Types of Rust to terms and back, with serde.
//!
//! | Rust | written as | also read from |
//! |---|---|---|
//! | a struct | a map with atom keys | a map with binary keys, a list of pairs, a record of the struct's name |
//! | a variant without data | an atom | a binary |
//! | a variant with data | `{Variant, Data}`, `{Variant, A, B}`, `{Variant, #{…}}` | the atom alone, when the data may be absent |
//! | `Result` | `{ok, Value}` or `{error, Reason}`; `ok` for `Ok(())` | |
//! | `Option` | the value, or `undefined` | `nil` |
//! | `()` | `{}` | `ok` |
//! | a tuple, a tuple struct, an array of fixed length (serde takes it for a tuple) | a tuple | a list |
//! | a `Vec`, a slice, any other sequence | a list | a tuple; a binary, byte by byte |
//! | a map | a map | a list of pairs |
//! | `String`, `&str` | a binary | an atom, a list of characters (`String` alone) |
//! | `bool` | `true` or `false` | |
//! | `char` | an integer, as `$c` | a text of one character |
//! | integers up to 128 bits | an integer | |
//! | `f32`, `f64` | a float | an integer |
//! | `serde_bytes`, `Bytes` and the like | a binary | a list of bytes |
//! | [`Term`], [`Atom`](crate::Atom), [`Pid`](crate::Pid), [`Port`](crate::Port), [`Reference`](crate::Reference) | itself | |
//!
//! Variants and fields have their names in Rust: `#[serde(rename_all = "snake_case")]` makes Erlang's of them. An
//! `Option` of an `Option` cannot be told from one, and what is `Some` of a thing that is written as `undefined` is read
//! as `None`. With another format, such as JSON, a pid, port, reference or term is the bytes of its external format.
//!
//! Values come from peers: nothing here recurses deeper than [`DEPTH_MAX`], whatever the type.

mod error;
mod identifier;
mod read;
mod write;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use self::error::{ConversionError, Fault};
use crate::{
    Term,
    term::{Limits, decode_external, encode_external},
};

/// How deep a value may nest. A term that is deeper can be had as a [`Term`].
pub const DEPTH_MAX: usize = 128;

/// The term of a value.
///
/// # Errors
/// When there is no term for it: a float that is not finite, an atom of more than 255 characters, a value that nests too
/// deep, or a fault that the type itself reports.
///
/// ```
/// use metacluster_erl_wire::{serde::to_term, term};
///
/// #[derive(serde::Serialize)]
/// struct Order {
///     id: u64,
///     items: Vec<String>,
///     state: State,
/// }
///
/// #[derive(serde::Serialize)]
/// #[serde(rename_all = "snake_case")]
/// enum State {
///     Open,
///     SentBy(String),
/// }
///
/// let order = Order { id: 7, items: vec!["tea".into()], state: State::SentBy("bike".into()) };
/// assert_eq!(to_term(&order)?, term!(#{id => 7, items => ["tea"], state => {sent_by, "bike"}}));
/// assert_eq!(to_term(&State::Open)?, term!(open));
/// # Ok::<(), metacluster_erl_wire::serde::ConversionError>(())
/// ```
pub fn to_term<T: Serialize + ?Sized>(value: &T) -> Result<Term, ConversionError> {
    value.serialize(write::Writer::new())
}

/// The value that a term holds. Texts and bytes can be borrowed from the term.
///
/// # Errors
/// When the term does not fit the type; the error says where, and what was expected there.
///
/// ```
/// use metacluster_erl_wire::{serde::from_term, term};
///
/// #[derive(Debug, PartialEq, serde::Deserialize)]
/// struct Member {
///     name: String,
///     port: Option<u16>,
/// }
///
/// let members = term!([#{name => "a", port => 4369}, #{name => b}]);
/// let members: Vec<Member> = from_term(&members)?;
/// assert_eq!(members[1], Member { name: "b".into(), port: None });
///
/// let error = from_term::<Vec<Member>>(&term!([#{name => "a", port => x}])).unwrap_err();
/// assert_eq!(error.to_string(), "[0].port: expected u16, found the atom x");
/// # Ok::<(), metacluster_erl_wire::serde::ConversionError>(())
/// ```
pub fn from_term<'t, T: Deserialize<'t>>(term: &'t Term) -> Result<T, ConversionError> {
    T::deserialize(read::Reader::new(term))
}

/// The external format of a value, with its version byte: what `binary_to_term/1` reads.
///
/// # Errors
/// As [`to_term`].
///
/// ```
/// use metacluster_erl_wire::serde::{from_slice, to_vec};
///
/// let bytes = to_vec(&("hello", 1, [2.5]))?;
/// assert_eq!(from_slice::<(String, u8, Vec<f64>)>(&bytes)?, ("hello".to_owned(), 1, vec![2.5]));
/// # Ok::<(), metacluster_erl_wire::serde::ConversionError>(())
/// ```
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, ConversionError> {
    Ok(encode_external(&to_term(value)?).into())
}

/// The value that bytes of the external format hold: what `term_to_binary/1,2` makes. The [`Limits`] are the default ones.
///
/// # Errors
/// When the bytes are no term, go on behind it, or hold one that does not fit the type.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ConversionError> {
    let (term, taken) = decode_external(bytes, &Limits::default())?;
    if taken < bytes.len() {
        return Err(crate::term::DecodeError::Trailing(bytes.len() - taken).into());
    }
    from_term(&term)
}

/// Any term within a value, in the form that passes through serde: its external format, under a name that only this
/// module knows.
fn carried(term: &Term) -> Bytes {
    encode_external(term)
}
