//! How fast messages are rewritten: `cargo xtask bench rewrite`.
//!
//! Each message of the corpus is rewritten with one of two nodes renamed, and beside it, in turns with it, copied
//! (`memcpy`, the floor) and decoded and encoded (what a relay without a rewriter would do). Figures are those of the
//! best of many short rounds: on a machine that has other work, no other says what the code takes. `--count CASE N` runs a case N times and measures nothing: for who counts instructions.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a bench prints what the clock says")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use bytes::{BufMut, BytesMut};
use metacluster_erl_wire::{
    Atom,
    rewrite::{AtomView, Envelope, Keep, PidView, PortView, ReferenceView, RewriteLimits, Rewriter, Translate},
    term::{self, Limits},
};

/// A round of one way takes about so long.
const ROUND: Duration = Duration::from_micros(400);
const ROUNDS: usize = 60;
/// All cases are gone through so often: other work makes a machine slow for seconds, which is longer than a case takes.
const PASSES: usize = 5;

/// The aims, on a machine of its own.
const SMALL_CALL_NS_MAX: f64 = 150.0;
const LARGE_GB_PER_S_MIN: f64 = 1.0;
const LARGE_BYTES_MIN: usize = 1024;

/// What a gateway does at least: the identifiers of its own cluster get its own name.
struct Rename {
    from: Atom,
    to: Atom,
}

impl Rename {
    #[inline]
    fn other<'a>(&'a self, node: &AtomView<'_>) -> Option<AtomView<'a>> {
        node.is(self.from.as_str()).then(|| (&self.to).into())
    }
}

impl Translate for Rename {
    #[inline]
    fn pid(&mut self, pid: &PidView<'_>) -> Option<PidView<'_>> {
        self.other(&pid.node).map(|node| PidView { node, creation: 7, ..*pid })
    }

    #[inline]
    fn port(&mut self, port: &PortView<'_>) -> Option<PortView<'_>> {
        self.other(&port.node).map(|node| PortView { node, creation: 7, ..*port })
    }

    #[inline]
    fn reference(&mut self, reference: &ReferenceView<'_>) -> Option<ReferenceView<'_>> {
        self.other(&reference.node).map(|node| ReferenceView { node, creation: 7, ..*reference })
    }
}

struct Case {
    name: String,
    /// The terms, without version bytes, and how many they are.
    bytes: Vec<u8>,
    terms: u32,
    /// The frame to be routed first, if the case is a whole relay.
    frame: Option<Vec<u8>>,
}

/// The lines of the corpus, and longer messages made of them.
fn cases() -> Vec<Case> {
    let lines = include_str!("corpus.txt").lines().filter(|line| !line.starts_with('#'));
    let corpus: Vec<(&str, Vec<u8>)> = lines
        .map(|line| {
            let (name, hex) = line.split_once(' ').expect("two words");
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("digits");
            (name, (0..hex.len()).step_by(2).map(byte).collect())
        })
        .collect();
    let named = |name: &str| &corpus.iter().find(|(other, _)| *other == name).expect("in the corpus").1;
    let mut cases = Vec::new();
    for (control, payload) in
        [("control_send_sender", "gen_call"), ("control_alias_send", "gen_reply"), ("control_send_sender", "gen_cast")]
    {
        let bytes = [&named(control)[..], named(payload)].concat();
        let frame = [&[131, 68, 0], &bytes[..]].concat();
        cases.push(Case { name: format!("relay_{payload}"), bytes, terms: 2, frame: Some(frame) });
    }
    for (name, bytes) in &corpus {
        if !name.starts_with("control") {
            cases.push(Case { name: (*name).to_owned(), bytes: bytes.clone(), terms: 1, frame: None });
        }
    }
    for name in ["broadcast", "presences", "rows", "basic_message", "document", "integers", "mixed_numbers", "closures"]
    {
        let count = (64_usize << 10).div_ceil(named(name).len());
        let mut bytes = vec![108];
        bytes.put_u32(u32::try_from(count).expect("few"));
        bytes.extend(named(name).repeat(count));
        bytes.push(106);
        cases.push(Case { name: format!("{name}_64k"), bytes, terms: 1, frame: None });
    }
    let mut bytes = vec![109, 0, 1, 0, 0];
    bytes.resize(5 + (64 << 10), 7);
    cases.push(Case { name: "binary_64k".to_owned(), bytes, terms: 1, frame: None });
    cases
}

/// One way to treat a case, as often as it says.
trait Way {
    fn run(&mut self, case: &Case, times: u64);
}

struct Rewrite<T> {
    translate: T,
    rewriter: Rewriter,
    out: BytesMut,
}

impl<T: Translate> Rewrite<T> {
    fn new(translate: T) -> Self {
        let rewriter = Rewriter::new(RewriteLimits::default());
        Self { translate, rewriter, out: BytesMut::with_capacity(1 << 20) }
    }
}

impl<T: Translate> Way for Rewrite<T> {
    fn run(&mut self, case: &Case, times: u64) {
        for _ in 0..times {
            self.out.clear();
            let Self { translate, rewriter, out } = self;
            if let Some(frame) = &case.frame {
                let envelope = Envelope::read(black_box(frame)).expect("a frame");
                let route = envelope.route().expect("a route").expect("a message");
                black_box(route.to);
                rewriter.start_routed(&route, translate, out).expect("a control message of a real node");
                rewriter.feed(route.payload, translate, out).expect("a payload of a real node");
                rewriter.finish().expect("a whole one");
            } else {
                rewriter.rewrite(case.terms, black_box(&case.bytes), translate, out).expect("terms of a real node");
            }
            black_box(&self.out);
        }
    }
}

struct Copy(BytesMut);

impl Way for Copy {
    fn run(&mut self, case: &Case, times: u64) {
        for _ in 0..times {
            self.0.clear();
            self.0.put_slice(black_box(&case.bytes));
            black_box(&self.0);
        }
    }
}

/// Without even a translation.
struct Tree(BytesMut);

impl Way for Tree {
    fn run(&mut self, case: &Case, times: u64) {
        for _ in 0..times {
            self.0.clear();
            let mut rest = black_box(&case.bytes[..]);
            for _ in 0..case.terms {
                let (term, taken) = term::decode(rest, &Limits::default()).expect("a term");
                term::encode(&term, &mut self.0);
                rest = &rest[taken..];
            }
            black_box(&self.0);
        }
    }
}

fn timed(way: &mut dyn Way, case: &Case, times: u64) -> Duration {
    let started = Instant::now();
    way.run(case, times);
    started.elapsed()
}

/// Nanoseconds of each way, the best of rounds that take turns.
fn measure(ways: &mut [Box<dyn Way>; 4], case: &Case) -> [f64; 4] {
    let times: Vec<u64> = ways
        .iter_mut()
        .map(|way| {
            let mut times = 1;
            while timed(&mut **way, case, times) < ROUND {
                times *= 2;
            }
            times
        })
        .collect();
    let mut best = [f64::INFINITY; 4];
    for _ in 0..ROUNDS {
        for ((way, times), best) in ways.iter_mut().zip(&times).zip(&mut best) {
            *best = best.min(timed(&mut **way, case, *times).as_secs_f64() * 1e9 / *times as f64);
        }
    }
    best
}

fn rename() -> Rewrite<Rename> {
    Rewrite::new(Rename {
        from: Atom::from_static("shop@10.0.0.4"),
        to: Atom::from_static("metacluster@gateway.east.example"),
    })
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let mut cases = cases();
    if let [flag, name, times] = &arguments[..] {
        assert_eq!(flag, "--count");
        let case = cases.iter().find(|case| case.name == *name).expect("the name of a case");
        rename().run(case, times.parse().expect("a number"));
        return;
    }
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => table(&cases),
        ["--list"] => cases.iter().for_each(|case| println!("{}", case.name)),
        ["--raw"] => raw(&cases),
        ["--only", name] => {
            cases.retain(|case| case.name.starts_with(name));
            table(&cases);
        }
        _ => panic!("unknown arguments: {arguments:?}"),
    }
}

/// Of each case renamed, kept, copied, decoded and encoded: nanoseconds, the best of all passes.
fn figures(cases: &[Case]) -> Vec<[f64; 4]> {
    let mut best = vec![[f64::INFINITY; 4]; cases.len()];
    for _ in 0..PASSES {
        for (case, best) in cases.iter().zip(&mut best) {
            for (best, now) in best.iter_mut().zip(pass(case)) {
                *best = best.min(now);
            }
        }
    }
    best
}

fn pass(case: &Case) -> [f64; 4] {
    let mut ways: [Box<dyn Way>; 4] = [
        Box::new(rename()),
        Box::new(Rewrite::new(Keep)),
        Box::new(Copy(BytesMut::with_capacity(1 << 20))),
        Box::new(Tree(BytesMut::with_capacity(1 << 20))),
    ];
    measure(&mut ways, case)
}

/// The most nanoseconds that a case should take with names replaced, if there is an aim for it.
fn aim(case: &Case) -> Option<f64> {
    let size = case.bytes.len();
    if case.frame.is_some() {
        Some(SMALL_CALL_NS_MAX)
    } else {
        (size >= LARGE_BYTES_MIN).then_some(size as f64 / LARGE_GB_PER_S_MIN)
    }
}

/// For programs: the name, the aim, and the figures.
fn raw(cases: &[Case]) {
    for (case, [renamed, kept, copied, tree]) in cases.iter().zip(figures(cases)) {
        let aim = aim(case).map_or("-".to_owned(), |aim| aim.to_string());
        println!("{} {aim} {renamed:.1} {kept:.1} {copied:.1} {tree:.1}", case.name);
    }
}

/// For people.
fn table(cases: &[Case]) {
    println!(
        "{:<20} {:>7} {:>9} {:>7} {:>9} {:>7} {:>9} {:>10} {:>8} {:>8}",
        "message", "bytes", "rename ns", "GB/s", "keep ns", "GB/s", "memcpy ns", "decode+ ns", "/memcpy", "decode+/"
    );
    let mut missed = Vec::new();
    for (case, [renamed, kept, copied, tree]) in cases.iter().zip(figures(cases)) {
        let size = case.bytes.len();
        let rate = |ns: f64| size as f64 / ns;
        println!(
            "{:<20} {size:>7} {renamed:>9.0} {:>7.2} {kept:>9.0} {:>7.2} {copied:>9.1} {tree:>10.0} {:>8.1} {:>8.1}",
            case.name,
            rate(renamed),
            rate(kept),
            renamed / copied,
            tree / renamed,
        );
        if aim(case).is_some_and(|aim| renamed >= aim) {
            missed.push(&case.name[..]);
        }
    }
    println!(
        "\naims: a small call read, routed and rewritten in {SMALL_CALL_NS_MAX} ns; {LARGE_GB_PER_S_MIN} GB/s from \
         {LARGE_BYTES_MIN} bytes on: {}",
        if missed.is_empty() { "met".to_owned() } else { format!("missed by {}", missed.join(", ")) }
    );
}
