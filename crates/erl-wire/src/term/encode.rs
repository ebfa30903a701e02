//! Terms to bytes, in the forms that OTP itself sends.

use bytes::{Bytes, BytesMut};

use super::{Atom, BigInteger, Fun, Pid, Port, Reference, Term, VERSION, tag};
use crate::sink::Sink;

/// The largest port number that the older of the two current forms can carry.
pub(crate) const NEW_PORT_ID_MAX: u64 = (1 << 28) - 1;

/// Appends a term, without the version byte.
///
/// # Panics
/// When one container of the term has 2^32 elements or bytes, which no format can carry.
pub fn encode(term: &Term, out: &mut impl Sink) {
    match term {
        Term::Integer(value) => encode_integer(*value, out),
        Term::BigInteger(value) => encode_big(value, out),
        Term::Float(value) => {
            out.put_u8(tag::NEW_FLOAT);
            out.put_slice(&value.to_be_bytes());
        }
        Term::Atom(atom) => encode_atom(atom, out),
        Term::Binary(bytes) => {
            out.put_u8(tag::BINARY);
            put_count(bytes.len(), out);
            out.put_shared(bytes);
        }
        Term::BitString { bytes, bits } => {
            out.put_u8(tag::BIT_BINARY);
            put_count(bytes.len(), out);
            out.put_u8(*bits);
            out.put_shared(bytes);
        }
        Term::List(items) => encode_list(items, out),
        Term::ImproperList(items, tail) => {
            if !items.is_empty() {
                out.put_u8(tag::LIST);
                put_count(items.len(), out);
                items.iter().for_each(|item| encode(item, out));
            }
            encode(tail, out);
        }
        Term::Tuple(items) => {
            if let Ok(count) = u8::try_from(items.len()) {
                out.put_slice(&[tag::SMALL_TUPLE, count]);
            } else {
                out.put_u8(tag::LARGE_TUPLE);
                put_count(items.len(), out);
            }
            items.iter().for_each(|item| encode(item, out));
        }
        Term::Map(entries) => {
            out.put_u8(tag::MAP);
            put_count(entries.len(), out);
            for (key, value) in entries {
                encode(key, out);
                encode(value, out);
            }
        }
        Term::Pid(pid) => encode_pid(pid, out),
        Term::Port(port) => encode_port(port, out),
        Term::Reference(reference) => encode_reference(reference, out),
        Term::Fun(fun) => encode_fun(fun, out),
        Term::ExportFun(fun) => {
            out.put_u8(tag::EXPORT);
            encode_atom(&fun.module, out);
            encode_atom(&fun.function, out);
            out.put_slice(&[tag::SMALL_INTEGER, fun.arity]);
        }
    }
}

/// The term on its own, behind its version byte: what `term_to_binary/1` gives.
///
/// # Panics
/// As [`encode`].
#[must_use]
pub fn encode_external(term: &Term) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(VERSION);
    encode(term, &mut out);
    out.freeze()
}

/// How many bytes the encoded term takes at most, if that is no more than `bytes_max`. Looks no further than it has to.
#[must_use]
pub fn bytes_within(term: &Term, bytes_max: usize) -> Option<usize> {
    bytes_left(term, bytes_max).map(|left| bytes_max - left)
}

/// The longest head of a term: a tag, and a length or a number.
const HEAD_BYTES_MAX: usize = 11;

/// How many bytes are left of these behind the term.
fn bytes_left(term: &Term, bytes: usize) -> Option<usize> {
    let bytes = bytes.checked_sub(HEAD_BYTES_MAX)?;
    match term {
        Term::Integer(_) | Term::Float(_) => Some(bytes),
        Term::BigInteger(value) => bytes.checked_sub(value.magnitude().len()),
        Term::Atom(atom) => bytes.checked_sub(atom.as_str().len()),
        Term::Binary(binary) | Term::BitString { bytes: binary, .. } => bytes.checked_sub(binary.len()),
        Term::List(items) | Term::Tuple(items) => left_behind(items, bytes),
        Term::ImproperList(items, tail) => bytes_left(tail, left_behind(items, bytes)?),
        Term::Map(entries) => {
            entries.iter().try_fold(bytes, |bytes, (key, value)| bytes_left(value, bytes_left(key, bytes)?))
        }
        Term::Pid(Pid { node, .. }) | Term::Port(Port { node, .. }) => {
            bytes.checked_sub(IDENTIFIER_BYTES_MAX + node.as_str().len())
        }
        Term::Reference(reference) => {
            let words = 4 * reference.ids.len().min(Reference::IDS_MAX);
            bytes.checked_sub(IDENTIFIER_BYTES_MAX + words + reference.node.as_str().len())
        }
        Term::Fun(fun) => {
            let names = fun.module.as_str().len() + fun.creator.node.as_str().len();
            left_behind(&fun.free, bytes.checked_sub(FUN_BYTES_MAX + names)?)
        }
        Term::ExportFun(fun) => {
            bytes.checked_sub(2 * HEAD_BYTES_MAX + fun.module.as_str().len() + fun.function.as_str().len())
        }
    }
}

fn left_behind(items: &[Term], bytes: usize) -> Option<usize> {
    items.iter().try_fold(bytes, |bytes, item| bytes_left(item, bytes))
}

/// The head of the node's name, numbers and creation of an identifier, but for the words of a reference.
const IDENTIFIER_BYTES_MAX: usize = 15;
/// What a closure has beside its names and its free variables.
const FUN_BYTES_MAX: usize = 96;

fn put_count(count: usize, out: &mut impl Sink) {
    out.put_u32(u32::try_from(count).expect("fewer than 2^32 elements or bytes"));
}

fn encode_integer(value: i64, out: &mut impl Sink) {
    if let Ok(small) = u8::try_from(value) {
        out.put_slice(&[tag::SMALL_INTEGER, small]);
    } else if let Ok(word) = i32::try_from(value) {
        out.put_u8(tag::INTEGER);
        out.put_slice(&word.to_be_bytes());
    } else {
        let magnitude = value.unsigned_abs();
        let length = (64 - magnitude.leading_zeros()).div_ceil(8);
        out.put_u8(tag::SMALL_BIG);
        // At most eight.
        out.put_u8(length as u8);
        out.put_u8(value.is_negative().into());
        out.put_slice(&magnitude.to_le_bytes()[..length as usize]);
    }
}

fn encode_big(value: &BigInteger, out: &mut impl Sink) {
    let magnitude = value.magnitude();
    if let Ok(length) = u8::try_from(magnitude.len()) {
        out.put_slice(&[tag::SMALL_BIG, length]);
    } else {
        out.put_u8(tag::LARGE_BIG);
        put_count(magnitude.len(), out);
    }
    out.put_u8(value.is_negative().into());
    out.put_slice(magnitude);
}

pub(crate) fn encode_atom(atom: &Atom, out: &mut impl Sink) {
    let text = atom.as_str().as_bytes();
    if let Ok(length) = u8::try_from(text.len()) {
        out.put_slice(&[tag::SMALL_ATOM_UTF8, length]);
    } else {
        out.put_u8(tag::ATOM_UTF8);
        out.put_u16(u16::try_from(text.len()).expect("255 characters are at most 1,020 bytes"));
    }
    out.put_slice(text);
}

fn encode_list(items: &[Term], out: &mut impl Sink) {
    if items.is_empty() {
        out.put_u8(tag::NIL);
        return;
    }
    let byte = |item: &Term| item.as_i64().and_then(|value| u8::try_from(value).ok());
    if let Ok(length) = u16::try_from(items.len())
        && items.iter().all(|item| byte(item).is_some())
    {
        out.put_u8(tag::STRING);
        out.put_u16(length);
        items.iter().filter_map(byte).for_each(|byte| out.put_u8(byte));
        return;
    }
    out.put_u8(tag::LIST);
    put_count(items.len(), out);
    items.iter().for_each(|item| encode(item, out));
    out.put_u8(tag::NIL);
}

pub(crate) fn encode_pid(pid: &Pid, out: &mut impl Sink) {
    out.put_u8(tag::NEW_PID);
    encode_atom(&pid.node, out);
    out.put_u32(pid.id);
    out.put_u32(pid.serial);
    out.put_u32(pid.creation);
}

fn encode_port(port: &Port, out: &mut impl Sink) {
    match u32::try_from(port.id) {
        Ok(id) if port.id <= NEW_PORT_ID_MAX => {
            out.put_u8(tag::NEW_PORT);
            encode_atom(&port.node, out);
            out.put_u32(id);
        }
        Ok(_) | Err(_) => {
            out.put_u8(tag::V4_PORT);
            encode_atom(&port.node, out);
            out.put_u64(port.id);
        }
    }
    out.put_u32(port.creation);
}

pub(crate) fn encode_reference(reference: &Reference, out: &mut impl Sink) {
    let ids = &reference.ids[..reference.ids.len().min(Reference::IDS_MAX)];
    out.put_u8(tag::NEWER_REFERENCE);
    // At most five.
    out.put_u16(ids.len() as u16);
    encode_atom(&reference.node, out);
    out.put_u32(reference.creation);
    ids.iter().for_each(|id| out.put_u32(*id));
}

fn encode_fun(fun: &Fun, out: &mut impl Sink) {
    // Its size stands before it.
    let mut body = BytesMut::with_capacity(128);
    body.put_u8(fun.arity);
    body.put_slice(&fun.unique);
    body.put_u32(fun.index);
    put_count(fun.free.len(), &mut body);
    encode_atom(&fun.module, &mut body);
    encode_integer(fun.old_index, &mut body);
    encode_integer(fun.old_unique, &mut body);
    encode_pid(&fun.creator, &mut body);
    fun.free.iter().for_each(|item| encode(item, &mut body));
    out.put_u8(tag::NEW_FUN);
    put_count(4 + body.len(), out);
    out.put_shared(&body.freeze());
}
