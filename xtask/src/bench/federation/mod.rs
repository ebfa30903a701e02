//! Two clusters and their gateways, beside two BEAM nodes that are linked directly, two that are linked through two plain
//! TCP proxies in a row, and two that are linked through two proxies with the mutual TLS of gateways between them: calls,
//! messages of both sizes, processor time and groups, all on one machine in one run.
//!
//! Two hosts hold a node of each kind, so each kind has the same cable between. The four ways take turns, so that what else
//! the machine does meets all of them. What is timed is timed inside the nodes.

mod ways;

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use metacluster_testbed::{capture, eventually_value};

use self::ways::{WAYS, Way, Ways};
use super::{
    GIVE_UP, membership,
    report::{Bound, Report},
};
use crate::{arguments::Options, process::cargo};

/// Calls of a round, and how many rounds of them there are to one of the others: no other figure varies so much.
const CALLS: u32 = 3_000;
const CALL_ROUNDS: u64 = 3;
/// Messages of a round, and how many are under way at most, by size.
const SMALL: Stream = Stream { bytes: 100, count: 200_000, window: 16_000 };
const LARGE: Stream = Stream { bytes: 64 << 10, count: 4_000, window: 48 };
/// Groups that are published, and their members.
const GROUPS: u32 = 1_000;
const MEMBERS: u32 = 100;
/// A thousand groups in each of ten clusters, under simulation.
const SIMULATED: [&str; 6] = ["bench", "--quiet", "--package", "metacluster-sim", "--bench", "federation"];
/// How often a process joins and leaves.
const JOINS: usize = 30;

/// Messages one way.
#[derive(Clone, Copy, Debug)]
struct Stream {
    bytes: u32,
    count: u32,
    window: u32,
}

/// The parts that `--only` names.
const PARTS: [&str; 5] = ["calls", "small", "large", "groups", "simulated"];

/// Measures each way `--rounds` times, calls more often; with `--only`, that part alone.
pub(super) fn run(binary: &Path, options: &Options) -> Result<Report> {
    let rounds = options.number("rounds", 7)?.max(1);
    let only = options.text("only");
    if let Some(other) = only.filter(|only| !PARTS.contains(only)) {
        bail!("no part `{other}`; known: {}", PARTS.join(", "));
    }
    let wanted = |part: &str| only.is_none_or(|only| only == part);
    let mut report = Report::new("federation");
    let ways = Ways::start(binary)?;
    if wanted("calls") {
        calls(&mut report, &ways, rounds * CALL_ROUNDS)?;
    }
    if wanted("small") {
        streams(&mut report, &ways, rounds, ("100 B", SMALL), 0.5)?;
    }
    if wanted("large") {
        streams(&mut report, &ways, rounds, ("64 KiB", LARGE), 0.5)?;
    }
    if wanted("groups") {
        comings(&mut report, &ways)?;
        members(&mut report, &ways)?;
    }
    drop(ways);
    if wanted("simulated") {
        for line in capture(&mut cargo(&SIMULATED))?.lines() {
            membership::add(&mut report, line).with_context(|| format!("the bench of sim printed `{line}`"))?;
        }
    }
    Ok(report)
}

/// How long a `gen_server:call` takes, and what of the processors.
fn calls(report: &mut Report, ways: &Ways, rounds: u64) -> Result<()> {
    let (mut times, mut costs) = ([const { Vec::new() }; WAYS], [const { Vec::new() }; WAYS]);
    for _ in 0..rounds {
        for ((way, times), costs) in ways.all.iter().zip(&mut times).zip(&mut costs) {
            let before = way.used()?;
            let taken = way.ask(&format!("bench:trips({}, {CALLS})", way.at("server")))?;
            let after = way.used()?;
            times.push(taken / f64::from(CALLS));
            costs.push(after.between(&before) / f64::from(CALLS) * 1e6);
        }
    }
    let [direct, proxies, secured, gateways] = times;
    let (compared, alike) = (ratios(&gateways, &proxies), ratios(&gateways, &secured));
    report.add("call, direct", "us", direct, None);
    report.add("call, two proxies", "us", proxies, None);
    report.add("call, two proxies with TLS", "us", secured, None);
    report.add("call, two gateways", "us", gateways, None);
    report.add("call, gateways to proxies", "x", compared, Some(1.5));
    report.add("call, gateways to proxies with TLS", "x", alike, None);
    let [_, proxies, secured, gateways] = costs;
    report.add("call, processor, a proxy", "us", proxies, None);
    report.add("call, processor, a proxy with TLS", "us", secured, None);
    report.add("call, processor, a gateway", "us", gateways, None);
    Ok(())
}

/// How many messages arrive in a second, and what of the processors one takes.
fn streams(report: &mut Report, ways: &Ways, rounds: u64, (name, of): (&str, Stream), least: f64) -> Result<()> {
    let Stream { bytes, count, window } = of;
    let (mut rates, mut costs) = ([const { Vec::new() }; WAYS], [const { Vec::new() }; WAYS]);
    for _ in 0..rounds {
        for ((way, rates), costs) in ways.all.iter().zip(&mut rates).zip(&mut costs) {
            let before = way.used()?;
            let taken = way.ask(&format!("bench:stream({}, {bytes}, {count}, {window})", way.at("sink")))?;
            let after = way.used()?;
            rates.push(f64::from(count) / taken * 1e6);
            let each = |seconds: f64| seconds / f64::from(count) * 1e6;
            costs.push((each(after.nodes - before.nodes), each(after.between(&before))));
        }
    }
    let [direct, proxies, secured, gateways] = rates;
    let (compared, alike) = (ratios(&gateways, &direct), ratios(&gateways, &secured));
    report.add(format!("{name} one way, direct"), "/s", direct, None);
    report.add(format!("{name} one way, two proxies"), "/s", proxies, None);
    report.add(format!("{name} one way, two proxies with TLS"), "/s", secured, None);
    report.add(format!("{name} one way, two gateways"), "/s", gateways, None);
    report.compare(format!("{name} one way, gateways to direct"), "x", compared, &[Bound::Least(least)], Vec::new());
    report.add(format!("{name} one way, gateways to proxies with TLS"), "x", alike, None);
    let nodes: Vec<f64> = costs[0].iter().map(|(nodes, _)| *nodes).collect();
    let between = costs.map(|costs| costs.into_iter().map(|(_, between)| between).collect::<Vec<f64>>());
    let [_, proxies, secured, gateways] = between;
    let compared = ratios(&gateways, &nodes);
    report.add(format!("{name}, processor, both nodes, direct"), "us", nodes, None);
    report.add(format!("{name}, processor, a proxy"), "us", proxies, None);
    report.add(format!("{name}, processor, a proxy with TLS"), "us", secured, None);
    report.add(format!("{name}, processor, a gateway"), "us", gateways, None);
    report.add(format!("{name}, processor, a gateway to nodes"), "x", compared, Some(0.33));
    Ok(())
}

/// How long a join and a leave take to be known in the other cluster.
fn comings(report: &mut Report, ways: &Ways) -> Result<()> {
    let [.., Way { client, server, .. }] = &ways.all;
    let time = |text: String| -> Result<f64> { text.trim().parse().with_context(|| format!("`{text}` is no time")) };
    client.eval("bench:watch(coming)")?;
    let (mut joins, mut leaves, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..JOINS * 2 {
        let joined = time(server.eval("bench:join(coming)")?)?;
        joins.push((time(client.eval("bench:seen(join)")?)? - joined) / 1000.0);
        let (how, samples) = if round % 2 == 0 { ("leaves", &mut leaves) } else { ("ends", &mut ends) };
        if how == "ends" {
            server.eval("true = is_process_alive(whereis(joined))")?;
        }
        let left = time(server.eval(&format!("bench:leave(coming, {how})"))?)?;
        samples.push((time(client.eval("bench:seen(leave)")?)? - left) / 1000.0);
    }
    for (what, samples) in [("a join is known", joins), ("a leave is known", leaves), ("an exit is known", ends)] {
        report.compare(what, "ms", samples, &[Bound::Most(100.0)], Vec::new());
    }
    Ok(())
}

/// How long many members take to be published, and what they cost each gateway.
fn members(report: &mut Report, ways: &Ways) -> Result<()> {
    let [.., way] = &ways.all;
    let count = GROUPS * MEMBERS;
    let before = way.memory()?;
    way.client.eval(&format!("bench:await({count}, 60000)"))?;
    let joined: f64 = way.server.eval(&format!("bench:crowd({GROUPS}, {MEMBERS})"))?.parse()?;
    let came = eventually_value(GIVE_UP, "all members are published", || {
        way.client.eval("bench:came()").map_err(|error| format!("{error:#}"))
    })?;
    let came: f64 = came.parse()?;
    let after = way.memory()?;
    report.add(format!("{count} members in {GROUPS} groups"), "s", vec![(came - joined) / 1e6], Some(2.0));
    for (which, (before, after)) in ["their own", "the far"].iter().zip(before.iter().zip(&after)) {
        let each = (after - before).max(0.0) / f64::from(count);
        report.add(format!("memory a member, {which} gateway"), "B", vec![each], Some(200.0));
    }
    Ok(())
}

fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
}
