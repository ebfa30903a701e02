//! What the tests share: hosts with an agent and a node each, whose only topology is the one under test.

use std::{path::Path, time::Duration};

use anyhow::Result;
use metacluster_testbed::{Agent, Beam, Host, Tool};

/// How long a thing may take that nobody promised a time for, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// What every test of several hosts needs.
pub(crate) const NEEDED: [Tool; 3] = [Tool::Namespaces, Tool::Nftables, Tool::Erl];

/// The binary under test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_metacluster"))
}

/// An agent and a node. They drop in this order.
pub(crate) struct Site {
    pub(crate) beam: Beam,
    pub(crate) agent: Agent,
}

/// An agent on each host with this one topology (the lines of its table), and a node `shop` that links with nobody by
/// itself.
pub(crate) fn sites(hosts: &[Host], topology: &str) -> Result<Vec<Site>> {
    let mut sites = Vec::new();
    for host in hosts {
        let config = format!("[[topology]]\nname = \"only\"\n{topology}");
        let agent = host.agent(binary()).config(&config)?.start()?;
        let beam = host.beam("shop").flags("-connect_all false").spawn()?;
        sites.push(Site { beam, agent });
    }
    for site in &sites {
        site.beam.wait_ready()?;
    }
    Ok(sites)
}

/// Waits until each of these nodes sees exactly the others.
pub(crate) fn full_mesh(sites: &[Site]) -> Result<()> {
    for site in sites {
        let others = sites.iter().map(|other| other.beam.name()).filter(|&name| name != site.beam.name());
        site.beam.wait_nodes(SOON, &others.collect::<Vec<_>>())?;
    }
    Ok(())
}
