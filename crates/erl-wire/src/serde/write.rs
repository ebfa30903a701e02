//! Values to terms.

use serde::{
    Serialize, Serializer,
    ser::{
        SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple, SerializeTupleStruct,
        SerializeTupleVariant,
    },
};

use super::{
    DEPTH_MAX,
    error::{ConversionError, Fault, Segment},
    identifier::{ATOM, TERM},
};
use crate::{
    Term,
    term::{DEPTH_CEILING, Limits, decode_external},
};

type Written = Result<Term, ConversionError>;

/// Writes one value; knows how deep it is.
#[derive(Clone, Copy)]
pub(super) struct Writer {
    depth: usize,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self { depth: 0 }
    }

    /// For what is inside of the value.
    fn inner(self) -> Result<Self, ConversionError> {
        if self.depth == DEPTH_MAX {
            return Err(Fault::TooDeep(DEPTH_MAX).into());
        }
        Ok(Self { depth: self.depth + 1 })
    }

    fn items(self, tag: Option<&'static str>, length: usize) -> Result<Items, ConversionError> {
        // A length that the type only claims reserves little.
        let mut items = Vec::with_capacity(length.min(4096));
        items.extend(tag.map(atom).transpose()?);
        Ok(Items { writer: self.inner()?, tagged: tag, items })
    }

    fn entries(self, tag: Option<&'static str>) -> Result<Entries, ConversionError> {
        Ok(Entries { writer: self.inner()?, tagged: tag, entries: Vec::new(), key: None })
    }
}

fn atom(text: &str) -> Written {
    Term::atom_of(text).map_err(|error| Fault::NoTerm(error.to_string()).into())
}

fn float(value: f64) -> Written {
    if value.is_finite() { Ok(Term::Float(value)) } else { Err(Fault::NoTerm(format!("the float {value}")).into()) }
}

/// The name of a variant in Erlang. Only `Result` has names of its own there.
fn variant(name: &'static str, variant: &'static str) -> &'static str {
    match (name, variant) {
        ("Result", "Ok") => "ok",
        ("Result", "Err") => "error",
        _ => variant,
    }
}

macro_rules! write_as_term {
    ($($function:ident: $type:ty),*) => {$(
        fn $function(self, value: $type) -> Written {
            Ok(Term::from(value))
        }
    )*};
}

impl Serializer for Writer {
    type Ok = Term;
    type Error = ConversionError;
    type SerializeSeq = List;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Entries;
    type SerializeStruct = Entries;
    type SerializeStructVariant = Entries;

    write_as_term!(
        serialize_bool: bool, serialize_char: char, serialize_str: &str, serialize_i8: i8, serialize_i16: i16,
        serialize_i32: i32, serialize_i64: i64, serialize_i128: i128, serialize_u8: u8, serialize_u16: u16,
        serialize_u32: u32, serialize_u64: u64, serialize_u128: u128
    );

    fn serialize_f32(self, value: f32) -> Written {
        float(value.into())
    }

    fn serialize_f64(self, value: f64) -> Written {
        float(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Written {
        Ok(Term::binary(value))
    }

    fn serialize_none(self) -> Written {
        Ok(Term::atom("undefined"))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        value.serialize(self.inner()?)
    }

    fn serialize_unit(self) -> Written {
        Ok(Term::Tuple(Vec::new()))
    }

    fn serialize_unit_struct(self, name: &'static str) -> Written {
        atom(name)
    }

    fn serialize_unit_variant(self, name: &'static str, _index: u32, variant_name: &'static str) -> Written {
        atom(variant(name, variant_name))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Written {
        let inner = value.serialize(self.inner()?)?;
        match (name, &inner) {
            (ATOM, Term::Binary(bytes)) => atom(&String::from_utf8_lossy(bytes)),
            (TERM, Term::Binary(bytes)) => {
                let limits = Limits { depth_max: DEPTH_CEILING, elements_max: usize::MAX, bytes_max: usize::MAX };
                Ok(decode_external(bytes, &limits)?.0)
            }
            _ => Ok(inner),
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _index: u32,
        variant_name: &'static str,
        value: &T,
    ) -> Written {
        let tag = variant(name, variant_name);
        let inner = value.serialize(self.inner()?).map_err(|error| error.at(Segment::Variant(tag.to_owned())))?;
        // `Ok(())`: there is nothing that the tag could be put to.
        if inner.as_tuple().is_some_and(<[Term]>::is_empty) {
            return atom(tag);
        }
        Ok(Term::tuple([atom(tag)?, inner]))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<List, ConversionError> {
        Ok(List(self.items(None, length.unwrap_or(0))?))
    }

    fn serialize_tuple(self, length: usize) -> Result<Items, ConversionError> {
        self.items(None, length)
    }

    fn serialize_tuple_struct(self, _name: &'static str, length: usize) -> Result<Items, ConversionError> {
        self.items(None, length)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _index: u32,
        variant_name: &'static str,
        length: usize,
    ) -> Result<Items, ConversionError> {
        self.items(Some(variant(name, variant_name)), length + 1)
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<Entries, ConversionError> {
        self.entries(None)
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Entries, ConversionError> {
        self.entries(None)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _index: u32,
        variant_name: &'static str,
        _length: usize,
    ) -> Result<Entries, ConversionError> {
        self.entries(Some(variant(name, variant_name)))
    }

    // Addresses and times are texts, as Elixir's programs have them, and not their bytes.
    fn is_human_readable(&self) -> bool {
        true
    }
}

/// The elements of a tuple.
pub(super) struct Items {
    writer: Writer,
    tagged: Option<&'static str>,
    items: Vec<Term>,
}

impl Items {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ConversionError> {
        let index = self.items.len() - usize::from(self.tagged.is_some());
        let written = value.serialize(self.writer).map_err(|error| {
            let error = error.at(Segment::Index(index));
            if let Some(tag) = self.tagged { error.at(Segment::Variant(tag.to_owned())) } else { error }
        });
        self.items.push(written?);
        Ok(())
    }
}

/// The elements of a list.
pub(super) struct List(Items);

impl SerializeSeq for List {
    type Ok = Term;
    type Error = ConversionError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ConversionError> {
        self.0.push(value)
    }

    fn end(self) -> Written {
        Ok(Term::List(self.0.items))
    }
}

macro_rules! items {
    ($($trait:ident $function:ident),*) => {$(
        impl $trait for Items {
            type Ok = Term;
            type Error = ConversionError;

            fn $function<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ConversionError> {
                self.push(value)
            }

            fn end(self) -> Written {
                Ok(Term::Tuple(self.items))
            }
        }
    )*};
}

items!(SerializeTuple serialize_element, SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field);

/// The entries of a map.
pub(super) struct Entries {
    writer: Writer,
    tagged: Option<&'static str>,
    entries: Vec<(Term, Term)>,
    key: Option<Term>,
}

impl Entries {
    fn push<T: Serialize + ?Sized>(&mut self, key: Term, value: &T) -> Result<(), ConversionError> {
        match value.serialize(self.writer) {
            Ok(value) => self.entries.push((key, value)),
            Err(error) => {
                let error = error.at(Segment::Key(super::read::key_text(&key)));
                return Err(if let Some(tag) = self.tagged {
                    error.at(Segment::Variant(tag.to_owned()))
                } else {
                    error
                });
            }
        }
        Ok(())
    }

    fn finish(self) -> Written {
        let map = Term::map(self.entries);
        match self.tagged {
            Some(tag) => Ok(Term::tuple([atom(tag)?, map])),
            None => Ok(map),
        }
    }
}

impl SerializeMap for Entries {
    type Ok = Term;
    type Error = ConversionError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), ConversionError> {
        self.key = Some(key.serialize(self.writer)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ConversionError> {
        match self.key.take() {
            Some(key) => self.push(key, value),
            None => Err(Fault::Mismatch("a value without a key".to_owned()).into()),
        }
    }

    fn end(self) -> Written {
        self.finish()
    }
}

macro_rules! fields {
    ($($trait:ident),*) => {$(
        impl $trait for Entries {
            type Ok = Term;
            type Error = ConversionError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), ConversionError> {
                self.push(atom(name)?, value)
            }

            fn end(self) -> Written {
                self.finish()
            }
        }
    )*};
}

fields!(SerializeStruct, SerializeStructVariant);
