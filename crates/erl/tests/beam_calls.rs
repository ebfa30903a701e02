//! Calls between a node of ours and a real BEAM node, both ways.

mod common;

use std::time::Duration;

use common::{Beam, PATIENCE, atom, epmd, has_erl, name, node, port_of, within};
use metacluster_erl::{
    CallError, Class, Received,
    epmd::{Registration, register},
    gen_server,
    wire::{Term, epmd::NodeType},
};

#[tokio::test]
async fn we_call_a_beam() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let beam = Beam::start(&epmd, "callee@127.0.0.1", &[]).await;
    let (node, _) = node("caller@127.0.0.1").await;
    let peer = beam.join(&node).await;
    assert_eq!(peer.name, beam.name);
    assert!(!peer.accepted);

    // rpc
    let result = node.rpc(&beam.name, "erlang", "node", vec![], PATIENCE).await;
    assert_eq!(result, Ok(atom("callee@127.0.0.1")));
    let hidden = node.rpc(&beam.name, "erlang", "nodes", vec![atom("hidden")], PATIENCE).await;
    assert_eq!(hidden, Ok(Term::list([atom("caller@127.0.0.1")])));
    let failed = node.rpc(&beam.name, "erlang", "hd", vec![Term::list([])], PATIENCE).await;
    assert!(matches!(&failed, Err(CallError::BadRpc(reason)) if reason.to_string().contains("badarg")), "{failed:?}");

    // erpc, with each class of its errors
    let erpc = async |module, function, args| node.erpc(&beam.name, module, function, args, PATIENCE).await;
    assert_eq!(erpc("erlang", "abs", vec![Term::Integer(-3)]).await, Ok(Term::Integer(3)));
    for (function, class) in [("throw", Class::Throw), ("exit", Class::Exit), ("error", Class::Error)] {
        match erpc("erlang", function, vec![atom("oops")]).await {
            Err(CallError::Raised(exception)) => {
                assert_eq!((exception.class, exception.reason), (class, atom("oops")));
                assert_eq!(exception.stack.is_some(), class == Class::Error);
            }
            other => panic!("{function}: {other:?}"),
        }
    }
    let undefined = erpc("no_such_module", "f", vec![]).await;
    assert!(matches!(&undefined, Err(CallError::Raised(e)) if e.reason == atom("undef")), "{undefined:?}");

    // gen_server
    let call = node.call(&beam.name, "global_group", atom("info"), PATIENCE).await.expect("an answer");
    assert!(call.as_list().is_some());
    let started = std::time::Instant::now();
    assert_eq!(node.call(&beam.name, "nobody", atom("x"), PATIENCE).await, Err(CallError::NoProcess));
    assert!(started.elapsed() < PATIENCE / 3, "noproc comes at once");
    let other = name("elsewhere@127.0.0.1");
    assert_eq!(node.call(&other, "rex", atom("x"), PATIENCE).await, Err(CallError::NoConnection));

    // A call that takes long holds up no other, and gives up in time.
    let sleep = node.rpc(&beam.name, "timer", "sleep", vec![atom("infinity")], Duration::from_millis(300));
    let quick = node.rpc(&beam.name, "erlang", "node", vec![], PATIENCE);
    let (sleep, quick) = tokio::join!(sleep, quick);
    assert_eq!(sleep, Err(CallError::Timeout));
    assert!(quick.is_ok());

    // The end of the connection ends the calls over it.
    let stop = node.send_name(&beam.name, "init", Term::tuple([atom("stop"), atom("stop")]));
    assert_eq!(stop, Ok(()));
    let hang = node.rpc(&beam.name, "timer", "sleep", vec![atom("infinity")], PATIENCE);
    assert!(matches!(hang.await, Err(CallError::NoConnection | CallError::Exit(_) | CallError::NoProcess)));
    node.shutdown().await;
    epmd.shutdown().await;
}

#[tokio::test]
async fn a_beam_pings_and_calls_us() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let beam = Beam::start(&epmd, "pinger@127.0.0.1", &[]).await;
    let (control, _) = node("control@127.0.0.1").await;
    beam.join(&control).await;

    // A node of ours that the BEAM finds through epmd and dials.
    let (server, address) = node("server@127.0.0.1").await;
    let registration = Registration::new("server", address.port(), NodeType::Hidden);
    let registered = register(epmd.addresses()[0], registration).await.expect("the name is free");
    assert!(registered.creation() >= 4);
    assert_eq!(beam.eval(&control, "net_adm:ping('server@127.0.0.1').").await, atom("pong"));
    assert!(server.peers()[0].accepted);

    // rpc to a node that runs nothing for others is told so, and does not hang.
    let refused = beam.eval(&control, "rpc:call('server@127.0.0.1', erlang, node, []).").await;
    assert!(refused.to_string().contains("notsup"), "{refused}");

    let mut process = server.spawn();
    process.register("metacluster").expect("free");
    let serve = async {
        loop {
            let Received::Message(message) = process.recv().await else { continue };
            let call = gen_server::Call::parse(message).expect("only calls come");
            if call.request == atom("stop") {
                return process;
            }
            let answer = Term::tuple([atom("echo"), call.request]);
            gen_server::reply(&server, &call.from, answer).expect("queued");
        }
    };
    let ask = async {
        let echoed = beam.eval(&control, "gen_server:call({metacluster,'server@127.0.0.1'}, {hello, <<1>>}).").await;
        assert_eq!(echoed, Term::tuple([atom("echo"), Term::tuple([atom("hello"), Term::binary([1])])]));
        // The server ends with a call unanswered: its caller is told.
        beam.eval(&control, "catch gen_server:call({metacluster,'server@127.0.0.1'}, stop, 30000).").await
    };
    let ended = async {
        drop(serve.await);
    };
    let ((), ended) = within("the calls", async { tokio::join!(ended, ask) }).await;
    assert!(ended.to_string().contains("normal"), "{ended}");

    // And a name that is no more is noproc.
    let noproc = beam.eval(&control, "catch gen_server:call({metacluster,'server@127.0.0.1'}, x, 30000).").await;
    assert!(noproc.to_string().contains("noproc"), "{noproc}");
    assert_ne!(port_of(&epmd), 0);
}

#[tokio::test]
async fn a_process_hears_of_nodes_through_global_group() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let first = Beam::start(&epmd, "first@127.0.0.1", &[]).await;
    let (node, _) = node("watcher@127.0.0.1").await;
    first.join(&node).await;
    let mut watcher = node.spawn();
    let request = Term::tuple([atom("monitor_nodes"), Term::boolean(true)]);
    assert_eq!(watcher.call(&first.name, "global_group", request, PATIENCE).await, Ok(atom("ok")));

    let mut second = Beam::start(&epmd, "second@127.0.0.1", &[]).await;
    let connect = node.rpc(&first.name, "net_kernel", "connect_node", vec![atom("second@127.0.0.1")], PATIENCE).await;
    assert_eq!(connect, Ok(Term::boolean(true)));
    let up = within("nodeup", watcher.recv()).await;
    assert_eq!(up, Received::Message(Term::tuple([atom("nodeup"), atom("second@127.0.0.1")])));
    second.kill();
    let down = within("nodedown", watcher.recv()).await;
    assert_eq!(down, Received::Message(Term::tuple([atom("nodedown"), atom("second@127.0.0.1")])));
    // The subscription made a link, which is no message of its own; the end of the connection cuts it.
    node.disconnect(&first.name);
    assert!(matches!(within("the cut link", watcher.recv()).await, Received::Exit { .. }));
}
