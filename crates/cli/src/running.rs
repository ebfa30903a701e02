//! An agent in this process.

use metacluster_agent::config::Config;

use crate::{
    failure::{Failure, Outcome},
    log,
};

/// Runs the agent until it is told to end.
pub(crate) fn run(config: Config, _until_input_ends: bool) -> Outcome {
    log::start(config.log_level)?;
    Err(Failure::NotSo("this build has no agent yet".to_owned()))
}
