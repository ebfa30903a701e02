//! The API: one router, served on a Unix socket (mode 0600) and on loopback HTTP (docs/contracts.md, HTTP).
//!
//! Invariants: it only reads the [`View`](crate::view::View) and the event log, so no request can hold up the core; the
//! requests that change anything (`POST`, `PUT`, `DELETE`) are taken on the Unix socket alone, since TCP cannot tell one local
//! user from another, and the core handles them between two events; a page in a browser can reach neither it nor what the agent knows, by whatever name it calls this
//! host.

mod answers;
mod bound;
mod gateway;
mod guard;
mod keys;
mod listen;
mod metrics;
mod page;
mod stream;
mod talk;
#[cfg(test)]
mod tests;
mod topologies;

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{delete, get, post, put},
};
use tokio::sync::{mpsc, watch};

use crate::{core::Command, events::EventLog, federation, handlers::Stats, talk::Talk, view::ViewReceiver};

pub use listen::{BindError, Listeners, Server};

/// The longest body of a request.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The paths there are, as an unknown path's answer lists them.
pub const PATHS: [&str; 25] = [
    "GET /",
    "GET /healthz",
    "GET /metrics",
    "GET /readyz",
    "GET /v1/agent",
    "GET /v1/clusters",
    "GET /v1/events",
    "GET /v1/federation",
    "GET /v1/members",
    "GET /v1/nodes",
    "GET /v1/services",
    "GET /v1/topologies",
    "GET /v1/keys",
    "GET /v1/tags",
    "POST /v1/events",
    "POST /v1/keys",
    "POST /v1/federation/allow",
    "POST /v1/federation/cut",
    "POST /v1/leave",
    "POST /v1/queries",
    "PUT /v1/tags",
    "DELETE /v1/keys/{id}",
    "DELETE /v1/tags/{key}",
    "DELETE /v1/topologies/{name}",
    "PUT /v1/topologies/{name}",
];

/// What `POST /v1/leave` asks of the core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Leave {
    /// Whether the nodes of this host leave their mesh first, by `global:disconnect/0`.
    pub nodes: bool,
}

/// What the API answers from.
#[derive(Clone, Debug)]
pub struct State {
    view: ViewReceiver,
    events: EventLog,
    handlers: Arc<Stats>,
    leave: mpsc::Sender<Leave>,
    talk: Talk,
    federation: federation::Handle,
    /// Where changes of topologies go; a router without an agent has none.
    commands: Option<mpsc::Sender<Command>>,
    started: Instant,
    /// Where the server says that it stops; a router without a server has none.
    stopping: Option<watch::Receiver<bool>>,
}

impl State {
    /// Everything that there is to answer from. A message on `leave` asks the core to leave; one place in the channel
    /// is enough, since asking again changes nothing.
    #[must_use]
    pub fn new(view: ViewReceiver, events: EventLog, handlers: Arc<Stats>, leave: mpsc::Sender<Leave>) -> Self {
        Self {
            view,
            events,
            handlers,
            leave,
            talk: Talk::nowhere(),
            federation: federation::Handle::default(),
            commands: None,
            started: Instant::now(),
            stopping: None,
        }
    }

    /// The same, with a way to the other members.
    #[must_use]
    pub fn with_talk(self, talk: Talk) -> Self {
        Self { talk, ..self }
    }

    /// With the gateway of this agent, if it becomes one.
    #[must_use]
    pub fn with_federation(self, federation: federation::Handle) -> Self {
        Self { federation, ..self }
    }

    /// With an agent whose topologies can be changed.
    pub(crate) fn with_commands(self, commands: mpsc::Sender<Command>) -> Self {
        Self { commands: Some(commands), ..self }
    }
}

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Over the Unix socket, whose mode says who may.
    Unix,
    /// Over loopback TCP: any user and any browser page of this host.
    Loopback,
}

/// The router, with what its transport asks for.
pub fn router(state: State, transport: Transport) -> Router {
    let router = Router::new()
        .route("/", get(page::page))
        .route("/healthz", get(answers::health))
        .route("/metrics", get(metrics::metrics))
        .route("/readyz", get(answers::ready))
        .route("/v1/agent", get(answers::agent))
        .route("/v1/clusters", get(answers::clusters))
        .route("/v1/events", get(stream::events))
        .route("/v1/federation", get(gateway::status))
        .route("/v1/federation/allow", post(gateway::allow))
        .route("/v1/federation/cut", post(gateway::cut))
        .route("/v1/members", get(answers::members))
        .route("/v1/nodes", get(answers::nodes))
        .route("/v1/services", get(gateway::services))
        .route("/v1/topologies", get(answers::topologies))
        .route("/v1/events", post(talk::event))
        .route("/v1/keys", get(keys::list).post(keys::order))
        .route("/v1/keys/{id}", delete(keys::remove))
        .route("/v1/leave", post(answers::leave))
        .route("/v1/queries", post(talk::query))
        .route("/v1/tags", get(talk::tags).put(talk::set_tags))
        .route("/v1/tags/{key}", delete(talk::unset_tag))
        .route("/v1/topologies/{name}", put(topologies::put).delete(topologies::remove))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .fallback(answers::unknown)
        .method_not_allowed_fallback(answers::wrong_method)
        .with_state(state);
    match transport {
        Transport::Unix => router,
        Transport::Loopback => router.layer(middleware::from_fn(guard::loopback)),
    }
}
