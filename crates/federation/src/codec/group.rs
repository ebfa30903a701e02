//! Members of a group, as they stand in a frame.

use bytes::{BufMut, BytesMut};

use super::{CodecError, Reader, put_bytes16, put_text8};

/// How many members one frame carries at most; more come in several.
pub(crate) const MEMBERS_MAX: usize = 2_000;
/// The longest name of a group, as a term in bytes.
pub(crate) const GROUP_BYTES_MAX: usize = 4 << 10;
/// How many nodes one frame names at most, each of up to 1,020 bytes.
pub(crate) const NAMES_MAX: usize = 24;

/// A member: which of the frame's names its node is, and the rest of its pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: u16,
    pub(crate) creation: u32,
    pub(crate) id: u32,
    pub(crate) serial: u32,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Members<'a> {
    pub(crate) scope: &'a str,
    /// A term without version byte, identifiers in home form.
    pub(crate) group: &'a [u8],
    /// In home form.
    pub(crate) names: Vec<&'a str>,
    pub(crate) members: Vec<Member>,
}

impl<'a> Members<'a> {
    pub(crate) fn put(&self, out: &mut BytesMut) {
        put_text8(out, self.scope);
        put_bytes16(out, self.group);
        out.put_u16(self.names.len() as u16);
        for name in &self.names {
            put_bytes16(out, name.as_bytes());
        }
        out.put_u32(self.members.len() as u32);
        for member in &self.members {
            out.put_u16(member.name);
            out.put_u32(member.creation);
            out.put_u32(member.id);
            out.put_u32(member.serial);
        }
    }

    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let (scope, group) = (reader.text8()?, reader.bytes16()?);
        if scope.is_empty() {
            return Err(CodecError::Invalid("scope"));
        }
        if group.len() > GROUP_BYTES_MAX {
            return Err(CodecError::TooLong("group"));
        }
        let count = usize::from(reader.u16()?);
        if count > NAMES_MAX {
            return Err(CodecError::TooLong("names"));
        }
        let names = (0..count).map(|_| reader.text16()).collect::<Result<Vec<_>, _>>()?;
        let count = reader.u32()? as usize;
        // Each member is there before room is made for it.
        if count > MEMBERS_MAX || count.saturating_mul(14) > reader.left() {
            return Err(CodecError::TooLong("members"));
        }
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            let (name, creation, id, serial) = (reader.u16()?, reader.u32()?, reader.u32()?, reader.u32()?);
            if usize::from(name) >= names.len() {
                return Err(CodecError::Invalid("name of a member"));
            }
            members.push(Member { name, creation, id, serial });
        }
        reader.end()?;
        Ok(Self { scope, group, names, members })
    }
}
