//! Monitors, links, exits and messages between processes of ours and those of a real BEAM node.

mod common;

use common::{Beam, atom, epmd, has_erl, node, within};
use metacluster_erl::{Received, wire::Term};

#[tokio::test]
async fn monitors_go_both_ways() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let mut beam = Beam::start(&epmd, "monitored@127.0.0.1", &[]).await;
    let (node, _) = node("monitor@127.0.0.1").await;
    beam.join(&node).await;
    let mut process = node.spawn();

    // Ours watch theirs: by name, by pid, and nobody.
    let nobody = process.monitor_name(&beam.name, "nobody").expect("an atom");
    let down = within("noproc", process.recv()).await;
    assert_eq!(down, Received::Down { reference: nobody, reason: atom("noproc") });
    let spawned = beam.eval(&node, "spawn(fun() -> receive {stop, Why} -> exit(Why) end end).").await;
    let pid = spawned.as_pid().expect("a pid").clone();
    let watched = process.monitor(&pid);
    let unwatched = process.monitor(&pid);
    process.demonitor(&unwatched);
    process.send(&pid, Term::tuple([atom("stop"), atom("enough")])).expect("queued");
    let down = within("the end", process.recv()).await;
    assert_eq!(down, Received::Down { reference: watched, reason: atom("enough") });

    // Theirs watch ours.
    process.register("target").expect("free");
    let watch = "spawn(fun() ->
        Ref = erlang:monitor(process, {target, 'monitor@127.0.0.1'}),
        {target, 'monitor@127.0.0.1'} ! {watching, self()},
        receive {'DOWN', Ref, process, What, Why} -> persistent_term:put(seen, {What, Why}) end end).";
    beam.eval(&node, watch).await;
    let Received::Message(watching) = within("the watcher", process.recv()).await else { panic!("a message") };
    let watcher = watching.as_tuple().expect("a tuple")[1].as_pid().expect("a pid").clone();
    let mut other = node.spawn();
    let watcher_gone = other.monitor(&watcher);
    process.exit(atom("retired"));
    let down = within("the watcher's end", other.recv()).await;
    assert_eq!(down, Received::Down { reference: watcher_gone, reason: atom("normal") });
    let seen = beam.eval(&node, "persistent_term:get(seen).").await;
    let object = Term::tuple([atom("target"), atom("monitor@127.0.0.1")]);
    assert_eq!(seen, Term::tuple([object, atom("retired")]));

    // The end of the node ends what hangs on it, and without a connection a monitor ends at once.
    let rex = other.monitor_name(&beam.name, "rex").expect("an atom");
    beam.kill();
    let down = within("noconnection", other.recv()).await;
    assert_eq!(down, Received::Down { reference: rex, reason: atom("noconnection") });
    let late = other.monitor_name(&beam.name, "rex").expect("an atom");
    let down = within("noconnection", other.recv()).await;
    assert_eq!(down, Received::Down { reference: late, reason: atom("noconnection") });
}

#[tokio::test]
async fn links_go_both_ways() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let beam = Beam::start(&epmd, "linked@127.0.0.1", &[]).await;
    let (node, _) = node("linker@127.0.0.1").await;
    beam.join(&node).await;
    let mut process = node.spawn();
    let waiter = "Asks = self(), P = spawn(fun() -> process_flag(trap_exit, true), Asks ! {self(), traps}, receive
        {stop, Why} -> exit(Why);
        {'EXIT', _, Why} -> persistent_term:put(exited, Why) end end), receive {P, traps} -> P end.";
    let spawn = async || beam.eval(&node, waiter).await.as_pid().expect("a pid").clone();
    let stop = |why: &str| Term::tuple([atom("stop"), atom(why)]);

    // We link, they end.
    let theirs = spawn().await;
    process.link(&theirs);
    process.send(&theirs, stop("tired")).expect("queued");
    let exit = within("the exit", process.recv()).await;
    assert_eq!(exit, Received::Exit { from: theirs.clone(), reason: atom("tired") });
    // A link to who is gone.
    process.link(&theirs);
    let exit = within("noproc", process.recv()).await;
    assert_eq!(exit, Received::Exit { from: theirs, reason: atom("noproc") });

    // A link that is taken back carries nothing.
    let theirs = spawn().await;
    process.link(&theirs);
    process.unlink(&theirs);
    let watched = process.monitor(&theirs);
    process.send(&theirs, stop("unseen")).expect("queued");
    let down = within("the end", process.recv()).await;
    assert_eq!(down, Received::Down { reference: watched, reason: atom("unseen") });

    // They link, we end.
    let theirs = spawn().await;
    process.link(&theirs);
    let mut other = node.spawn();
    let watched = other.monitor(&theirs);
    process.exit(atom("finished"));
    let down = within("the end", other.recv()).await;
    assert_eq!(down, Received::Down { reference: watched, reason: atom("normal") });
    assert_eq!(beam.eval(&node, "persistent_term:get(exited).").await, atom("finished"));

    // They link to us, and take it back, and the acknowledgement lets them go on; then to nobody.
    other.register("other").expect("free");
    let pid = Term::from(other.pid().clone());
    let unlink = "spawn(fun() -> process_flag(trap_exit, true), {other,'linker@127.0.0.1'} ! self(),
        receive Pid -> link(Pid), unlink(Pid), {other,'linker@127.0.0.1'} ! unlinked, exit(unseen) end end).";
    let theirs = beam.eval(&node, unlink).await;
    let theirs = theirs.as_pid().expect("a pid");
    assert_eq!(within("hello", other.recv()).await, Received::Message(theirs.clone().into()));
    let watched = other.monitor(theirs);
    other.send(theirs, pid).expect("queued");
    assert_eq!(within("unlinked", other.recv()).await, Received::Message(atom("unlinked")));
    let down = within("the end, and no exit", other.recv()).await;
    assert_eq!(down, Received::Down { reference: watched, reason: atom("unseen") });

    // exit/2, both ways.
    let theirs = spawn().await;
    let watched = other.monitor(&theirs);
    other.exit_other(&theirs, atom("kill")).expect("queued");
    let down = within("killed", other.recv()).await;
    assert_eq!(down, Received::Down { reference: watched, reason: atom("killed") });
    let exit = "spawn(fun() -> {other,'linker@127.0.0.1'} ! self(), receive Pid -> exit(Pid, please) end end).";
    let theirs = beam.eval(&node, exit).await.as_pid().expect("a pid").clone();
    assert!(matches!(within("hello", other.recv()).await, Received::Message(Term::Pid(_))));
    other.send(&theirs, other.pid().clone().into()).expect("queued");
    let exit = within("the signal", other.recv()).await;
    assert_eq!(exit, Received::Exit { from: theirs, reason: atom("please") });
}

#[tokio::test]
async fn group_leaders_go_both_ways() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let beam = Beam::start(&epmd, "led@127.0.0.1", &[]).await;
    let (node, _) = node("leader@127.0.0.1").await;
    beam.join(&node).await;
    let mut leader = node.spawn();
    let printer = "spawn(fun Print() -> receive
        {print, From} -> From ! {printed, io:put_chars(<<\"oats\">>)}, Print();
        {leader, From} -> From ! {leader, group_leader()}, Print() end end).";
    let printer = beam.eval(&node, printer).await.as_pid().expect("a pid").clone();
    let ask = |what: &str| Term::tuple([atom(what), leader.pid().clone().into()]);
    let (print, who) = (ask("print"), ask("leader"));
    let answer = |received: &Received| {
        let Received::Message(answer) = received else { panic!("{received:?}") };
        answer.clone()
    };

    // Ours leads theirs: it is told what theirs prints, and its answer lets theirs go on.
    leader.lead(&printer).expect("queued");
    leader.send(&printer, who.clone()).expect("queued");
    let told = answer(&within("the leader", leader.recv()).await);
    assert_eq!(told, Term::tuple([atom("leader"), leader.pid().clone().into()]));
    leader.send(&printer, print).expect("queued");
    let request = answer(&within("the request", leader.recv()).await);
    let [kind, from, tag, output] = request.as_tuple().expect("a request") else { panic!("{request}") };
    assert!(kind.is_atom("io_request"), "{request}");
    let expected = Term::tuple([atom("put_chars"), atom("unicode"), Term::binary("oats")]);
    assert_eq!((from, output), (&Term::from(printer.clone()), &expected));
    let reply = Term::tuple([atom("io_reply"), tag.clone(), atom("ok")]);
    leader.send(&printer, reply).expect("queued");
    let told = answer(&within("the print", leader.recv()).await);
    assert_eq!(told, Term::tuple([atom("printed"), atom("ok")]));

    // Theirs takes it back, and gives itself to ours, which has no use for one; what follows comes all the same.
    leader.register("leader").expect("free");
    let back = "spawn(fun() -> {leader, 'leader@127.0.0.1'} ! self(), receive {Ours, Printer} ->
        true = group_leader(whereis(init), Printer), true = group_leader(self(), Ours), Ours ! given end end).";
    beam.eval(&node, back).await;
    let giver = answer(&within("the giver", leader.recv()).await);
    let both = Term::tuple([leader.pid().clone().into(), printer.clone().into()]);
    leader.send(giver.as_pid().expect("a pid"), both).expect("queued");
    assert_eq!(answer(&within("the signal", leader.recv()).await), atom("given"));
    leader.send(&printer, who).expect("queued");
    let told = answer(&within("the other leader", leader.recv()).await);
    let init = beam.eval(&node, "whereis(init).").await;
    assert_eq!(told, Term::tuple([atom("leader"), init]));
}

#[tokio::test]
async fn large_messages_go_both_ways() {
    if !has_erl() {
        return;
    }
    let epmd = epmd().await;
    let beam = Beam::start(&epmd, "large@127.0.0.1", &[]).await;
    let (node, _) = node("small@127.0.0.1").await;
    beam.join(&node).await;
    let mut process = node.spawn();
    process.register("sink").expect("free");
    let echo =
        "register(echo, spawn(fun Loop() -> receive {From, Bin} -> From ! {erlang:crc32(Bin), Bin}, Loop() end end)).";
    beam.eval(
        &node,
        echo.replace("fun Loop() ->", "fun() -> Loop = fun(L) ->")
            .replace("Loop() end end", "L(L) end end, Loop(Loop) end")
            .as_str(),
    )
    .await;
    let bytes: Vec<u8> = (0..5_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let message = Term::tuple([process.pid().clone().into(), Term::binary(&bytes)]);
    for _ in 0..3 {
        process.send_name(&beam.name, "echo", message.clone()).expect("queued");
        // Small calls go on meanwhile.
        let quick = node.rpc(&beam.name, "erlang", "node", vec![], common::PATIENCE).await;
        assert_eq!(quick, Ok(atom("large@127.0.0.1")));
        let Received::Message(echoed) = within("the echo", process.recv()).await else { panic!("a message") };
        let echoed = echoed.as_tuple().expect("a tuple");
        assert!(echoed[1].as_binary().is_some_and(|echoed| *echoed == bytes[..]), "5 MB came back as they were");
    }
}
