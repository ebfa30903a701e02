//! Golden bytes, round trips, and hostile input.

use std::collections::BTreeSet;

use metacluster_types::{AgentId, Place, Role, Tags, Zone};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    Reader, Writer,
    claim::{claims, describe, description, put_claim},
    message::{BUCKETS, Message, Summary, message, put_message},
    packet::{Header, header, put_header},
};
use crate::{
    Coordinate,
    error::{DecodeError, DescriptionError},
    record::{Claim, ClaimKind, Commitment, Description, Ending, Epoch, Incarnation, LeaveProof, Stamp, Version},
};

fn example() -> Description {
    Description {
        name: "web-1".to_owned(),
        address: "10.0.0.4:45893".parse().expect("an address"),
        place: Place { zone: Some(Zone::new("a").expect("a zone")), region: None },
        roles: BTreeSet::from([Role::new("web").expect("a role")]),
        tags: Tags::from([("app".to_owned(), "shop".to_owned())]),
        state: vec![1, 2, 3],
    }
}

fn stamp() -> Stamp {
    Stamp { epoch: Epoch(300), incarnation: Incarnation(2) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn kinds() -> Vec<ClaimKind> {
    vec![
        ClaimKind::Alive,
        ClaimKind::Suspect(vec![AgentId(7), AgentId(8)]),
        ClaimKind::Failed(AgentId(9)),
        ClaimKind::Left(Ending::Leave(LeaveProof([3; 16]))),
        ClaimKind::Left(Ending::Provider(AgentId(10))),
    ]
}

fn messages() -> Vec<Message> {
    let target = AgentId(5);
    vec![
        Message::Ping { sequence: 1, target: 2 },
        Message::Ack { sequence: u32::MAX, digest: 3, coordinate: Coordinate::default() },
        Message::PingRequest { sequence: 4, target, address: "[::1]:1".parse().expect("an address") },
        Message::Nack { sequence: 5 },
        Message::Gossip,
        Message::Want { ids: vec![target] },
        Message::Probe { target },
        Message::Present,
        Message::Join,
        Message::Sync { digests: Box::new([6; BUCKETS]) },
        Message::Differing {
            buckets: 7,
            summaries: vec![Summary { id: target, stamp: stamp(), version: Version(1), rank: 3 }],
        },
        Message::Trade { wants: vec![target, AgentId(6)] },
        Message::Records,
    ]
}

/// The bytes of version 1, which never change.
#[test]
fn a_ping_has_the_bytes_of_version_1() {
    let mut out = Vec::new();
    put_header(&mut out, &Header { cluster: "main", sender: AgentId(1), epoch: Epoch(300), counter: 5, key: None });
    put_message(&mut out, &Message::Ping { sequence: 200, target: 0x0102 });
    assert_eq!(
        hex(&out),
        concat!("0100", "046d61696e", "00000000000000000000000000000001", "ac02", "05", "00c801", "0000000000000102")
    );
}

#[test]
fn a_claim_has_the_bytes_of_version_1() {
    let described = describe(&example(), Commitment([9; 16])).expect("it fits");
    let claim = Claim {
        subject: AgentId(2),
        stamp: stamp(),
        version: Version(1),
        kind: ClaimKind::Suspect(vec![AgentId(3)]),
        described: Some(described),
    };
    let mut out = Vec::new();
    put_claim(&mut out, &claim);
    assert_eq!(
        hex(&out),
        concat!(
            "00000000000000000000000000000002",
            "ac02",
            "02",
            "01",
            "81",
            "01",
            "00000000000000000000000000000003",
            "0034",
            "09090909090909090909090909090909",
            "040a000004b345",
            "057765622d31",
            "0161",
            "00",
            "0103776562",
            "01036170700473686f70",
            "0003010203"
        )
    );
    assert_eq!(claims(&mut Reader::new(&out)), Ok(vec![claim]));
}

#[test]
fn a_description_survives_its_bytes() {
    let described = describe(&example(), Commitment([9; 16])).expect("it fits");
    assert_eq!(description(&described.bytes), Ok((example(), Commitment([9; 16]))));
}

#[test]
fn every_claim_and_message_survives_its_bytes() {
    for kind in kinds() {
        let claim = Claim { subject: AgentId(1), stamp: stamp(), version: Version(9), kind, described: None };
        let mut out = Vec::new();
        put_claim(&mut out, &claim);
        put_claim(&mut out, &claim);
        assert_eq!(claims(&mut Reader::new(&out)), Ok(vec![claim.clone(), claim]));
    }
    for sent in messages() {
        let mut out = Vec::new();
        put_message(&mut out, &sent);
        let mut reader = Reader::new(&out);
        assert_eq!(message(&mut reader), Ok(sent));
        assert!(reader.is_empty());
    }
    for key in [None, Some(77)] {
        let head = Header { cluster: "c", sender: AgentId(1), epoch: Epoch(2), counter: u64::MAX, key };
        let mut out = Vec::new();
        put_header(&mut out, &head);
        assert_eq!(header(&mut Reader::new(&out)), Ok(head));
    }
}

#[test]
fn varints_are_bounded() {
    for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
        let mut out = Vec::new();
        out.put_varint(value);
        assert_eq!(Reader::new(&out).varint(), Ok(value));
    }
    assert_eq!(Reader::new(&[0xff; 11]).varint(), Err(DecodeError::Invalid("varint")));
    assert_eq!(Reader::new(&[0x80]).varint(), Err(DecodeError::Truncated));
}

#[test]
fn what_does_not_fit_into_a_packet_is_refused_by_name() {
    let long = Description { name: "x".repeat(129), ..example() };
    assert_eq!(describe(&long, Commitment([0; 16])), Err(DescriptionError::TooLong("the name")));
    let tags = (0..8).map(|number| (format!("key{number}"), "v".repeat(200))).collect();
    let large = describe(&Description { tags, ..example() }, Commitment([0; 16]));
    assert!(matches!(large, Err(DescriptionError::TooLarge { .. })), "{large:?}");
}

#[test]
fn a_count_makes_no_room_for_what_is_not_there() {
    for kind in [12_u8, 13] {
        let mut bytes = vec![kind];
        if kind == 12 {
            bytes.extend_from_slice(&[0; 8]);
        }
        bytes.extend_from_slice(&u32::MAX.to_be_bytes());
        bytes.extend_from_slice(&[0; 64]);
        assert_eq!(message(&mut Reader::new(&bytes)), Err(DecodeError::Truncated));
    }
}

/// Reads as the machine does: every byte string is either read or refused.
fn read(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    if header(&mut reader).is_ok() && message(&mut reader).is_ok() {
        drop(claims(&mut reader));
    }
    drop(description(bytes));
}

#[test]
fn hostile_bytes_are_read_or_refused() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let described = describe(&example(), Commitment([9; 16])).expect("it fits");
    let mut packets = Vec::new();
    for sent in messages() {
        let mut out = Vec::new();
        let head = Header { cluster: "main", sender: AgentId(1), epoch: Epoch(300), counter: 5, key: None };
        put_header(&mut out, &head);
        put_message(&mut out, &sent);
        for kind in kinds() {
            let described = Some(described.clone());
            let claim = Claim { subject: AgentId(1), stamp: stamp(), version: Version(9), kind, described };
            put_claim(&mut out, &claim);
        }
        packets.push(out);
    }
    for packet in &packets {
        for length in 0..packet.len() {
            read(&packet[..length]);
        }
        for _ in 0..2000 {
            let mut bad = packet.clone();
            for _ in 0..rng.random_range(1..4) {
                let place = rng.random_range(0..bad.len());
                bad[place] = rng.random();
            }
            read(&bad);
        }
    }
    for _ in 0..20_000 {
        let length = rng.random_range(0..120);
        let bytes: Vec<u8> = (0..length).map(|_| rng.random()).collect();
        read(&bytes);
    }
}
