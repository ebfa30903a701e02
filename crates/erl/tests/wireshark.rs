//! Wireshark's dissector of the distribution reads what we say: handshakes both ways, control messages, fragments.

mod common;

use std::{collections::BTreeSet, path::Path, process::Command};

use common::{Beam, PATIENCE, atom, capture, capture::record, epmd, has_erl, node, within};
use metacluster_erl::{
    Node, Received,
    epmd::{Registration, register},
    gen_server,
    node::Expect,
    wire::{Term, epmd::NodeType},
};

/// Whether captures can be read. Without `tshark` a test is skipped on a laptop and fails in CI.
fn has_tshark() -> bool {
    let found = Command::new("tshark").arg("--version").output().is_ok();
    if !found {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "`tshark` is missing: install tshark");
        eprintln!("skipped: `tshark` is missing; install tshark");
    }
    found
}

/// What the analyser prints of the packets that fit the filter.
fn dissect(path: &Path, filter: &str, fields: &[&str]) -> Vec<String> {
    let mut command = Command::new("tshark");
    // In two passes, since only the second knows where a message that began in a packet ended.
    command.arg("-2").arg("-r").arg(path).args(["-d", &format!("tcp.port=={},erldp", capture::PORT), "-Y", filter]);
    command.args(["-T", "fields"]).args(fields.iter().flat_map(|field| ["-e", field]));
    let output = command.output().expect("tshark runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

/// The operations of the control messages that the analyser reads in the packets that fit the filter. It knows some of them
/// by number alone.
fn operations(path: &Path, filter: &str) -> BTreeSet<u8> {
    let mut command = Command::new("tshark");
    command.arg("-2").arg("-r").arg(path).args(["-d", &format!("tcp.port=={},erldp", capture::PORT), "-Y", filter]);
    let output = command.args(["-O", "erldp"]).output().expect("tshark runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    let mut operations = BTreeSet::new();
    let mut lines = said.lines().map(str::trim);
    while lines.any(|line| line == "ControlMessage") {
        let first = lines.by_ref().find_map(|line| line.strip_prefix("SMALL_INTEGER_EXT: "));
        operations.insert(first.expect("an operation").parse().expect("a number"));
    }
    operations
}

/// Calls, links, monitors, exits, a request to spawn and a message in fragments, between us and processes of the BEAM.
async fn talk(ours: &Node, beam: &Beam) {
    let mut process = ours.spawn();
    process.register("talker").expect("a free name");
    let spawned = "spawn(fun F() -> receive \
                   {link, Pid} -> link(Pid), unlink(Pid), Pid ! linked, F(); \
                   {From, Bytes} -> From ! Bytes, F(); \
                   stop -> exit(done) end end).";
    let theirs = beam.eval(ours, spawned).await.as_pid().expect("a pid").clone();
    process.link(&theirs);
    process.unlink(&theirs);
    let taken_back = process.monitor(&theirs);
    process.demonitor(&taken_back);
    process.send(&theirs, Term::tuple([atom("link"), process.pid().clone().into()])).expect("room");
    assert_eq!(within("a link and back", process.recv()).await, Received::Message(atom("linked")));
    // Exits with and without a link, of which it hears; then it ends.
    let hears = "Asks = self(), P = spawn(fun() -> process_flag(trap_exit, true), Asks ! {self(), traps}, \
                 receive {'EXIT', _, done} -> ok end, receive {'EXIT', From, away} -> From ! away end end), \
                 receive {P, traps} -> P end.";
    let hears = beam.eval(ours, hears).await.as_pid().expect("a pid").clone();
    let linked = ours.spawn();
    linked.link(&hears);
    linked.exit(atom("done"));
    process.exit_other(&hears, atom("away")).expect("room");
    assert_eq!(within("word of the exits", process.recv()).await, Received::Message(atom("away")));
    let monitor = process.monitor(&theirs);
    for bytes in [10, 200_000] {
        let question = Term::tuple([process.pid().clone().into(), Term::binary(vec![7; bytes])]);
        process.send(&theirs, question).expect("room");
        assert!(matches!(within("an answer", process.recv()).await, Received::Message(Term::Binary(_))));
    }
    process.send(&theirs, atom("stop")).expect("room");
    let down = within("the end", process.recv()).await;
    assert!(matches!(&down, Received::Down { reference, .. } if *reference == monitor), "{down:?}");
    // What the BEAM asks of us: a message by name, a monitor that is taken back, a process that is not there.
    let text = format!(
        "{{talker, '{0}'}} ! hello, R = monitor(process, {{talker, '{0}'}}), demonitor(R), \
         monitor(process, {{nobody, '{0}'}}), receive {{'DOWN', _, process, _, noproc}} -> ok end.",
        ours.name()
    );
    assert_eq!(beam.eval(ours, &text).await, atom("ok"));
    assert!(
        matches!(within("a message", process.recv()).await, Received::Message(message) if message == atom("hello"))
    );
    let reversed = ours.erpc(&beam.name, "lists", "reverse", vec![Term::list([1.into(), 2.into()])], PATIENCE).await;
    assert_eq!(reversed, Ok(Term::list([2.into(), 1.into()])));
    // A request to spawn, which is refused, and a call, whose answer goes to an alias.
    let text = format!(
        "R = spawn_request('{}', m, f, [], []), receive {{spawn_reply, R, error, notsup}} -> ok end.",
        ours.name()
    );
    assert_eq!(beam.eval(ours, &text).await, atom("ok"));
    let text = format!("gen_server:call({{talker, '{}'}}, ask).", ours.name());
    let answer = async {
        let Received::Message(message) = within("a call", process.recv()).await else { panic!("only messages") };
        let call = gen_server::Call::parse(message).expect("only calls come");
        gen_server::reply(ours, &call.from, atom("answer")).expect("room");
    };
    let (answered, ()) = tokio::join!(beam.eval(ours, &text), answer);
    assert_eq!(answered, atom("answer"));
}

/// Each side's handshake and messages are read, fragments included, and nothing is taken for malformed.
fn check(path: &Path, ours: u16, wanted: &[&str]) {
    let wrong = dissect(path, "_ws.malformed", &["frame.number", "_ws.col.Info"]);
    assert_eq!(wrong, Vec::<String>::new(), "malformed");
    let said = dissect(path, &format!("erldp && tcp.srcport=={ours}"), &["_ws.col.Info"]);
    for wanted in wanted {
        assert!(said.iter().any(|said| said.contains(wanted)), "{wanted}: {said:#?}");
    }
    let operations = operations(path, &format!("erldp && tcp.srcport=={ours}"));
    assert!(SAID.iter().all(|said| operations.contains(said)), "{operations:?}");
    // A packet may hold a part of a message, which is read with its last part.
    let unread = format!("tcp.len > 0 && tcp.srcport=={ours} && !erldp && !tcp.reassembled_in");
    assert_eq!(dissect(path, &unread, &["frame.number", "_ws.col.Info"]), Vec::<String>::new(), "{said:#?}");
}

/// The operations that `talk` has us say: links, exits, messages to a name, to a process and to an alias, monitors, requests to
/// spawn, and the answers to what is asked of us. Without those that only peers before OTP 25 need.
const SAID: [u8; 13] = [1, 6, 19, 20, 22, 24, 26, 28, 29, 31, 33, 35, 36];
/// A message in fragments, put together.
const FRAGMENTS: &str = "Reassembled, Fragment ID: 1";

#[tokio::test]
async fn wireshark_reads_what_we_say_when_we_dial() {
    if !has_erl() || !has_tshark() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("dialled.pcap");
    let epmd = epmd().await;
    let beam = Beam::start(&epmd, "captured@127.0.0.1", &[]).await;
    let (ours, _) = node("ours@127.0.0.1").await;
    let through = record(beam.address, &file).await;
    ours.connect(through, Expect::Exactly(beam.name.clone())).await.expect("a connection");
    beam.booted(&ours).await;
    talk(&ours, &beam).await;
    ours.shutdown().await;
    check(&file, 40_000, &["SEND_NAME ours@127.0.0.1", "SEND_CHALLENGE_REPLY", FRAGMENTS]);
}

#[tokio::test]
async fn wireshark_reads_what_we_say_when_we_are_dialled() {
    if !has_erl() || !has_tshark() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("accepted.pcap");
    let epmd = epmd().await;
    let beam = Beam::start(&epmd, "captured@127.0.0.1", &[]).await;
    let (ours, address) = node("ours@127.0.0.1").await;
    let through = record(address, &file).await;
    let registration = Registration::new("ours", through.port(), NodeType::Hidden);
    let _registered = register(epmd.addresses()[0], registration).await.expect("the name is free");
    let (control, _) = node("control@127.0.0.1").await;
    beam.join(&control).await;
    assert_eq!(beam.eval(&control, "net_kernel:connect_node('ours@127.0.0.1').").await, atom("true"));
    within("the connection here", async {
        while ours.peers().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    talk(&ours, &beam).await;
    ours.shutdown().await;
    let handshake = ["SEND_STATUS ok", "SEND_CHALLENGE ours@127.0.0.1", "SEND_CHALLENGE_ACK", FRAGMENTS];
    check(&file, capture::PORT, &handshake);
}
