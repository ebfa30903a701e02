//! Requests and replies against the bytes of a stock epmd (OTP 25.2.3, erts 13.1.5), taken from its socket.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("digits");
    (0..text.len()).step_by(2).map(byte).collect()
}

fn request(request: &Request) -> Vec<u8> {
    let mut out = BytesMut::new();
    request.encode(&mut out);
    out.to_vec()
}

fn shop() -> Registration {
    Registration::new("shop", 4711, NodeType::Normal)
}

fn cafe() -> Registration {
    Registration { extra: b"ab\0c".to_vec(), ..Registration::new("café", 4712, NodeType::Hidden) }
}

#[test]
fn requests_have_the_bytes_that_epmd_takes() {
    let cases = [
        (Request::Register(shop()), "00117812674d0000060005000473686f700000"),
        (Request::Register(cafe()), "00167812684800000600050005636166c3a9000461620063"),
        (Request::PortPlease("café".to_owned()), "00067a636166c3a9"),
        (Request::Names, "00016e"),
        (Request::Dump, "000164"),
        (Request::Kill, "00016b"),
        (Request::Stop("shop".to_owned()), "00057373686f70"),
    ];
    for (value, bytes) in cases {
        let bytes = hex(bytes);
        assert_eq!(request(&value), bytes);
        for length in 0..bytes.len() {
            assert_eq!(Request::decode(&bytes[..length]), Ok(None), "{value:?} cut at {length}");
        }
        assert_eq!(Request::decode(&bytes), Ok(Some(value)));
        assert_eq!(Request::decode(&[&bytes[..], b"x"].concat()), Err(RequestError::Trailing));
    }
}

#[test]
fn requests_are_refused_where_epmd_refuses() {
    let decode = |body: &[u8]| {
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        Request::decode(&[&length, body].concat())
    };
    let register = |name: &[u8], extra: &[u8]| {
        let (name_length, extra_length) = (name.len() as u16, extra.len() as u16);
        let head = [b'x', 0, 1, 77, 0, 0, 5, 0, 5];
        decode(&[&head, &name_length.to_be_bytes()[..], name, &extra_length.to_be_bytes(), extra].concat())
    };
    let refused = Err(RequestError::BadRegistration { highest: 5 });
    // Answered with a refusal.
    assert_eq!(register(b"\xff", b""), refused);
    assert_eq!(register(&[b'x'; 256], b""), refused);
    assert_eq!(register(b"x", &[0; 1021]), refused);
    // Closed without an answer.
    assert_eq!(register(b"a\0b", b""), Err(RequestError::Malformed));
    assert_eq!(register(b"", b""), Err(RequestError::Malformed));
    assert_eq!(decode(b"x\0\x01"), Err(RequestError::Malformed));
    assert_eq!(decode(b"x\0\x01M\0\0\x05\0\x05\0\x09shop\0\0"), Err(RequestError::Malformed));
    assert_eq!(decode(b"q"), Err(RequestError::UnknownOpcode(b'q')));
    for nameless in [&b"z"[..], b"z\0", b"z\0\0", b"s", b"s\0shop"] {
        assert_eq!(decode(nameless), Err(RequestError::Malformed), "{nameless:?}");
    }
    assert_eq!(Request::decode(&[0, 0]), Err(RequestError::Length(0)));
    assert_eq!(Request::decode(&3058_u16.to_be_bytes()), Err(RequestError::Length(3058)));
    // Taken.
    assert!(register(&"ж".repeat(255).into_bytes(), &[0; 1020]).is_ok());
    assert!(decode(b"x\0\x01M\0\0\x05\0\x05\0\x01s\0\0more").is_ok());
    assert_eq!(decode(b"zshop\0"), Ok(Some(Request::PortPlease("shop".to_owned()))));
    assert_eq!(decode(b"sshop\0more"), Ok(Some(Request::Stop("shop".to_owned()))));
    assert_eq!(decode(b"nxxxx"), Ok(Some(Request::Names)));
}

#[test]
fn registrations_are_answered() {
    let cases = [
        (RegisterReply::Registered { creation: 0x6b02_66ed }, 6, "76006b0266ed"),
        (RegisterReply::Registered { creation: 3 }, 5, "79000003"),
        (RegisterReply::Refused { result: 1 }, 6, "760100000063"),
        (RegisterReply::Refused { result: 1 }, 5, "79010063"),
    ];
    for (reply, highest, bytes) in cases {
        let (bytes, mut out) = (hex(bytes), BytesMut::new());
        reply.encode(highest, &mut out);
        assert_eq!(out, bytes);
        assert_eq!(RegisterReply::decode(&bytes), Ok(Some(reply)));
        for length in 0..bytes.len() {
            assert_eq!(RegisterReply::decode(&bytes[..length]), Ok(None));
        }
    }
    assert!(RegisterReply::decode(b"HTTP/1.1 400").is_err());
}

#[test]
fn look_ups_are_answered() {
    let cases = [
        (PortReply::Found(shop()), "770012674d0000060005000473686f700000"),
        (PortReply::Found(cafe()), "770012684800000600050005636166c3a9000461620063"),
        (PortReply::NotFound, "7701"),
    ];
    for (reply, bytes) in cases {
        let (bytes, mut out) = (hex(bytes), BytesMut::new());
        reply.encode(&mut out);
        assert_eq!(out, bytes);
        for length in 0..bytes.len() {
            assert_eq!(PortReply::decode(&bytes[..length]), Ok(None));
        }
        assert_eq!(PortReply::decode(&bytes), Ok(Some(reply)));
    }
    assert!(PortReply::decode(b"HTTP/1.1 400").is_err());
}

#[test]
fn names_are_listed() {
    let bytes = hex(concat!(
        "0000c0696e616d65206f6c6420617420706f727420343731330a",
        "6e616d6520636166c3a920617420706f727420343731320a6e616d652073686f7020617420706f727420343731310a",
    ));
    let entry = |name: &str, port| NameEntry { name: name.to_owned(), port };
    let nodes = vec![entry("old", 4713), entry("café", 4712), entry("shop", 4711)];
    let reply = NamesReply { port: 49257, nodes };
    let mut out = BytesMut::new();
    reply.encode(&mut out);
    assert_eq!(out, bytes);
    assert_eq!(NamesReply::decode(&bytes), Ok(reply));
    // A cut after a line cannot be told from the end; any other can.
    for length in (0..bytes.len()).filter(|length| *length < 4 || (*length > 4 && bytes[length - 1] != b'\n')) {
        assert!(NamesReply::decode(&bytes[..length]).is_err(), "cut at {length}");
    }
    // A name that looks like the rest of a line.
    let tricky = NamesReply { port: 1, nodes: vec![entry("a at port 1", 2)] };
    let mut out = BytesMut::new();
    tricky.encode(&mut out);
    assert_eq!(NamesReply::decode(&out), Ok(tricky));
}

#[test]
fn the_dump_has_the_bytes_of_epmd() {
    let bytes = hex(concat!(
        "0000c069616374697665206e616d6520202020203c636166c3a93e20617420706f727420343731322c206664203d20360a00",
        "616374697665206e616d6520202020203c73686f703e20617420706f727420343731312c206664203d20350a00",
        "6f6c642f756e75736564206e616d65203c6f6c643e2c20706f7274203d20343731332c206664203d2037200a00",
    ));
    let entry = |name: &str, port| NameEntry { name: name.to_owned(), port };
    let reply = DumpReply {
        port: 49257,
        active: vec![(entry("café", 4712), 6), (entry("shop", 4711), 5)],
        unused: vec![(entry("old", 4713), 7)],
    };
    let mut out = BytesMut::new();
    reply.encode(&mut out);
    assert_eq!(out, bytes);
    assert!(DumpReply::text(&bytes).expect("a dump").starts_with("active name     <café> at port 4712, fd = 6\n"));
    assert_eq!(DumpReply::text(&bytes[..3]), None);
}

#[test]
fn commands_are_answered() {
    for reply in [KillReply::Ok, KillReply::No] {
        assert_eq!(KillReply::decode(reply.as_bytes()), Ok(reply));
    }
    for reply in [StopReply::Stopped, StopReply::NoSuchNode] {
        assert_eq!(StopReply::decode(reply.as_bytes()), Ok(reply));
    }
    assert!(KillReply::decode(b"").is_err());
    assert!(StopReply::decode(b"").is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(opcode in prop::sample::select(&b"xzndks?"[..]), body in prop::collection::vec(any::<u8>(), 0..60)) {
        let length = u16::try_from(body.len() + 1).expect("short").to_be_bytes();
        let bytes = [&length, &[opcode][..], &body].concat();
        if let Ok(Some(value)) = Request::decode(&bytes) {
            prop_assert_eq!(Request::decode(&request(&value)), Ok(Some(value)));
        }
        // Whatever comes is an answer, or none, or the start of one.
        drop(RegisterReply::decode(&body));
        drop(PortReply::decode(&body));
        drop(NamesReply::decode(&body));
    }

    #[test]
    fn a_registration_survives_the_wire(
        name in "[^\0]{1,255}",
        numbers in any::<(u16, u8, u8, u16, u16)>(),
        extra in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let (port, node_type, protocol, highest, lowest) = numbers;
        let registration = Registration { name, port, node_type: node_type.into(), protocol, highest, lowest, extra };
        let register = Request::Register(registration.clone());
        prop_assert_eq!(Request::decode(&request(&register)), Ok(Some(register)));
        let mut out = BytesMut::new();
        let reply = PortReply::Found(registration);
        reply.encode(&mut out);
        prop_assert_eq!(PortReply::decode(&out), Ok(Some(reply)));
    }
}
