//! Which host is in which cell, as all agents work it out from the members that they know.
//!
//! A host that is new is placed at once, and one that left is gone at once. When hosts that are there would move, that is
//! believed only after it stood for [`SETTLE`], so that the half of a list of members, or two changes at once, moves
//! nobody; while no local node is linked to anyone, nothing is lost by believing it at once. A host that failed keeps its
//! place until it is forgotten, since it most likely comes back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use metacluster_federation::cells::{Placed, Rules, assign};
use metacluster_types::{AgentId, CellName, Instant, NodeName};

use crate::view::{MemberState, MemberView};

/// How long an assignment must stand that moves hosts.
pub(crate) const SETTLE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct Cells {
    rules: Rules,
    /// What is so.
    cells: BTreeMap<AgentId, CellName>,
    /// What is to be, since when, and who moves then.
    wanted: Option<(BTreeMap<AgentId, CellName>, Instant)>,
}

impl Cells {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules, cells: BTreeMap::new(), wanted: None }
    }

    /// The cell of a host.
    pub(crate) fn of(&self, agent: AgentId) -> Option<&CellName> {
        self.cells.get(&agent)
    }

    /// Who is there is told again. `linked` says that a local node is linked to another.
    pub(crate) fn hear(&mut self, now: Instant, members: &[MemberView], linked: bool) {
        let hosts = members.iter().filter(|member| member.state != MemberState::Left).map(MemberView::placed);
        let hosts: Vec<Placed> = hosts.collect();
        let fresh = assign(&hosts, &self.rules);
        let fresh: BTreeMap<AgentId, CellName> = fresh
            .into_iter()
            .flat_map(|(cell, agents)| agents.into_iter().map(move |agent| (agent, cell.clone())))
            .collect();
        let moved = |(agent, cell): (&AgentId, &CellName)| self.cells.get(agent).is_some_and(|known| known != cell);
        if !linked || !fresh.iter().any(moved) {
            (self.cells, self.wanted) = (fresh, None);
            return;
        }
        self.cells.retain(|agent, _| fresh.contains_key(agent));
        for (agent, cell) in &fresh {
            self.cells.entry(*agent).or_insert_with(|| cell.clone());
        }
        let since = match &self.wanted {
            Some((known, since)) if self.moves(known) == self.moves(&fresh) => *since,
            Some(_) | None => now,
        };
        self.wanted = Some((fresh, since));
        self.settle(now);
    }

    fn moves<'a>(&self, cells: &'a BTreeMap<AgentId, CellName>) -> BTreeSet<(AgentId, &'a CellName)> {
        let moved = |(agent, cell): &(&AgentId, &CellName)| self.cells.get(agent).is_some_and(|known| known != *cell);
        cells.iter().filter(moved).map(|(agent, cell)| (*agent, cell)).collect()
    }

    /// When what is to be is believed.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.wanted.as_ref().map(|(_, since)| *since + SETTLE)
    }

    /// Believes what stood long enough; whether that changed anything.
    pub(crate) fn settle(&mut self, now: Instant) -> bool {
        match self.wanted.take_if(|(_, since)| now.since(*since) >= SETTLE) {
            Some((cells, _)) => {
                self.cells = cells;
                true
            }
            None => false,
        }
    }

    /// The cell of each node: those that members tell of, and the local ones, which others may not have heard of yet.
    pub(crate) fn nodes<'a>(
        &self,
        members: &[MemberView],
        own: AgentId,
        locals: impl Iterator<Item = &'a NodeName>,
    ) -> BTreeMap<NodeName, CellName> {
        let told = members.iter().filter_map(|member| Some((member, self.of(member.id)?)));
        let mut nodes: BTreeMap<NodeName, CellName> =
            told.flat_map(|(member, cell)| member.nodes.iter().map(|node| (node.name.clone(), cell.clone()))).collect();
        if let Some(cell) = self.of(own) {
            nodes.extend(locals.map(|node| (node.clone(), cell.clone())));
        }
        nodes
    }
}

#[cfg(test)]
mod tests {

    use metacluster_federation::cells::By;
    use metacluster_types::Zone;

    use super::*;
    use crate::view::{MemberNode, NodeState};

    fn member(id: u128, zone: &str) -> MemberView {
        let node = NodeName::new(&format!("shop@h{id}")).expect("a name");
        let nodes = vec![MemberNode { name: node, state: NodeState::Up }];
        MemberView { zone: Zone::new(zone).ok(), nodes, nodes_total: 1, ..MemberView::sample(id) }
    }

    fn members(count: u128) -> Vec<MemberView> {
        (1..=count).map(|id| member(id, "a")).collect()
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_origin(Duration::from_secs(seconds))
    }

    fn cells() -> Cells {
        Cells::new(Rules { by: By::Zone, nodes_max: 4, nodes_min: 2 })
    }

    fn counts(cells: &Cells) -> Vec<usize> {
        let mut counts: BTreeMap<&CellName, usize> = BTreeMap::new();
        cells.cells.values().for_each(|cell| *counts.entry(cell).or_default() += 1);
        counts.into_values().collect()
    }

    #[test]
    fn who_is_new_is_placed_at_once_and_nobody_moves_before_it_stood_a_while() {
        let mut cells = cells();
        cells.hear(at(0), &members(4), true);
        assert_eq!((counts(&cells), cells.deadline()), (vec![4], None));
        cells.hear(at(1), &members(5), true);
        assert_eq!(counts(&cells).iter().sum::<usize>(), 5);
        assert_eq!(cells.deadline(), Some(at(6)), "the four are where they were until then");
        assert!(members(4).iter().all(|member| cells.of(member.id).is_some_and(|cell| cell.as_str() == "a-1")));
        cells.hear(at(3), &members(4), true);
        assert_eq!((counts(&cells), cells.deadline()), (vec![4], None), "it went again");
        cells.hear(at(4), &members(5), true);
        assert!(!cells.settle(at(8)) && cells.settle(at(9)));
        assert_eq!(counts(&cells).len(), 2);
    }

    #[test]
    fn who_is_linked_to_nobody_believes_at_once_and_who_failed_keeps_its_place() {
        let mut cells = cells();
        cells.hear(at(0), &members(1), false);
        cells.hear(at(0), &members(8), false);
        assert_eq!((counts(&cells), cells.deadline()), (vec![4, 4], None));
        let mut failed = members(8);
        failed[7].state = MemberState::Failed;
        cells.hear(at(1), &failed, true);
        assert_eq!((counts(&cells), cells.deadline()), (vec![4, 4], None));
        failed[7].state = MemberState::Left;
        cells.hear(at(2), &failed, true);
        assert_eq!(counts(&cells).iter().sum::<usize>(), 7);
    }

    #[test]
    fn local_nodes_are_placed_before_others_heard_of_them() {
        let mut cells = cells();
        cells.hear(at(0), &members(2), false);
        let local = NodeName::new("new@h1").expect("a name");
        let nodes = cells.nodes(&members(2), AgentId(1), [&local].into_iter());
        assert_eq!(nodes.len(), 3);
        assert!(nodes.values().all(|cell| cell.as_str() == "a-1"));
    }
}
