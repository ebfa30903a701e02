//! Bytes to terms, from peers that may lie.
//!
//! Iterative, so that no nesting can exhaust the stack. A count is believed only when the bytes that are left could
//! hold that many elements *beside all those that the containers around it still await*; without the second half, a
//! short input of nested lists could reserve its own length at every level.

use bytes::Bytes;

use super::{Atom, DEPTH_CEILING, ExportFun, Fun, Limits, Pid, Port, Reference, Term, VERSION, inflate, tag};

/// Why bytes are no term. All but [`DecodeError::TooDeep`], [`DecodeError::TooManyElements`] and
/// [`DecodeError::TooLong`] blame the sender; those three say that the term is more than the caller allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end before the term does, or a count says more than they could hold.
    #[error("the term is cut short")]
    Truncated,
    /// The first byte is not 131.
    #[error("not the external term format: it starts with {0}, not 131")]
    Version(u8),
    /// A tag that no version of OTP sends to a peer with our flags. Terms tell no length, so the rest is lost.
    #[error("unknown tag {0}")]
    UnknownTag(u8),
    /// A name that is not UTF-8, or longer than 255 characters.
    #[error("an atom that is not UTF-8 or has more than 255 characters")]
    BadAtom,
    /// A number that is not finite, or whose text is no number.
    #[error("a float that is not a finite number")]
    BadFloat,
    /// A reference without words or with more than five, a bit string with an impossible count of bits, a closure
    /// whose size is not what it says, and so on.
    #[error("a malformed {0}")]
    Malformed(&'static str),
    /// The same key twice in one map.
    #[error("a map that has the same key twice")]
    DuplicateKey,
    /// A compressed term that does not inflate to the size that it says.
    #[error("a compressed term that does not inflate to the size that it claims")]
    Inflate,
    /// Bytes behind the term, where there must be none.
    #[error("{0} bytes behind the term")]
    Trailing(usize),
    /// Deeper than the limit.
    #[error("the term is nested deeper than {0}")]
    TooDeep(usize),
    /// More elements than the limit.
    #[error("the term has more than {0} elements")]
    TooManyElements(usize),
    /// More bytes than the limit.
    #[error("the term takes more than {0} bytes")]
    TooLong(usize),
}

/// Reads one term without version byte from the start of `input`, and says how many bytes it took.
///
/// # Errors
/// When the bytes are no term, or one beyond the limits.
pub fn decode(input: &[u8], limits: &Limits) -> Result<(Term, usize), DecodeError> {
    read(input, None, limits)
}

/// As [`decode`], but a large binary of the term, of [`SHARED_BINARY_BYTES_MIN`] or more, shares the input and keeps it
/// alive.
///
/// # Errors
/// As [`decode`].
pub fn decode_shared(input: &Bytes, limits: &Limits) -> Result<(Term, usize), DecodeError> {
    read(input, Some(input), limits)
}

/// As [`decode_shared`], from this place of the input on.
///
/// # Errors
/// As [`decode`].
pub fn decode_shared_at(input: &Bytes, start: usize, limits: &Limits) -> Result<(Term, usize), DecodeError> {
    read(input.get(start..).ok_or(DecodeError::Truncated)?, Some(input), limits)
}

/// From this size on a binary of a term is shared with the bytes that it is read from. A smaller one is copied: it would
/// keep alive many times its own size.
pub const SHARED_BINARY_BYTES_MIN: usize = 16 << 10;

fn read(input: &[u8], shared: Option<&Bytes>, limits: &Limits) -> Result<(Term, usize), DecodeError> {
    // What is beyond the limit is not even looked at.
    let window = input.get(..limits.bytes_max).unwrap_or(input);
    let mut reader = Reader { rest: window, shared };
    match Walk::new(limits).run(&mut reader) {
        Ok(term) => Ok((term, window.len() - reader.rest.len())),
        Err(DecodeError::Truncated) if window.len() < input.len() => Err(DecodeError::TooLong(limits.bytes_max)),
        Err(error) => Err(error),
    }
}

/// Reads one term with its version byte, compressed or not, and says how many bytes it took: `binary_to_term/2` with
/// `used`.
///
/// # Errors
/// When the bytes are no term, or one beyond the limits.
pub fn decode_external(input: &[u8], limits: &Limits) -> Result<(Term, usize), DecodeError> {
    let (&version, rest) = input.split_first().ok_or(DecodeError::Truncated)?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    if rest.first() != Some(&tag::COMPRESSED) {
        return decode(rest, limits).map(|(term, taken)| (term, taken + 1));
    }
    let mut reader = Reader { rest: &rest[1..], shared: None };
    let size = reader.count()?;
    if size > limits.bytes_max {
        return Err(DecodeError::TooLong(limits.bytes_max));
    }
    let (inflated, taken) = inflate::inflate(reader.rest, size)?;
    let (term, used) = decode(&inflated, limits)?;
    match inflated.len() - used {
        0 => Ok((term, 6 + taken)),
        trailing => Err(DecodeError::Trailing(trailing)),
    }
}

/// A container whose elements are still coming.
struct Open {
    kind: Kind,
    items: Vec<Term>,
    /// How many terms more it takes; a list takes its tail as one more, a map takes keys and values.
    left: usize,
}

enum Kind {
    List,
    Tuple,
    Map,
    Fun { header: Box<Fun>, end: usize },
}

struct Walk {
    limits: Limits,
    open: Vec<Open>,
    /// Elements seen and announced, against `elements_max`.
    elements: usize,
    /// The sum of `left` over all open containers: each takes one byte at least.
    awaited: usize,
}

impl Walk {
    fn new(limits: &Limits) -> Self {
        let limits = Limits { depth_max: limits.depth_max.min(DEPTH_CEILING), ..*limits };
        Self { limits, open: Vec::new(), elements: 0, awaited: 0 }
    }

    fn run(&mut self, reader: &mut Reader<'_>) -> Result<Term, DecodeError> {
        loop {
            // What is read is either a whole term or the start of a container, which is then the innermost.
            let Some(mut done) = self.read(reader)? else { continue };
            loop {
                let Some(top) = self.open.last_mut() else { return Ok(done) };
                top.items.push(done);
                top.left -= 1;
                self.awaited -= 1;
                if top.left > 0 {
                    break;
                }
                let Some(top) = self.open.pop() else { return Err(DecodeError::Truncated) };
                done = close(top, reader)?;
            }
        }
    }

    fn read(&mut self, reader: &mut Reader<'_>) -> Result<Option<Term>, DecodeError> {
        let tag = reader.u8()?;
        match tag {
            tag::LIST => {
                let count = reader.count()?;
                // The tail is one term more. An empty list of this form is its tail alone, which OTP reads as well.
                self.start(Kind::List, count + 1, reader)
            }
            tag::SMALL_TUPLE | tag::LARGE_TUPLE => {
                let count = if tag == tag::SMALL_TUPLE { reader.u8()?.into() } else { reader.count()? };
                if count == 0 {
                    return Ok(Some(Term::Tuple(Vec::new())));
                }
                self.start(Kind::Tuple, count, reader)
            }
            tag::MAP => {
                let count = reader.count()?;
                if count == 0 {
                    return Ok(Some(Term::Map(Vec::new())));
                }
                self.start(Kind::Map, count.saturating_mul(2), reader)
            }
            tag::NEW_FUN => {
                let (header, free, end) = reader.fun()?;
                if free == 0 {
                    return close(Open { kind: Kind::Fun { header, end }, items: Vec::new(), left: 0 }, reader)
                        .map(Some);
                }
                self.start(Kind::Fun { header, end }, free, reader)
            }
            tag::STRING => {
                let length = reader.u16()?.into();
                let text = reader.take(length)?;
                self.count_elements(length)?;
                Ok(Some(Term::List(text.iter().map(|byte| Term::Integer((*byte).into())).collect())))
            }
            tag => reader.leaf(tag).map(Some),
        }
    }

    fn start(&mut self, kind: Kind, left: usize, reader: &Reader<'_>) -> Result<Option<Term>, DecodeError> {
        if self.open.len() >= self.limits.depth_max {
            return Err(DecodeError::TooDeep(self.limits.depth_max));
        }
        // Each awaited element takes a byte, also those of the containers around this one. One element of each of those
        // is under way: its first byte is read already.
        let awaited = self.awaited - self.open.len();
        if left > reader.rest.len().saturating_sub(awaited) {
            return Err(DecodeError::Truncated);
        }
        self.count_elements(left)?;
        self.awaited += left;
        self.open.push(Open { kind, items: Vec::with_capacity(left), left });
        Ok(None)
    }

    fn count_elements(&mut self, count: usize) -> Result<(), DecodeError> {
        self.elements = self.elements.saturating_add(count);
        if self.elements > self.limits.elements_max {
            return Err(DecodeError::TooManyElements(self.limits.elements_max));
        }
        Ok(())
    }
}

fn close(open: Open, reader: &Reader<'_>) -> Result<Term, DecodeError> {
    let Open { kind, mut items, .. } = open;
    match kind {
        Kind::List => {
            let tail = items.pop().ok_or(DecodeError::Malformed("list"))?;
            Ok(Term::list_with_tail(items, tail))
        }
        Kind::Tuple => Ok(Term::Tuple(items)),
        Kind::Map => {
            let mut items = items.into_iter();
            let mut entries = Vec::with_capacity(items.len() / 2);
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                entries.push((key, value));
            }
            in_order(entries).map(Term::Map)
        }
        Kind::Fun { mut header, end } => {
            // The size of a closure spans all of it, free variables included.
            if reader.rest.len() != end {
                return Err(DecodeError::Malformed("fun"));
            }
            header.free = items;
            Ok(Term::Fun(header))
        }
    }
}

/// Entries as a map has them. Nodes send them in any order, small maps mostly in this one.
fn in_order(mut entries: Vec<(Term, Term)>) -> Result<Vec<(Term, Term)>, DecodeError> {
    if entries.is_sorted_by(|a, b| a.0 < b.0) {
        return Ok(entries);
    }
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    if entries.is_sorted_by(|a, b| a.0 < b.0) { Ok(entries) } else { Err(DecodeError::DuplicateKey) }
}

struct Reader<'a> {
    rest: &'a [u8],
    /// What `rest` is a part of, if it may be shared.
    shared: Option<&'a Bytes>,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn binary(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        let taken = self.take(length)?;
        Ok(match self.shared {
            Some(all) if length >= SHARED_BINARY_BYTES_MIN => all.slice_ref(taken),
            Some(_) | None => Bytes::copy_from_slice(taken),
        })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    fn count(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(self.u32()?).map_err(|_| DecodeError::Truncated)
    }

    /// A term that holds no others.
    fn leaf(&mut self, tag: u8) -> Result<Term, DecodeError> {
        match tag {
            tag::SMALL_INTEGER => Ok(Term::Integer(self.u8()?.into())),
            tag::INTEGER => Ok(Term::Integer(i32::from_be_bytes(self.array()?).into())),
            tag::SMALL_BIG | tag::LARGE_BIG => {
                let length = if tag == tag::SMALL_BIG { self.u8()?.into() } else { self.count()? };
                let negative = self.u8()? != 0;
                Ok(Term::from_magnitude(negative, self.take(length)?))
            }
            tag::NEW_FLOAT => finite(f64::from_be_bytes(self.array()?)),
            tag::FLOAT => {
                let text = self.take(31)?.split(|byte| *byte == 0).next().unwrap_or_default();
                let text = std::str::from_utf8(text).map_err(|_| DecodeError::BadFloat)?;
                finite(text.trim_start_matches(' ').parse().map_err(|_| DecodeError::BadFloat)?)
            }
            tag::NIL => Ok(Term::List(Vec::new())),
            tag::BINARY => {
                let length = self.count()?;
                Ok(Term::Binary(self.binary(length)?))
            }
            tag::BIT_BINARY => self.bits(),
            tag::NEW_PID | tag::PID => self.pid(tag).map(Term::Pid),
            tag::NEW_PORT | tag::V4_PORT | tag::PORT => self.port(tag).map(Term::Port),
            tag::NEWER_REFERENCE | tag::NEW_REFERENCE | tag::REFERENCE => self.reference(tag).map(Term::Reference),
            tag::EXPORT => {
                let (module, function) = (self.atom()?, self.atom()?);
                match self.array()? {
                    [tag::SMALL_INTEGER, arity] => Ok(ExportFun { module, function, arity }.into()),
                    _ => Err(DecodeError::Malformed("export")),
                }
            }
            tag => self.atom_of(tag).map(Term::Atom),
        }
    }

    fn bits(&mut self) -> Result<Term, DecodeError> {
        let length = self.count()?;
        let bits = self.u8()?;
        let bytes = self.take(length)?;
        match bits {
            0 if length == 0 => Ok(Term::Binary(Bytes::new())),
            8 if length > 0 => Ok(Term::Binary(Bytes::copy_from_slice(bytes))),
            1..=7 if length > 0 => {
                let mut bytes = bytes.to_vec();
                if let Some(last) = bytes.last_mut() {
                    // What lies behind the end is noise, and must not make equal terms differ.
                    *last &= 0xff << (8 - bits);
                }
                Ok(Term::BitString { bytes: bytes.into(), bits })
            }
            _ => Err(DecodeError::Malformed("bit string")),
        }
    }

    fn atom(&mut self) -> Result<Atom, DecodeError> {
        let tag = self.u8()?;
        self.atom_of(tag)
    }

    fn atom_of(&mut self, tag: u8) -> Result<Atom, DecodeError> {
        let length = match tag {
            tag::SMALL_ATOM_UTF8 | tag::SMALL_ATOM => self.u8()?.into(),
            tag::ATOM_UTF8 | tag::ATOM => self.u16()?.into(),
            tag => return Err(DecodeError::UnknownTag(tag)),
        };
        let text = self.take(length)?;
        match tag {
            tag::SMALL_ATOM | tag::ATOM if length > 255 => Err(DecodeError::BadAtom),
            tag::SMALL_ATOM | tag::ATOM => {
                let text: String = text.iter().map(|byte| char::from(*byte)).collect();
                Atom::new(&text).map_err(|_| DecodeError::BadAtom)
            }
            _ => {
                let text = std::str::from_utf8(text).map_err(|_| DecodeError::BadAtom)?;
                Atom::new(text).map_err(|_| DecodeError::BadAtom)
            }
        }
    }

    /// The older of two forms has a creation of one byte.
    fn creation(&mut self, old: bool) -> Result<u32, DecodeError> {
        if old { self.u8().map(u32::from) } else { self.u32() }
    }

    fn pid(&mut self, tag: u8) -> Result<Pid, DecodeError> {
        let node = self.atom()?;
        Ok(Pid { node, id: self.u32()?, serial: self.u32()?, creation: self.creation(tag == tag::PID)? })
    }

    fn port(&mut self, tag: u8) -> Result<Port, DecodeError> {
        let node = self.atom()?;
        let id = if tag == tag::V4_PORT { u64::from_be_bytes(self.array()?) } else { self.u32()?.into() };
        Ok(Port { node, id, creation: self.creation(tag == tag::PORT)? })
    }

    fn reference(&mut self, tag: u8) -> Result<Reference, DecodeError> {
        if tag == tag::REFERENCE {
            let node = self.atom()?;
            let ids = vec![self.u32()?];
            return Ok(Reference { node, ids, creation: self.creation(true)? });
        }
        let count = usize::from(self.u16()?);
        if !(1..=Reference::IDS_MAX).contains(&count) {
            return Err(DecodeError::Malformed("reference"));
        }
        let node = self.atom()?;
        let creation = self.creation(tag == tag::NEW_REFERENCE)?;
        let ids = (0..count).map(|_| self.u32()).collect::<Result<_, _>>()?;
        Ok(Reference { node, creation, ids })
    }

    /// All of a closure but its free variables: the header, how many of them follow, and how many bytes will be left
    /// behind them.
    fn fun(&mut self) -> Result<(Box<Fun>, usize, usize), DecodeError> {
        let size = self.rest.len();
        let length = self.count()?;
        let end = size.checked_sub(length).ok_or(DecodeError::Truncated)?;
        let (arity, unique, index) = (self.u8()?, self.array()?, self.u32()?);
        let free = self.count()?;
        let module = self.atom()?;
        let (old_index, old_unique) = (self.integer()?, self.integer()?);
        let creator = match self.u8()? {
            tag @ (tag::NEW_PID | tag::PID) => self.pid(tag)?,
            _ => return Err(DecodeError::Malformed("fun")),
        };
        let header = Fun { arity, unique, index, module, old_index, old_unique, creator, free: Vec::new() };
        Ok((Box::new(header), free, end))
    }

    fn integer(&mut self) -> Result<i64, DecodeError> {
        let tag = self.u8()?;
        self.leaf(tag)?.as_i64().ok_or(DecodeError::Malformed("fun"))
    }
}

fn finite(value: f64) -> Result<Term, DecodeError> {
    if value.is_finite() { Ok(Term::Float(value)) } else { Err(DecodeError::BadFloat) }
}
