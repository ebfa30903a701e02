//! `cargo xtask soak`: what is worth hours, not seconds.

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

/// Fuzzes the decoders for a quarter of `--minutes`, simulates fresh seeds for the rest, and has a cable flap a hundred
/// times, which takes as long as it takes. All run, whatever fails.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let seconds = Options::read(arguments, &["minutes"], &[])?.number("minutes", 10)? * 60;
    let fuzzed = step("fuzzing", || fuzz(seconds / 4));
    let simulated = step("simulating", || simulate(seconds - seconds / 4));
    let flapped = step("flapping", flap);
    fuzzed.and(simulated).and(flapped)
}

/// Cuts the cables of hosts in namespaces again and again.
fn flap() -> Result<()> {
    let mut test = cargo(&["test", "--quiet", "--package", "metacluster-cli", "--test", "cluster"]);
    must(test.args(["--", "--exact", FLAPS_TEST]).env("FLAPS", FLAPS).env("CI", "true"))
}

/// Fuzzes the decoders of erl-wire. Inputs that break something are left in the target folder; those with an outcome of
/// their own are added to the corpus, to be committed.
fn fuzz(seconds: u64) -> Result<()> {
    let crashes = target_folder()?.join("fuzz-crashes");
    let mut fuzz = cargo(&["run", "--quiet", "--profile", "fuzz", "--package", "metacluster-erl-wire", "--example"]);
    fuzz.args(["fuzz", "--", "--seconds", &seconds.to_string(), "--crashes"]).arg(crashes);
    must(&mut fuzz)
}
