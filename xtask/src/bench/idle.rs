//! What an idle agent costs: memory and processor time beside `serf agent` in the same run, and the size of the binary.
//!
//! Each has one peer: two agents with a BEAM node each, two serfs that joined one another.

use std::{fs, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use metacluster_testbed::{Child, Host, Network, eventually};

use super::{GIVE_UP, mebibytes, report::Report};
use crate::arguments::Options;

/// Watches both for `--seconds`.
pub(super) fn run(binary: &Path, options: &Options) -> Result<Report> {
    let seconds = options.number("seconds", 30)?.max(1);
    let network = Network::new()?;
    let [here, there] = network.hosts()?;
    let agents = [here.agent(binary).start()?, there.agent(binary).start()?];
    let beams = [here.beam("idle").start()?, there.beam("idle").start()?];
    for beam in &beams {
        beam.wait_count(GIVE_UP, 1)?;
    }
    let serfs = [serf(&here, None)?, serf(&there, Some(&here))?];
    eventually(GIVE_UP, "serf has two members", || {
        let mut members = here.command("serf");
        let text = metacluster_testbed::capture(members.arg("members")).map_err(|error| error.to_string())?;
        if text.lines().filter(|line| line.contains("alive")).count() == 2 { Ok(()) } else { Err(text) }
    })?;

    let pids = [agents[0].pid(), serfs[0].pid()];
    let before = [ticks(pids[0])?, ticks(pids[1])?];
    let (mut resident, mut own) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..seconds {
        // The time is what is measured here.
        std::thread::sleep(Duration::from_secs(1));
        for (index, pid) in pids.into_iter().enumerate() {
            resident[index].push(memory_mib(pid, "Rss:")?);
            own[index].push(memory_mib(pid, "Anonymous:")?);
        }
    }
    let share = |index: usize| -> Result<f64> {
        let used = ticks(pids[index])?.saturating_sub(before[index]);
        // A tick is 10 ms, so ticks a second are percent of a core.
        Ok(f64::from(u32::try_from(used)?) / f64::from(u32::try_from(seconds)?))
    };
    let mut report = Report::new("idle");
    let [ours, theirs] = resident;
    report.add("metacluster, resident", "MiB", ours, Some(15.0));
    report.add("serf, resident", "MiB", theirs, None);
    let [ours, theirs] = own;
    report.add("metacluster, but for pages of files", "MiB", ours, None);
    report.add("serf, but for pages of files", "MiB", theirs, None);
    report.add("metacluster, of a core", "%", vec![share(0)?], Some(0.3));
    report.add("serf, of a core", "%", vec![share(1)?], None);
    if let (Some(ours), Some(theirs)) = (report.median("metacluster, resident"), report.median("serf, resident")) {
        report.add("metacluster to serf, resident", "x", vec![ours / theirs], None);
    }
    report.add("metacluster, binary", "MiB", vec![mebibytes(binary)?], Some(20.0));
    report.add("serf, binary", "MiB", vec![mebibytes(Path::new("/usr/bin/serf"))?], None);
    Ok(report)
}

fn serf(host: &Host, join: Option<&Host>) -> Result<Child> {
    let mut command = host.command("serf");
    command.args(["agent", "-node", &host.short_name(), "-bind", &host.address().to_string()]);
    if let Some(join) = join {
        command.args(["-retry-join", &join.address().to_string(), "-retry-interval", "1s"]);
    }
    Child::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()), "serf")
}

/// A sum over the memory of a process. Pages of the program's file are resident too, and the kernel takes them back when
/// it needs the room; what is anonymous is the process's own.
fn memory_mib(pid: u32, what: &str) -> Result<f64> {
    let sums = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("it has ended")?;
    let line = sums.lines().find_map(|line| line.strip_prefix(what)).with_context(|| format!("no {what}"))?;
    let kib: u32 = line.trim().trim_end_matches(" kB").parse().with_context(|| format!("{what} is no number"))?;
    Ok(f64::from(kib) / 1024.0)
}

/// The processor time of a process so far, in ticks of 10 ms.
fn ticks(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("it has ended")?;
    let (_, fields) = stat.rsplit_once(") ").context("no fields")?;
    let mut times = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
    match (times.next(), times.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok(user + system),
        _ => anyhow::bail!("no times in {stat}"),
    }
}
