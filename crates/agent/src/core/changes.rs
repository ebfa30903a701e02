//! What changed in a topology lately, for people: what came, what went, when it failed and when it answered again.
//!
//! Candidates that come or go together are one change; the oldest changes are forgotten.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use metacluster_types::{NodeName, WallClock};

use crate::view::{ChangeView, TopologyChange};

/// So many changes are kept.
const CHANGES_MAX: usize = 8;
/// So many of the candidates of one change are named.
const NODES_MAX: usize = 4;
/// Candidates that follow the first within this time are part of its change.
const TOGETHER: Duration = Duration::from_secs(1);

/// The last changes, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Changes(VecDeque<ChangeView>);

impl Changes {
    pub(super) fn note(&mut self, now: SystemTime, change: TopologyChange, node: Option<NodeName>) {
        if let (Some(last), Some(node)) = (self.0.back_mut(), &node)
            && last.change == change
            && now.duration_since(last.at.as_system_time()).is_ok_and(|since| since < TOGETHER)
        {
            last.count += 1;
            if last.nodes.len() < NODES_MAX {
                last.nodes.push(node.clone());
            }
            return;
        }
        if self.0.len() == CHANGES_MAX {
            self.0.pop_front();
        }
        let count = usize::from(node.is_some());
        self.0.push_back(ChangeView { at: WallClock::new(now), change, count, nodes: node.into_iter().collect() });
    }

    /// When the last one was.
    pub(super) fn last(&self) -> Option<WallClock> {
        self.0.back().map(|change| change.at)
    }

    pub(super) fn to_views(&self) -> Vec<ChangeView> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u32) -> Option<NodeName> {
        Some(NodeName::new(&format!("n{number}@h")).expect("a name"))
    }

    #[test]
    fn what_comes_together_is_one_change_and_few_are_named() {
        let (mut changes, start) = (Changes::default(), SystemTime::UNIX_EPOCH);
        (0..10).for_each(|number| changes.note(start, TopologyChange::Found, node(number)));
        changes.note(start, TopologyChange::Lost, node(3));
        changes.note(start + TOGETHER, TopologyChange::Lost, node(4));
        changes.note(start + TOGETHER, TopologyChange::Failing, None);
        changes.note(start + TOGETHER, TopologyChange::Failing, None);
        let told: Vec<_> = changes.to_views().iter().map(|it| (it.change, it.count, it.nodes.len())).collect();
        let (lost, failing) = ((TopologyChange::Lost, 1, 1), (TopologyChange::Failing, 0, 0));
        assert_eq!(told, [(TopologyChange::Found, 10, NODES_MAX), lost, lost, failing, failing]);
        assert_eq!(changes.last(), Some(WallClock::new(start + TOGETHER)));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut changes = Changes::default();
        for second in 0..20 {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(5 * second);
            changes.note(now, TopologyChange::Recovered, None);
        }
        let views = changes.to_views();
        assert_eq!(views.len(), CHANGES_MAX);
        assert_eq!(
            views.first().map(|it| it.at),
            Some(WallClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(60)))
        );
    }
}
