//! Terms to values.

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};

use super::{
    DEPTH_MAX, carried,
    error::{ConversionError, Fault, Segment},
    identifier::{ATOM, TERM},
};
use crate::Term;

type Read<T> = Result<T, ConversionError>;

/// Reads one term; knows how deep it is.
#[derive(Clone, Copy)]
pub(super) struct Reader<'t> {
    term: &'t Term,
    depth: usize,
}

/// What a term is, for an error.
pub(super) fn found(term: &Term) -> String {
    match term {
        Term::Integer(_) | Term::BigInteger(_) => format!("the integer {}", shortened(term)),
        Term::Float(value) => format!("the float {value:?}"),
        Term::Atom(atom) => format!("the atom {atom}"),
        Term::Binary(_) => format!("the binary {}", shortened(term)),
        Term::BitString { .. } => "a bit string".to_owned(),
        Term::List(items) => format!("a list of {}", items.len()),
        Term::ImproperList(..) => "an improper list".to_owned(),
        Term::Tuple(items) => format!("a tuple of {}", items.len()),
        Term::Map(entries) => format!("a map of {}", entries.len()),
        Term::Pid(_) => "a pid".to_owned(),
        Term::Port(_) => "a port".to_owned(),
        Term::Reference(_) => "a reference".to_owned(),
        Term::Fun(_) | Term::ExportFun(_) => "a fun".to_owned(),
    }
}

/// A key as a path names it.
pub(super) fn key_text(key: &Term) -> String {
    key.as_atom().map_or_else(|| shortened(key), |atom| atom.as_str().to_owned())
}

fn shortened(term: &Term) -> String {
    const CHARACTERS_MAX: usize = 40;
    // What could be long is not even printed.
    if term.as_binary().is_some_and(|bytes| bytes.len() > 4 * CHARACTERS_MAX) {
        return "<<...>>".to_owned();
    }
    let text = term.to_string();
    if text.chars().count() <= CHARACTERS_MAX {
        return text;
    }
    text.chars().take(CHARACTERS_MAX).chain("...".chars()).collect()
}

impl<'t> Reader<'t> {
    pub(super) fn new(term: &'t Term) -> Self {
        Self { term, depth: 0 }
    }

    fn inner(self, term: &'t Term) -> Read<Self> {
        if self.depth == DEPTH_MAX {
            return Err(Fault::TooDeep(DEPTH_MAX).into());
        }
        Ok(Self { term, depth: self.depth + 1 })
    }

    fn mismatch(self, expected: &dyn serde::de::Expected) -> ConversionError {
        ConversionError::invalid_type(Unexpected::Other(&found(self.term)), expected)
    }

    fn is_absent(self) -> bool {
        self.term.is_atom("undefined") || self.term.is_atom("nil")
    }

    fn integer<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        if let Some(value) = self.term.as_i64() {
            return visitor.visit_i64(value);
        }
        let Term::BigInteger(value) = self.term else { return Err(self.mismatch(&visitor)) };
        if let Some(value) = value.as_u64() {
            visitor.visit_u64(value)
        } else if let Some(value) = value.as_i128() {
            visitor.visit_i128(value)
        } else if let Some(value) = value.as_u128() {
            visitor.visit_u128(value)
        } else {
            Err(self.mismatch(&visitor))
        }
    }

    fn text<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        if let Term::Atom(atom) = self.term {
            visitor.visit_borrowed_str(atom.as_str())
        } else if let Term::Binary(bytes) = self.term {
            match std::str::from_utf8(bytes) {
                Ok(text) => visitor.visit_borrowed_str(text),
                Err(_) => Err(self.mismatch(&visitor)),
            }
        } else {
            match self.term.as_text() {
                Some(text) => visitor.visit_string(text),
                None => Err(self.mismatch(&visitor)),
            }
        }
    }

    fn items<V: Visitor<'t>>(self, items: &'t [Term], visitor: V) -> Read<V::Value> {
        let mut access = Items { reader: self, items: items.iter(), index: 0 };
        let value = visitor.visit_seq(&mut access)?;
        let rest = access.items.len();
        if rest > 0 {
            let message = format_args!("expected {} elements, found {}", items.len() - rest, items.len());
            return Err(ConversionError::custom(message));
        }
        Ok(value)
    }

    /// The pairs of a map, or of a list of pairs.
    fn pairs(self) -> Option<Vec<(&'t Term, &'t Term)>> {
        if let Term::Map(entries) = self.term {
            return Some(entries.iter().map(|(key, value)| (key, value)).collect());
        }
        let pair = |item: &'t Term| if let Some([key, value]) = item.as_tuple() { Some((key, value)) } else { None };
        self.term.as_list()?.iter().map(pair).collect()
    }

    fn entries<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        match self.pairs() {
            Some(pairs) => visitor.visit_map(Entries { reader: self, pairs: pairs.into_iter(), value: None }),
            None => Err(self.mismatch(&visitor)),
        }
    }
}

macro_rules! read_as {
    ($read:ident: $($function:ident),*) => {$(
        fn $function<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
            self.$read(visitor)
        }
    )*};
}

impl<'t> Deserializer<'t> for Reader<'t> {
    type Error = ConversionError;

    read_as!(integer: deserialize_i8, deserialize_i16, deserialize_i32, deserialize_i64, deserialize_i128, deserialize_u8,
        deserialize_u16, deserialize_u32, deserialize_u64, deserialize_u128);
    read_as!(text: deserialize_str, deserialize_string, deserialize_identifier);
    read_as!(entries: deserialize_map);
    read_as!(deserialize_float: deserialize_f32, deserialize_f64);
    read_as!(deserialize_binary: deserialize_bytes, deserialize_byte_buf);

    fn deserialize_any<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        match self.term {
            Term::Integer(_) | Term::BigInteger(_) => self.integer(visitor),
            Term::Float(value) => visitor.visit_f64(*value),
            Term::Atom(_) if self.is_absent() => visitor.visit_unit(),
            Term::Atom(_) => match self.term.as_bool() {
                Some(value) => visitor.visit_bool(value),
                None => self.text(visitor),
            },
            Term::Binary(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => visitor.visit_borrowed_str(text),
                Err(_) => visitor.visit_borrowed_bytes(bytes),
            },
            Term::List(items) | Term::Tuple(items) => self.items(items, visitor),
            Term::Map(_) => self.entries(visitor),
            Term::BitString { .. }
            | Term::ImproperList(..)
            | Term::Pid(_)
            | Term::Port(_)
            | Term::Reference(_)
            | Term::Fun(_)
            | Term::ExportFun(_) => Err(self.mismatch(&visitor)),
        }
    }

    fn deserialize_bool<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        match self.term.as_bool() {
            Some(value) => visitor.visit_bool(value),
            None => Err(self.mismatch(&visitor)),
        }
    }

    fn deserialize_char<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        let character = self.term.as_i64().and_then(|value| char::from_u32(value.try_into().ok()?));
        match character {
            Some(character) => visitor.visit_char(character),
            None => self.text(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        if self.is_absent() {
            return visitor.visit_none();
        }
        visitor.visit_some(self.inner(self.term)?)
    }

    fn deserialize_unit<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        if self.term.is_atom("ok") || self.term.as_tuple().is_some_and(<[Term]>::is_empty) {
            return visitor.visit_unit();
        }
        Err(self.mismatch(&visitor))
    }

    fn deserialize_unit_struct<V: Visitor<'t>>(self, name: &'static str, visitor: V) -> Read<V::Value> {
        if self.term.is_atom(name) { visitor.visit_unit() } else { self.deserialize_unit(visitor) }
    }

    fn deserialize_newtype_struct<V: Visitor<'t>>(self, name: &'static str, visitor: V) -> Read<V::Value> {
        match name {
            // Seen through by our own types alone.
            TERM => visitor.visit_bytes(&carried(self.term)),
            ATOM => match self.term.as_atom() {
                Some(atom) => visitor.visit_borrowed_str(atom.as_str()),
                None => Err(self.mismatch(&visitor)),
            },
            _ => visitor.visit_newtype_struct(self.inner(self.term)?),
        }
    }

    fn deserialize_seq<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        match self.term {
            Term::List(items) | Term::Tuple(items) => self.items(items, visitor),
            Term::Binary(bytes) => visitor.visit_seq(serde::de::value::SeqDeserializer::new(bytes.iter().copied())),
            Term::Integer(_)
            | Term::BigInteger(_)
            | Term::Float(_)
            | Term::Atom(_)
            | Term::BitString { .. }
            | Term::ImproperList(..)
            | Term::Map(_)
            | Term::Pid(_)
            | Term::Port(_)
            | Term::Reference(_)
            | Term::Fun(_)
            | Term::ExportFun(_) => Err(self.mismatch(&visitor)),
        }
    }

    fn deserialize_tuple<V: Visitor<'t>>(self, _length: usize, visitor: V) -> Read<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'t>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Read<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_struct<V: Visitor<'t>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        match self.term.as_tuple() {
            Some([tag, items @ ..]) if tag.is_atom(name) && items.len() == fields.len() => self.items(items, visitor),
            _ => self.entries(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'t>>(
        self,
        name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        let (tag, data) = match self.term.as_tuple() {
            Some([tag, data @ ..]) => (tag, data),
            Some([]) => return Err(self.mismatch(&visitor)),
            None => (self.term, [].as_slice()),
        };
        if tag.as_atom().is_none() && tag.as_binary().is_none() {
            return Err(self.mismatch(&visitor));
        }
        visitor.visit_enum(Tagged { reader: self, is_result: name == "Result", tag, data })
    }

    fn deserialize_ignored_any<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        true
    }
}

impl<'t> Reader<'t> {
    fn deserialize_float<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        match self.term.as_f64() {
            Some(value) => visitor.visit_f64(value),
            None => self.integer(visitor),
        }
    }

    fn deserialize_binary<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        if let Some(bytes) = self.term.as_binary() {
            return visitor.visit_borrowed_bytes(bytes);
        }
        let byte = |item: &Term| u8::try_from(item.as_i64()?).ok();
        match self.term.as_list().and_then(|items| items.iter().map(byte).collect()) {
            Some(bytes) => visitor.visit_byte_buf(bytes),
            None => Err(self.mismatch(&visitor)),
        }
    }
}

/// The elements of a list or tuple.
struct Items<'t> {
    reader: Reader<'t>,
    items: std::slice::Iter<'t, Term>,
    index: usize,
}

impl<'t> SeqAccess<'t> for &mut Items<'t> {
    type Error = ConversionError;

    fn next_element_seed<S: DeserializeSeed<'t>>(&mut self, seed: S) -> Read<Option<S::Value>> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        let read = self.reader.inner(item).and_then(|reader| seed.deserialize(reader));
        read.map(Some).map_err(|error| error.at(Segment::Index(index)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The entries of a map.
struct Entries<'t> {
    reader: Reader<'t>,
    pairs: std::vec::IntoIter<(&'t Term, &'t Term)>,
    /// The one whose key was read last.
    value: Option<(&'t Term, &'t Term)>,
}

impl<'t> MapAccess<'t> for Entries<'t> {
    type Error = ConversionError;

    fn next_key_seed<S: DeserializeSeed<'t>>(&mut self, seed: S) -> Read<Option<S::Value>> {
        let Some(pair) = self.pairs.next() else { return Ok(None) };
        self.value = Some(pair);
        seed.deserialize(self.reader.inner(pair.0)?).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'t>>(&mut self, seed: S) -> Read<S::Value> {
        let Some((key, value)) = self.value.take() else {
            return Err(ConversionError::custom("a value was asked for before its key"));
        };
        let read = self.reader.inner(value).and_then(|reader| seed.deserialize(reader));
        read.map_err(|error| error.at(Segment::Key(key_text(key))))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.pairs.len())
    }
}

/// A variant and its data.
struct Tagged<'t> {
    reader: Reader<'t>,
    is_result: bool,
    tag: &'t Term,
    data: &'t [Term],
}

impl<'t> EnumAccess<'t> for Tagged<'t> {
    type Error = ConversionError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'t>>(self, seed: S) -> Read<(S::Value, Self)> {
        let tag = match self.tag.as_atom().map(crate::Atom::as_str) {
            Some("ok") if self.is_result => seed.deserialize("Ok".into_deserializer()),
            Some("error") if self.is_result => seed.deserialize("Err".into_deserializer()),
            _ => seed.deserialize(self.reader.inner(self.tag)?),
        };
        Ok((tag?, self))
    }
}

impl Tagged<'_> {
    fn located(&self, error: ConversionError) -> ConversionError {
        error.at(Segment::Variant(key_text(self.tag)))
    }
}

impl<'t> VariantAccess<'t> for Tagged<'t> {
    type Error = ConversionError;

    fn unit_variant(self) -> Read<()> {
        if self.data.is_empty() {
            return Ok(());
        }
        let message = format_args!("expected the atom {} alone, found {}", self.tag, found(self.reader.term));
        Err(ConversionError::custom(message))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'t>>(self, seed: S) -> Read<S::Value> {
        match self.data {
            [value] => {
                let read = self.reader.inner(value).and_then(|reader| seed.deserialize(reader));
                read.map_err(|error| self.located(error))
            }
            // An atom alone, for data that may be absent.
            [] => seed.deserialize(Absent).map_err(|error| self.located(error)),
            _ => {
                let message = format_args!("expected {{{}, Data}}, found {}", self.tag, found(self.reader.term));
                Err(ConversionError::custom(message))
            }
        }
    }

    fn tuple_variant<V: Visitor<'t>>(self, _length: usize, visitor: V) -> Read<V::Value> {
        self.reader.items(self.data, visitor).map_err(|error| self.located(error))
    }

    fn struct_variant<V: Visitor<'t>>(self, fields: &'static [&'static str], visitor: V) -> Read<V::Value> {
        let read = match self.data {
            [value] if fields.len() != 1 || self.reader.inner(value)?.pairs().is_some() => {
                self.reader.inner(value)?.entries(visitor)
            }
            data => self.reader.items(data, visitor),
        };
        read.map_err(|error| self.located(error))
    }
}

/// The data of a variant that has none: only what may be absent can be read from it.
struct Absent;

impl<'de> Deserializer<'de> for Absent {
    type Error = ConversionError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        Err(ConversionError::invalid_type(Unexpected::Other("nothing"), &visitor))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_none()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Read<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit_struct seq tuple
        tuple_struct map struct enum identifier
    }
}
