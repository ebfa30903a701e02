//! Scenarios and seeds, and for each checker a machine or an output that it catches.

mod biting;
mod broken;

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
fn worlds_whose_hosts_die_flap_and_lose_sight_of_one_another_converge_and_no_live_link_is_dropped() {
    holds(&Scenario::hosts(), 0..60);
}

#[test]
fn every_survivor_of_a_death_is_told_within_the_bound() {
    holds(&Scenario::deaths(), 0..60);
}

#[test]
fn two_thousand_nodes_converge_through_loss_restarts_and_names_used_again() {
    let report = run(1, &Scenario::large()).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.dials > 100_000, "{report:?}");
}

#[test]
fn a_full_mesh_converges() {
    holds(&Scenario::full_mesh(200), 1..2);
}

#[test]
fn random_worlds_converge() {
    for seed in 0..60 {
        holds(&Scenario::random(seed), seed..seed + 1);
    }
}

#[test]
fn kept_seeds_hold() {
    for kept in SEEDS {
        holds(&(kept.scenario)(), kept.seed..kept.seed + 1);
    }
}

#[test]
fn one_seed_gives_one_run() {
    let scenario = Scenario::mesh();
    assert_eq!(run(5, &scenario), run(5, &scenario));
    assert_ne!(run(5, &scenario), run(6, &scenario));
}

#[test]
fn a_world_without_faults_converges_at_once() {
    let mut scenario = Scenario::small();
    scenario.network.loss_per_mille = 0;
    scenario.silent_dials_per_mille = 0;
    scenario.faults = FaultPlan { within: Duration::from_secs(20), ..FaultPlan::default() };
    let report = run(1, &scenario).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(report.converged_after, Duration::ZERO);
    let pairs = u64::from(scenario.nodes() * (scenario.nodes() - 1) / 2);
    assert!(report.dials <= 2 * pairs, "{} dials for {pairs} pairs", report.dials);
}
