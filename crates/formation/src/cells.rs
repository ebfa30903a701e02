//! Cells: parts of a cluster that are meshes of their own.
//!
//! Only nodes of one cell are wanted as a pair; a node that nobody placed is in none, and nothing is said of its links.
//! Two nodes of different cells that are linked all the same are parted ([`DropHow::Part`]), whoever linked them: pair by
//! pair, so that what belongs together stays linked, and again until it is so. `global` links all that a node knows to one
//! another, but only when a link comes up; so where two cells were joined, each parting brings the end nearer.
//!
//! A node that moves parts from its old cell first and is linked to the new one then, alone for a moment in between: one
//! that is linked to both would make one mesh of them. Its own agent parts it; agents of others do so only later, in case
//! that one is gone. Invariant: nodes of one cell are never parted.

use std::collections::{BTreeMap, BTreeSet};

use metacluster_types::{CellName, Instant, NodeName};
use rand::RngExt;

use crate::{
    DropHow, Formation, Note, Output,
    pairs::Cause,
    state::{NodeId, PairKey, PairState},
    timers::Timer,
};

/// A link between two cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parting {
    /// When it is parted, or parted again.
    at: Instant,
    /// How often it was.
    times: u32,
}

impl Formation {
    /// The cell of a node, where there are cells and somebody said which.
    #[must_use]
    pub fn cell(&self, node: &NodeName) -> Option<&CellName> {
        self.cells.as_ref()?.get(node)
    }

    fn cell_of(&self, id: NodeId) -> Option<&CellName> {
        self.cell(&self.nodes[id].name)
    }

    /// Whether cells let these two be linked.
    pub(crate) fn share_cell(&self, one: NodeId, other: NodeId) -> bool {
        self.cells.is_none() || self.cell_of(one).is_some_and(|cell| Some(cell) == self.cell_of(other))
    }

    /// Whether both are in cells, and not in the same.
    fn cells_differ(&self, key: PairKey) -> bool {
        let cells = self.cell_of(key.low).zip(self.cell_of(key.high));
        cells.is_some_and(|(one, other)| one != other)
    }

    pub(crate) fn on_cells(&mut self, now: Instant, cells: Option<BTreeMap<NodeName, CellName>>) {
        if self.cells == cells {
            return;
        }
        let before = std::mem::replace(&mut self.cells, cells);
        let moved: BTreeSet<NodeId> = before
            .iter()
            .flatten()
            .filter(|(node, old)| self.cell(node).is_some_and(|new| new != *old))
            .filter_map(|(node, _)| self.nodes.find(node))
            .collect();
        for local in self.locals.clone() {
            for peer in self.nodes.ids() {
                if local == peer || !self.nodes.contains(peer) {
                    continue;
                }
                let key = PairKey::new(local, peer);
                let cause =
                    if key.ends().iter().any(|end| moved.contains(end)) { Cause::Moved } else { Cause::Changed };
                self.refresh_pair(now, key, cause);
                self.judge_link(now, key, moved.contains(&local));
            }
        }
    }

    /// A link came up, or cells changed: it is parted if it is between two of them. `moved` says that the local end is
    /// in another cell than before.
    pub(crate) fn judge_link(&mut self, now: Instant, key: PairKey, moved: bool) {
        let linked = self.pairs.get(&key).is_some_and(|pair| matches!(pair.state, PairState::Linked { .. }));
        if !linked || !self.cells_differ(key) {
            return self.forget_parting(key);
        }
        if self.partings.contains_key(&key) && !moved {
            return;
        }
        let wait = if moved { self.settings.cell_part_moved } else { self.parting_wait(key, 0) };
        self.set_parting(key, Parting { at: now + wait, times: 0 });
    }

    /// The local end whose turn it is, which is not the other one's.
    fn parting_wait(&mut self, key: PairKey, times: u32) -> std::time::Duration {
        let first = key.ends().into_iter().min_by_key(|end| &self.nodes[*end].name);
        let second = !first.is_some_and(|first| self.locals.contains(&first));
        let steps = times.saturating_add(u32::from(second)).min(16);
        let wait = (self.settings.cell_part * (1 << steps)).min(self.settings.cell_part_max);
        wait + self.rng.random_range(std::time::Duration::ZERO..=wait / 4)
    }

    /// A link between two cells has had its time.
    pub(crate) fn part_cells(&mut self, now: Instant, key: PairKey) {
        let Some(Parting { times, .. }) = self.partings.remove(&key) else { return };
        let Some(local) = key.ends().into_iter().find(|end| self.nodes[*end].local.is_some_and(|it| it.ready)) else {
            return;
        };
        let peer = if local == key.low { key.high } else { key.low };
        let (name, other) = (self.nodes[local].name.clone(), self.nodes[peer].name.clone());
        let others = self.partings.keys().any(|key| key.ends().contains(&local));
        if times == 0
            && !others
            && let Some(cell) = self.cell(&name).cloned()
        {
            self.say(Note::CellParted { local: name.clone(), cell, peer: other.clone() });
        }
        let wait = self.parting_wait(key, times.saturating_add(1));
        self.set_parting(key, Parting { at: now + wait, times: times.saturating_add(1) });
        self.outputs.push_back(Output::Drop { local: name, peer: other, how: DropHow::Part });
    }

    fn set_parting(&mut self, key: PairKey, parting: Parting) {
        self.forget_parting(key);
        self.timers.set(parting.at, Timer::Part(key));
        self.partings.insert(key, parting);
    }

    /// There is nothing to part, or no more.
    pub(crate) fn forget_parting(&mut self, key: PairKey) {
        if let Some(parting) = self.partings.remove(&key) {
            self.timers.take_back(parting.at, Timer::Part(key));
        }
    }
}
