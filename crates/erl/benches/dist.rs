//! How fast messages cross a connection: BEAM to BEAM, BEAM to Rust and Rust to BEAM, in turns, in one run.
//!
//! `cargo bench -p metacluster-erl --bench dist` prints a table; `-- --raw` prints a line for each series, for programs, and
//! `-- --only BYTES` measures that size alone.
//!
//! A figure is the median of the rounds: messages a second, or microseconds a round trip. In each round the three
//! directions follow one another, each time in another order, and what ours is beside BEAM to BEAM is the median of the
//! rounds' ratios: what else the machine does meets all three. The processor time of both ends is counted, too: it
//! depends little on who else has the processor.
#![allow(clippy::print_stdout, reason = "this is what a bench is for")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use common::{Beam, epmd, node_with, options};
use metacluster_erl::{
    Node, NodeOptions, Process, Received,
    epmd::{Registration, register},
    wire::{Pid, Term, epmd::NodeType},
};
use metacluster_types::NodeName;

/// Bytes of a message, and how many of them are sent in a round.
const SIZES: [(usize, usize); 5] = [(16, 60_000), (100, 60_000), (1 << 10, 30_000), (64 << 10, 3_000), (1 << 20, 200)];
const SENDERS: [usize; 2] = [1, 4];
const ROUNDS: usize = 24;
const PINGS: usize = 2_000;
const PATIENCE: Duration = Duration::from_secs(120);

const DIRECTIONS: [&str; 3] = ["BEAM to BEAM", "BEAM to Rust", "Rust to BEAM"];

/// What is measured between two nodes.
struct Bench {
    one: Beam,
    other: Beam,
    control: Node,
    rust: Node,
}

fn main() {
    let raw = std::env::args().any(|argument| argument == "--raw");
    let only = std::env::args().skip_while(|argument| argument != "--only").nth(1);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run(raw, only.as_deref()));
}

async fn run(raw: bool, only: Option<&str>) {
    let folder = tempfile::tempdir().expect("a folder");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/dist.erl");
    let compiled = Command::new("erlc").arg("-o").arg(folder.path()).arg(source).status();
    assert!(compiled.expect("erlc is installed").success(), "dist.erl compiles");
    let epmd = epmd().await;
    let path = ["-pa", folder.path().to_str().expect("UTF-8")];
    let one = Beam::start(&epmd, "one@127.0.0.1", &path).await;
    let other = Beam::start(&epmd, "other@127.0.0.1", &path).await;
    let (control, _) = node_with(options("control@127.0.0.1")).await;
    // BEAM nodes have no bound on mailboxes either.
    let options = NodeOptions { mailbox_messages_max: 1 << 24, ..options("rust@127.0.0.1") };
    let (rust, address) = node_with(options).await;
    let registration = Registration::new("rust", address.port(), NodeType::Hidden);
    let _registered = register(epmd.addresses()[0], registration).await.expect("the name is free");
    for beam in [&one, &other] {
        beam.join(&control).await;
        beam.join(&rust).await;
        control.rpc(&beam.name, "dist", "start", vec![], PATIENCE).await.expect("started");
    }
    tokio::spawn(sink(named(&rust, "sink")));
    tokio::spawn(echo(named(&rust, "echo")));
    let bench = Bench { one, other, control, rust };
    if !raw {
        println!(
            "{:>9} {:>7} {:>14} {:>14} {:>14} {:>7} {:>7}   processor of both ends, us",
            "bytes", "senders", DIRECTIONS[0], DIRECTIONS[1], DIRECTIONS[2], "in", "out"
        );
    }
    for (size, count) in SIZES {
        for senders in SENDERS {
            if only.is_some_and(|only| only != size.to_string()) {
                continue;
            }
            let mut series = Series::default();
            for direction in turns() {
                let before = bench.processor(direction);
                let taken = bench.stream(direction, size, count / senders, senders).await;
                let sent = (count / senders * senders) as f64;
                series.figures[direction].push(sent / taken.as_secs_f64());
                series.costs[direction].push((bench.processor(direction) - before).as_secs_f64() * 1e6 / sent);
            }
            series.show(raw, &size.to_string(), senders, "messages/s");
        }
    }
    if only.is_none_or(|only| only == "ping") {
        let mut series = Series::default();
        for direction in turns() {
            let before = bench.processor(direction);
            let taken = bench.ping(direction).await;
            series.figures[direction].push(taken.as_secs_f64() * 1e6 / PINGS as f64);
            series.costs[direction].push((bench.processor(direction) - before).as_secs_f64() * 1e6 / PINGS as f64);
        }
        series.show(raw, "ping", 1, "us");
    }
}

/// The directions of all rounds.
fn turns() -> impl Iterator<Item = usize> {
    (0..ROUNDS).flat_map(|round| (0..3).map(move |turn| (round + turn) % 3))
}

/// What the rounds gave, by direction.
#[derive(Default)]
struct Series {
    figures: [Vec<f64>; 3],
    /// Microseconds of processor time at both ends, a message.
    costs: [Vec<f64>; 3],
}

impl Series {
    fn show(self, raw: bool, what: &str, senders: usize, unit: &str) {
        let [beam, receives, sends] = &self.figures;
        let beside = |ours: &[f64]| ours.iter().zip(beam).map(|(ours, beam)| ours / beam).collect::<Vec<_>>();
        let beside = [beside(receives), beside(sends)];
        if raw {
            let print = |direction: usize, unit: &str, figures: &[f64]| {
                let figures: Vec<String> = figures.iter().map(|figure| format!("{figure:.2}")).collect();
                println!("{what};{senders};{};{unit};{}", DIRECTIONS[direction], figures.join(" "));
            };
            for (direction, figures) in self.figures.iter().enumerate() {
                print(direction, unit, figures);
            }
            for (direction, ratios) in beside.iter().enumerate() {
                print(1 + direction, "x BEAM to BEAM", ratios);
            }
            for (direction, costs) in self.costs.iter().enumerate() {
                print(direction, "us of processor", costs);
            }
            return;
        }
        let [beam, receives, sends] = self.figures.map(median);
        let [inward, outward] = beside.map(median);
        let [cost, cost_in, cost_out] = self.costs.map(median);
        println!(
            "{what:>9} {senders:>7} {beam:>14.1} {receives:>14.1} {sends:>14.1} {inward:>7.2} {outward:>7.2}   \
             {cost:.2} {cost_in:.2} {cost_out:.2}  {unit}"
        );
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn named(node: &Node, name: &str) -> Process {
    let process = node.spawn();
    process.register(name).expect("a free name");
    process
}

impl Bench {
    /// The processor time that both ends of a direction have had.
    fn processor(&self, direction: usize) -> Duration {
        let other = if direction == 0 { self.other.pid() } else { std::process::id() };
        processor(self.one.pid()) + processor(other)
    }

    /// How long so many messages take, to the last one's arrival.
    async fn stream(&self, direction: usize, size: usize, each: usize, senders: usize) -> Duration {
        let number = |number: usize| Term::Integer(number as i64);
        if direction == 2 {
            return send(&self.rust, &self.one.name, size, each, senders).await;
        }
        let to = if direction == 0 { self.other.name.as_str() } else { "rust@127.0.0.1" };
        let arguments = vec![Term::atom_of(to).expect("short"), number(size), number(each), number(senders)];
        self.timed("run", arguments).await
    }

    async fn ping(&self, direction: usize) -> Duration {
        if direction == 2 {
            let (rust, to) = (self.rust.clone(), self.one.name.clone());
            // As a task: the thread that waits for the runtime would be woken for each answer.
            return tokio::spawn(async move { ping(&rust, &to).await }).await.expect("a time");
        }
        let to = if direction == 0 { self.other.name.as_str() } else { "rust@127.0.0.1" };
        self.timed("ping", vec![Term::atom_of(to).expect("short"), Term::Integer(PINGS as i64)]).await
    }

    /// The microseconds that a function of the BEAM's half gives.
    async fn timed(&self, function: &str, arguments: Vec<Term>) -> Duration {
        let taken = self.control.rpc(&self.one.name, "dist", function, arguments, PATIENCE).await.expect("a time");
        Duration::from_micros(taken.as_i64().and_then(|taken| taken.try_into().ok()).expect("microseconds"))
    }
}

/// The processor time of all threads of a process; none where the system does not tell.
fn processor(process: u32) -> Duration {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return Duration::ZERO };
    let of_thread = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.flatten().filter_map(of_thread).sum())
}

/// Counts what comes, as `sink` of the BEAM's half.
async fn sink(mut process: Process) {
    loop {
        let Received::Message(message) = process.recv().await else { continue };
        let parts = message.as_tuple().expect("what to expect");
        let (total, to) = (parts[1].as_i64().expect("a number"), parts[2].as_pid().expect("a pid").clone());
        let ready = Term::tuple([Term::atom("ready"), process.pid().clone().into()]);
        process.send(&to, ready).expect("room");
        for _ in 0..total {
            assert!(matches!(process.recv().await, Received::Message(Term::Binary(_))), "all of them come");
        }
        process.send(&to, Term::atom("done")).expect("room");
    }
}

async fn echo(mut process: Process) {
    loop {
        let Received::Message(message) = process.recv().await else { continue };
        let parts = message.as_tuple().expect("a pair");
        process.send(parts[0].as_pid().expect("a pid"), parts[1].clone()).expect("room");
    }
}

async fn send(node: &Node, to: &NodeName, size: usize, each: usize, senders: usize) -> Duration {
    let mut process = node.spawn();
    let expect = [Term::atom("expect"), Term::Integer((each * senders) as i64), process.pid().clone().into()];
    process.send_name(to, "sink", Term::tuple(expect)).expect("room");
    let Received::Message(ready) = process.recv().await else { panic!("only messages") };
    let sink: Pid = ready.as_tuple().expect("a pair")[1].as_pid().expect("a pid").clone();
    let bytes = Term::binary(vec![7; size]);
    let start = Instant::now();
    for _ in 0..senders {
        let (sender, sink, bytes) = (node.spawn(), sink.clone(), bytes.clone());
        tokio::spawn(async move {
            for _ in 0..each {
                sender.send_when_room(&sink, bytes.clone()).await.expect("sent");
            }
        });
    }
    let Received::Message(_done) = process.recv().await else { panic!("only messages") };
    start.elapsed()
}

async fn ping(node: &Node, to: &NodeName) -> Duration {
    let mut process = node.spawn();
    let question = Term::tuple([process.pid().clone().into(), Term::binary(b"0123456789abcdef")]);
    let start = Instant::now();
    for _ in 0..PINGS {
        process.send_name(to, "echo", question.clone()).expect("room");
        process.recv().await;
    }
    start.elapsed()
}
