//! `cargo xtask soak`: what is worth hours, not seconds.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::{
    arguments::Options,
    ci::simulate,
    process::{cargo, must, step, target_folder},
};

/// How often the cable flaps.
const FLAPS: &str = "100";
/// The test of it.
const FLAPS_TEST: &str =
    "hosts::a_cable_that_flaps_costs_no_link_between_two_healthy_hosts_and_each_flap_ends_in_the_full_mesh";

/// How many rounds of acts two clusters of real nodes go through, and the test of it.
const ROUNDS: &str = "100";
const ROUNDS_TEST: &str =
    "federation_soak::what_processes_of_two_clusters_do_comes_out_as_in_one_but_for_what_a_cut_explains";

/// Fuzzes the decoders for a quarter of `--minutes`, simulates fresh seeds for the rest, has a cable flap a hundred
/// times, and has processes of two clusters act for a hundred rounds, which takes as long as it takes. All run, whatever
/// fails.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let seconds = Options::read(arguments, &["minutes"], &[])?.number("minutes", 10)? * 60;
    let fuzzed = step("fuzzing", || fuzz(seconds / 4));
    let simulated = step("simulating", || simulate(seconds - seconds / 4));
    let flapped = step("flapping", || cluster_test(FLAPS_TEST, "FLAPS", FLAPS));
    let federated = step("two clusters", || cluster_test(ROUNDS_TEST, "SOAK_ROUNDS", ROUNDS));
    fuzzed.and(simulated).and(flapped).and(federated)
}

/// Runs a test of hosts in namespaces for longer than the suite does.
fn cluster_test(name: &str, variable: &str, value: &str) -> Result<()> {
    let mut test = cargo(&["test", "--quiet", "--package", "metacluster-cli", "--test", "cluster"]);
    // Another run, other acts.
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
    must(test.args(["--", "--exact", name]).env(variable, value).env("SOAK_SEED", seed).env("CI", "true"))
}

/// Fuzzes the decoders of erl-wire. Inputs that break something are left in the target folder; those with an outcome of
/// their own are added to the corpus, to be committed.
fn fuzz(seconds: u64) -> Result<()> {
    let crashes = target_folder()?.join("fuzz-crashes");
    let mut fuzz = cargo(&["run", "--quiet", "--profile", "fuzz", "--package", "metacluster-erl-wire", "--example"]);
    fuzz.args(["fuzz", "--", "--seconds", &seconds.to_string(), "--crashes"]).arg(crashes);
    must(&mut fuzz)
}
