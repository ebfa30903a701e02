//! Membership on real hosts (network namespaces): a silent death until the last node knows, loss, a record that its
//! provider ends, and an outage in which all addresses change. Debian's `serf` runs on the same hosts, in the same network.
//!
//! What is timed is the whole way: from just before the cable is pulled until the last surviving BEAM node, with the default
//! `net_ticktime` of 60 s, got its `nodedown`.

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use metacluster_testbed::{Agent, Beam, Child, Host, Line, Lines, Network, Sighting, eventually};

use super::{
    GIVE_UP,
    report::{Bound, Report},
};
use crate::arguments::Options;

/// So many hosts, as in every figure here.
const HOSTS: usize = 5;
/// What each cable loses in each direction, in per cent: two cables lie between two hosts, so a fifth of all is lost.
const CABLE_LOSS: u8 = 11;

/// What `--only` may name, and what its report is called.
const PARTS: [(&str, &str); 4] = [
    ("deaths", "membership-real-deaths"),
    ("loss", "membership-real-loss"),
    ("provider", "membership-real-provider"),
    ("outage", "membership-real-outage"),
];

/// Some twenty minutes, ten of them under loss; with `--quick` some three, with `--only` one part.
pub(super) fn run(binary: &Path, options: &Options) -> Result<Report> {
    let quick = options.is_given("quick");
    let (runs, serf_runs) = if quick { (5, 1) } else { (30, 5) };
    let loss_lasts = Duration::from_secs(if quick { 60 } else { 600 });
    let again = if quick { 1 } else { 5 };
    let only = options.text("only");
    let name = match only {
        Some(only) => PARTS.iter().find(|(part, _)| *part == only).map(|(_, name)| *name),
        None => Some("membership-real"),
    };
    let wanted = |part: &str| only.is_none_or(|only| only == part);
    let mut report = Report::beside(name.context("--only is one of deaths, loss, provider, outage")?, "serf");
    if wanted("deaths") {
        deaths(binary, (options.number("runs", runs)?.max(1), serf_runs), &mut report)?;
    }
    if wanted("loss") {
        loss(binary, loss_lasts, &mut report)?;
    }
    if wanted("provider") {
        let gone: Result<Vec<f64>> = (0..again).map(|_| ended_by_provider(binary)).collect();
        report.compare("dead record gone once the provider says so", "s", gone?, &[Bound::Most(10.0)], Vec::new());
    }
    if wanted("outage") {
        let back: Result<Vec<f64>> = (0..again).map(|_| outage(binary)).collect();
        report.compare("whole again after an outage, all addresses new", "s", back?, &[Bound::Most(30.0)], Vec::new());
    }
    Ok(report)
}

/// Hosts with an agent and a node each. The fields drop in this order.
struct Site {
    beam: Beam,
    agent: Agent,
    host: Host,
}

fn sites(binary: &Path) -> Result<Vec<Site>> {
    let network = Network::new()?;
    let hosts: [Host; HOSTS] = network.hosts()?;
    let mut sites = Vec::new();
    for host in hosts {
        let (agent, beam) = (host.agent(binary).start()?, host.beam("bench").spawn()?);
        sites.push(Site { beam, agent, host });
    }
    for site in &sites {
        site.beam.wait_ready()?;
    }
    whole(&sites)?;
    Ok(sites)
}

/// Waits until all nodes are linked and all agents know one another.
fn whole(sites: &[Site]) -> Result<()> {
    for site in sites {
        site.beam.wait_count(GIVE_UP, HOSTS - 1)?;
        wait_alive(&site.agent)?;
    }
    Ok(())
}

/// Waits until no agent doubts itself any more, as who was cut off a moment ago does.
fn calm(sites: &[Site]) -> Result<()> {
    for site in sites {
        eventually(GIVE_UP, "the agent trusts itself", || {
            let answer = site.agent.get("/v1/members").map_err(|error| format!("{error:#}"))?;
            let health = &answer["counters"]["health"];
            if health == 0 { Ok(()) } else { Err(health.to_string()) }
        })?;
    }
    Ok(())
}

fn wait_alive(agent: &Agent) -> Result<()> {
    eventually(GIVE_UP, "all agents are members", || {
        let states = states(agent).map_err(|error| format!("{error:#}"))?;
        let alive = states.iter().filter(|(_, state)| state == "alive").count();
        if alive == HOSTS { Ok(()) } else { Err(format!("{states:?}")) }
    })
    .map(drop)
}

/// The members as an agent shows them: address and state.
fn states(agent: &Agent) -> Result<Vec<(String, String)>> {
    let answer = agent.get("/v1/members")?;
    let members = answer["members"].as_array().context("no members")?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    Ok(members.iter().map(|member| (text(&member["address"]), text(&member["state"]))).collect())
}

fn deaths(binary: &Path, (runs, serf_runs): (u64, usize), report: &mut Report) -> Result<()> {
    let (mut took, mut suspect, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    // Each host dies once: one that failed a moment ago and came back is given twice the time, for its links' sake.
    let mut round = Vec::new();
    for run in 0..usize::try_from(runs)? {
        let dead = run % HOSTS;
        if dead == 0 {
            round.clear();
            round = sites(binary)?;
        }
        let sites = &round;
        calm(sites)?;
        let followed: Vec<(Child, Lines)> = sites.iter().map(|site| site.agent.follow()).collect::<Result<_>>()?;
        let others =
            || followed.iter().enumerate().filter(move |(number, _)| *number != dead).map(|(_, (_, lines))| lines);
        let survivors = || sites.iter().enumerate().filter(move |(number, _)| *number != dead).map(|(_, site)| site);
        let seen: Vec<Sighting<'_>> = survivors().map(|site| site.beam.watch()).collect::<Result<_>>()?;
        let cut = SystemTime::now();
        sites[dead].host.cable().cut()?;
        let mut last = Duration::ZERO;
        for sighting in &seen {
            let down = sighting.wait_for(GIVE_UP, false, sites[dead].beam.name())?;
            last = last.max(down.at.duration_since(cut).unwrap_or_default());
        }
        for sighting in &seen {
            let others = sighting.changes()?;
            let other = others.iter().find(|change| change.node != sites[dead].beam.name());
            ensure!(other.is_none(), "a link between two that live was lost: {other:?}");
        }
        took.push(last.as_secs_f64());
        let told = |event: &str| {
            let (event, member) = (format!("\"{event}\""), format!("metacluster@{}\"", sites[dead].host.address()));
            let fits = |line: &Line| line.at > cut && line.text.contains(&event) && line.text.contains(&member);
            let first =
                |lines: &Lines| lines.all().into_iter().find(&fits).and_then(|line| line.at.duration_since(cut).ok());
            others().filter_map(first).max().map_or(f64::NAN, |at| at.as_secs_f64())
        };
        suspect.push(told("member_suspect"));
        failed.push(told("member_failed"));
        sites[dead].host.cable().heal()?;
        whole(sites)?;
    }
    let theirs = serf_deaths(&round, serf_runs)?;
    let bounds = [Bound::Median(2.0), Bound::Most(3.0)];
    report.compare("silent death of one of 5, until nodedown on every node", "s", took, &bounds, theirs);
    report.compare("of that, until the last agent suspects it", "s", suspect, &[], Vec::new());
    report.compare("of that, until the last agent holds it failed", "s", failed, &[], Vec::new());
    Ok(())
}

/// A serf and what it prints.
struct Serf {
    _child: Child,
    lines: Lines,
}

fn serf(host: &Host, join: &Host) -> Result<Serf> {
    let mut command = host.command("serf");
    command.args(["agent", "-node", &host.short_name(), "-bind", &host.address().to_string()]);
    command.args(["-retry-join", &join.address().to_string(), "-retry-interval", "1s"]);
    let mut child = Child::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()), "serf")?;
    let lines = Lines::read(child.take_stdout().context("it has an output")?);
    Ok(Serf { _child: child, lines })
}

/// The same deaths, until every surviving serf says that the member failed. Serf knows nothing of nodes.
fn serf_deaths(sites: &[Site], runs: usize) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    for run in 0..runs {
        let dead = 1 + run % (HOSTS - 1);
        let serfs: Vec<Serf> = sites.iter().map(|site| serf(&site.host, &sites[0].host)).collect::<Result<_>>()?;
        for site in sites {
            eventually(GIVE_UP, "serf has all members", || {
                let mut members = site.host.command("serf");
                let text = metacluster_testbed::capture(members.arg("members")).map_err(|error| error.to_string())?;
                let alive = text.lines().filter(|line| line.contains("alive")).count();
                if alive == HOSTS { Ok(()) } else { Err(text) }
            })?;
        }
        let cut = SystemTime::now();
        sites[dead].host.cable().cut()?;
        let name = format!("EventMemberFailed: {} ", sites[dead].host.short_name());
        let mut last = Duration::ZERO;
        for (number, serf) in serfs.iter().enumerate().filter(|(number, _)| *number != dead) {
            let line = serf.lines.wait_for(GIVE_UP, &format!("serf {number}: {name}"), |line| line.contains(&name))?;
            last = last.max(line.at.duration_since(cut).unwrap_or_default());
        }
        took.push(last.as_secs_f64());
        drop(serfs);
        sites[dead].host.cable().heal()?;
        whole(sites)?;
    }
    Ok(took)
}

/// A fifth of all packets is lost between all hosts.
fn loss(binary: &Path, lasts: Duration, report: &mut Report) -> Result<()> {
    let sites = sites(binary)?;
    let followed: Vec<(Child, Lines)> = sites.iter().map(|site| site.agent.follow()).collect::<Result<_>>()?;
    let seen: Vec<Sighting<'_>> = sites.iter().map(|site| site.beam.watch()).collect::<Result<_>>()?;
    let begin = SystemTime::now();
    for site in &sites {
        site.host.cable().lose(CABLE_LOSS)?;
    }
    // The time is what is measured here.
    std::thread::sleep(lasts);
    let count = |event: &str| -> f64 {
        let event = format!("\"{event}\"");
        let lines = followed.iter().map(|(_, lines)| {
            lines.all().into_iter().filter(|line| line.at > begin && line.text.contains(&event)).count()
        });
        u32::try_from(lines.sum::<usize>()).map_or(f64::INFINITY, f64::from)
    };
    let links: usize = seen
        .iter()
        .map(|sighting| Ok(sighting.changes()?.iter().filter(|change| !change.up).count()))
        .sum::<Result<usize>>()?;
    let minutes = lasts.as_secs_f64() / 60.0;
    let what = |what: &str| format!("{what}, a fifth of all packets lost, {minutes} min");
    report.compare(what("healthy expelled of 5"), "", vec![count("member_failed")], &[Bound::Most(0.0)], Vec::new());
    report.compare(what("suspicions among 5"), "", vec![count("member_suspect")], &[], Vec::new());
    let links = u32::try_from(links).map_or(f64::INFINITY, f64::from);
    report.compare(what("nodedown at a node of 5"), "", vec![links], &[Bound::Most(0.0)], Vec::new());
    Ok(())
}

/// A host dies and its provider says so: how long until no agent shows it any more.
fn ended_by_provider(binary: &Path) -> Result<f64> {
    let network = Network::new()?;
    let hosts: [Host; HOSTS] = network.hosts()?;
    // One file for all of them, as a provider is one for all.
    let list = hosts[0].home().join("hosts");
    let write = |dead: Option<&Host>| -> Result<()> {
        let lines = hosts.iter().map(|host| {
            let state =
                if dead.is_some_and(|dead| dead.address() == host.address()) { "terminated" } else { "running" };
            format!("{{\"addresses\": [\"{}\"], \"state\": \"{state}\"}}\n", host.address())
        });
        let next = list.with_extension("next");
        fs::write(&next, lines.collect::<String>()).context("cannot write the list")?;
        fs::rename(&next, &list).context("cannot replace the list")
    };
    write(None)?;
    let config = format!("[[topology]]\nname = \"listed\"\nstrategy = \"file\"\npath = \"{}\"\n", list.display());
    let mut agents = Vec::new();
    for host in &hosts {
        agents.push(host.agent(binary).config(&config)?.start()?);
    }
    agents.iter().try_for_each(wait_alive)?;
    let dead = &hosts[HOSTS - 1];
    dead.cable().cut()?;
    let said = Instant::now();
    write(Some(dead))?;
    for agent in &agents[..HOSTS - 1] {
        let address = format!("{}:", dead.address());
        eventually(GIVE_UP, "its record is gone", || {
            let states = states(agent).map_err(|error| format!("{error:#}"))?;
            if states.iter().any(|(at, _)| at.starts_with(&address)) { Err(format!("{states:?}")) } else { Ok(()) }
        })?;
    }
    Ok(said.elapsed().as_secs_f64())
}

/// All agents die, all addresses change, all come back, and discovery knows one of the new addresses.
fn outage(binary: &Path) -> Result<f64> {
    let network = Network::new()?;
    let hosts: [Host; HOSTS] = network.hosts()?;
    let seeded = |address: &str| {
        format!("[[topology]]\nname = \"seeds\"\nstrategy = \"static\"\nnodes = [\"seed@{address}\"]\n")
    };
    let start = |address: &str| -> Result<Vec<Agent>> {
        let mut agents = Vec::new();
        for host in &hosts {
            agents.push(host.agent(binary).config(&seeded(address))?.start()?);
        }
        Ok(agents)
    };
    let mut agents = start(&hosts[0].address().to_string())?;
    agents.iter().try_for_each(wait_alive)?;
    for host in &hosts {
        let kept = host.home().join("state/members.snapshot");
        eventually(GIVE_UP, "every snapshot knows the others", || match fs::metadata(&kept) {
            Ok(file) if file.len() > 120 => Ok(()),
            other => Err(format!("{other:?}")),
        })?;
    }
    agents.iter_mut().try_for_each(Agent::kill9)?;
    drop(agents);
    // Each gets the address that another one had, or one that nobody had.
    for (number, host) in hosts.iter().enumerate() {
        let last = if number + 1 < HOSTS { number + 2 } else { 101 };
        host.move_to(&format!("10.91.0.{last}"))?;
    }
    let began = Instant::now();
    let agents = start("10.91.0.101")?;
    agents.iter().try_for_each(wait_alive)?;
    Ok(began.elapsed().as_secs_f64())
}
