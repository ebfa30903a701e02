//! Server-sent events: where a stream begins, what it says of what is gone, and when it ends.

use super::*;
use crate::events::Position;

/// A stream that is read message by message.
struct Stream {
    stream: UnixStream,
    seen: String,
    has_ended: bool,
}

impl Stream {
    async fn open(api: &Api, path: &str, header: &str) -> Self {
        let mut stream = UnixStream::connect(api.socket()).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut opened = Self { stream, seen: String::new(), has_ended: false };
        // From here on it listens.
        opened.until(": metacluster\n").await;
        assert!(opened.seen.to_ascii_lowercase().contains("content-type: text/event-stream"), "{}", opened.seen);
        opened
    }

    async fn until(&mut self, text: &str) {
        while !self.seen.contains(text) {
            assert!(!self.has_ended, "ended before {text:?}: {}", self.seen);
            self.more().await;
        }
    }

    async fn more(&mut self) {
        let mut buffer = [0; 4096];
        let count = timeout(LONG, self.stream.read(&mut buffer)).await.expect("in time").expect("read");
        self.seen.push_str(std::str::from_utf8(&buffer[..count]).expect("a text"));
        // The empty chunk ends a chunked body, though the connection may live on.
        self.has_ended = count == 0 || self.seen.ends_with("\r\n0\r\n\r\n");
    }

    async fn end(mut self) -> String {
        while !self.has_ended {
            self.more().await;
        }
        self.seen
    }

    fn ids(text: &str) -> Vec<u64> {
        text.lines().filter_map(|line| line.strip_prefix("id: ")).map(seq_of).collect()
    }
}

/// The number in an id.
fn seq_of(id: &str) -> u64 {
    id.parse::<Position>().expect("an id").seq
}

#[tokio::test]
async fn an_event_has_its_number_its_kind_and_its_json() {
    let api = Api::start().await;
    let mut stream = Stream::open(&api, "/v1/events", "").await;
    let reason = Some("line one\nline two".to_owned());
    api.log.publish(EventKind::NodeUp, Subject::node(node("a@h")), None, reason).expect("published");
    stream.until("\n\n").await;
    stream.until("data: {").await;
    stream.until("line two").await;
    let fields: Vec<&str> = ["id: ", "event: ", "data: "]
        .map(|field| stream.seen.lines().find_map(|line| line.strip_prefix(field)).expect("a field"))
        .into();
    assert_eq!((fields[0].parse(), fields[1]), (Ok(Position { epoch: Some(api.log.epoch()), seq: 1 }), "nodeup"));
    let event: metacluster_types::Event = serde_json::from_str(fields[2]).expect("an event");
    assert_eq!((event.seq, event.reason.as_deref()), (1, Some("line one\nline two")));
}

#[tokio::test]
async fn a_stream_resumes_after_the_last_event_that_its_reader_saw() {
    let api = Api::start().await;
    api.publish(5);
    for (path, header) in [
        ("/v1/events?since=3", ""),
        ("/v1/events", "Last-Event-ID: 3\r\n"),
        // What the reader itself saw wins over the address that it began with.
        ("/v1/events?since=1", "Last-Event-ID: 3\r\n"),
    ] {
        let mut stream = Stream::open(&api, path, header).await;
        stream.until("-5\n").await;
        assert_eq!(Stream::ids(&stream.seen), [4, 5], "{path} {header}");
    }
}

#[tokio::test]
async fn without_a_beginning_a_stream_has_what_comes_from_now_on() {
    let api = Api::start().await;
    api.publish(5);
    let mut stream = Stream::open(&api, "/v1/events", "").await;
    api.publish(1);
    stream.until("-6\n").await;
    assert_eq!(Stream::ids(&stream.seen), [6]);
}

#[tokio::test]
async fn what_is_gone_shows_as_a_gap() {
    let api = Api::start().await;
    api.publish(150);
    let mut stream = Stream::open(&api, "/v1/events?since=10", "").await;
    stream.until("-150\n").await;
    let gap = "event: gap\ndata: {\"from\":11,\"to\":50,\"restarted\":false}\n\n";
    assert!(stream.seen.contains(gap), "{}", stream.seen);
    assert_eq!(Stream::ids(&stream.seen), (51..=150).collect::<Vec<_>>());
    let mut stream = Stream::open(&api, "/v1/events?since=9000", "").await;
    stream.until("-150\n").await;
    let gap = "event: gap\ndata: {\"from\":9001,\"to\":50,\"restarted\":true}\n\n";
    assert!(stream.seen.contains(gap), "{}", stream.seen);
}

#[tokio::test]
async fn a_stream_that_does_not_follow_ends() {
    let api = Api::start().await;
    api.publish(3);
    let all = Stream::open(&api, "/v1/events?follow=false", "").await.end().await;
    assert_eq!(Stream::ids(&all), [1, 2, 3]);
    let rest = Stream::open(&api, "/v1/events?follow=false&since=2", "").await.end().await;
    assert_eq!(Stream::ids(&rest), [3]);
}

#[tokio::test]
async fn a_stream_ends_with_the_log_and_has_all_of_it() {
    let api = Api::start().await;
    let stream = Stream::open(&api, "/v1/events", "").await;
    api.publish(40);
    api.log.close();
    assert_eq!(Stream::ids(&stream.end().await), (1..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stop_ends_open_streams() {
    let api = Api::start().await;
    let stream = Stream::open(&api, "/v1/events", "").await;
    let socket = api.socket();
    timeout(LONG, api.server.stop()).await.expect("stopped in time");
    stream.end().await;
    assert!(!socket.exists(), "the socket goes with the server");
}

#[tokio::test]
async fn a_server_that_is_dropped_ends_open_streams() {
    let api = Api::start().await;
    let stream = Stream::open(&api, "/v1/events", "").await;
    let socket = api.socket();
    drop(api.server);
    stream.end().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_reader_that_never_reads_holds_up_nobody() {
    let api = Api::start().await;
    let idle = Stream::open(&api, "/v1/events", "").await;
    let mut other = Stream::open(&api, "/v1/events", "").await;
    for seq in 1..=300 {
        api.publish(1);
        other.until(&format!("-{seq}\n")).await;
    }
    drop(idle);
}

#[tokio::test]
async fn a_reader_of_another_process_is_told_though_the_count_has_passed_its_own() {
    let api = Api::start().await;
    api.publish(5);
    let other = Position { epoch: Some(api.log.epoch() ^ 1), seq: 2 };
    let mut stream = Stream::open(&api, "/v1/events", &format!("Last-Event-ID: {other}\r\n")).await;
    stream.until("-5\n").await;
    assert!(stream.seen.contains("\"restarted\":true"), "{}", stream.seen);
    assert_eq!(Stream::ids(&stream.seen), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_wrong_question_is_refused() {
    let api = Api::start().await;
    for path in ["/v1/events?since=x", "/v1/events?since=-1", "/v1/events?sinse=1", "/v1/events?follow=maybe"] {
        let reply = api.unix("GET", path).await;
        assert_eq!(reply.status, 400, "{path}");
        assert!(reply.body.contains("since=SEQ"), "{}", reply.body);
    }
    let stream = UnixStream::connect(api.socket()).await.expect("connected");
    let reply = ask(stream, "GET /v1/events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: x\r\n").await;
    assert_eq!(reply.status, 400);
}
