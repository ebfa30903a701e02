//! What a packet or a stream message is for.
//!
//! ```text
//! 0 ping     sequence:varint target:u64
//! 1 ack      sequence:varint digest:u64 coordinate:5×f32
//! 2 request  sequence:varint target:u128 address                      (probe in my stead)
//! 3 nack     sequence:varint
//! 4 gossip
//! 5 want     count:u16 id:u128*
//! 6 recall   sender:u128 epoch:varint from:varint to:varint           (user events, once more)
//! 8 probe    target:u128        9 present              10 join
//! 11 sync    hash:u64 ×64      12 differing  buckets:u64 count:u32 (id:u128 stamp rank:u8)*
//! 13 trade   count:u32 id:u128*                        14 records
//! 16 answer  number:varint kind:u8 payload:bytes16     17 taken  number:varint
//! ```
//! Items follow until the end. 8 and above go over streams: probe is replied to by present; sync by differing; trade and
//! join by records; answer by taken. Answer and taken go in packets too.

use std::net::SocketAddr;

use metacluster_types::AgentId;

use super::{
    Reader, Writer,
    claim::{address, put_address, put_stamp, stamp},
};
use crate::{
    coordinate::Coordinate,
    error::DecodeError,
    record::{Epoch, Stamp, Version},
    user::ANSWER_BYTES_MAX,
};

/// Digests are kept for so many parts of the space of ids.
pub(crate) const BUCKETS: usize = 64;
/// A packet asks for so many records at most.
pub(crate) const WANTS_MAX: usize = 64;

/// What is known of one member, without its description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) id: AgentId,
    pub(crate) stamp: Stamp,
    pub(crate) version: Version,
    /// Of the claim's kind: alive 0, suspect 1, failed 2, left 3.
    pub(crate) rank: u8,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message {
    Ping { sequence: u32, target: u64 },
    Ack { sequence: u32, digest: u64, coordinate: Coordinate },
    PingRequest { sequence: u32, target: AgentId, address: SocketAddr },
    Nack { sequence: u32 },
    Gossip,
    Want { ids: Vec<AgentId> },
    Recall { sender: AgentId, epoch: Epoch, from: u32, to: u32 },
    Probe { target: AgentId },
    Present,
    Join,
    Sync { digests: Box<[u64; BUCKETS]> },
    Differing { buckets: u64, summaries: Vec<Summary> },
    Trade { wants: Vec<AgentId> },
    Records,
    Answer { number: u32, kind: AnswerKind, payload: Vec<u8> },
    Taken { number: u32 },
}

/// What a member has to say to a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerKind {
    /// It came.
    Came,
    /// This is the answer.
    Answer,
    /// There will be none.
    Nothing,
}

pub(crate) fn put_message(out: &mut Vec<u8>, message: &Message) {
    match message {
        Message::Ping { sequence, target } => {
            out.push(0);
            out.put_varint((*sequence).into());
            out.extend_from_slice(&target.to_be_bytes());
        }
        Message::Ack { sequence, digest, coordinate } => {
            out.push(1);
            out.put_varint((*sequence).into());
            out.extend_from_slice(&digest.to_be_bytes());
            for value in coordinate.to_wire() {
                out.extend_from_slice(&value.to_be_bytes());
            }
        }
        Message::PingRequest { sequence, target, address } => {
            out.push(2);
            out.put_varint((*sequence).into());
            out.put_id(*target);
            put_address(out, *address);
        }
        Message::Nack { sequence } => {
            out.push(3);
            out.put_varint((*sequence).into());
        }
        Message::Gossip => out.push(4),
        Message::Want { ids } => {
            let ids = &ids[..ids.len().min(WANTS_MAX)];
            out.push(5);
            out.extend_from_slice(&u16::try_from(ids.len()).unwrap_or_default().to_be_bytes());
            ids.iter().for_each(|&id| out.put_id(id));
        }
        Message::Probe { target } => {
            out.push(8);
            out.put_id(*target);
        }
        Message::Present => out.push(9),
        Message::Join => out.push(10),
        Message::Sync { digests } => {
            out.push(11);
            for digest in digests.iter() {
                out.extend_from_slice(&digest.to_be_bytes());
            }
        }
        Message::Differing { buckets, summaries } => {
            out.push(12);
            out.extend_from_slice(&buckets.to_be_bytes());
            out.extend_from_slice(&u32::try_from(summaries.len()).unwrap_or_default().to_be_bytes());
            for summary in summaries {
                out.put_id(summary.id);
                put_stamp(out, summary.stamp, summary.version);
                out.push(summary.rank);
            }
        }
        Message::Trade { wants } => {
            out.push(13);
            out.extend_from_slice(&u32::try_from(wants.len()).unwrap_or_default().to_be_bytes());
            wants.iter().for_each(|&id| out.put_id(id));
        }
        Message::Records => out.push(14),
        Message::Recall { sender, epoch, from, to } => {
            out.push(6);
            out.put_id(*sender);
            out.put_varint(epoch.0);
            out.put_varint((*from).into());
            out.put_varint((*to).into());
        }
        Message::Answer { number, kind, payload } => {
            out.push(16);
            out.put_varint((*number).into());
            out.push(match kind {
                AnswerKind::Came => 0,
                AnswerKind::Answer => 1,
                AnswerKind::Nothing => 2,
            });
            out.put_bytes16(payload);
        }
        Message::Taken { number } => {
            out.push(17);
            out.put_varint((*number).into());
        }
    }
}

fn ids(reader: &mut Reader<'_>, count: usize) -> Result<Vec<AgentId>, DecodeError> {
    // Each id is there before room is made for it.
    if count.saturating_mul(16) > reader.left() {
        return Err(DecodeError::Truncated);
    }
    (0..count).map(|_| reader.id()).collect()
}

fn count(reader: &mut Reader<'_>) -> Result<usize, DecodeError> {
    usize::try_from(reader.u32()?).map_err(|_| DecodeError::TooLong("count"))
}

/// Reads one message and leaves the reader at the claims.
pub(crate) fn message(reader: &mut Reader<'_>) -> Result<Message, DecodeError> {
    Ok(match reader.u8()? {
        0 => Message::Ping { sequence: reader.varint32()?, target: reader.u64()? },
        1 => {
            let (sequence, digest) = (reader.varint32()?, reader.u64()?);
            let mut values = [0.0; 5];
            for value in &mut values {
                *value = reader.f32()?;
            }
            let coordinate = Coordinate::from_wire(values).ok_or(DecodeError::Invalid("coordinate"))?;
            Message::Ack { sequence, digest, coordinate }
        }
        2 => Message::PingRequest { sequence: reader.varint32()?, target: reader.id()?, address: address(reader)? },
        3 => Message::Nack { sequence: reader.varint32()? },
        4 => Message::Gossip,
        5 => {
            let count = usize::from(reader.u16()?);
            if count > WANTS_MAX {
                return Err(DecodeError::TooLong("wants"));
            }
            Message::Want { ids: ids(reader, count)? }
        }
        8 => Message::Probe { target: reader.id()? },
        9 => Message::Present,
        10 => Message::Join,
        11 => {
            let mut digests = Box::new([0; BUCKETS]);
            for digest in digests.iter_mut() {
                *digest = reader.u64()?;
            }
            Message::Sync { digests }
        }
        12 => {
            let (buckets, count) = (reader.u64()?, count(reader)?);
            // The shortest summary has 20 bytes.
            if count.saturating_mul(20) > reader.left() {
                return Err(DecodeError::Truncated);
            }
            let mut summaries = Vec::with_capacity(count);
            for _ in 0..count {
                let id = reader.id()?;
                let (stamp, version) = stamp(reader)?;
                let rank = reader.u8()?;
                if rank > 3 {
                    return Err(DecodeError::Invalid("rank"));
                }
                summaries.push(Summary { id, stamp, version, rank });
            }
            Message::Differing { buckets, summaries }
        }
        13 => {
            let count = count(reader)?;
            Message::Trade { wants: ids(reader, count)? }
        }
        14 => Message::Records,
        6 => Message::Recall {
            sender: reader.id()?,
            epoch: Epoch(reader.varint()?),
            from: reader.varint32()?,
            to: reader.varint32()?,
        },
        16 => {
            let number = reader.varint32()?;
            let kind = match reader.u8()? {
                0 => AnswerKind::Came,
                1 => AnswerKind::Answer,
                2 => AnswerKind::Nothing,
                _ => return Err(DecodeError::Invalid("kind of answer")),
            };
            let payload = reader.bytes16()?;
            if payload.len() > ANSWER_BYTES_MAX {
                return Err(DecodeError::TooLong("answer"));
            }
            Message::Answer { number, kind, payload: payload.to_vec() }
        }
        17 => Message::Taken { number: reader.varint32()? },
        _ => return Err(DecodeError::Invalid("kind of message")),
    })
}
