//! The header of every packet and stream message: version, cluster, sender, boot and counter.
//!
//! It travels in the clear and is authenticated when the body is sealed.

use metacluster_types::AgentId;

use super::{Reader, Writer};
use crate::{error::DecodeError, record::Epoch};

pub(crate) const WIRE_VERSION: u8 = 1;
const SEALED: u8 = 1;

/// The header, with the cluster's name still in the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) sender: AgentId,
    pub(crate) epoch: Epoch,
    /// Counts the packets of the sender's boot.
    pub(crate) counter: u64,
    /// The id of the key, if the body is sealed.
    pub(crate) key: Option<u32>,
}

pub(crate) fn put_header(out: &mut Vec<u8>, header: &Header<'_>) {
    out.push(WIRE_VERSION);
    out.push(if header.key.is_some() { SEALED } else { 0 });
    out.put_text8(header.cluster);
    out.put_id(header.sender);
    out.put_varint(header.epoch.0);
    out.put_varint(header.counter);
    if let Some(key) = header.key {
        out.extend_from_slice(&key.to_be_bytes());
    }
}

/// Reads the header and leaves the reader at the body.
pub(crate) fn header<'a>(reader: &mut Reader<'a>) -> Result<Header<'a>, DecodeError> {
    let version = reader.u8()?;
    if version != WIRE_VERSION {
        return Err(DecodeError::Incompatible(version));
    }
    let flags = reader.u8()?;
    if flags & !SEALED != 0 {
        return Err(DecodeError::Invalid("flags"));
    }
    let (cluster, sender) = (reader.text8()?, reader.id()?);
    let (epoch, counter) = (Epoch(reader.varint()?), reader.varint()?);
    let key = if flags & SEALED == 0 { None } else { Some(reader.u32()?) };
    Ok(Header { cluster, sender, epoch, counter, key })
}
