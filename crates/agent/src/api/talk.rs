//! `POST /v1/events` and `/v1/queries`, and `/v1/tags`: what is told to, and asked of, all members.
//!
//! Invariant: what a person or a program sends is checked, and refused in one line, before any of it goes out.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Path, State as Extract, rejection::JsonRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use metacluster_membership::{Ask, Filter, UserError};
use metacluster_types::{AgentId, Role, Tags, said, time::parse_duration};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use super::{
    State,
    answers::{json, refusal},
};
use crate::{
    talk::{
        INTERNAL, NobodyThere, Told, Who,
        view::{EventSent, QueryAnswer, QueryEnd, QueryLine, TagsAnswer},
    },
    view::VERSION,
};

/// How long a query takes when nothing else is said.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);
/// Lines between the members' task and the connection.
const LINES: usize = 64;

/// What is to be told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventAsk {
    name: String,
    payload: Option<String>,
    payload_base64: Option<String>,
}

/// What is to be asked, and of whom.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QueryAsk {
    name: String,
    payload: Option<String>,
    payload_base64: Option<String>,
    timeout: Option<String>,
    /// Names and ids.
    #[serde(default)]
    members: Vec<String>,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    tags: Tags,
}

/// Why a request is not done: one line.
pub(super) struct Refused(pub(super) StatusCode, pub(super) String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        refusal(self.0, self.1)
    }
}

/// A body as it should be, or the refusal.
pub(super) fn body<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Refused> {
    body.map(|Json(body)| body).map_err(|rejection| Refused(rejection.status(), rejection.body_text()))
}

/// A refusal of the machine.
pub(super) fn refused(error: UserError) -> Refused {
    let status = if error == UserError::TooMany {
        StatusCode::TOO_MANY_REQUESTS
    } else if error == UserError::Left {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::BAD_REQUEST
    };
    Refused(status, error.to_string())
}

pub(super) fn nobody(error: NobodyThere) -> Refused {
    Refused(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

fn bad(error: impl Into<String>) -> Refused {
    Refused(StatusCode::BAD_REQUEST, error.into())
}

fn name(name: String) -> Result<String, Refused> {
    if name.starts_with(INTERNAL) {
        return Err(bad(format!("names that begin with {INTERNAL} are the program's own")));
    }
    Ok(name)
}

pub(super) async fn event(Extract(state): Extract<State>, ask: Result<Json<EventAsk>, JsonRejection>) -> Response {
    send(&state, ask).await.unwrap_or_else(IntoResponse::into_response)
}

async fn send(state: &State, ask: Result<Json<EventAsk>, JsonRejection>) -> Result<Response, Refused> {
    let ask = body(ask)?;
    let payload = said::bytes(ask.payload.as_deref(), ask.payload_base64.as_deref()).map_err(bad)?;
    let sent = state.talk.event(name(ask.name)?, payload).await.map_err(nobody)?;
    let sequence = sent.map_err(refused)?;
    Ok(json(StatusCode::ACCEPTED, &EventSent { version: VERSION, sequence }))
}

pub(super) async fn query(Extract(state): Extract<State>, ask: Result<Json<QueryAsk>, JsonRejection>) -> Response {
    ask_all(&state, ask).await.unwrap_or_else(IntoResponse::into_response)
}

async fn ask_all(state: &State, ask: Result<Json<QueryAsk>, JsonRejection>) -> Result<Response, Refused> {
    let ask = body(ask)?;
    let payload = said::bytes(ask.payload.as_deref(), ask.payload_base64.as_deref()).map_err(bad)?;
    let timeout = match ask.timeout.as_deref().map(parse_duration) {
        Some(Ok(timeout)) => timeout,
        Some(Err(error)) => return Err(bad(format!("timeout: {error}"))),
        None => TIMEOUT_DEFAULT,
    };
    let mut filter = Filter { tags: ask.tags, ..Filter::default() };
    for member in ask.members {
        match member.parse::<AgentId>() {
            Ok(id) => drop(filter.ids.insert(id)),
            Err(_) => drop(filter.names.insert(member)),
        }
    }
    for role in ask.roles {
        filter.roles.insert(Role::new(&role).map_err(|error| bad(format!("roles: {error}")))?);
    }
    let ask = Ask { name: name(ask.name)?, payload, filter, timeout, acks: false };
    let told = state.talk.ask(ask).await.map_err(nobody)?.map_err(refused)?;
    let (lines_in, lines) = mpsc::channel(LINES);
    tokio::spawn(forward(told, lines_in));
    let body = Body::from_stream(ReceiverStream::new(lines).map(Ok::<_, Infallible>));
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((StatusCode::OK, headers, body).into_response())
}

/// Moves what comes of a query to the connection, as lines. When the connection ends, so does the query.
async fn forward(mut told: mpsc::Receiver<Told>, lines: mpsc::Sender<String>) {
    let (mut answers, mut declines) = (0, 0);
    loop {
        let told = tokio::select! {
            told = told.recv() => told,
            () = lines.closed() => return,
        };
        let Some(told) = told else { return };
        let ends = matches!(told, Told::Ends { .. });
        let line = match told {
            Told::Answer { from, payload } => {
                answers += 1;
                let (payload, payload_base64) = said::texts(&payload);
                QueryLine::Answer(QueryAnswer { payload, payload_base64, ..answer(from) })
            }
            Told::Declined(from) => {
                declines += 1;
                QueryLine::Answer(QueryAnswer { declined: true, ..answer(from) })
            }
            Told::Ends { silent, dropped } => {
                let silent = silent.into_iter().map(|who| who.name).collect();
                QueryLine::End(QueryEnd { version: VERSION, ended: true, answers, declined: declines, silent, dropped })
            }
        };
        if lines.send(text(&line)).await.is_err() || ends {
            return;
        }
    }
}

fn answer(from: Who) -> QueryAnswer {
    QueryAnswer {
        version: VERSION,
        member: from.name,
        member_id: from.id,
        payload: None,
        payload_base64: None,
        declined: false,
    }
}

fn text(line: &impl Serialize) -> String {
    serde_json::to_string(line).unwrap_or_default() + "\n"
}

pub(super) async fn tags(Extract(state): Extract<State>) -> Response {
    change(&state, BTreeMap::new()).await
}

pub(super) async fn set_tags(
    Extract(state): Extract<State>,
    ask: Result<Json<BTreeMap<String, Option<String>>>, JsonRejection>,
) -> Response {
    match body(ask) {
        Ok(wanted) if wanted.keys().any(|key| key.is_empty()) => bad("a tag has a name").into_response(),
        Ok(wanted) => change(&state, wanted).await,
        Err(refused) => refused.into_response(),
    }
}

pub(super) async fn unset_tag(Extract(state): Extract<State>, Path(key): Path<String>) -> Response {
    change(&state, BTreeMap::from([(key, None)])).await
}

async fn change(state: &State, wanted: BTreeMap<String, Option<String>>) -> Response {
    match state.talk.tags(wanted).await {
        Ok(Ok(tags)) => json(StatusCode::OK, &TagsAnswer { version: VERSION, tags }),
        Ok(Err(error)) => bad(error.to_string()).into_response(),
        Err(error) => nobody(error).into_response(),
    }
}
