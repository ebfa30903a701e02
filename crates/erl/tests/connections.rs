//! Ticks, must-answers and the end of a connection, against a peer of which the test holds every byte.

mod common;

use std::time::Duration;

use common::{
    PATIENCE, atom, name, node, node_with, options,
    raw::{PEER, RawPeer, down, pid, reference, up},
    within,
};
use metacluster_erl::{
    CallError, DownReason, NodeOptions, Received, SendError,
    wire::{
        Atom, Pid, Term,
        control::{Control, Process, SpawnRequest, SpawnResult},
        frame::Frame,
        handshake::Flags,
    },
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

#[tokio::test]
async fn a_quiet_connection_is_ticked_and_a_silent_peer_is_down() {
    let tick_interval = Duration::from_millis(500);
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
    assert!(node.set_tick_time(&name(PEER), Duration::from_secs(2)));
    assert_eq!(peer.frame().await, Some(Frame::Tick));
    assert_eq!(down(&mut events).await, DownReason::TickTimeout { silent: Duration::from_secs(2) });
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
