//! Agents know one another: who is there, who failed, who left, and who is none of theirs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use metacluster_testbed::{Agent, Child, Host, Lines, Network, eventually, eventually_value, require};
use serde_json::Value;

use crate::support::{NEEDED, SOON, agent_node, binary, full_mesh, sites};

/// How soon every other agent must hold a killed one failed.
const FAILED_WITHIN: Duration = Duration::from_secs(5);

fn members(agent: &Agent) -> Result<Vec<Value>> {
    Ok(agent.json("members")?["members"].as_array().cloned().unwrap_or_default())
}

/// How many members an agent shows in that state, itself among them.
fn count(agent: &Agent, state: &str) -> usize {
    members(agent).unwrap_or_default().iter().filter(|member| member["state"] == state).count()
}

fn wait_count(agent: &Agent, within: Duration, state: &str, wanted: usize) -> Result<Duration> {
    eventually(within, &format!("{wanted} members are {state}"), || match count(agent, state) {
        found if found == wanted => Ok(()),
        found => Err(format!("{found}: {:?}; the log: {}", members(agent), agent.log())),
    })
}

fn member(agent: &Agent, address: &str) -> Result<Value> {
    let found = members(agent)?.into_iter().find(|member| member["address"] == address);
    found.with_context(|| format!("no member at {address}"))
}

fn at(host: &Host) -> String {
    format!("{}:45893", host.address())
}

/// Seeds by a list of names, so that no node is needed.
fn seeded_by(addresses: &[&str]) -> String {
    let nodes: Vec<String> = addresses.iter().map(|address| format!("\"seed@{address}\"")).collect();
    format!("[[topology]]\nname = \"seeds\"\nstrategy = \"static\"\nnodes = [{}]\n", nodes.join(", "))
}

#[test]
fn three_hosts_know_one_another_and_a_leave_at_once() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let mut sites: [_; 3] = sites("")?;
    full_mesh(SOON, sites.iter().map(|site| &site.beam))?;
    for site in &sites {
        wait_count(&site.agent, SOON, "alive", 3)?;
    }
    let [first, second, third] = &mut sites;
    let seen = eventually_value(SOON, "its nodes are told", || {
        let seen = member(&first.agent, &at(&second.host)).map_err(|error| error.to_string())?;
        let nodes = seen["nodes"].as_array().cloned().unwrap_or_default();
        let told = nodes.iter().any(|node| node["name"] == second.beam.name() && node["state"] == "up");
        if told && seen["name"] == agent_node(second) { Ok(seen) } else { Err(seen.to_string()) }
    })?;
    for field in ["id", "name", "address", "cluster", "zone", "region", "roles", "tags", "state", "since"] {
        ensure!(seen.get(field).is_some(), "{field} is missing in {seen}");
    }
    eventually(SOON, "the nodes of both are candidates", || {
        let topologies = first.agent.json("topologies").map_err(|error| format!("{error:#}"))?;
        let mut all = topologies["topologies"].as_array().into_iter().flatten();
        let built_in = all.find(|one| one["strategy"] == "members").ok_or("no topology of members")?;
        if built_in["candidates"].as_array().map(Vec::len) == Some(2) { Ok(()) } else { Err(built_in.to_string()) }
    })?;
    let called =
        first.beam.eval(&format!("length(gen_server:call({{metacluster, '{}'}}, members))", agent_node(first)))?;
    assert_eq!(called, "3");
    let table = String::from_utf8(first.agent.ask(&["members"])?.stdout)?;
    assert!(table.contains(&agent_node(third)) && table.ends_with("3 of 3 members alive\n"), "{table}");

    let (_following, events) = first.agent.follow()?;
    third.agent.terminate()?;
    wait_count(&first.agent, Duration::from_secs(2), "left", 1)?;
    wait_count(&second.agent, Duration::from_secs(2), "left", 1)?;
    let left = |line: &str| line.contains("\"member_leave\"") && line.contains(&third.host.address().to_string());
    events.wait_for(SOON, "member_leave", left)?;
    // The agent has gone and its node has not.
    assert!(first.beam.nodes()?.contains(third.beam.name()));
    Ok(())
}

#[test]
fn a_killed_agent_is_failed_soon_and_its_nodes_stay() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let mut sites: [_; 3] = sites("")?;
    full_mesh(SOON, sites.iter().map(|site| &site.beam))?;
    for site in &sites {
        wait_count(&site.agent, SOON, "alive", 3)?;
    }
    let [first, second, third] = &mut sites;
    let id = member(&first.agent, &at(&third.host))?["id"].clone();
    let watch = first.beam.watch()?;
    let killed = Instant::now();
    third.agent.kill9()?;
    for other in [&*first, &*second] {
        wait_count(&other.agent, FAILED_WITHIN, "failed", 1)?;
    }
    report("a killed agent is failed at all others", killed.elapsed());
    assert!(first.beam.nodes()?.contains(third.beam.name()), "its node lives");
    third.agent = third.host.agent(binary()).start()?;
    for site in [&*first, &*second, &*third] {
        wait_count(&site.agent, SOON, "alive", 3)?;
    }
    assert_eq!(member(&first.agent, &at(&third.host))?["id"], id, "the same member, of a later boot");
    assert!(watch.changes()?.is_empty(), "no link was lost");
    Ok(())
}

/// A command on a terminal of its own; its output ends with the guard.
fn on_a_terminal(agent: &Agent, command: &str) -> Result<(Child, Lines)> {
    let line = format!("exec {} {command} --socket {}", binary().display(), agent.socket().display());
    let mut script = Command::new("script");
    script.args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"]);
    script
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    let mut child = Child::spawn(&mut script, "script")?;
    let lines = Lines::read(child.take_stdout().context("an output")?);
    Ok((child, lines))
}

#[test]
fn a_watched_table_is_drawn_anew_on_a_terminal_and_told_by_lines_elsewhere() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [one, two] = network.hosts()?;
    let seed = seeded_by(&[&one.address().to_string()]);
    let here = one.agent(binary()).config(&seed)?.start()?;
    let mut there = two.agent(binary()).config(&seed)?.start()?;
    wait_count(&here, SOON, "alive", 2)?;

    let (mut watching, screen) = on_a_terminal(&here, "members --watch")?;
    screen.wait_for(SOON, "the whole table", |line| line.contains("2 of 2 members alive"))?;
    let mut plain = here.command(&["members", "--watch"]);
    let mut following = Child::spawn(plain.stdout(Stdio::piped()).stderr(Stdio::null()), "members --watch")?;
    let told = Lines::read(following.take_stdout().context("an output")?);
    told.wait_for(SOON, "who is there", |line| line.contains(&two.address().to_string()) && line.contains("alive"))?;

    there.kill9()?;
    screen.wait_for(SOON, "the table once more", |line| line.contains("1 of 2 members alive"))?;
    told.wait_for(SOON, "the change", |line| line.contains(&two.address().to_string()) && line.contains("failed"))?;
    let drawn = screen.text();
    assert!(drawn.matches("\u{1b}[H").count() >= 2, "each table takes the place of the one before: {drawn:?}");
    assert!(drawn.contains("\u{1b}[32m"), "in colour: {drawn:?}");
    assert!(!told.text().contains('\u{1b}'), "no escapes where there is no terminal: {}", told.text());

    // The agent ends, and both watchers with it.
    drop(here);
    watching.wait(SOON)?;
    following.wait(SOON)?;
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a figure for who runs the test by hand")]
fn report(what: &str, took: Duration) {
    eprintln!("{what}: {} ms", took.as_millis());
}

#[test]
fn strangers_are_refused_counted_and_named_once() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [one, two, foreign, keyless] = network.hosts()?;
    let seed = seeded_by(&[&one.address().to_string()]);
    let here = one.agent(binary()).config(&seed)?.start()?;
    let friend = two.agent(binary()).config(&seed)?.start()?;
    let _foreign = foreign.agent(binary()).config(&format!("cluster = \"other\"\n{seed}"))?.start()?;
    keyless.write_cookie("ANOTHERCOOKIE")?;
    let _keyless = keyless.agent(binary()).config(&seed)?.start()?;
    let garbage = format!(
        "for n in $(seq 50); do head -c $((n * 60)) /dev/urandom > /dev/udp/{0}/45893; done; \
         head -c 3000000 /dev/zero > /dev/tcp/{0}/45893; exit 0",
        one.address()
    );
    let sent = two.command("bash").args(["-c", &garbage]).output().context("bash")?;
    ensure!(sent.status.success(), "{sent:?}");
    wait_count(&here, SOON, "alive", 2)?;
    wait_count(&friend, SOON, "alive", 2)?;
    eventually(SOON, "they are counted", || {
        let counters = here.json("members").map_err(|error| error.to_string())?["counters"].clone();
        let some = |name: &str| counters[name].as_u64().unwrap_or_default() > 0;
        let refused =
            counters["malformed"].as_u64().unwrap_or_default() + counters["incompatible"].as_u64().unwrap_or_default();
        if some("foreign") && some("wrong_key") && refused >= 50 { Ok(()) } else { Err(counters.to_string()) }
    })?;
    for (stranger, says) in
        [(&foreign, "is of another cluster"), (&keyless, "seals with a key that this agent does not have")]
    {
        let log = here.log();
        let lines = log.lines().filter(|line| line.contains(says)).collect::<Vec<_>>();
        assert!(lines.len() == 1 && lines[0].contains(&stranger.address().to_string()), "{log}");
    }
    assert_eq!(count(&here, "alive"), 2);
    Ok(())
}

#[test]
fn a_corrupt_snapshot_is_said_once_and_replaced() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [one, two] = network.hosts()?;
    let state = one.home().join("state");
    fs::create_dir(&state)?;
    fs::write(state.join("members.snapshot"), b"MCSN garbage")?;
    let seed = seeded_by(&[&one.address().to_string()]);
    let here = one.agent(binary()).config(&seed)?.start()?;
    let _other = two.agent(binary()).config(&seed)?.start()?;
    wait_count(&here, SOON, "alive", 2)?;
    let log = here.log();
    assert_eq!(log.lines().filter(|line| line.contains("members.snapshot")).count(), 1, "{log}");
    eventually(SOON, "it is replaced", || match fs::read(state.join("members.snapshot")) {
        Ok(bytes) if bytes.len() > 60 => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    Ok(())
}

/// How often an agent counted that.
fn counted(agent: &Agent, what: &str) -> Result<u64> {
    agent.json("members")?["counters"][what].as_u64().with_context(|| format!("no counter {what}"))
}

fn lines_with(agent: &Agent, words: &str) -> usize {
    agent.log().lines().filter(|line| line.contains(words)).count()
}

#[test]
fn an_agent_that_stood_still_says_so_and_judges_nobody_for_it() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let hosts: [Host; 3] = network.hosts()?;
    let seed = seeded_by(&[&hosts[0].address().to_string()]);
    let agents: Vec<Agent> =
        hosts.iter().map(|host| host.agent(binary()).config(&seed)?.start()).collect::<Result<_>>()?;
    for agent in &agents {
        wait_count(agent, SOON, "alive", 3)?;
    }
    let [still, others @ ..] = &agents[..] else { unreachable!("three agents") };
    still.pause()?;
    for other in others {
        wait_count(other, SOON, "failed", 1)?;
    }
    let said = lines_with(still, "this process stood still for");
    still.resume()?;
    for agent in &agents {
        wait_count(agent, SOON, "alive", 3)?;
    }
    eventually(SOON, "it says so", || match lines_with(still, "this process stood still for") {
        now if now > said => Ok(()),
        _ => Err(still.log()),
    })?;
    eventually(SOON, "it is counted", || match counted(still, "pauses") {
        Ok(1..) => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    assert_eq!(counted(still, "failed")?, 0, "it held nobody failed: {}", still.log());
    Ok(())
}

#[test]
fn two_members_with_one_name_are_told_and_counted_and_both_stay() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let hosts: [Host; 3] = network.hosts()?;
    let seed = seeded_by(&[&hosts[0].address().to_string()]);
    let named = format!("host = \"twin.example\"\n{seed}");
    let watcher = hosts[0].agent(binary()).config(&seed)?.start()?;
    let twins: Vec<Agent> =
        hosts[1..].iter().map(|host| host.agent(binary()).config(&named)?.start()).collect::<Result<_>>()?;
    for agent in twins.iter().chain([&watcher]) {
        wait_count(agent, SOON, "alive", 3)?;
        eventually(SOON, "it is said", || match lines_with(agent, "both have the name metacluster@twin.example") {
            1.. => Ok(()),
            0 => Err(agent.log()),
        })?;
        eventually(SOON, "it is counted", || match counted(agent, "names_shared") {
            Ok(1..) => Ok(()),
            other => Err(format!("{other:?}")),
        })?;
    }
    Ok(())
}

/// A small file system that goes with its guard.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path) -> Result<Self> {
        fs::create_dir(path)?;
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs"]).arg(path).status()?;
        ensure!(mounted.success(), "cannot mount a tmpfs");
        Ok(Self(path.to_owned()))
    }

    fn fill(&self) {
        // It ends with the error that is wanted.
        drop(fs::write(self.0.join("filler"), vec![0; 1 << 20]));
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn a_full_state_folder_is_said_and_the_agent_goes_on() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [one, two] = network.hosts()?;
    let small = Small::mount(&one.home().join("state"))?;
    let seed = seeded_by(&[&one.address().to_string()]);
    let here = one.agent(binary()).config(&seed)?.start()?;
    small.fill();
    let mut other = two.agent(binary()).config(&seed)?.start()?;
    wait_count(&here, SOON, "alive", 2)?;
    let failing = |line: &str| line.contains("cannot write") && line.contains("members.snapshot");
    here.complaints().wait_for(SOON, "it says that it cannot write", failing)?;
    fs::remove_file(small.0.join("filler"))?;
    other.kill9()?;
    wait_count(&here, SOON, "failed", 1)?;
    here.complaints().wait_for(SOON, "it writes again", |line: &str| line.contains("is written again"))?;
    let lines = here.log();
    assert_eq!(lines.lines().filter(|line| failing(line)).count(), 1, "{lines}");
    drop(here);
    Ok(())
}

#[test]
fn after_an_outage_with_all_addresses_new_the_cluster_is_whole_again() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let hosts: [Host; 5] = network.hosts()?;
    let seed = seeded_by(&[&hosts[0].address().to_string()]);
    let mut agents = Vec::new();
    for host in &hosts {
        agents.push(host.agent(binary()).config(&seed)?.start()?);
    }
    for agent in &agents {
        wait_count(agent, SOON, "alive", 5)?;
    }
    let ids = |agent: &Agent| -> Result<Vec<String>> {
        let mut ids: Vec<String> = members(agent)?.iter().map(|member| member["id"].to_string()).collect();
        ids.sort();
        Ok(ids)
    };
    let before = ids(&agents[0])?;
    for host in &hosts {
        let kept = host.home().join("state/members.snapshot");
        eventually(SOON, "every snapshot knows the others", || match fs::read(&kept) {
            Ok(bytes) if bytes.len() > 4 * 30 => Ok(()),
            other => Err(format!("{:?}", other.map(|bytes| bytes.len()))),
        })?;
    }
    for agent in &mut agents {
        agent.kill9()?;
    }
    // Each gets the address that another one had, or a new one; discovery knows one of them.
    for (number, host) in hosts.iter().enumerate() {
        host.move_to(&format!("10.91.0.{}", if number < 4 { number + 2 } else { 101 }))?;
    }
    let seed = seeded_by(&["10.91.0.101"]);
    let started = Instant::now();
    let mut agents = Vec::new();
    for host in &hosts {
        agents.push(host.agent(binary()).config(&seed)?.start()?);
    }
    for agent in &agents {
        wait_count(agent, SOON, "alive", 5)?;
    }
    let took = started.elapsed();
    report("whole again after an outage with all addresses new", took);
    assert!(took < Duration::from_secs(30), "{took:?}");
    for agent in &agents {
        assert_eq!(ids(agent)?, before, "the same members, and no others");
    }
    Ok(())
}
