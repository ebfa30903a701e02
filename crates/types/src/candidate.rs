//! What a strategy says: hosts and candidates, and how the set of them changed.

use serde::{Deserialize, Serialize};

use crate::{AgentId, Host, NodeName};

/// A peer that a strategy found, with all that the source knows of its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The peer.
    pub node: NodeName,
    /// The agent that speaks for it. That agent dials too, so the other side may leave it the first try.
    #[serde(skip)]
    pub agent: Option<AgentId>,
    /// Where it runs.
    #[serde(flatten)]
    pub host: Host,
}

impl Candidate {
    /// A candidate of which only the name is known.
    #[must_use]
    pub fn new(node: NodeName) -> Self {
        Self { node, agent: None, host: Host::default() }
    }
}

/// What a strategy pushes. A look-up that failed is no answer: it changes no candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceUpdate {
    /// The whole answer of a look-up: what is not in it has left the source.
    Snapshot(Vec<Candidate>),
    /// Every host that the source lists, whether it is known which nodes it runs or not, and those that it says have
    /// ended. Agents find one another by them. They are no candidates; a source that lists hosts says so before the
    /// snapshot of the same answer.
    Hosts(Vec<Host>),
    /// One candidate was seen, be it new or again. Seen again is a sign of life.
    Found(Candidate),
    /// One candidate left the source.
    Lost(NodeName),
    /// What is to be known of the answers from now on, a line each: a part of the source that failed and stands as it was,
    /// a record that cannot be read. None says that all is well. It changes no candidate.
    Notes(Vec<String>),
    /// A look-up failed; the line says what failed and what to do.
    Failed(String),
}
