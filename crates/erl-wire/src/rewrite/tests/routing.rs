//! Routes against what the decoder of control messages says.

use proptest::prelude::*;

use super::*;
use crate::{
    control::{Control, Destination, Process, SpawnResult},
    frame::{Bounds, Decoder, Frame, Message},
};

/// The frames that OTP sent: name and bytes, without length.
fn captured() -> Vec<(&'static str, Vec<u8>)> {
    let lines = include_str!("../../../tests/corpus/frames.txt").lines().filter(|line| !line.starts_with('#'));
    let all = lines.map(|line| {
        let mut words = line.split(' ');
        let (name, hex) = (words.next().expect("a name"), words.next().expect("bytes"));
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("digits");
        (name, (0..hex.len()).step_by(2).map(byte).collect())
    });
    all.collect()
}

fn decode(frame: &[u8]) -> Option<Message> {
    let mut decoder = Decoder::new(Bounds::default());
    decoder.feed(&u32::try_from(frame.len()).expect("short").to_be_bytes());
    decoder.feed(frame);
    match decoder.next_frame() {
        Ok(Some(Frame::Message(message))) => Some(message),
        _ => None,
    }
}

fn pid(pid: &crate::Pid) -> Option<Endpoint<'_>> {
    Some(Endpoint::Pid(pid.into()))
}

fn process(process: &Process) -> Option<Endpoint<'_>> {
    match process {
        Process::Pid(pid) => Some(Endpoint::Pid(pid.into())),
        Process::Name(name) => Some(Endpoint::Name(name.into())),
    }
}

/// From, to, and the reference.
fn expected(control: &Control) -> (Option<Endpoint<'_>>, Option<Endpoint<'_>>, Option<ReferenceView<'_>>) {
    match control {
        Control::Link { from, to }
        | Control::Exit { from, to, .. }
        | Control::Unlink { from, to }
        | Control::GroupLeader { from, to }
        | Control::Exit2 { from, to, .. }
        | Control::SendSender { from, to, .. }
        | Control::PayloadExit { from, to, .. }
        | Control::PayloadExit2 { from, to, .. }
        | Control::UnlinkId { from, to, .. }
        | Control::UnlinkIdAck { from, to, .. } => (pid(from), pid(to), None),
        Control::Send { to, .. } => (None, pid(to), None),
        Control::RegSend { from, to, .. } => (pid(from), Some(Endpoint::Name(to.into())), None),
        Control::MonitorP { from, to, reference } | Control::DemonitorP { from, to, reference } => {
            (pid(from), process(to), Some(reference.into()))
        }
        Control::MonitorPExit { from, to, reference, .. } | Control::PayloadMonitorPExit { from, to, reference } => {
            (process(from), pid(to), Some(reference.into()))
        }
        Control::SpawnRequest(spawn) => (pid(&spawn.from), None, Some((&spawn.request).into())),
        Control::SpawnReply { request, to, result, .. } => {
            let from = if let SpawnResult::Started(from) = result { pid(from) } else { None };
            (from, pid(to), Some(request.into()))
        }
        Control::AliasSend { from, to, .. } => (pid(from), Some(Endpoint::Alias(to.into())), None),
        Control::AltactSigSend { from, to, .. } => {
            let to = match to {
                Destination::Pid(to) => Endpoint::Pid(to.into()),
                Destination::Name(to) => Endpoint::Name(to.into()),
                Destination::Alias(to) => Endpoint::Alias(to.into()),
            };
            (process(from), Some(to), None)
        }
    }
}

fn agrees(name: &str, frame: &[u8]) -> bool {
    let Some(message) = decode(frame) else { return false };
    let route = Envelope::read(frame).and_then(|envelope| envelope.route());
    let route = route.unwrap_or_else(|error| panic!("{name}: {error}")).expect("a message");
    assert_eq!((route.from, route.to, route.reference), expected(&message.control), "{name}");
    assert_eq!(route.has_payload(), message.control.has_payload(), "{name}");
    assert_eq!(route.payload, message.payload.as_ref().map(crate::Payload::bytes).unwrap_or_default(), "{name}");
    let control = decoded(route.control).map(Control::try_from);
    assert_eq!(control, Ok(Ok(message.control)), "{name}");
    rewritten_alike(name, &route);
    true
}

/// A control message is rewritten the same by its route as by a walk, and so is what follows.
fn rewritten_alike(name: &str, route: &Route<'_>) {
    let (mut walked, mut routed) = (BytesMut::new(), BytesMut::new());
    let mut rewriter = Rewriter::new(RewriteLimits::default());
    let terms = 1 + u32::from(!route.payload.is_empty());
    let whole = [route.control, route.payload].concat();
    rewriter.rewrite(terms, &whole, &mut Prefix::add(), &mut walked).expect(name);
    rewriter.start_routed(route, &mut Prefix::add(), &mut routed).expect(name);
    rewriter.feed(route.payload, &mut Prefix::add(), &mut routed).expect(name);
    rewriter.finish().expect(name);
    assert_eq!(walked, routed, "{name}");
}

#[test]
fn frames_of_otp_are_routed_without_their_payload() {
    let captured = captured();
    let whole = captured.iter().filter(|(name, frame)| agrees(name, frame)).count();
    assert!(whole > 20, "only {whole} of {}", captured.len());
}

fn node() -> Atom {
    Atom::from_static("a@b")
}

fn every_control() -> Vec<Control> {
    let (from, to) = (
        crate::Pid { node: node(), id: 1, serial: 0, creation: 3 },
        crate::Pid { node: Atom::from_static("c@d"), id: 2, serial: 1, creation: 4 },
    );
    let reference = crate::Reference { node: node(), creation: 3, ids: vec![1, 2, 3] };
    let name = Atom::from_static("rex");
    let reason = || Term::tuple([Term::atom("shutdown"), Term::binary([1; 300]), Term::Pid(from.clone())]);
    let mut all = Vec::new();
    for trace in [None, Some(Term::tuple([Term::from(1_i64), Term::list([Term::from(2.5)])]))] {
        let ids = || (from.clone(), to.clone());
        let ((f, t), trace) = (ids(), || trace.clone());
        all.push(Control::Send { to: t.clone(), trace: trace() });
        all.push(Control::Exit { from: f.clone(), to: t.clone(), reason: reason(), trace: trace() });
        all.push(Control::Exit2 { from: f.clone(), to: t.clone(), reason: reason(), trace: trace() });
        all.push(Control::RegSend { from: f.clone(), to: name.clone(), trace: trace() });
        all.push(Control::SendSender { from: f.clone(), to: t.clone(), trace: trace() });
        all.push(Control::PayloadExit { from: f.clone(), to: t.clone(), trace: trace() });
        all.push(Control::PayloadExit2 { from: f.clone(), to: t.clone(), trace: trace() });
        all.push(Control::AliasSend { from: f.clone(), to: reference.clone(), trace: trace() });
        all.push(Control::SpawnRequest(Box::new(crate::control::SpawnRequest {
            request: reference.clone(),
            from: f.clone(),
            group_leader: t.clone(),
            module: name.clone(),
            function: name.clone(),
            arity: 2,
            options: vec![Term::atom("link")],
            trace: trace(),
        })));
        for result in [SpawnResult::Started(f.clone()), SpawnResult::Refused(Atom::from_static("notsup"))] {
            let request = reference.clone();
            all.push(Control::SpawnReply { request, to: t.clone(), flags: 1, result, trace: trace() });
        }
        for to in [Destination::Pid(t.clone()), Destination::Name(name.clone()), Destination::Alias(reference.clone())]
        {
            let flags = if trace().is_some() { crate::control::ALTACT_TOKEN } else { 0 };
            all.push(Control::AltactSigSend { flags, from: Process::Pid(f.clone()), to, trace: trace() });
        }
    }
    all.push(Control::Link { from: from.clone(), to: to.clone() });
    all.push(Control::GroupLeader { from: from.clone(), to: to.clone() });
    all.push(Control::UnlinkId { id: 1 << 40, from: from.clone(), to: to.clone() });
    all.push(Control::UnlinkIdAck { id: 7, from: from.clone(), to: to.clone() });
    for process in [Process::Pid(to.clone()), Process::Name(name)] {
        let (from, to) = (process, from.clone());
        all.push(Control::MonitorP { from: to.clone(), to: from.clone(), reference: reference.clone() });
        all.push(Control::DemonitorP { from: to.clone(), to: from.clone(), reference: reference.clone() });
        let reason = reason();
        all.push(Control::MonitorPExit { from: from.clone(), to: to.clone(), reference: reference.clone(), reason });
        all.push(Control::PayloadMonitorPExit { from, to, reference: reference.clone() });
    }
    all
}

#[test]
fn every_operation_is_routed_in_every_mode() {
    use crate::frame::{Encoder, Mode};
    for mode in [Mode::PassThrough, Mode::Fragments] {
        for control in every_control() {
            let mut out = BytesMut::new();
            Encoder::new(mode).encode(control.clone(), Some(&Term::binary([1; 10])), &mut out);
            assert!(agrees(&format!("{mode:?} {control:?}"), &out[4..]));
        }
    }
}

#[test]
fn a_message_in_fragments_is_routed_by_the_first() {
    use crate::frame::{Encoder, Mode};
    let control = every_control().remove(0);
    let mut out = BytesMut::new();
    Encoder::new(Mode::Fragments).encode(control, Some(&Term::binary(vec![7; 200_000])), &mut out);
    let (mut rest, mut payload, mut order) = (&out[..], Vec::new(), Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (frame, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        rest = after;
        let envelope = Envelope::read(frame).expect("a fragment");
        match envelope {
            Envelope::First { fragment, .. } => {
                let route = envelope.route().expect("a control message").expect("a message");
                payload.extend_from_slice(route.payload);
                order.push(fragment);
            }
            Envelope::Next { fragment, body, .. } => {
                assert_eq!(envelope.route(), Ok(None));
                payload.extend_from_slice(body);
                order.push(fragment);
            }
            Envelope::Tick | Envelope::PassThrough { .. } | Envelope::Whole { .. } => panic!("{envelope:?}"),
        }
    }
    assert_eq!(order, [4, 3, 2, 1]);
    assert_eq!(payload, encoded(&Term::binary(vec![7; 200_000])));
}

#[test]
fn what_is_no_message_has_no_route() {
    assert_eq!(Envelope::read(&[]), Ok(Envelope::Tick));
    let cases: [(&[u8], RouteError); 14] = [
        (&[71, 131], RouteError::UnknownKind),
        (&[131, 71], RouteError::UnknownKind),
        (&[131, 69, 0], RouteError::UnknownKind),
        (&[131, 68, 1, 104], RouteError::AtomCache),
        (&[112, 104, 0], RouteError::Version),
        (&[112], RouteError::Version),
        (&[131, 68, 0], RouteError::NotAControlMessage),
        (&[131, 68, 0, 104, 0], RouteError::NotAControlMessage),
        (&[131, 68, 0, 104, 3, 97, 5, 106, 106], RouteError::UnknownOperation(5)),
        (&[131, 68, 0, 104, 3, 97, 200, 106, 106], RouteError::UnknownOperation(200)),
        (&[131, 68, 0, 104, 2, 97, 1, 106], RouteError::Malformed(1)),
        (&[131, 68, 0, 104, 3, 97, 1, 106, 106], RouteError::Malformed(1)),
        (&[131, 68, 0, 104, 3, 97, 2, 82], RouteError::Term(RewriteFault::UnknownTag(82))),
        (&[131, 68, 0, 104, 3, 97, 2, 119, 0, 88, 119], RouteError::Term(RewriteFault::Truncated)),
    ];
    for (frame, error) in cases {
        assert_eq!(Envelope::read(frame).and_then(|envelope| envelope.route()), Err(error), "{frame:?}");
    }
    let mut link = BytesMut::new();
    term::encode(
        &every_control().into_iter().find(|c| matches!(c, Control::Link { .. })).expect("one").into(),
        &mut link,
    );
    let frame = |kind: &[u8], tail: &[u8]| [kind, &link, tail].concat();
    assert!(Envelope::read(&frame(&[131, 68, 0], &[])).and_then(|envelope| envelope.route()).is_ok());
    let with_payload = frame(&[131, 68, 0], &[106]);
    assert_eq!(Envelope::read(&with_payload).and_then(|envelope| envelope.route()), Err(RouteError::Payload));
}

proptest! {
    #[test]
    fn a_changed_byte_never_panics(line in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (name, mut frame) = line.get(&captured()).clone();
        let index = at.index(frame.len());
        frame[index] = byte;
        match Envelope::read(&frame).and_then(|envelope| envelope.route()) {
            // What is routed is a term, but need not be a message in all that a route does not say.
            Ok(Some(route)) => assert!(!route.control.is_empty()),
            Ok(None) => {}
            Err(_) => assert!(decode(&frame).is_none(), "{name}"),
        }
    }
}
