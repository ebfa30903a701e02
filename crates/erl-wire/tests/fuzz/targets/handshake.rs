//! Both machines of the handshake: nobody is let in who does not know the cookie.

use metacluster_erl_wire::handshake::{Acceptor, Decision, Expect, Flags, Framing, Initiator, Local, Output};
use metacluster_types::{Cookie, NodeName};

use super::{Outcome, kind_of};

fn local() -> Local {
    let name = NodeName::new("me@host").expect("a name");
    Local { name, creation: 1, flags: Flags::offered(true), cookie: Cookie::new("secret") }
}

/// Both sides, from each of their states.
pub(super) fn fuzz(bytes: &[u8]) -> Outcome {
    let mut outcome = String::new();
    // No message of a handshake can be longer.
    let Ok(length) = u16::try_from(bytes.len()).map(u16::to_be_bytes) else { return outcome };
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
        outcome.push_str(&dials.handle_bytes(&message).map_or_else(|error| variant(&error), |()| "fine".to_owned()));
        drop(dials.handle_closed());
        assert!(!std::iter::from_fn(|| dials.poll_output()).any(|output| matches!(output, Output::Established(_))));
    }
    for decision in [Decision::Accept, Decision::OkSimultaneous, Decision::Alive, Decision::Nok] {
        let mut listens = Acceptor::new(local(), 2, Framing::Tcp);
        let read = listens.handle_bytes(&message);
        outcome.push_str(&read.as_ref().map_or_else(variant, |()| "fine".to_owned()));
        if read.is_ok() && listens.handle_decision(decision).is_ok() {
            drop(listens.handle_bytes(&message));
        }
        drop(listens.handle_closed());
        let established =
            std::iter::from_fn(|| listens.poll_output()).any(|output| matches!(output, Output::Established(_)));
        assert!(!established);
    }
    outcome
}

/// The error without the names in it.
fn variant(error: &impl std::fmt::Debug) -> String {
    kind_of(error).split('(').next().unwrap_or_default().to_owned()
}
