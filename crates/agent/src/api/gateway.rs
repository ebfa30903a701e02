//! What is asked of the gateway: how its links are, the services of all clusters, and to cut a cluster off or let it in again.

use axum::{
    extract::{Query, State as Extract, rejection::QueryRejection},
    http::StatusCode,
    response::Response,
};
use metacluster_types::ClusterName;
use serde::{Deserialize, Serialize};

use super::{
    State,
    answers::{json, refusal},
};
use crate::view::VERSION;

/// Which cluster.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    cluster: ClusterName,
}

#[derive(Serialize)]
struct Done {
    version: u32,
    cluster: ClusterName,
    changed: bool,
}

const NO_GATEWAY: &str = "this agent is no gateway, or has no local node yet: see `[federation]`";

pub(super) async fn status(Extract(state): Extract<State>) -> Response {
    match state.federation.status() {
        Some(answer) => json(StatusCode::OK, &answer),
        None => refusal(StatusCode::SERVICE_UNAVAILABLE, NO_GATEWAY),
    }
}

pub(super) async fn services(Extract(state): Extract<State>) -> Response {
    match state.federation.services() {
        Some(answer) => json(StatusCode::OK, &answer),
        None => refusal(StatusCode::SERVICE_UNAVAILABLE, NO_GATEWAY),
    }
}

pub(super) async fn cut(Extract(state): Extract<State>, which: Result<Query<Which>, QueryRejection>) -> Response {
    let Ok(Query(Which { cluster })) = which else {
        return refusal(StatusCode::BAD_REQUEST, "expected /v1/federation/cut?cluster=NAME");
    };
    if state.federation.cut(&cluster) {
        json(StatusCode::OK, &Done { version: VERSION, cluster, changed: true })
    } else {
        refusal(StatusCode::SERVICE_UNAVAILABLE, NO_GATEWAY)
    }
}

pub(super) async fn allow(Extract(state): Extract<State>, which: Result<Query<Which>, QueryRejection>) -> Response {
    let Ok(Query(Which { cluster })) = which else {
        return refusal(StatusCode::BAD_REQUEST, "expected /v1/federation/allow?cluster=NAME");
    };
    let changed = state.federation.allow(&cluster);
    json(StatusCode::OK, &Done { version: VERSION, cluster, changed })
}
