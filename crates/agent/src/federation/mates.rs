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

/// How long an agent must be first: whoever has just started knows nobody, and would be the first of all.
const SETTLE: Duration = Duration::from_secs(3);

/// The gateways of each cell, the first one first, at most so many.
fn gateways(view: &View, count: usize) -> BTreeMap<&CellName, Vec<&MemberView>> {
    let mut cells: BTreeMap<&CellName, Vec<&MemberView>> = BTreeMap::new();
    let offers = |member: &&MemberView| member.gateway.is_some() && member.state <= MemberState::Suspect;
    for member in view.members.iter().filter(offers) {
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

fn own_cell(view: &View) -> Option<&CellName> {
    view.members.iter().find(|member| member.own)?.cell.as_ref()
}

/// Waits until this agent is, and has been for [`SETTLE`], one of the gateways of its cell; with `always` it is one for
/// other clusters, whoever else there is. The cell.
pub(super) async fn elected(view: &mut ViewReceiver, count: usize, always: bool) -> Option<CellName> {
    let is = |view: &View| {
        let cell = own_cell(view)?;
        let first = || gateways(view, count).get(cell).is_some_and(|list| list.iter().any(|member| member.own));
        (always || first()).then(|| cell.clone())
    };
    loop {
        let cell = view.wait_for(|view| is(view).is_some()).await.ok().and_then(|view| is(&view))?;
        let other = view.wait_for(|view| is(view).as_ref() != Some(&cell));
        match timeout(SETTLE, other).await {
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
            if own_cell(&view).is_some_and(|now| now != cell) {
                return;
            }
            let wanted: BTreeSet<String> = gateways(&view, count)
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
