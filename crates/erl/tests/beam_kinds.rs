//! BEAM nodes that are not started as usual: without a name, without an epmd; and a node of ours that is visible.

mod common;

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
};

use common::{Beam, COOKIE, PATIENCE, atom, epmd, eval, has_erl, name, node, node_with, options, port_of, within};
use metacluster_erl::{
    NodeEvent, NodeOptions,
    epmd::{Registration, register},
    node::Expect,
    wire::{Term, epmd::NodeType},
};

/// Ends with the test.
struct Erl(Child);

impl Erl {
    fn start(epmd_port: u16, args: &[&str]) -> Self {
        let child = Command::new("erl")
            .args(["-noshell", "-setcookie", COOKIE, "-eval", "spawn(fun() -> io:get_line(\"\"), erlang:halt() end)."])
            .args(args)
            .env("ERL_EPMD_PORT", epmd_port.to_string())
            .env("ERL_CRASH_DUMP_SECONDS", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("erl starts");
        Self(child)
    }
}

impl Drop for Erl {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn a_beam_without_a_name_gets_one_where_that_is_allowed() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let (giving, giving_address) = node_with(NodeOptions { dynamic_names: true, ..options("giving@localhost") }).await;
    let (strict, strict_address) = node("strict@localhost").await;
    let mut registered = Vec::new();
    for (name, address) in [("giving", giving_address), ("strict", strict_address)] {
        let registration = Registration::new(name, address.port(), NodeType::Hidden);
        registered.push(register(epmd.addresses()[0], registration).await.expect("the name is free"));
    }
    let mut events = giving.events();
    let dials = "false = net_kernel:connect_node(strict@localhost), true = net_kernel:connect_node(giving@localhost).";
    let _erl = Erl::start(port_of(&epmd), &["-start_epmd", "false", "-sname", "undefined", "-eval", dials]);
    let NodeEvent::Up { peer } = within("the connection", events.recv()).await.expect("an event") else {
        panic!("nobody came before")
    };
    assert_eq!(peer.name.basename().len(), 13, "{}", peer.name);
    let answer = giving.erpc(&peer.name, "erlang", "node", vec![], PATIENCE).await;
    assert_eq!(answer, Ok(atom(peer.name.as_str())), "it goes by that name");
    assert!(peer.creation >= 4);
    let mut process = giving.spawn();
    process.register("post").expect("a free name");
    let arguments = vec![Term::tuple([atom("post"), atom("giving@localhost")]), Term::list([])];
    giving.erpc(&peer.name, "erlang", "send", arguments, PATIENCE).await.expect("a result");
    within("its message", process.recv()).await;
    assert!(strict.peers().is_empty());
}

#[tokio::test]
async fn nodes_without_an_epmd_meet_on_the_port_that_all_share() {
    if !has_erl() {
        return;
    }
    let node = metacluster_erl::Node::start(options("ours@127.0.0.2"));
    let ours = node.listen((Ipv4Addr::new(127, 0, 0, 2), 0).into()).await.expect("a free port");
    let port = ours.port().to_string();
    let interface = ["-kernel", "inet_dist_use_interface", "{127,0,0,1}"];
    let without = ["-start_epmd", "false", "-erl_epmd_port", port.as_str(), "-name", "theirs@127.0.0.1"];
    let _erl = Erl::start(1, &[&interface[..], &without[..]].concat());
    let theirs = name("theirs@127.0.0.1");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ours.port()));
    // Nobody tells when it listens.
    within("the BEAM node", async {
        while node.connect(address, Expect::Exactly(theirs.clone())).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    let control = metacluster_erl::Node::start(options("control@127.0.0.2"));
    control.connect(address, Expect::Exactly(theirs.clone())).await.expect("a connection");
    let booted = async {
        while control.rpc(&theirs, "init", "get_status", vec![], PATIENCE).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    within("the boot", booted).await;
    assert_eq!(eval(&control, &theirs, "net_adm:ping('ours@127.0.0.2').").await, atom("pong"));
    // It dials us: on its own port, which it takes for that of everybody.
    node.disconnect(&theirs);
    let gone = "fun Gone() -> case lists:member('ours@127.0.0.2', nodes(hidden)) of true -> Gone(); _ -> ok end end().";
    assert_eq!(eval(&control, &theirs, gone).await, atom("ok"));
    assert_eq!(eval(&control, &theirs, "net_adm:ping('ours@127.0.0.2').").await, atom("pong"));
    assert!(node.peers()[0].accepted);
}

#[tokio::test]
async fn a_visible_node_is_asked_what_nodes_are_asked_and_keeps_nobody_waiting() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let (a, b) = tokio::join!(Beam::start(&epmd, "a@127.0.0.1", &[]), Beam::start(&epmd, "b@127.0.0.1", &[]),);
    let (control, _) = node("control@127.0.0.1").await;
    a.join(&control).await;
    b.join(&control).await;
    let (visible, address) = node_with(NodeOptions { hidden: false, ..options("seen@127.0.0.1") }).await;
    let registration = Registration::new("seen", address.port(), NodeType::Normal);
    let _registered = register(epmd.addresses()[0], registration).await.expect("the name is free");
    assert_eq!(a.eval(&control, "net_adm:ping('seen@127.0.0.1').").await, atom("pong"));
    assert_eq!(a.eval(&control, "net_adm:ping('b@127.0.0.1').").await, atom("pong"));
    assert_eq!(a.eval(&control, "lists:sort(nodes()).").await.to_string(), "['b@127.0.0.1','seen@127.0.0.1']");
    // Locks, names and calls of all nodes go on.
    assert_eq!(a.eval(&control, "global:trans({lock, self()}, fun() -> done end).").await, atom("done"));
    assert_eq!(a.eval(&control, "global:register_name(thing, whereis(rex)).").await, atom("yes"));
    let found = "fun Wait() -> case global:whereis_name(thing) of undefined -> Wait(); _ -> found end end().";
    assert_eq!(b.eval(&control, found).await, atom("found"));
    let all = "{Results, []} = rpc:multicall(erlang, node, []), lists:sort(Results).";
    let answers = "['a@127.0.0.1','b@127.0.0.1',{badrpc,notsup}]";
    assert_eq!(a.eval(&control, all).await.to_string(), answers);
    let calls =
        "{Good, Bad} = gen_server:multi_call(nodes(), rex, {call, erlang, node, [], user}), {length(Good), Bad}.";
    assert_eq!(a.eval(&control, calls).await.to_string(), "{1,['seen@127.0.0.1']}");
    // Its end, too, is nobody else's.
    visible.shutdown().await;
    let gone = "fun Gone() -> case nodes() of ['b@127.0.0.1'] -> ok; _ -> Gone() end end().";
    assert_eq!(a.eval(&control, gone).await, atom("ok"));
    assert_eq!(a.eval(&control, "global:sync(), nodes().").await.to_string(), "['b@127.0.0.1']");
    assert_eq!(b.eval(&control, "global:sync(), nodes().").await.to_string(), "['a@127.0.0.1']");
}
