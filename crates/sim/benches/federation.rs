//! The figures of groups under simulation: `cargo bench -p metacluster-sim --bench federation`.
//!
//! A thousand groups in each of ten clusters, each linked to each. One line a figure, its fields parted by tabs, as those of
//! the bench of membership: what, unit, the bound or `-`, whether it holds for the `median` or for the `most`, the samples,
//! and `-`. Virtual time, so the machine that it runs on moves no figure.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use metacluster_sim::federation::{after_partition, at_rest};

const CLUSTERS: usize = 10;
const GROUPS: usize = 1_000;
/// So many of the groups change while the clusters are parted.
const CHANGED: usize = 10;

fn main() {
    let rest = at_rest(CLUSTERS, GROUPS);
    assert_eq!(rest.published, CLUSTERS * (CLUSTERS - 1) * GROUPS, "each group of each cluster in each other one");
    // Each link has two ends, and each end is told of the groups of the other.
    let ways = (CLUSTERS * (CLUSTERS - 1)) as f64;
    let row =
        |what: &str, unit: &str, bound: &str, sample: f64| println!("{what}\t{unit}\t{bound}\tmost\t{sample:.3}\t-");
    row("simulated: a group, the first time", "B", "90", rest.first_bytes as f64 / ways / GROUPS as f64);
    row("simulated: a link at rest, a second", "B/s", "120", rest.minute_bytes as f64 / (ways / 2.0) / 60.0);
    row("simulated: a link again, nothing changed", "B", "3000", rest.again_bytes as f64 / (ways / 2.0));
    let parted = after_partition(CLUSTERS, GROUPS, CHANGED);
    let across = (CLUSTERS / 2 * (CLUSTERS - CLUSTERS / 2)) as f64;
    row("simulated: a link again, 1 of 100 groups changed", "B", "-", parted.bytes as f64 / across);
    row("simulated: in step after a partition, 50 ms apart", "s", "0.3", parted.time.as_secs_f64());
    row("simulated: groups that are wrong then", "", "0", parted.wrong as f64);
}
