//! Terms, atoms, pids, ports and references as parts of other values.
//!
//! serde has no word for these, so each goes through it as a newtype of a name that [`super::write`] and [`super::read`]
//! know: an atom holds its text, anything else the bytes of its external format. Other formats see that content.

use std::fmt::{self, Formatter};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, SeqAccess, Visitor},
};

use super::carried;
use crate::{
    Atom, Pid, Port, Reference, Term,
    term::{DEPTH_CEILING, Limits, decode_external},
};

/// The newtype that holds the external format of any term.
pub(super) const TERM: &str = "$metacluster::Term";
/// The newtype that holds the text of an atom.
pub(super) const ATOM: &str = "$metacluster::Atom";

/// What this process itself encoded, or what a caller bounded before.
const OWN: Limits = Limits { depth_max: DEPTH_CEILING, elements_max: usize::MAX, bytes_max: usize::MAX };

/// Bytes that are written as such.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl Serialize for Term {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(TERM, &Raw(&carried(self)))
    }
}

impl<'de> Deserialize<'de> for Term {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(TERM, Carried)
    }
}

/// Reads what [`Raw`] wrote.
struct Carried;

impl<'de> Visitor<'de> for Carried {
    type Value = Term;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("an Erlang term")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Term, D::Error> {
        deserializer.deserialize_bytes(self)
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Term, E> {
        decode_external(bytes, &OWN).map(|(term, _)| term).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Term, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = items.next_element::<u8>()? {
            bytes.push(byte);
        }
        self.visit_bytes(&bytes)
    }
}

impl Serialize for Atom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(ATOM, self.as_str())
    }
}

impl<'de> Deserialize<'de> for Atom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(ATOM, Name)
    }
}

/// Reads the text of an atom.
struct Name;

impl<'de> Visitor<'de> for Name {
    type Value = Atom;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("an atom")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Atom, D::Error> {
        deserializer.deserialize_str(self)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Atom, E> {
        Atom::new(text).map_err(E::custom)
    }
}

macro_rules! identifiers {
    ($($identifier:ident: $what:literal),*) => {$(
        impl Serialize for $identifier {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                Term::from(self).serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $identifier {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let term = Term::deserialize(deserializer)?;
                if let Term::$identifier(identifier) = term {
                    Ok(identifier)
                } else {
                    Err(D::Error::custom(format_args!(concat!("expected ", $what, ", found {}"), super::read::found(&term))))
                }
            }
        }
    )*};
}

identifiers!(Pid: "a pid", Port: "a port", Reference: "a reference");
