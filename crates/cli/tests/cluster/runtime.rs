//! Topologies that come and go while the agent runs, by command and by SIGHUP: no link goes for it.

use std::fs;

use anyhow::Result;
use metacluster_testbed::{Agent, Beam, Epmd, Host, Network, eventually, require};

use crate::support::{NEEDED, SOON, binary};

/// A file with these topologies and no membership, so that nothing else links the nodes.
fn file(topologies: &str) -> String {
    format!("[membership]\nenabled = false\n\n{topologies}")
}

fn fixed(name: &str, node: &str) -> String {
    format!("[[topology]]\nname = \"{name}\"\nstrategy = \"static\"\nnodes = [\"{node}\"]\n\n")
}

fn names(agent: &Agent) -> Result<Vec<String>> {
    let answer = agent.json("topologies")?;
    let topologies = answer["topologies"].as_array().cloned().unwrap_or_default();
    Ok(topologies.iter().filter_map(|topology| topology["name"].as_str().map(str::to_owned)).collect())
}

fn refused(agent: &Agent, arguments: &[&str], code: i32, words: &str) -> Result<()> {
    let output = agent.ask(arguments)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(words) && said.trim().lines().count() == 1, "{said}");
    Ok(())
}

/// An agent with a node, and two hosts with a node and no agent.
struct Three {
    agent: Agent,
    beams: [Beam; 3],
    _epmds: [Epmd; 2],
    /// The node that the agent's topology `first` names, and the one that it does not know yet.
    other: String,
    late: String,
}

fn three(hosts: &[Host; 3]) -> Result<Three> {
    let [here, there, third] = hosts;
    let (other, late) = (there.node_name("shop"), third.node_name("shop"));
    let agent = here.agent(binary()).config(&file(&fixed("first", &other)))?.start()?;
    let beams = [here.beam("shop").spawn()?, there.beam("shop").spawn()?, third.beam("shop").spawn()?];
    let epmds = [there.epmd()?, third.epmd()?];
    for beam in &beams {
        beam.wait_ready()?;
    }
    beams[0].wait_nodes(SOON, &[&other])?;
    Ok(Three { agent, beams, _epmds: epmds, other, late })
}

#[test]
fn topologies_are_added_changed_and_removed_by_command_and_no_link_goes_for_it() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let hosts: [Host; 3] = network.hosts()?;
    let Three { agent, beams, _epmds, other, late } = three(&hosts)?;
    let seen = beams[0].watch()?;
    let added = agent.ask(&["topologies", "add", &format!("static:name=second,nodes={late}")])?;
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    beams[0].wait_nodes(SOON, &[&other, &late])?;
    assert_eq!(names(&agent)?, ["first", "second"]);
    for name in ["first", "second"] {
        assert!(agent.ask(&["topologies", "remove", name])?.status.success());
    }
    eventually(SOON, "none is left", || match names(&agent).map_err(|error| error.to_string())?.as_slice() {
        [] => Ok(()),
        left => Err(format!("{left:?}")),
    })?;
    refused(&agent, &["topologies", "remove", "second"], 1, "there is no topology `second`")?;
    refused(&agent, &["topologies", "add", "gosip"], 1, "there is no strategy `gosip`: did you mean `gossip`?")?;
    let changes = seen.changes()?;
    assert_eq!(changes.iter().map(|change| (change.up, change.node.as_str())).collect::<Vec<_>>(), [(true, &*late)]);
    beams[0].wait_nodes(SOON, &[&other, &late])?;
    Ok(())
}

#[test]
fn a_file_is_read_again_on_sighup_and_one_with_faults_changes_nothing() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let hosts: [Host; 3] = network.hosts()?;
    let Three { agent, beams, _epmds, other, late } = three(&hosts)?;
    let seen = beams[0].watch()?;
    let path = hosts[0].home().join("metacluster.toml");

    fs::write(&path, file(&fixed("first", &other).replace("static", "statik")))?;
    agent.hang_up()?;
    agent.complaints().wait_for(SOON, "the fault", |line| line.contains("there is no strategy `statik`"))?;
    agent.complaints().wait_for(SOON, "that nothing changed", |line| line.contains("nothing was changed"))?;
    assert_eq!(names(&agent)?, ["first"]);

    let text = file(&(fixed("first", &other) + &fixed("second", &late)));
    fs::write(&path, format!("cluster = \"other\"\n{text}"))?;
    agent.hang_up()?;
    agent.complaints().wait_for(SOON, "what needs a restart", |line| line.contains("with a restart: cluster"))?;
    beams[0].wait_nodes(SOON, &[&other, &late])?;

    fs::write(&path, file(&fixed("second", &late)))?;
    agent.hang_up()?;
    eventually(SOON, "the first is gone", || match names(&agent).map_err(|error| error.to_string())?.as_slice() {
        [only] if only == "second" => Ok(()),
        others => Err(format!("{others:?}")),
    })?;
    let changes = seen.changes()?;
    assert_eq!(changes.iter().map(|change| (change.up, change.node.as_str())).collect::<Vec<_>>(), [(true, &*late)]);
    beams[0].wait_nodes(SOON, &[&other, &late])?;
    Ok(())
}
