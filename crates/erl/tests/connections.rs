//! Connections against a peer of which the test holds every byte: races, ticks, hostile bytes, full queues.

mod common;

use std::time::Duration;

use bytes::BufMut;
use common::{
    PATIENCE, name, node, node_with, options,
    raw::{RawPeer, listener},
    within,
};
use metacluster_erl::{
    CallError, DownReason, Node, NodeEvent, NodeOptions, Received, SendError,
    node::Expect,
    wire::{
        Atom, Pid, Reference, Term,
        control::{Control, Process, SpawnRequest, SpawnResult},
        frame::Frame,
        handshake::{Flags, HandshakeError, Replaces},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::broadcast,
};

const PEER: &str = "mmm@127.0.0.1";

fn atom(text: &str) -> Term {
    Term::atom_of(text).expect("short")
}

fn pid(number: u32) -> Pid {
    Pid { node: Atom::from_static(PEER), id: number, serial: 0, creation: 5 }
}

fn reference(number: u32) -> Reference {
    Reference { node: Atom::from_static(PEER), creation: 5, ids: vec![number, 0, 0] }
}

fn exactly() -> Expect {
    Expect::Exactly(name(PEER))
}

async fn down(events: &mut broadcast::Receiver<NodeEvent>) -> DownReason {
    loop {
        if let NodeEvent::Down { reason, .. } = within("down", events.recv()).await.expect("no event is missed") {
            return reason;
        }
    }
}

/// Waits until a node has a peer.
async fn up(node: &Node) {
    let mut events = node.events();
    while node.peers().is_empty() {
        within("up", events.recv()).await.expect("no event is missed");
    }
}

#[tokio::test]
async fn when_both_dial_the_greater_name_goes_on() {
    // Ours is greater: theirs is refused, ours goes on.
    let (node, address) = node("zzz@127.0.0.1").await;
    let (listener, theirs) = listener().await;
    let dial = tokio::spawn({
        let node = node.clone();
        async move { node.connect(theirs, exactly()).await }
    });
    let (stream, _) = listener.accept().await.expect("dialled");
    let refused = RawPeer::dial(address, "zzz@127.0.0.1", PEER).await.err();
    assert_eq!(refused, Some(HandshakeError::Nok));
    let peer = RawPeer::answer(stream, PEER).await.expect("ours goes on");
    assert_eq!(peer.established.peer, name("zzz@127.0.0.1"));
    let info = dial.await.expect("no panic").expect("connected");
    assert!(!info.accepted);
    node.shutdown().await;
}

#[tokio::test]
async fn when_both_dial_the_lesser_name_gives_way() {
    // Ours is less: ours ends, theirs is told so, and the dial gives the connection that they made.
    let (node, address) = node("aaa@127.0.0.1").await;
    for expect in [exactly(), Expect::Basename("mmm".to_owned())] {
        let (listener, theirs) = listener().await;
        let dial = tokio::spawn({
            let (node, expect) = (node.clone(), expect.clone());
            async move { node.connect(theirs, expect).await }
        });
        let (stream, _) = listener.accept().await.expect("dialled");
        let peer = RawPeer::dial(address, "aaa@127.0.0.1", PEER).await.expect("theirs goes on");
        if expect == exactly() {
            assert_eq!(peer.established.replaces, Some(Replaces::Dial));
        } else {
            // The peer refuses ours, as its name is the greater one. Only then do we know who it is.
            refuse(stream).await;
        }
        let info = dial.await.expect("no panic").expect("connected");
        assert!(info.accepted);
        assert!(node.disconnect(&name(PEER)));
    }
    node.shutdown().await;
}

/// Answers `nok` to a name.
async fn refuse(mut stream: TcpStream) {
    let length = stream.read_u16().await.expect("a name");
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await.expect("a name");
    stream.write_all(b"\0\x04snok").await.expect("written");
}

#[tokio::test]
async fn nodes_of_ours_that_dial_each_other_at_once_always_meet() {
    for round in 0..50 {
        let (a, a_address) = node("a@127.0.0.1").await;
        let (b, b_address) = node("b@127.0.0.1").await;
        let (to_b, to_a) = within("both", async {
            tokio::join!(
                a.connect(b_address, Expect::Exactly(b.name().clone())),
                b.connect(a_address, Expect::Exactly(a.name().clone())),
            )
        })
        .await;
        assert!(to_b.is_ok() && to_a.is_ok(), "round {round}: {to_b:?} {to_a:?}");
        let mut process = b.spawn();
        a.send(process.pid(), atom("hello")).expect("connected");
        assert_eq!(within("hello", process.recv()).await, Received::Message(atom("hello")));
        tokio::join!(a.shutdown(), b.shutdown());
    }
}

#[tokio::test]
async fn a_quiet_connection_is_ticked_and_a_silent_peer_is_down() {
    let tick_interval = Duration::from_millis(200);
    let (node, address) = node_with(NodeOptions { tick_interval, ..options("ticker@127.0.0.1") }).await;
    let mut events = node.events();
    let mut peer = RawPeer::dial(address, "ticker@127.0.0.1", PEER).await.expect("connected");
    // We hear ticks, and say nothing for four intervals.
    let began = std::time::Instant::now();
    let mut ticks = 0;
    while let Some(frame) = peer.frame().await {
        assert_eq!(frame, Frame::Tick);
        ticks += 1;
    }
    assert!((1..=6).contains(&ticks), "{ticks} ticks");
    assert!(began.elapsed() >= tick_interval * 4, "{:?}", began.elapsed());
    assert_eq!(down(&mut events).await, DownReason::TickTimeout { silent: tick_interval * 4 });
    // One that ticks stays.
    let mut peer = RawPeer::dial(address, "ticker@127.0.0.1", PEER).await.expect("connected");
    for _ in 0..6 {
        assert_eq!(peer.frame().await, Some(Frame::Tick));
        peer.stream.write_all(&[0; 4]).await.expect("written");
    }
    assert_eq!(node.peers().len(), 1);
    assert!(node.silent(&name(PEER)).expect("connected") < PATIENCE);
}

#[tokio::test]
async fn a_peer_may_have_a_tick_time_of_its_own() {
    let (node, address) = node("default@127.0.0.1").await;
    let mut peer = RawPeer::dial(address, "default@127.0.0.1", PEER).await.expect("connected");
    up(&node).await;
    let mut events = node.events();
    // With the default nothing would come for 15 s, and the end after 60.
    assert!(node.set_tick_time(&name(PEER), Duration::from_millis(800)));
    assert_eq!(peer.frame().await, Some(Frame::Tick));
    assert_eq!(down(&mut events).await, DownReason::TickTimeout { silent: Duration::from_millis(800) });
    assert!(!node.set_tick_time(&name(PEER), Duration::from_secs(1)), "nobody is connected");
}

#[tokio::test]
async fn what_must_be_answered_is_answered() {
    let (node, address) = node("polite@127.0.0.1").await;
    let mut peer = RawPeer::dial(address, "polite@127.0.0.1", PEER).await.expect("connected");
    let nobody = Pid { node: Atom::from(node.name()), id: 9_999, serial: 0, creation: node.creation() };
    let stale = { Pid { creation: node.creation() ^ 1, ..node.spawn().pid().clone() } };

    let to = Process::Name(Atom::from_static("nobody"));
    peer.send(Control::MonitorP { from: pid(1), to: to.clone(), reference: reference(1) }, None).await;
    let answer = peer.message().await.expect("an answer");
    assert_eq!(answer.control, Control::PayloadMonitorPExit { from: to, to: pid(1), reference: reference(1) });
    assert_eq!(answer.payload.expect("a reason").decode(&Default::default()), Ok(atom("noproc")));

    for gone in [nobody, stale] {
        peer.send(Control::Link { from: pid(1), to: gone.clone() }, None).await;
        let answer = peer.message().await.expect("an answer");
        assert_eq!(answer.control, Control::PayloadExit { from: gone, to: pid(1), trace: None });
        assert_eq!(answer.payload.expect("a reason").decode(&Default::default()), Ok(atom("noproc")));
    }

    let process = node.spawn();
    let (from, to) = (pid(1), process.pid().clone());
    peer.send(Control::Link { from: from.clone(), to: to.clone() }, None).await;
    peer.send(Control::UnlinkId { id: 77, from: from.clone(), to: to.clone() }, None).await;
    let answer = peer.message().await.expect("an answer");
    assert_eq!(answer.control, Control::UnlinkIdAck { id: 77, from: to, to: from });

    let request = SpawnRequest {
        request: reference(2),
        from: pid(1),
        group_leader: pid(1),
        module: Atom::from_static("erlang"),
        function: Atom::from_static("halt"),
        arity: 0,
        options: vec![],
        trace: None,
    };
    peer.send(Control::SpawnRequest(Box::new(request)), Some(&Term::list([]))).await;
    let answer = peer.message().await.expect("an answer");
    let result = SpawnResult::Refused(Atom::from_static("notsup"));
    let expected = Control::SpawnReply { request: reference(2), to: pid(1), flags: 0, result, trace: None };
    assert_eq!(answer.control, expected);

    let from = Term::tuple([pid(1).into(), reference(3).into()]);
    let question = Term::tuple([atom("is_auth"), atom(PEER)]);
    let call = Term::tuple([atom("$gen_call"), from, question]);
    let to = Atom::from_static("net_kernel");
    peer.send(Control::RegSend { from: pid(1), to, trace: None }, Some(&call)).await;
    let answer = peer.message().await.expect("an answer");
    let yes = Term::tuple([reference(3).into(), atom("yes")]);
    assert_eq!(answer.payload.expect("a message").decode(&Default::default()), Ok(yes));
}

#[tokio::test]
async fn a_late_answer_is_dropped_and_its_monitor_taken_back() {
    let (node, address) = node("hasty@127.0.0.1").await;
    let mut peer = RawPeer::dial(address, "hasty@127.0.0.1", PEER).await.expect("connected");
    let mut process = node.spawn();
    let answer = process.call(&name(PEER), "slow", atom("x"), Duration::from_millis(50)).await;
    assert_eq!(answer, Err(CallError::Timeout));
    let monitor = peer.message().await.expect("a monitor").control;
    let Control::MonitorP { from, to, reference } = monitor else { panic!("{monitor:?}") };
    assert!(matches!(peer.message().await.expect("a request").control, Control::RegSend { .. }));
    let taken_back = peer.message().await.expect("the end").control;
    assert_eq!(taken_back, Control::DemonitorP { from: from.clone(), to, reference: reference.clone() });
    // Too late: nothing reaches the mailbox but what is a message.
    let late = Term::tuple([reference.into(), atom("late")]);
    peer.send(Control::Send { to: from.clone(), trace: None }, Some(&late)).await;
    peer.send(Control::Send { to: from, trace: None }, Some(&atom("message"))).await;
    assert_eq!(within("the message", process.recv()).await, Received::Message(atom("message")));
}

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
async fn who_claims_a_name_without_the_cookie_keeps_nobody_from_it() {
    // The name is greater than ours, so its dial would go first.
    let timeout = Duration::from_secs(4);
    let (node, address) = node_with(NodeOptions { connect_timeout: timeout, ..options("aaa@127.0.0.1") }).await;
    let (listener, theirs) = listener().await;
    let mut thief = TcpStream::connect(address).await.expect("it listens");
    let mut name_message = vec![b'N'];
    name_message.put_u64(Flags::offered(true).0);
    name_message.put_u32(5);
    name_message.put_u16(PEER.len() as u16);
    name_message.extend_from_slice(PEER.as_bytes());
    let mut framed = (name_message.len() as u16).to_be_bytes().to_vec();
    framed.extend(name_message);
    thief.write_all(&framed).await.expect("written");
    let mut status = [0; 5];
    thief.read_exact(&mut status).await.expect("a status");
    assert_eq!(&status, b"\0\x03sok");
    let answer = async {
        let (stream, _) = listener.accept().await.expect("dialled");
        RawPeer::answer(stream, PEER).await
    };
    let (dialled, answered) = tokio::join!(node.connect(theirs, exactly()), answer);
    assert!(dialled.is_ok(), "{dialled:?}");
    assert!(answered.is_ok());
}

#[tokio::test]
async fn what_is_queued_at_shutdown_is_written() {
    let (node, address) = node("leaving@127.0.0.1").await;
    let mut peer = RawPeer::dial(address, "leaving@127.0.0.1", PEER).await.expect("connected");
    up(&node).await;
    let process = node.spawn();
    let to = Process::Pid(process.pid().clone());
    peer.send(Control::MonitorP { from: pid(1), to, reference: reference(1) }, None).await;
    peer.send(Control::Link { from: pid(2), to: pid(9) }, None).await;
    assert!(matches!(peer.message().await.expect("noproc").control, Control::PayloadExit { .. }));
    for n in 0..100 {
        process.send(&pid(1), Term::Integer(n)).expect("queued");
    }
    drop(process);
    let read = async {
        let mut messages = 0;
        while let Some(message) = peer.message().await {
            messages += 1;
            if matches!(message.control, Control::PayloadMonitorPExit { .. }) {
                return messages;
            }
        }
        messages
    };
    let ((), messages) = tokio::join!(node.shutdown(), read);
    assert_eq!(messages, 101);
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn processes_of_one_node_watch_each_other() {
    let (node, _) = node("alone@127.0.0.1").await;
    let mut a = node.spawn();
    let b = node.spawn();
    b.register("b").expect("free");
    assert!(a.register("b").is_err());
    assert_eq!(node.whereis("b").as_ref(), Some(b.pid()));
    let by_pid = a.monitor(b.pid());
    let by_name = a.monitor_name(node.name(), "b").expect("an atom");
    a.link(b.pid());
    let b_pid = b.pid().clone();
    b.exit(atom("bye"));
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(within("the end", a.recv()).await);
    }
    let down = |reference| Received::Down { reference, reason: atom("bye") };
    for expected in [down(by_pid), down(by_name), Received::Exit { from: b_pid.clone(), reason: atom("bye") }] {
        assert!(seen.contains(&expected), "{seen:?}");
    }
    assert_eq!(node.whereis("b"), None);
    a.link(&b_pid);
    assert_eq!(a.recv().await, Received::Exit { from: b_pid.clone(), reason: atom("noproc") });
    let late = a.monitor(&b_pid);
    assert_eq!(a.recv().await, Received::Down { reference: late, reason: atom("noproc") });
    assert_eq!(node.call(node.name(), "b", atom("x"), PATIENCE).await, Err(CallError::NoProcess));
    assert_eq!(a.send(&pid(1), atom("x")), Err(SendError::NoConnection));
    assert_eq!(a.try_recv(), None);
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

#[tokio::test]
async fn an_old_peer_gets_the_forms_that_it_knows() {
    let (node, address) = node("modern@127.0.0.1").await;
    let mut peer = RawPeer::dial_with(address, "modern@127.0.0.1", PEER, Flags::SET_25).await.expect("connected");
    up(&node).await;
    let process = node.spawn();
    let to = Process::Pid(process.pid().clone());
    peer.send(Control::MonitorP { from: pid(1), to, reference: reference(1) }, None).await;
    peer.send(Control::Link { from: pid(2), to: process.pid().clone() }, None).await;
    // The peer's signals are taken before ours go out: a message that comes back says so.
    process.send(&pid(3), atom("hello")).expect("queued");
    assert!(matches!(peer.message().await.expect("a message").control, Control::Send { .. }));
    peer.send(Control::Link { from: pid(2), to: pid(9) }, None).await;
    assert!(matches!(peer.message().await.expect("noproc").control, Control::Exit { .. }));
    process.unlink(&pid(2));
    assert!(matches!(peer.message().await.expect("unlinked").control, Control::Unlink { .. }));
    process.exit(atom("done"));
    let end = peer.message().await.expect("the end").control;
    assert!(matches!(&end, Control::MonitorPExit { reason, .. } if *reason == atom("done")), "{end:?}");
}
