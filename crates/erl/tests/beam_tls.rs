//! Distribution over TLS: a node of ours and real BEAM nodes with `-proto_dist inet_tls`.

mod common;

use std::net::SocketAddr;

use common::{
    Beam, COOKIE, PATIENCE, atom, epmd, name, node, node_with,
    tls::{Authority, Files, has_tls},
    within,
};
use metacluster_erl::{
    ConnectError, NameCheck, Node, NodeOptions, Received, Tls, TlsError,
    epmd::{Registered, Registration, Server, register},
    node::Expect,
    wire::{Term, epmd::NodeType, handshake::HandshakeError},
};
use metacluster_types::Cookie;

const LARGE_BYTES: usize = 5_000_000;

fn exactly(beam: &Beam) -> Expect {
    Expect::Exactly(beam.name.clone())
}

async fn beam(epmd: &Server, name: &str, args: &[String]) -> Beam {
    Beam::start(epmd, name, &args.iter().map(String::as_str).collect::<Vec<_>>()).await
}

async fn registered(epmd: &Server, name: &str, address: SocketAddr) -> Registered {
    let registration = Registration::new(name, address.port(), NodeType::Hidden);
    register(epmd.addresses()[0], registration).await.expect("the name is free")
}

fn tls_error(error: ConnectError) -> TlsError {
    let ConnectError::Tls { error, .. } = error else { panic!("not TLS: {error}") };
    assert!(!error.to_string().contains('\n'), "{error}");
    error
}

/// What BEAM nodes do all day, in both directions, in this version of TLS.
async fn works(version: &str) {
    let (epmd, authority) = (epmd().await, Authority::new());
    let files = authority.files("localhost");
    let beam = beam(&epmd, "shop@localhost", &files.beam("shop", version)).await;
    let (node, address) = node_with(files.node("ours@localhost")).await;
    let _registered = registered(&epmd, "ours", address).await;
    let peer = node.connect(beam.address, exactly(&beam)).await.expect("a connection");
    assert!(!peer.accepted);
    beam.booted(&node).await;
    assert_eq!(beam.eval(&node, "net_adm:ping('ours@localhost').").await, atom("pong"));

    // It dials us.
    let (control, _) = node_with(files.node("control@localhost")).await;
    beam.join(&control).await;
    node.disconnect(&beam.name);
    let gone = "fun Gone() -> case lists:member('ours@localhost', nodes(hidden)) of true -> Gone(); _ -> ok end end().";
    assert_eq!(beam.eval(&control, gone).await, atom("ok"));
    assert_eq!(beam.eval(&control, "net_adm:ping('ours@localhost').").await, atom("pong"));
    assert!(node.peers()[0].accepted);

    // Large messages, on a connection of each direction.
    let bytes = Term::binary((0..LARGE_BYTES).map(|n| n as u8).collect::<Vec<_>>());
    for node in [&node, &control] {
        let echo = node.rpc(&beam.name, "erlang", "hd", vec![Term::list([bytes.clone()])], PATIENCE).await;
        assert!(echo.expect("a result") == bytes, "it came back as it went");
    }
}

#[tokio::test]
async fn a_node_in_tls_1_3_is_a_node_like_any_other() {
    if has_tls() {
        works("tlsv1.3").await;
    }
}

#[tokio::test]
async fn a_node_in_tls_1_2_is_a_node_like_any_other() {
    if has_tls() {
        works("tlsv1.2").await;
    }
}

#[tokio::test]
async fn the_cookie_is_proved_in_tls_too() {
    if !has_tls() {
        return;
    }
    let (epmd, authority) = (epmd().await, Authority::new());
    let files = authority.files("localhost");
    let beam = beam(&epmd, "secretive@localhost", &files.beam("secretive", "tlsv1.3")).await;
    let options = NodeOptions { cookie: Cookie::new("another"), ..files.node("ours@localhost") };
    let error = Node::start(options).connect(beam.address, exactly(&beam)).await.expect_err("a wrong cookie");
    assert!(matches!(&error, ConnectError::Handshake { error: HandshakeError::WrongCookie { .. }, .. }), "{error}");
    assert_ne!(COOKIE, "another");
}

#[tokio::test]
async fn a_certificate_of_a_foreign_authority_is_refused_by_name_of_the_fault() {
    if !has_tls() {
        return;
    }
    let (epmd, authority, stranger) = (epmd().await, Authority::new(), Authority::new());
    let (good, foreign) = (authority.files("localhost"), stranger.files("localhost"));
    for version in ["tlsv1.2", "tlsv1.3"] {
        let text = format!("v{}@localhost", &version[6..]);
        let beam = beam(&epmd, &text, &good.beam(&version[4..], version)).await;
        // We do not trust it.
        let (node, address) = node_with(good.trusting(&foreign).node("distrustful@localhost")).await;
        let error = node.connect(beam.address, exactly(&beam)).await.expect_err("a foreign authority");
        assert_eq!(tls_error(error), TlsError::UnknownAuthority, "{version}");
        let _registered = registered(&epmd, "distrustful", address).await;
        let (control, _) = node_with(good.node("control@localhost")).await;
        beam.join(&control).await;
        assert_eq!(beam.eval(&control, "net_adm:ping('distrustful@localhost').").await, atom("pang"));

        // It does not trust us.
        let (node, _) = node_with(foreign.trusting(&good).node("forger@localhost")).await;
        let error = node.connect(beam.address, exactly(&beam)).await.expect_err("a foreign certificate");
        let error = tls_error(error);
        assert!(error.to_string().contains("does not know the authority of our certificate"), "{version}: {error}");
    }
}

#[tokio::test]
async fn a_node_without_a_certificate_comes_in_only_where_none_is_asked_for() {
    if !has_tls() {
        return;
    }
    let (epmd, authority) = (epmd().await, Authority::new());
    let files = authority.files("localhost");
    for version in ["tlsv1.2", "tlsv1.3"] {
        let text = format!("bare{}@localhost", &version[6..]);
        let beam = beam(&epmd, &text, &files.beam_with(&version[4..], version, false)).await;
        let (control, _) = node_with(files.node("control@localhost")).await;
        beam.join(&control).await;

        let (strict, address) = node_with(files.node("strict@localhost")).await;
        let _registered = registered(&epmd, "strict", address).await;
        assert_eq!(beam.eval(&control, "net_adm:ping('strict@localhost').").await, atom("pang"));
        assert!(strict.peers().is_empty());

        let mut options = files.options();
        options.client_certificates = false;
        let tls = Some(Tls::load(&options).expect("good files"));
        let (mild, address) = node_with(NodeOptions { tls, ..files.node("mild@localhost") }).await;
        let _registered = registered(&epmd, "mild", address).await;
        assert_eq!(beam.eval(&control, "net_adm:ping('mild@localhost').").await, atom("pong"), "{version}");
        assert_eq!(mild.peers().len(), 1);
    }
}

#[tokio::test]
async fn plain_and_tls_do_not_mix_and_say_so() {
    if !has_tls() {
        return;
    }
    let (epmd, authority) = (epmd().await, Authority::new());
    let files = authority.files("localhost");
    let secure = beam(&epmd, "secure@localhost", &files.beam("secure", "tlsv1.3")).await;
    let (plain, plain_address) = node("plain@localhost").await;
    let error = plain.connect(secure.address, exactly(&secure)).await.expect_err("TLS");
    assert_eq!(tls_error(error), TlsError::PeerIsTls);

    // The BEAM nodes dial the wrong kind.
    let (tls, tls_address) = node_with(files.node("tls@localhost")).await;
    let _a = registered(&epmd, "plain", plain_address).await;
    let _b = registered(&epmd, "tls", tls_address).await;
    secure.join(&tls).await;
    assert_eq!(secure.eval(&tls, "net_adm:ping('plain@localhost').").await, atom("pang"));
    let simple = beam(&epmd, "simple@localhost", &[]).await;
    simple.join(&plain).await;
    assert_eq!(simple.eval(&plain, "net_adm:ping('tls@localhost').").await, atom("pang"));

    // Two of ours.
    let error = plain.connect(tls_address, Expect::Exactly(name("tls@localhost"))).await.expect_err("TLS");
    assert_eq!(tls_error(error), TlsError::PeerIsTls);
    let error = tls.connect(plain_address, Expect::Exactly(name("plain@localhost"))).await.expect_err("plain");
    assert!(matches!(tls_error(error), TlsError::Closed | TlsError::PeerIsPlain));
}

/// Two nodes of ours, of which one dials the other: what comes of it.
async fn dial(from: NodeOptions, to: NodeOptions) -> Result<(), TlsError> {
    let peer = to.name.clone();
    let (_listening, address) = node_with(to).await;
    match within("the dial", Node::start(from).connect(address, Expect::Exactly(peer))).await {
        Ok(_) => Ok(()),
        Err(error) => Err(tls_error(error)),
    }
}

#[tokio::test]
async fn certificates_are_good_for_their_time_and_names_alone() {
    let authority = Authority::new();
    let good = authority.sign("good", &["localhost"], (2020, 2099));
    let expired = authority.sign("expired", &["localhost"], (2020, 2021));
    let early = authority.sign("early", &["localhost"], (2098, 2099));
    let other = authority.sign("other", &["elsewhere"], (2020, 2099));
    let from = || good.node("from@localhost");
    assert_eq!(dial(from(), good.node("to@localhost")).await, Ok(()));
    assert_eq!(dial(from(), expired.node("to@localhost")).await, Err(TlsError::Expired));
    assert_eq!(dial(from(), early.node("to@localhost")).await, Err(TlsError::NotYetValid));
    let wrong = dial(from(), other.node("to@localhost")).await.expect_err("a wrong name");
    assert_eq!(wrong.to_string(), "to@localhost showed a certificate for elsewhere");
    let ours_expired = dial(expired.node("from@localhost"), good.node("to@localhost")).await;
    assert!(matches!(&ours_expired, Err(TlsError::RefusedByPeer(why)) if why.contains("expired")), "{ours_expired:?}");

    let checking = |files: &Files, names, node: &str| {
        let mut options = files.options();
        options.names = names;
        NodeOptions { tls: Some(Tls::load(&options).expect("good files")), ..files.node(node) }
    };
    let careless = checking(&good, NameCheck::Never, "from@localhost");
    assert_eq!(dial(careless, other.node("to@localhost")).await, Ok(()));
    assert_eq!(dial(checking(&other, NameCheck::Dialled, "from@localhost"), good.node("to@localhost")).await, Ok(()));
    let careful = checking(&good, NameCheck::Always, "to@localhost");
    let (_listening, address) = node_with(careful).await;
    let expect = Expect::Exactly(name("to@localhost"));
    let stranger = Node::start(other.node("from@localhost"));
    let error = stranger.connect(address, expect.clone()).await.expect_err("its certificate is for another host");
    assert!(matches!(&error, ConnectError::Handshake { error: HandshakeError::NotAllowed, .. }), "{error}");
    Node::start(good.node("from@localhost")).connect(address, expect).await.expect("its certificate is its own");
}

#[tokio::test]
async fn bytes_cross_tls_in_order_under_load() {
    let authority = Authority::new();
    let files = authority.files("localhost");
    let (to, address) = node_with(files.node("to@localhost")).await;
    let from = Node::start(files.node("from@localhost"));
    from.connect(address, Expect::Exactly(name("to@localhost"))).await.expect("a connection");
    let (mut sink, source) = (to.spawn(), from.spawn());
    let pid = sink.pid().clone();
    for n in 0..200 {
        let message = Term::tuple([Term::Integer(n), Term::binary(vec![n as u8; 30_000])]);
        source.send(&pid, message).expect("room for 6 MB");
    }
    for n in 0..200 {
        let Received::Message(message) = within("a message", sink.recv()).await else { panic!("only messages") };
        let parts = message.as_tuple().expect("a tuple").to_vec();
        assert_eq!(parts[0], Term::Integer(n));
        assert_eq!(parts[1], Term::binary(vec![n as u8; 30_000]));
    }
}

/// Puts a file in the place of another, as who renews certificates does.
fn put(from: &std::path::Path, to: &std::path::Path) {
    let beside = to.with_extension("new");
    std::fs::copy(from, &beside).expect("copied");
    std::fs::rename(beside, to).expect("renamed");
}

#[tokio::test]
async fn new_certificates_are_taken_from_their_files_and_bad_ones_are_not() {
    let authority = Authority::new();
    let (good, old) = (authority.files("localhost"), authority.sign("old", &["localhost"], (2020, 2021)));
    let used = authority.sign("used", &["localhost"], (2020, 2099));
    let (to, address) = node_with(used.node("to@localhost")).await;
    let from = Node::start(good.node("from@localhost"));
    let dial = async || {
        let dialled = from.connect(address, Expect::Exactly(name("to@localhost"))).await.map(drop).map_err(tls_error);
        // The next one shakes hands anew.
        from.disconnect(to.name());
        while !to.peers().is_empty() || !from.peers().is_empty() {
            tokio::task::yield_now().await;
        }
        dialled
    };
    assert_eq!(dial().await, Ok(()));
    // The certificate before its key: the pair of before holds until both are there.
    put(&old.certificate, &used.certificate);
    assert_eq!(dial().await, Ok(()));
    put(&old.key, &used.key);
    assert_eq!(dial().await, Err(TlsError::Expired));
    // A file that is none, and one that is gone.
    std::fs::write(&used.key, "no key").expect("written");
    assert_eq!(dial().await, Err(TlsError::Expired));
    std::fs::remove_file(&used.certificate).expect("removed");
    assert_eq!(dial().await, Err(TlsError::Expired));
    put(&good.certificate, &used.certificate);
    put(&good.key, &used.key);
    assert_eq!(dial().await, Ok(()));
}

#[tokio::test]
async fn a_node_in_tls_over_ipv6_is_a_node_like_any_other() {
    if !has_tls() {
        return;
    }
    let (epmd, authority) = (epmd().await, Authority::new());
    let files = authority.sign("six", &["::1"], (2020, 2099));
    let mut arguments = files.beam("six", "tlsv1.3");
    arguments[1] = "inet6_tls".to_owned();
    let mut beam = beam(&epmd, "six@::1", &arguments).await;
    // It listens there alone.
    beam.address.set_ip(std::net::Ipv6Addr::LOCALHOST.into());
    let node = Node::start(files.node("ours@::1"));
    let address = node.listen((std::net::Ipv6Addr::LOCALHOST, 0).into()).await.expect("a free port");
    let registration = Registration::new("ours", address.port(), NodeType::Hidden);
    let _registered = register(epmd.addresses()[1], registration).await.expect("the name is free");
    let peer = node.connect(beam.address, exactly(&beam)).await.expect("a connection");
    assert!(peer.address.is_ipv6() && !peer.accepted);
    beam.booted(&node).await;
    assert_eq!(beam.eval(&node, "net_adm:ping('ours@::1').").await, atom("pong"));

    // It dials us.
    let control = Node::start(files.node("control@::1"));
    beam.join(&control).await;
    node.disconnect(&beam.name);
    let gone = "fun Gone() -> case lists:member('ours@::1', nodes(hidden)) of true -> Gone(); _ -> ok end end().";
    assert_eq!(beam.eval(&control, gone).await, atom("ok"));
    assert_eq!(beam.eval(&control, "net_adm:ping('ours@::1').").await, atom("pong"));
    assert!(node.peers()[0].accepted && node.peers()[0].address.is_ipv6());
    let bytes = Term::binary(vec![7; LARGE_BYTES]);
    let echo = node.rpc(&beam.name, "erlang", "hd", vec![Term::list([bytes.clone()])], PATIENCE).await;
    assert!(echo.expect("a result") == bytes, "it came back as it went");
}
