//! Descriptions and claims on the wire.
//!
//! ```text
//! description = commitment:16 address name:text8 zone:text8 region:text8
//!               roles:u8 text8*  tags:u8 (key:text8 value:text8)*  state:bytes16
//! address     = 4 v4:4 port:u16 | 6 v6:16 port:u16
//! kind        = 0 alive | 1 suspect count:u8 accuser:u128* | 2 failed accuser:u128 | 3 left proof:16
//!             | 4 ended reporter:u128 ; 0x80 is set when a description follows ; 5 to 7 are no claims (`user`)
//! ```

use std::net::{IpAddr, SocketAddr};

use metacluster_types::{AgentId, Place, Region, Role, Tags, Zone};

use super::{
    Reader, Writer,
    user::{EVENT, HEAD, QUERY, UserItem, begin, user_item},
};
use crate::{
    error::{DecodeError, DescriptionError},
    record::{
        ACCUSERS_MAX, Claim, ClaimKind, Commitment, Described, Description, EPOCH_MAX, Ending, Epoch, INCARNATION_MAX,
        Incarnation, LeaveProof, Stamp, Version, name_hash,
    },
};

const NAME_BYTES_MAX: usize = 128;
const ROLES_MAX: usize = 32;
const TAGS_MAX: usize = 64;
const STATE_BYTES_MAX: usize = 512;
/// So that a claim with its description fits into one packet of any path.
pub(crate) const DESCRIPTION_BYTES_MAX: usize = 960;

const DESCRIBED: u8 = 0x80;

/// Checks and writes a description.
pub(crate) fn describe(description: &Description, commitment: Commitment) -> Result<Described, DescriptionError> {
    let Description { name, address, place, roles, tags, state } = description;
    let label = |text: &str| text.len() <= 255;
    let zone = place.zone.as_ref().map_or("", Zone::as_str);
    let region = place.region.as_ref().map_or("", Region::as_str);
    for (what, fits) in [
        ("the name", name.len() <= NAME_BYTES_MAX),
        ("the zone", label(zone)),
        ("the region", label(region)),
        ("the list of roles", roles.len() <= ROLES_MAX && roles.iter().all(|role| label(role.as_str()))),
        ("the list of tags", tags.len() <= TAGS_MAX && tags.iter().all(|(key, value)| label(key) && label(value))),
        ("the state", state.len() <= STATE_BYTES_MAX),
    ] {
        if !fits {
            return Err(DescriptionError::TooLong(what));
        }
    }
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(&commitment.0);
    put_address(&mut out, *address);
    out.put_text8(name);
    out.put_text8(zone);
    out.put_text8(region);
    out.push(u8::try_from(roles.len()).unwrap_or_default());
    roles.iter().for_each(|role| out.put_text8(role.as_str()));
    out.push(u8::try_from(tags.len()).unwrap_or_default());
    for (key, value) in tags {
        out.put_text8(key);
        out.put_text8(value);
    }
    out.put_bytes16(state);
    if out.len() > DESCRIPTION_BYTES_MAX {
        return Err(DescriptionError::TooLarge { bytes: out.len(), max: DESCRIPTION_BYTES_MAX });
    }
    Ok(kept(description, commitment, &out))
}

/// Reads a description in full.
pub(crate) fn description(bytes: &[u8]) -> Result<(Description, Commitment), DecodeError> {
    if bytes.len() > DESCRIPTION_BYTES_MAX {
        return Err(DecodeError::TooLong("description"));
    }
    let mut reader = Reader::new(bytes);
    let commitment = Commitment(reader.array()?);
    let address = address(&mut reader)?;
    let name = reader.text8()?;
    if name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
        return Err(DecodeError::Invalid("name"));
    }
    let invalid = |_| DecodeError::Invalid("label");
    let (zone, region) = (reader.text8()?, reader.text8()?);
    let place = Place {
        zone: (!zone.is_empty()).then(|| Zone::new(zone)).transpose().map_err(invalid)?,
        region: (!region.is_empty()).then(|| Region::new(region)).transpose().map_err(invalid)?,
    };
    let mut roles = std::collections::BTreeSet::new();
    let count = usize::from(reader.u8()?);
    if count > ROLES_MAX {
        return Err(DecodeError::TooLong("roles"));
    }
    for _ in 0..count {
        roles.insert(Role::new(reader.text8()?).map_err(invalid)?);
    }
    let mut tags = Tags::new();
    let count = usize::from(reader.u8()?);
    if count > TAGS_MAX {
        return Err(DecodeError::TooLong("tags"));
    }
    for _ in 0..count {
        let (key, value) = (reader.text8()?, reader.text8()?);
        tags.insert(key.to_owned(), value.to_owned());
    }
    let state = reader.bytes16()?;
    if state.len() > STATE_BYTES_MAX {
        return Err(DecodeError::TooLong("state"));
    }
    reader.end()?;
    Ok((Description { name: name.to_owned(), address, place, roles, tags, state: state.to_vec() }, commitment))
}

/// Checks a description and keeps its bytes.
fn described(bytes: &[u8]) -> Result<Described, DecodeError> {
    let (description, commitment) = description(bytes)?;
    Ok(kept(&description, commitment, bytes))
}

fn kept(description: &Description, commitment: Commitment, bytes: &[u8]) -> Described {
    let Description { name, address, place, .. } = description;
    let zone_hash = place.zone.as_ref().map(|zone| name_hash(zone.as_str()));
    Described { address: *address, commitment, name_hash: name_hash(name), zone_hash, bytes: bytes.into() }
}

pub(crate) fn put_address(out: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&address.port().to_be_bytes());
}

pub(crate) fn address(reader: &mut Reader<'_>) -> Result<SocketAddr, DecodeError> {
    let ip: IpAddr = match reader.u8()? {
        4 => reader.array::<4>()?.into(),
        6 => reader.array::<16>()?.into(),
        _ => return Err(DecodeError::Invalid("address")),
    };
    Ok(SocketAddr::new(ip, reader.u16()?))
}

pub(crate) fn put_stamp(out: &mut Vec<u8>, stamp: Stamp, version: Version) {
    out.put_varint(stamp.epoch.0);
    out.put_varint(stamp.incarnation.0.into());
    out.put_varint(version.0.into());
}

pub(crate) fn stamp(reader: &mut Reader<'_>) -> Result<(Stamp, Version), DecodeError> {
    let stamp = Stamp { epoch: Epoch(reader.varint()?), incarnation: Incarnation(reader.varint32()?) };
    if stamp.epoch > EPOCH_MAX || stamp.incarnation > INCARNATION_MAX {
        return Err(DecodeError::Invalid("stamp"));
    }
    Ok((stamp, Version(reader.varint32()?)))
}

/// Writes a claim, with its description if `described`.
pub(crate) fn put_claim(out: &mut Vec<u8>, claim: &Claim) {
    out.put_id(claim.subject);
    put_stamp(out, claim.stamp, claim.version);
    let flag = if claim.described.is_some() { DESCRIBED } else { 0 };
    match &claim.kind {
        ClaimKind::Alive => out.push(flag),
        ClaimKind::Suspect(accusers) => {
            let accusers = &accusers[..accusers.len().min(ACCUSERS_MAX)];
            out.push(1 | flag);
            out.push(u8::try_from(accusers.len()).unwrap_or_default());
            accusers.iter().for_each(|&accuser| out.put_id(accuser));
        }
        ClaimKind::Failed(accuser) => {
            out.push(2 | flag);
            out.put_id(*accuser);
        }
        ClaimKind::Left(Ending::Leave(proof)) => {
            out.push(3 | flag);
            out.extend_from_slice(&proof.0);
        }
        ClaimKind::Left(Ending::Provider(reporter)) => {
            out.push(4 | flag);
            out.put_id(*reporter);
        }
    }
    if let Some(described) = &claim.described {
        out.put_bytes16(&described.bytes);
    }
}

/// Reads what follows the kind of a claim.
fn claim(
    reader: &mut Reader<'_>,
    subject: AgentId,
    (stamp, version): (Stamp, Version),
    kind: u8,
) -> Result<Claim, DecodeError> {
    let claimed = match kind & !DESCRIBED {
        0 => ClaimKind::Alive,
        1 => {
            let count = usize::from(reader.u8()?);
            if count == 0 || count > ACCUSERS_MAX {
                return Err(DecodeError::Invalid("accusers"));
            }
            let mut accusers = Vec::with_capacity(count);
            for _ in 0..count {
                accusers.push(reader.id()?);
            }
            ClaimKind::Suspect(accusers)
        }
        2 => ClaimKind::Failed(reader.id()?),
        3 => ClaimKind::Left(Ending::Leave(LeaveProof(reader.array()?))),
        4 => ClaimKind::Left(Ending::Provider(reader.id()?)),
        _ => return Err(DecodeError::Invalid("kind of claim")),
    };
    let described = if kind & DESCRIBED == 0 { None } else { Some(described(reader.bytes16()?)?) };
    Ok(Claim { subject, stamp, version, kind: claimed, described })
}

/// What follows a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Items {
    pub(crate) claims: Vec<Claim>,
    pub(crate) user: Vec<UserItem>,
}

/// Reads claims, user events, queries and heads until the end.
pub(crate) fn items(reader: &mut Reader<'_>) -> Result<Items, DecodeError> {
    let mut items = Items::default();
    while !reader.is_empty() {
        let (id, numbers, kind) = begin(reader)?;
        if matches!(kind, EVENT | QUERY | HEAD) {
            items.user.push(user_item(reader, id, numbers, kind)?);
        } else {
            items.claims.push(claim(reader, id, numbers, kind)?);
        }
    }
    Ok(items)
}
