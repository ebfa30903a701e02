//! Events: what happened, in the one shape that every reader gets.

use serde::{Deserialize, Serialize};

use crate::{ClusterName, NodeName, Said, TopologyName, WallClock, Zone};

/// What happened. The names are those of the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A node is reachable from here.
    #[serde(rename = "nodeup")]
    NodeUp,
    /// A node is not reachable from here any more.
    #[serde(rename = "nodedown")]
    NodeDown,
    /// An agent joined.
    MemberJoin,
    /// An agent does not answer; others are being asked.
    MemberSuspect,
    /// An agent is held dead.
    MemberFailed,
    /// An agent left of its own will, or its provider ended it.
    MemberLeave,
    /// An agent's tags, roles or place changed.
    MemberUpdate,
    /// A strategy found a peer.
    CandidateFound,
    /// A peer left its source.
    CandidateLost,
    /// A topology's look-ups began to fail.
    TopologyError,
    /// A topology's look-ups succeed again.
    TopologyRecovered,
    /// A link to another cluster is up.
    ClusterLinked,
    /// A link to another cluster is down.
    ClusterUnlinked,
    /// A process joined a published group.
    GroupJoin,
    /// A process left a published group.
    GroupLeave,
    /// A user event: somebody told all agents something.
    User,
    /// A query: somebody asks this agent something.
    Query,
}

impl EventKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 17] = [
        Self::NodeUp,
        Self::NodeDown,
        Self::MemberJoin,
        Self::MemberSuspect,
        Self::MemberFailed,
        Self::MemberLeave,
        Self::MemberUpdate,
        Self::CandidateFound,
        Self::CandidateLost,
        Self::TopologyError,
        Self::TopologyRecovered,
        Self::ClusterLinked,
        Self::ClusterUnlinked,
        Self::GroupJoin,
        Self::GroupLeave,
        Self::User,
        Self::Query,
    ];

    /// The name of the JSON and of `[[handler]] on`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NodeUp => "nodeup",
            Self::NodeDown => "nodedown",
            Self::MemberJoin => "member_join",
            Self::MemberSuspect => "member_suspect",
            Self::MemberFailed => "member_failed",
            Self::MemberLeave => "member_leave",
            Self::MemberUpdate => "member_update",
            Self::CandidateFound => "candidate_found",
            Self::CandidateLost => "candidate_lost",
            Self::TopologyError => "topology_error",
            Self::TopologyRecovered => "topology_recovered",
            Self::ClusterLinked => "cluster_linked",
            Self::ClusterUnlinked => "cluster_unlinked",
            Self::GroupJoin => "group_join",
            Self::GroupLeave => "group_leave",
            Self::User => "user",
            Self::Query => "query",
        }
    }
}

/// Whom an event is about. A candidate's event names its topology too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// A node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// An agent, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// A topology.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<TopologyName>,
    /// What a user event or a query says.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub said: Option<Said>,
}

impl Subject {
    /// A node.
    #[must_use]
    pub fn node(node: NodeName) -> Self {
        Self { node: Some(node), ..Self::default() }
    }

    /// What an agent of this name says.
    #[must_use]
    pub fn said(member: String, said: Said) -> Self {
        Self { member: Some(member), said: Some(said), ..Self::default() }
    }

    /// A topology.
    #[must_use]
    pub fn topology(topology: TopologyName) -> Self {
        Self { topology: Some(topology), ..Self::default() }
    }

    /// A node as a topology has it.
    #[must_use]
    pub fn candidate(topology: TopologyName, node: NodeName) -> Self {
        Self { node: Some(node), topology: Some(topology), ..Self::default() }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up by one an event from 1, for as long as the agent's process lives.
    pub seq: u64,
    /// When this agent learned of it.
    pub at: WallClock,
    /// What happened.
    pub event: EventKind,
    /// Whom it is about.
    #[serde(flatten)]
    pub subject: Subject,
    /// The cluster that it happened in.
    pub cluster: ClusterName,
    /// The zone of the subject, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// Why, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_name_of_its_json() {
        for kind in EventKind::ALL {
            assert_eq!(serde_json_name(kind), kind.as_str());
        }
    }

    fn serde_json_name(kind: EventKind) -> String {
        serde_json::to_value(kind).expect("a name").as_str().expect("a text").to_owned()
    }

    #[test]
    fn an_event_has_the_documented_shape() {
        let event = Event {
            seq: 7,
            at: WallClock::new(std::time::SystemTime::UNIX_EPOCH),
            event: EventKind::NodeDown,
            subject: Subject::node(NodeName::new("a@b").expect("valid")),
            cluster: ClusterName::new("main").expect("valid"),
            zone: None,
            reason: Some("connection_closed".to_owned()),
        };
        assert_eq!(
            serde_json::to_string(&event).expect("json"),
            r#"{"seq":7,"at":"1970-01-01T00:00:00.000Z","event":"nodedown","node":"a@b","cluster":"main","reason":"connection_closed"}"#
        );
        let back: Event = serde_json::from_str(&serde_json::to_string(&event).expect("json")).expect("an event");
        assert_eq!(back, event);
    }

    #[test]
    fn a_user_event_has_the_documented_shape() {
        let said = Said { name: "deploy".to_owned(), payload: b"v1".to_vec(), from: crate::AgentId(7), query: None };
        let event = Event {
            seq: 7,
            at: WallClock::new(std::time::SystemTime::UNIX_EPOCH),
            event: EventKind::User,
            subject: Subject::said("web@b".to_owned(), said),
            cluster: ClusterName::new("main").expect("valid"),
            zone: None,
            reason: None,
        };
        let json = concat!(
            r#"{"seq":7,"at":"1970-01-01T00:00:00.000Z","event":"user","member":"web@b","#,
            r#""member_id":"00000000000000000000000000000007","name":"deploy","payload":"v1","cluster":"main"}"#
        );
        assert_eq!(serde_json::to_string(&event).expect("json"), json);
        assert_eq!(serde_json::from_str::<Event>(json).expect("an event"), event);
    }
}
