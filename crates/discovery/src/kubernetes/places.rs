//! The zones and regions of nodes, from their labels: asked for when a node is met that is not known, if the rights allow.
//!
//! Invariant: it is an extra. Without the right to list nodes one line is logged, and all else goes on.

use std::{collections::BTreeMap, sync::Arc};

use metacluster_types::Place;
use tokio::{
    task::JoinSet,
    time::{Duration, Instant},
};

use super::{
    api::Api,
    machine::{PAGE, Request},
    object::{self, Item, Node},
    peers::{self, Peer},
    problem::Problem,
    scope::{Resource, Scope, Verb},
};

/// The shortest time between two lists of nodes.
const REST: Duration = Duration::from_secs(30);
/// The time between two lists while they fail.
const REST_FAILED: Duration = Duration::from_secs(600);
/// How many nodes are kept.
const NODES_MAX: usize = 10_000;
/// Only the metadata of nodes is wanted: their status is large, and changes all the time.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

type Known = BTreeMap<String, Place>;

/// What is known of nodes.
#[derive(Debug)]
pub(super) struct Places {
    known: Known,
    asked: JoinSet<Result<Known, Problem>>,
    next: Instant,
    said: bool,
}

impl Places {
    pub(super) fn new() -> Self {
        Self { known: Known::new(), asked: JoinSet::new(), next: Instant::now(), said: false }
    }

    /// Adds what is known of the nodes of these peers, and asks if there is one that is not known.
    pub(super) fn complete(&mut self, api: &Arc<Api>, peers: &mut [Peer]) {
        let mut met = false;
        for peer in peers {
            let place = &mut peer.host.place;
            let Some(node) = &peer.node else { continue };
            if place.zone.is_some() && place.region.is_some() {
                continue;
            }
            match self.known.get(node) {
                Some(known) => {
                    place.zone = place.zone.take().or_else(|| known.zone.clone());
                    place.region = known.region.clone();
                }
                None => met = true,
            }
        }
        if met && self.asked.is_empty() && Instant::now() >= self.next {
            self.next = Instant::now() + REST;
            self.asked.spawn(list(Arc::clone(api)));
        }
    }

    /// Waits until nodes were listed; for ever, if none are asked for.
    pub(super) async fn listed(&mut self) {
        let Some(listed) = self.asked.join_next().await else { return std::future::pending().await };
        match listed {
            Ok(Ok(known)) => self.known = known,
            Ok(Err(problem)) => {
                self.next = Instant::now() + REST_FAILED;
                if !std::mem::replace(&mut self.said, true) {
                    let line = problem.line(&nodes());
                    tracing::info!("zones and regions are not read from the nodes' labels (`node_labels`): {line}");
                }
            }
            Err(error) => tracing::error!(%error, "the list of nodes failed, by a fault of metacluster"),
        }
    }
}

fn nodes() -> Scope {
    Scope { resource: Resource::Nodes, namespace: None, labels: String::new(), fields: String::new() }
}

async fn list(api: Arc<Api>) -> Result<Known, Problem> {
    let mut known = Known::new();
    let mut next = String::new();
    loop {
        let path = nodes().path(&Request::List { limit: Some(PAGE), next }, Duration::ZERO);
        let bytes = api.get(Verb::List, &path, METADATA).await?;
        let page = object::page::<Node>(&bytes).map_err(|error| Problem::Garbage(error.to_string()))?;
        for item in page.items {
            if let Item::Known(node) = item {
                known.insert(node.metadata.name, peers::place(&node.metadata.labels));
            }
        }
        next = page.metadata.next;
        if next.is_empty() || known.len() >= NODES_MAX {
            return Ok(known);
        }
    }
}
