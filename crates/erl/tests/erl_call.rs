//! `erl_call`, the C program of OTP that calls nodes from shells: it finds a real BEAM and a node of ours through our epmd.

mod common;

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use common::{Beam, COOKIE, epmd, has_erl, port_of, within};
use metacluster_erl::{
    Node, Received,
    epmd::Server,
    wire::{Term, term},
};

/// Runs it beside the test, which serves it meanwhile.
async fn erl_call(epmd: &Server, arguments: &[&str], input: &'static str) -> Output {
    let mut command = Command::new("erl_call");
    command.args(["-c", COOKIE, "-timeout", "30"]).args(arguments).env("ERL_EPMD_PORT", port_of(epmd).to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = move || {
        let mut child = command.spawn().expect("erl_call comes with erl");
        // It may end without reading.
        drop(child.stdin.take().expect("piped").write_all(input.as_bytes()));
        child.wait_with_output().expect("it ends")
    };
    within("erl_call", tokio::task::spawn_blocking(run)).await.expect("no panic")
}

/// What it printed, if it went well.
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn erl_call_finds_a_beam_through_our_epmd() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let _beam = Beam::start(&epmd, "called@127.0.0.1", &[]).await;
    let named = ["-name", "called@127.0.0.1"];
    // It asks `rex`, which is up a moment after the node.
    let up = async {
        loop {
            let output = erl_call(&epmd, &[&named[..], &["-a", "erlang node []"]].concat(), "").await;
            if output.status.success() {
                return printed(&output);
            }
        }
    };
    assert_eq!(within("the boot of a BEAM node", up).await, "'called@127.0.0.1'");
    let evaluated = erl_call(&epmd, &[&named[..], &["-e"]].concat(), "X = 20, X + 22.\n").await;
    assert_eq!(printed(&evaluated), "{ok, 42}");
    let stopped = erl_call(&epmd, &[&named[..], &["-q"]].concat(), "").await;
    assert!(stopped.status.success(), "{stopped:?}");
    let mut names = epmd.watch();
    within("its end", names.wait_for(|names| !names.contains_key("called"))).await.expect("epmd runs");
    let gone = erl_call(&epmd, &[&named[..], &["-a", "erlang node []"]].concat(), "").await;
    assert_eq!(gone.status.code(), Some(1), "{gone:?}");
}

#[tokio::test]
async fn erl_call_calls_a_node_of_ours() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let ours = Node::builder("answers@127.0.0.1").cookie(COOKIE).epmd(epmd.addresses()[0]);
    let node = ours.listen("127.0.0.1:0".parse().expect("an address")).start().await.expect("it starts");
    // OTP's server of `rpc`, as far as erl_call knows it.
    let mut rex = node.spawn();
    rex.register("rex").expect("free");
    let served = tokio::spawn(async move {
        let Received::Message(request) = rex.recv().await else { panic!("a message") };
        let request = request.as_tuple().expect("a pair");
        let caller = request[0].as_pid().expect("a pid");
        rex.send(caller, term!({rex, {oats, 42}})).expect("queued");
        request[1].clone()
    });
    let output = erl_call(&epmd, &["-name", "answers@127.0.0.1", "-a", "shop stock [7]"], "").await;
    assert_eq!(printed(&output), "{oats, 42}");
    let request = within("the request", served).await.expect("no panic");
    let request = request.as_tuple().expect("a call");
    assert_eq!(request[..4], [term!(call), term!(shop), term!(stock), Term::list([Term::Integer(7)])]);
    node.shutdown().await;
}
