//! The commands that ask an agent, against one that is scripted: what they ask for, and what they make of the answers.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::mpsc,
    thread::JoinHandle,
};

/// What a request said: its first line, and the `Last-Event-ID`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Request {
    line: String,
    last: Option<String>,
}

/// An agent that answers one request after the other as it was told, and then is gone.
struct Scripted {
    folder: tempfile::TempDir,
    requests: mpsc::Receiver<Request>,
    server: Option<JoinHandle<()>>,
}

impl Scripted {
    fn new(answers: Vec<String>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("agent.sock")).expect("bound");
        let (sender, requests) = mpsc::channel();
        let server = std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().expect("accepted");
                let request = read_request(&stream);
                (&stream).write_all(answer.as_bytes()).expect("answered");
                sender.send(request).expect("the test listens");
            }
        });
        Self { folder, requests, server: Some(server) }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_metacluster"));
        command.env_clear().args(arguments).arg("--socket").arg(self.socket()).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end and gives what was asked.
    fn run(mut self, arguments: &[&str]) -> (Output, Vec<Request>) {
        let output = self.command(arguments).output().expect("it runs");
        self.server.take().expect("not joined yet").join().expect("the script was played to its end");
        let requests = self.requests.try_iter().collect();
        (output, requests)
    }
}

fn read_request(stream: &UnixStream) -> Request {
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("a line"));
    let line = lines.next().expect("a request");
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let last = headers.iter().find_map(|header| {
        let (name, value) = header.split_once(": ")?;
        name.eq_ignore_ascii_case("last-event-id").then(|| value.to_owned())
    });
    Request { line, last }
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A stream that ends after these frames.
fn stream(frames: &[&str]) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{}", frames.concat())
}

fn nodes(nodes: &[(&str, &str, &[&str])]) -> String {
    let nodes: Vec<serde_json::Value> = nodes
        .iter()
        .map(|(name, state, connected)| {
            let host = name.split('@').nth(1);
            serde_json::json!({"name": name, "kind": "beam", "host": host, "cluster": "main", "zone": "east",
                "state": state, "connected": connected, "otp": "25", "local": true, "later": "unknown fields are fine"})
        })
        .collect();
    answer("200 OK", &serde_json::json!({"version": 1, "nodes": nodes}).to_string())
}

fn topologies() -> String {
    answer("200 OK", r#"{"version":1,"topologies":[]}"#)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[track_caller]
fn assert_ended(output: &Output, code: i32) {
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "standard output:\n{out}\nstandard error:\n{error}");
}

#[test]
fn a_listing_is_a_table_or_the_agents_own_json() {
    let script = || nodes(&[("a@h1", "up", &["b@h2"]), ("b@h2", "up", &["a@h1"])]);
    let (output, requests) = Scripted::new(vec![script()]).run(&["nodes"]);
    assert_ended(&output, 0);
    assert_eq!(requests[0].line, "GET /v1/nodes HTTP/1.1");
    assert_eq!(
        text(&output.stdout),
        "NODE  STATE  ZONE  LINKS  OTP  WHERE\n\
         a@h1  up     east  1      25   here\n\
         b@h2  up     east  1      25   here\n\
         2 of 2 nodes up\n"
    );
    let (output, _) = Scripted::new(vec![script()]).run(&["nodes", "--json"]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["nodes"][1]["later"], "unknown fields are fine");
}

#[test]
fn wait_asks_again_until_the_cluster_is_formed() {
    let script = vec![
        nodes(&[("a@h1", "up", &[])]),
        topologies(),
        nodes(&[("a@h1", "up", &[]), ("b@h2", "up", &[])]),
        topologies(),
        nodes(&[("a@h1", "up", &["b@h2"]), ("b@h2", "up", &["a@h1"])]),
        topologies(),
    ];
    let (output, requests) = Scripted::new(script).run(&["wait", "--nodes", "2", "--timeout", "60s"]);
    assert_ended(&output, 0);
    assert_eq!(requests.len(), 6);
}

#[test]
fn wait_says_who_is_missing() {
    let script = vec![nodes(&[("a@h1", "up", &[]), ("b@h2", "down", &[])]), topologies()];
    let (output, _) = Scripted::new(script).run(&["wait", "--nodes", "2", "--timeout", "0s"]);
    assert_ended(&output, 1);
    assert_eq!(text(&output.stderr), "error: not formed after 0s: 1 of 2 nodes up; down: b@h2\n");
}

#[test]
fn a_refusal_of_the_agent_is_passed_on() {
    let refusal = answer("404 Not Found", r#"{"version":1,"error":"there is no such path","paths":["/v1/nodes"]}"#);
    let (output, _) = Scripted::new(vec![refusal]).run(&["nodes"]);
    assert_ended(&output, 1);
    assert!(text(&output.stderr).contains("there is no such path"), "{}", text(&output.stderr));
    let (output, _) = Scripted::new(vec![answer("200 OK", r#"{"version":2}"#)]).run(&["nodes"]);
    assert_ended(&output, 1);
    assert!(text(&output.stderr).contains("of another version"), "{}", text(&output.stderr));
}

const FIRST: &str = "id: 1\nevent: nodeup\ndata: {\"seq\":1,\"at\":\"1970-01-01T00:00:00.000Z\",\"event\":\"nodeup\",\"node\":\"a@h\",\"cluster\":\"main\"}\n\n";
const SECOND: &str = "id: 2\nevent: nodedown\ndata: {\"seq\":2,\"at\":\"1970-01-01T00:00:01.000Z\",\"event\":\"nodedown\",\"node\":\"a@h\",\"cluster\":\"main\",\"reason\":\"lost\"}\n\n";

#[test]
fn events_prints_what_is_kept_and_ends() {
    let (output, requests) = Scripted::new(vec![stream(&[": hello\n\n", FIRST, SECOND])]).run(&["events"]);
    assert_ended(&output, 0);
    assert_eq!(
        requests,
        [Request { line: "GET /v1/events?follow=false HTTP/1.1".to_owned(), last: Some("0".to_owned()) }]
    );
    assert_eq!(
        text(&output.stdout),
        "1970-01-01T00:00:00.000Z      1 nodeup             a@h\n\
         1970-01-01T00:00:01.000Z      2 nodedown           a@h (lost)\n"
    );
}

#[test]
fn a_follower_goes_on_where_the_stream_broke_off() {
    let agent = Scripted::new(vec![stream(&[FIRST]), stream(&[SECOND])]);
    let mut child = agent
        .command(&["events", "--follow", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    for seq in 1..=2 {
        let line = lines.next().expect("a line").expect("text");
        let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(event["seq"], seq);
    }
    let asked: Vec<Option<String>> = agent.requests.iter().take(2).map(|request| request.last).collect();
    assert_eq!(asked, [None, Some("1".to_owned())]);
    child.kill().expect("killed");
    child.wait().expect("ended");
}

#[test]
fn leave_ends_when_the_agent_is_gone() {
    let accepted = answer("202 Accepted", r#"{"version":1,"leaving":true}"#);
    let (output, requests) = Scripted::new(vec![accepted]).run(&["leave"]);
    assert_ended(&output, 0);
    assert_eq!(requests[0].line, "POST /v1/leave HTTP/1.1");
    assert_eq!(text(&output.stdout), "the agent has left\n");
}

#[test]
fn the_picture_is_text_json_or_a_drawing() {
    let script = || vec![nodes(&[("a@h1", "up", &["b@h2"]), ("b@h2", "up", &["a@h1"])])];
    let (output, _) = Scripted::new(script()).run(&["topology"]);
    assert_ended(&output, 0);
    assert!(text(&output.stdout).starts_with("main: 2 of 2 nodes up in 1 zone, 1 of 1 link known\n"));
    let (output, _) = Scripted::new(script()).run(&["topology", "--json"]);
    let picture: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&picture["version"], &picture["links"]), (&1.into(), &serde_json::json!([["a@h1", "b@h2"]])));
    let agent = Scripted::new(script());
    let file = agent.folder.path().join("picture.svg");
    let output = agent.command(&["topology", &format!("--svg={}", file.display())]).output().expect("it runs");
    assert_ended(&output, 0);
    let mut drawing = String::new();
    std::fs::File::open(&file).and_then(|mut file| file.read_to_string(&mut drawing)).expect("read");
    assert!(drawing.starts_with("<svg ") && drawing.contains("a@h1"));
}
