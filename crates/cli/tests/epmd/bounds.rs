//! What stock epmd does not do: many nodes, hostile clients, chosen networks.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use metacluster_testbed::{Network, Tool, eventually, require};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::servers::{Epmd, PATIENCE, Whose, alive2, drain, free_port, request};

/// Descriptors that the test itself and the server need besides.
const SPARE: u64 = 200;

/// Nodes of one host: the goal. Each is a descriptor of the server and one of the test.
const NODES: u64 = 50_000;

/// Nodes to one of the server's addresses: one has too few ports of clients for all.
const NODES_AT_ONE_ADDRESS: usize = 20_000;

#[test]
fn fifty_thousand_nodes_register_or_as_many_as_there_are_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("allowed");
    let count = usize::try_from(hard.saturating_sub(SPARE).min(NODES)).expect("small");
    assert!(count > 1_024, "the hard limit of descriptors is too low to tell: {hard}");
    let epmd = Epmd::start(Whose::Ours, &[]);
    let nodes: Vec<_> = (0..count)
        .map(|n| {
            let at = Ipv4Addr::new(127, 0, 0, 1 + u8::try_from(n / NODES_AT_ONE_ADDRESS).expect("three addresses"));
            let name = format!("node-{n}");
            let mut stream = TcpStream::connect((at, epmd.port)).expect("it listens");
            stream.write_all(&alive2(name.as_bytes(), b"")).expect("written");
            let mut reply = [0; 6];
            stream.read_exact(&mut reply).expect("a reply");
            assert_eq!(reply[..2], *b"v\0", "{name} is registered");
            stream
        })
        .collect();
    let names = epmd.names();
    assert_eq!(names.lines().count(), count);
    assert!(names.starts_with(&format!("name node-{} at port 4000\n", count - 1)), "the newest first");
    assert_eq!(epmd.exchange(&request(b"znode-7"))[..2], [b'w', 0]);
    drop(nodes);
    epmd.lists("");
}

#[test]
fn the_limit_of_descriptors_is_named_once_when_it_is_what_bounds_the_nodes() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let port = free_port();
    let mut command = std::process::Command::new("sh");
    let script = "ulimit -n 300 && exec \"$0\" epmd -port \"$1\" 2> \"$2\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_metacluster"), &port.to_string()]).arg(&log);
    let child = metacluster_testbed::Child::spawn(&mut command, "epmd").expect("it starts");
    let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, port));
    eventually(PATIENCE, "epmd listens", || connect().map(drop).map_err(|error| error.to_string()))
        .expect("it listens");
    let register = |n: u32| {
        let mut stream = connect().expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        // One that is turned away is closed before it has said anything, or while it does.
        stream.write_all(&alive2(format!("node-{n}").as_bytes(), b"")).ok()?;
        stream.read_exact(&mut [0; 6]).ok()?;
        Some(stream)
    };
    let mut nodes: Vec<_> = (0..400).map_while(register).collect();
    assert!((200..300).contains(&nodes.len()), "{} nodes", nodes.len());
    for n in 400..410 {
        assert!(register(n).is_none(), "there is no room");
    }
    let text = std::fs::read_to_string(&log).expect("a log");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("no room for more connections") && text.contains("the limit of descriptors"), "{text}");
    // One that goes makes room.
    nodes.pop();
    eventually(PATIENCE, "there is room", || register(500).map(drop).ok_or_else(|| "none".to_owned())).expect("room");
    drop(child);
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up() {
    let epmd = Epmd::start(Whose::Ours, &[]);
    let long = "n".repeat(240);
    let nodes: Vec<_> = (0..800).map(|n| epmd.register(&format!("{n}-{long}")).0).collect();
    // Each is owed some 200 KiB and reads nothing.
    let mut mute: Vec<_> = (0..50).map(|_| epmd.connect()).collect();
    for stream in &mut mute {
        stream.write_all(&request(b"n")).expect("written");
    }
    assert_eq!(epmd.names().lines().count(), nodes.len());
    let mut whole = Vec::new();
    mute[7].read_to_end(&mut whole).expect("late, and whole");
    assert_eq!(whole.iter().filter(|byte| **byte == b'\n').count(), nodes.len());
}

#[test]
fn silence_ends_after_the_packet_timeout_and_registrations_do_not() {
    for whose in Whose::BOTH {
        if whose == Whose::Stock && !require(&[Tool::Erl]) {
            continue;
        }
        let epmd = Epmd::start(whose, &["-packet_timeout", "1"]);
        let (mut node, _) = epmd.register("shop");
        let mut waiting: Vec<_> = [&b""[..], b"\0", b"\0\x05z"]
            .into_iter()
            .map(|bytes| {
                let mut stream = epmd.connect();
                stream.write_all(bytes).expect("written");
                stream
            })
            .collect();
        for stream in &mut waiting {
            // Stock epmd looks every five seconds.
            assert_eq!(stream.read(&mut [0]).expect("closed in time"), 0, "{whose:?}");
        }
        assert_eq!(drain(&mut node), (Vec::new(), true), "{whose:?}");
        assert_eq!(epmd.names(), "name shop at port 4000\n");
    }
}

#[test]
fn a_busy_server_is_played() {
    for flags in [["-delay_accept", "1"], ["-delay_write", "1"]] {
        let epmd = Epmd::start(Whose::Ours, &flags);
        let started = std::time::Instant::now();
        epmd.exchange(&request(b"znobody"));
        assert!(started.elapsed() >= Duration::from_secs(1), "{flags:?}");
    }
    // A node that is gone before its reply is written is not registered.
    let epmd = Epmd::start(Whose::Ours, &["-delay_write", "1"]);
    let mut node = epmd.connect();
    node.write_all(&alive2(b"shop", b"")).expect("written");
    drop(node);
    epmd.lists("");
}

#[test]
fn only_this_host_registers_and_only_chosen_networks_ask() {
    if !require(&[Tool::Namespaces]) {
        return;
    }
    let network = Network::new().expect("a network");
    let [home, friend, stranger] = [(); 3].map(|()| network.host().expect("a host"));
    let allow = format!("{}", friend.address());
    let mut command = home.command(env!("CARGO_BIN_EXE_metacluster"));
    command.args(["epmd", "-relaxed_command_check", "--allow", &allow]);
    let _epmd = metacluster_testbed::Child::spawn(&mut command, "epmd").expect("it starts");
    let at = SocketAddr::from((home.address(), 4369));
    // What a host gets for a request, as hex digits; the shell has no other way to say a zero.
    let ask = |host: &metacluster_testbed::Host, to: SocketAddr, bytes: &[u8]| {
        let escaped: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        let script = format!(
            "exec 3<>/dev/tcp/{}/{} && printf '{escaped}' >&3 && timeout 20 head -c 6 <&3 | od -An -tx1 | tr -d ' \\n'",
            to.ip(),
            to.port()
        );
        metacluster_testbed::capture(host.command("bash").args(["-c", &script])).expect("bash")
    };
    eventually(PATIENCE, "epmd listens", || {
        match home
            .command("bash")
            .args(["-c", "exec 3<>/dev/tcp/127.0.0.1/4369"])
            .stderr(std::process::Stdio::null())
            .status()
        {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .expect("it listens");
    let names = request(b"n");
    let own = "00001111";
    assert_eq!(ask(&friend, at, &names), own, "a chosen network");
    assert_eq!(ask(&friend, at, &request(b"znobody")), "7701");
    assert_eq!(ask(&home, at, &names), own, "this host, by its own address");
    assert_eq!(ask(&home, (Ipv4Addr::LOCALHOST, 4369).into(), &names), own, "this host, by its loopback");
    assert_eq!(ask(&stranger, at, &names), "");
    assert_eq!(ask(&stranger, at, &request(b"znobody")), "");
    // What only this host may ask.
    for bytes in [request(b"d"), request(b"k"), request(b"snobody"), alive2(b"shop", b"")] {
        assert_eq!(ask(&friend, at, &bytes), "", "{bytes:?}");
    }
    assert!(ask(&home, at, &alive2(b"shop", b"")).starts_with("7600"));
    assert_eq!(ask(&home, at, &request(b"snobody")), "4e4f45584953", "NOEXIS");
    assert_eq!(ask(&home, at, &request(b"k")), "4f4b", "OK");
}

#[test]
fn a_stream_of_connections_that_say_nothing_keeps_no_node_out() {
    let epmd = Epmd::start(Whose::Ours, &["-packet_timeout", "60"]);
    let silent: Vec<_> =
        (0..600).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, epmd.port)).expect("it listens")).collect();
    let (node, _) = epmd.register("shop");
    assert_eq!(epmd.names(), "name shop at port 4000\n");
    drop((node, silent));
}
