//! Who connects to whom, and why not: a node of ours and real BEAM nodes.

mod common;

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use common::{Beam, COOKIE, PATIENCE, atom, epmd, has_erl, name, node, node_with, options, refusing, within};
use metacluster_erl::{
    ConnectError, DownReason, Node, NodeEvent, NodeOptions,
    epmd::{Registration, register},
    node::Expect,
    wire::{Term, epmd::NodeType, handshake::HandshakeError},
};
use metacluster_types::Cookie;
use tokio::net::TcpListener;

fn exactly(beam: &Beam) -> Expect {
    Expect::Exactly(beam.name.clone())
}

#[tokio::test]
async fn a_wrong_cookie_is_said_in_one_line_on_both_sides() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let beam = Beam::start_with(&epmd, "secretive@127.0.0.1", "another", &[]).await;
    let (node, address) = node("ours@127.0.0.1").await;
    let error = node.connect(beam.address, exactly(&beam)).await.expect_err("a wrong cookie");
    assert!(matches!(&error, ConnectError::Handshake { error: HandshakeError::WrongCookie { .. }, .. }), "{error}");
    let line = error.to_string();
    assert!(line.contains("wrong cookie") && !line.contains('\n'), "{line}");
    assert!(node.peers().is_empty());

    // The BEAM dials us: it is refused, and told.
    let registration = Registration::new("ours", address.port(), NodeType::Hidden);
    let _registered = register(epmd.addresses()[0], registration).await.expect("the name is free");
    let control = Node::start(NodeOptions::new(name("control@127.0.0.1"), Cookie::new("another")));
    beam.join(&control).await;
    assert_eq!(beam.eval(&control, "net_adm:ping('ours@127.0.0.1').").await, atom("pang"));
    assert!(node.peers().is_empty());
}

#[tokio::test]
async fn what_cannot_be_is_said_clearly() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let beam = Beam::start(&epmd, "here@127.0.0.1", &[]).await;
    let (node, _) = node("ours@127.0.0.1").await;

    let (_bound, nobody) = refusing();
    let error = node.connect(nobody, exactly(&beam)).await.expect_err("nobody listens");
    assert_eq!(error, ConnectError::Refused(nobody));

    let error = node.connect(beam.address, Expect::Exactly(name("there@127.0.0.1"))).await.expect_err("another name");
    assert!(error.to_string().contains("there@127.0.0.1") && error.to_string().contains("here@127.0.0.1"), "{error}");

    let (visible, _) = node_with(NodeOptions { hidden: false, ..options("seen@127.0.0.1") }).await;
    let error = visible.connect(beam.address, Expect::Exactly(name("here@localhost"))).await.expect_err("a short name");
    assert!(matches!(error, ConnectError::LongAndShort { .. }), "{error}");
    assert!(error.to_string().contains("-sname"), "{error}");

    let error = node.connect(beam.address, Expect::Exactly(name("ours@127.0.0.1"))).await.expect_err("oneself");
    assert_eq!(error, ConnectError::Oneself(name("ours@127.0.0.1")));

    // A listener that says nothing.
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let mute_address = mute.local_addr().expect("an address");
    let hasty = NodeOptions { connect_timeout: Duration::from_millis(200), ..options("hasty@127.0.0.1") };
    let (hasty, _) = node_with(hasty).await;
    let error = hasty.connect(mute_address, exactly(&beam)).await.expect_err("silence");
    assert!(matches!(error, ConnectError::Timeout { .. }), "{error}");

    // The BEAM lets only some in.
    beam.join(&node).await;
    assert_eq!(beam.eval(&node, "net_kernel:allow(['nobody@127.0.0.1']).").await, atom("ok"));
    let (other, _) = node_with(options("other@127.0.0.1")).await;
    let error = other.connect(beam.address, exactly(&beam)).await.expect_err("not allowed");
    assert!(matches!(&error, ConnectError::Handshake { error: HandshakeError::NotAllowed, .. }), "{error}");
}

#[tokio::test]
async fn a_hidden_node_talks_to_long_names_and_short_ones() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let (node, _) = node("agent@127.0.0.1").await;
    for text in ["long@127.0.0.1", "short@localhost"] {
        let beam = Beam::start(&epmd, text, &[]).await;
        assert_eq!(beam.join(&node).await.name, beam.name);
        assert_eq!(beam.eval(&node, "net_adm:ping('agent@127.0.0.1').").await, atom("pong"));
    }
}

#[tokio::test]
async fn a_node_on_ipv6_is_a_node_like_any_other() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    assert!(epmd.addresses().iter().any(SocketAddr::is_ipv6), "this host has no IPv6");
    let mut beam = Beam::start(&epmd, "six@::1", &["-proto_dist", "inet6_tcp"]).await;
    beam.address.set_ip(Ipv6Addr::LOCALHOST.into());
    let node = Node::start(options("ours@::1"));
    let address = node.listen((Ipv6Addr::LOCALHOST, 0).into()).await.expect("a free port");
    let registration = Registration::new("ours", address.port(), NodeType::Hidden);
    let _registered = register(epmd.addresses()[1], registration).await.expect("the name is free");
    assert_eq!(beam.join(&node).await.name, beam.name);
    node.disconnect(&beam.name);
    let control = Node::start(options("control@::1"));
    beam.join(&control).await;
    assert_eq!(beam.eval(&control, "net_adm:ping('ours@::1').").await, atom("pong"));
    assert!(node.peers()[0].accepted);
}

#[tokio::test]
async fn a_second_dial_gives_the_first_connection() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let beam = Beam::start(&epmd, "popular@127.0.0.1", &[]).await;
    let (node, _) = node("fan@127.0.0.1").await;
    let mut events = node.events();
    let basename = Expect::Basename("popular".to_owned());
    let (a, b, c) = tokio::join!(
        node.connect(beam.address, exactly(&beam)),
        node.connect(beam.address, exactly(&beam)),
        node.connect(beam.address, basename.clone()),
    );
    let (a, b, c) = (a.expect("a"), b.expect("b"), c.expect("c"));
    assert_eq!(a, b);
    assert_eq!(a.name, c.name);
    let up = node.peers();
    assert_eq!(up.len(), 1);
    let again = node.connect(beam.address, basename).await.expect("up");
    assert_eq!(again, up[0]);

    beam.booted(&node).await;
    assert!(node.disconnect(&beam.name));
    assert!(!node.disconnect(&beam.name));
    // For one peer the two alternate, however many dials there were.
    let mut is_up = false;
    loop {
        match within("the end", events.recv()).await.expect("no event is missed") {
            NodeEvent::Up { .. } => {
                assert!(!is_up);
                is_up = true;
            }
            NodeEvent::Down { reason, .. } => {
                assert!(is_up);
                is_up = false;
                if reason == DownReason::Disconnected {
                    break;
                }
                assert_eq!(reason, DownReason::Replaced);
            }
        }
    }
}

#[tokio::test]
async fn two_that_dial_each_other_at_once_have_one_connection() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    // One name below that of the BEAM and one above it, since the greater one's dial stays.
    for ours in ["aaa@127.0.0.1", "zzz@127.0.0.1"] {
        let beam = Beam::start(&epmd, "mmm@127.0.0.1", &[]).await;
        let (control, _) = node("control@127.0.0.1").await;
        beam.join(&control).await;
        let (node, address) = node(ours).await;
        let registration = Registration::new(node.name().basename(), address.port(), NodeType::Hidden);
        let registered = register(epmd.addresses()[0], registration).await.expect("the name is free");
        for round in 0..20 {
            let args = vec![atom(ours)];
            let theirs = control.rpc(&beam.name, "net_kernel", "hidden_connect_node", args, PATIENCE);
            // Ours starts a little later each round, to meet theirs at every step.
            let ours = async {
                for _ in 0..round * 50 {
                    tokio::task::yield_now().await;
                }
                node.connect(beam.address, exactly(&beam)).await
            };
            let (theirs, ours) = tokio::join!(theirs, ours);
            let ours = ours.unwrap_or_else(|error| panic!("round {round}: {error}"));
            assert_eq!(theirs, Ok(Term::boolean(true)), "round {round}");
            // It carries calls in both directions.
            let pong = beam.eval(&control, &format!("net_adm:ping('{}').", node.name())).await;
            assert_eq!(pong, atom("pong"), "round {round}");
            let peers = node.peers();
            assert_eq!(peers.len(), 1, "round {round}");
            assert_eq!(peers[0].name, ours.name);
            let gone = beam.eval(&control, &format!("erlang:disconnect_node('{}').", node.name())).await;
            assert_eq!(gone, Term::boolean(true));
            let mut events = node.events();
            while !node.peers().is_empty() {
                within("the end", events.recv()).await.expect("no event is missed");
            }
        }
        drop(registered);
        let mut names = epmd.watch();
        drop(beam);
        within("the end of both", names.wait_for(|names| names.is_empty())).await.expect("epmd runs");
    }
}

#[tokio::test]
async fn a_node_that_came_back_replaces_its_dead_connection() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let beam = Beam::start(&epmd, "steady@127.0.0.1", &[]).await;
    let first = Node::start(NodeOptions { creation: Some(10), ..options("twice@127.0.0.1") });
    beam.join(&first).await;
    // Another life of the same name, while the BEAM still holds the connection of the first.
    let second = Node::start(NodeOptions { creation: Some(11), ..options("twice@127.0.0.1") });
    let mut events = first.events();
    beam.join(&second).await;
    let down = within("the old one's end", events.recv()).await.expect("no event is missed");
    assert!(matches!(down, NodeEvent::Down { reason: DownReason::ClosedByPeer, .. }), "{down:?}");
    let hidden = second.rpc(&beam.name, "erlang", "nodes", vec![atom("hidden")], PATIENCE).await;
    assert_eq!(hidden, Ok(Term::list([atom("twice@127.0.0.1")])));
}

#[tokio::test]
async fn two_nodes_of_ours_connect_and_a_restart_replaces() {
    let (a, a_address) = node("a@127.0.0.1").await;
    let mut events = a.events();
    let b = Node::start(NodeOptions::new(name("b@127.0.0.1"), Cookie::new(COOKIE)));
    b.connect(a_address, Expect::Basename("a".to_owned())).await.expect("connected");
    assert!(matches!(within("up", events.recv()).await, Ok(NodeEvent::Up { .. })));
    // The new life of b is let in, for b says that the old connection is none of its own.
    let again = Node::start(NodeOptions::new(name("b@127.0.0.1"), Cookie::new(COOKIE)));
    again.connect(a_address, Expect::Exactly(name("a@127.0.0.1"))).await.expect("connected");
    let down = within("down", events.recv()).await.expect("no event is missed");
    assert!(matches!(down, NodeEvent::Down { reason: DownReason::Replaced, .. }), "{down:?}");
    let up = within("up", events.recv()).await.expect("no event is missed");
    assert!(matches!(&up, NodeEvent::Up { peer } if peer.creation == again.creation()), "{up:?}");
    a.shutdown().await;
    assert!(matches!(within("down", events.recv()).await, Ok(NodeEvent::Down { reason: DownReason::Shutdown, .. })));
    assert_eq!(a.connect(a_address, Expect::Basename("x".into())).await, Err(ConnectError::Shutdown));
}

#[tokio::test]
async fn an_idle_connection_to_a_beam_stays_up() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    // A tick time of three seconds on both sides, so that two of them can be waited for.
    let beam = Beam::start(&epmd, "idle@127.0.0.1", &["-kernel", "net_ticktime", "3"]).await;
    let tick_interval = Duration::from_millis(750);
    let (node, _) = node_with(NodeOptions { tick_interval, ..options("quiet@127.0.0.1") }).await;
    beam.join(&node).await;
    let mut events = node.events();
    let ended = tokio::time::timeout(tick_interval * 10, events.recv()).await;
    assert!(ended.is_err(), "an idle connection ended: {ended:?}");
    assert_eq!(beam.eval(&node, "1 + 1.").await, Term::Integer(2));
}

#[tokio::test]
async fn a_visible_node_is_in_nodes_and_disturbs_nobody() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let beam = Beam::start(&epmd, "seeing@127.0.0.1", &[]).await;
    let (node, _) = node_with(NodeOptions { hidden: false, ..options("seen@127.0.0.1") }).await;
    beam.join(&node).await;
    assert_eq!(beam.eval(&node, "nodes().").await, Term::list([atom("seen@127.0.0.1")]));
    // What `global` and `rex` of the BEAM say to a visible node goes to names that nobody has here.
    let other = Beam::start(&epmd, "another@127.0.0.1", &[]).await;
    let connect = format!("net_kernel:connect_node('{}').", other.name);
    assert_eq!(beam.eval(&node, &connect).await, Term::boolean(true));
    assert_eq!(beam.eval(&node, "length(nodes()).").await, Term::Integer(2));
}
