//! Short ways to make a term and to look into one.

use bytes::Bytes;

use super::{Atom, AtomTooLong, ExportFun, Pid, Port, Reference, Term};

impl Term {
    /// An atom of the program's own text.
    ///
    /// # Panics
    /// When the text has more than 255 bytes.
    #[must_use]
    pub const fn atom(text: &'static str) -> Self {
        Self::Atom(Atom::from_static(text))
    }

    /// An atom of any text.
    ///
    /// # Errors
    /// When it has more than 255 characters.
    pub fn atom_of(text: &str) -> Result<Self, AtomTooLong> {
        Atom::new(text).map(Self::Atom)
    }

    /// `true` or `false`.
    #[must_use]
    pub const fn boolean(value: bool) -> Self {
        Self::atom(if value { "true" } else { "false" })
    }

    /// A binary of a copy of these bytes.
    #[must_use]
    pub fn binary(bytes: impl AsRef<[u8]>) -> Self {
        Self::Binary(Bytes::copy_from_slice(bytes.as_ref()))
    }

    /// A tuple.
    #[must_use]
    pub fn tuple(items: impl IntoIterator<Item = Self>) -> Self {
        Self::Tuple(items.into_iter().collect())
    }

    /// A proper list.
    #[must_use]
    pub fn list(items: impl IntoIterator<Item = Self>) -> Self {
        Self::List(items.into_iter().collect())
    }

    /// `[Items | Tail]`. A tail that is a list is joined on, and no items leave the tail alone.
    #[must_use]
    pub fn list_with_tail(mut items: Vec<Self>, tail: Self) -> Self {
        if let Self::List(rest) = tail {
            items.extend(rest);
            Self::List(items)
        } else if items.is_empty() {
            tail
        } else if let Self::ImproperList(rest, tail) = tail {
            items.extend(rest);
            Self::ImproperList(items, tail)
        } else {
            Self::ImproperList(items, Box::new(tail))
        }
    }

    /// A map. Of entries with the same key, the last one stays.
    #[must_use]
    pub fn map(entries: impl IntoIterator<Item = (Self, Self)>) -> Self {
        let entries: std::collections::BTreeMap<_, _> = entries.into_iter().collect();
        Self::Map(entries.into_iter().collect())
    }

    /// A string as Erlang has it: a list of characters.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self::List(text.chars().map(|character| Self::Integer(i64::from(u32::from(character)))).collect())
    }

    /// The atom.
    #[must_use]
    pub fn as_atom(&self) -> Option<&Atom> {
        if let Self::Atom(atom) = self { Some(atom) } else { None }
    }

    /// Whether this is that atom.
    #[must_use]
    pub fn is_atom(&self, text: &str) -> bool {
        self.as_atom().is_some_and(|atom| atom.as_str() == text)
    }

    /// The elements of a tuple.
    #[must_use]
    pub fn as_tuple(&self) -> Option<&[Self]> {
        if let Self::Tuple(items) = self { Some(items) } else { None }
    }

    /// The elements of a proper list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }

    /// The entries of a map.
    #[must_use]
    pub fn as_map(&self) -> Option<&[(Self, Self)]> {
        if let Self::Map(entries) = self { Some(entries) } else { None }
    }

    /// The value of a map under this atom.
    #[must_use]
    pub fn map_get(&self, key: &str) -> Option<&Self> {
        self.as_map()?.iter().find(|(name, _)| name.is_atom(key)).map(|(_, value)| value)
    }

    /// The pid.
    #[must_use]
    pub fn as_pid(&self) -> Option<&Pid> {
        if let Self::Pid(pid) = self { Some(pid) } else { None }
    }

    /// The port.
    #[must_use]
    pub fn as_port(&self) -> Option<&Port> {
        if let Self::Port(port) = self { Some(port) } else { None }
    }

    /// The reference.
    #[must_use]
    pub fn as_reference(&self) -> Option<&Reference> {
        if let Self::Reference(reference) = self { Some(reference) } else { None }
    }

    /// The integer, when it fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        if let Self::Integer(value) = self { Some(*value) } else { None }
    }

    /// The integer, when it fits.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        if let Self::BigInteger(value) = self { value.as_u64() } else { self.as_i64()?.try_into().ok() }
    }

    /// The float.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        if let Self::Float(value) = self { Some(*value) } else { None }
    }

    /// `true` or `false`.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self.as_atom()?.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// The bytes of a binary.
    #[must_use]
    pub fn as_binary(&self) -> Option<&Bytes> {
        if let Self::Binary(bytes) = self { Some(bytes) } else { None }
    }

    /// The text of a binary (UTF-8) or of a list of characters; `[]` is the empty text.
    #[must_use]
    pub fn as_text(&self) -> Option<String> {
        if let Self::Binary(bytes) = self {
            return std::str::from_utf8(bytes).ok().map(str::to_owned);
        }
        let character = |item: &Self| char::from_u32(u32::try_from(item.as_i64()?).ok()?);
        self.as_list()?.iter().map(character).collect()
    }
}

macro_rules! from_integers {
    ($($integer:ty),*) => {$(
        impl From<$integer> for Term {
            fn from(value: $integer) -> Self {
                Self::Integer(value.into())
            }
        }
    )*};
}

from_integers!(i8, i16, i32, i64, u8, u16, u32);

impl From<bool> for Term {
    /// `true` or `false`.
    fn from(value: bool) -> Self {
        Self::boolean(value)
    }
}

impl From<char> for Term {
    /// The integer of the character, as `$c`.
    fn from(value: char) -> Self {
        Self::Integer(u32::from(value).into())
    }
}

impl From<&str> for Term {
    /// A binary of the text's UTF-8, as Elixir has it. The list of its characters is [`Term::string`].
    fn from(value: &str) -> Self {
        Self::binary(value)
    }
}

impl From<String> for Term {
    /// A binary of the text's UTF-8, as Elixir has it. The list of its characters is [`Term::string`].
    fn from(value: String) -> Self {
        Self::Binary(value.into())
    }
}

impl From<Vec<Self>> for Term {
    /// A list.
    fn from(value: Vec<Self>) -> Self {
        Self::List(value)
    }
}

macro_rules! from_references {
    ($($identifier:ty),*) => {$(
        impl From<&$identifier> for Term {
            fn from(value: &$identifier) -> Self {
                value.clone().into()
            }
        }
    )*};
}

from_references!(Atom, Bytes, Pid, Port, Reference, Term);

impl From<f64> for Term {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<Atom> for Term {
    fn from(value: Atom) -> Self {
        Self::Atom(value)
    }
}

impl From<Bytes> for Term {
    fn from(value: Bytes) -> Self {
        Self::Binary(value)
    }
}

impl From<Pid> for Term {
    fn from(value: Pid) -> Self {
        Self::Pid(value)
    }
}

impl From<Port> for Term {
    fn from(value: Port) -> Self {
        Self::Port(value)
    }
}

impl From<Reference> for Term {
    fn from(value: Reference) -> Self {
        Self::Reference(value)
    }
}

impl From<ExportFun> for Term {
    fn from(value: ExportFun) -> Self {
        Self::ExportFun(value)
    }
}
