//! `static`: nodes that are given. They are candidates at once and for good.

use std::sync::Arc;

use metacluster_types::{Candidate, NodeName, SourceUpdate};

use crate::{
    Feed, Strategy,
    feed::Work,
    settings::{Absent, Key, Kind, Reader},
};

pub(crate) const KEYS: &[Key] =
    &[Key { name: "nodes", kind: Kind::Nodes, absent: Absent::Required, doc: "The nodes, each as name@host" }];

/// A list of nodes that never changes.
#[derive(Clone, Debug)]
pub struct Static {
    nodes: Vec<NodeName>,
}

impl Static {
    /// The nodes, taken as they are.
    #[must_use]
    pub fn new(nodes: Vec<NodeName>) -> Self {
        Self { nodes }
    }
}

pub(crate) fn make(reader: &mut Reader<'_>) -> Box<dyn Strategy> {
    Box::new(Static::new(reader.nodes("nodes")))
}

impl Strategy for Static {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move {
            let candidates = self.nodes.iter().cloned().map(Candidate::new).collect();
            feed.push(SourceUpdate::Snapshot(candidates)).await;
            feed.stopped().await;
        })
    }
}
