//! What epmd answers.
//!
//! `decode` takes all that has come so far. Those replies that end with the connection are read once it has ended; the
//! others give `None` until they are whole.

use bytes::{BufMut, BytesMut};

use super::{
    REFUSED_CREATION, Registration,
    request::{Fields, text},
};

const ALIVE2_X: u8 = b'v';
const ALIVE2: u8 = b'y';
const PORT2: u8 = b'w';

/// The answer is not one that epmd gives: something else listens there, or the connection ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the answer of an epmd to {0}")]
pub struct ReplyError(&'static str);

/// The answer to `ALIVE2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterReply {
    /// The node is registered until the connection ends.
    Registered {
        /// Which life of the node this is.
        creation: u32,
    },
    /// The name is taken, or it is no name.
    Refused {
        /// What epmd says: 1.
        result: u8,
    },
}

impl RegisterReply {
    /// Appends the reply in the form that a node of this highest version reads.
    pub fn encode(&self, highest: u16, out: &mut BytesMut) {
        let (result, creation) = match *self {
            Self::Registered { creation } => (0, creation),
            Self::Refused { result } => (result, REFUSED_CREATION),
        };
        if highest >= 6 {
            out.put_slice(&[ALIVE2_X, result]);
            out.put_u32(creation);
        } else {
            out.put_slice(&[ALIVE2, result]);
            // Such a node knows creations 1 to 3 only; the caller has seen to it.
            out.put_u16(u16::try_from(creation).unwrap_or(u16::MAX));
        }
    }

    /// Reads the reply; `None` until it is whole.
    ///
    /// # Errors
    /// When it is no such reply.
    pub fn decode(input: &[u8]) -> Result<Option<Self>, ReplyError> {
        let reply = |result: u8, creation: u32| match result {
            0 => Self::Registered { creation },
            result => Self::Refused { result },
        };
        match *input {
            [ALIVE2_X, result, a, b, c, d, ..] => Ok(Some(reply(result, u32::from_be_bytes([a, b, c, d])))),
            [ALIVE2, result, a, b, ..] => Ok(Some(reply(result, u16::from_be_bytes([a, b]).into()))),
            [] | [ALIVE2_X | ALIVE2, ..] => Ok(None),
            _ => Err(ReplyError("a registration")),
        }
    }
}

/// The answer to `PORT_PLEASE2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortReply {
    /// It is registered so.
    Found(Registration),
    /// There is no such node.
    NotFound,
}

impl PortReply {
    /// Appends the reply.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Found(registration) => {
                out.put_slice(&[PORT2, 0]);
                registration.encode(out);
            }
            Self::NotFound => out.put_slice(&[PORT2, 1]),
        }
    }

    /// Reads the reply; `None` until it is whole.
    ///
    /// # Errors
    /// When it is no such reply.
    pub fn decode(input: &[u8]) -> Result<Option<Self>, ReplyError> {
        match input {
            [] | [PORT2] => Ok(None),
            [PORT2, 0, rest @ ..] => match Fields::read(rest) {
                None => Ok(None),
                Some(fields) => {
                    let registration = fields.registration().ok_or(ReplyError("a look-up"))?;
                    Ok(Some(Self::Found(registration)))
                }
            },
            [PORT2, ..] => Ok(Some(Self::NotFound)),
            _ => Err(ReplyError("a look-up")),
        }
    }
}

/// One line of the answer to `NAMES`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameEntry {
    /// The part of the node's name before the `@`.
    pub name: String,
    /// Where it listens.
    pub port: u16,
}

/// The answer to `NAMES`, which ends with the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamesReply {
    /// The port of epmd itself.
    pub port: u32,
    /// Who is registered.
    pub nodes: Vec<NameEntry>,
}

impl NamesReply {
    /// Appends the reply.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.port);
        for NameEntry { name, port } in &self.nodes {
            out.put_slice(format!("name {name} at port {port}\n").as_bytes());
        }
    }

    /// Reads the whole of what came before the connection ended.
    ///
    /// # Errors
    /// When it is no such reply, or its last line is cut.
    pub fn decode(input: &[u8]) -> Result<Self, ReplyError> {
        const WRONG: ReplyError = ReplyError("a listing of names");
        let (port, lines) = input.split_first_chunk::<4>().ok_or(WRONG)?;
        let entry = |line: &[u8]| {
            let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
            let (name, port) = line.strip_prefix("name ")?.rsplit_once(" at port ")?;
            Some(NameEntry { name: text(name.as_bytes())?, port: port.parse().ok()? })
        };
        let nodes = lines.split_inclusive(|byte| *byte == b'\n').map(entry).collect::<Option<_>>().ok_or(WRONG)?;
        Ok(Self { port: u32::from_be_bytes(*port), nodes })
    }
}

/// The answer to `DUMP`, which ends with the connection. It is for people; only epmd itself writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpReply {
    /// The port of epmd itself.
    pub port: u32,
    /// Who is registered, each with the descriptor of its connection.
    pub active: Vec<(NameEntry, i32)>,
    /// Who was, and may come back.
    pub unused: Vec<(NameEntry, i32)>,
}

impl DumpReply {
    /// Appends the reply. Each line ends in a zero byte, which the guide leaves out and epmd does not.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.port);
        for (NameEntry { name, port }, fd) in &self.active {
            out.put_slice(format!("active name     <{name}> at port {port}, fd = {fd}\n\0").as_bytes());
        }
        for (NameEntry { name, port }, fd) in &self.unused {
            out.put_slice(format!("old/unused name <{name}>, port = {port}, fd = {fd} \n\0").as_bytes());
        }
    }

    /// The text of a reply, without its zero bytes; `None` when it is too short to be one.
    #[must_use]
    pub fn text(input: &[u8]) -> Option<String> {
        let (_, lines) = input.split_first_chunk::<4>()?;
        Some(String::from_utf8_lossy(lines).replace('\0', ""))
    }
}

/// The answer to `KILL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReply {
    /// It ends.
    Ok,
    /// It does not, for nodes are registered.
    No,
}

impl KillReply {
    /// The bytes of the reply.
    #[must_use]
    pub fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Ok => b"OK",
            Self::No => b"NO",
        }
    }

    /// Reads the whole of what came before the connection ended.
    ///
    /// # Errors
    /// When it is no such reply.
    pub fn decode(input: &[u8]) -> Result<Self, ReplyError> {
        match input {
            b"OK" => Ok(Self::Ok),
            b"NO" => Ok(Self::No),
            _ => Err(ReplyError("a request to end")),
        }
    }
}

/// The answer to `STOP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReply {
    /// The node is forgotten.
    Stopped,
    /// There is no such node.
    NoSuchNode,
}

impl StopReply {
    /// The bytes of the reply. The second is what epmd sends: it falls through from one case to the next.
    #[must_use]
    pub fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Stopped => b"STOPPED",
            Self::NoSuchNode => b"NOEXISTSTOPPED",
        }
    }

    /// Reads the whole of what came before the connection ended.
    ///
    /// # Errors
    /// When it is no such reply; an empty one means that epmd does not allow it.
    pub fn decode(input: &[u8]) -> Result<Self, ReplyError> {
        match input {
            b"STOPPED" => Ok(Self::Stopped),
            input if input.starts_with(b"NOEXIST") => Ok(Self::NoSuchNode),
            _ => Err(ReplyError("a request to stop a node")),
        }
    }
}
