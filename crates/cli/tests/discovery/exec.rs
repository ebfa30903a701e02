//! Through a program that is kept running, and ends with the agent.

use std::fs;

use anyhow::Result;
use metacluster_testbed::{Network, eventually, require};

use crate::support::{NEEDED, SOON, full_mesh, sites};

#[test]
fn nodes_form_by_what_a_program_prints_and_it_ends_with_the_agent() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let hosts: [_; 2] = network.hosts()?;
    for host in &hosts {
        fs::write(host.home().join("said"), "{\"snapshot\": []}\n")?;
    }
    let program = "[\"sh\", \"-c\", \"echo $$ > pid; exec tail -n +1 -f said\"]";
    let mut sites = sites(&hosts, &format!("strategy = \"exec\"\ncommand = {program}\n"))?;
    for host in &hosts {
        let lines: String =
            hosts.iter().map(|other| format!("{{\"add\": \"{}\"}}\n", other.node_name("shop"))).collect();
        fs::write(host.home().join("said"), format!("{{\"snapshot\": []}}\n{lines}"))?;
    }
    full_mesh(&sites)?;
    let pid = fs::read_to_string(hosts[0].home().join("pid"))?;
    sites[0].agent.terminate()?;
    eventually(SOON, "the program is gone", || match fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())) {
        Ok(command) if command.contains("tail") => Err(command),
        Ok(_) | Err(_) => Ok(()),
    })?;
    Ok(())
}
