//! Groups of this cluster, as the gateway's node sees them.

use std::{collections::BTreeMap, sync::Arc};

use metacluster_erl::{
    pg::{Change, Scope},
    wire::{Pid, Term},
};
use metacluster_federation::GroupKey;

use super::{
    hub::{Hub, encoded},
    is_agent,
};

/// Tells the machine who is in the groups of a scope, until the scope ends.
pub(super) async fn watch(hub: Arc<Hub>, scope: Scope) {
    loop {
        let (members, mut changes) = scope.monitor();
        let all: BTreeMap<GroupKey, Vec<Pid>> =
            members.into_iter().map(|(group, pids)| (key(&scope, &group), own(&hub, pids))).collect();
        hub.groups(|machine, now| machine.local_groups_are(now, scope.name(), all));
        loop {
            match changes.next().await {
                None => return,
                // Too slow: all is said again.
                Some(Change::Missed { .. }) => break,
                Some(Change::Joined { group, pids }) => {
                    let pids = own(&hub, pids);
                    hub.groups(|machine, now| machine.local_joined(now, &key(&scope, &group), &pids));
                }
                Some(Change::Left { group, pids }) => {
                    let pids = own(&hub, pids);
                    hub.groups(|machine, now| machine.local_left(now, &key(&scope, &group), &pids));
                }
            }
        }
    }
}

fn key(scope: &Scope, group: &Term) -> GroupKey {
    GroupKey { scope: scope.name().to_owned(), group: encoded(group) }
}

/// Those that are no pids of gateways.
fn own(hub: &Hub, mut pids: Vec<Pid>) -> Vec<Pid> {
    pids.retain(|pid| !is_agent(hub.node().name(), pid.node.as_str()));
    pids
}
