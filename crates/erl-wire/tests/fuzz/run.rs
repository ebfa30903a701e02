//! Fuzzes the decoders, the rewriter and the handshake: `cargo xtask soak`, or
//! `cargo run --profile fuzz -p metacluster-erl-wire --example fuzz -- --seconds 60`.
//!
//! Inputs of the corpus are changed at random, from a seed that is printed. An input with an outcome that no other had
//! is changed further, and kept in `corpus/grown.txt` when it is short: that is all the guidance there is, since the
//! stable compiler counts no coverage. An input that panics, or takes too long, is written to `--crashes`, and the run
//! fails. The work is done by a child, so that one that overflows its stack or is killed is found out as well: the same
//! seed is then run again with each input written down before it is used.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a program with a clock that says what it does")]

mod inputs;
mod mutate;
mod targets;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant, SystemTime},
};

use self::{
    mutate::{Random, mutate},
    targets::{TARGETS, Target},
};

/// No input may take longer.
const SLOW: Duration = Duration::from_secs(2);

/// A run ends after so many crashes: more of the same say nothing new.
const CRASHES_MAX: usize = 20;

/// What is kept of a run, at most: so many inputs in all, none longer than so many bytes.
const GROWN_MAX: usize = 240;
const GROWN_BYTES_MAX: usize = 160;

/// How many outcomes of a target are told apart.
const OUTCOMES_MAX: usize = 4000;

struct Settings {
    seconds: u64,
    seed: u64,
    crashes: PathBuf,
    child: bool,
    careful: bool,
}

fn main() -> ExitCode {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let crashes = std::env::temp_dir().join("metacluster-fuzz");
    let mut settings = Settings { seconds: 60, seed: now, crashes, child: false, careful: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            "--seconds" => settings.seconds = value().parse().expect("a number"),
            "--seed" => settings.seed = value().parse().expect("a number"),
            "--crashes" => settings.crashes = value().into(),
            "--child" => settings.child = true,
            "--careful" => settings.careful = true,
            _ => panic!("unknown argument {argument}: --seconds N, --seed N, --crashes FOLDER"),
        }
    }
    fs::create_dir_all(&settings.crashes).expect("a folder for crashes");
    let clean = if settings.child { work(&settings) } else { watch(&settings) };
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the child; true when nothing was found.
fn watch(settings: &Settings) -> bool {
    println!("fuzzing {} targets for {} s from seed {}", TARGETS.len(), settings.seconds, settings.seed);
    let child = |more: &[&str]| {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg("--child").args(["--seed", &settings.seed.to_string(), "--seconds", &settings.seconds.to_string()]);
        command.arg("--crashes").arg(&settings.crashes).args(more);
        command.status().expect("it starts")
    };
    match child(&[]).code() {
        Some(0) => true,
        Some(1) => {
            println!("inputs that broke something are in {}", settings.crashes.display());
            false
        }
        _ => {
            println!("it was ended from outside or overflowed its stack: once more, with each input written down");
            let status = child(&["--careful"]);
            println!("{status}; the input is {}", settings.crashes.join("last").display());
            false
        }
    }
}

/// What is known of one target.
struct Known {
    target: Target,
    outcomes: BTreeSet<String>,
    inputs: Vec<Vec<u8>>,
    runs: u64,
}

fn work(settings: &Settings) -> bool {
    let corpus: Vec<Vec<u8>> = inputs::all().into_iter().map(|(_, bytes)| bytes).collect();
    let mut crashes = 0;
    let mut grown = Vec::new();
    let mut known: Vec<Known> = TARGETS
        .iter()
        .map(|target| {
            let mut outcomes = BTreeSet::new();
            for bytes in &corpus {
                outcomes.extend(run(*target, bytes, settings));
            }
            Known { target: *target, outcomes, inputs: corpus.clone(), runs: 0 }
        })
        .collect();
    // A panic is reported by the input that caused it.
    std::panic::set_hook(Box::new(|_| {}));
    let mut random = Random(settings.seed);
    let end = Instant::now() + Duration::from_secs(settings.seconds);
    while Instant::now() < end && crashes < CRASHES_MAX {
        for known in &mut known {
            for _ in 0..200 {
                let mut bytes = known.inputs[random.below(known.inputs.len())].clone();
                let other = &known.inputs[random.below(known.inputs.len())];
                mutate(&mut bytes, other, &mut random);
                known.runs += 1;
                match run(known.target, &bytes, settings) {
                    None => {
                        let file = settings.crashes.join(format!("{}-{}.hex", known.target.name, known.runs));
                        fs::write(&file, hex(&bytes)).expect("the crash is written");
                        println!("{}: {} bytes, see {}", known.target.name, bytes.len(), file.display());
                        crashes += 1;
                        if crashes >= CRASHES_MAX {
                            break;
                        }
                    }
                    Some(outcome) => {
                        if known.outcomes.len() < OUTCOMES_MAX && known.outcomes.insert(outcome) {
                            if bytes.len() <= GROWN_BYTES_MAX {
                                grown.push((known.target.name, bytes.clone()));
                            }
                            known.inputs.push(bytes);
                        }
                    }
                }
            }
        }
    }
    for known in &known {
        println!("{:<10} {:>12} runs {:>6} outcomes", known.target.name, known.runs, known.outcomes.len());
    }
    grow(grown);
    crashes == 0
}

/// The outcome of one input; `None` when it panics or is slow.
fn run(target: Target, bytes: &[u8], settings: &Settings) -> Option<String> {
    if settings.careful {
        fs::write(settings.crashes.join("last"), format!("{} {}\n", target.name, hex(bytes))).expect("written down");
    }
    let started = Instant::now();
    let outcome = catch_unwind(|| (target.run)(bytes)).ok()?;
    (started.elapsed() < SLOW).then_some(outcome)
}

/// Adds to `corpus/grown.txt`, as far as there is room: each target gets its share, the shortest first.
fn grow(mut found: Vec<(&'static str, Vec<u8>)>) {
    let path: PathBuf = inputs::folder().join("grown.txt");
    let before = fs::read_to_string(&path).unwrap_or_else(|_| HEAD.to_owned());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in before.lines() {
        for target in &TARGETS {
            if line.strip_prefix(target.name).is_some_and(|rest| rest.starts_with(' ')) {
                *counts.entry(target.name).or_default() += 1;
            }
        }
    }
    found.sort_by_key(|(name, bytes)| (*name, bytes.len()));
    let mut text = before.clone();
    for (name, bytes) in found {
        let count = counts.entry(name).or_default();
        if *count < GROWN_MAX / TARGETS.len() && !bytes.is_empty() {
            *count += 1;
            writeln!(text, "{name} {}", hex(&bytes)).expect("a string takes all");
        }
    }
    if text != before {
        write(&path, &text);
    }
}

const HEAD: &str = "# Inputs with outcomes of their own that fuzzing found: the target, the bytes.\n";

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("the corpus is written");
    println!("{} has grown", path.display());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}
