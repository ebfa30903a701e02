//! The nodes of this host as instances of the service, each with a check that this agent keeps up.
//!
//! Follows `/v1/agent/service/register`, `/v1/agent/check/pass/:check_id` and `/v1/agent/service/deregister/:service_id` of
//! Consul's API. An agent that dies leaves its instances critical after the check's TTL, and gone a little later.

use std::{
    collections::BTreeSet,
    future::pending,
    sync::{Arc, Mutex, PoisonError},
};

use metacluster_types::NodeName;
use serde_json::json;
use tokio::{
    sync::watch as channel,
    time::{Duration, Instant, sleep_until, timeout},
};

use super::query::{Query, escaped, rest};
use crate::{
    Local,
    http::{Client, Request},
    run::GRACE,
};

/// The shortest time after which Consul removes what is critical.
const DEREGISTER_MIN: Duration = Duration::from_secs(60);

/// What is registered, and how.
pub(super) struct Registration {
    client: Arc<Client>,
    query: Arc<Query>,
    ttl: Duration,
    registered: Mutex<BTreeSet<NodeName>>,
}

impl Registration {
    pub(super) fn new(client: Arc<Client>, query: Arc<Query>, ttl: Duration) -> Self {
        Self { client, query, ttl, registered: Mutex::default() }
    }

    /// Registers, renews and removes for as long as it is polled. The note says what cannot be done.
    pub(super) async fn keep_up(
        self: Arc<Self>,
        mut local: channel::Receiver<Local>,
        note: channel::Sender<Option<String>>,
    ) {
        loop {
            let wanted = local.borrow_and_update().clone();
            let outcome = self.bring_about(&wanted).await;
            let line = outcome.err().map(|line| format!("the nodes of this host are not registered: {line}"));
            note.send_if_modified(|old| {
                let changed = *old != line;
                *old = line;
                changed
            });
            let due = Instant::now() + self.ttl / 3;
            let nodes_changed = async {
                while local.changed().await.is_ok() {
                    if local.borrow_and_update().nodes != wanted.nodes {
                        return;
                    }
                }
                pending().await
            };
            tokio::select! {
                () = sleep_until(due) => {}
                () = nodes_changed => rest().await,
            }
        }
    }

    async fn bring_about(&self, local: &Local) -> Result<(), String> {
        let before = self.registered();
        for gone in before.difference(&local.nodes) {
            self.deregister(gone).await?;
        }
        for node in &local.nodes {
            if before.contains(node) && self.pass(node).await.is_ok() {
                continue;
            }
            // Not yet, or a Consul that was restarted has forgotten it.
            self.register(node, local).await?;
        }
        Ok(())
    }

    fn registered(&self) -> BTreeSet<NodeName> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn id(&self, node: &NodeName) -> String {
        format!("{}-{node}", self.query.service)
    }

    async fn put(&self, path: &str, body: String) -> Result<(), String> {
        let request = Request::put(&format!("{}{path}", self.query.address), body).within(self.query.within);
        self.query.send(&self.client, request, "write").await.map(drop)
    }

    async fn register(&self, node: &NodeName, local: &Local) -> Result<(), String> {
        let mut meta = json!({ "node": node.as_str(), "agent": local.agent.to_string() });
        if let Some(zone) = &local.place.zone {
            meta["zone"] = zone.as_str().into();
        }
        if let Some(region) = &local.place.region {
            meta["region"] = region.as_str().into();
        }
        let body = json!({
            "ID": self.id(node),
            "Name": self.query.service,
            "Tags": self.query.tags,
            "Address": node.host(),
            "Meta": meta,
            "Check": {
                "TTL": format!("{}ms", self.ttl.as_millis()),
                "Status": "passing",
                "DeregisterCriticalServiceAfter": format!("{}s", (self.ttl * 4).max(DEREGISTER_MIN).as_secs()),
            },
        });
        self.put("/v1/agent/service/register?replace-existing-checks=true", body.to_string()).await?;
        self.registered.lock().unwrap_or_else(PoisonError::into_inner).insert(node.clone());
        Ok(())
    }

    async fn pass(&self, node: &NodeName) -> Result<(), String> {
        self.put(&format!("/v1/agent/check/pass/{}", escaped(&format!("service:{}", self.id(node)))), String::new())
            .await
    }

    async fn deregister(&self, node: &NodeName) -> Result<(), String> {
        self.put(&format!("/v1/agent/service/deregister/{}", escaped(&self.id(node))), String::new()).await?;
        self.registered.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
        Ok(())
    }

    /// Removes all instances of this agent, as far as the time goes.
    pub(super) async fn leave(&self) {
        let all = async {
            for node in self.registered() {
                self.deregister(&node).await?;
            }
            Ok::<(), String>(())
        };
        if !matches!(timeout(GRACE * 4 / 5, all).await, Ok(Ok(()))) {
            tracing::debug!("an instance of this agent stays in Consul until its check is critical");
        }
    }
}
