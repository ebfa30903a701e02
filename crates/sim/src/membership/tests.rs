//! Scenarios and seeds, and for each checker something that it catches.

use super::*;

fn holds(scenario: &Scenario, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        match run(seed, scenario) {
            Ok(report) => println!("{seed} {report:?}"),
            Err(failure) => panic!("{failure}"),
        }
    }
}

#[test]
fn sound_clusters_form() {
    for hosts in [2, 3, 5, 32] {
        holds(&Scenario::sound(hosts), 0..3);
    }
}

#[test]
fn clusters_converge_after_cuts_between_zones() {
    holds(&Scenario::zones(), 0..4);
}

#[test]
fn clusters_converge_through_churn() {
    holds(&Scenario::churn(), 0..6);
}

#[test]
fn a_member_of_ill_will_does_no_lasting_harm() {
    holds(&Scenario::hostile(), 0..6);
}

#[test]
fn clusters_converge_through_loss() {
    holds(&Scenario::lossy(), 0..4);
}

#[test]
fn random_worlds_converge() {
    for seed in 0..40 {
        if let Err(failure) = run(seed, &Scenario::random(seed)) {
            panic!("{failure}");
        }
    }
}
