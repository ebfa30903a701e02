//! `cargo xtask soak`: what is worth hours, not seconds.

use anyhow::Result;

use crate::{
    arguments::Options,
    ci::simulate,
    process::{cargo, must, step, target_folder},
};

/// Fuzzes the decoders for a quarter of `--minutes` and simulates fresh seeds for the rest. Both run, whatever fails.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let seconds = Options::read(arguments, &["minutes"], &[])?.number("minutes", 10)? * 60;
    let fuzzed = step("fuzzing", || fuzz(seconds / 4));
    let simulated = step("simulating", || simulate(seconds - seconds / 4));
    fuzzed.and(simulated)
}

/// Fuzzes the decoders of erl-wire. Inputs that break something are left in the target folder; those with an outcome of
/// their own are added to the corpus, to be committed.
fn fuzz(seconds: u64) -> Result<()> {
    let crashes = target_folder()?.join("fuzz-crashes");
    let mut fuzz = cargo(&["run", "--quiet", "--profile", "fuzz", "--package", "metacluster-erl-wire", "--example"]);
    fuzz.args(["fuzz", "--", "--seconds", &seconds.to_string(), "--crashes"]).arg(crashes);
    must(&mut fuzz)
}
