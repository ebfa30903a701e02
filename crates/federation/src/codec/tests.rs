//! Golden bytes and round trips of the link's codec.

use bytes::{Bytes, BytesMut};
use metacluster_types::{AgentId, ClusterName, NodeName, Place, Zone};
use proptest::prelude::*;

use super::{
    CodecError,
    frame::{FRAME_BYTES_MAX, HEAD_BYTES, Inbound, Kind, head},
    group::{MEMBERS_MAX, Member, Members},
    hello::Hello,
};

fn hello() -> Hello {
    Hello {
        lowest: 1,
        highest: 1,
        features: 0,
        cluster: ClusterName::new("west").expect("a name"),
        gateway: AgentId(0x0102),
        epoch: 3,
        node: NodeName::new("metacluster@gw").expect("a name"),
        place: Place { zone: Zone::new("za").ok(), region: None },
    }
}

/// What version 1 is: these bytes never change.
const HELLO: &[u8] =
    b"mcfd\x01\x01\0\0\0\0\x04west\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\x03\0\x0emetacluster@gw\x02za\0";
const JOIN: &[u8] = b"\x02pg\0\x08w\x06orders\0\x01\0\x09west/a@bc\0\0\0\x01\0\0\0\0\0\x07\0\0\0\x05\0\0\0\x01";

#[test]
fn hello_has_its_golden_bytes() {
    let mut out = BytesMut::new();
    hello().put(&mut out);
    assert_eq!(&out[..], HELLO);
    assert_eq!(Hello::read(HELLO), Ok(hello()));
    let later = [HELLO, b"more"].concat();
    assert_eq!(Hello::read(&later), Ok(hello()), "a later version may add to it");
    for end in 0..HELLO.len() {
        assert!(Hello::read(&HELLO[..end]).is_err(), "cut at {end}");
    }
    assert_eq!(Hello::read(b"GET / HTTP/1.1"), Err(CodecError::NotAGateway));
    for (lowest, highest, version) in [(1, 1, Some(1)), (1, 4, Some(1)), (0, 1, Some(1)), (2, 4, None), (0, 0, None)] {
        assert_eq!(Hello { lowest, highest, ..hello() }.version(), version);
    }
}

#[test]
fn members_have_their_golden_bytes() {
    let members = vec![Member { name: 0, creation: 7, id: 5, serial: 1 }];
    let said = Members { scope: "pg", group: b"w\x06orders", names: vec!["west/a@bc"], members };
    let mut out = BytesMut::new();
    said.put(&mut out);
    assert_eq!(&out[..], JOIN);
    assert_eq!(Members::read(JOIN), Ok(said));
    for end in 0..JOIN.len() {
        assert!(Members::read(&JOIN[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn the_largest_frame_of_members_is_a_frame() {
    let members = vec![Member { name: 0, creation: 7, id: 5, serial: 1 }; MEMBERS_MAX];
    let name = "n".repeat(1_020);
    let group = vec![106; super::group::GROUP_BYTES_MAX];
    let said = Members { scope: "pg", group: &group, names: vec![&name; super::group::NAMES_MAX], members };
    let mut out = BytesMut::new();
    said.put(&mut out);
    assert!(out.len() <= FRAME_BYTES_MAX, "{}", out.len());
}

#[test]
fn frames_are_cut_from_the_stream_wherever_it_is_cut() {
    let stream = [
        &head(Kind::Signal, 1, 3)[..],
        b"one",
        &head(Kind::Part, 2, 4),
        b"two ",
        &head(Kind::Ping, 0, 8),
        &[0; 8],
        &head(Kind::LastPart, 2, 5),
        b"three",
    ]
    .concat();
    for piece in 1..stream.len() {
        let mut inbound = Inbound::new(1_000);
        let mut frames = Vec::new();
        for bytes in stream.chunks(piece) {
            let mut input = bytes;
            while let Some((kind, body)) = inbound.next(&mut input).expect("good frames") {
                frames.push((kind, Bytes::copy_from_slice(&body)));
            }
            assert!(input.is_empty(), "all is taken");
        }
        let expected = [
            (Kind::Signal, Bytes::from_static(b"one")),
            (Kind::Ping, Bytes::from_static(&[0; 8])),
            (Kind::Signal, Bytes::from_static(b"two three")),
        ];
        assert_eq!(frames, expected, "in pieces of {piece}");
    }
}

#[test]
fn a_frame_that_is_none_is_an_error() {
    let next = |mut bytes: &[u8]| {
        let mut inbound = Inbound::new(1_000);
        inbound.next(&mut bytes).map(|frame| frame.map(|(kind, _)| kind))
    };
    assert_eq!(next(&[0; HEAD_BYTES]), Err(CodecError::UnknownKind(0)));
    assert_eq!(next(&[18, 0, 0, 0, 0, 0]), Err(CodecError::UnknownKind(18)));
    assert_eq!(next(&[4, 16, 0, 0, 0, 0]), Err(CodecError::Invalid("lane")));
    assert_eq!(next(&[4, 1, 0, 1, 0, 1]), Err(CodecError::TooLong("frame")));
    let within = [&head(Kind::Part, 1, 1)[..], b"x", &head(Kind::Signal, 1, 1), b"y"].concat();
    assert_eq!(next(&within), Err(CodecError::Invalid("part")));
    // Before any of it has come.
    assert_eq!(next(&head(Kind::Part, 1, 1_001)), Err(CodecError::TooLong("message")));
    let further = [&head(Kind::Part, 1, 500)[..], &[0; 500], &head(Kind::LastPart, 1, 501)].concat();
    assert_eq!(next(&further), Err(CodecError::TooLong("message")));
    let two = |lane| [&head(Kind::Part, lane, 700)[..], &[0; 700]].concat();
    assert_eq!(next(&[two(1), two(2), two(3)].concat()), Err(CodecError::TooLong("messages under way")));
}

proptest! {
    #[test]
    fn members_are_read_as_they_were_written(
        scope in "[a-z]{1,20}",
        group in prop::collection::vec(any::<u8>(), 1..50),
        names in prop::collection::vec("[a-z]{1,9}/[a-z]{1,9}@[a-z]{1,9}", 1..9),
        members in prop::collection::vec((any::<u16>(), any::<u32>(), any::<u32>(), any::<u32>()), 0..50),
    ) {
        let count = names.len() as u16;
        let member = |(name, creation, id, serial): (u16, u32, u32, u32)| Member { name: name % count, creation, id, serial };
        let members = members.into_iter().map(member).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let said = Members { scope: &scope, group: &group, names, members };
        let mut out = BytesMut::new();
        said.put(&mut out);
        prop_assert_eq!(Members::read(&out), Ok(said));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop((Hello::read(&bytes), Members::read(&bytes)));
        let mut inbound = Inbound::new(1_000);
        let mut input = &bytes[..];
        while let Ok(Some(_)) = inbound.next(&mut input) {}
    }
}
