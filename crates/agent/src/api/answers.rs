//! The JSON answers.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State as Extract, rejection::QueryRejection},
    http::{Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tokio::sync::mpsc::error::TrySendError;

use super::{Leave, PATHS, State};
use crate::view::{
    AgentAnswer, AgentView, ClusterView, ClustersAnswer, ErrorAnswer, LeaveAnswer, MembersAnswer, NodesAnswer,
    ReadyAnswer, TopologiesAnswer, VERSION, View,
};

/// An answer that no cache keeps.
pub(super) fn json(status: StatusCode, answer: &impl Serialize) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}

/// A refusal.
pub(super) fn refusal(status: StatusCode, error: impl Into<String>) -> Response {
    json(status, &ErrorAnswer { version: VERSION, error: error.into(), paths: Vec::new() })
}

impl State {
    pub(super) fn current(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    pub(super) fn uptime_seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}

pub(super) async fn nodes(Extract(state): Extract<State>) -> Response {
    json(StatusCode::OK, &NodesAnswer { version: VERSION, nodes: state.current().nodes.clone() })
}

pub(super) async fn members(Extract(state): Extract<State>) -> Response {
    let view = state.current();
    let answer = MembersAnswer { version: VERSION, members: view.members.clone(), counters: view.member_counters };
    json(StatusCode::OK, &answer)
}

pub(super) async fn topologies(Extract(state): Extract<State>) -> Response {
    json(StatusCode::OK, &TopologiesAnswer { version: VERSION, topologies: state.current().topologies.clone() })
}

pub(super) async fn clusters(Extract(state): Extract<State>) -> Response {
    let mut clusters = state.current().clusters.clone();
    // Of the nodes of others nothing is known.
    for gateway in state.federation.status().into_iter().flat_map(|answer| answer.gateways) {
        if gateway.linked && !clusters.iter().any(|cluster| cluster.name == gateway.cluster) {
            clusters.push(ClusterView { name: gateway.cluster, own: false, nodes_up: 0, nodes: 0 });
        }
    }
    json(StatusCode::OK, &ClustersAnswer { version: VERSION, clusters })
}

pub(super) async fn agent(Extract(state): Extract<State>) -> Response {
    let view = state.current();
    let agent = AgentView { uptime_seconds: state.uptime_seconds(), ..view.agent.clone() };
    let readiness = view.readiness.clone();
    json(StatusCode::OK, &AgentAnswer { version: VERSION, agent, readiness, counters: view.counters })
}

/// The agent lives, or nobody would answer.
pub(super) async fn health() -> Response {
    #[derive(Serialize)]
    struct Health {
        version: u32,
        ok: bool,
    }
    json(StatusCode::OK, &Health { version: VERSION, ok: true })
}

pub(super) async fn ready(Extract(state): Extract<State>) -> Response {
    let readiness = state.current().readiness.clone();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &ReadyAnswer { version: VERSION, readiness })
}

pub(super) async fn leave(Extract(state): Extract<State>, ask: Result<Query<Leave>, QueryRejection>) -> Response {
    let Ok(Query(leave)) = ask else {
        return refusal(StatusCode::BAD_REQUEST, "expected /v1/leave, or /v1/leave?nodes=true");
    };
    match state.leave.try_send(leave) {
        // A full channel: somebody asked a moment ago.
        Ok(()) | Err(TrySendError::Full(_)) => {
            json(StatusCode::ACCEPTED, &LeaveAnswer { version: VERSION, leaving: true })
        }
        Err(TrySendError::Closed(_)) => {
            refusal(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping already, and cannot leave any more")
        }
    }
}

pub(super) async fn unknown(uri: Uri) -> Response {
    // The path is the caller's, of any length; JSON escapes the rest.
    let path: String = uri.path().chars().take(200).collect();
    let near = PATHS
        .iter()
        .filter_map(|entry| entry.split_once(' ').map(|(_, known)| known))
        .min_by_key(|known| strsim::damerau_levenshtein(known, &path))
        .filter(|known| strsim::damerau_levenshtein(known, &path) <= 3 && known.len() > 1)
        .map_or_else(String::new, |known| format!(": did you mean {known}?"));
    let answer = ErrorAnswer {
        version: VERSION,
        error: format!("there is no {path}{near}"),
        paths: PATHS.map(ToOwned::to_owned).into(),
    };
    json(StatusCode::NOT_FOUND, &answer)
}

pub(super) async fn wrong_method(method: Method, uri: Uri) -> Response {
    let right = PATHS.iter().find(|entry| entry.split_once(' ').is_some_and(|(_, path)| path == uri.path()));
    let error = format!("{method} is not for {}: use {}", uri.path(), right.unwrap_or(&"GET"));
    refusal(StatusCode::METHOD_NOT_ALLOWED, error)
}
