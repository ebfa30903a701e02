//! The gateways of a cluster's cells: who they are, and where.
//!
//! Every agent whose configuration makes it a gateway says so to the other members. Of those of a cell the first ones by
//! rendezvous hashing are its gateways, so all agents name the same; when one fails, the next one is there as soon as
//! members know. Each dials the gateways of all other cells. One that comes second again keeps its links and stands by.
//! A gateway whose host moves to another cell ends its links, and may be one of its new cell.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use metacluster_federation::cells::gateway_rank;
use metacluster_types::CellName;
use tokio::{sync::watch, time::timeout};

use crate::view::{MemberState, MemberView, View, ViewReceiver};

/// How long an agent must be first: others that have just started may come before it.
const SETTLE: Duration = Duration::from_secs(3);
/// How long when it knows no other member at all: it has just started and has not found any, more likely than not, and there
/// is no other cell that it knows of to be a gateway to.
const ALONE: Duration = Duration::from_secs(30);

/// The gateways of each cell, the first one first, at most so many.
fn gateways(members: &[MemberView], count: usize) -> BTreeMap<&CellName, Vec<&MemberView>> {
    let mut cells: BTreeMap<&CellName, Vec<&MemberView>> = BTreeMap::new();
    let offers = |member: &&MemberView| member.gateway.is_some() && member.state <= MemberState::Suspect;
    for member in members.iter().filter(offers) {
        if let Some(cell) = &member.cell {
            cells.entry(cell).or_default().push(member);
        }
    }
    for (cell, members) in &mut cells {
        members.sort_by_key(|member| gateway_rank(cell, member.id));
        members.truncate(count);
    }
    cells
}

fn own_cell(members: &[MemberView]) -> Option<&CellName> {
    members.iter().find(|member| member.own)?.cell.as_ref()
}

/// The cell of which this agent is a gateway once that has been so for the time beside it.
fn claim(members: &[MemberView], count: usize, always: bool) -> Option<(&CellName, Duration)> {
    let cell = own_cell(members)?;
    let first = || gateways(members, count).get(cell).is_some_and(|list| list.iter().any(|member| member.own));
    let alone = !always && members.iter().all(|member| member.own);
    (always || first()).then_some((cell, if alone { ALONE } else { SETTLE }))
}

/// Waits until this agent is, and has been for [`SETTLE`] or [`ALONE`], one of the gateways of its cell; with `always` it is
/// one for other clusters, whoever else there is. The cell.
pub(super) async fn elected(view: &mut ViewReceiver, count: usize, always: bool) -> Option<CellName> {
    let claim = |view: &View| claim(&view.members, count, always).map(|(cell, settle)| (cell.clone(), settle));
    loop {
        let found = view.wait_for(|view| claim(view).is_some()).await.ok().and_then(|view| claim(&view));
        let (cell, settle) = found.clone()?;
        match timeout(settle, view.wait_for(|view| claim(view) != found)).await {
            Err(_) => return Some(cell),
            Ok(changed) => drop(changed.ok()?),
        }
    }
}

/// Says where the gateways of the other cells are, until this host is in another cell.
pub(super) async fn follow(
    view: &mut ViewReceiver,
    cell: &CellName,
    count: usize,
    peers: &watch::Sender<BTreeSet<String>>,
) {
    loop {
        {
            let view = view.borrow_and_update();
            if own_cell(&view.members).is_some_and(|now| now != cell) {
                return;
            }
            let wanted: BTreeSet<String> = gateways(&view.members, count)
                .into_iter()
                .filter(|(of, _)| *of != cell)
                .flat_map(|(_, members)| members)
                .filter_map(|member| Some(SocketAddr::new(member.address.ip(), member.gateway?).to_string()))
                .collect();
            peers.send_if_modified(|known| {
                let changed = *known != wanted;
                *known = wanted;
                changed
            });
        }
        if view.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests {

    use metacluster_types::AgentId;

    use super::*;

    /// A member of a cell that offers a gateway; the first one is the agent itself.
    fn member(id: u128, cell: &str) -> MemberView {
        MemberView { cell: CellName::new(cell).ok(), gateway: Some(4391), ..MemberView::sample(id) }
    }

    /// Two members of the cell `a`, and whether the agent itself comes first.
    fn pair(first: bool) -> [MemberView; 2] {
        let own = member(1, "a");
        let cell = own.cell.clone().expect("a cell");
        let comes_first = |other: &u128| gateway_rank(&cell, own.id) < gateway_rank(&cell, AgentId(*other));
        let other = (2..).find(|other| comes_first(other) == first).expect("half of all");
        [own, member(other, "a")]
    }

    #[test]
    fn whoever_knows_nobody_yet_waits_for_others_before_it_is_the_first_of_all() {
        let settle = |members: &[MemberView]| claim(members, 1, false).map(|(_, settle)| settle);
        for (first, then) in [(true, Some(SETTLE)), (false, None)] {
            let [own, other] = pair(first);
            assert_eq!(settle(std::slice::from_ref(&own)), Some(ALONE), "it may have just started");
            assert_eq!(settle(&[own.clone(), other.clone()]), then);
            // Who is known to have failed is no reason to wait for others.
            let failed = MemberView { state: MemberState::Failed, ..other };
            assert_eq!(settle(&[own.clone(), failed]), Some(SETTLE));
            assert_eq!(settle(&[own, member(9, "b")]), Some(SETTLE), "of another cell");
        }
    }

    #[test]
    fn one_with_peers_of_its_own_is_a_gateway_whoever_else_there_is() {
        let [own, other] = pair(false);
        assert_eq!(claim(&[own.clone(), other.clone()], 1, true).map(|(_, settle)| settle), Some(SETTLE));
        assert_eq!(claim(std::slice::from_ref(&own), 1, true).map(|(_, settle)| settle), Some(SETTLE));
        assert_eq!(claim(&[own, other], 2, false).map(|(_, settle)| settle), Some(SETTLE), "there is room for two");
    }
}
