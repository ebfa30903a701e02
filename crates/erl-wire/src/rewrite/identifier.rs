//! Identifiers as they stand in the bytes of a message, and the bytes of those that replace them.

use bytes::{BufMut, BytesMut};

use super::short;
use crate::term::{Atom, NEW_PORT_ID_MAX, Pid, Port, Reference, tag};

/// The longest head of an identifier, which is that of a reference.
const HEAD_BYTES_MAX: usize = 3;
/// The room for an identifier of a short name: its head, tag and length, name, and numbers.
const ROOM_BYTES: usize = HEAD_BYTES_MAX + 2 + short::BYTES_MAX + 16;

/// The text of an atom, where it stands. It has been checked.
#[derive(Clone, Copy, Debug)]
pub struct AtomView<'a> {
    text: &'a [u8],
    encoding: Encoding,
}

/// Of the text of an atom. As wide as what stands beside it: views are moved whole, and a move in pieces of odd sizes right
/// after they were written makes the processor wait for its own stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Encoding {
    /// Also of what is ASCII.
    Utf8,
    Latin1,
}

impl<'a> AtomView<'a> {
    /// Of a text that is UTF-8 and has at most 255 characters.
    #[inline(always)]
    pub(super) fn utf8(text: &'a [u8]) -> Self {
        Self { text, encoding: Encoding::Utf8 }
    }

    /// Of a text that is Latin-1 and has at most 255 characters.
    pub(super) fn latin1(text: &'a [u8]) -> Self {
        // A text without characters above ASCII is UTF-8 too.
        Self { text, encoding: if text.is_ascii() { Encoding::Utf8 } else { Encoding::Latin1 } }
    }

    /// The text, unless it came in Latin-1 with characters beyond ASCII, which no current node sends.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        match self.encoding {
            Encoding::Utf8 => std::str::from_utf8(self.text).ok(),
            Encoding::Latin1 => None,
        }
    }

    /// The bytes of the text; UTF-8 when [`AtomView::as_str`] would give it.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.text
    }

    /// Whether it is this atom.
    #[must_use]
    #[inline]
    pub fn is(&self, text: &str) -> bool {
        match self.encoding {
            Encoding::Utf8 => short::equal(self.text, text.as_bytes()),
            Encoding::Latin1 => self.text.iter().map(|byte| char::from(*byte)).eq(text.chars()),
        }
    }

    /// An atom of its own.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "no view is made of more characters than an atom may have")]
    pub fn to_atom(&self) -> Atom {
        let atom = match self.as_str() {
            Some(text) => Atom::new(text),
            None => Atom::new(&self.text.iter().map(|byte| char::from(*byte)).collect::<String>()),
        };
        atom.expect("a view is made of at most 255 characters")
    }

    /// Writes an identifier: what stands before the node's name, the name, and so many bytes of what stands behind it. All of
    /// it goes into room that is made once, since each piece that is appended costs.
    #[inline(always)]
    fn write_between<const HEAD: usize>(
        &self,
        head: [u8; HEAD],
        tail: [u8; 16],
        tail_bytes: usize,
        out: &mut BytesMut,
    ) {
        const { assert!(HEAD <= HEAD_BYTES_MAX) };
        let length = self.text.len();
        if length > short::BYTES_MAX || self.encoding == Encoding::Latin1 {
            out.extend_from_slice(&head);
            self.write(out);
            out.extend_from_slice(&tail[..tail_bytes]);
            return;
        }
        let start = out.len();
        out.extend_from_slice(&[0; ROOM_BYTES]);
        if let Some(room) = out[start..].first_chunk_mut::<ROOM_BYTES>() {
            room[..HEAD].copy_from_slice(&head);
            room[HEAD] = tag::SMALL_ATOM_UTF8;
            room[HEAD + 1] = length as u8;
            short::copy(self.text, &mut room[HEAD + 2..]);
            room[HEAD + 2 + length..][..16].copy_from_slice(&tail);
        }
        out.truncate(start + HEAD + 2 + length + tail_bytes);
    }

    #[cold]
    fn write(&self, out: &mut BytesMut) {
        let (small, large) = match self.encoding {
            Encoding::Utf8 => (tag::SMALL_ATOM_UTF8, tag::ATOM_UTF8),
            Encoding::Latin1 => (tag::SMALL_ATOM, tag::ATOM),
        };
        if let Ok(length) = u8::try_from(self.text.len()) {
            out.extend_from_slice(&[small, length]);
        } else {
            out.put_u8(large);
            // 255 characters are at most 1,020 bytes.
            out.put_u16(self.text.len() as u16);
        }
        out.extend_from_slice(self.text);
    }
}

impl<'a> From<&'a Atom> for AtomView<'a> {
    fn from(atom: &'a Atom) -> Self {
        Self::utf8(atom.as_str().as_bytes())
    }
}

impl PartialEq for AtomView<'_> {
    fn eq(&self, other: &Self) -> bool {
        if self.encoding == other.encoding { self.text == other.text } else { self.to_atom() == other.to_atom() }
    }
}

impl Eq for AtomView<'_> {}

/// A pid where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidView<'a> {
    /// The node that the process runs on.
    pub node: AtomView<'a>,
    /// The lower part of the process number.
    pub id: u32,
    /// The upper part of the process number.
    pub serial: u32,
    /// Which life of the node.
    pub creation: u32,
}

/// A port where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortView<'a> {
    /// The node that the port is open on.
    pub node: AtomView<'a>,
    /// The port's number.
    pub id: u64,
    /// Which life of the node.
    pub creation: u32,
}

/// A reference where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReferenceView<'a> {
    /// The node that made it.
    pub node: AtomView<'a>,
    /// Which life of the node.
    pub creation: u32,
    /// Its words.
    pub ids: ReferenceIds,
}

/// The one to five words of a reference, in the order of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReferenceIds {
    words: [u32; Reference::IDS_MAX],
    /// As wide as a word, as with the encoding of an atom.
    count: u32,
}

impl ReferenceIds {
    /// Those of a reference, which has one to five: what is beyond is left out, as when it is encoded,
    /// and one without any, which no node makes, has a zero.
    fn of(reference: &Reference) -> Self {
        let mut words = [0; Reference::IDS_MAX];
        let mut count = 0;
        for (word, id) in words.iter_mut().zip(&reference.ids) {
            *word = *id;
            count += 1;
        }
        Self { words, count: count.max(1) }
    }

    /// Takes one to five words; `None` when there are fewer or more.
    #[must_use]
    pub fn new(ids: &[u32]) -> Option<Self> {
        let mut words = [0; Reference::IDS_MAX];
        words.get_mut(..ids.len()).filter(|words| !words.is_empty())?.copy_from_slice(ids);
        Some(Self { words, count: ids.len() as u32 })
    }

    /// From the bytes of one to five words.
    #[inline(always)]
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        // As every node makes them.
        if let ([first, second, third], []) = bytes.as_chunks() {
            let [first, second, third] = [first, second, third].map(|word| u32::from_be_bytes(*word));
            return Self { words: [first, second, third, 0, 0], count: 3 };
        }
        let mut words = [0; Reference::IDS_MAX];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        Self { words, count: (bytes.len() / 4).min(Reference::IDS_MAX) as u32 }
    }

    /// The words.
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        &self.words[..self.count as usize]
    }
}

impl PidView<'_> {
    /// A pid of its own.
    #[must_use]
    pub fn to_pid(&self) -> Pid {
        Pid { node: self.node.to_atom(), id: self.id, serial: self.serial, creation: self.creation }
    }

    /// Whether it is this pid.
    #[must_use]
    pub fn is(&self, pid: &Pid) -> bool {
        (self.id, self.serial, self.creation) == (pid.id, pid.serial, pid.creation) && self.node.is(pid.node.as_str())
    }

    #[inline]
    pub(super) fn write(&self, out: &mut BytesMut) {
        let numbers = four(self.id, self.serial, self.creation, 0);
        self.node.write_between([tag::NEW_PID], numbers, 12, out);
    }
}

impl<'a> From<&'a Pid> for PidView<'a> {
    fn from(pid: &'a Pid) -> Self {
        Self { node: (&pid.node).into(), id: pid.id, serial: pid.serial, creation: pid.creation }
    }
}

impl PortView<'_> {
    /// A port of its own.
    #[must_use]
    pub fn to_port(&self) -> Port {
        Port { node: self.node.to_atom(), id: self.id, creation: self.creation }
    }

    #[inline]
    pub(super) fn write(&self, out: &mut BytesMut) {
        // The older form when the number fits, as nodes do.
        match u32::try_from(self.id) {
            Ok(id) if self.id <= NEW_PORT_ID_MAX => {
                let numbers = four(id, self.creation, 0, 0);
                self.node.write_between([tag::NEW_PORT], numbers, 8, out);
            }
            Ok(_) | Err(_) => {
                let numbers = four((self.id >> 32) as u32, self.id as u32, self.creation, 0);
                self.node.write_between([tag::V4_PORT], numbers, 12, out);
            }
        }
    }
}

impl<'a> From<&'a Port> for PortView<'a> {
    fn from(port: &'a Port) -> Self {
        Self { node: (&port.node).into(), id: port.id, creation: port.creation }
    }
}

impl<'a> From<&'a Reference> for ReferenceView<'a> {
    fn from(reference: &'a Reference) -> Self {
        let ids = ReferenceIds::of(reference);
        Self { node: (&reference.node).into(), creation: reference.creation, ids }
    }
}

impl ReferenceView<'_> {
    /// A reference of its own.
    #[must_use]
    pub fn to_reference(&self) -> Reference {
        Reference { node: self.node.to_atom(), creation: self.creation, ids: self.ids.as_slice().to_vec() }
    }

    #[inline]
    pub(super) fn write(&self, out: &mut BytesMut) {
        let head = [tag::NEWER_REFERENCE, 0, self.ids.count as u8];
        let [first, second, third, fourth, fifth] = self.ids.words;
        let numbers = four(self.creation, first, second, third);
        match self.ids.count {
            // As every node makes them.
            3 => self.node.write_between(head, numbers, 16, out),
            count @ ..3 => self.node.write_between(head, numbers, 4 + 4 * count as usize, out),
            count => {
                self.node.write_between(head, numbers, 16, out);
                out.extend_from_slice(&four(fourth, fifth, 0, 0)[..4 * (count - 3) as usize]);
            }
        }
    }
}

/// Four numbers at once, for the processor to write as it will read them.
#[inline(always)]
fn four(first: u32, second: u32, third: u32, fourth: u32) -> [u8; 16] {
    let high = u64::from(first) << 32 | u64::from(second);
    let low = u64::from(third) << 32 | u64::from(fourth);
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}
