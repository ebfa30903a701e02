//! How long a BEAM node that starts on one of two hosts takes from its registration with epmd to its link with the
//! node of the other host, with the agent as the epmd and with the stock one. The clock starts just before the
//! registration, inside the node.

use std::path::Path;

use anyhow::Result;
use metacluster_testbed::Network;

use super::{GIVE_UP, report::Report};
use crate::arguments::Options;

/// Starts a node `--rounds` times for each kind of epmd.
pub(super) fn run(binary: &Path, options: &Options) -> Result<Report> {
    let rounds = options.number("rounds", 15)?.max(10);
    let mut report = Report::new("link");
    report.add("own epmd", "ms", samples(binary, rounds, false)?, Some(300.0));
    report.add("stock epmd", "ms", samples(binary, rounds, true)?, Some(1300.0));
    if let (Some(own), Some(stock)) = (report.median("own epmd"), report.median("stock epmd")) {
        report.add("stock to own", "x", vec![stock / own], None);
    }
    Ok(report)
}

fn samples(binary: &Path, rounds: u64, stock: bool) -> Result<Vec<f64>> {
    let network = Network::new()?;
    let [here, there] = network.hosts()?;
    let _epmds = if stock { Some((here.epmd()?, there.epmd()?)) } else { None };
    let _agents = (here.agent(binary).start()?, there.agent(binary).start()?);
    let waits = there.beam("waits").start()?;
    // One machine plays all the nodes: it takes a name, notes the time, and gives the name up again.
    let node = here.beam("round").undistributed().start()?;
    let mut samples = Vec::new();
    for round in 0..rounds {
        let taken = node.eval(&format!(
            "Registers = erlang:monotonic_time(microsecond),
             {{ok, _}} = net_kernel:start(['{}', longnames]),
             net_kernel:monitor_nodes(true),
             case nodes() of [] -> receive {{nodeup, _}} -> ok after 60000 -> exit(no_link) end; _ -> ok end,
             erlang:monotonic_time(microsecond) - Registers",
            here.node_name(&format!("round{round}"))
        ))?;
        samples.push(taken.parse::<f64>()? / 1000.0);
        node.eval("net_kernel:stop()")?;
        waits.wait_count(GIVE_UP, 0)?;
    }
    Ok(samples)
}
