//! Two that dial each other at once, and who else gets between a dial and its peer.

mod common;

use std::time::Duration;

use bytes::BufMut;
use common::{
    atom, name, node, node_with, options,
    raw::{PEER, RawPeer, exactly, listener},
    within,
};
use metacluster_erl::{
    NodeOptions, Received,
    node::Expect,
    wire::handshake::{Flags, HandshakeError, Replaces},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

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
