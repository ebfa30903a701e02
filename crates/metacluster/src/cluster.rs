//! A cluster as seen from this host.

use std::sync::Arc;

use metacluster_agent::{
    core::Agent,
    view::{NodeView, View},
};
use tokio::sync::watch;

use crate::{Builder, Events};

/// A running cluster, as seen from this host. Dropping it ends it at once, without a goodbye; [`Cluster::leave`] says
/// goodbye.
pub struct Cluster {
    agent: Agent,
}

impl Cluster {
    /// Begins to say what the cluster is to be.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn new(agent: Agent) -> Self {
        Self { agent }
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        Events::new(self.agent.events(None))
    }

    /// What happened after the event numbered `seq`, and happens from now on; 0 begins with the oldest that is kept.
    pub fn events_since(&self, seq: u64) -> Events {
        Events::new(self.agent.events(Some(seq)))
    }

    /// Every node that is known, ours and our peers.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeView> {
        self.view().nodes.clone()
    }

    /// All that is so now: nodes, topologies with their candidates, readiness, counters.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.agent.view()
    }

    /// All that is so, as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.agent.watch()
    }

    /// Whether as many nodes are up as `readiness.nodes_min` and `readiness.mandatory` ask for.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.view().readiness.ready
    }

    /// Waits until [`Cluster::is_ready`]. Safe to cancel; without a limit of its own.
    pub async fn ready(&self) {
        // An error says that the cluster ends, and its owner is here: then it will never be ready.
        if self.watch().wait_for(|view| view.readiness.ready).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Says goodbye and ends. The nodes of this host keep the links that they have.
    pub async fn leave(self) {
        self.agent.leave(false).await;
    }
}
