//! What a real BEAM node says to an alias, and with priority: operation 33, or from OTP 28 on operation 37 to a peer that
//! offers to take it.
//!
//! `cargo xtask otp 29` runs this with an OTP that has the latter.

mod common;

use common::{
    Beam, atom, epmd, has_erl, node,
    raw::{PEER, RawPeer, pid, reference},
    within,
};
use metacluster_erl::{
    Received,
    wire::{
        Atom, Pid, Reference, Term,
        control::{ALTACT_ALIAS, ALTACT_EXIT, ALTACT_NAME, ALTACT_PRIORITY, Control, Destination, Process},
        frame::Message,
        handshake::Flags,
        term::Limits,
    },
};

/// From this release on a node sends operation 37 to a peer that knows it.
const FIRST_WITH_ALTACT: u32 = 28;

/// A peer that offers no more than our nodes do.
const PLAIN: &str = "plain@127.0.0.1";

/// Has the BEAM node call a function, and gives what it says because of it; not its answer to the call.
async fn said(peer: &mut RawPeer, ours: &'static str, function: &str, arguments: Vec<Term>) -> Message {
    let caller = Pid { node: Atom::from_static(ours), ..pid(1) };
    let tag = Reference { node: Atom::from_static(ours), ..reference(1) };
    let from = Term::tuple([caller.clone().into(), tag.into()]);
    let call = [atom("call"), atom("erlang"), atom(function), Term::List(arguments), atom("user")];
    let request = Term::tuple([atom("$gen_call"), from, Term::tuple(call)]);
    peer.send(Control::RegSend { from: caller, to: Atom::from_static("rex"), trace: None }, Some(&request)).await;
    loop {
        let message = peer.message().await.expect("the connection stays");
        let answer =
            matches!(message.control, Control::Send { .. } | Control::SendSender { .. } | Control::RegSend { .. });
        if !answer {
            return message;
        }
    }
}

fn payload(message: Message) -> Term {
    message.payload.expect("a payload").decode(&Limits::default()).expect("a term")
}

#[tokio::test]
async fn messages_to_an_alias_and_with_priority_are_read_as_each_release_says_them() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let beam = Beam::start(&epmd, "altact@127.0.0.1", &[]).await;
    let (control, _) = node("control@127.0.0.1").await;
    beam.join(&control).await;
    let release = beam.eval(&control, "list_to_integer(erlang:system_info(otp_release)).").await;
    let with_altact = release.as_u64().expect("a number") >= FIRST_WITH_ALTACT.into();
    let alias = reference(77);

    // To a node that offers what ours do, no release says it.
    let mut peer = RawPeer::dial(beam.address, beam.name.as_str(), PLAIN).await.expect("a connection");
    let plain = Reference { node: Atom::from_static(PLAIN), ..alias.clone() };
    let message = said(&mut peer, PLAIN, "send", vec![plain.clone().into(), atom("hello")]).await;
    assert!(matches!(&message.control, Control::AliasSend { to, .. } if *to == plain), "{:?}", message.control);
    assert_eq!(payload(message), atom("hello"));

    let flags = Flags::offered(true).and(Flags::ALTACT_SIG);
    let mut peer = RawPeer::dial_with(beam.address, beam.name.as_str(), PEER, flags).await.expect("a connection");
    let message = said(&mut peer, PEER, "send", vec![alias.clone().into(), atom("hello")]).await;
    if let Control::AltactSigSend { flags, from: Process::Pid(from), to, trace: None } = &message.control {
        assert!(with_altact, "OTP {release}");
        assert_eq!((*flags, to), (ALTACT_ALIAS, &Destination::Alias(alias.clone())));
        assert_eq!(from.node.as_str(), beam.name.as_str());
    } else {
        let control = &message.control;
        assert!(matches!(control, Control::AliasSend { to, .. } if *to == alias), "OTP {release}: {control:?}");
        assert!(!with_altact, "OTP {release}: {control:?}");
    }
    assert_eq!(payload(message), atom("hello"));
    if !with_altact {
        return;
    }

    let options = || Term::list([atom("priority")]);
    let message = said(&mut peer, PEER, "send", vec![alias.clone().into(), atom("now"), options()]).await;
    let Control::AltactSigSend { flags, to, .. } = &message.control else { panic!("{:?}", message.control) };
    assert_eq!((*flags, to), (ALTACT_ALIAS | ALTACT_PRIORITY, &Destination::Alias(alias)));
    assert_eq!(payload(message), atom("now"));

    let message = said(&mut peer, PEER, "exit", vec![pid(2).into(), atom("bye"), options()]).await;
    let Control::AltactSigSend { flags, to, .. } = &message.control else { panic!("{:?}", message.control) };
    assert_eq!((*flags, to), (ALTACT_EXIT | ALTACT_PRIORITY, &Destination::Pid(pid(2))));
    assert_eq!(payload(message), atom("bye"));

    // A process of a node of ours gets it as any other exit signal.
    let mut process = control.spawn();
    let exit = vec![process.pid().clone().into(), atom("bye"), options()];
    let answer = control.rpc(&beam.name, "erlang", "exit", exit, common::PATIENCE).await;
    assert_eq!(answer, Ok(atom("true")));
    let received = within("the exit signal", process.recv()).await;
    assert!(matches!(&received, Received::Exit { reason, .. } if *reason == atom("bye")), "{received:?}");
}

#[tokio::test]
async fn a_process_of_ours_takes_operation_37_whatever_it_goes_to() {
    let (node, address) = node("ours@127.0.0.1").await;
    let mut process = node.spawn();
    process.register("talker").expect("a free name");
    let flags = Flags::offered(true).and(Flags::ALTACT_SIG);
    let mut peer = RawPeer::dial_with(address, "ours@127.0.0.1", PEER, flags).await.expect("a connection");
    let to_pid = Destination::Pid(process.pid().clone());
    let to_name = Destination::Name(Atom::from_static("talker"));
    for (flags, to, from) in [
        (ALTACT_PRIORITY, to_pid.clone(), Process::Pid(pid(1))),
        (ALTACT_PRIORITY | ALTACT_NAME, to_name, Process::Pid(pid(1))),
        (0, to_pid.clone(), Process::Name(Atom::from_static("port"))),
    ] {
        peer.send(Control::AltactSigSend { flags, from, to, trace: None }, Some(&atom("hello"))).await;
        assert_eq!(within("a message", process.recv()).await, Received::Message(atom("hello")), "{flags}");
    }
    let from = Process::Pid(pid(1));
    let exit = Control::AltactSigSend { flags: ALTACT_EXIT, from, to: to_pid, trace: None };
    peer.send(exit, Some(&atom("bye"))).await;
    let received = within("the exit signal", process.recv()).await;
    assert_eq!(received, Received::Exit { from: pid(1), reason: atom("bye") });
}
