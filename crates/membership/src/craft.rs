//! Packets that a member of ill will might send, for the simulation. No part of the public interface.

use std::net::SocketAddr;

use metacluster_types::AgentId;

use crate::{
    codec::{
        claim::{describe, put_claim},
        message::{Message, put_message},
        packet::{Header, put_header},
    },
    record::{Claim, ClaimKind, Commitment, Description, Ending, Epoch, Incarnation, LeaveProof, Stamp, Version},
};

/// What is said of the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// It lives, at this address.
    Alive(SocketAddr),
    /// It is suspect.
    Suspect,
    /// It failed.
    Failed,
    /// It left, by a proof that is none.
    Left,
}

/// A packet of gossip with one claim.
#[must_use]
pub fn gossip(cluster: &str, sender: (AgentId, Epoch), subject: AgentId, stamp: Stamp, lie: Lie) -> Vec<u8> {
    let described = match lie {
        Lie::Alive(address) => {
            let description = Description {
                name: "liar".to_owned(),
                address,
                place: metacluster_types::Place::default(),
                roles: std::collections::BTreeSet::new(),
                tags: metacluster_types::Tags::new(),
                state: Vec::new(),
            };
            describe(&description, Commitment([0; 16])).ok()
        }
        Lie::Suspect | Lie::Failed | Lie::Left => None,
    };
    let kind = match lie {
        Lie::Alive(_) => ClaimKind::Alive,
        Lie::Suspect => ClaimKind::Suspect(vec![sender.0, AgentId(1), AgentId(2), AgentId(3)]),
        Lie::Failed => ClaimKind::Failed(sender.0),
        Lie::Left => ClaimKind::Left(Ending::Leave(LeaveProof([7; 16]))),
    };
    let mut bytes = Vec::new();
    let header = Header { cluster, sender: sender.0, epoch: sender.1, counter: 1, key: None };
    put_header(&mut bytes, &header);
    put_message(&mut bytes, &Message::Gossip);
    put_claim(&mut bytes, &Claim { subject, stamp, version: Version(stamp.incarnation.0), kind, described });
    bytes
}

/// A stamp from its numbers.
#[must_use]
pub const fn stamp(epoch: u64, incarnation: u32) -> Stamp {
    Stamp { epoch: Epoch(epoch), incarnation: Incarnation(incarnation) }
}
