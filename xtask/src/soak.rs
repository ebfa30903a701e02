//! `cargo xtask soak`: what is worth hours, not seconds.

use anyhow::Result;

use crate::{arguments::Options, ci::simulate};

/// Simulates fresh seeds for `--minutes`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let minutes = Options::read(arguments, &["minutes"], &[])?.number("minutes", 10)?;
    simulate(minutes * 60)
}
