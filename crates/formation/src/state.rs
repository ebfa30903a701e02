//! The tables: nodes by a small id, and pairs of them.
//!
//! A node has an id for as long as anything refers to it, so that a pair is eight bytes and a comparison of pairs is
//! one of integers. A pair is the same from both ends: two local nodes have one link between them, never two.

use std::collections::BTreeMap;

use metacluster_types::{Instant, NodeName, TopologyName};

use crate::DialError;

/// A node's place in the table. Used again after the node is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(u32);

/// Two nodes, whichever way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PairKey {
    pub(crate) low: NodeId,
    pub(crate) high: NodeId,
}

impl PairKey {
    pub(crate) fn new(one: NodeId, other: NodeId) -> Self {
        Self { low: one.min(other), high: one.max(other) }
    }

    pub(crate) fn ends(self) -> [NodeId; 2] {
        [self.low, self.high]
    }
}

/// Which bound a dial counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// New pairs, and peers that gave a sign of life.
    Fresh,
    /// Dropped links and failing peers.
    Retry,
}

/// What is dialled when its time comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// This pair.
    Pair(PairKey),
    /// One parked pair of this failing peer.
    Peer(NodeId),
}

/// A place in a lane's queue. `order` is random, so that dials due at one time do not all begin with the same peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    pub(crate) at: Instant,
    pub(crate) order: u32,
}

/// A pair's state. A dial in flight is kept apart, since a link may come up and go down while one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PairState {
    /// Nothing is due: a dial is in flight, or nobody wants the pair.
    Idle,
    /// Awaits its time in a lane.
    Waiting { lane: Lane, due: Due },
    /// Awaits the turn that the failing peer's back-off gives to one of its parked pairs at a time.
    Parked,
    /// A link is up.
    Linked { since: Instant },
}

/// A pair that somebody wants or that is linked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) state: PairState,
    /// How often in a row its link came up and soon dropped.
    pub(crate) flaps: u8,
    /// Linked, and nobody wants it.
    pub(crate) stray: bool,
}

/// A dial that awaits its outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight {
    pub(crate) local: NodeId,
    pub(crate) peer: NodeId,
    pub(crate) since: Instant,
    pub(crate) lane: Lane,
    /// How often the peer had failed in a row when it left: dials that left together fail as one.
    pub(crate) round: u32,
    /// The link dropped meanwhile, so an `Ok` says nothing of now.
    pub(crate) saw_down: bool,
}

/// A peer whose last dial failed.
#[derive(Clone, Debug)]
pub(crate) struct Failing {
    pub(crate) since: Instant,
    pub(crate) error: DialError,
    /// Dials that failed.
    pub(crate) attempts: u32,
    /// Failures in a row; dials that were in flight together count as one.
    pub(crate) rounds: u32,
    /// The next step of the back-off.
    pub(crate) step: u32,
    /// The log knows.
    pub(crate) noted: bool,
    /// A sign of life came while a try was in flight.
    pub(crate) again: bool,
    /// Its place in a lane; none while a try is in flight.
    pub(crate) entry: Option<(Lane, Due)>,
    /// The local node that dialled last; the next one's turn comes next.
    pub(crate) last_local: NodeId,
}

/// What is known of a local node beyond its name.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Local {
    /// It can be asked to dial.
    pub(crate) ready: bool,
    /// It was pruned: it neither dials nor is dialled until a source lists it again.
    pub(crate) left_mesh: bool,
}

/// Where the pruning of a remote peer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PruneStep {
    /// Its next check is due then.
    Due(Instant),
    /// A check is in flight until then.
    Asked(Instant),
}

/// The pruning of a remote peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pruning {
    pub(crate) step: PruneStep,
    /// The log knows that it lives.
    pub(crate) noted: bool,
}

/// A node: local, candidate, linked, or several of these.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: NodeName,
    /// It has a long name.
    pub(crate) long: bool,
    pub(crate) local: Option<Local>,
    /// The topologies that have it, sorted.
    pub(crate) topologies: Vec<TopologyName>,
    /// A topology that never prunes has had it, so it is never pruned.
    pub(crate) kept: bool,
    /// Pairs of which it is an end.
    pub(crate) pairs: u32,
    /// Of those, the linked ones.
    pub(crate) links: u32,
    pub(crate) failing: Option<Failing>,
    /// Before this, a sign of life waits.
    pub(crate) early_from: Instant,
    /// Early tries that failed, of late.
    pub(crate) early_failed: u32,
    pub(crate) pruning: Option<Pruning>,
}

/// Every node by name and by id.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    by_name: BTreeMap<NodeName, NodeId>,
    slots: Vec<Option<Node>>,
    free: Vec<NodeId>,
}

impl Nodes {
    pub(crate) fn find(&self, name: &NodeName) -> Option<NodeId> {
        self.by_name.get(name).copied()
    }

    /// The node of this name, made if there was none.
    pub(crate) fn intern(&mut self, name: &NodeName) -> NodeId {
        if let Some(id) = self.find(name) {
            return id;
        }
        let node = Node {
            name: name.clone(),
            long: name.is_long(),
            local: None,
            topologies: Vec::new(),
            kept: false,
            pairs: 0,
            links: 0,
            failing: None,
            early_from: Instant::ZERO,
            early_failed: 0,
            pruning: None,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id.0 as usize] = Some(node);
                id
            }
            None => {
                let id = NodeId(u32::try_from(self.slots.len()).expect("fewer nodes than bytes of memory"));
                self.slots.push(Some(node));
                id
            }
        };
        self.by_name.insert(name.clone(), id);
        id
    }

    /// Forgets the node if nothing refers to it any more.
    pub(crate) fn release(&mut self, id: NodeId) {
        let node = &self[id];
        if node.local.is_none() && node.topologies.is_empty() && node.pairs == 0 && node.pruning.is_none() {
            let name = node.name.clone();
            self.by_name.remove(&name);
            self.slots[id.0 as usize] = None;
            self.free.push(id);
        }
    }

    /// Every node, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.by_name.values().map(|&id| (id, &self[id]))
    }

    /// Every id, by name.
    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.by_name.values().copied().collect()
    }

    pub(crate) fn contains(&self, id: NodeId) -> bool {
        self.slots.get(id.0 as usize).is_some_and(Option::is_some)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }
}

impl std::ops::Index<NodeId> for Nodes {
    type Output = Node;

    fn index(&self, id: NodeId) -> &Node {
        self.slots[id.0 as usize].as_ref().expect("an id is used only while something refers to the node")
    }
}

impl std::ops::IndexMut<NodeId> for Nodes {
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        self.slots[id.0 as usize].as_mut().expect("an id is used only while something refers to the node")
    }
}
