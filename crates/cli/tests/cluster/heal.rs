//! A cable is cut and healed: full mesh again within five seconds of the heal, whether or not the nodes had noticed.

use std::time::Duration;

use anyhow::{Result, ensure};
use metacluster_testbed::{Contention, require};

use crate::support::{NEEDED, SOON, full_mesh, sites};

/// How soon after the heal the mesh must be whole.
const WHOLE_WITHIN: Duration = Duration::from_secs(5);
/// A cut that goes on for so much longer may be noticed, and says nothing.
const NOTICED: Duration = Duration::from_millis(200);
/// How often it is tried at most.
const TRIES_MAX: u32 = 10;

#[test]
fn a_healed_cable_ends_in_a_full_mesh_when_the_nodes_had_noticed() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    // The nodes give a silent peer up after four seconds in place of sixty.
    let sites: [_; 3] = sites("-kernel net_ticktime 4")?;
    full_mesh(SOON, sites.iter().map(|site| &site.beam))?;
    let [first, second, cut] = &sites;
    cut.host.cable().cut()?;
    cut.beam.wait_nodes(SOON, &[])?;
    first.beam.wait_nodes(SOON, &[second.beam.name()])?;
    second.beam.wait_nodes(SOON, &[first.beam.name()])?;
    cut.host.cable().heal()?;
    full_mesh(WHOLE_WITHIN, sites.iter().map(|site| &site.beam))
}

#[test]
fn a_healed_cable_ends_in_a_full_mesh_when_the_nodes_had_not_noticed() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let sites: [_; 3] = sites("")?;
    full_mesh(SOON, sites.iter().map(|site| &site.beam))?;
    let [first, _, cut] = &sites;
    let mut tries = 1;
    loop {
        let (seen, contention) = (first.beam.watch()?, Contention::start());
        cut.host.cable().cut()?;
        // Long enough for packets to fail to arrive, not for the nodes to notice, nor for the agents to hold the host failed.
        std::thread::sleep(Duration::from_millis(800));
        cut.host.cable().heal()?;
        let lost = contention.lost();
        full_mesh(WHOLE_WITHIN, sites.iter().map(|site| &site.beam))?;
        let changes = seen.changes()?;
        if changes.is_empty() {
            break;
        }
        // The cut was as long as that for agents which did not run meanwhile.
        ensure!(lost > NOTICED && tries < TRIES_MAX, "try {tries}, {lost:?} lost to others: {changes:?}");
        tries += 1;
    }
    // The links are alive, not only believed to be: a call crosses each of them.
    for site in &sites {
        for other in &sites {
            let answer = site.beam.eval(&format!("rpc:call('{}', erlang, node, [], 5000)", other.beam.name()))?;
            assert_eq!(answer, format!("'{}'", other.beam.name()));
        }
    }
    Ok(())
}
