//! What is known of a member and said about it: protocol counters, descriptions and claims.
//!
//! A member is an [`AgentId`]. A boot of it is an [`Epoch`], and within a boot its [`Incarnation`] counts up whenever
//! it refutes a suspicion or changes its description. The address is a part of the description and identifies nobody.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use metacluster_types::{AgentId, Instant, Place, Role, Tags};
use sha2::{Digest as _, Sha256};

/// Which boot of a member: greater for each later one. A driver takes the greater of the seconds of the wall clock and
/// the snapshot's epoch plus one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Counts what a member said of itself within one boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u32);

/// Counts the descriptions of a member within one boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32);

/// Where a claim stands among the claims about one member: the later boot wins, then the later incarnation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The boot.
    pub epoch: Epoch,
    /// What the member last said of itself.
    pub incarnation: Incarnation,
}

/// No member is believed to have booted later than this, so that a lie cannot use the counter up.
pub(crate) const EPOCH_MAX: Epoch = Epoch(1 << 48);
/// No boot is believed to have refuted so often; a member that comes near begins a new boot.
pub(crate) const INCARNATION_MAX: Incarnation = Incarnation(1 << 30);

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// A name for people, at most 128 bytes. It need not be unique.
    pub name: String,
    /// Where it takes packets and streams.
    pub address: SocketAddr,
    /// Its zone and region.
    pub place: Place,
    /// What its host is for, at most 32.
    pub roles: BTreeSet<Role>,
    /// Labels, at most 64.
    pub tags: Tags,
    /// A small state of the driver's, at most 512 bytes: its nodes, its links, the version of its key.
    pub state: Vec<u8>,
}

/// The digest of a [`LeaveProof`]. A member carries it from its start, so that nobody else can say that it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commitment(pub [u8; 16]);

/// The secret that only the member itself can show, and shows when it leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LeaveProof(pub [u8; 16]);

impl LeaveProof {
    /// What binds it.
    #[must_use]
    pub fn commitment(&self) -> Commitment {
        let digest = Sha256::new().chain_update(b"metacluster leave 1").chain_update(self.0).finalize();
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        Commitment(short)
    }
}

impl std::fmt::Debug for LeaveProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LeaveProof")
    }
}

/// How a boot of a member ended for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It left, and proves that it was itself who said so.
    Leave(LeaveProof),
    /// Its provider ended it, as this member's strategy was told.
    Provider(AgentId),
}

/// What a claim says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClaimKind {
    Alive,
    /// By whom, at most [`ACCUSERS_MAX`].
    Suspect(Vec<AgentId>),
    Failed(AgentId),
    Left(Ending),
}

/// So many accusers are told of.
pub(crate) const ACCUSERS_MAX: usize = 4;

/// A description as it is on the wire, checked. Members that are only passed on are never taken apart again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) address: SocketAddr,
    pub(crate) commitment: Commitment,
    /// Of the name, so that a name that two share is found without reading all.
    pub(crate) name_hash: u64,
    /// Of the zone, if it has one.
    pub(crate) zone_hash: Option<u64>,
    pub(crate) bytes: Box<[u8]>,
}

/// Something said about a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) subject: AgentId,
    pub(crate) stamp: Stamp,
    pub(crate) version: Version,
    pub(crate) kind: ClaimKind,
    pub(crate) described: Option<Described>,
}

/// The state of a member, as people and programs see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It answers.
    Alive,
    /// It does not answer here or elsewhere, and has time to say otherwise.
    Suspect,
    /// It is held dead.
    Failed,
    /// It ended for good.
    Left,
}

/// Why a member is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DownReason {
    /// Nobody could reach it.
    Failed,
    /// It said so itself.
    Left,
    /// Its provider ended it.
    Provider,
    /// It booted again; the new boot comes up in the same batch.
    Restarted,
}

impl DownReason {
    /// The word of events and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Left => "left",
            Self::Provider => "provider",
            Self::Restarted => "restarted",
        }
    }
}

/// A mixed word for ordered digests: not for secrets.
pub(crate) const fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A hash of a name or a zone, for finding what is equal; not for secrets.
pub(crate) fn name_hash(name: &str) -> u64 {
    name.bytes().fold(mix(name.len() as u64), |hash, byte| mix(hash ^ u64::from(byte)))
}

/// The part of an id that stands for it where a mistake costs nothing.
#[expect(clippy::cast_possible_truncation, reason = "a part of the id is what is asked for")]
pub(crate) const fn short(id: AgentId) -> u64 {
    (id.0 as u64) ^ ((id.0 >> 64) as u64)
}

/// How long something has been, given when it began.
pub(crate) fn age(now: Instant, since: Instant) -> Duration {
    now.since(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_proof_gives_its_commitment() {
        let (one, other) = (LeaveProof([1; 16]), LeaveProof([2; 16]));
        assert_eq!(one.commitment(), one.commitment());
        assert_ne!(one.commitment(), other.commitment());
    }

    #[test]
    fn the_later_boot_wins_over_any_incarnation() {
        let stamp = |epoch, incarnation| Stamp { epoch: Epoch(epoch), incarnation: Incarnation(incarnation) };
        assert!(stamp(2, 0) > stamp(1, 900) && stamp(2, 1) > stamp(2, 0));
    }
}
