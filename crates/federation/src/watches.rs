//! Monitors and links across clusters: each fires once, whichever end goes first.
//!
//! An *outward* monitor is one of a process of this cluster on a far one; an *inward* one is of a far process on one of
//! this cluster, or on one of a third cluster. A gateway keeps both, so that it can fire what hangs on a link that is
//! lost and take back what nobody needs. Whoever takes an entry out answers for it.

use std::collections::BTreeMap;

use crate::{
    identifiers::{PidKey, ReferenceKey},
    peer::PeerId,
    table::Slot,
    through::Pair,
};

/// A monitor of a process of this cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outward {
    pub(crate) peer: PeerId,
    pub(crate) watcher: PidKey,
    /// The entries that it holds.
    pub(crate) watcher_slot: Slot,
    pub(crate) reference_slot: Slot,
    pub(crate) target: Slot,
}

/// What a far process monitors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A process of this cluster.
    Own(PidKey, Slot),
    /// One of a third cluster, behind this gateway.
    Far(PeerId, Slot),
}

/// A monitor of a far process; its reference is its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inward {
    pub(crate) peer: PeerId,
    pub(crate) watcher: Slot,
    pub(crate) target: Target,
}

/// A link between a process of this cluster and a far one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Linked {
    pub(crate) peer: PeerId,
    pub(crate) own_slot: Slot,
    /// The id of the unlink of the own process that the far one has not confirmed yet. The link is off meanwhile.
    pub(crate) unlinking: Option<u64>,
}

/// A link between processes of two other clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Between {
    /// Behind two gateways.
    pub(crate) ends: [End; 2],
}

/// One of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) peer: PeerId,
    /// The entry that it holds.
    pub(crate) slot: Slot,
    /// The id of its unlink that the other end has not confirmed yet.
    pub(crate) unlinking: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    pub(crate) outward: BTreeMap<ReferenceKey, Outward>,
    pub(crate) inward: BTreeMap<Slot, Inward>,
    pub(crate) links: BTreeMap<(PidKey, Slot), Linked>,
    /// By the entries of both ends.
    pub(crate) between: BTreeMap<Pair, Between>,
}

/// Takes out what fits, in order.
pub(crate) fn take<K: Ord + Copy, V: Copy>(map: &mut BTreeMap<K, V>, fits: impl Fn(&K, &V) -> bool) -> Vec<(K, V)> {
    map.extract_if(.., |key, value| fits(key, value)).collect()
}
