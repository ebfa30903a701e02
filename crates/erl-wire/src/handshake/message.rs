//! The messages of the handshake. Bytes behind a message are room for later versions, and are not looked at.

use bytes::{BufMut, Bytes, BytesMut};
use metacluster_types::NodeName;

use super::{Digest, Flags, HandshakeError, Local, Peer};

const NAME: u8 = b'N';
const OLD_NAME: u8 = b'n';
const STATUS: u8 = b's';
const REPLY: u8 = b'r';
const ACK: u8 = b'a';

/// What the accepting side says to a name, and the dialling one to `alive`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    OkSimultaneous,
    Nok,
    NotAllowed,
    Alive,
    True,
    False,
    Named,
}

const STATUSES: &[(&[u8], Status)] = &[
    (b"ok", Status::Ok),
    (b"ok_simultaneous", Status::OkSimultaneous),
    (b"nok", Status::Nok),
    (b"not_allowed", Status::NotAllowed),
    (b"alive", Status::Alive),
    (b"true", Status::True),
    (b"false", Status::False),
];

impl Status {
    pub(super) fn encode(self) -> Bytes {
        let text = STATUSES.iter().find(|(_, status)| *status == self).map_or(&b""[..], |(text, _)| text);
        [&[STATUS], text].concat().into()
    }

    pub(super) fn decode(message: &[u8]) -> Result<Self, HandshakeError> {
        let text = message.strip_prefix(&[STATUS]).ok_or(HandshakeError::Malformed("status"))?;
        if text.starts_with(b"named:") {
            return Ok(Self::Named);
        }
        let known = STATUSES.iter().find(|(known, _)| *known == text);
        known.map(|(_, status)| *status).ok_or(HandshakeError::Malformed("status"))
    }
}

/// Instead of `ok`: the name that a peer gets, and the life of it.
pub(super) fn encode_named(name: &NodeName, creation: u32) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(STATUS);
    out.put_slice(b"named:");
    put_name(name, &mut out);
    out.put_u32(creation);
    out.freeze()
}

/// The host part that a peer sends when it has no name yet.
pub(super) fn decode_host(message: &[u8]) -> Result<(&str, Flags), HandshakeError> {
    const WRONG: HandshakeError = HandshakeError::Malformed("name");
    let body = body(message, WRONG)?;
    let (flags, rest) = body.split_first_chunk::<8>().ok_or(WRONG)?;
    let (_, rest) = rest.split_first_chunk::<4>().ok_or(WRONG)?;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or(WRONG)?;
    let host = rest.get(..u16::from_be_bytes(*length).into()).ok_or(WRONG)?;
    let host = std::str::from_utf8(host).map_err(|_| WRONG)?;
    Ok((host, Flags(u64::from_be_bytes(*flags)).expanded()))
}

/// The first message: who dials.
pub(super) fn encode_name(local: &Local) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(NAME);
    out.put_u64(local.flags.0);
    out.put_u32(local.creation);
    put_name(&local.name, &mut out);
    out.freeze()
}

pub(super) fn decode_name(message: &[u8]) -> Result<Peer, HandshakeError> {
    const WRONG: HandshakeError = HandshakeError::Malformed("name");
    let body = body(message, WRONG)?;
    let (flags, rest) = body.split_first_chunk::<8>().ok_or(WRONG)?;
    let (creation, rest) = rest.split_first_chunk::<4>().ok_or(WRONG)?;
    let flags = Flags(u64::from_be_bytes(*flags));
    // Such a peer has no host part yet, so this comes before its name is read.
    if flags.has(Flags::NAME_ME) {
        return Err(HandshakeError::DynamicName);
    }
    let name = read_name(rest, WRONG)?;
    Ok(Peer { name, flags: flags.expanded(), creation: u32::from_be_bytes(*creation) })
}

/// The second: who accepts, and a challenge.
pub(super) fn encode_challenge(local: &Local, challenge: u32) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(NAME);
    out.put_u64(local.flags.0);
    out.put_u32(challenge);
    out.put_u32(local.creation);
    put_name(&local.name, &mut out);
    out.freeze()
}

pub(super) fn decode_challenge(message: &[u8]) -> Result<(Peer, u32), HandshakeError> {
    const WRONG: HandshakeError = HandshakeError::Malformed("challenge");
    let body = body(message, WRONG)?;
    let (flags, rest) = body.split_first_chunk::<8>().ok_or(WRONG)?;
    let (challenge, rest) = rest.split_first_chunk::<4>().ok_or(WRONG)?;
    let (creation, rest) = rest.split_first_chunk::<4>().ok_or(WRONG)?;
    let peer = Peer {
        name: read_name(rest, WRONG)?,
        flags: Flags(u64::from_be_bytes(*flags)).expanded(),
        creation: u32::from_be_bytes(*creation),
    };
    Ok((peer, u32::from_be_bytes(*challenge)))
}

/// The third: the dialling side's proof, and its own challenge.
pub(super) fn encode_reply(challenge: u32, digest: Digest) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(REPLY);
    out.put_u32(challenge);
    out.put_slice(&digest.0);
    out.freeze()
}

pub(super) fn decode_reply(message: &[u8]) -> Result<(u32, Digest), HandshakeError> {
    const WRONG: HandshakeError = HandshakeError::Malformed("answer to the challenge");
    let body = message.strip_prefix(&[REPLY]).ok_or(WRONG)?;
    let (challenge, rest) = body.split_first_chunk::<4>().ok_or(WRONG)?;
    let (digest, _) = rest.split_first_chunk::<16>().ok_or(WRONG)?;
    Ok((u32::from_be_bytes(*challenge), Digest(*digest)))
}

/// The fourth: the accepting side's proof.
pub(super) fn encode_ack(digest: Digest) -> Bytes {
    [&[ACK], &digest.0[..]].concat().into()
}

pub(super) fn decode_ack(message: &[u8]) -> Result<Digest, HandshakeError> {
    const WRONG: HandshakeError = HandshakeError::Malformed("acknowledgement of the challenge");
    let body = message.strip_prefix(&[ACK]).ok_or(WRONG)?;
    body.split_first_chunk::<16>().map(|(digest, _)| Digest(*digest)).ok_or(WRONG)
}

fn body(message: &[u8], wrong: HandshakeError) -> Result<&[u8], HandshakeError> {
    match message {
        [NAME, body @ ..] => Ok(body),
        [OLD_NAME, ..] => Err(HandshakeError::OldHandshake),
        _ => Err(wrong),
    }
}

fn put_name(name: &NodeName, out: &mut BytesMut) {
    // 255 characters are at most 1,020 bytes.
    out.put_u16(name.as_str().len() as u16);
    out.put_slice(name.as_str().as_bytes());
}

fn read_name(input: &[u8], wrong: HandshakeError) -> Result<NodeName, HandshakeError> {
    let (length, rest) = input.split_first_chunk::<2>().ok_or(wrong.clone())?;
    let name = rest.get(..u16::from_be_bytes(*length).into()).ok_or(wrong)?;
    let bad = |text: &str| HandshakeError::BadName(text.chars().take(64).collect());
    let text = std::str::from_utf8(name).map_err(|_| bad(&String::from_utf8_lossy(name)))?;
    NodeName::new(text).map_err(|_| bad(text))
}
