//! How long `metacluster up` takes until it answers.

use std::{path::Path, time::Instant};

use anyhow::Result;
use metacluster_testbed::Network;

use super::report::{Report, milliseconds};
use crate::arguments::Options;

/// Starts an agent `--rounds` times.
pub(super) fn run(binary: &Path, options: &Options) -> Result<Report> {
    let rounds = options.number("rounds", 20)?.max(1);
    let network = Network::new()?;
    let host = network.host()?;
    let mut samples = Vec::new();
    for _ in 0..rounds {
        let started = Instant::now();
        let mut agent = host.agent(binary).spawn()?;
        while std::os::unix::net::UnixStream::connect(agent.socket()).is_err() {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        agent.get("/healthz").ok();
        samples.push(milliseconds(started.elapsed()));
        agent.terminate()?;
    }
    let mut report = Report::new("startup");
    report.add("metacluster up, until it answers", "ms", samples, Some(100.0));
    Ok(report)
}
