//! What a real BEAM node may start on a node of ours, and what it may not.

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use common::{Beam, atom, epmd, has_erl, node, node_with, options, within};
use metacluster_erl::{
    Class, Exception, Functions, Node, NodeOptions,
    epmd::{Registered, Registration, Server, register},
    wire::{Term, epmd::NodeType, term},
};
use tokio::sync::{Notify, mpsc};

/// Tells when it is dropped.
struct Ended(mpsc::UnboundedSender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _the_test_has_ended = self.0.send(());
    }
}

fn functions() -> Functions {
    let price = |item: &Term| match item.as_atom().map(|item| item.as_str()) {
        Some("tea") => Ok(Term::Integer(3)),
        Some("rum") => Err(Exception::new(Class::Throw, atom("not_today"))),
        Some("salt") => Err(Exception::new(Class::Exit, atom("closed"))),
        Some("panic") => panic!("a fault of this function"),
        _ => Err(Exception::new(Class::Error, atom("unknown_item"))),
    };
    Functions::default()
        .allow("shop:price/1", move |started| async move { price(&started.arguments[0]) })
        .and_then(|functions| {
            functions.allow("shop:who/0", |started| async move {
                Ok(Term::tuple([
                    started.pid.into(),
                    started.caller.into(),
                    Term::atom_of(started.node.name().as_str()).expect("short"),
                ]))
            })
        })
        .expect("good names")
}

/// A node of ours with these functions, and a BEAM node that can dial it; `control` is our way to ask the BEAM node.
async fn shop(functions: Functions) -> (Server, Beam, Node, Node, Registered) {
    let epmd = epmd().await;
    let beam = Beam::start(&epmd, "client@127.0.0.1", &[]).await;
    let (shop, address) = node_with(NodeOptions { functions, ..options("shop@127.0.0.1") }).await;
    let registration = Registration::new("shop", address.port(), NodeType::Hidden);
    let registered = register(epmd.addresses()[0], registration).await.expect("the name is free");
    let (control, _) = node("control@127.0.0.1").await;
    beam.join(&control).await;
    (epmd, beam, shop, control, registered)
}

/// Evaluates on the BEAM node, where `N` is our node, `Reply` waits for the answer to a request to spawn, and `Down` for
/// the end of a monitored process.
async fn eval(beam: &Beam, control: &Node, text: &str) -> String {
    let text = format!(
        "N = 'shop@127.0.0.1', \
         Reply = fun(R) -> receive {{spawn_reply, R, T, V}} -> {{T, V}} after 20000 -> no_reply end end, \
         Down = fun(R) -> receive {{'DOWN', R, process, _, W}} -> W after 20000 -> no_down end end, {text}"
    );
    beam.eval(control, &text).await.to_string()
}

#[tokio::test]
async fn a_function_on_the_list_is_a_process_to_who_starts_it() {
    if !has_erl() {
        return;
    }
    let (_epmd, beam, _shop, control, _registered) = shop(functions()).await;
    let eval = async |text: &str| eval(&beam, &control, text).await;
    for (text, expected) in [
        // The reply comes before the end.
        (
            "R = erlang:spawn_request(N, shop, price, [tea], [monitor]), {ok, P} = Reply(R), {node(P), Down(R)}.",
            "{'shop@127.0.0.1',normal}",
        ),
        (
            "R = erlang:spawn_request(N, shop, price, [oil], [monitor]), {ok, _} = Reply(R), Down(R).",
            "{unknown_item,[{shop,price,1,[]}]}",
        ),
        (
            "R = erlang:spawn_request(N, shop, price, [rum], [monitor]), {ok, _} = Reply(R), Down(R).",
            "{{nocatch,not_today},[{shop,price,1,[]}]}",
        ),
        (
            "R = erlang:spawn_request(N, shop, price, [panic], [monitor]), {ok, _} = Reply(R), Down(R).",
            "{panic,[{shop,price,1,[]}]}",
        ),
        (
            "{_, R} = spawn_opt(N, shop, price, [salt], [monitor, {priority, high}, {min_heap_size, 999}]), Down(R).",
            "closed",
        ),
        (
            "process_flag(trap_exit, true), P = spawn_link(N, shop, price, [salt]), receive {'EXIT', P, W} -> W end.",
            "closed",
        ),
        (
            "R = erlang:spawn_request(N, shop, price, [tea], [{reply_tag, {mine}}]), receive {{mine}, R, ok, P} -> is_pid(P) end.",
            "true",
        ),
    ] {
        assert_eq!(eval(text).await, expected, "{text}");
    }
}

#[tokio::test]
async fn erpc_and_rpc_get_the_result_of_a_function_on_the_list() {
    if !has_erl() {
        return;
    }
    let (_epmd, beam, _shop, control, _registered) = shop(functions()).await;
    let eval = async |text: &str| eval(&beam, &control, text).await;
    for (text, expected) in [
        ("erpc:call(N, shop, price, [tea]).", "3"),
        ("erpc:call(N, shop, price, [tea], 20000).", "3"),
        ("rpc:call(N, shop, price, [tea]).", "3"),
        (
            "try erpc:call(N, shop, price, [oil]) catch C:R -> {C, R} end.",
            "{error,{exception,unknown_item,[{shop,price,1,[]}]}}",
        ),
        ("try erpc:call(N, shop, price, [rum]) catch C:R -> {C, R} end.", "{throw,not_today}"),
        ("try erpc:call(N, shop, price, [salt]) catch C:R -> {C, R} end.", "{exit,{exception,closed}}"),
        (
            "erpc:multicall([N, node()], shop, price, [tea], 20000).",
            "[{ok,3},{error,{exception,undef,[{shop,price,[tea],[]}]}}]",
        ),
        ("I = erpc:send_request(N, shop, price, [tea]), erpc:receive_response(I, 20000).", "3"),
        ("{P, C, 'shop@127.0.0.1'} = erpc:call(N, shop, who, []), {node(P), C =:= self()}.", "{'shop@127.0.0.1',true}"),
        ("erpc:cast(N, shop, price, [tea]).", "ok"),
    ] {
        assert_eq!(eval(text).await, expected, "{text}");
    }
}

#[tokio::test]
async fn what_is_not_on_the_list_is_refused() {
    if !has_erl() {
        return;
    }
    let (_epmd, beam, _shop, control, _registered) = shop(functions()).await;
    let eval = async |text: &str| eval(&beam, &control, text).await;
    for (text, expected) in [
        ("Reply(erlang:spawn_request(N, erlang, halt, [], [])).", "{error,notsup}"),
        ("Reply(erlang:spawn_request(N, shop, price, [], [])).", "{error,notsup}"),
        ("Reply(erlang:spawn_request(N, shop, price, [tea, rum], [link, monitor])).", "{error,notsup}"),
        (
            "Reply(erlang:spawn_request(N, erpc, execute_call, [make_ref(), os, cmd, [\"true\"]], [])).",
            "{error,notsup}",
        ),
        (
            "Reply(erlang:spawn_request(N, erpc, execute_call, [no_reference, shop, price, [tea]], [])).",
            "{error,badarg}",
        ),
        ("Reply(erlang:spawn_request(N, fun() -> ok end)).", "{error,notsup}"),
        ("try erpc:call(N, os, cmd, [\"true\"]) catch C:R -> {C, R} end.", "{error,{erpc,notsup}}"),
        ("try erpc:call(N, fun() -> ok end) catch C:R -> {C, R} end.", "{error,{erpc,notsup}}"),
    ] {
        assert_eq!(eval(text).await, expected, "{text}");
    }
    // The connection is as good as before.
    assert_eq!(eval("erpc:call(N, shop, price, [tea]).").await, "3");
}

#[tokio::test]
async fn a_node_without_a_list_starts_nothing() {
    if !has_erl() {
        return;
    }
    let (_epmd, beam, _shop, control, _registered) = shop(Functions::default()).await;
    let refused = eval(&beam, &control, "Reply(erlang:spawn_request(N, shop, price, [tea], [monitor])).").await;
    assert_eq!(refused, "{error,notsup}");
}

#[tokio::test]
async fn an_exit_signal_and_the_end_of_a_connection_end_a_function() {
    if !has_erl() {
        return;
    }
    let (begun, mut begins) = mpsc::unbounded_channel();
    let (ended, mut ends) = mpsc::unbounded_channel();
    let functions = Functions::default().allow("shop:stay/0", move |_| {
        let (begun, ended) = (begun.clone(), Ended(ended.clone()));
        async move {
            let _ended = ended;
            begun.send(()).expect("the test runs");
            std::future::pending().await
        }
    });
    let (_epmd, mut beam, _shop, control, _registered) = shop(functions.expect("a good name")).await;
    let killed = "{P, R} = spawn_monitor(N, shop, stay, []), exit(P, normal), exit(P, kill), Down(R).";
    assert_eq!(eval(&beam, &control, killed).await, "killed");
    within("the end of the killed one", ends.recv()).await.expect("told");
    // Who is linked to it ends.
    let linked = "Q = spawn(fun() -> spawn_link(N, shop, stay, []), receive stop -> exit(over) end end), Q ! stop, ok.";
    assert_eq!(eval(&beam, &control, linked).await, "ok");
    within("the end of the linked one", ends.recv()).await.expect("told");
    let linked = "spawn(fun() -> spawn_link(N, shop, stay, []), receive after infinity -> ok end end), ok.";
    assert_eq!(eval(&beam, &control, linked).await, "ok");
    for _ in 0..3 {
        within("the begin of each", begins.recv()).await.expect("told");
    }
    beam.kill();
    within("the end of the one that was cut off", ends.recv()).await.expect("told");
}

#[tokio::test]
async fn only_so_many_functions_run_at_once() {
    if !has_erl() {
        return;
    }
    let (open, runs) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (door, running) = (Arc::clone(&open), Arc::clone(&runs));
    let functions = Functions::default().running_max(2).allow("shop:wait/0", move |_| {
        running.fetch_add(1, Ordering::Relaxed);
        let door = Arc::clone(&door);
        async move {
            door.notified().await;
            Ok(term!(opened))
        }
    });
    let (_epmd, beam, _shop, control, _registered) = shop(functions.expect("a good name")).await;
    let three = "[Reply(erlang:spawn_request(N, shop, wait, [], [monitor])) || _ <- [1, 2, 3]].";
    let replies = eval(&beam, &control, three).await;
    assert_eq!(replies.matches("{ok,").count(), 2, "{replies}");
    assert!(replies.ends_with("{error,system_limit}]"), "{replies}");
    assert_eq!(runs.load(Ordering::Relaxed), 2);
    // One that is done makes room.
    open.notify_one();
    let again = "Again = fun Again() -> case Reply(erlang:spawn_request(N, shop, wait, [])) of {ok, _} -> ok; _ -> Again() end end, \
                 Again().";
    assert_eq!(eval(&beam, &control, again).await, "ok");
}
