//! How long N BEAM nodes on N hosts, each with an agent, take from the start of the last agent to the full mesh.
//!
//! The nodes run before any agent does and know nobody. They are held against themselves: a mesh by hand, one node
//! that dials all others, is the least that a dialler without discovery could take.

use std::{path::Path, time::Instant};

use anyhow::Result;
use metacluster_testbed::{Agent, Beam, Host, Network};

use super::{
    GIVE_UP,
    report::{Report, milliseconds},
};
use crate::arguments::Options;

const SIZES: [u64; 4] = [2, 5, 10, 20];

/// Forms clusters of 2, 5, 10 and 20 nodes, or of `--nodes`.
pub(super) fn run(binary: &Path, options: &Options) -> Result<Report> {
    let mut report = Report::new("formation");
    let given = options.number("nodes", 0)?;
    let sizes = if given == 0 { SIZES.to_vec() } else { vec![given] };
    for size in sizes {
        let network = Network::new()?;
        let hosts: Vec<Host> = (0..size).map(|_| network.host()).collect::<Result<_>>()?;
        let beams = started(&hosts)?;

        let start = Instant::now();
        let names: Vec<&str> = beams.iter().map(Beam::name).collect();
        let all = names[1..].iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(",");
        beams[0].eval(&format!("[net_kernel:connect_node(N) || N <- [{all}]]"))?;
        wait_mesh(&beams)?;
        let by_hand = milliseconds(start.elapsed());
        report.add(format!("{size} nodes, meshed by hand"), "ms", vec![by_hand], None);
        drop(beams);

        let beams = started(&hosts)?;
        let agents: Vec<Agent> = hosts.iter().map(|host| host.agent(binary).spawn()).collect::<Result<_>>()?;
        let last_agent = Instant::now();
        wait_mesh(&beams)?;
        let ours = milliseconds(last_agent.elapsed());
        report.add(format!("{size} nodes, by metacluster"), "ms", vec![ours], None);
        report.add(format!("{size} nodes, metacluster to by hand"), "x", vec![ours / by_hand], None);
        drop(agents);
    }
    Ok(report)
}

fn started(hosts: &[Host]) -> Result<Vec<Beam>> {
    let beams: Vec<Beam> = hosts.iter().map(|host| host.beam("bench").spawn()).collect::<Result<_>>()?;
    for beam in &beams {
        beam.wait_ready()?;
    }
    Ok(beams)
}

/// Each node waits in itself, so that asking costs the machine nothing while the mesh forms.
fn wait_mesh(beams: &[Beam]) -> Result<()> {
    for beam in beams {
        beam.wait_count(GIVE_UP, beams.len() - 1)?;
    }
    Ok(())
}
