//! What programs use: nodes by name, servers of ours, typed calls, with a real BEAM node at the other end.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Beam, COOKIE, PATIENCE, atom, epmd, eval, has_erl, name, node, port_of, within};
use metacluster_erl::{
    CallError, Node, ReachError, Received, StartError,
    gen_server::{Next, Request},
    wire::{Pid, Term, term},
};
use metacluster_types::NodeName;
use serde::{Deserialize, Serialize};

#[tokio::test]
async fn a_server_of_ours_answers_a_beam() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let beam = Beam::start(&epmd, "client@127.0.0.1", &[]).await;
    let (control, _) = node("api_control@127.0.0.1").await;
    beam.join(&control).await;
    let ours = Node::builder("counter@127.0.0.1").cookie(COOKIE).epmd(epmd.addresses()[0]);
    let ours = ours.listen("127.0.0.1:0".parse().expect("an address"));
    let node = ours.clone().start().await.expect("it starts");
    assert!(matches!(ours.start().await, Err(StartError::Register(_))), "the name is taken");

    let counter = node.spawn();
    counter.register("counter").expect("free");
    let (told, mut infos) = tokio::sync::mpsc::unbounded_channel();
    let mut count = 0;
    let server = tokio::spawn(counter.serve(async move |request| match request {
        Request::Call(call) if call.request.is_atom("count") => Next::Reply(term!({ok, (count)})),
        Request::Call(call) if call.request.is_atom("stop") => Next::ReplyAndStop(term!(stopped)),
        Request::Call(call) if call.request.is_atom("fail") => Next::Stop(term!({failed, 1})),
        Request::Call(_) => Next::Reply(term!({error, unknown_request})),
        Request::Cast(by) => {
            count += by.as_i64().unwrap_or(0);
            Next::Continue
        }
        Request::Info(other) => {
            told.send(other).expect("the test reads");
            Next::Continue
        }
    }));
    let ask = async |text: &str| eval(&control, &beam.name, text).await;
    // The BEAM dials us: it finds us through epmd.
    assert_eq!(ask("gen_server:call({counter, 'counter@127.0.0.1'}, count).").await, term!({ok, 0}));
    ask("[gen_server:cast({counter, 'counter@127.0.0.1'}, N) || N <- [1, 2, 3]].").await;
    assert_eq!(ask("gen_server:call({counter, 'counter@127.0.0.1'}, count).").await, term!({ok, 6}));
    let unknown = ask("gen_server:call({counter, 'counter@127.0.0.1'}, {what, 1}).").await;
    assert_eq!(unknown, term!({error, unknown_request}));
    ask("{counter, 'counter@127.0.0.1'} ! hello.").await;
    assert_eq!(within("a plain message", infos.recv()).await, Some(Received::Message(term!(hello))));
    let failed = ask("catch gen_server:call({counter, 'counter@127.0.0.1'}, fail).").await;
    assert!(failed.to_string().contains("{failed,1}"), "{failed}");
    assert_eq!(within("the end", server).await.expect("no panic"), term!({failed, 1}));
    node.shutdown().await;
    control.shutdown().await;
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    item: String,
    customer: Option<String>,
    from: Pid,
}

#[tokio::test]
async fn types_go_to_a_beam_and_come_back() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let beam = Beam::start(&epmd, "typed@127.0.0.1", &[]).await;
    let node = Node::builder("types@127.0.0.1").cookie(COOKIE).start().await.expect("it starts");
    let port = port_of(&epmd);
    node.reach_through(&beam.name, port).await.expect("it is registered");
    beam.booted(&node).await;
    let nobody = name("nobody@127.0.0.1");
    assert!(matches!(node.reach_through(&nobody, port).await, Err(ReachError::NotRegistered { .. })));
    let nowhere = name("nobody@no-such-host.invalid");
    assert!(matches!(node.reach_through(&nowhere, port).await, Err(ReachError::NoAddress { .. })));

    let process = node.spawn();
    let order = Order { id: u64::MAX, item: "tea".into(), customer: None, from: process.pid().clone() };
    let same: Order = node.erpc_as(&beam.name, "erlang", "hd", &(vec![&order],), PATIENCE).await.expect("a list");
    assert_eq!(same, order);
    // Erlang reads and makes the same.
    let keys: Vec<String> = node.erpc_as(&beam.name, "maps", "keys", &(&order,), PATIENCE).await.expect("a map");
    // Their order is not said, and differs between releases.
    assert_eq!(keys.into_iter().collect::<BTreeSet<_>>(), ["customer", "from", "id", "item"].map(String::from).into());
    let name: NodeName = node.rpc_as(&beam.name, "erlang", "node", &(), PATIENCE).await.expect("a name");
    assert_eq!(name, beam.name);
    let memory: BTreeMap<String, u64> =
        node.erpc_as(&beam.name, "erlang", "memory", &(), PATIENCE).await.expect("a list of pairs");
    assert!(memory["total"] > 0);
    let found: Result<String, String> =
        node.erpc_as(&beam.name, "file", "read_file", &("/no/such/file",), PATIENCE).await.expect("a result");
    assert_eq!(found, Err("enoent".into()));
    let done: () = node
        .rpc_as(&beam.name, "application", "set_env", &(Term::atom("a"), Term::atom("b"), 1), PATIENCE)
        .await
        .expect("ok");
    let () = done;
    let wrong = node.erpc_as::<Vec<String>>(&beam.name, "lists", "seq", &(1, 2), PATIENCE).await.expect_err("numbers");
    assert_eq!(wrong.to_string(), "an answer of another type: [0]: expected a string, found the integer 1 (in [1,2])");
    let wrong = node.erpc_as::<u8>(&beam.name, "lists", "seq", &7, PATIENCE).await;
    assert!(matches!(wrong, Err(CallError::BadRequest(_))), "{wrong:?}");

    // A server by its pid, and what its end says.
    let server = "spawn(fun F() -> receive {'$gen_call', {From, Tag}, {add, A, B}} -> From ! {Tag, A + B}, F(); \
                  {'$gen_cast', {stop, Reason}} -> exit(Reason) end end).";
    let server = eval(&node, &beam.name, server).await;
    let server = server.as_pid().expect("a pid");
    assert_eq!(node.call_pid(server, term!({add, 1, 2}), PATIENCE).await, Ok(term!(3)));
    assert_eq!(process.call_pid(server, term!({add, 1, 2}), PATIENCE).await, Ok(term!(3)));
    let (asked, cast) = tokio::join!(node.call_pid(server, term!(unanswered), PATIENCE), async {
        process.cast_pid(server, term!({stop, {no, stock}}))
    });
    cast.expect("queued");
    assert_eq!(asked, Err(CallError::Exit(term!({no, stock}))));
    assert_eq!(node.call_pid(server, term!(hello), PATIENCE).await, Err(CallError::NoProcess));
    let (asked, ()) = tokio::join!(node.erpc(&beam.name, "timer", "sleep", vec![atom("infinity")], PATIENCE), async {
        assert!(node.disconnect(&beam.name));
    });
    assert_eq!(asked, Err(CallError::NoConnection));
    node.shutdown().await;
}
