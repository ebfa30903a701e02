//! Coming back: what a driver keeps on disk, as data and as bytes.
//!
//! A snapshot holds this member's id and boot, and every member that was known, failed ones too: after a full outage
//! each of their addresses is a seed beside those of discovery. It brings nobody back by itself.
//!
//! ```text
//! snapshot = "MCSN" version:u8=2 id:u128 epoch:varint count:u32 member* count:u32 heard* check:8
//!                                                             (of SHA-256 over what is before it; version 1 lacks heard)
//! member   = id:u128 epoch:varint incarnation:varint version:varint standing:u8 address
//! heard    = id:u128 epoch:varint next:varint
//! ```

use std::net::SocketAddr;

use metacluster_types::{AgentId, Instant};
use sha2::{Digest as _, Sha256};

use crate::{
    Membership,
    codec::{
        Reader, Writer,
        claim::{address, put_address, put_stamp, stamp},
    },
    error::DecodeError,
    record::{Epoch, Stamp, Standing, Version},
};

const MAGIC: &[u8; 4] = b"MCSN";
const MEMBERS_MAX: usize = 100_000;

/// What a driver keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The own id.
    pub id: AgentId,
    /// The own boot; the next must be later.
    pub epoch: Epoch,
    /// Every other member, and those that ended lately.
    pub members: Vec<SnapshotMember>,
    /// What was delivered of their user events, so that the next boot delivers none of it again.
    pub heard: Vec<Heard>,
}

/// What was delivered of a sender's user events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The sender.
    pub id: AgentId,
    /// Its boot.
    pub epoch: Epoch,
    /// The next event that is to be delivered.
    pub next: u32,
}

/// A member in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotMember {
    /// Its id.
    pub id: AgentId,
    /// Its boot and incarnation.
    pub stamp: Stamp,
    /// Whether it lived.
    pub standing: Standing,
    /// Where it was.
    pub address: SocketAddr,
}

/// Why bytes are no snapshot. The driver starts without one, and says so once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Not the beginning of a snapshot.
    #[error("the file is no snapshot of members")]
    NotASnapshot,
    /// Of a later version of the program.
    #[error("the snapshot has version {0}; this program reads up to version 2")]
    Incompatible(u8),
    /// The check at its end does not fit: it was cut short, or changed.
    #[error("the snapshot is damaged")]
    Damaged,
}

impl Snapshot {
    /// The boot to begin: later than the one in the snapshot, and than every boot of a driver that takes the seconds
    /// of its clock as `at_least`.
    #[must_use]
    pub fn next_epoch(&self, at_least: Epoch) -> Epoch {
        Epoch(at_least.0.max(self.epoch.0.saturating_add(1)))
    }

    /// Every address at which somebody was, for [`Input::Seeds`](crate::Input::Seeds).
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.members.iter().filter(|member| member.standing != Standing::Left).map(|member| member.address)
    }

    /// The bytes of the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(2);
        out.put_id(self.id);
        out.put_varint(self.epoch.0);
        let members = &self.members[..self.members.len().min(MEMBERS_MAX)];
        out.extend_from_slice(&u32::try_from(members.len()).unwrap_or_default().to_be_bytes());
        for member in members {
            out.put_id(member.id);
            put_stamp(&mut out, member.stamp, Version(0));
            out.push(match member.standing {
                Standing::Alive => 0,
                Standing::Suspect => 1,
                Standing::Failed => 2,
                Standing::Left => 3,
            });
            put_address(&mut out, member.address);
        }
        let heard = &self.heard[..self.heard.len().min(MEMBERS_MAX)];
        out.extend_from_slice(&u32::try_from(heard.len()).unwrap_or_default().to_be_bytes());
        for heard in heard {
            out.put_id(heard.id);
            out.put_varint(heard.epoch.0);
            out.put_varint(heard.next.into());
        }
        let check = Sha256::digest(&out);
        out.extend_from_slice(&check[..8]);
        out
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// When they are no snapshot, or a damaged one.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(SnapshotError::NotASnapshot)?;
        let version = match rest.first() {
            Some(&version @ 1..=2) => version,
            Some(&version) => return Err(SnapshotError::Incompatible(version)),
            None => return Err(SnapshotError::Damaged),
        };
        let (content, check) = bytes.split_last_chunk::<8>().ok_or(SnapshotError::Damaged)?;
        if Sha256::digest(content)[..8] != check[..] {
            return Err(SnapshotError::Damaged);
        }
        read(content.get(5..).unwrap_or_default(), version).map_err(|_| SnapshotError::Damaged)
    }
}

fn read(bytes: &[u8], version: u8) -> Result<Snapshot, DecodeError> {
    let mut reader = Reader::new(bytes);
    let (id, epoch) = (reader.id()?, Epoch(reader.varint()?));
    let count = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
    if count > MEMBERS_MAX {
        return Err(DecodeError::TooLong("members"));
    }
    let mut members = Vec::new();
    for _ in 0..count {
        let id = reader.id()?;
        let (stamp, _) = stamp(&mut reader)?;
        let standing = match reader.u8()? {
            0 => Standing::Alive,
            1 => Standing::Suspect,
            2 => Standing::Failed,
            3 => Standing::Left,
            _ => return Err(DecodeError::Invalid("standing")),
        };
        members.push(SnapshotMember { id, stamp, standing, address: address(&mut reader)? });
    }
    let mut heard = Vec::new();
    if version > 1 {
        let count = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
        if count > MEMBERS_MAX {
            return Err(DecodeError::TooLong("heard"));
        }
        for _ in 0..count {
            heard.push(Heard { id: reader.id()?, epoch: Epoch(reader.varint()?), next: reader.varint32()? });
        }
    }
    reader.end()?;
    Ok(Snapshot { id, epoch, members, heard })
}

impl Membership {
    /// What to keep on disk.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let members = self.members.iter().map(|(id, member)| SnapshotMember {
            id,
            stamp: member.stamp,
            standing: member.standing(),
            address: member.described.address,
        });
        Snapshot { id: self.me, epoch: self.stamp.epoch, members: members.collect(), heard: self.heard() }
    }

    /// Takes in what was kept: boots that had ended stay ended, and user events that were delivered are not delivered
    /// again. The addresses are for the driver to hand in as seeds.
    pub fn restore(&mut self, now: Instant, snapshot: &Snapshot) {
        let now = self.arrive(now);
        for member in snapshot.members.iter().filter(|member| member.standing == Standing::Left) {
            if self.members.of(member.id).is_none() {
                self.tombstones.set(member.id, member.stamp, true, now + self.settings.tombstone_kept);
            }
        }
        self.restore_heard(now, &snapshot.heard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Incarnation;

    fn snapshot() -> Snapshot {
        let member = |id, standing| SnapshotMember {
            id: AgentId(id),
            stamp: Stamp { epoch: Epoch(7), incarnation: Incarnation(300) },
            standing,
            address: "10.0.0.4:45893".parse().expect("an address"),
        };
        let members = vec![member(2, Standing::Alive), member(3, Standing::Failed), member(4, Standing::Left)];
        let heard = vec![Heard { id: AgentId(2), epoch: Epoch(7), next: 300 }];
        Snapshot { id: AgentId(1), epoch: Epoch(1_700_000_000), members, heard }
    }

    #[test]
    fn a_snapshot_survives_its_bytes() {
        let snapshot = snapshot();
        assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot.clone()));
        assert_eq!(snapshot.addresses().count(), 2);
        assert_eq!(snapshot.next_epoch(Epoch(5)), Epoch(1_700_000_001));
    }

    /// The bytes of version 1, which programs before this one wrote.
    #[test]
    fn a_snapshot_of_version_1_is_read() {
        let mut old = MAGIC.to_vec();
        old.push(1);
        old.put_id(AgentId(1));
        old.put_varint(7);
        old.extend_from_slice(&[0; 4]);
        let check = Sha256::digest(&old);
        old.extend_from_slice(&check[..8]);
        let read = Snapshot { id: AgentId(1), epoch: Epoch(7), members: Vec::new(), heard: Vec::new() };
        assert_eq!(Snapshot::decode(&old), Ok(read));
    }

    #[test]
    fn a_damaged_snapshot_is_refused_whole() {
        let good = snapshot().encode();
        for length in 0..good.len() {
            assert!(Snapshot::decode(&good[..length]).is_err());
        }
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 0x40;
            assert!(Snapshot::decode(&bad).is_err(), "byte {place}");
        }
        assert_eq!(Snapshot::decode(b"{}"), Err(SnapshotError::NotASnapshot));
    }
}
