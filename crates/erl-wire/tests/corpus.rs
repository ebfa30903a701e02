//! Replays every input of `corpus/` through every decoder: whatever it is, it is read or refused.
//!
//! A line is a name and bytes in hexadecimal. An input that once broke something is kept in `hostile.txt`.

use std::{fs, path::Path};

use bytes::BytesMut;
use metacluster_erl_wire::{
    Control, Frame, Message, Term,
    epmd::{DumpReply, KillReply, NamesReply, PortReply, RegisterReply, Request, StopReply},
    frame::{Bounds, Decoder},
    handshake::{Acceptor, Decision, Expect, Flags, Framing, Initiator, Local, Output},
    term::{self, Limits},
};
use metacluster_types::{Cookie, NodeName};

fn inputs() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut inputs = Vec::new();
    for entry in fs::read_dir(folder).expect("the corpus") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("UTF-8");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split(' ');
            let (name, hex) = (words.next().expect("a name"), words.next().expect("bytes"));
            assert!(hex.len() % 2 == 0, "{name}: half a byte");
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("digits");
            inputs.push((name.to_owned(), (0..hex.len()).step_by(2).map(byte).collect()));
        }
    }
    inputs
}

fn use_term(name: &str, term: &Term) {
    let bytes = term::encode_external(term);
    let again = term::decode_external(&bytes, &Limits::default()).map(|(term, _)| term);
    assert_eq!(again.as_ref(), Ok(term), "{name}");
    assert!(!term.to_string().is_empty());
    if let Ok(control) = Control::try_from(term.clone()) {
        assert_eq!(Control::try_from(Term::from(control.clone())), Ok(control), "{name}");
    }
}

fn terms(name: &str, bytes: &[u8]) {
    for limits in [Limits::default(), Limits::SMALL] {
        let read = [term::decode(bytes, &limits), term::decode_external(bytes, &limits)];
        for (term, taken) in read.into_iter().flatten() {
            assert!(taken <= bytes.len(), "{name}");
            use_term(name, &term);
        }
    }
}

fn frames(name: &str, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
    for stream in [bytes, &[&length, bytes].concat()] {
        let mut decoder = Decoder::new(Bounds::default());
        decoder.feed(stream);
        while let Ok(Some(frame)) = decoder.next_frame() {
            if let Frame::Message(Message { payload: Some(payload), .. }) = frame
                && let Ok(term) = payload.decode(&Limits::default())
            {
                use_term(name, &term);
            }
        }
    }
}

fn epmd(name: &str, bytes: &[u8]) {
    if let Ok(Some(request)) = Request::decode(bytes) {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        assert_eq!(Request::decode(&out), Ok(Some(request)), "{name}");
    }
    drop((RegisterReply::decode(bytes), PortReply::decode(bytes), NamesReply::decode(bytes)));
    drop((KillReply::decode(bytes), StopReply::decode(bytes), DumpReply::text(bytes)));
}

fn local() -> Local {
    let name = NodeName::new("me@host").expect("a name");
    Local { name, creation: 1, flags: Flags::offered(true), cookie: Cookie::new("secret") }
}

/// Both sides, from each of their states.
fn handshake(name: &str, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("short").to_be_bytes();
    let message = [&length, bytes].concat();
    let framed = |message: &[u8]| {
        let length = u16::try_from(message.len()).expect("short").to_be_bytes();
        [&length, message].concat()
    };
    let peer = Local { name: NodeName::new("peer@host").expect("a name"), ..local() };
    let mut theirs = Acceptor::new(peer.clone(), 1, Framing::Tcp);
    for steps in 0..3 {
        let mut dials = Initiator::new(local(), Expect::Basename("peer".to_owned()), 2, Framing::Tcp);
        if steps > 0 {
            dials.handle_bytes(&framed(b"sok")).expect("fine");
        }
        if steps > 1 {
            let mut name = Initiator::new(local(), Expect::Exactly(peer.name.clone()), 2, Framing::Tcp);
            let Some(Output::Send(name)) = name.poll_output() else { panic!("no name") };
            theirs.handle_bytes(&name).expect("fine");
            theirs.handle_decision(Decision::Accept).expect("fine");
            let sent: Vec<_> = std::iter::from_fn(|| theirs.poll_output()).collect();
            let Some(Output::Send(challenge)) = sent.last() else { panic!("no challenge") };
            dials.handle_bytes(challenge).expect("fine");
        }
        drop((dials.handle_bytes(&message), dials.handle_closed()));
        assert!(!std::iter::from_fn(|| dials.poll_output()).any(|output| matches!(output, Output::Established(_))));
    }
    for decision in [Decision::Accept, Decision::OkSimultaneous, Decision::Alive, Decision::Nok] {
        let mut listens = Acceptor::new(local(), 2, Framing::Tcp);
        if listens.handle_bytes(&message).is_ok() && listens.handle_decision(decision).is_ok() {
            drop(listens.handle_bytes(&message));
        }
        drop(listens.handle_closed());
        let established =
            std::iter::from_fn(|| listens.poll_output()).any(|output| matches!(output, Output::Established(_)));
        assert!(!established, "{name}");
    }
}

#[test]
fn every_input_is_read_or_refused_by_every_decoder() {
    let inputs = inputs();
    assert!(inputs.len() > 140, "only {} inputs", inputs.len());
    for (name, bytes) in inputs {
        terms(&name, &bytes);
        frames(&name, &bytes);
        epmd(&name, &bytes);
        handshake(&name, &bytes);
    }
}
