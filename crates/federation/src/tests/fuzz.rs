//! Streams of a link that are changed at random: whatever comes, nothing breaks, nothing grows without bound, and nobody
//! gets anything who was not handed out. An input that broke something is kept in `corpus.txt`, before the fix.

use metacluster_erl_wire::term;

use super::*;
use crate::codec::frame::{Kind, head};

/// The bytes that a good gateway sends: hello, digest, groups, messages of all kinds.
fn good() -> Vec<u8> {
    let mut world = World::new(&["east", "west"]);
    world.link(0, 1);
    let proxy = world.export(0, &pid("shop@east", 1), 1);
    world.join(1, "orders", &pid("shop@west", 1));
    let client = pid("till@west", 2);
    let stream = {
        let mut machine = Federation::new(settings("west", 2), world.now);
        machine.link_opened(world.now, LinkId(9), None, true);
        let mut out = Vec::new();
        while let Some(piece) = machine.poll_transmit(world.now, LinkId(9)) {
            out.extend_from_slice(&piece.body);
        }
        out
    };
    let mut bytes = stream;
    // It may ask; it has nothing yet, and all of what it exports has come.
    bytes.extend([&head(Kind::Role, 0, 1)[..], &[1]].concat());
    bytes.extend([&head(Kind::Digest, 0, 512)[..], &[0; 512], &head(Kind::Differing, 0, 8), &[0; 8]].concat());
    bytes.extend(head(Kind::InStep, 0, 0));
    // What it has asked for it lets go.
    bytes.extend(head(Kind::LetGo, 0, 0));
    let machine = &mut world.gateways[1].machine;
    let link = *machine.links.keys().next().expect("a link");
    let all = [
        (send(&client, &proxy), Some(term!({hello, (&client), (reference("till@west", 1)), #{a => [1, 2.5]}}))),
        (Control::Link { from: client.clone(), to: proxy.clone() }, None),
        (
            Control::MonitorP {
                from: client.clone(),
                to: Process::Pid(proxy.clone()),
                reference: reference("till@west", 2),
            },
            None,
        ),
        (Control::UnlinkId { id: 3, from: client.clone(), to: proxy.clone() }, None),
        (send(&client, &proxy), Some(Term::binary(vec![3; 40_000]))),
    ];
    for (control, payload) in all {
        let mut body = BytesMut::new();
        term::encode(&Term::from(control), &mut body);
        if let Some(payload) = payload {
            term::encode(&payload, &mut body);
        }
        machine.handle_local(world.now, &body.freeze());
    }
    while let Some(piece) = machine.poll_transmit(world.now, link) {
        bytes.extend_from_slice(piece.head.as_ref().map_or(&[][..], |head| head));
        bytes.extend_from_slice(&piece.body);
    }
    bytes
}

/// A gateway with one member, fed with these bytes; how many messages came through.
#[expect(clippy::wildcard_enum_match_arm, reason = "all but a few never come out")]
fn feed(bytes: &[u8]) -> usize {
    let mut world = World::new(&["east"]);
    let now = world.now;
    let server = pid("shop@east", 1);
    let machine = &mut world.gateways[0].machine;
    machine.local_joined(now, &group(&term!(orders)), std::slice::from_ref(&server));
    machine.link_opened(now, LinkId(1), None, false);
    for piece in bytes.chunks(1_000) {
        machine.handle_link(now, LinkId(1), piece);
    }
    let mut delivered = 0;
    while let Some(output) = machine.poll_output() {
        if let Output::Deliver { control, .. } = output {
            let (control, _) = term::decode(&control, &TermLimits::default()).expect("what comes out is a term");
            let to = match Control::try_from(control).expect("and a control message") {
                Control::SendSender { to, .. } | Control::Link { to, .. } | Control::UnlinkId { to, .. } => to,
                Control::MonitorP { to: Process::Pid(to), .. } | Control::DemonitorP { to: Process::Pid(to), .. } => to,
                other => panic!("nobody has made what this ends: {other:?}"),
            };
            assert_eq!(to, server, "nobody else was handed out");
            delivered += 1;
        }
    }
    assert!(machine.sizes().far < 10_000);
    delivered
}

#[test]
fn a_good_stream_is_read() {
    assert_eq!(feed(&good()), 5);
}

#[test]
fn changed_streams_do_no_harm() {
    let good = good();
    let mut random = 1_u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    for _ in 0..1_500 {
        let mut bytes = good.clone();
        for _ in 0..1 + next(4) {
            // The start, where the frames are small, more often than the large message at the end.
            let region = if next(8) == 0 { bytes.len() } else { bytes.len().min(1_500) };
            let place = next(region);
            match next(5) {
                0 => bytes[place] ^= 1 << next(8),
                1 => bytes[place] = next(256) as u8,
                2 => drop(bytes.remove(place)),
                3 => bytes.insert(place, next(256) as u8),
                _ => bytes.truncate(place.max(60)),
            }
            if bytes.is_empty() {
                break;
            }
        }
        feed(&bytes);
    }
}

#[test]
fn inputs_that_once_broke_something_do_no_harm() {
    for line in include_str!("corpus.txt").lines().filter(|line| !line.starts_with('#')) {
        let (name, hex) = line.split_once(' ').expect("a name and bytes");
        let digits: Vec<u8> = hex.bytes().map(|digit| (digit as char).to_digit(16).expect("hex") as u8).collect();
        let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        assert!(!bytes.is_empty(), "{name}");
        feed(&bytes);
    }
}
