//! The epmd client and the epmd server against each other, against stock epmd, and against real BEAM nodes.

mod common;

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    time::Duration,
};

use common::{Beam, epmd, has_erl, node, port_of, raw::listener, refusing, within};
use metacluster_erl::{
    epmd::{BindError, EpmdError, Registration, Server, ServerOptions, names, port_please, register},
    wire::{Term, epmd::NodeType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn shop() -> Registration {
    Registration::new("shop", 4_000, NodeType::Normal)
}

/// Sends bytes and reads until the end.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(bytes).await.expect("written");
    let mut answer = Vec::new();
    drop(within("the end", stream.read_to_end(&mut answer)).await);
    answer
}

/// A request with its length.
fn request(body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

fn alive2(name: &[u8], extra: &[u8]) -> Vec<u8> {
    let mut body = vec![b'x', 0x0f, 0xa0, 77, 0, 0, 6, 0, 5];
    body.extend((name.len() as u16).to_be_bytes());
    body.extend_from_slice(name);
    body.extend((extra.len() as u16).to_be_bytes());
    body.extend_from_slice(extra);
    request(&body)
}

#[tokio::test]
async fn a_registration_lives_with_its_connection() {
    let epmd = epmd().await;
    let mut watch = epmd.watch();
    for &address in epmd.addresses() {
        let registered = register(address, shop()).await.expect("the name is free");
        // Subscribers know before the node has its answer.
        assert!(watch.borrow_and_update().contains_key("shop"));
        assert_eq!(names(address).await, Ok(vec![("shop".to_owned(), 4_000)]));
        assert_eq!(port_please(address, "shop").await, Ok(Some(shop())));
        assert_eq!(port_please(address, "shopping").await, Ok(None));
        let taken = register(address, shop()).await.expect_err("taken");
        assert_eq!(taken, EpmdError::NameTaken { address, name: "shop".to_owned() });
        let creation = registered.creation();
        drop(registered);
        within("the end", watch.wait_for(|names| names.is_empty())).await.expect("it runs");
        let again = register(address, shop()).await.expect("free again");
        assert_eq!(again.creation(), creation + 1, "another life");
        drop(again);
        within("the end", watch.wait_for(|names| names.is_empty())).await.expect("it runs");
    }
    assert_eq!(epmd.addresses().len(), 2, "IPv4 and IPv6");
}

#[tokio::test]
async fn the_server_does_as_stock_epmd_does() {
    let epmd = epmd().await;
    let address = epmd.addresses()[0];
    let own_port = u32::from(address.port()).to_be_bytes();
    let registered = register(address, shop()).await.expect("the name is free");

    let listing = [&own_port[..], b"name shop at port 4000\n"].concat();
    assert_eq!(exchange(address, &request(b"n")).await, listing);
    let dump = exchange(address, &request(b"d")).await;
    assert!(dump.ends_with(b"\n\0") && dump[4..].starts_with(b"active name     <shop> at port 4000, fd = "));
    // A name to look up may end in a zero.
    assert_eq!(exchange(address, &request(b"zshop\0")).await[..2], [119, 0]);
    assert_eq!(exchange(address, &request(b"znobody")).await, [119, 1]);
    // Not without being asked to be relaxed.
    assert_eq!(exchange(address, &request(b"k")).await, b"NO");
    assert_eq!(exchange(address, &request(b"sshop")).await, b"");
    assert!(epmd.names().contains_key("shop"));

    // No answer to what is no request.
    let silence = [
        vec![0, 0],
        vec![0xff, 0xff, b'n'],
        request(b"?"),
        [request(b"n"), request(b"n")].concat(),
        alive2(b"a\0b", b""),
        request(b"x\0\0"),
        request(&[b'z', 0xff]),
    ];
    for bytes in silence {
        assert_eq!(exchange(address, &bytes).await, b"", "{bytes:?}");
    }
    // Refused, and left open.
    for bytes in [alive2(b"shop", b""), alive2(&[b'x'; 300], b""), alive2(b"\xff", b""), alive2(b"n", &[0; 1_021])] {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(&bytes).await.expect("written");
        let mut answer = [0; 6];
        within("the refusal", stream.read_exact(&mut answer)).await.expect("an answer");
        assert_eq!(answer, [b'v', 1, 0, 0, 0, 99]);
    }
    // A node of an old version gets a creation that it knows.
    let mut old = TcpStream::connect(address).await.expect("it listens");
    let mut bytes = alive2(b"old", b"\0extra");
    bytes[8] = 5;
    old.write_all(&bytes).await.expect("written");
    let mut answer = [0; 4];
    within("the answer", old.read_exact(&mut answer)).await.expect("an answer");
    assert!(matches!(answer, [b'y', 0, 0, 1..=3]), "{answer:?}");
    // Any further byte ends a registration.
    let mut watch = epmd.watch();
    assert_eq!(watch.borrow_and_update()["old"].extra, b"\0extra");
    old.write_all(b"!").await.expect("written");
    within("the end", watch.wait_for(|names| !names.contains_key("old"))).await.expect("it runs");
    assert!(epmd.names().contains_key("shop"));
    drop(registered);
    epmd.shutdown().await;
}

#[tokio::test]
async fn a_relaxed_server_stops_nodes_and_ends_when_told() {
    let options = ServerOptions { relaxed: true, ..ServerOptions::loopback(0) };
    let epmd = Server::bind(options).await.expect("a free port");
    let address = epmd.addresses()[0];
    let mut registered = register(address, shop()).await.expect("the name is free");
    assert_eq!(exchange(address, &request(b"snobody")).await, b"NOEXISTSTOPPED");
    assert_eq!(exchange(address, &request(b"sshop")).await, b"STOPPED");
    within("the end of the registration", registered.closed()).await;
    assert_eq!(exchange(address, &request(b"k")).await, b"OK");
    within("the end", epmd.killed()).await;
    epmd.shutdown().await;
    assert!(names(address).await.is_err(), "nobody answers any more");
}

#[tokio::test]
async fn what_a_stranger_can_hold_is_bounded() {
    let options =
        ServerOptions { packet_timeout: Duration::from_millis(100), connections_max: 3, ..ServerOptions::loopback(0) };
    let epmd = Server::bind(options).await.expect("a free port");
    let address = epmd.addresses()[0];
    let registered = register(address, shop()).await.expect("the name is free");
    // Those who say nothing, or half of something, go; the registered node stays.
    let mut idle = Vec::new();
    for bytes in [&b""[..], b"\0\x05z", b"\0", b"\0\x01"] {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        drop(stream.write_all(bytes).await);
        idle.push(stream);
    }
    for stream in &mut idle {
        let mut byte = [0];
        assert!(!matches!(within("the end", stream.read(&mut byte)).await, Ok(1..)));
    }
    within("a free place", async {
        while names(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(epmd.names().contains_key("shop"));
    drop(registered);
}

#[tokio::test]
async fn errors_say_who_is_to_blame() {
    let (listener, address) = listener().await;
    let web = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            let mut request = [0; 16];
            drop(stream.read(&mut request).await);
            drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
        }
    });
    for error in [
        names(address).await.err(),
        port_please(address, "shop").await.err(),
        register(address, shop()).await.err().map(|error| EpmdError::clone(&error)),
    ] {
        let error = error.expect("no epmd");
        assert!(matches!(error, EpmdError::Malformed { .. }), "{error}");
        assert!(error.to_string().contains(&address.to_string()) && !error.to_string().contains('\n'));
    }
    web.abort();
    let (_bound, nobody) = refusing();
    assert_eq!(names(nobody).await, Err(EpmdError::Refused(nobody)));

    let epmd = epmd().await;
    let used = epmd.addresses()[0];
    let error = Server::bind(ServerOptions::new(vec![used])).await.expect_err("in use");
    assert_eq!(error, BindError::InUse(used));
    assert_eq!(Server::bind(ServerOptions::new(vec![])).await.err(), Some(BindError::NoAddress));
    let foreign: SocketAddr = "192.0.2.1:0".parse().expect("an address");
    assert!(matches!(Server::bind(ServerOptions::new(vec![foreign])).await, Err(BindError::Unusable(..))));
}

#[tokio::test(start_paused = true)]
async fn a_mute_epmd_is_given_up() {
    let (_listener, address) = listener().await;
    let error = names(address).await.expect_err("silence");
    assert!(matches!(error, EpmdError::Timeout { .. }), "{error}");
    assert!(error.to_string().contains("5.0 s"), "{error}");
}

#[tokio::test]
async fn beam_nodes_live_with_our_epmd() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let (address, port) = (epmd.addresses()[0], port_of(&epmd));
    let mut watch = epmd.watch();
    let mut beam = Beam::start(&epmd, "tenant@127.0.0.1", &[]).await;
    let (node, _) = node("control@127.0.0.1").await;
    beam.join(&node).await;
    let listed = beam.eval(&node, "{ok, Names} = erl_epmd:names({127,0,0,1}), Names.").await;
    let expected = Term::tuple([Term::string("tenant"), Term::Integer(beam.address.port().into())]);
    assert_eq!(listed, Term::list([expected]));
    let looked_up = beam.eval(&node, "erl_epmd:port_please(\"tenant\", {127,0,0,1}).").await;
    assert!(looked_up.to_string().starts_with("{port,"), "{looked_up}");

    // A second node of the name ends, and the first one stays.
    let mut clash = Command::new("erl")
        .args(["-noinput", "-start_epmd", "false", "-name", "tenant@127.0.0.1"])
        .env("ERL_EPMD_PORT", port.to_string())
        .env("ERL_CRASH_DUMP_SECONDS", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("erl starts");
    let ended = tokio::task::spawn_blocking(move || clash.wait());
    let status = within("the end of the second", ended).await.expect("no panic").expect("it ends");
    assert!(!status.success());
    let creation = node.peers()[0].creation;
    assert!(epmd.names().contains_key("tenant"));

    // Killed without a word, it is gone; started again, it has another creation.
    beam.kill();
    within("the end", watch.wait_for(|names| names.is_empty())).await.expect("it runs");
    let mut events = node.events();
    while !node.peers().is_empty() {
        within("down", events.recv()).await.expect("no event is missed");
    }
    let beam = Beam::start(&epmd, "tenant@127.0.0.1", &[]).await;
    assert_eq!(beam.join(&node).await.creation, creation + 1);

    // The epmd is restarted on its port, at once: the node registers anew by itself.
    epmd.shutdown().await;
    assert!(names(address).await.is_err(), "nobody answers");
    let epmd = Server::bind(ServerOptions::loopback(port)).await.expect("the port is free at once");
    within("the node's return", epmd.watch().wait_for(|names| names.contains_key("tenant"))).await.expect("it runs");
}

/// A stock epmd; ends with the test.
struct StockEpmd(Child);

impl Drop for StockEpmd {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn the_client_works_with_stock_epmd_and_stock_tools_with_our_server() {
    if !has_erl() {
        return;
    }
    let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let port = address.port().to_string();
    let mut command = Command::new("epmd");
    command.args(["-port", &port, "-address", "127.0.0.1"]).stdin(Stdio::null()).stderr(Stdio::null());
    let stock = StockEpmd(command.spawn().expect("epmd comes with erl"));
    within("stock epmd", async {
        while names(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut registered = register(address, shop()).await.expect("the name is free");
    assert_eq!(names(address).await, Ok(vec![("shop".to_owned(), 4_000)]));
    assert_eq!(port_please(address, "shop").await, Ok(Some(shop())));
    assert_eq!(port_please(address, "nobody").await, Ok(None));
    assert!(matches!(register(address, shop()).await, Err(EpmdError::NameTaken { .. })));
    drop(stock);
    within("the end of epmd", registered.closed()).await;

    let epmd = epmd().await;
    let registered = register(epmd.addresses()[0], shop()).await.expect("the name is free");
    let port = port_of(&epmd).to_string();
    let listing = tokio::task::spawn_blocking(move || Command::new("epmd").args(["-port", &port, "-names"]).output());
    let listing = within("the listing", listing).await.expect("no panic").expect("it ran");
    assert!(listing.status.success());
    assert!(String::from_utf8_lossy(&listing.stdout).ends_with("name shop at port 4000\n"));
    drop(registered);
}
