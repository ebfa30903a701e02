//! Which nodes are up, as this host sees them.
//!
//! A node is up while it is a local node that holds our connection, or while a local node is linked to it: its
//! witnesses. When the last *link* goes, the node is down. When the last *witness* goes, nothing has been learned of
//! the node itself, so it stays as it was for [`Picture::ORPHAN_GRACE`]; a witness that comes back and does not see it
//! settles the matter. Invariant: for one node, the changes that are returned alternate between up and down.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use metacluster_types::{Instant, NodeName};

/// A node went up or down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Whose state changed.
    pub(crate) node: NodeName,
    /// The new state.
    pub(crate) up: bool,
    /// Why, where it is known.
    pub(crate) reason: Option<String>,
}

/// What is known of one node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    /// It runs on this host and holds our connection.
    pub(crate) local: bool,
    /// Whether it is a program of ours rather than a BEAM; known for local nodes.
    pub(crate) rust: bool,
    /// Its OTP release; known for local nodes.
    pub(crate) otp: Option<String>,
    /// The local nodes that are linked to it.
    pub(crate) witnesses: BTreeSet<NodeName>,
    /// The state that was last told.
    pub(crate) up: bool,
    /// When its last witness went away without a word on it.
    orphaned: Option<Instant>,
}

/// Every node that was ever seen, up or down. Bounded: see [`Picture::DOWN_KEPT`].
#[derive(Debug, Default)]
pub(crate) struct Picture {
    nodes: BTreeMap<NodeName, Entry>,
    /// Nodes that are down, oldest first.
    down: std::collections::VecDeque<NodeName>,
}

impl Picture {
    /// How long a node without a witness keeps its state.
    pub(crate) const ORPHAN_GRACE: Duration = Duration::from_secs(10);
    /// How many nodes that are down are remembered; the oldest is forgotten first.
    pub(crate) const DOWN_KEPT: usize = 1_000;

    /// A local node holds our connection.
    pub(crate) fn local_ready(&mut self, node: &NodeName, otp: Option<String>, rust: bool) -> Vec<Change> {
        let entry = self.nodes.entry(node.clone()).or_default();
        entry.local = true;
        entry.rust = rust;
        entry.otp = otp;
        self.settle(node, None)
    }

    /// Our connection to a local node ended, and with it all that the node told us.
    pub(crate) fn local_gone(&mut self, now: Instant, node: &NodeName, reason: &str) -> Vec<Change> {
        if let Some(entry) = self.nodes.get_mut(node) {
            entry.local = false;
        }
        for (name, entry) in &mut self.nodes {
            let was_witness = entry.witnesses.remove(node);
            if was_witness && name != node && entry.witnesses.is_empty() && !entry.local {
                entry.orphaned = Some(now);
            }
        }
        self.settle(node, Some(reason))
    }

    /// A local node is linked to a peer.
    pub(crate) fn link_up(&mut self, local: &NodeName, peer: &NodeName) -> Vec<Change> {
        self.nodes.entry(peer.clone()).or_default().witnesses.insert(local.clone());
        self.settle(peer, None)
    }

    /// A local node lost its link to a peer.
    pub(crate) fn link_down(&mut self, local: &NodeName, peer: &NodeName, reason: &str) -> Vec<Change> {
        let seen = self.nodes.get_mut(peer).is_some_and(|entry| entry.witnesses.remove(local));
        if seen { self.settle(peer, Some(reason)) } else { Vec::new() }
    }

    /// Declares down what has been without a witness for too long.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Change> {
        let late: Vec<NodeName> = self
            .nodes
            .iter()
            .filter(|(_, entry)| entry.orphaned.is_some_and(|at| now.since(at) >= Self::ORPHAN_GRACE))
            .map(|(name, _)| name.clone())
            .collect();
        late.iter()
            .flat_map(|name| {
                if let Some(entry) = self.nodes.get_mut(name) {
                    entry.orphaned = None;
                }
                self.settle(name, Some("no local node is left to see it"))
            })
            .collect()
    }

    /// When [`Picture::expire`] has work next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.nodes.values().filter_map(|entry| entry.orphaned).min().map(|at| at + Self::ORPHAN_GRACE)
    }

    /// A local node has told all its links: what it does not see, and no one else does, is no orphan any more.
    pub(crate) fn links_told(&mut self, local: &NodeName, linked: &BTreeSet<NodeName>) -> Vec<Change> {
        let orphans: Vec<NodeName> = self
            .nodes
            .iter()
            .filter(|(name, entry)| entry.orphaned.is_some() && !linked.contains(*name) && *name != local)
            .map(|(name, _)| name.clone())
            .collect();
        // A restarted node has no link yet: it gets the rest of the grace to make them.
        if linked.is_empty() {
            return Vec::new();
        }
        orphans
            .iter()
            .flat_map(|name| {
                if let Some(entry) = self.nodes.get_mut(name) {
                    entry.orphaned = None;
                }
                self.settle(name, Some("not linked to any local node"))
            })
            .collect()
    }

    /// All nodes, in order.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&NodeName, &Entry)> {
        self.nodes.iter()
    }

    /// One node.
    pub(crate) fn entry(&self, node: &NodeName) -> Option<&Entry> {
        self.nodes.get(node)
    }

    /// Compares what is so with what was told.
    fn settle(&mut self, node: &NodeName, reason: Option<&str>) -> Vec<Change> {
        let Some(entry) = self.nodes.get_mut(node) else { return Vec::new() };
        if entry.local || !entry.witnesses.is_empty() {
            entry.orphaned = None;
        }
        let up = entry.local || !entry.witnesses.is_empty() || entry.orphaned.is_some();
        if up == entry.up {
            return Vec::new();
        }
        entry.up = up;
        if up {
            self.down.retain(|name| name != node);
        } else {
            self.down.push_back(node.clone());
            if self.down.len() > Self::DOWN_KEPT
                && let Some(oldest) = self.down.pop_front()
            {
                self.nodes.remove(&oldest);
            }
        }
        vec![Change { node: node.clone(), up, reason: reason.map(str::to_owned) }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).expect("valid")
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn a_node_is_up_while_one_local_node_is_linked_to_it() {
        let mut picture = Picture::default();
        let (a, b, far) = (node("a@h"), node("b@h"), node("far@x"));
        picture.local_ready(&a, None, false);
        picture.local_ready(&b, None, false);
        assert_eq!(picture.link_up(&a, &far).len(), 1);
        assert_eq!(picture.link_up(&b, &far), []);
        assert_eq!(picture.link_down(&a, &far, "cut"), []);
        let down = picture.link_down(&b, &far, "cut");
        assert_eq!(down, [Change { node: far, up: false, reason: Some("cut".to_owned()) }]);
    }

    #[test]
    fn a_witness_that_goes_says_nothing_of_what_it_saw() {
        let mut picture = Picture::default();
        let (a, far) = (node("a@h"), node("far@x"));
        picture.local_ready(&a, None, false);
        picture.link_up(&a, &far);
        let changes = picture.local_gone(at(1), &a, "killed");
        assert_eq!(changes.iter().map(|c| c.node.as_str()).collect::<Vec<_>>(), ["a@h"]);
        assert_eq!(picture.expire(at(2)), []);
        picture.local_ready(&a, None, false);
        assert_eq!(picture.link_up(&a, &far), [], "it was up all the while");
        assert_eq!(picture.deadline(), None);
    }

    #[test]
    fn a_node_that_no_one_can_see_for_long_is_down() {
        let mut picture = Picture::default();
        let (a, far) = (node("a@h"), node("far@x"));
        picture.local_ready(&a, None, false);
        picture.link_up(&a, &far);
        picture.local_gone(at(1), &a, "killed");
        assert_eq!(picture.deadline(), Some(at(11)));
        assert_eq!(picture.expire(at(11)).len(), 1);
        assert!(!picture.entry(&far).expect("known").up);
        assert_eq!(picture.expire(at(12)), []);
    }

    #[test]
    fn a_witness_that_is_back_and_does_not_see_it_settles_the_matter() {
        let mut picture = Picture::default();
        let (a, far, other) = (node("a@h"), node("far@x"), node("other@y"));
        picture.local_ready(&a, None, false);
        picture.link_up(&a, &far);
        picture.link_up(&a, &other);
        picture.local_gone(at(1), &a, "connection lost");
        picture.local_ready(&a, None, false);
        picture.link_up(&a, &other);
        let changes = picture.links_told(&a, &BTreeSet::from([other]));
        assert_eq!(changes.iter().map(|c| (c.node.as_str(), c.up)).collect::<Vec<_>>(), [("far@x", false)]);
    }

    #[test]
    fn ups_and_downs_alternate_whatever_comes() {
        let mut picture = Picture::default();
        let (a, far) = (node("a@h"), node("far@x"));
        let mut last = BTreeMap::new();
        for step in 0..2_000_u64 {
            let changes = match step * 7 % 11 % 6 {
                0 => picture.local_ready(&a, None, false),
                1 => picture.link_up(&a, &far),
                2 => picture.link_down(&a, &far, "x"),
                3 => picture.local_gone(at(step), &a, "x"),
                4 => picture.expire(at(step)),
                _ => picture.links_told(&a, &BTreeSet::new()),
            };
            for change in changes {
                assert_ne!(last.insert(change.node.clone(), change.up).unwrap_or(false), change.up);
            }
        }
    }

    #[test]
    fn nodes_that_are_down_are_forgotten_at_a_bound() {
        let mut picture = Picture::default();
        let a = node("a@h");
        picture.local_ready(&a, None, false);
        for n in 0..Picture::DOWN_KEPT + 50 {
            let peer = node(&format!("n{n}@x"));
            picture.link_up(&a, &peer);
            picture.link_down(&a, &peer, "x");
        }
        assert_eq!(picture.nodes().count(), Picture::DOWN_KEPT + 1);
    }
}
