//! The figures of membership under simulation: `cargo bench -p metacluster-sim --bench membership [-- [--quick] [NAME]]`.
//!
//! One line a figure, its fields parted by tabs: what, unit, the bound or `-`, whether it holds for the `median` or for the
//! `most`, the samples, and those of foca or `-`, parted by commas. With NAME only those whose name contains it; with `--quick`
//! fewer seeds. Virtual time, so the machine that it runs on moves no figure.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

mod foca;

use std::{ops::Range, time::Duration};

use metacluster_sim::membership::{Waking, figures};

/// What is to be reached, and by which sample.
#[derive(Clone, Copy, Debug)]
enum Bound {
    Nothing,
    Median(f64),
    Most(f64),
}

/// What a figure is called, and what its samples are counted in.
struct Figure<'a> {
    what: &'a str,
    unit: &'a str,
    bound: Bound,
}

/// Which figures are wanted, and how many seeds each gets.
struct Wanted {
    names: Vec<String>,
    quick: bool,
}

impl Wanted {
    fn seeds(&self, seeds: u64, quick: u64) -> Range<u64> {
        0..if self.quick { quick } else { seeds }
    }

    /// Takes a figure, and the same of foca, if it is wanted.
    fn take(&self, figure: &Figure<'_>, ours: impl Fn() -> Vec<f64>, foca: Option<&dyn Fn() -> Vec<f64>>) {
        if !self.names.is_empty() && !self.names.iter().any(|name| figure.what.contains(name.as_str())) {
            return;
        }
        let (bound, of) = match figure.bound {
            Bound::Nothing => ("-".to_owned(), "median"),
            Bound::Median(bound) => (bound.to_string(), "median"),
            Bound::Most(bound) => (bound.to_string(), "most"),
        };
        let list =
            |samples: Vec<f64>| samples.into_iter().map(|sample| format!("{sample:.3}")).collect::<Vec<_>>().join(",");
        let (ours, foca) = (list(ours()), foca.map_or_else(|| "-".to_owned(), |foca| list(foca())));
        println!("{}\t{}\t{bound}\t{of}\t{ours}\t{foca}", figure.what, figure.unit);
    }
}

fn seconds(time: Option<Duration>) -> f64 {
    // What did not come about in the time that it was given.
    time.map_or(f64::INFINITY, |time| time.as_secs_f64())
}

fn holds<T>(figure: Result<T, figures::Broken>) -> T {
    figure.unwrap_or_else(|broken| panic!("a rule broke: {broken}"))
}

fn count(events: usize) -> f64 {
    u32::try_from(events).map_or(f64::INFINITY, f64::from)
}

fn main() {
    let (flags, names): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let wanted = Wanted { names, quick: flags.iter().any(|flag| flag == "--quick") };
    deaths(&wanted);
    pauses(&wanted);
    cold_starts(&wanted);
    loads(&wanted);
    formations(&wanted);
    outages(&wanted);
}

fn deaths(wanted: &Wanted) {
    for (hosts, seeds, bound) in
        [(5, 200, Bound::Median(2.0)), (32, 100, Bound::Nothing), (128, 40, Bound::Median(5.0))]
    {
        let what = format!("crash known by all, {hosts} members");
        let seeds = wanted.seeds(seeds, 10);
        let all = |seed| seconds(holds(figures::death(hosts, 0, seed)).map(|death| death.all));
        let foca = || seeds.clone().map(|seed| seconds(foca::death(hosts, seed))).collect();
        wanted.take(&Figure { what: &what, unit: "s", bound }, || seeds.clone().map(all).collect(), Some(&foca));
    }
}

fn pauses(wanted: &Wanted) {
    let grid = [4, 16].into_iter().flat_map(|paused| [2, 8, 16, 32].map(|pause| (paused, pause, Waking::Whole)));
    // A process that gets so little time that packets which refute what it suspects wait from one slice to the next.
    let starved = [4, 16].into_iter().flat_map(|paused| [(paused, 16, Waking::Starved(20))]);
    for (paused, pause, waking) in grid.chain(starved) {
        let how = match waking {
            Waking::Whole => String::new(),
            Waking::Starved(packets) => format!(", {packets} packets between"),
        };
        let what = format!("healthy expelled of 128, {paused} pause {pause} s at a time{how}");
        let pause = Duration::from_secs(pause);
        let ours = || {
            let expelled = |seed| count(holds(figures::expelled(128, paused, pause, waking, seed)));
            wanted.seeds(20, 2).map(expelled).collect()
        };
        let foca = || wanted.seeds(5, 2).map(|seed| count(foca::expelled(128, paused, pause, waking, seed))).collect();
        wanted.take(&Figure { what: &what, unit: "", bound: Bound::Most(0.0) }, ours, Some(&foca));
    }
    let what = "healthy expelled of 5, a fifth of packets lost, 10 min";
    let ours = || {
        let expelled = |seed| count(holds(figures::expelled_by_loss(5, 200, Duration::from_secs(600), seed)));
        wanted.seeds(20, 4).map(expelled).collect()
    };
    wanted.take(&Figure { what, unit: "", bound: Bound::Most(0.0) }, ours, None);
}

fn cold_starts(wanted: &Wanted) {
    let sizes = [
        (5, 20, Bound::Nothing, 20),
        (128, 10, Bound::Nothing, 10),
        (512, 3, Bound::Most(3.0), 1),
        (2000, 1, Bound::Most(10.0), 1),
    ];
    for (hosts, seeds, bound, focas) in sizes {
        let what = format!("all see all from cold, {hosts} members");
        let ours = || wanted.seeds(seeds, 1).map(|seed| seconds(holds(figures::cold_start(hosts, seed)))).collect();
        let foca = || wanted.seeds(focas, 1).map(|seed| seconds(foca::cold_start(hosts, seed))).collect();
        let foca: Option<&dyn Fn() -> Vec<f64>> = if wanted.quick && hosts > 512 { None } else { Some(&foca) };
        wanted.take(&Figure { what: &what, unit: "s", bound }, ours, foca);
    }
}

fn loads(wanted: &Wanted) {
    for (hosts, bound) in [(5, Bound::Nothing), (128, Bound::Nothing), (1000, Bound::Most(250.0))] {
        let what = format!("sent by a member of {hosts}, calm");
        let foca = || vec![foca::load(hosts, 0)];
        let foca: Option<&dyn Fn() -> Vec<f64>> = if wanted.quick && hosts > 512 { None } else { Some(&foca) };
        wanted.take(&Figure { what: &what, unit: "B/s", bound }, || vec![holds(figures::load(hosts, 0))], foca);
    }
}

fn formations(wanted: &Wanted) {
    let batch = if wanted.quick { 100 } else { 1000 };
    let what = format!("formations that left more than one cluster, of {batch}");
    let ours = || {
        let split = |first: u64| {
            let seeds = first * batch..(first + 1) * batch;
            count(seeds.filter(|&seed| holds(figures::clusters_formed(seed)) != 1).count())
        };
        (0..10).map(split).collect()
    };
    wanted.take(&Figure { what: &what, unit: "", bound: Bound::Most(0.0) }, ours, None);
}

fn outages(wanted: &Wanted) {
    for (hosts, seeds, quick) in [(5, 100, 10), (100, 10, 1)] {
        let what = format!("whole again after an outage, all addresses new, {hosts} members");
        let ours = || wanted.seeds(seeds, quick).map(|seed| seconds(holds(figures::outage(hosts, seed)))).collect();
        wanted.take(&Figure { what: &what, unit: "s", bound: Bound::Most(30.0) }, ours, None);
    }
}
