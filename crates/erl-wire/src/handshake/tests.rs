//! Both sides against each other, each refusal, and the bytes of OTP 25.2.3.

use proptest::prelude::*;

use super::*;

fn local(name: &str, cookie: &str) -> Local {
    Local {
        name: NodeName::new(name).expect("a name"),
        creation: 7,
        flags: Flags::offered(true),
        cookie: Cookie::new(cookie),
    }
}

fn exactly(name: &str) -> Expect {
    Expect::Exactly(NodeName::new(name).expect("a name"))
}

fn initiator(expect: Expect, framing: Framing) -> Initiator {
    Initiator::new(local("peer@127.0.0.1", "secret"), expect, 0x0102_0304, framing)
}

fn acceptor(cookie: &str, framing: Framing) -> Acceptor {
    Acceptor::new(local("t@127.0.0.1", cookie), 0x1043_ac20, framing)
}

fn hex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("digits");
    (0..text.len()).step_by(2).map(byte).collect()
}

/// A message of the handshake, framed as over TCP.
fn framed(message: &[u8]) -> Vec<u8> {
    Framing::Tcp.frame(message).to_vec()
}

type Outcome = Result<Option<Established>, HandshakeError>;

/// Runs both sides until neither has anything to say, handing the bytes over in pieces of this size.
fn run(mut dials: Initiator, mut listens: Acceptor, decision: Decision, piece: usize) -> (Outcome, Outcome) {
    let (mut dialled, mut accepted) = (Ok(None), Ok(None));
    loop {
        let mut idle = true;
        while let Some(output) = dials.poll_output() {
            idle = false;
            match output {
                Output::Send(bytes) => {
                    for piece in bytes.chunks(piece) {
                        if accepted == Ok(None) {
                            accepted = listens.handle_bytes(piece).map(|()| None);
                        }
                    }
                }
                Output::Established(established) => dialled = Ok(Some(established)),
                Output::Decide(peer) => panic!("nothing to decide about {peer:?}"),
            }
        }
        while let Some(output) = listens.poll_output() {
            idle = false;
            match output {
                Output::Send(bytes) => {
                    for piece in bytes.chunks(piece) {
                        if dialled == Ok(None) {
                            dialled = dials.handle_bytes(piece).map(|()| None);
                        }
                    }
                }
                Output::Established(established) => accepted = Ok(Some(established)),
                Output::Decide(peer) => {
                    assert_eq!(peer.name.as_str(), "peer@127.0.0.1");
                    accepted = listens.handle_decision(decision).map(|()| None);
                }
            }
        }
        if idle {
            // Who waits when the other side has given up sees the connection end.
            if accepted.is_err() && dialled == Ok(None) {
                dialled = Err(dials.handle_closed());
            }
            if dialled.is_err() && accepted == Ok(None) {
                accepted = Err(listens.handle_closed());
            }
            return (dialled, accepted);
        }
    }
}

fn meet(decision: Decision) -> (Outcome, Outcome) {
    run(initiator(exactly("t@127.0.0.1"), Framing::Tcp), acceptor("secret", Framing::Tcp), decision, usize::MAX)
}

#[test]
fn two_nodes_that_share_a_cookie_connect() {
    for framing in [Framing::Tcp, Framing::Tls] {
        for piece in [1, 2, 3, 7, usize::MAX] {
            for expect in [exactly("t@127.0.0.1"), Expect::Basename("t".to_owned())] {
                let sides = (initiator(expect, framing), acceptor("secret", framing));
                let (dialled, accepted) = run(sides.0, sides.1, Decision::Accept, piece);
                let dialled = dialled.expect("connected").expect("established");
                let accepted = accepted.expect("connected").expect("established");
                assert_eq!((dialled.peer.as_str(), accepted.peer.as_str()), ("t@127.0.0.1", "peer@127.0.0.1"));
                assert_eq!((dialled.peer_creation, accepted.peer_creation), (7, 7));
                assert_eq!(dialled.flags, Flags::HIDDEN_NODE);
                assert_eq!(dialled.flags, accepted.flags);
                assert_eq!((dialled.replaces, accepted.replaces), (None, None));
            }
        }
    }
}

#[test]
fn a_second_connection_replaces_what_the_acceptor_has() {
    for (decision, replaces) in [(Decision::OkSimultaneous, Replaces::Dial), (Decision::Alive, Replaces::Connection)] {
        let (dialled, accepted) = meet(decision);
        for side in [dialled, accepted] {
            assert_eq!(side.expect("connected").expect("established").replaces, Some(replaces));
        }
    }
}

#[test]
fn refusals_say_why() {
    assert_eq!(meet(Decision::Nok), (Err(HandshakeError::Nok), Err(HandshakeError::Refused)));
    assert_eq!(meet(Decision::NotAllowed), (Err(HandshakeError::NotAllowed), Err(HandshakeError::Refused)));
}

#[test]
fn the_greater_name_keeps_its_dial() {
    let (a, b) = (NodeName::new("a@h").expect("a name"), NodeName::new("b@h").expect("a name"));
    assert_eq!(Decision::simultaneous(&b, &a), Decision::Nok);
    assert_eq!(Decision::simultaneous(&a, &b), Decision::OkSimultaneous);
}

#[test]
fn a_wrong_cookie_is_told_apart_on_both_sides() {
    let sides = (initiator(exactly("t@127.0.0.1"), Framing::Tcp), acceptor("other", Framing::Tcp));
    let (dialled, accepted) = run(sides.0, sides.1, Decision::Accept, usize::MAX);
    assert_eq!(dialled, Err(HandshakeError::WrongCookie { noticed_by: Side::Peer }));
    assert_eq!(accepted, Err(HandshakeError::WrongCookie { noticed_by: Side::Local }));
}

#[test]
fn an_initiator_checks_the_proof_of_the_peer() {
    let mut dials = initiator(exactly("t@127.0.0.1"), Framing::Tcp);
    dials.handle_bytes(&framed(b"sok")).expect("fine");
    let challenge = message::encode_challenge(&local("t@127.0.0.1", "secret"), 1);
    dials.handle_bytes(&framed(&challenge)).expect("fine");
    let ack = message::encode_ack(Digest([0; 16]));
    let result = dials.handle_bytes(&framed(&ack));
    assert_eq!(result, Err(HandshakeError::WrongCookie { noticed_by: Side::Local }));
}

#[test]
fn another_node_than_the_one_dialled_is_refused() {
    for expect in [exactly("u@127.0.0.1"), exactly("t@localhost"), Expect::Basename("u".to_owned())] {
        let sides = (initiator(expect.clone(), Framing::Tcp), acceptor("secret", Framing::Tcp));
        let (dialled, _) = run(sides.0, sides.1, Decision::Accept, usize::MAX);
        let found = NodeName::new("t@127.0.0.1").expect("a name");
        assert_eq!(dialled, Err(HandshakeError::NameMismatch { expected: expect, found }));
    }
}

#[test]
fn a_peer_that_can_do_too_little_is_refused_on_both_sides() {
    let missing = Flags::MAP_TAG.and(Flags::BIG_CREATION);
    let poor = Flags::SET_26.without(missing);
    let mut dials = local("peer@127.0.0.1", "secret");
    dials.flags = poor;
    let dials = Initiator::new(dials, exactly("t@127.0.0.1"), 1, Framing::Tcp);
    let (dialled, accepted) = run(dials, acceptor("secret", Framing::Tcp), Decision::Accept, usize::MAX);
    assert_eq!(dialled, Err(HandshakeError::NotAllowed));
    assert_eq!(accepted, Err(HandshakeError::Incompatible { missing }));
    assert_eq!(
        HandshakeError::Incompatible { missing }.to_string(),
        "the peer is too old or too simple: it lacks MAP_TAG BIG_CREATION"
    );

    let mut listens = local("t@127.0.0.1", "secret");
    listens.flags = poor;
    let listens = Acceptor::new(listens, 1, Framing::Tcp);
    let (dialled, _) = run(initiator(exactly("t@127.0.0.1"), Framing::Tcp), listens, Decision::Accept, usize::MAX);
    assert_eq!(dialled, Err(HandshakeError::Incompatible { missing }));
}

#[test]
fn the_digest_flag_stands_for_the_flags_of_25() {
    let mut dials = local("peer@127.0.0.1", "secret");
    dials.flags = Flags::MANDATORY_25_DIGEST;
    let dials = Initiator::new(dials, exactly("t@127.0.0.1"), 1, Framing::Tcp);
    let (dialled, accepted) = run(dials, acceptor("secret", Framing::Tcp), Decision::Accept, usize::MAX);
    assert!(dialled.expect("connected").expect("established").flags.has(Flags::SET_25));
    assert!(accepted.expect("connected").expect("established").flags.has(Flags::SET_25));
}

#[test]
fn flags_have_the_values_of_otp() {
    assert_eq!(Flags::SET_25.0, 0x0107_0f94);
    // What the capture below shows that OTP 25.2.3 takes, and what 26 to 29 demand.
    assert_eq!(Flags::HIDDEN_NODE.0, 0xd_07df_5fbc);
    assert_eq!(Flags::offered(false).0, 0xd_07df_5fbd);
    assert!(!Flags::HIDDEN_NODE.has(Flags::DIST_HDR_ATOM_CACHE));
    assert!(Flags::HIDDEN_NODE.has(Flags::SET_26));
}

/// A connection of a hidden node to OTP 25.2.3, cookie `secret`; both sides' messages, in turn.
const CAPTURE: [&str; 5] = [
    "4e0000000d07df5fbc00000007000e70656572403132372e302e302e31",
    "736f6b",
    "4e0000000d07df7fbd1043ac206b026593000b74403132372e302e302e31",
    "7201020304517d75ccdad36b2a69a01de4c093d8b5",
    "6124d92202cd3724fb37808c885f4e2298",
];

#[test]
fn the_bytes_are_those_that_otp_took_and_sent() {
    let [name, status, challenge, reply, ack] = CAPTURE.map(|message| framed(&hex(message)));
    let mut dials = initiator(Expect::Basename("t".to_owned()), Framing::Tcp);
    assert_eq!(dials.poll_output(), Some(Output::Send(name.clone().into())));
    // The status and the challenge come in one piece, and frames right behind the last message.
    dials.handle_bytes(&[status.clone(), challenge].concat()).expect("fine");
    assert_eq!(dials.poll_output(), Some(Output::Send(reply.clone().into())));
    dials.handle_bytes(&[ack.clone(), b"\0\0\0\0".to_vec()].concat()).expect("fine");
    let Some(Output::Established(established)) = dials.poll_output() else { panic!("not established") };
    assert_eq!((established.peer.as_str(), established.peer_creation), ("t@127.0.0.1", 0x6b02_6593));
    assert_eq!(established.peer_flags, Flags(0xd_07df_7fbd));
    assert_eq!(established.flags, Flags::HIDDEN_NODE);
    assert_eq!(dials.take_rest(), &b"\0\0\0\0"[..]);

    let mut listens = acceptor("secret", Framing::Tcp);
    listens.handle_bytes(&name).expect("fine");
    assert!(matches!(listens.poll_output(), Some(Output::Decide(peer)) if peer.name.as_str() == "peer@127.0.0.1"));
    listens.handle_decision(Decision::Accept).expect("fine");
    assert_eq!(listens.poll_output(), Some(Output::Send(status.into())));
    listens.poll_output().expect("a challenge");
    listens.handle_bytes(&reply).expect("fine");
    assert_eq!(listens.poll_output(), Some(Output::Send(ack.into())));
    assert!(matches!(listens.poll_output(), Some(Output::Established(_))));
}

#[test]
fn bytes_behind_a_message_are_room_for_later_versions() {
    let [name, _, challenge, reply, ack] = CAPTURE.map(hex);
    let more = |message: Vec<u8>| framed(&[message, b"later".to_vec()].concat());
    let mut dials = initiator(Expect::Basename("t".to_owned()), Framing::Tcp);
    dials.handle_bytes(&framed(b"sok")).expect("fine");
    dials.handle_bytes(&more(challenge)).expect("fine");
    dials.handle_bytes(&more(ack)).expect("fine");
    let mut listens = acceptor("secret", Framing::Tcp);
    listens.handle_bytes(&more(name)).expect("fine");
    listens.handle_decision(Decision::Accept).expect("fine");
    listens.handle_bytes(&more(reply)).expect("fine");
}

#[test]
fn the_old_handshake_and_dynamic_names_are_told_apart() {
    let refused = |message: &[u8]| {
        let mut listens = acceptor("secret", Framing::Tcp);
        let error = listens.handle_bytes(&framed(message)).expect_err("refused");
        (error, listens.poll_output())
    };
    assert_eq!(refused(b"n\0\x05\0\0\0\0old@host").0, HandshakeError::OldHandshake);
    let not_allowed = Some(Output::Send(framed(b"snot_allowed").into()));
    let mut ask = message::encode_name(&local("x@y", "c")).to_vec();
    ask[4] |= 2;
    assert_eq!(refused(&ask), (HandshakeError::DynamicName, not_allowed.clone()));
    let mut bad = message::encode_name(&local("x@y", "c")).to_vec();
    bad[16] = b'_';
    assert_eq!(refused(&bad), (HandshakeError::BadName("x_y".to_owned()), not_allowed));

    let mut dials = initiator(exactly("t@127.0.0.1"), Framing::Tcp);
    let result = dials.handle_bytes(&framed(b"snamed:\0\x073BUN@wan\0\0\0\x01"));
    assert_eq!(result, Err(HandshakeError::DynamicName));
}

#[test]
fn a_peer_without_a_name_gets_one_with_the_word_to_go_on() {
    let naming = Naming { basename: "3BUN".to_owned(), creation: 9 };
    let mut listens = acceptor("secret", Framing::Tcp).with_naming(naming);
    // A name of its own has no place where only a host is expected.
    let ask = |host: &[u8]| {
        let flags = Flags::HIDDEN_NODE.and(Flags::NAME_ME).0.to_be_bytes();
        framed(&[b"N", &flags[..], &[0; 4], &(host.len() as u16).to_be_bytes(), host].concat())
    };
    listens.handle_bytes(&ask(b"wan")).expect("fine");
    let Some(Output::Decide(peer)) = listens.poll_output() else { panic!("nothing to decide") };
    assert_eq!((peer.name.as_str(), peer.creation), ("3BUN@wan", 9));
    listens.handle_decision(Decision::Accept).expect("fine");
    assert_eq!(listens.poll_output(), Some(Output::Send(framed(b"snamed:\0\x083BUN@wan\0\0\0\x09").into())));
    let Some(Output::Send(challenge)) = listens.poll_output() else { panic!("no challenge") };
    let (us, _) = message::decode_challenge(&challenge[2..]).expect("a challenge");
    assert!(us.flags.has(Flags::NAME_ME), "OTP takes its name from no other");

    let mut listens = acceptor("secret", Framing::Tcp).with_naming(Naming { basename: "3BUN".to_owned(), creation: 9 });
    assert!(matches!(listens.handle_bytes(&ask(b"a@b")), Err(HandshakeError::BadName(_))));
}

#[test]
fn an_acceptor_that_is_told_no_goes_no_further() {
    let mut listens = acceptor("secret", Framing::Tcp);
    listens.handle_bytes(&framed(&hex(CAPTURE[0]))).expect("fine");
    listens.handle_decision(Decision::Alive).expect("fine");
    assert_eq!(listens.handle_bytes(&framed(b"sfalse")), Err(HandshakeError::AlreadyConnected));
    let misused = Err(HandshakeError::Misused("nothing to decide"));
    assert_eq!(listens.handle_decision(Decision::Accept), misused);
    assert_eq!(acceptor("secret", Framing::Tcp).handle_decision(Decision::Accept), misused);
}

#[test]
fn what_is_no_handshake_is_refused_early() {
    let mut dials = initiator(exactly("t@127.0.0.1"), Framing::Tcp);
    assert_eq!(dials.handle_bytes(b"HTTP/1.1 400 Bad Request"), Err(HandshakeError::TooLong(0x4854)));
    let mut listens = acceptor("secret", Framing::Tls);
    assert_eq!(listens.handle_bytes(b"GET / HTTP/1.1"), Err(HandshakeError::TooLong(0x4745_5420)));
    let mut listens = acceptor("secret", Framing::Tcp);
    assert_eq!(listens.handle_bytes(&[0, 0]), Err(HandshakeError::Malformed("name")));
    // A peer that talks on before it is answered.
    let mut listens = acceptor("secret", Framing::Tcp);
    listens.handle_bytes(&framed(&hex(CAPTURE[0]))).expect("fine");
    assert_eq!(listens.handle_bytes(&[0; 5000]), Err(HandshakeError::TooLong(5000)));
}

#[test]
fn a_connection_that_ends_is_told_by_what_was_awaited() {
    let mut dials = initiator(exactly("t@127.0.0.1"), Framing::Tcp);
    assert_eq!(dials.handle_closed(), HandshakeError::Closed("answer to our name"));
    let mut dials = initiator(exactly("t@127.0.0.1"), Framing::Tcp);
    dials.handle_bytes(&framed(b"sok")).expect("fine");
    assert_eq!(dials.handle_closed(), HandshakeError::Closed("challenge"));
    assert_eq!(acceptor("secret", Framing::Tcp).handle_closed(), HandshakeError::Closed("name"));
}

#[test]
fn a_message_that_is_cut_anywhere_is_refused() {
    for (turn, message) in CAPTURE.iter().map(|message| hex(message)).enumerate() {
        for length in 0..message.len() {
            let cut = framed(&message[..length]);
            let result = match turn {
                0 => acceptor("secret", Framing::Tcp).handle_bytes(&cut),
                1 => initiator(exactly("t@127.0.0.1"), Framing::Tcp).handle_bytes(&cut),
                _ => {
                    let mut listens = acceptor("secret", Framing::Tcp);
                    let mut dials = initiator(exactly("t@127.0.0.1"), Framing::Tcp);
                    listens.handle_bytes(&framed(&hex(CAPTURE[0]))).expect("fine");
                    listens.handle_decision(Decision::Accept).expect("fine");
                    dials.handle_bytes(&framed(b"sok")).expect("fine");
                    if turn == 4 {
                        dials.handle_bytes(&framed(&hex(CAPTURE[2]))).expect("fine");
                    }
                    if turn == 3 { listens.handle_bytes(&cut) } else { dials.handle_bytes(&cut) }
                }
            };
            assert!(result.is_err(), "message {turn} cut at {length}");
        }
    }
}

#[test]
fn flags_print_their_names() {
    assert_eq!(Flags(0x1).and(Flags::SPAWN).and(Flags(1 << 50)).to_string(), "PUBLISHED SPAWN 0x4000000000000");
    assert_eq!(Flags::default().to_string(), "");
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
        let mut dials = initiator(exactly("t@127.0.0.1"), Framing::Tcp);
        let mut listens = acceptor("secret", Framing::Tls);
        for piece in pieces {
            // Refused or waited for; never taken for a peer.
            drop(dials.handle_bytes(&piece));
            drop(listens.handle_bytes(&piece));
        }
        prop_assert!(!matches!(listens.poll_output(), Some(Output::Established(_))));
    }

    #[test]
    fn a_changed_byte_never_connects(turn in 0_usize..4, at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        // Of the two proofs and the challenges that they answer; names and flags may change and still be valid.
        let mut messages = CAPTURE.map(hex);
        let (turn, from) = [(2, 9), (3, 5), (4, 1), (1, 1)][turn];
        let index = from + at.index(if turn == 2 { 4 } else { messages[turn].len() - from });
        messages[turn][index] ^= 1 << bit;
        let mut dials = initiator(exactly("t@127.0.0.1"), Framing::Tcp);
        let mut result = Ok(());
        for turn in [1, 2, 4] {
            result = result.and_then(|()| dials.handle_bytes(&framed(&messages[turn])));
        }
        let mut listens = acceptor("secret", Framing::Tcp);
        listens.handle_bytes(&framed(&messages[0])).expect("fine");
        listens.handle_decision(Decision::Accept).expect("fine");
        let answer = listens.handle_bytes(&framed(&messages[3]));
        match turn {
            3 => prop_assert!(answer.is_err()),
            // With another challenge our proof is another one, which the peer would refuse.
            2 => {
                dials.poll_output();
                let Some(Output::Send(reply)) = dials.poll_output() else { panic!("no proof") };
                prop_assert_ne!(reply.to_vec(), framed(&messages[3]));
            }
            _ => prop_assert!(result.is_err()),
        }
    }
}
