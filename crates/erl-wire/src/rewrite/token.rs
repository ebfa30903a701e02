//! The tokens that the table does not have: identifiers, closures, and what is rare.

use super::{AtomView, PidView, PortView, ReferenceIds, ReferenceView, RewriteFault, table::Entry};
use crate::term::{Reference, tag};

/// Bytes that 255 characters take at most.
const ATOM_BYTES_MAX: usize = 4 * 255;

/// Up to the free variables' count, the tag included.
const FUN_HEADER: usize = 30;

/// A token, and how many bytes it takes.
pub(super) enum Token<'a> {
    Pid(PidView<'a>, usize),
    Port(PortView<'a>, usize),
    Reference(ReferenceView<'a>, usize),
    /// Nothing to be looked at; the bytes that it takes need not all be there.
    Leaf(usize),
    Fun(FunHead),
}

/// A closure, all of whose bytes are there.
pub(super) struct FunHead {
    /// How many bytes it takes, the tag included.
    pub(super) size: usize,
    /// Where the pid of its creator stands, which the free variables follow.
    pub(super) creator_at: usize,
    /// How many free variables there are.
    pub(super) free: u32,
}

/// Why there is no token.
pub(super) enum NoToken {
    /// At least so many bytes must be there to tell.
    Needs(usize),
    Bad(RewriteFault),
}

impl From<RewriteFault> for NoToken {
    fn from(fault: RewriteFault) -> Self {
        Self::Bad(fault)
    }
}

type Result<T> = std::result::Result<T, NoToken>;

/// Reads the token at the start of `bytes`, of any kind.
pub(super) fn read<'a>(bytes: &'a [u8], fun_bytes_max: usize) -> Result<Token<'a>> {
    let mut reader = Reader { bytes, at: 0 };
    let tag = reader.u8()?;
    match tag {
        tag::NEW_PID | tag::PID => {
            let node = reader.atom()?;
            let (id, serial) = (reader.u32()?, reader.u32()?);
            let creation = reader.creation(tag == tag::PID)?;
            Ok(Token::Pid(PidView { node, id, serial, creation }, reader.at))
        }
        tag::NEWER_REFERENCE | tag::NEW_REFERENCE => {
            let count = usize::from(u16::from_be_bytes(reader.array()?));
            if !(1..=Reference::IDS_MAX).contains(&count) {
                return Err(RewriteFault::Malformed("reference").into());
            }
            let node = reader.atom()?;
            let creation = reader.creation(tag == tag::NEW_REFERENCE)?;
            let ids = ReferenceIds::from_bytes(reader.take(4 * count)?);
            Ok(Token::Reference(ReferenceView { node, creation, ids }, reader.at))
        }
        tag::REFERENCE => {
            let node = reader.atom()?;
            let ids = ReferenceIds::from_bytes(reader.take(4)?);
            let creation = reader.creation(true)?;
            Ok(Token::Reference(ReferenceView { node, creation, ids }, reader.at))
        }
        tag::NEW_PORT | tag::V4_PORT | tag::PORT => {
            let node = reader.atom()?;
            let id = if tag == tag::V4_PORT { u64::from_be_bytes(reader.array()?) } else { reader.u32()?.into() };
            let creation = reader.creation(tag == tag::PORT)?;
            Ok(Token::Port(PortView { node, id, creation }, reader.at))
        }
        tag::NEW_FUN => fun(reader, fun_bytes_max).map(Token::Fun),
        tag::EXPORT => {
            reader.atom()?;
            reader.atom()?;
            match reader.array()? {
                [tag::SMALL_INTEGER, _] => Ok(Token::Leaf(reader.at)),
                _ => Err(RewriteFault::Malformed("export").into()),
            }
        }
        tag::BIT_BINARY => {
            let length = reader.u32()?;
            match (length, reader.u8()?) {
                (0, 0) | (1.., 1..=8) => Ok(Token::Leaf(reader.at.saturating_add(length as usize))),
                _ => Err(RewriteFault::Malformed("bit string").into()),
            }
        }
        tag::NEW_FLOAT => match f64::from_be_bytes(reader.array()?).is_finite() {
            true => Ok(Token::Leaf(reader.at)),
            false => Err(RewriteFault::BadFloat.into()),
        },
        tag::FLOAT => {
            let text = reader.take(31)?.split(|byte| *byte == 0).next().unwrap_or_default();
            let value = std::str::from_utf8(text).ok().and_then(|text| text.trim_start_matches(' ').parse().ok());
            match value.is_some_and(f64::is_finite) {
                true => Ok(Token::Leaf(reader.at)),
                false => Err(RewriteFault::BadFloat.into()),
            }
        }
        tag::SMALL_ATOM_UTF8 | tag::SMALL_ATOM | tag::ATOM_UTF8 | tag::ATOM => {
            reader.at = 0;
            reader.atom()?;
            Ok(Token::Leaf(reader.at))
        }
        tag => Err(RewriteFault::UnknownTag(tag).into()),
    }
}

/// The pid at the start of `bytes`, and how many bytes it takes, if it is there in the form in which nodes send it.
#[inline(always)]
pub(super) fn common_pid(bytes: &[u8]) -> Option<(PidView<'_>, usize)> {
    let &[tag::NEW_PID, tag::SMALL_ATOM_UTF8, length] = bytes.first_chunk()? else { return None };
    let (text, rest) = bytes[3..].split_at_checked(length.into())?;
    let &[a, b, c, d, e, f, g, h, i, j, k, l] = rest.first_chunk()?;
    if !is_ascii(text) {
        return None;
    }
    let pid = PidView {
        node: AtomView::utf8(text),
        id: u32::from_be_bytes([a, b, c, d]),
        serial: u32::from_be_bytes([e, f, g, h]),
        creation: u32::from_be_bytes([i, j, k, l]),
    };
    Some((pid, 15 + text.len()))
}

/// The reference at the start of `bytes`, and how many bytes it takes, if it is there in the form in which nodes send
/// it.
#[inline(always)]
pub(super) fn common_reference(bytes: &[u8]) -> Option<(ReferenceView<'_>, usize)> {
    let &[tag::NEWER_REFERENCE, 0, count @ 1..=5, tag::SMALL_ATOM_UTF8, length] = bytes.first_chunk()? else {
        return None;
    };
    let (text, rest) = bytes[5..].split_at_checked(length.into())?;
    let (creation, rest) = rest.split_first_chunk()?;
    let ids = rest.get(..4 * usize::from(count))?;
    if !is_ascii(text) {
        return None;
    }
    let reference = ReferenceView {
        node: AtomView::utf8(text),
        creation: u32::from_be_bytes(*creation),
        ids: ReferenceIds::from_bytes(ids),
    };
    Some((reference, 9 + text.len() + ids.len()))
}

/// Reads an atom at the start of `bytes`, and how many bytes it takes.
pub(super) fn atom(bytes: &[u8]) -> Result<(AtomView<'_>, usize)> {
    let mut reader = Reader { bytes, at: 0 };
    let atom = reader.atom()?;
    Ok((atom, reader.at))
}

/// A closure, up to the pid of its creator.
#[cold]
fn fun(mut reader: Reader<'_>, fun_bytes_max: usize) -> Result<FunHead> {
    let size = (reader.u32()? as usize).saturating_add(1);
    if size > fun_bytes_max {
        return Err(RewriteFault::FunTooLarge(fun_bytes_max).into());
    }
    let all = reader.bytes.get(..size).ok_or(NoToken::Needs(size))?;
    // From here on all must be there, so whoever needs more is wrong.
    let malformed = |_| NoToken::Bad(RewriteFault::Malformed("fun"));
    let header = all.first_chunk::<FUN_HEADER>().ok_or(NoToken::Bad(RewriteFault::Malformed("fun")))?;
    let [.., a, b, c, d] = *header;
    let mut rest = Reader { bytes: all, at: FUN_HEADER };
    match rest.atom() {
        Ok(_) => {}
        Err(NoToken::Needs(_)) => return Err(RewriteFault::Malformed("fun").into()),
        Err(bad @ NoToken::Bad(_)) => return Err(bad),
    }
    for _ in ["old index", "old unique"] {
        rest.integer().map_err(malformed)?;
    }
    match all.get(rest.at) {
        Some(&(tag::NEW_PID | tag::PID)) => {
            Ok(FunHead { size, creator_at: rest.at, free: u32::from_be_bytes([a, b, c, d]) })
        }
        Some(_) | None => Err(RewriteFault::Malformed("fun").into()),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let end = self.at.saturating_add(length);
        let taken = self.bytes.get(self.at..end).ok_or(NoToken::Needs(end))?;
        self.at = end;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()).ok_or(NoToken::Needs(self.at + N))?;
        self.at += N;
        Ok(*taken)
    }

    #[inline]
    fn u8(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    #[inline]
    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    fn creation(&mut self, old: bool) -> Result<u32> {
        if old { self.u8().map(u32::from) } else { self.u32() }
    }

    #[inline]
    fn atom(&mut self) -> Result<AtomView<'a>> {
        let (length, latin1) = match self.u8()? {
            tag::SMALL_ATOM_UTF8 => (self.u8()?.into(), false),
            other => self.rare_atom(other)?,
        };
        let text = self.take(length)?;
        if !latin1 && !is_ascii(text) {
            check_utf8(text)?;
        }
        Ok(if latin1 { AtomView::latin1(text) } else { AtomView::utf8(text) })
    }

    #[cold]
    fn rare_atom(&mut self, tag: u8) -> Result<(usize, bool)> {
        let length = match tag {
            tag::SMALL_ATOM => return Ok((self.u8()?.into(), true)),
            tag::ATOM_UTF8 | tag::ATOM => usize::from(u16::from_be_bytes(self.array()?)),
            _ => return Err(RewriteFault::BadAtom.into()),
        };
        let latin1 = tag == tag::ATOM;
        // What is ASCII is not checked again for its count of characters.
        if length > if latin1 { 255 } else { ATOM_BYTES_MAX } {
            return Err(RewriteFault::BadAtom.into());
        }
        if !latin1 {
            check_utf8(self.bytes.get(self.at..self.at + length).ok_or(NoToken::Needs(self.at + length))?)?;
        }
        Ok((length, latin1))
    }

    /// An integer of any form, without its value.
    fn integer(&mut self) -> Result<()> {
        let at = self.at;
        let tag = self.u8()?;
        if !matches!(tag, tag::SMALL_INTEGER | tag::INTEGER | tag::SMALL_BIG | tag::LARGE_BIG) {
            return Err(RewriteFault::Malformed("fun").into());
        }
        let entry = Entry::of(tag);
        let word = if entry.header() > 1 { self.u32()? } else { 0 };
        self.at = at;
        self.take(usize::try_from(entry.size(word)).map_err(|_| NoToken::Bad(RewriteFault::Malformed("fun")))?)?;
        Ok(())
    }
}

/// A text that is not short or not ASCII.
#[cold]
fn check_utf8(text: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(text).map_err(|_| NoToken::Bad(RewriteFault::BadAtom))?;
    if text.chars().count() > 255 { Err(RewriteFault::BadAtom.into()) } else { Ok(()) }
}

/// How many bytes from the start of a token must be there before a walk can go on: all of it, or as much as says how
/// many more bytes to copy.
pub(super) fn needed(bytes: &[u8], fun_bytes_max: usize) -> std::result::Result<usize, RewriteFault> {
    let Some(tag) = bytes.first() else { return Ok(1) };
    let entry = Entry::of(*tag);
    if !entry.is_special() {
        return Ok(entry.header());
    }
    match read(bytes, fun_bytes_max) {
        // Whoever put these bytes aside was short of some; now all are there.
        Ok(_) => Ok(bytes.len()),
        Err(NoToken::Needs(needed)) => Ok(needed),
        Err(NoToken::Bad(fault)) => Err(fault),
    }
}

/// As the one of the standard library, but for the short texts of atoms.
#[inline(always)]
pub(super) fn is_ascii(text: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let bits = match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        (Some(first), Some(last)) if text.len() <= 16 => u64::from_ne_bytes(*first) | u64::from_ne_bytes(*last),
        (Some(_), Some(_)) => return text.is_ascii(),
        _ => match (text.first_chunk::<4>(), text.last_chunk::<4>()) {
            (Some(first), Some(last)) => u64::from(u32::from_ne_bytes(*first) | u32::from_ne_bytes(*last)),
            _ => match *text {
                [a, b, c] => (a | b | c).into(),
                [a, b] => (a | b).into(),
                [a] => a.into(),
                _ => 0,
            },
        },
    };
    bits & HIGH == 0
}
