//! Packets that a member of ill will might send, for the simulation. No part of the public interface.

use std::{net::SocketAddr, time::Duration};

use metacluster_types::AgentId;

use crate::{
    Filter,
    codec::{
        claim::{describe, put_claim},
        message::{Message, put_message},
        packet::{Header, put_header},
        user::{EventItem, QueryItem, put_event, put_query},
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

fn packet(cluster: &str, sender: (AgentId, Epoch)) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_header(&mut bytes, &Header { cluster, sender: sender.0, epoch: sender.1, counter: 1, key: None });
    put_message(&mut bytes, &Message::Gossip);
    bytes
}

/// A packet with a user event of its sender.
#[must_use]
pub fn event(cluster: &str, sender: (AgentId, Epoch), sequence: u32, recent: u8) -> Vec<u8> {
    event_of(cluster, sender, sender, sequence, recent)
}

/// A packet with a user event in the name of somebody.
#[must_use]
pub fn event_of(
    cluster: &str,
    sender: (AgentId, Epoch),
    (subject, epoch): (AgentId, Epoch),
    sequence: u32,
    recent: u8,
) -> Vec<u8> {
    let mut bytes = packet(cluster, sender);
    let (age, name) = (Duration::ZERO, "crafted".to_owned());
    put_event(&mut bytes, &EventItem { sender: subject, epoch, sequence, age, recent, name, payload: Vec::new() });
    bytes
}

/// A packet with a query of its sender that is for all.
#[must_use]
pub fn query(cluster: &str, (asker, epoch): (AgentId, Epoch), number: u32, left: Duration) -> Vec<u8> {
    let mut bytes = packet(cluster, (asker, epoch));
    let (name, filter) = ("crafted".to_owned(), Filter::default());
    put_query(&mut bytes, &QueryItem { asker, epoch, number, acks: true, left, name, payload: Vec::new(), filter });
    bytes
}
