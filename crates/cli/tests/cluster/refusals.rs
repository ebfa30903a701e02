//! What cannot start ends with one clear line and the documented exit status, and disturbs nobody.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use metacluster_testbed::{AgentBuilder, Network, capture, require};

use crate::support::{NEEDED, SOON, binary, full_mesh, sites};

/// How an agent that must not start ends: its exit status, and what it said.
fn refusal(agent: &AgentBuilder<'_>) -> Result<(Option<i32>, String)> {
    agent.spawn()?.ended(Duration::from_secs(10))
}

#[test]
fn six_faults_are_told_at_once_with_their_lines() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("six.toml");
    let text = "\
cluster = \"\"
zoen = \"a\"

[epmd]
mode = \"mine\"
port = 70000

[[topology]]
name = \"lan\"
strategy = \"gosip\"

[readiness]
nodes_min = \"three\"
";
    fs::write(&file, text)?;
    let output = std::process::Command::new(binary()).arg("check-config").arg(&file).output()?;
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8(output.stderr)?;
    let starts: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix(file.to_str()?)).collect();
    let lines: Vec<&str> = starts.iter().filter_map(|rest| rest.split(':').nth(1)).collect();
    assert_eq!(lines, ["1", "2", "5", "6", "10", "13"], "{said}");
    for hint in ["`zone`", "`gossip`", "auto, own, external"] {
        assert!(said.contains(hint), "no {hint} in:\n{said}");
    }
    // The agent says the same and starts nothing.
    let state = folder.path().join("state");
    let mut agent = std::process::Command::new(binary());
    agent.args(["agent", "--config"]).arg(&file).env("METACLUSTER_STATE_DIR", &state);
    let output = agent.output()?;
    assert_eq!((output.status.code(), String::from_utf8(output.stderr)?), (Some(64), said));
    assert!(!state.exists(), "a refused configuration left {}", state.display());
    Ok(())
}

#[test]
fn an_epmd_port_that_is_taken_is_named() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let host = network.host()?;
    let _epmd = host.epmd()?;
    let (code, said) = refusal(&host.agent(binary()).arguments(&["up", "--epmd", "own"]))?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("port 4369 is in use"), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    Ok(())
}

#[test]
fn a_second_agent_of_the_same_state_folder_is_refused() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let [site] = sites("")?;
    let (code, said) = refusal(&site.host.agent(binary()))?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("another agent (pid {})", site.agent.pid())), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    Ok(())
}

#[test]
fn a_second_agent_of_the_same_name_disturbs_nobody() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let sites: [_; 2] = sites("")?;
    full_mesh(SOON, sites.iter().map(|site| &site.beam))?;
    let [first, _] = &sites;
    let (_following, events) = first.agent.follow()?;
    let up = |line: &str| line.contains("\"nodeup\"");
    events.wait_for(SOON, "the events so far", up)?;
    let state = first.host.home().join("second").display().to_string();
    let second =
        first.host.agent(binary()).arguments(&["up", "--topology", "gossip", "--http", "off", "--state-dir", &state]);
    let second = second.spawn()?;
    let said =
        second.complaints().wait_for(SOON, "it says that the name is taken", |line| line.contains("node_name"))?;
    assert!(said.text.contains("metacluster"), "{}", said.text);
    // Had it taken the connections of the first agent, that would have happened within its first second.
    std::thread::sleep(Duration::from_secs(3));
    assert!(!events.text().contains("nodedown"), "{}\nthe second: {}", events.text(), second.log());
    Ok(())
}

#[test]
fn a_cookie_that_cannot_be_read_is_named() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let host = network.host()?;
    fs::remove_file(host.home().join(".erlang.cookie"))?;
    let (code, said) = refusal(&host.agent(binary()))?;
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains(".erlang.cookie"), "{said}");
    Ok(())
}

#[test]
fn a_command_without_an_agent_says_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("none.sock");
    for command in [&["nodes"][..], &["events"], &["leave"], &["wait", "--nodes", "1", "--timeout", "1ms"]] {
        let output = std::process::Command::new(binary()).args(command).arg("--socket").arg(&socket).output()?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(69), "{command:?}: {said}");
        assert!(said.contains("none.sock"), "{said}");
        assert_eq!(said.trim().lines().count(), 1, "{said}");
    }
    Ok(())
}

#[test]
fn the_configuration_of_the_readme_has_no_fault() -> Result<()> {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = fs::read_to_string(readme)?;
    let (_, example) = readme.split_once("```toml\n").context("an example")?;
    let (example, _) = example.split_once("```").context("its end")?;
    let folder = tempfile::tempdir()?;
    // The files that it names are on the reader's machine, not on this one.
    let (cookie, secret) = (folder.path().join("cookie"), folder.path().join("secret"));
    fs::write(&cookie, "COOKIE")?;
    fs::write(&secret, "hush")?;
    let example = example
        .replace("/etc/metacluster/cookie", &cookie.display().to_string())
        .replace("/etc/metacluster/gossip.secret", &secret.display().to_string());
    let file = folder.path().join("metacluster.toml");
    fs::write(&file, example)?;
    capture(std::process::Command::new(binary()).arg("check-config").arg(&file)).map(drop)
}
