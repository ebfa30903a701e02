//! The first frame of each side: who it is, and what it speaks.

use bytes::{BufMut, BytesMut};
use metacluster_types::{AgentId, ClusterName, NodeName, Place, Region, Zone};

use super::{CodecError, Reader, put_bytes16, put_text8};

/// The versions that this gateway speaks.
pub(crate) const VERSION: u8 = 1;
/// A feature: frames that hold others, compressed with zstd, are understood.
pub(crate) const ZSTD: u32 = 1;
/// A feature: one that is asked no more, and has not told the other end so, understands that.
pub(crate) const LET_GO: u32 = 2;

const MAGIC: &[u8; 4] = b"mcfd";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) lowest: u8,
    pub(crate) highest: u8,
    pub(crate) features: u32,
    pub(crate) cluster: ClusterName,
    pub(crate) gateway: AgentId,
    pub(crate) epoch: u64,
    pub(crate) node: NodeName,
    pub(crate) place: Place,
}

impl Hello {
    pub(crate) fn put(&self, out: &mut BytesMut) {
        out.put_slice(MAGIC);
        out.put_u8(self.lowest);
        out.put_u8(self.highest);
        out.put_u32(self.features);
        put_text8(out, self.cluster.as_str());
        out.put_u128(self.gateway.0);
        out.put_u64(self.epoch);
        put_bytes16(out, self.node.as_str().as_bytes());
        put_text8(out, self.place.zone.as_ref().map_or("", Zone::as_str));
        put_text8(out, self.place.region.as_ref().map_or("", Region::as_str));
    }

    /// Reads one; what a later version put behind it stays unread.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        if reader.take(4).ok() != Some(MAGIC) {
            return Err(CodecError::NotAGateway);
        }
        Ok(Self {
            lowest: reader.u8()?,
            highest: reader.u8()?,
            features: reader.u32()?,
            cluster: ClusterName::new(reader.text8()?).map_err(|_| CodecError::Invalid("cluster"))?,
            gateway: AgentId(reader.u128()?),
            epoch: reader.u64()?,
            node: NodeName::new(reader.text16()?).map_err(|_| CodecError::Invalid("node"))?,
            // What names no zone is none.
            place: Place { zone: Zone::new(reader.text8()?).ok(), region: Region::new(reader.text8()?).ok() },
        })
    }

    /// The highest version that both sides speak.
    pub(crate) fn version(&self) -> Option<u8> {
        (self.lowest <= VERSION && VERSION <= self.highest).then_some(VERSION)
    }
}
