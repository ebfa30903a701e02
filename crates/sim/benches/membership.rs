//! The figures of membership under simulation: `cargo bench -p metacluster-sim --bench membership [-- [--raw] [NAME]]`.
//!
//! One line a figure: what, unit, bound or `-`, and the samples, parted by tabs. With NAME only those whose name
//! contains it. Virtual time, so the machine that it runs on moves no figure.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::time::Duration;

use metacluster_sim::membership::figures;

fn seconds(time: Option<Duration>) -> f64 {
    // What did not come about within two minutes.
    time.map_or(120.0, |time| time.as_secs_f64())
}

fn print(what: &str, unit: &str, bound: Option<f64>, samples: impl Iterator<Item = f64>) {
    let bound = bound.map_or_else(|| "-".to_owned(), |bound| bound.to_string());
    let samples: Vec<String> = samples.map(|sample| format!("{sample:.3}")).collect();
    println!("{what}\t{unit}\t{bound}\t{}", samples.join("\t"));
}

fn holds<T>(figure: Result<T, figures::Broken>) -> T {
    figure.unwrap_or_else(|broken| panic!("a rule broke: {broken}"))
}

fn count(events: usize) -> f64 {
    u32::try_from(events).map_or(f64::MAX, f64::from)
}

fn main() {
    let names: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let wanted = |what: &str| names.is_empty() || names.iter().any(|name| what.contains(name.as_str()));
    for (hosts, seeds, bound) in [(5, 200, Some(2.0)), (32, 100, None), (128, 40, Some(5.0))] {
        let what = format!("crash known by all, {hosts} members");
        if wanted(&what) {
            let all = |seed| seconds(holds(figures::death(hosts, 0, seed)).map(|death| death.all));
            print(&what, "s", bound, (0..seeds).map(all));
        }
    }
    for (paused, pause) in [(4, 2), (4, 8), (4, 16), (4, 32), (16, 2), (16, 8), (16, 16), (16, 32)] {
        let what = format!("healthy expelled of 128, {paused} pause {pause} s at a time");
        if wanted(&what) {
            let expelled = |seed| count(holds(figures::expelled(128, paused, Duration::from_secs(pause), seed)));
            print(&what, "", Some(0.0), (0..20).map(expelled));
        }
    }
    let what = "healthy expelled of 5, a fifth of packets lost, 10 min";
    if wanted(what) {
        let expelled = |seed| count(holds(figures::expelled_by_loss(5, 200, Duration::from_secs(600), seed)));
        print(what, "", Some(0.0), (0..20).map(expelled));
    }
    for (hosts, seeds, bound) in [(5, 20, None), (128, 10, None), (512, 3, Some(3.0)), (2000, 1, Some(10.0))] {
        let what = format!("all see all from cold, {hosts} members");
        if wanted(&what) {
            print(&what, "s", bound, (0..seeds).map(|seed| seconds(holds(figures::cold_start(hosts, seed)))));
        }
    }
    for (hosts, bound) in [(5, None), (128, None), (1000, Some(250.0))] {
        let what = format!("sent by a member of {hosts}, calm");
        if wanted(&what) {
            print(&what, "B/s", bound, (0..1).map(|seed| holds(figures::load(hosts, seed))));
        }
    }
    let what = "formations that left more than one cluster, of 1,000";
    if wanted(what) {
        let split = |batch: u64| {
            let seeds = batch * 1000..(batch + 1) * 1000;
            count(seeds.filter(|&seed| holds(figures::clusters_formed(seed)) != 1).count())
        };
        print(what, "", Some(0.0), (0..10).map(split));
    }
    let what = "whole again after an outage, all addresses new, 5 members";
    if wanted(what) {
        print(what, "s", Some(30.0), (0..100).map(|seed| seconds(holds(figures::outage(5, seed)))));
    }
}
