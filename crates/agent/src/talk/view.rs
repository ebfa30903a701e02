//! The shapes of the JSON that talk is told in (docs/contracts.md, HTTP).

use std::collections::BTreeMap;

use metacluster_types::{AgentId, Tags, said};
use serde::{Deserialize, Serialize};

/// The answer to `POST /v1/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventSent {
    /// The version of the shapes.
    pub version: u32,
    /// Which of this agent's user events it is, since its start.
    pub sequence: u32,
}

/// A line of the answer to `POST /v1/queries`: a member's answer, that it has none, or, last, the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum QueryLine {
    /// The end.
    End(QueryEnd),
    /// What one member said.
    Answer(QueryAnswer),
}

/// What one member said to a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryAnswer {
    /// The version of the shapes.
    pub version: u32,
    /// Its name.
    pub member: String,
    /// Its id.
    pub member_id: AgentId,
    /// The answer, if it is a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// The answer, if it is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// Whether it has nothing to say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub declined: bool,
}

impl QueryAnswer {
    /// The bytes of the answer.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn bytes(&self) -> Result<Vec<u8>, String> {
        said::bytes(self.payload.as_deref(), self.payload_base64.as_deref())
    }
}

/// How a query ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryEnd {
    /// The version of the shapes.
    pub version: u32,
    /// True.
    pub ended: bool,
    /// How many answered.
    pub answers: usize,
    /// How many had nothing to say.
    pub declined: usize,
    /// Members that said nothing at all, by name.
    pub silent: Vec<String>,
    /// Answers that were dropped, since nobody took them.
    pub dropped: u64,
}

/// The answer to `/v1/tags`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagsAnswer {
    /// The version of the shapes.
    pub version: u32,
    /// The tags of this agent now.
    pub tags: Tags,
}

/// The answer to `/v1/keys`: what the members have, and who did not do what was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysAnswer {
    /// The version of the shapes.
    pub version: u32,
    /// How many members were asked.
    pub members: usize,
    /// The keys that they have.
    pub keys: Vec<KeyCount>,
    /// How many have each policy.
    pub policies: BTreeMap<String, usize>,
    /// Members that did it, by name.
    pub done: Vec<String>,
    /// Those that did not.
    pub failed: Vec<KeyFailure>,
}

/// A key, by its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCount {
    /// Its id.
    pub id: String,
    /// How many members have it.
    pub installed: usize,
    /// How many seal with it.
    pub used: usize,
}

/// A member that did not do what it was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFailure {
    /// Its name.
    pub member: String,
    /// Its id.
    pub member_id: AgentId,
    /// Why.
    pub error: String,
}
