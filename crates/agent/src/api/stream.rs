//! `GET /v1/events`: the event log as server-sent events.
//!
//! `id:` is `epoch-seq`, the epoch being that of the agent's process, `event:` the kind, `data:` the event as JSON. It
//! begins after `Last-Event-ID`, or after `?since=`, each such an id or a plain sequence number; with neither, with what comes from now on. `?follow=false` ends when all that is kept was sent, and begins
//! with the oldest unless told otherwise. Events that are not kept any more show as one `gap` with `from`, `to` and
//! `restarted`, the last of which says that the agent counts from 1 again. A comment every 15 seconds shows that the
//! connection lives.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::{Query, State as Extract, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::{
        IntoResponse, Response,
        sse::{Event as Message, KeepAlive, Sse},
    },
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::{State, answers::refusal};
use crate::events::{Next, Position, Reader};

const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a browser waits before it connects again.
const RETRY: Duration = Duration::from_secs(1);
/// Messages between the reader and the connection. Beyond them a slow connection only falls behind in the ring.
const MESSAGES_MAX: usize = 16;

/// What may be asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    since: Option<Position>,
    follow: Option<bool>,
}

/// Events that are gone.
#[derive(Debug, Serialize)]
struct Gap {
    from: u64,
    to: u64,
    restarted: bool,
}

pub(super) async fn events(
    Extract(state): Extract<State>,
    ask: Result<Query<Ask>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let Ok(Query(ask)) = ask else {
        return refusal(
            StatusCode::BAD_REQUEST,
            "expected /v1/events?since=SEQ&follow=true|false, SEQ a whole number or the id of an event",
        );
    };
    let last = match headers.get("last-event-id").map(|value| value.to_str().ok().and_then(|id| id.parse().ok())) {
        // A client that has seen nothing yet may send an empty one.
        Some(None) if headers["last-event-id"].is_empty() => None,
        Some(None) => {
            return refusal(
                StatusCode::BAD_REQUEST,
                "Last-Event-ID: expected the id of an event, or its sequence number",
            );
        }
        Some(last) => last,
        None => None,
    };
    let follow = ask.follow.unwrap_or(true);
    let since = last.or(ask.since).or((!follow).then_some(Position { epoch: None, seq: 0 }));
    let reader = state.events.reader_after(since);
    let (messages, receiver) = mpsc::channel(MESSAGES_MAX);
    tokio::spawn(forward(reader, messages, follow, state.stopping));
    // Proxies must pass each event on at once.
    let headers = [("cache-control", "no-store"), ("x-accel-buffering", "no")];
    let stream = Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    (headers, stream).into_response()
}

/// Moves messages until the client, the log or the server ends.
async fn forward(
    mut reader: Reader,
    messages: mpsc::Sender<Result<Message, Infallible>>,
    follow: bool,
    mut stopping: Option<watch::Receiver<bool>>,
) {
    // The client learns at once that it listens.
    let hello = Message::default().comment("metacluster").retry(RETRY);
    if messages.send(Ok(hello)).await.is_err() {
        return;
    }
    loop {
        let next = if follow {
            tokio::select! {
                next = reader.next() => next,
                () = messages.closed() => return,
                () = until_stopping(&mut stopping) => return,
            }
        } else {
            match reader.try_next() {
                Some(next) => next,
                None => return,
            }
        };
        let Some(message) = message(&next, reader.epoch()) else { return };
        tokio::select! {
            sent = messages.send(Ok(message)) => if sent.is_err() { return },
            () = until_stopping(&mut stopping) => return,
        }
    }
}

/// Resolves when the server stops or is dropped, and never where there is none.
async fn until_stopping(stopping: &mut Option<watch::Receiver<bool>>) {
    match stopping {
        Some(stopping) => drop(stopping.wait_for(|stopping| *stopping).await),
        None => std::future::pending().await,
    }
}

fn message(next: &Next, epoch: u64) -> Option<Message> {
    match next {
        Next::Event(event) => {
            let id = Position { epoch: Some(epoch), seq: event.seq };
            let message = Message::default().id(id.to_string()).event(event.event.as_str());
            message.json_data(&**event).ok()
        }
        Next::Gap { from, to, restarted } => {
            let gap = Gap { from: *from, to: *to, restarted: *restarted };
            Message::default().event("gap").json_data(gap).ok()
        }
        Next::Closed => None,
    }
}
