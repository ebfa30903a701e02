//! A large message of one process holds up nobody else's: over a socket of which the test holds every byte, and to a
//! BEAM node.

mod common;

use common::{
    Beam, PATIENCE, atom, epmd, has_erl, node,
    raw::{self, PEER, RawPeer},
};
use metacluster_erl::{
    Received,
    wire::{
        Atom, Term,
        control::{Control, Process},
    },
};

/// A message of this sender that says its number, and is this long.
fn message(sender: i64, number: i64, bytes: usize) -> Term {
    Term::tuple([Term::Integer(sender), Term::Integer(number), Term::binary(vec![7; bytes])])
}

/// What comes of two large messages of one process, a large one of another and a small one of a third, all put in at
/// once; as senders and numbers.
fn check_order(came: &[(i64, i64)]) {
    assert_eq!(came[0], (3, 0), "the small one of the third passes them all: {came:?}");
    let of = |sender| came.iter().filter(|(from, _)| *from == sender).map(|(_, number)| *number).collect::<Vec<_>>();
    assert_eq!(of(1), [0, 1, 2], "{came:?}");
    assert_eq!(of(2), [0], "{came:?}");
    assert!(came.iter().position(|one| *one == (2, 0)) < came.iter().position(|one| *one == (1, 0)), "{came:?}");
}

fn sender_and_number(message: &Term) -> (i64, i64) {
    let parts = message.as_tuple().expect("a tuple");
    (parts[0].as_i64().expect("a number"), parts[1].as_i64().expect("a number"))
}

#[tokio::test]
async fn a_peer_reads_small_messages_between_the_fragments_of_large_ones() {
    let (node, address) = node("ours@127.0.0.1").await;
    let mut peer = RawPeer::dial(address, "ours@127.0.0.1", PEER).await.expect("a connection");
    raw::up(&node).await;
    let (one, two, three) = (node.spawn(), node.spawn(), node.spawn());
    // Nothing is written before the test awaits.
    for (number, bytes) in [(0, 3_000_000), (1, 500_000), (2, 10)] {
        one.send(&raw::pid(1), message(1, number, bytes)).expect("room");
    }
    two.send(&raw::pid(1), message(2, 0, 1_000_000)).expect("room");
    three.send(&raw::pid(1), message(3, 0, 10)).expect("room");
    let mut came = Vec::new();
    while came.len() < 5 {
        let message = peer.message().await.expect("a message");
        let term = message.payload.expect("a payload").decode(&Default::default()).expect("a term");
        came.push(sender_and_number(&term));
    }
    check_order(&came);
}

#[tokio::test]
async fn the_end_of_a_process_comes_after_its_last_message() {
    let (node, address) = node("ours@127.0.0.1").await;
    let mut peer = RawPeer::dial(address, "ours@127.0.0.1", PEER).await.expect("a connection");
    raw::up(&node).await;
    let process = node.spawn();
    process.register("known").expect("a free name");
    let monitor = Control::MonitorP {
        from: raw::pid(1),
        to: Process::Name(Atom::from_static("known")),
        reference: raw::reference(1),
    };
    peer.send(monitor, None).await;
    // The monitor is there once what was sent after it is answered.
    peer.send(Control::UnlinkId { id: 1, from: raw::pid(1), to: process.pid().clone() }, None).await;
    peer.message().await.expect("the answer");
    process.send(&raw::pid(1), message(1, 0, 1_000_000)).expect("room");
    drop(process);
    let first = peer.message().await.expect("a message");
    assert!(first.payload.expect("a payload").bytes().len() > 1_000_000, "the message comes before the end");
    let second = peer.message().await.expect("a message");
    assert!(matches!(second.control, Control::PayloadMonitorPExit { .. }), "{:?}", second.control);
}

#[tokio::test]
async fn a_beam_reads_small_messages_between_the_fragments_of_large_ones() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let beam = Beam::start(&epmd, "busy@127.0.0.1", &[]).await;
    let (node, _) = node("ours@127.0.0.1").await;
    beam.join(&node).await;
    // Tells what came, in its order.
    let text = "Pid = spawn(fun() ->
        Came = [receive {From, Number, _} when is_integer(From) -> {From, Number} end || _ <- lists:seq(1, 5)],
        receive {tell, To} -> To ! Came end
      end), register(sink, Pid).";
    assert_eq!(beam.eval(&node, text).await, atom("true"));
    let (one, two, three) = (node.spawn(), node.spawn(), node.spawn());
    for (number, bytes) in [(0, 3_000_000), (1, 500_000), (2, 10)] {
        one.send_name(&beam.name, "sink", message(1, number, bytes)).expect("room");
    }
    two.send_name(&beam.name, "sink", message(2, 0, 1_000_000)).expect("room");
    three.send_name(&beam.name, "sink", message(3, 0, 10)).expect("room");
    let mut asking = node.spawn();
    let question = Term::tuple([atom("tell"), asking.pid().clone().into()]);
    asking.send_name(&beam.name, "sink", question).expect("room");
    let answer = tokio::time::timeout(PATIENCE, asking.recv()).await.expect("an answer");
    let Received::Message(came) = answer else { panic!("{answer:?}") };
    let came: Vec<_> = came.as_list().expect("a list").iter().map(sender_and_number).collect();
    check_order(&came);
}
