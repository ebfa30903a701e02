//! Scenarios and seeds, and for each checker a machine or an output that it catches.

use super::*;

fn holds(scenario: &Scenario, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if let Err(failure) = run(seed, scenario) {
            panic!("{failure}");
        }
    }
}

#[test]
fn small_worlds_converge() {
    holds(&Scenario::small(), 0..40);
}

#[test]
fn worlds_of_gossip_converge() {
    holds(&Scenario::gossip(), 0..40);
}

#[test]
fn worlds_whose_nodes_mesh_by_themselves_converge() {
    holds(&Scenario::mesh(), 0..40);
}

#[test]
fn worlds_that_prune_converge() {
    holds(&Scenario::pruning(), 0..40);
}

#[test]
fn cells_converge() {
    holds(&Scenario::cells(), 0..40);
}

#[test]
fn two_thousand_nodes_converge_through_loss_restarts_and_names_used_again() {
    let report = run(1, &Scenario::large()).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.dials > 100_000, "{report:?}");
    println!("{report:?}");
}

#[test]
fn random_worlds_converge() {
    for seed in 0..60 {
        if let Err(failure) = run(seed, &Scenario::random(seed)) {
            panic!("{failure}");
        }
    }
}
