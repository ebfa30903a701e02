//! Golden bytes, round trips, and hostile input.

use std::{collections::BTreeSet, time::Duration};

use metacluster_types::{AgentId, Place, Role, Tags, Zone};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    Reader, Writer,
    claim::{Items, describe, description, items, put_claim},
    message::{AnswerKind, BUCKETS, Message, Summary, message, put_message},
    packet::{Header, header, put_header},
    user::{EventItem, Head, QueryItem, UserItem, put_event, put_head, put_query},
};
use crate::{
    Coordinate, Filter, NAME_BYTES_MAX, PAYLOAD_BYTES_MAX, TIMEOUT_MAX,
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
        Message::Recall { sender: target, epoch: Epoch(300), from: 1, to: 200 },
        Message::Answer { number: 300, kind: AnswerKind::Came, payload: Vec::new() },
        Message::Answer { number: u32::MAX, kind: AnswerKind::Answer, payload: b"yes".to_vec() },
        Message::Answer { number: 0, kind: AnswerKind::Nothing, payload: Vec::new() },
        Message::Taken { number: 300 },
    ]
}

fn claims(reader: &mut Reader<'_>) -> Result<Vec<Claim>, DecodeError> {
    items(reader).map(|items| items.claims)
}

fn event() -> EventItem {
    EventItem {
        sender: AgentId(3),
        epoch: Epoch(300),
        sequence: 7,
        age: Duration::from_millis(1500),
        recent: 6,
        name: "deploy".to_owned(),
        payload: b"v1".to_vec(),
    }
}

fn query() -> QueryItem {
    let filter = Filter {
        ids: BTreeSet::from([AgentId(8)]),
        names: BTreeSet::from(["web-1".to_owned()]),
        roles: BTreeSet::from([Role::new("web").expect("a role")]),
        tags: Tags::from([("app".to_owned(), "shop".to_owned())]),
    };
    QueryItem {
        asker: AgentId(3),
        epoch: Epoch(300),
        number: 7,
        acks: true,
        left: Duration::from_millis(300),
        name: "load".to_owned(),
        payload: Vec::new(),
        filter,
    }
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
fn a_user_event_and_a_query_have_the_bytes_of_version_1() {
    let mut out = Vec::new();
    put_event(&mut out, &event());
    let subject = "00000000000000000000000000000003";
    assert_eq!(hex(&out), [subject, "ac02", "02", "07", "05", "06", "066465706c6f79", "00027631"].concat());
    let mut out = Vec::new();
    put_query(&mut out, &query());
    let filter =
        ["04", "0000000000000000000000000000000008", "01057765622d31", "0203776562", "03036170700473686f70"].concat();
    assert_eq!(hex(&out), [subject, "ac02", "00", "07", "06", "01", "ac02", "046c6f6164", "0000", &filter].concat());
    let mut out = Vec::new();
    put_head(&mut out, Head { sender: AgentId(3), epoch: Epoch(300), sequence: 7 });
    assert_eq!(hex(&out), [subject, "ac02", "00", "07", "07"].concat());
}

#[test]
fn items_of_every_kind_survive_their_bytes_in_any_order() {
    let head = Head { sender: AgentId(3), epoch: Epoch(300), sequence: 7 };
    let claim =
        Claim { subject: AgentId(1), stamp: stamp(), version: Version(9), kind: ClaimKind::Alive, described: None };
    let mut out = Vec::new();
    put_head(&mut out, head);
    put_event(&mut out, &event());
    put_claim(&mut out, &claim);
    put_query(&mut out, &query());
    // An age goes up to the next second, so that nothing grows younger on its way.
    let aged = EventItem { age: Duration::from_secs(2), ..event() };
    let user = vec![UserItem::Head(head), UserItem::Event(aged), UserItem::Query(query())];
    assert_eq!(items(&mut Reader::new(&out)), Ok(Items { claims: vec![claim], user }));
}

#[test]
fn an_event_or_a_query_beyond_its_limits_is_refused() {
    for (name, payload) in [("x".repeat(65), 0), (String::new(), 0), ("a\nb".to_owned(), 0), ("x".to_owned(), 513)] {
        let mut out = Vec::new();
        put_event(&mut out, &EventItem { name: name.clone(), payload: vec![0; payload], ..event() });
        assert!(items(&mut Reader::new(&out)).is_err(), "{name:?} {payload}");
    }
    let names = (0..17).map(|number| number.to_string()).collect();
    for filter in [
        Filter { names, ..Filter::default() },
        Filter { names: BTreeSet::from(["x".repeat(250)]), ..Filter::default() },
    ] {
        let mut out = Vec::new();
        put_query(&mut out, &QueryItem { filter, ..query() });
        assert_eq!(items(&mut Reader::new(&out)), Err(DecodeError::TooLong("filter")));
    }
}

#[test]
fn the_largest_event_and_query_fit_into_the_smallest_packet() {
    let (name, payload) = ("x".repeat(NAME_BYTES_MAX), vec![0; PAYLOAD_BYTES_MAX]);
    let (epoch, sequence) = (Epoch(1 << 48), u32::MAX);
    let mut out = Vec::new();
    let cluster = "c".repeat(255);
    let head = Header { cluster: &cluster, sender: AgentId(1), epoch, counter: u64::MAX, key: Some(1) };
    put_header(&mut out, &head);
    put_message(&mut out, &Message::Gossip);
    let begin = out.len();
    let age = Duration::from_secs(1 << 20);
    put_event(&mut out, &EventItem { name: name.clone(), payload: payload.clone(), epoch, sequence, age, ..event() });
    assert!(out.len() <= 1200, "{}", out.len());
    out.truncate(begin);
    // Parts whose bytes come to the most that a filter may have.
    let tags = Tags::from([("k".repeat(118), "v".repeat(118))]);
    let filter = Filter { tags, ..Filter::default() };
    put_query(&mut out, &QueryItem { name, payload, epoch, number: u32::MAX, filter, left: TIMEOUT_MAX, ..query() });
    assert!(out.len() <= 1200, "{}", out.len());
    assert!(items(&mut Reader::new(&out[begin..])).is_ok());
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
        drop(items(&mut reader));
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
        put_event(&mut out, &event());
        put_query(&mut out, &query());
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
