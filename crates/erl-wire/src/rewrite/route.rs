//! Where a message goes, from its first frame alone.
//!
//! The control message is walked, not built, and its elements are borrowed. The payload is not looked at.

use super::{
    AtomView, PidView, ReferenceView, RewriteFault,
    scan::{Cursor, Stop, scan},
    table::Entry,
    token::{self, NoToken, Token},
};
use crate::{
    frame::{FIRST_FRAGMENT, HEADER, NEXT_FRAGMENT, PASS_THROUGH, VERSION},
    term::tag,
};

/// A control message of more bytes is not walked: reasons and trace tokens are the only long ones.
const CONTROL_BYTES_MAX: usize = 1 << 20;

/// A frame without its length, as far as its header goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope<'a> {
    /// A frame of no bytes: a sign of life.
    Tick,
    /// A whole message whose terms have their version bytes.
    PassThrough {
        /// The control message and the payload, the first version byte included.
        body: &'a [u8],
    },
    /// A whole message.
    Whole {
        /// The control message and the payload.
        body: &'a [u8],
    },
    /// The first fragment of a message. When `fragment` is 1, it is the only one.
    First {
        /// Which message.
        sequence: u64,
        /// How many fragments come, this one included.
        fragment: u64,
        /// The control message, whole, and the start of the payload.
        body: &'a [u8],
    },
    /// A further fragment of a message.
    Next {
        /// Which message.
        sequence: u64,
        /// How many fragments come, this one included.
        fragment: u64,
        /// More of the payload.
        body: &'a [u8],
    },
}

impl<'a> Envelope<'a> {
    /// Reads the header of a frame, which comes without its length.
    ///
    /// # Errors
    /// When it is of no known kind, or refers to a cache of atoms, which we never negotiate.
    #[inline]
    pub fn read(frame: &'a [u8]) -> Result<Self, RouteError> {
        match frame {
            [] => Ok(Self::Tick),
            [PASS_THROUGH, body @ ..] => Ok(Self::PassThrough { body }),
            [VERSION, HEADER, 0, body @ ..] => Ok(Self::Whole { body }),
            [VERSION, HEADER, _, ..] => Err(RouteError::AtomCache),
            [VERSION, kind @ (FIRST_FRAGMENT | NEXT_FRAGMENT), rest @ ..] => {
                let (sequence, rest) = rest.split_first_chunk::<8>().ok_or(RouteError::UnknownKind)?;
                let (fragment, rest) = rest.split_first_chunk::<8>().ok_or(RouteError::UnknownKind)?;
                let (sequence, fragment) = (u64::from_be_bytes(*sequence), u64::from_be_bytes(*fragment));
                if *kind == NEXT_FRAGMENT {
                    return Ok(Self::Next { sequence, fragment, body: rest });
                }
                match rest {
                    [0, body @ ..] => Ok(Self::First { sequence, fragment, body }),
                    [_, ..] => Err(RouteError::AtomCache),
                    [] => Err(RouteError::UnknownKind),
                }
            }
            _ => Err(RouteError::UnknownKind),
        }
    }

    /// The route of the message that this frame begins; `None` for a tick and for a further fragment.
    ///
    /// # Errors
    /// When the control message is malformed or is cut.
    #[inline(always)]
    pub fn route(&self) -> Result<Option<Route<'a>>, RouteError> {
        match *self {
            Self::Tick | Self::Next { .. } => Ok(None),
            Self::PassThrough { body } => {
                let Some((&VERSION, terms)) = body.split_first() else { return Err(RouteError::Version) };
                let mut route = Route::read(terms)?;
                if let Some((version, payload)) = route.payload.split_first() {
                    if *version != VERSION {
                        return Err(RouteError::Version);
                    }
                    route.payload = payload;
                }
                route.check_payload(true)?;
                Ok(Some(route))
            }
            Self::Whole { body } | Self::First { fragment: 1, body, .. } => {
                let route = Route::read(body)?;
                route.check_payload(true)?;
                Ok(Some(route))
            }
            Self::First { body, .. } => {
                let route = Route::read(body)?;
                route.check_payload(false)?;
                Ok(Some(route))
            }
        }
    }
}

/// An end of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint<'a> {
    /// A process, by pid.
    Pid(PidView<'a>),
    /// A process, by its registered name at the node of the other end of the connection.
    Name(AtomView<'a>),
    /// A process, by an alias.
    Alias(ReferenceView<'a>),
}

/// What a control message says of where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<'a> {
    /// Its operation: see [`crate::Control`].
    pub operation: u8,
    /// Who sends it; `None` where the message does not say (2, 12, and a refused spawn).
    pub from: Option<Endpoint<'a>>,
    /// Who gets it; `None` for a request to spawn, which goes to the node.
    pub to: Option<Endpoint<'a>>,
    /// The reference that requests to spawn, answers to them, and monitors carry.
    pub reference: Option<ReferenceView<'a>>,
    /// The control message, without version byte.
    pub control: &'a [u8],
    /// What stands behind it, without version byte: the payload, or the start of it.
    pub payload: &'a [u8],
    /// Where the ends stand in the control message, if it is of a form that holds no other identifier.
    places: Option<Places>,
}

/// The bytes of both ends in a control message: the first from 4 on, the second up to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Places {
    from_end: usize,
    to_at: usize,
}

/// Why a frame has no route. The connection that it came over cannot be trusted any more, and should be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// A frame of no known kind.
    #[error("a frame that is neither a tick, a message nor a fragment")]
    UnknownKind,
    /// A frame that refers to a cache of atoms, which was not negotiated.
    #[error("a frame that refers to a cache of atoms, which was not negotiated")]
    AtomCache,
    /// A term without its version byte, where it must have one.
    #[error("a term without its version byte")]
    Version,
    /// Not a tuple that starts with a small integer.
    #[error("not a control message: no tuple that starts with an operation")]
    NotAControlMessage,
    /// An operation that we have not offered.
    #[error("unknown operation {0}")]
    UnknownOperation(u8),
    /// A tuple of the wrong size, or an element of the wrong type.
    #[error("a malformed control message of operation {0}")]
    Malformed(u8),
    /// The control message is no term.
    #[error("a control message that is no term: {0}")]
    Term(RewriteFault),
    /// A payload where there is none, or none where there must be one.
    #[error("a control message with a payload that it does not have, or without the one that it has")]
    Payload,
}

/// The elements of a control message that say where it goes, by their place; 0 where there is none.
#[derive(Clone, Copy)]
struct Shape {
    elements: u8,
    from: u8,
    to: u8,
    reference: u8,
    payload: bool,
}

const fn shape(elements: u8, from: u8, to: u8, reference: u8, payload: bool) -> Option<Shape> {
    Some(Shape { elements, from, to, reference, payload })
}

/// By operation. Those that may have a token at the end (37) count none.
static SHAPES: [Option<Shape>; 38] = {
    let mut table = [None; 38];
    table[1] = shape(3, 1, 2, 0, false);
    table[2] = shape(3, 0, 2, 0, true);
    table[3] = shape(4, 1, 2, 0, false);
    table[4] = shape(3, 1, 2, 0, false);
    table[6] = shape(4, 1, 3, 0, true);
    table[7] = shape(3, 1, 2, 0, false);
    table[8] = shape(4, 1, 2, 0, false);
    table[12] = shape(4, 0, 2, 0, true);
    table[13] = shape(5, 1, 2, 0, false);
    table[16] = shape(5, 1, 3, 0, true);
    table[18] = shape(5, 1, 2, 0, false);
    table[19] = shape(4, 1, 2, 3, false);
    table[20] = shape(4, 1, 2, 3, false);
    table[21] = shape(5, 1, 2, 3, false);
    table[22] = shape(3, 1, 2, 0, true);
    table[23] = shape(4, 1, 2, 0, true);
    table[24] = shape(3, 1, 2, 0, true);
    table[25] = shape(4, 1, 2, 0, true);
    table[26] = shape(3, 1, 2, 0, true);
    table[27] = shape(4, 1, 2, 0, true);
    table[28] = shape(4, 1, 2, 3, true);
    table[29] = shape(6, 2, 0, 1, true);
    table[30] = shape(7, 2, 0, 1, true);
    table[31] = shape(5, 4, 2, 1, false);
    table[32] = shape(6, 4, 2, 1, false);
    table[33] = shape(3, 1, 2, 0, true);
    table[34] = shape(4, 1, 2, 0, true);
    table[35] = shape(4, 2, 3, 0, false);
    table[36] = shape(4, 2, 3, 0, false);
    table[37] = shape(4, 2, 3, 0, true);
    table
};

/// See [`Route::pieces`].
pub(super) struct Pieces<'a> {
    pub(super) head: &'a [u8],
    pub(super) from: (Endpoint<'a>, &'a [u8]),
    pub(super) between: &'a [u8],
    pub(super) to: (Endpoint<'a>, &'a [u8]),
}

impl<'a> Route<'a> {
    /// Reads a control message, without version byte, at the start of `body`; what stands behind it is the payload.
    ///
    /// # Errors
    /// When it is no control message, or is cut.
    #[inline(always)]
    pub fn read(body: &'a [u8]) -> Result<Self, RouteError> {
        match Self::common(body) {
            Some(route) => Ok(route),
            None => Self::any(body),
        }
    }

    /// Messages to a pid, a name and an alias, in the form in which nodes send them: nearly all that there is.
    #[inline(always)]
    fn common(body: &'a [u8]) -> Option<Self> {
        let (&[tag::SMALL_TUPLE, elements, tag::SMALL_INTEGER, operation], rest) = body.split_first_chunk()? else {
            return None;
        };
        let (from, first) = token::common_pid(rest)?;
        let rest = &rest[first..];
        let (to, second) = match (operation, elements) {
            (22, 3) => token::common_pid(rest).map(|(to, size)| (Endpoint::Pid(to), size))?,
            (33, 3) => token::common_reference(rest).map(|(to, size)| (Endpoint::Alias(to), size))?,
            (6, 4) => {
                let named = rest.strip_prefix(&[tag::SMALL_ATOM_UTF8, 0])?;
                let (to, size) = token::atom(named).ok()?;
                (Endpoint::Name(to), 2 + size)
            }
            _ => return None,
        };
        let (control, payload) = body.split_at_checked(4 + first + second)?;
        let places = Some(Places { from_end: 4 + first, to_at: control.len() - second });
        Some(Self {
            operation,
            from: Some(Endpoint::Pid(from)),
            to: Some(to),
            reference: None,
            control,
            payload,
            places,
        })
    }

    #[cold]
    fn any(body: &'a [u8]) -> Result<Self, RouteError> {
        let (elements, operation, mut at) = match *body {
            [tag::SMALL_TUPLE, count, tag::SMALL_INTEGER, operation, ..] => (u32::from(count), operation, 4),
            [tag::LARGE_TUPLE, a, b, c, d, tag::SMALL_INTEGER, operation, ..] => {
                (u32::from_be_bytes([a, b, c, d]), operation, 7)
            }
            _ => return Err(RouteError::NotAControlMessage),
        };
        let unknown = RouteError::UnknownOperation(operation);
        let shape = SHAPES.get(usize::from(operation)).copied().flatten().ok_or(unknown)?;
        let malformed = RouteError::Malformed(operation);
        let tokens = operation == 37 && elements == u32::from(shape.elements) + 1;
        if elements != u32::from(shape.elements) && !tokens {
            return Err(malformed);
        }
        let mut route =
            Self { operation, from: None, to: None, reference: None, control: &[], payload: &[], places: None };
        for place in 1..shape.elements + u8::from(tokens) {
            let rest = &body[at..];
            if place == shape.from || place == shape.to {
                let (end, size) = endpoint(rest, malformed)?;
                if place == shape.from {
                    route.from = Some(end);
                } else {
                    route.to = Some(end);
                }
                at += size;
            } else if place == shape.reference {
                let Endpoint::Alias(reference) = endpoint(rest, malformed)?.0 else { return Err(malformed) };
                route.reference = Some(reference);
                at += skip(rest)?;
            } else {
                at += skip(rest)?;
            }
        }
        (route.control, route.payload) = body.split_at_checked(at).ok_or(RouteError::Term(RewriteFault::Truncated))?;
        route.check_ends(malformed)?;
        Ok(route)
    }

    /// The control message cut at its identifiers, if it has no other ones than its ends: what stands before the first, and
    /// each with what follows up to the next.
    #[inline]
    pub(super) fn pieces(&self) -> Option<Pieces<'a>> {
        let Places { from_end, to_at } = self.places?;
        let (Some(from), Some(to)) = (self.from, self.to) else { return None };
        let (head, rest) = self.control.split_at_checked(4)?;
        let (from_bytes, rest) = rest.split_at_checked(from_end - 4)?;
        let (between, to_bytes) = rest.split_at_checked(to_at - from_end)?;
        Some(Pieces { head, from: (from, from_bytes), between, to: (to, to_bytes) })
    }

    /// Whether it is one of the most frequent: a message from a pid to a pid, a name or an alias, without a trace token.
    #[must_use]
    pub fn is_common(&self) -> bool {
        self.places.is_some()
    }

    /// Whether a payload follows.
    #[must_use]
    pub fn has_payload(&self) -> bool {
        SHAPES.get(usize::from(self.operation)).copied().flatten().is_some_and(|shape| shape.payload)
    }

    /// A message that is `complete` has a payload, or none, as its operation says; the first of several fragments need
    /// not have the start of it.
    fn check_payload(&self, complete: bool) -> Result<(), RouteError> {
        let fine = match (self.has_payload(), self.payload.is_empty()) {
            (true, false) | (false, true) => true,
            (true, true) => !complete,
            (false, false) => false,
        };
        if fine { Ok(()) } else { Err(RouteError::Payload) }
    }

    /// Each end is of a kind that its operation has.
    fn check_ends(&mut self, malformed: RouteError) -> Result<(), RouteError> {
        use Endpoint::{Alias, Name, Pid};
        let fine = match self.operation {
            // A name is registered for the receiver.
            6 | 16 => matches!((self.from, self.to), (Some(Pid(_)), Some(Name(_)))),
            19 | 20 => matches!((self.from, self.to), (Some(Pid(_)), Some(Pid(_) | Name(_)))),
            21 | 28 => matches!((self.from, self.to), (Some(Pid(_) | Name(_)), Some(Pid(_)))),
            31 | 32 => {
                // The reason of a refusal stands where the pid would.
                let fine = matches!((self.from, self.to), (Some(Pid(_) | Name(_)), Some(Pid(_))));
                self.from = self.from.filter(|from| matches!(from, Pid(_)));
                fine
            }
            33 | 34 => matches!((self.from, self.to), (Some(Pid(_)), Some(Alias(_)))),
            37 => matches!((self.from, self.to), (Some(Pid(_) | Name(_)), Some(_))),
            _ => matches!(self.from, None | Some(Pid(_))) && matches!(self.to, None | Some(Pid(_))),
        };
        if fine { Ok(()) } else { Err(malformed) }
    }
}

/// The identifier or the atom at the start of `bytes`, and how many bytes it takes.
fn endpoint(bytes: &[u8], malformed: RouteError) -> Result<(Endpoint<'_>, usize), RouteError> {
    if let Some((pid, size)) = token::common_pid(bytes) {
        return Ok((Endpoint::Pid(pid), size));
    }
    let read = match bytes.first() {
        Some(&(tag::SMALL_ATOM_UTF8 | tag::SMALL_ATOM | tag::ATOM_UTF8 | tag::ATOM)) => {
            token::atom(bytes).map(|(atom, size)| (Endpoint::Name(atom), size))
        }
        Some(&tag) if !Entry::of(tag).is_special() => return Err(malformed),
        _ => match token::read(bytes, 0) {
            Ok(Token::Pid(pid, size)) => Ok((Endpoint::Pid(pid), size)),
            Ok(Token::Reference(reference, size)) => Ok((Endpoint::Alias(reference), size)),
            Ok(Token::Port(..) | Token::Leaf(_) | Token::Fun(_)) => return Err(malformed),
            Err(none) => Err(none),
        },
    };
    read.map_err(|none| match none {
        NoToken::Needs(_) => RouteError::Term(RewriteFault::Truncated),
        NoToken::Bad(fault) => RouteError::Term(fault),
    })
}

/// How many bytes the term at the start of `bytes` takes. It is looked at as closely as by a [`super::Rewriter`].
fn skip(bytes: &[u8]) -> Result<usize, RouteError> {
    let region = bytes.get(..CONTROL_BYTES_MAX).unwrap_or(bytes);
    let mut cursor = Cursor { at: 0, awaited: 1 };
    loop {
        let stop = scan(region, &mut cursor, 0);
        let at = usize::try_from(cursor.at).unwrap_or(usize::MAX);
        match stop {
            Stop::Done if at <= region.len() => return Ok(at),
            Stop::Done | Stop::End | Stop::Cut => return Err(RouteError::Term(RewriteFault::Truncated)),
            Stop::Special => {}
        }
        let size = match token::read(&region[at..], region.len()) {
            Ok(Token::Pid(_, size) | Token::Port(_, size) | Token::Reference(_, size) | Token::Leaf(size)) => size,
            // Whoever rewrites it will look inside.
            Ok(Token::Fun(head)) => head.size,
            Err(NoToken::Needs(_)) => return Err(RouteError::Term(RewriteFault::Truncated)),
            Err(NoToken::Bad(fault)) => return Err(RouteError::Term(fault)),
        };
        cursor.at += size as u64;
        cursor.awaited -= 1;
    }
}
