//! Frames: as a frame of their own, and as the stream of a connection, in one piece and in several.

use metacluster_erl_wire::{
    Frame, Message,
    frame::{Bounds, Decoder},
    term::Limits,
};

use super::{Outcome, kind_of, term::use_term};

pub(super) fn fuzz(bytes: &[u8]) -> Outcome {
    let length = u32::try_from(bytes.len()).expect("an input is short").to_be_bytes();
    let framed = [&length, bytes].concat();
    let whole = read(&framed, framed.len());
    assert_eq!(read(&framed, 1), whole);
    let stream = read(bytes, bytes.len().max(1));
    assert_eq!(read(bytes, 7), stream);
    format!("{:?} {:?}", whole.first(), stream.last())
}

fn read(bytes: &[u8], piece: usize) -> Vec<String> {
    let mut decoder = Decoder::new(Bounds::default());
    let mut outcome = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.feed(piece);
        loop {
            match decoder.next_frame() {
                Ok(None) => break,
                Ok(Some(Frame::Tick)) => outcome.push("tick".to_owned()),
                Ok(Some(Frame::Message(Message { control, payload }))) => {
                    assert_eq!(control.has_payload(), payload.is_some());
                    outcome
                        .push(kind_of(&control).chars().take_while(|character| *character != '(').take(12).collect());
                    match payload.map(|payload| payload.decode(&Limits::default())) {
                        Some(Ok(term)) => use_term(&term),
                        Some(Err(error)) => outcome.push(kind_of(&error)),
                        None => {}
                    }
                }
                Err(error) => {
                    outcome.push(kind_of(&error));
                    return outcome;
                }
            }
        }
    }
    outcome
}
