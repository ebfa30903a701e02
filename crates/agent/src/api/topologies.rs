//! `PUT` and `DELETE /v1/topologies/{name}`: topologies that come, change and go while the agent runs.
//!
//! The body of a `PUT` is a topology in one line, as `--topology` takes it (`gossip:secret=s3,port=45892`). It is
//! validated as a whole before anything changes. A fault is one line each, and repeats no value.

use axum::{
    extract::{Path, State as Extract, rejection::StringRejection},
    http::StatusCode,
    response::Response,
};
use metacluster_discovery::{Value, spec::Spec};
use metacluster_types::TopologyName;
use serde::Serialize;
use tokio::sync::oneshot;

use super::{
    State,
    answers::{json, refusal},
};
use crate::{
    config::TopologyConfig,
    core::{Change, ChangeError, Command},
    view::VERSION,
};

#[derive(Serialize)]
struct Changed {
    version: u32,
    topology: TopologyName,
}

pub(super) async fn put(
    Extract(state): Extract<State>,
    Path(name): Path<String>,
    body: Result<String, StringRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return refusal(rejection.status(), rejection.body_text()),
    };
    match read(&name, &body) {
        Ok(config) => change(&state, config.name.clone(), Change::Put(Box::new(config))).await,
        Err(error) => refusal(StatusCode::BAD_REQUEST, error),
    }
}

pub(super) async fn remove(Extract(state): Extract<State>, Path(name): Path<String>) -> Response {
    match TopologyName::new(&name) {
        Ok(name) => change(&state, name.clone(), Change::Remove(name)).await,
        Err(error) => refusal(StatusCode::BAD_REQUEST, error.to_string()),
    }
}

fn read(name: &str, body: &str) -> Result<TopologyConfig, String> {
    let mut spec: Spec = body.trim().parse()?;
    match spec.settings.get("name") {
        None => drop(spec.settings.insert("name".to_owned(), Value::from(name))),
        Some(Value::Text(said)) if said == name => {}
        Some(_) => return Err(format!("the path names the topology `{name}`, and its `name` says otherwise")),
    }
    TopologyConfig::from_spec(spec)
        .map_err(|faults| faults.as_slice().iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

async fn change(state: &State, topology: TopologyName, change: Change) -> Response {
    let stopping = || refusal(StatusCode::SERVICE_UNAVAILABLE, ChangeError::Stopping.to_string());
    let Some(commands) = &state.commands else { return stopping() };
    let (done_in, done) = oneshot::channel();
    if commands.send(Command::Change { change, done: done_in }).await.is_err() {
        return stopping();
    }
    match done.await {
        Ok(Ok(())) => json(StatusCode::OK, &Changed { version: VERSION, topology }),
        Ok(Err(error)) => refusal(status(&error), error.to_string()),
        Err(_) => stopping(),
    }
}

fn status(error: &ChangeError) -> StatusCode {
    match error {
        ChangeError::Unknown(_) => StatusCode::NOT_FOUND,
        ChangeError::BuiltIn(_) => StatusCode::CONFLICT,
        ChangeError::Refused { .. } => StatusCode::BAD_REQUEST,
        ChangeError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    }
}
