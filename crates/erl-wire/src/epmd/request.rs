//! What a node or a tool asks of epmd.

use bytes::{BufMut, BytesMut};

use super::{DISTRIBUTION_VERSION, EXTRA_BYTES_MAX, NAME_CHARACTERS_MAX, REQUEST_BYTES_MAX};

const ALIVE2: u8 = b'x';
const PORT_PLEASE2: u8 = b'z';
const NAMES: u8 = b'n';
const DUMP: u8 = b'd';
const KILL: u8 = b'k';
const STOP: u8 = b's';

/// Whether a node is one for others to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeType {
    /// A normal node. BEAM nodes say so even when they are hidden.
    Normal,
    /// A hidden node, such as a C node.
    Hidden,
    /// Any other byte; epmd keeps it as it is.
    Other(u8),
}

impl From<u8> for NodeType {
    fn from(byte: u8) -> Self {
        match byte {
            77 => Self::Normal,
            72 => Self::Hidden,
            other => Self::Other(other),
        }
    }
}

impl From<NodeType> for u8 {
    fn from(kind: NodeType) -> Self {
        match kind {
            NodeType::Normal => 77,
            NodeType::Hidden => 72,
            NodeType::Other(byte) => byte,
        }
    }
}

/// A node, as epmd knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The part of its name before the `@`.
    pub name: String,
    /// Where it listens for distribution.
    pub port: u16,
    /// Normal or hidden.
    pub node_type: NodeType,
    /// 0: TCP over IPv4 or IPv6.
    pub protocol: u8,
    /// The highest version of distribution that it speaks.
    pub highest: u16,
    /// The lowest.
    pub lowest: u16,
    /// Opaque; nodes leave it empty.
    pub extra: Vec<u8>,
}

impl Registration {
    /// A node that speaks the current version over TCP.
    #[must_use]
    pub fn new(name: &str, port: u16, node_type: NodeType) -> Self {
        Self {
            name: name.to_owned(),
            port,
            node_type,
            protocol: 0,
            highest: DISTRIBUTION_VERSION,
            lowest: DISTRIBUTION_VERSION - 1,
            extra: Vec::new(),
        }
    }

    /// Everything but the opcode, in the one layout that requests and replies share.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        let (name, extra) = (clip(self.name.as_bytes()), clip(&self.extra));
        out.put_u16(self.port);
        out.put_u8(self.node_type.into());
        out.put_u8(self.protocol);
        out.put_u16(self.highest);
        out.put_u16(self.lowest);
        out.put_u16(name.len() as u16);
        out.put_slice(name);
        out.put_u16(extra.len() as u16);
        out.put_slice(extra);
    }
}

/// Nothing that epmd accepts is longer than this, and nothing longer than 16 bits can be written.
fn clip(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(EXTRA_BYTES_MAX + 1)]
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `ALIVE2`: register this node for as long as the connection lives.
    Register(Registration),
    /// `PORT_PLEASE2`: where does the node of this name listen?
    PortPlease(String),
    /// `NAMES`: who is registered?
    Names,
    /// `DUMP`: the same with more detail, and with those that are gone.
    Dump,
    /// `KILL`: end.
    Kill,
    /// `STOP`: forget the node of this name.
    Stop(String),
}

/// Why a request is none. Whoever serves closes the connection without a word, but for
/// [`RequestError::BadRegistration`], which is answered with a refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// An announced length of 0, or above 3,057.
    #[error("a request of {0} bytes: 1 to 3,057 are allowed")]
    Length(usize),
    /// An opcode that epmd does not know.
    #[error("unknown request {0}")]
    UnknownOpcode(u8),
    /// Fields that do not fit the announced length, a name that is empty or holds a zero byte, or one to look up that
    /// is no text.
    #[error("a malformed request")]
    Malformed,
    /// More bytes than the request announced: one connection carries one request.
    #[error("bytes behind the request")]
    Trailing,
    /// A name that is not UTF-8 or longer than 255 characters, or an `extra` that is too long. The node
    /// is told so, in the form that its highest version asks for.
    #[error("a registration whose name is not UTF-8, or whose name or extra is too long")]
    BadRegistration {
        /// The highest version that the node announced: it chooses the form of the refusal.
        highest: u16,
    },
}

impl Request {
    /// Appends the request with its length.
    pub fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_u16(0);
        match self {
            Self::Register(registration) => {
                out.put_u8(ALIVE2);
                registration.encode(out);
            }
            Self::PortPlease(name) => {
                out.put_u8(PORT_PLEASE2);
                out.put_slice(clip(name.as_bytes()));
            }
            Self::Names => out.put_u8(NAMES),
            Self::Dump => out.put_u8(DUMP),
            Self::Kill => out.put_u8(KILL),
            Self::Stop(name) => {
                out.put_u8(STOP);
                out.put_slice(clip(name.as_bytes()));
            }
        }
        // Two clipped fields and a dozen bytes: far below 2^16.
        let length = (out.len() - start - 2) as u16;
        out[start..start + 2].copy_from_slice(&length.to_be_bytes());
    }

    /// Reads a request from all that has come over a connection; `None` until it is whole.
    ///
    /// # Errors
    /// When it can become no request.
    pub fn decode(input: &[u8]) -> Result<Option<Self>, RequestError> {
        let Some((length, rest)) = input.split_first_chunk::<2>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(*length));
        if !(1..=REQUEST_BYTES_MAX).contains(&length) {
            return Err(RequestError::Length(length));
        }
        if rest.len() > length {
            return Err(RequestError::Trailing);
        }
        if rest.len() < length {
            return Ok(None);
        }
        let (&opcode, body) = rest.split_first().ok_or(RequestError::Malformed)?;
        match opcode {
            ALIVE2 => register(body).map(|registration| Some(Self::Register(registration))),
            PORT_PLEASE2 => look_up(body).map(|name| Some(Self::PortPlease(name))),
            NAMES => Ok(Some(Self::Names)),
            DUMP => Ok(Some(Self::Dump)),
            KILL => Ok(Some(Self::Kill)),
            // A C program's name may end early: what is behind its zero byte does not count.
            STOP => {
                look_up(body.split(|byte| *byte == 0).next().unwrap_or_default()).map(|name| Some(Self::Stop(name)))
            }
            other => Err(RequestError::UnknownOpcode(other)),
        }
    }
}

fn register(body: &[u8]) -> Result<Registration, RequestError> {
    let fields = Fields::read(body).ok_or(RequestError::Malformed)?;
    if fields.name.is_empty() || fields.name.contains(&0) {
        return Err(RequestError::Malformed);
    }
    let refused = RequestError::BadRegistration { highest: fields.highest };
    if fields.extra.len() > EXTRA_BYTES_MAX {
        return Err(refused);
    }
    fields.registration().ok_or(refused)
}

/// A name that is looked up may end in a zero byte, as C programs send it.
fn look_up(body: &[u8]) -> Result<String, RequestError> {
    let name = body.strip_suffix(&[0]).unwrap_or(body);
    if name.is_empty() || name.contains(&0) {
        return Err(RequestError::Malformed);
    }
    text(name).ok_or(RequestError::Malformed)
}

pub(super) fn text(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    (name.chars().count() <= NAME_CHARACTERS_MAX).then(|| name.to_owned())
}

/// The layout that `ALIVE2` and the answer to `PORT_PLEASE2` share, before its texts are checked.
pub(super) struct Fields<'a> {
    port: u16,
    node_type: u8,
    protocol: u8,
    highest: u16,
    lowest: u16,
    name: &'a [u8],
    extra: &'a [u8],
}

impl<'a> Fields<'a> {
    /// `None` when the bytes end too early. Bytes behind the fields are not looked at, as in epmd.
    pub(super) fn read(input: &'a [u8]) -> Option<Self> {
        let (&[p0, p1, node_type, protocol, h0, h1, l0, l1], rest) = input.split_first_chunk::<8>()?;
        let (name, rest) = counted(rest)?;
        let (extra, _) = counted(rest)?;
        Some(Self {
            port: u16::from_be_bytes([p0, p1]),
            node_type,
            protocol,
            highest: u16::from_be_bytes([h0, h1]),
            lowest: u16::from_be_bytes([l0, l1]),
            name,
            extra,
        })
    }

    /// `None` when the name is no text or too long.
    pub(super) fn registration(&self) -> Option<Registration> {
        Some(Registration {
            name: text(self.name)?,
            port: self.port,
            node_type: self.node_type.into(),
            protocol: self.protocol,
            highest: self.highest,
            lowest: self.lowest,
            extra: self.extra.to_vec(),
        })
    }
}

fn counted(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}
