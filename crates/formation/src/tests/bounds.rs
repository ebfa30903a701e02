//! Named bounds, and what happens when they are reached.

use std::collections::BTreeMap;

use super::*;

fn many(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("a@h{number:05}")).collect()
}

fn snapshot(world: &mut World, names: &[String]) -> Vec<Output> {
    world.snapshot("lan", &names.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn dials_in_flight_keep_their_bound() {
    let mut world = World::lan();
    snapshot(&mut world, &many(100));
    assert_eq!(dials(&world.ready("l@h0")).len(), 16);
    assert_eq!(dials(&world.dialled("l@h0", "a@h00000", Err(DialError::Unreachable("no answer".to_owned())))).len(), {
        usize::from(world.dials_of("a@h00000").len() == 1)
    });
    assert!(world.machine.counters().dials_in_flight <= 16);
}

#[test]
fn dials_a_second_keep_their_bound_whatever_comes() {
    let mut world = World::lan();
    snapshot(&mut world, &many(2_000));
    for count in 0..4 {
        world.ready(&format!("l{count}@h0"));
    }
    let mut seconds = BTreeMap::<u64, u32>::new();
    for (at, output) in world.pass_with(ms(30_000), |_, _| Err(DialError::Unreachable("no answer".to_owned()))) {
        if matches!(output, Output::Dial { .. }) {
            *seconds.entry(at.since_origin().as_secs()).or_default() += 1;
        }
    }
    assert!(seconds[&0] <= 64 + 50 && seconds.range(1..).all(|(_, &count)| count <= 51), "{seconds:?}");
    assert!(seconds.range(..30).all(|(_, &count)| count >= 45), "and it uses what it may: {seconds:?}");
}

#[test]
fn dead_hosts_do_not_hold_up_a_new_peer() {
    let mut world = World::lan();
    world.ready("l@h0");
    let names = many(200);
    for name in &names {
        world.up("l@h0", name);
    }
    snapshot(&mut world, &names);
    world.pass(ms(60_000));
    for name in &names {
        world.down("l@h0", name);
    }
    // All of them swallow their dials.
    world.pass(ms(30_000));
    assert_eq!(dials(&world.found("lan", "new@h1")), [dial("l@h0", "new@h1")]);
}

#[test]
fn candidates_over_the_bound_are_refused_counted_and_said_once() {
    let mut world = World::with(Settings { candidates_max: 3, ..Settings::default() });
    world.add("lan", false, &[]);
    let out = snapshot(&mut world, &many(5));
    assert_eq!(notes(&out), [Note::CandidatesRefused { topology: topology("lan"), candidates_max: 3 }]);
    assert_eq!(world.machine.candidates().count(), 3);
    assert_eq!(notes(&snapshot(&mut world, &many(5))), []);
    assert_eq!(world.machine.counters().candidates_refused, 4);
}

#[test]
fn unwanted_links_over_the_bound_are_not_recorded() {
    let mut world = World::with(Settings { unwanted_links_max: 2, ..Settings::default() });
    world.ready("l@h0");
    for name in many(5) {
        world.up("l@h0", &name);
    }
    assert_eq!((world.machine.links().count(), world.machine.counters().links_refused), (2, 3));
}

#[test]
fn nothing_is_kept_of_what_is_gone() {
    let mut world = World::lan();
    let names = many(300);
    for round in 0..20_u64 {
        world.ready("l@h0");
        world.ready("m@h0");
        snapshot(&mut world, &names);
        world.pass_with(ms(7_000), |_, peer| {
            if (u64::from(peer.as_str().as_bytes()[7]) + round).is_multiple_of(3) {
                Err(DialError::Unreachable("no answer".to_owned()))
            } else {
                Ok(())
            }
        });
        world.gone("l@h0");
        world.gone("m@h0");
        for _ in 0..3 {
            snapshot(&mut world, &[]);
        }
    }
    world.pass(ms(120_000));
    let counters = world.machine.counters();
    assert_eq!((counters.nodes, counters.pairs, counters.queued, counters.dials_in_flight), (0, 0, 0, 0));
}

#[test]
fn zeros_in_settings_do_not_stop_the_machine() {
    let settings = Settings {
        dials_in_flight_max: 0,
        retries_in_flight_max: 0,
        dials_per_second: 0,
        dials_burst: 0,
        redial_min: ms(10),
        redial_max: ms(0),
        hold_off: ms(0),
        ..Settings::default()
    };
    let mut world = World::with(settings);
    world.add("lan", false, &[]);
    world.ready("l@h0");
    snapshot(&mut world, &many(2));
    world.pass_with(ms(3_000), |_, _| Ok(()));
    assert_eq!(world.machine.links().count(), 2);
}

#[test]
fn one_seed_gives_one_run() {
    let run = || {
        let mut world = World::lan();
        snapshot(&mut world, &many(50));
        world.ready("l@h0");
        world.pass_with(ms(20_000), |_, peer| match peer.as_str().len() + usize::from(peer.as_str().ends_with('3')) {
            9 => Err(DialError::Unreachable("no answer".to_owned())),
            _ => Ok(()),
        });
        world.log
    };
    assert_eq!(run(), run());
}
