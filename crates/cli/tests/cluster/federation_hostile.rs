//! A hostile gateway with a certificate that is trusted: over real TLS it sends all that must never cross, and bytes that
//! are no protocol. Every refusal is counted, the log says so, and the node behind the gateway never notices.
//!
//! The hostile end is an Erlang program on a host of its own that writes the frames byte by byte.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use metacluster_testbed::{Agent, Beam, Host, Network, eventually, require};
use serde_json::Value;

use crate::{
    federation::{folder, prove},
    support::{NEEDED, SOON, binary},
};

/// How to build frames and terms, connect, and say hello.
const WORDS: &str = r#"
    Frame = fun(Kind, Body) -> <<Kind, 1, (byte_size(Body)):32, Body/binary>> end,
    Atom = fun(Text) -> <<119, (byte_size(Text)), Text/binary>> end,
    Tuple = fun(Parts) -> [<<104, (length(Parts))>> | Parts] end,
    Pid = fun(Node, Id, Serial, Creation) -> [<<88>>, Atom(Node), <<Id:32, Serial:32, Creation:32>>] end,
    Ref = fun(Node, N) -> [<<90, 3:16>>, Atom(Node), <<1:32, N:32, 2:32, 3:32>>] end,
    Int = fun(N) -> <<97, N>> end,
    Hello = fun(Cluster) -> Node = <<"metacluster@evil">>,
        Frame(1, <<"mcfd", 1, 1, 0:32, (byte_size(Cluster)), Cluster/binary, 4711:128, 1:64,
                   (byte_size(Node)):16, Node/binary, 0, 0>>) end,
    Connect = fun() ->
        {ok, Socket} = ssl:connect(Address, 4391, [{certfile, File}, {keyfile, File}, {verify, verify_none},
            {versions, ['tlsv1.3']}, binary, {active, false}, {nodelay, true}], 5000),
        Socket end,
    Await = fun Await(Socket, Wanted) ->
        {ok, <<Kind, _, Length:32>>} = ssl:recv(Socket, 6, 10000),
        Body = case Length of 0 -> <<>>; _ -> {ok, Read} = ssl:recv(Socket, Length, 10000), Read end,
        case Kind of Wanted -> Body; _ -> Await(Socket, Wanted) end end,
    Greet = fun() ->
        Socket = Connect(),
        ok = ssl:send(Socket, Hello(<<"west">>)),
        <<1>> = Await(Socket, 14),
        ok = ssl:send(Socket, Frame(7, <<0:4096>>)),
        Await(Socket, 10),
        Socket end,
    Bytes = fun(Control, Payload) -> Frame(4, iolist_to_binary([Tuple(Control), Payload])) end,
    Signal = fun(Socket, Control, Payload) -> ok = ssl:send(Socket, Bytes(Control, Payload)) end,
    Done = fun(Socket) -> ok = ssl:send(Socket, Frame(2, <<99:64>>)),
        (fun Pong() -> case Await(Socket, 3) of <<99:64>> -> ok; _ -> Pong() end end)() end,
    Own = Pid(<<"west/evil@evil">>, 666, 0, 1),
    Secret = fun(Id) -> Pid(Shop, Id, 0, Creation) end,
    Boom = Atom(<<"boom">>), None = [],
"#;

/// The scene: the gateway `east` with a node that has a server in an exported group, and the hostile end.
struct Scene {
    evil: Beam,
    beam: Beam,
    agent: Agent,
    _hosts: [Host; 2],
    words: String,
}

impl Scene {
    fn new() -> Result<Self> {
        let network = Network::new()?;
        let [east, west] = network.hosts()?;
        prove(&east, "east")?;
        prove(&west, "west")?;
        let config = format!(
            "cluster = \"east\"\nlisten = \"0.0.0.0:0\"\n\n[federation]\nlisten = \"0.0.0.0:4391\"\nidentity = \"{}\"\n\
             trust = [\"{}\"]\nmessages_per_second = 1000\n\n[[federation.export]]\nto = [\"west\"]\ngroups = [\"orders\"]\n",
            folder(&east).join("federation.pem").display(),
            folder(&west).join("federation-ca.pem").display()
        );
        let agent = east.agent(binary()).config(&config)?.start()?;
        let beam = east.beam("shop").flags("-kernel start_pg true").spawn()?;
        beam.wait_ready()?;
        let ids = beam.eval(
            "Server = spawn(fun Loop() -> receive {tell, To} -> To ! {got, get()}, Loop();
                 trap -> process_flag(trap_exit, true), Loop(); {'EXIT', _, noconnection} -> Loop();
                 Other -> put(Other, got), Loop() end end),
             register(server, Server), ok = pg:join(orders, Server), ok = pg:join(secret, spawn(fun() -> receive ok -> ok end end)),
             Text = term_to_binary(Server, [{minor_version, 2}]), Skip = byte_size(Text) - 12,
             <<_:Skip/binary, Id:32, Serial:32, Creation:32>> = Text, {Id, Serial, Creation}",
        )?;
        let evil = west.beam("evil").undistributed().spawn()?;
        evil.eval("{ok, _} = application:ensure_all_started(ssl), ok")?;
        let [a, b, c, d] = east.address().octets();
        let words = format!(
            "{{Id, Serial, Creation}} = {ids}, Address = {{{a},{b},{c},{d}}}, File = \"{}\",
             Shop = <<\"east/{}\">>, {WORDS} Server = Pid(Shop, Id, Serial, Creation),",
            folder(&west).join("federation.pem").display(),
            beam.name()
        );
        let scene = Self { evil, beam, agent, _hosts: [east, west], words };
        eventually(SOON, "the group of the server is exported", || {
            let status = scene.status().map_err(|error| format!("{error:#}"))?;
            if status["exported_groups"] == 1 { Ok(()) } else { Err(status.to_string()) }
        })?;
        Ok(scene)
    }

    /// What the hostile end does. The names of the words are bound.
    fn act(&self, what: &str) -> Result<String> {
        let used = "_ = {Frame, Atom, Tuple, Pid, Ref, Int, Hello, Connect, Await, Greet, Bytes, Signal, Done, Own, Secret, Boom, None, Server},";
        self.evil.eval(&format!("{} {used} {what}", self.words)).with_context(|| self.agent.log())
    }

    fn status(&self) -> Result<Value> {
        self.agent.get("/v1/federation")
    }

    fn refused(&self, kind: &str) -> Result<u64> {
        Ok(self.status()?["gateways"][0]["refused"][kind].as_u64().unwrap_or_default())
    }

    /// What the server got so far.
    fn got(&self) -> Result<String> {
        self.beam.eval(
            "server ! {tell, self()}, receive {got, All} -> lists:sort([M || {M, got} <- All]) after 5000 -> late end",
        )
    }

    /// Waits until the server got just this. The gateway has handled what the hostile end did, but what it says to the
    /// node may be on its way still.
    fn wait_got(&self, wanted: &str) -> Result<Duration> {
        eventually(SOON, &format!("the server got {wanted}"), || {
            let got = self.got().map_err(|error| format!("{error:#}"))?;
            if got == wanted { Ok(()) } else { Err(got) }
        })
    }

    /// Waits until the log of the gateway says so, which is read beside.
    fn wait_told(&self, what: &str) -> Result<Duration> {
        eventually(SOON, &format!("the log says: {what}"), || {
            let log = self.agent.log();
            if log.contains(what) { Ok(()) } else { Err(log) }
        })
    }
}

#[test]
fn what_a_hostile_gateway_says_is_refused_counted_and_does_no_harm() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let scene = Scene::new()?;
    let count =
        "{erlang:system_info(process_count) < 1000, lists:sort(registered()), group_leader() =:= group_leader(),
        element(2, process_info(whereis(server), group_leader)), element(2, process_info(whereis(server), links)),
        element(2, process_info(whereis(server), monitored_by))}";
    let before = scene.beam.eval(count)?;

    let began = Instant::now();
    scene.act(
        r#"Spawn = Tuple([Atom(<<"os">>), Atom(<<"cmd">>), Int(1)]),
        All = [Bytes([Int(29), Ref(<<"west/evil@evil">>, 1), Own, Own, Spawn, <<106>>], <<106>>),
        Bytes([Int(31), Ref(<<"west/evil@evil">>, 2), Server, Int(0), Own], None),
        [Bytes([Int(6), Own, Atom(<<>>), Atom(Name)], Boom)
            || Name <- [<<"rex">>, <<"net_kernel">>, <<"init">>, <<"global_name_server">>, <<"server">>]],
        Bytes([Int(19), Own, Atom(<<"rex">>), Ref(<<"west/evil@evil">>, 3)], None),
        Bytes([Int(7), Own, Server], None),
        Bytes([Int(8), Own, Server, Boom], None),
        Bytes([Int(26), Own, Server], Boom),
        Bytes([Int(3), Own, Server, Boom], None),
        Bytes([Int(24), Own, Server], Boom),
        Bytes([Int(4), Own, Server], None),
        Bytes([Int(99), Own, Server], None),
        Bytes([Int(22), Own, Secret(0)], Boom),
        Bytes([Int(22), Own, Secret(Id + 1)], Boom),
        Bytes([Int(1), Own, Secret(Id + 1)], None),
        Bytes([Int(19), Own, Secret(0), Ref(<<"west/evil@evil">>, 4)], None),
        Bytes([Int(33), Own, Ref(Shop, 9)], Boom),
        Bytes([Int(22), Secret(0), Server], Boom),
        Bytes([Int(21), Own, Server, Ref(Shop, 9), Boom], None),
        Bytes([Int(22), Own, Server], Atom(<<"welcome">>))],
        S = Greet(), ok = ssl:send(S, All), Done(S), ssl:close(S)"#,
    )?;
    let expected = [
        ("spawn", 2),
        ("registered_name", 6),
        ("group_leader", 1),
        ("exit_without_link", 4),
        ("operation", 2),
        ("not_granted", 5),
        ("forged_sender", 1),
        ("not_watched", 1),
    ];
    for (kind, times) in expected {
        assert_eq!(scene.refused(kind)?, times, "{kind}: {}", scene.status()?);
    }
    let status = String::from_utf8(scene.agent.ask(&["federation", "status"])?.stdout)?;
    assert!(status.contains("registered_name"), "{status}");
    scene.wait_told("refused of west")?;
    // Once in ten seconds.
    let (told, most) = (scene.agent.log().matches("refused of west").count(), began.elapsed().as_secs() / 10 + 1);
    assert!(told as u64 <= most, "all are counted and one in a while is told: {told}");
    scene.wait_got("[welcome]")?;
    assert_eq!(scene.beam.eval(count)?, before, "nothing of the node changed");
    Ok(())
}

#[test]
fn bytes_that_are_no_protocol_end_their_own_link_and_nothing_else() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let scene = Scene::new()?;
    let closed = scene.act(
        r#"Closed = fun(S) -> (fun Read() -> case ssl:recv(S, 0, 10000) of {ok, _} -> Read(); {error, timeout} -> open;
                {error, _} -> closed end end)() end,
        Strangers = [<<"GET / HTTP/1.1\r\n\r\n">>, Frame(4, <<>>), Frame(1, <<"mcfd">>), Frame(1, <<"nope", 0:800>>),
            Hello(<<"north">>), Hello(<<"east">>), <<4, 1, 255, 255, 255, 255>>, <<200, 1, 0, 0, 0, 0>>],
        First = [begin S = Connect(), ok = ssl:send(S, Bytes), Closed(S) end || Bytes <- Strangers],
        Frames = [Frame(4, <<>>), Frame(4, <<131>>), Frame(4, <<104, 0>>), Frame(4, <<104, 3, 97, 22>>), Frame(2, <<1>>),
            Frame(7, <<0>>), Frame(8, <<0>>), Frame(9, <<2, "pg", 0, 1, 106, 0, 0, 0, 0, 0, 0>>), Frame(11, <<0:32>>),
            Frame(11, <<2, "pg", 0, 1, 106, 0, 0, 255, 255, 255, 255>>), Frame(14, <<7>>), Frame(16, <<>>),
            <<4, 77, 0, 0, 0, 0>>, <<4, 1, 0, 1, 0, 1>>,
            iolist_to_binary(Frame(4, iolist_to_binary([Tuple([Int(22), Own, Server]), <<109, 0, 0>>]))),
            iolist_to_binary(Frame(4, iolist_to_binary([Tuple([Int(22), Own, Server]), binary:copy(<<104, 1>>, 30000)])))],
        Then = [begin S = Greet(), ok = ssl:send(S, Bytes), Closed(S) end || Bytes <- Frames],
        lists:usort(First ++ Then)"#,
    )?;
    assert_eq!(closed, "[closed]");
    assert_eq!(scene.got()?, "[]");
    // Whoever speaks properly is served as before.
    scene.act("S = Greet(), Signal(S, [Int(22), Own, Server], Atom(<<\"welcome\">>)), Done(S), ssl:close(S)")?;
    scene.wait_got("[welcome]")?;
    Ok(())
}

#[test]
fn monitors_and_links_count_as_messages_do_and_a_node_that_does_not_read_costs_no_memory() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let scene = Scene::new()?;
    scene.beam.eval("server ! trap")?;
    // More than a second may bring, half of them monitors and half links, each of another process.
    scene.act(
        r#"Pids = [Pid(<<"west/evil@evil">>, N, 0, 1) || N <- lists:seq(1, 2000)],
        All = [[Bytes([Int(19), P, Server, Ref(<<"west/evil@evil">>, N)], None), Bytes([Int(1), P, Server], None)]
            || {N, P} <- lists:zip(lists:seq(1, 2000), Pids)],
        Built = iolist_to_binary(All), S = Greet(), ok = ssl:send(S, Built), Done(S), ssl:close(S)"#,
    )?;
    let refused = scene.refused("quota")?;
    ensure!(refused > 0 && refused < 4_000, "{refused} refused of 4000: {}", scene.status()?);
    eventually(SOON, "what hung on the link is gone", || {
        let watches = scene.status().map_err(|error| format!("{error:#}"))?["watches"].clone();
        if watches == 0 { Ok(()) } else { Err(watches.to_string()) }
    })?;
    eventually(SOON, "the server is as it was", || {
        let watched = "[length(element(2, process_info(whereis(server), What))) || What <- [links, monitored_by]]";
        let watched = scene.beam.eval(watched).map_err(|error| format!("{error:#}"))?;
        // `pg` itself monitors who is in a group.
        if watched == "[0,1]" { Ok(()) } else { Err(watched) }
    })?;

    // The node stands still, and messages to it are dropped once the queue to it is full.
    scene.beam.pause()?;
    let full = eventually(SOON, "messages to it are dropped", || {
        // Fewer than a second may bring, so that some are taken in any.
        let sent = scene.act(
            r#"One = Bytes([Int(22), Own, Server], <<109, 60000:32, 0:480000>>), S = Greet(),
            ok = ssl:send(S, lists:duplicate(150, One)), Done(S), ssl:close(S), sent"#,
        );
        // Its own link goes on.
        let sent = sent.map_err(|error| format!("{error:#}"))?;
        let status = scene.status().map_err(|error| format!("{error:#}"))?;
        if status["dropped"]["slow_node"].as_u64().is_some_and(|dropped| dropped > 0) {
            Ok(())
        } else {
            Err(format!("{sent}: {status}"))
        }
    });
    scene.beam.resume()?;
    full?;
    scene.wait_told("does not read, and messages to it are dropped")?;
    // It reads again, and messages pass as soon as there is room in the queue.
    let again = eventually(SOON, "a message arrives again", || {
        let welcome = "S = Greet(), Signal(S, [Int(22), Own, Server], Atom(<<\"welcome\">>)), Done(S), ssl:close(S)";
        scene.act(welcome).map_err(|error| format!("{error:#}"))?;
        let got = scene.got().map_err(|error| format!("{error:#}"))?;
        if got.contains("welcome") { Ok(()) } else { Err(scene.status().unwrap_or_default().to_string()) }
    })?;
    println!("a message arrived {again:?} after the node read again");
    Ok(())
}
