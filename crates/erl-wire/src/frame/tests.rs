//! Frames of OTP 25.2.3, cut, interleaved and hostile.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::{
    control::{ControlError, Process, Sending},
    term::{Atom, DecodeError, Limits, Pid, Reference, Term, bytes_within, tests::any_term},
};

fn hex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("digits");
    (0..text.len()).step_by(2).map(byte).collect()
}

/// Name and frame, as captured.
fn captured() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let lines = include_str!("../../tests/corpus/frames.txt").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').map(|(name, bytes)| (name, hex(bytes))).expect("two words"))
}

fn framed(frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len()).expect("short").to_be_bytes();
    [&length, frame].concat()
}

fn decoder() -> Decoder {
    Decoder::new(Bounds::default())
}

fn decode_all(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
    decoder.feed(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame()? {
        frames.push(frame);
    }
    Ok(frames)
}

fn one(frame: &[u8]) -> Result<Message, FrameError> {
    let frames = decode_all(&mut decoder(), &framed(frame))?;
    let [Frame::Message(message)] = &frames[..] else { panic!("{frames:?}") };
    Ok(message.clone())
}

fn pid() -> Pid {
    Pid { node: Atom::from_static("a@b"), id: 1, serial: 0, creation: 1 }
}

fn send(id: u32) -> Control {
    Control::Send { to: Pid { id, ..pid() }, trace: None }
}

fn payload(message: &Message) -> Term {
    message.payload.as_ref().expect("a payload").decode(&Limits::default()).expect("a term")
}

#[test]
fn what_otp_sends_is_read_and_would_be_sent_the_same() {
    let mut seen = 0;
    for (name, frame) in captured() {
        let message = one(&frame).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mode = if name.ends_with("_pass") { Mode::PassThrough } else { Mode::Fragments };
        let mut out = BytesMut::new();
        let term = message.payload.as_ref().map(|_| payload(&message));
        Encoder::new(mode).encode(message.control.clone(), term.as_ref(), &mut out);
        assert_eq!(out, framed(&frame), "{name}: {message:?}");
        seen += 1;
    }
    assert!(seen > 20, "only {seen} lines");
}

#[test]
fn signals_of_otp_say_what_they_mean() {
    let read = |wanted: &str| {
        let (_, frame) = captured().find(|(name, _)| *name == wanted).expect("in the corpus");
        one(&frame).expect("valid")
    };
    let message = read("send_sender_whole");
    assert!(payload(&message).is_atom("hello"));
    let Control::SendSender { from, to, trace: None } = message.control else { panic!("{message:?}") };
    assert_eq!((from.node.as_str(), to.node.as_str(), to.creation), ("t@127.0.0.1", "peer@127.0.0.1", 7));
    let message = read("monitor_p_pass");
    assert!(matches!(message.control, Control::MonitorP { to: Process::Name(name), .. } if name == "srv"));
    let message = read("payload_monitor_p_exit_whole");
    assert!(payload(&message).is_atom("noproc"));
    let message = read("send_sender_traced_whole");
    assert!(matches!(message.control, Control::SendSender { trace: Some(_), .. }), "{message:?}");
}

/// The first bytes of each fragment of a binary of 150,000 `x`, sent by OTP.
const FRAGMENTED: [(&str, usize); 3] = [
    (
        concat!(
            "834500000048000000930000000000000003006803611658770b74403132372e302e302e3100000009000000006b026593",
            "58770e70656572403132372e302e302e310000000100000000000000076d000249f0"
        ),
        65555,
    ),
    ("834600000048000000930000000000000002", 65554),
    ("834600000048000000930000000000000001", 19010),
];

fn fragmented() -> Vec<Vec<u8>> {
    let fill = |(start, length): (&str, usize)| {
        let mut frame = hex(start);
        frame.resize(length, b'x');
        framed(&frame)
    };
    FRAGMENTED.map(fill).to_vec()
}

#[test]
fn fragments_of_otp_become_one_message_and_ours_are_cut_alike() {
    let frames = decode_all(&mut decoder(), &fragmented().concat()).expect("valid");
    let [Frame::Message(message)] = &frames[..] else { panic!("{frames:?}") };
    let term = payload(message);
    assert_eq!(term, Term::binary(vec![b'x'; 150_000]));

    let mut frames = Encoder::new(Mode::Fragments).start(message.control.clone(), Some((&term).into()));
    for (theirs, (start, _)) in fragmented().iter().zip(FRAGMENTED) {
        let mut ours = BytesMut::new();
        assert!(frames.write_next(&mut ours));
        // All but the sequence is the same.
        assert_eq!((&ours[..6], &ours[14..]), (&theirs[..6], &theirs[14..]), "{start}");
    }
    assert!(!frames.write_next(&mut BytesMut::new()));
}

#[test]
fn messages_in_fragments_come_in_turns() {
    let mut encoder = Encoder::new(Mode::Fragments);
    let text = |byte: u8, length: usize| Term::binary(vec![byte; length]);
    let mut long = encoder.start(send(1), Some((&text(b'a', 200_000)).into()));
    let mut short = encoder.start(send(2), Some((&text(b'b', 70_000)).into()));
    let mut out = BytesMut::new();
    while long.write_next(&mut out) {
        short.write_next(&mut out);
        Encoder::tick(&mut out);
    }
    let frames = decode_all(&mut decoder(), &out).expect("valid");
    let sent: Vec<_> = frames
        .iter()
        .filter_map(|frame| if let Frame::Message(message) = frame { Some(message) } else { None })
        .map(|message| (message.control.clone(), payload(message)))
        .collect();
    assert_eq!(sent, [(send(2), text(b'b', 70_000)), (send(1), text(b'a', 200_000))]);
    assert_eq!(frames.iter().filter(|frame| **frame == Frame::Tick).count(), 4);
}

#[test]
fn the_encoder_cuts_at_the_right_byte() {
    for mode in [Mode::PassThrough, Mode::Fragments] {
        for length in (65_400..65_600).step_by(7).chain([0, 131_000, 131_072, 400_000]) {
            let term = Term::binary(vec![7; length]);
            let mut out = BytesMut::new();
            Encoder::new(mode).encode(send(1), Some(&term), &mut out);
            let frames = decode_all(&mut decoder(), &out).expect("valid");
            let [Frame::Message(message)] = &frames[..] else { panic!("{length}: {frames:?}") };
            assert_eq!(payload(message), term);
        }
    }
}

#[test]
fn a_control_message_above_the_size_of_a_fragment_goes_whole() {
    let reason = Term::binary(vec![1; 100_000]);
    let control = Control::Exit { from: pid(), to: pid(), reason, trace: None };
    let traced = Control::Send { to: pid(), trace: Some(Term::binary(vec![1; 100_000])) };
    for (control, term) in [(control, None), (traced, Some(Term::atom("hi")))] {
        let mut out = BytesMut::new();
        Encoder::new(Mode::Fragments).encode(control.clone(), term.as_ref(), &mut out);
        let frames = decode_all(&mut decoder(), &out).expect("valid");
        assert!(matches!(&frames[..], [Frame::Message(message)] if message.control == control));
    }
}

#[test]
fn a_payload_is_there_exactly_when_the_control_message_has_one() {
    let link = Control::Link { from: pid(), to: pid() };
    for mode in [Mode::PassThrough, Mode::Fragments] {
        let mut out = BytesMut::new();
        Encoder::new(mode).encode(link.clone(), Some(&Term::atom("stray")), &mut out);
        Encoder::new(mode).encode(send(1), None, &mut out);
        let frames = decode_all(&mut decoder(), &out).expect("valid");
        let [Frame::Message(first), Frame::Message(second)] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!((&first.control, &first.payload), (&link, &None));
        assert_eq!(payload(second), Term::list([]));
    }
    let (_, link) = captured().find(|(name, _)| *name == "link_whole").expect("in the corpus");
    assert_eq!(one(&[&link[..], &[106]].concat()), Err(FrameError::Payload));
}

#[test]
fn frames_may_be_cut_anywhere() {
    let mut stream: Vec<u8> = Vec::new();
    for (_, frame) in captured() {
        stream.extend(framed(&frame));
        stream.extend([0; 4]);
    }
    let whole = decode_all(&mut decoder(), &stream).expect("valid");
    for cut in 0..stream.len() {
        let mut decoder = decoder();
        let mut frames = decode_all(&mut decoder, &stream[..cut]).expect("valid");
        frames.extend(decode_all(&mut decoder, &stream[cut..]).expect("valid"));
        assert_eq!(frames, whole, "cut at {cut}");
    }
    let mut decoder = decoder();
    let frames: Vec<_> = stream.iter().flat_map(|byte| decode_all(&mut decoder, &[*byte]).expect("valid")).collect();
    assert_eq!(frames, whole);
}

#[test]
fn a_frame_that_is_shorter_than_its_message_is_refused() {
    for (name, frame) in captured() {
        for length in 1..frame.len() {
            let cut = decode_all(&mut decoder(), &framed(&frame[..length]));
            // Where the control message ends, only the payload is missing; within the payload, nobody looks yet.
            if let Ok(frames) = cut {
                let [Frame::Message(message)] = &frames[..] else { panic!("{name} at {length}: {frames:?}") };
                let payload = message.payload.as_ref().unwrap_or_else(|| panic!("{name} at {length}"));
                assert!(payload.decode(&Limits::default()).is_err(), "{name} at {length}");
            }
        }
    }
}

#[test]
fn large_frames_are_read_alike_in_whatever_pieces_they_come() {
    let binary = |byte: u8, bytes: usize| Term::binary(vec![byte; bytes]);
    let terms =
        [binary(1, 100), binary(2, 300_000), binary(3, 20_000), binary(4, 65_536), binary(5, 10), binary(6, 70_000)];
    for mode in [Mode::PassThrough, Mode::Fragments] {
        let mut encoder = Encoder::new(mode);
        let mut out = BytesMut::new();
        // Two large ones come in turns, if they come in fragments.
        let mut frames = [7, 8].map(|byte| encoder.start(send(byte.into()), Some((&binary(byte, 200_000)).into())));
        while frames.iter_mut().map(|frames| frames.write_next(&mut out)).fold(false, |any, more| any | more) {}
        terms.iter().for_each(|term| encoder.encode(send(1), Some(term), &mut out));
        Encoder::tick(&mut out);
        for pieces in [1, 17, 4_095, 16_384, 66_000, out.len()] {
            let mut decoder = decoder();
            let mut read = Vec::new();
            for piece in out.chunks(pieces) {
                read.extend(decode_all(&mut decoder, piece).expect("valid"));
            }
            assert_eq!(read.pop(), Some(Frame::Tick), "{mode:?} {pieces}");
            let read: Vec<Term> = read
                .iter()
                .map(|frame| if let Frame::Message(message) = frame { payload(message) } else { panic!("{frame:?}") })
                .collect();
            assert!(read.iter().eq([binary(7, 200_000), binary(8, 200_000)].iter().chain(&terms)), "{mode:?} {pieces}");
        }
    }
}

#[test]
fn a_large_binary_is_not_copied_on_its_way() {
    let bytes = bytes::Bytes::from(vec![7; 100_000]);
    let sent = Payload::from(&Term::tuple([Term::atom("x"), Term::Binary(bytes.clone())]));
    assert!(sent.pieces().iter().any(|piece| piece.as_ptr() == bytes.as_ptr()));
    let came = Payload::from_bytes(sent.bytes());
    assert_eq!(came, sent);
    let term = came.decode(&Limits::default()).expect("a term");
    let Some([_, Term::Binary(read)]) = term.as_tuple() else { panic!("{term}") };
    assert!(came.bytes().as_ptr_range().contains(&read.as_ptr()) && *read == bytes);
}

#[test]
fn fragments_out_of_turn_end_the_connection() {
    let [first, second, third] = &fragmented()[..] else { panic!("three") };
    let order = |fragment| Err(FrameError::FragmentOrder { sequence: 0x48_0000_0093, fragment });
    let run = |frames: &[&Vec<u8>]| {
        let stream: Vec<u8> = frames.iter().flat_map(|frame| frame.iter().copied()).collect();
        decode_all(&mut decoder(), &stream).map(|frames| frames.len())
    };
    assert_eq!(run(&[first, second, third, first]), Ok(1));
    assert_eq!(run(&[second]), order(2));
    assert_eq!(run(&[first, third]), order(1));
    assert_eq!(run(&[first, first]), order(3));
    assert_eq!(run(&[first, second, second]), order(2));
    let mut zero = first.clone();
    zero[21] = 0;
    assert_eq!(run(&[&zero]), order(0));
}

#[test]
fn what_a_peer_may_make_us_hold_is_bounded() {
    let bounds = Bounds { frame_bytes_max: 70_000, sequences_max: 2, held_bytes_max: 150_000, ..Bounds::default() };
    let first = |sequence: u8| {
        let mut frame = fragmented()[0].clone();
        frame[13] = sequence;
        frame
    };
    let mut decoder = Decoder::new(bounds);
    assert_eq!(decode_all(&mut decoder, &70_001_u32.to_be_bytes()), Err(FrameError::TooLong(70_001)));
    let mut decoder = Decoder::new(bounds);
    assert_eq!(decode_all(&mut decoder, &[first(1), first(2)].concat()), Ok(vec![]));
    assert_eq!(decode_all(&mut decoder, &first(3)), Err(FrameError::TooManySequences(2)));
    let mut decoder = Decoder::new(bounds);
    let [one, two, three] = &fragmented()[..] else { panic!("three") };
    assert_eq!(decode_all(&mut decoder, &[one.clone(), two.clone()].concat()), Ok(vec![]));
    assert_eq!(decode_all(&mut decoder, &first(1)), Err(FrameError::TooMuchHeld(150_000)));
    // What is done is held no longer.
    let bounds = Bounds { held_bytes_max: 160_000, ..bounds };
    let mut decoder = Decoder::new(bounds);
    for _ in 0..5 {
        let stream = [one.clone(), two.clone(), three.clone()].concat();
        assert_eq!(decode_all(&mut decoder, &stream).map(|frames| frames.len()), Ok(1));
    }
    // Fragments of nothing are held, too, and bounded by their numbers alone.
    let mut empty = fragmented()[1][..22].to_vec();
    empty[3] = 18;
    let mut decoder = Decoder::new(bounds);
    decode_all(&mut decoder, one).expect("valid");
    assert_eq!(decode_all(&mut decoder, &empty), Ok(vec![]));
}

#[test]
fn frames_of_no_known_kind_end_the_connection() {
    assert_eq!(one(&[131, 68, 1, 0]), Err(FrameError::AtomCache));
    let cached = [&[131, 69][..], &[0; 7], &[1], &[0; 7], &[1], &[3]].concat();
    assert_eq!(one(&cached), Err(FrameError::AtomCache));
    for frame in [&[131][..], &[131, 68], &[131, 69], &[131, 70, 0], &[131, 71], b"HTTP"] {
        let start = frame.iter().take(4).copied().collect();
        assert_eq!(one(frame), Err(FrameError::UnknownKind(start)), "{frame:?}");
    }
    assert_eq!(one(&[112, 130, 97, 1]), Err(FrameError::Term(DecodeError::Version(130))));
    assert_eq!(one(&[112]), Err(FrameError::Term(DecodeError::Truncated)));
    assert_eq!(one(&[131, 68, 0, 97, 1]), Err(FrameError::Control(ControlError::NotAControlMessage)));
    assert_eq!(one(&[131, 68, 0, 104, 1, 97, 99]), Err(FrameError::Control(ControlError::UnknownOperation(99))));
}

#[test]
fn a_payload_is_one_term() {
    let two = Payload::from_bytes(vec![97, 1, 97, 2].into());
    assert_eq!(two.decode(&Limits::default()), Err(DecodeError::Trailing(2)));
}

proptest! {
    #[test]
    fn any_message_survives_the_wire(term in any_term(), fragments in any::<bool>(), pieces in 1_usize..50) {
        let mode = if fragments { Mode::Fragments } else { Mode::PassThrough };
        let control = Control::AliasSend {
            from: pid(),
            to: Reference { node: Atom::from_static("a@b"), creation: 1, ids: vec![1, 2, 3] },
            trace: None,
        };
        let mut out = BytesMut::new();
        Encoder::new(mode).encode(control.clone(), Some(&term), &mut out);
        let mut decoder = decoder();
        let mut frames = Vec::new();
        for piece in out.chunks(pieces) {
            frames.extend(decode_all(&mut decoder, piece).expect("valid"));
        }
        let [Frame::Message(message)] = &frames[..] else { panic!("{frames:?}") };
        prop_assert_eq!(&message.control, &control);
        prop_assert_eq!(payload(message), term);
    }

    #[test]
    fn a_short_message_is_written_the_same_at_once(term in any_term(), fragments in any::<bool>(), to in 0..3) {
        prop_assume!(bytes_within(&term, SHORT_BYTES_MAX).is_some());
        let mode = if fragments { Mode::Fragments } else { Mode::PassThrough };
        let (from, name) = (pid(), Atom::from_static("shop"));
        let alias = Reference { node: Atom::from_static("a@b"), creation: 1, ids: vec![1, 2, 3] };
        let sending = match to {
            0 => Sending::Pid { from: &from, to: &from },
            1 => Sending::Name { from: &from, to: &name },
            _ => Sending::Alias { from: &from, to: &alias },
        };
        let (mut out, mut behind) = (BytesMut::new(), BytesMut::from(&b"before"[..]));
        Encoder::new(mode).encode(Control::from(sending), Some(&term), &mut out);
        mode.put_short(&sending, &term, &mut behind);
        prop_assert_eq!(&behind[6..], &out[..]);
    }

    #[test]
    fn a_changed_byte_never_panics(line in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (_, mut frame) = line.get(&captured().collect::<Vec<_>>()).clone();
        let index = at.index(frame.len());
        frame[index] = byte;
        if let Ok(frames) = decode_all(&mut decoder(), &framed(&frame)) {
            for frame in frames {
                if let Frame::Message(Message { payload: Some(payload), .. }) = frame {
                    drop(payload.decode(&Limits::default()));
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(kind in prop::sample::select(&[112_u8, 131][..]), rest in prop::collection::vec(any::<u8>(), 0..80)) {
        drop(decode_all(&mut decoder(), &framed(&[&[kind][..], &rest].concat())));
        drop(decode_all(&mut decoder(), &rest));
    }
}
