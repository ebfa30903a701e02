//! What a peer can make a node hold, hostile or just too fast.

mod common;

use std::time::Duration;

use bytes::BufMut;
use common::{
    atom, name, node, node_with, options,
    raw::{PEER, RawPeer, down, pid, reference, up},
    within,
};
use metacluster_erl::{
    DownReason, NodeOptions, Received, SendError,
    wire::{
        Atom, Term,
        control::{Control, Process},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn a_peer_that_does_not_read_makes_the_queue_full() {
    let small = NodeOptions { queue_bytes_max: 1 << 20, ..options("sender@127.0.0.1") };
    let (node, address) = node_with(small).await;
    let mut peer = RawPeer::dial(address, "sender@127.0.0.1", PEER).await.expect("connected");
    up(&node).await;
    let block = Term::binary(vec![0; 256 << 10]);
    let mut sent = 0;
    let busy = within("a full queue", async {
        loop {
            match node.send(&pid(1), block.clone()) {
                Ok(()) => sent += 1,
                Err(error) => return error,
            }
            // Lets the writer fill the socket.
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(busy, SendError::Busy);
    assert!(node.peer(&name(PEER)).is_some(), "a full queue is no reason to end");
    // What was taken arrives once the peer reads.
    for _ in 0..sent {
        assert!(matches!(peer.message().await.expect("a message").control, Control::SendSender { .. }));
    }
    // A peer that asks on and on and reads no answer is cut off.
    let mut events = node.events();
    let ask = async {
        let mut batch = bytes::BytesMut::new();
        let mut encoder =
            metacluster_erl::wire::frame::Encoder::new(metacluster_erl::wire::frame::Mode::new(peer.established.flags));
        for n in 0..1_000 {
            let to = Process::Name(Atom::from_static("nobody"));
            encoder.encode(Control::MonitorP { from: pid(1), to, reference: reference(n) }, None, &mut batch);
        }
        while peer.stream.write_all(&batch).await.is_ok() {}
    };
    let (reason, ()) = within("the end", async { tokio::join!(down(&mut events), ask) }).await;
    assert!(matches!(reason, DownReason::Overloaded(_)), "{reason}");
}

#[tokio::test]
async fn a_full_mailbox_says_how_much_is_missing() {
    let small = NodeOptions { mailbox_messages_max: 3, ..options("small@127.0.0.1") };
    let (node, _) = node_with(small).await;
    let mut process = node.spawn();
    for n in 0..10 {
        node.send(process.pid(), Term::Integer(n)).expect("local");
    }
    for n in 0..3 {
        assert_eq!(process.recv().await, Received::Message(Term::Integer(n)));
    }
    assert_eq!(process.recv().await, Received::Lost { messages: 7 });
    assert_eq!(process.try_recv(), None);
}

#[tokio::test]
async fn hostile_bytes_end_their_connection_and_nothing_else() {
    let few =
        NodeOptions { handshakes_max: 4, connect_timeout: Duration::from_millis(300), ..options("strong@127.0.0.1") };
    let (node, address) = node_with(few).await;
    let mut good = RawPeer::dial(address, "strong@127.0.0.1", PEER).await.expect("connected");
    up(&node).await;
    // Before the handshake: nonsense, lengths that lie, a half message, a web browser.
    let nonsense: [&[u8]; 7] =
        [b"", b"\0\0", b"\xff\xff", b"\0\x10N\0\0", b"GET / HTTP/1.1\r\n\r\n", b"\0\x01N", &[0; 70_000]];
    for bytes in nonsense {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        // It may be gone before all is written.
        drop(stream.write_all(bytes).await);
        let mut answer = Vec::new();
        drop(within("the end", stream.read_to_end(&mut answer)).await);
        assert!(answer.len() < 64, "{answer:?}");
    }
    // More than there are places: they are closed, and the places come back.
    let held: Vec<_> = futures_of(20, || TcpStream::connect(address)).await;
    for stream in held {
        let mut stream = stream.expect("it listens");
        let mut byte = [0];
        assert!(!matches!(within("the end", stream.read(&mut byte)).await, Ok(1..)));
    }

    // After the handshake: frames that are none.
    let mut bad_frames: Vec<Vec<u8>> = vec![
        vec![0xff, 0xff, 0xff, 0xff],
        vec![0, 0, 0, 1, 99],
        vec![0, 0, 0, 3, 131, 68, 7],
        vec![0, 0, 0, 2, 131, 70],
        // A list that claims 2^32 - 1 elements as the control message.
        vec![0, 0, 0, 8, 131, 68, 0, 108, 0xff, 0xff, 0xff, 0xff],
    ];
    // A message whose payload is cut.
    let mut deep = vec![131, 68, 0, 104, 3, 97, 2, 119, 0, 88, 119, PEER.len() as u8];
    deep.extend_from_slice(PEER.as_bytes());
    deep.put_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5]);
    deep.extend_from_slice(&[104, 1].repeat(100));
    let mut framed = (deep.len() as u32).to_be_bytes().to_vec();
    framed.extend(deep);
    bad_frames.push(framed);
    for (number, bytes) in bad_frames.iter().enumerate() {
        let mut events = node.events();
        let mut bad = RawPeer::dial(address, "strong@127.0.0.1", "bad@127.0.0.1").await.expect("connected");
        drop(bad.stream.write_all(bytes).await);
        let reason = down(&mut events).await;
        assert!(matches!(reason, DownReason::Protocol(_)), "{number}: {reason}");
    }

    // The good one never noticed.
    let process = node.spawn();
    good.send(Control::Link { from: pid(1), to: process.pid().clone() }, None).await;
    drop(process);
    assert!(matches!(good.message().await.expect("alive").control, Control::PayloadExit { .. }));
    assert_eq!(node.peers().len(), 1);
}

async fn futures_of<F: Future>(count: usize, make: impl Fn() -> F) -> Vec<F::Output> {
    let mut outputs = Vec::new();
    for _ in 0..count {
        outputs.push(make().await);
    }
    outputs
}

#[tokio::test]
async fn a_message_beyond_the_limits_is_dropped_alone() {
    let (node, address) = node("modest@127.0.0.1").await;
    let mut peer = RawPeer::dial(address, "modest@127.0.0.1", PEER).await.expect("connected");
    let mut process = node.spawn();
    let to = process.pid().clone();
    let deep = (0..2_000).fold(Term::atom("bottom"), |inner, _| Term::tuple([inner]));
    peer.send(Control::Send { to: to.clone(), trace: None }, Some(&deep)).await;
    peer.send(Control::Send { to, trace: None }, Some(&atom("shallow"))).await;
    assert_eq!(within("the second", process.recv()).await, Received::Message(atom("shallow")));
    // An end is never lost, only its reason is.
    let watched = process.monitor(&pid(1));
    assert!(matches!(peer.message().await.expect("a monitor").control, Control::MonitorP { .. }));
    let (from, to, reference) = (Process::Pid(pid(1)), process.pid().clone(), watched.clone());
    peer.send(Control::PayloadMonitorPExit { from, to, reference }, Some(&deep)).await;
    let down = within("the end", process.recv()).await;
    assert_eq!(down, Received::Down { reference: watched, reason: atom("system_limit") });
}

#[tokio::test]
async fn what_peers_hold_on_a_process_is_bounded() {
    let few = NodeOptions { watchers_max: 2, ..options("popular@127.0.0.1") };
    let (node, address) = node_with(few).await;
    let mut peer = RawPeer::dial(address, "popular@127.0.0.1", PEER).await.expect("connected");
    let process = node.spawn();
    for n in 0..2 {
        let to = Process::Pid(process.pid().clone());
        peer.send(Control::MonitorP { from: pid(1), to, reference: reference(n) }, None).await;
    }
    peer.send(Control::Link { from: pid(2), to: process.pid().clone() }, None).await;
    let answer = peer.message().await.expect("an answer");
    assert!(matches!(answer.control, Control::PayloadExit { .. }));
    assert_eq!(answer.payload.expect("a reason").decode(&Default::default()), Ok(atom("system_limit")));
    // A place that is given back can be had again.
    let to = Process::Pid(process.pid().clone());
    peer.send(Control::DemonitorP { from: pid(1), to, reference: reference(0) }, None).await;
    peer.send(Control::Link { from: pid(2), to: process.pid().clone() }, None).await;
    drop(process);
    let mut ends = 0;
    while ends < 2 {
        peer.message().await.expect("two ends");
        ends += 1;
    }
}
