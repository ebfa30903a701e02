//! What a strategy says: candidates, and how the set of them changed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{AgentId, NodeName, Place, Role, Tags};

/// A peer that a strategy found, with all that the source knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The peer.
    pub node: NodeName,
    /// Where it runs.
    #[serde(flatten)]
    pub place: Place,
    /// The agent that speaks for it. That agent dials too, so the other side may leave it the first try.
    #[serde(skip)]
    pub agent: Option<AgentId>,
    /// What its host is for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<Role>,
    /// Labels of its host.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

impl Candidate {
    /// A candidate of which only the name is known.
    #[must_use]
    pub fn new(node: NodeName) -> Self {
        Self { node, place: Place::default(), agent: None, roles: BTreeSet::new(), tags: Tags::new() }
    }
}

/// What a strategy pushes. A look-up that failed is no answer: it changes no candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceUpdate {
    /// The whole answer of a look-up: what is not in it has left the source.
    Snapshot(Vec<Candidate>),
    /// One candidate was seen, be it new or again. Seen again is a sign of life.
    Found(Candidate),
    /// One candidate left the source.
    Lost(NodeName),
    /// A look-up failed; the line says what failed and what to do.
    Failed(String),
}
