//! User events, queries and heads on the wire, beside the claims of a packet or a stream message.
//!
//! They begin as a claim does, with a kind of their own, so claims and they may stand in any order:
//!
//! ```text
//! event = sender:u128 epoch:varint age:varint sequence:varint 5 recent:u8 name:text8 payload:bytes16      (age in seconds)
//! query = asker:u128 epoch:varint 0 number:varint 6 flags:u8 left:varint name:text8 payload:bytes16 filter (left in ms)
//! head  = sender:u128 epoch:varint 0 sequence:varint 7
//! filter = count:u8 (0 id:u128 | 1 name:text8 | 2 role:text8 | 3 key:text8 value:text8)*
//! ```

use std::time::Duration;

use metacluster_types::{AgentId, Role};

use super::{
    Reader, Writer,
    claim::{put_stamp, stamp},
};
use crate::{
    error::DecodeError,
    record::{Epoch, Incarnation, Stamp, Version},
    user::{FILTER_BYTES_MAX, FILTER_PARTS_MAX, Filter, NAME_BYTES_MAX, PAYLOAD_BYTES_MAX, TIMEOUT_MAX},
};

pub(crate) const EVENT: u8 = 5;
pub(crate) const QUERY: u8 = 6;
pub(crate) const HEAD: u8 = 7;

/// The asker wants to know who got it, before any answer.
const ACKS: u8 = 1;

/// A user event on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventItem {
    pub(crate) sender: AgentId,
    pub(crate) epoch: Epoch,
    pub(crate) sequence: u32,
    /// How long ago it was sent, to the next second.
    pub(crate) age: Duration,
    /// How many of the sender's events before it may still be kept.
    pub(crate) recent: u8,
    pub(crate) name: String,
    pub(crate) payload: Vec<u8>,
}

/// A query on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueryItem {
    pub(crate) asker: AgentId,
    pub(crate) epoch: Epoch,
    pub(crate) number: u32,
    pub(crate) acks: bool,
    /// How long answers are still taken.
    pub(crate) left: Duration,
    pub(crate) name: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) filter: Filter,
}

/// The last event of a sender that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) sender: AgentId,
    pub(crate) epoch: Epoch,
    pub(crate) sequence: u32,
}

/// What stands beside claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UserItem {
    Event(EventItem),
    Query(QueryItem),
    Head(Head),
}

fn put_begin(out: &mut Vec<u8>, id: AgentId, epoch: Epoch, middle: u32, last: u32, kind: u8) {
    out.put_id(id);
    put_stamp(out, Stamp { epoch, incarnation: Incarnation(middle) }, Version(last));
    out.push(kind);
}

pub(crate) fn put_event(out: &mut Vec<u8>, event: &EventItem) {
    // To the next second, so that no event grows younger by being passed on.
    let age = u32::try_from(event.age.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
    put_begin(out, event.sender, event.epoch, age, event.sequence, EVENT);
    out.push(event.recent);
    out.put_text8(&event.name);
    out.put_bytes16(&event.payload);
}

pub(crate) fn put_query(out: &mut Vec<u8>, query: &QueryItem) {
    put_begin(out, query.asker, query.epoch, 0, query.number, QUERY);
    out.push(if query.acks { ACKS } else { 0 });
    out.put_varint(u64::try_from(query.left.as_millis()).unwrap_or(u64::MAX));
    out.put_text8(&query.name);
    out.put_bytes16(&query.payload);
    put_filter(out, &query.filter);
}

pub(crate) fn put_head(out: &mut Vec<u8>, head: Head) {
    put_begin(out, head.sender, head.epoch, 0, head.sequence, HEAD);
}

pub(crate) fn put_filter(out: &mut Vec<u8>, filter: &Filter) {
    out.push(u8::try_from(filter.parts()).unwrap_or(u8::MAX));
    for &id in &filter.ids {
        out.push(0);
        out.put_id(id);
    }
    for name in &filter.names {
        out.push(1);
        out.put_text8(name);
    }
    for role in &filter.roles {
        out.push(2);
        out.put_text8(role.as_str());
    }
    for (key, value) in &filter.tags {
        out.push(3);
        out.put_text8(key);
        out.put_text8(value);
    }
}

fn filter(reader: &mut Reader<'_>) -> Result<Filter, DecodeError> {
    let before = reader.left();
    let count = usize::from(reader.u8()?);
    if count > FILTER_PARTS_MAX {
        return Err(DecodeError::TooLong("filter"));
    }
    let mut filter = Filter::default();
    for _ in 0..count {
        match reader.u8()? {
            0 => drop(filter.ids.insert(reader.id()?)),
            1 => drop(filter.names.insert(reader.text8()?.to_owned())),
            2 => {
                let role = Role::new(reader.text8()?).map_err(|_| DecodeError::Invalid("label"))?;
                filter.roles.insert(role);
            }
            3 => {
                let (key, value) = (reader.text8()?, reader.text8()?);
                filter.tags.insert(key.to_owned(), value.to_owned());
            }
            _ => return Err(DecodeError::Invalid("kind of filter")),
        }
    }
    if before - reader.left() > FILTER_BYTES_MAX {
        return Err(DecodeError::TooLong("filter"));
    }
    Ok(filter)
}

fn name_and_payload(reader: &mut Reader<'_>) -> Result<(String, Vec<u8>), DecodeError> {
    let name = reader.text8()?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
        return Err(DecodeError::Invalid("name"));
    }
    let payload = reader.bytes16()?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(DecodeError::TooLong("payload"));
    }
    Ok((name.to_owned(), payload.to_vec()))
}

/// What follows the kind of an item that is no claim.
pub(crate) fn user_item(
    reader: &mut Reader<'_>,
    id: AgentId,
    (stamp, version): (Stamp, Version),
    kind: u8,
) -> Result<UserItem, DecodeError> {
    let epoch = stamp.epoch;
    Ok(match kind {
        EVENT => {
            let recent = reader.u8()?;
            let (name, payload) = name_and_payload(reader)?;
            let age = Duration::from_secs(stamp.incarnation.0.into());
            UserItem::Event(EventItem { sender: id, epoch, sequence: version.0, age, recent, name, payload })
        }
        QUERY => {
            let flags = reader.u8()?;
            if flags & !ACKS != 0 {
                return Err(DecodeError::Invalid("flags"));
            }
            let left = Duration::from_millis(reader.varint()?).min(TIMEOUT_MAX);
            let (name, payload) = name_and_payload(reader)?;
            let (acks, filter) = (flags & ACKS != 0, filter(reader)?);
            UserItem::Query(QueryItem { asker: id, epoch, number: version.0, acks, left, name, payload, filter })
        }
        HEAD => UserItem::Head(Head { sender: id, epoch, sequence: version.0 }),
        _ => return Err(DecodeError::Invalid("kind of claim")),
    })
}

/// The beginning of every item: whom it is about, and three numbers.
pub(crate) fn begin(reader: &mut Reader<'_>) -> Result<(AgentId, (Stamp, Version), u8), DecodeError> {
    let id = reader.id()?;
    let numbers = stamp(reader)?;
    Ok((id, numbers, reader.u8()?))
}
