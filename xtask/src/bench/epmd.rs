//! Our epmd beside the stock one, in the same run: look-ups one after another and from many clients at once, how many
//! nodes it holds, and what one of them costs in memory.
//!
//! Both run on free ports of the loopback and take many short turns, now one first and now the other, so that what else the
//! machine does meets both; how they compare is the median of what each pair of turns gives. The processor time of the
//! server is counted too: it does not depend on who else has the processor.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use metacluster_testbed::{Child, eventually, free_port};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{GIVE_UP, report::Report};
use crate::arguments::Options;

/// Clients that ask at once.
const CLIENTS: u64 = 64;

/// Nodes more than this are not tried: the goal.
const NODES_MAX: u64 = 50_000;

/// Nodes from which the memory of one is counted.
const NODES_COUNTED: u64 = 900;

/// A node that waits so long for its reply is not registered.
const REPLY_WITHIN: Duration = Duration::from_secs(2);

/// An epmd that is measured.
struct Epmd {
    name: &'static str,
    child: Child,
    at: SocketAddr,
}

/// Looks up `--lookups` times a round, for `--rounds`.
pub(super) fn run(binary: &Path, options: &Options) -> Result<Report> {
    let lookups = options.number("lookups", 2_000)?.max(CLIENTS);
    let rounds = options.number("rounds", 25)?.max(1);
    // Each node is a connection at this end too.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let start = |name, program: &Path, first: &[&str]| -> Result<Epmd> {
        let port = free_port()?;
        let mut command = Command::new(program);
        command.args(first).args(["-port", &port.to_string()]);
        let child = Child::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()), name)?;
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        eventually(GIVE_UP, "epmd listens", || TcpStream::connect(at).map(drop).map_err(|error| error.to_string()))?;
        Ok(Epmd { name, child, at })
    };
    let both = [start("stock", Path::new("epmd"), &[])?, start("ours", binary, &["epmd"])?];
    let mut report = Report::new("epmd");

    let held = [register(&both[0], 0)?, register(&both[1], 0)?];
    for (what, clients) in [("one after another", 1), ("64 at once", CLIENTS)] {
        let (mut rates, mut costs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for round in 0..rounds {
            for index in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let (rate, cost) = look_up(&both[index], clients, lookups)?;
                rates[index].push(rate);
                costs[index].push(cost);
            }
        }
        add(&mut report, &format!("look-ups {what}"), "/s", rates, 1.0);
        add(&mut report, &format!("processor a look-up, {what}"), "µs", costs, -1.0);
    }
    drop(held);

    println!("at most {hard} descriptors on this machine, and as many nodes");
    let mut kept = [Vec::new(), Vec::new()];
    let mut bytes = [Vec::new(), Vec::new()];
    for (index, epmd) in both.iter().enumerate() {
        let (count, each) = fill(epmd)?;
        kept[index].push(count);
        bytes[index].push(each);
    }
    add(&mut report, "registrations held", "", kept, 1.0);
    add(&mut report, "memory a registration", "B", bytes, -1.0);
    Ok(report)
}

/// Adds both figures and how they compare: more than 1 is better for us. `better` is 1 where more is better and -1
/// where less is.
fn add(report: &mut Report, what: &str, unit: &'static str, samples: [Vec<f64>; 2], better: f64) {
    let [stock, ours] = samples;
    let ratios = stock.iter().zip(&ours).map(|(stock, ours)| (ours / stock).powf(better)).collect();
    report.add(format!("{what}: stock"), unit, stock, None);
    report.add(format!("{what}: ours"), unit, ours, None);
    report.add(format!("{what}: ahead by"), "x", ratios, None);
}

/// Registers a node; it stays so while its connection lives.
fn register(epmd: &Epmd, number: u64) -> Result<TcpStream> {
    // One client address has too few ports for all of them.
    let at = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 1 + u8::try_from(number / 20_000)?).into(), epmd.at.port());
    let name = format!("node{number:06}");
    let mut stream = TcpStream::connect(at).with_context(|| format!("{} does not accept", epmd.name))?;
    stream.set_read_timeout(Some(REPLY_WITHIN))?;
    let length = u8::try_from(name.len())?;
    let mut request = vec![0, 13 + length, b'x', 0x10, 0, 77, 0, 0, 6, 0, 5, 0, length];
    request.extend_from_slice(name.as_bytes());
    request.extend([0, 0]);
    stream.write_all(&request)?;
    let mut reply = [0; 6];
    stream.read_exact(&mut reply).with_context(|| format!("{} does not register {name}", epmd.name))?;
    anyhow::ensure!(reply[..2] == *b"v\0", "{} refuses {name}", epmd.name);
    Ok(stream)
}

/// Look-ups a second, and the processor time of the server for one in microseconds.
fn look_up(epmd: &Epmd, clients: u64, lookups: u64) -> Result<(f64, f64)> {
    let at = epmd.at;
    let each = lookups / clients;
    let before = processor(epmd)?;
    let started = Instant::now();
    let clients: Vec<_> = (0..clients)
        .map(|_| {
            thread::spawn(move || -> Result<()> {
                for _ in 0..each {
                    let mut stream = TcpStream::connect(at)?;
                    stream.write_all(b"\0\x0bznode000000")?;
                    let mut answer = Vec::with_capacity(64);
                    stream.read_to_end(&mut answer)?;
                    anyhow::ensure!(answer.len() == 24, "a wrong answer: {answer:?}");
                }
                Ok(())
            })
        })
        .collect();
    let count = count(each * u64::try_from(clients.len())?)?;
    for client in clients {
        let Ok(outcome) = client.join() else { bail!("a client has panicked") };
        outcome?;
    }
    let taken = started.elapsed().as_secs_f64();
    Ok((count / taken, (processor(epmd)? - before) / count * 1e6))
}

/// Registers nodes until the server takes no more; how many, and the memory of one in bytes.
fn fill(epmd: &Epmd) -> Result<(f64, f64)> {
    let before = memory(epmd)?;
    let (mut held, mut grown) = (Vec::new(), None);
    for number in 1..=NODES_MAX {
        match register(epmd, number) {
            Ok(stream) => held.push(stream),
            // Our own descriptors are as limited as its are.
            Err(_) => break,
        }
        if number == NODES_COUNTED {
            grown = Some((memory(epmd)? - before) / count(NODES_COUNTED)?);
        }
    }
    Ok((count(u64::try_from(held.len())?)?, grown.context("fewer nodes than are needed to count")?))
}

fn count(number: u64) -> Result<f64> {
    Ok(f64::from(u32::try_from(number)?))
}

/// The processor time that the threads of the process have had, in seconds; the kernel knows it to the nanosecond.
fn processor(epmd: &Epmd) -> Result<f64> {
    let mut nanoseconds = 0.0;
    for thread in fs::read_dir(format!("/proc/{}/task", epmd.child.pid())).context("no figures of epmd")? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += text.split_whitespace().next().context("no time")?.parse::<f64>()?;
    }
    Ok(nanoseconds / 1e9)
}

/// The memory that is the process's own, in bytes.
fn memory(epmd: &Epmd) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{}/status", epmd.child.pid())).context("no figures of epmd")?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}
