//! Peers that fail: back-off, signs of life, and what is said of them.

use super::*;

fn unreachable(_: &NodeName, _: &NodeName) -> Result<(), DialError> {
    Err(DialError::Unreachable("no answer".to_owned()))
}

fn gaps(at: &[Instant]) -> Vec<Duration> {
    at.windows(2).map(|two| two[1].since(two[0])).collect()
}

#[test]
fn a_failing_peer_is_backed_off_to_four_seconds_and_after_ten_minutes_to_thirty() {
    let mut world = World::lan();
    world.ready("l@h0");
    world.found("lan", "a@h1");
    world.dialled("l@h0", "a@h1", Err(DialError::Unreachable("no answer".to_owned())));
    world.pass_with(ms(600_000), unreachable);
    let early = gaps(&world.dials_of("a@h1"));
    for (step, gap) in early.iter().enumerate() {
        let full = ms(200) * 2_u32.pow(u32::try_from(step.min(5)).expect("small"));
        assert!(*gap <= full.min(ms(4_000)) && *gap >= full.min(ms(4_000)) * 3 / 4, "gap {step} is {gap:?}");
    }
    world.log.clear();
    world.pass_with(ms(600_000), unreachable);
    assert!((20..=28).contains(&world.dials_of("a@h1").len()));
}

#[test]
fn while_a_peer_fails_its_local_nodes_take_turns() {
    let mut world = World::lan();
    for name in ["l1@h0", "l2@h0", "l3@h0"] {
        world.ready(name);
    }
    world.found("lan", "a@h1");
    assert_eq!(world.dials_of("a@h1").len(), 3);
    for name in ["l1@h0", "l2@h0", "l3@h0"] {
        world.dialled(name, "a@h1", Err(DialError::Unreachable("no answer".to_owned())));
    }
    world.log.clear();
    world.pass_with(ms(1_400), unreachable);
    let from: std::collections::BTreeSet<String> = world.log.iter().map(|(_, output)| format!("{output:?}")).collect();
    assert!(from.len() >= 3, "all of them tried: {from:?}");
    assert!(world.dials_of("a@h1").len() <= 5, "one at a time");
}

#[test]
fn the_first_link_sets_the_other_local_nodes_free() {
    let mut world = World::lan();
    for name in ["l1@h0", "l2@h0", "l3@h0"] {
        world.ready(name);
    }
    world.found("lan", "a@h1");
    for name in ["l1@h0", "l2@h0", "l3@h0"] {
        world.dialled(name, "a@h1", Err(DialError::Unreachable("no answer".to_owned())));
    }
    world.pass_with(ms(60_000), unreachable);
    assert_eq!(dials(&world.up("l2@h0", "a@h1")).len(), 2);
}

#[test]
fn a_sign_of_life_brings_an_early_try_but_not_two_in_a_second() {
    let mut world = World::lan();
    world.ready("l@h0");
    world.found("lan", "a@h1");
    world.dialled("l@h0", "a@h1", Err(DialError::Unreachable("no answer".to_owned())));
    world.pass_with(ms(300_000), unreachable);
    assert_eq!(dials(&world.alive("a@h1")), [dial("l@h0", "a@h1")]);
    world.dialled("l@h0", "a@h1", Err(DialError::Unreachable("no answer".to_owned())));
    assert_eq!(dials(&world.alive("a@h1")), []);
    assert_eq!(dials(&world.pass(ms(1_000))), [dial("l@h0", "a@h1")]);
}

#[test]
fn found_again_is_a_sign_of_life_and_listed_again_is_none() {
    let mut world = World::lan();
    world.ready("l@h0");
    world.found("lan", "a@h1");
    world.dialled("l@h0", "a@h1", Err(DialError::Unreachable("no answer".to_owned())));
    world.pass_with(ms(300_000), unreachable);
    assert_eq!(dials(&world.snapshot("lan", &["a@h1"])), []);
    assert_eq!(dials(&world.found("lan", "a@h1")), [dial("l@h0", "a@h1")]);
}

#[test]
fn a_sign_of_life_during_a_try_is_not_lost() {
    let mut world = World::lan();
    world.ready("l@h0");
    world.found("lan", "a@h1");
    world.dialled("l@h0", "a@h1", Err(DialError::Unreachable("no answer".to_owned())));
    world.pass_with(ms(60_000), unreachable);
    while dials(&world.pass(ms(10))).is_empty() {}
    world.alive("a@h1");
    assert_eq!(
        dials(&world.dialled("l@h0", "a@h1", Err(DialError::Unreachable("no answer".to_owned())))),
        [dial("l@h0", "a@h1")]
    );
}

#[test]
fn a_peer_that_lives_and_refuses_is_not_dialled_at_the_pace_of_its_heartbeats() {
    let mut world = World::lan();
    world.ready("l@h0");
    for _ in 0..300 {
        world.found("lan", "a@h1");
        world.dialled("l@h0", "a@h1", Err(DialError::Refused("cookie".to_owned())));
        world.pass_with(ms(1_000), |_, _| Err(DialError::Refused("cookie".to_owned())));
    }
    let count = world.dials_of("a@h1").len();
    assert!(count < 150, "{count} dials in 300 s");
}

#[test]
fn failing_and_recovering_are_said_once() {
    let mut world = World::lan();
    world.ready("l@h0");
    world.found("lan", "a@h1");
    world.dialled("l@h0", "a@h1", Err(DialError::Unreachable("no answer".to_owned())));
    let said = notes(&world.pass_with(ms(30_000), unreachable).into_iter().map(|(_, it)| it).collect::<Vec<_>>());
    let failing = Note::PeerFailing {
        peer: node("a@h1"),
        topologies: vec![topology("lan")],
        error: DialError::Unreachable("no answer".to_owned()),
    };
    assert_eq!(said, [failing]);
    let attempts = u32::try_from(world.dials_of("a@h1").len()).expect("small");
    let said = notes(&world.up("l@h0", "a@h1"));
    assert_eq!(said, [Note::PeerRecovered { peer: node("a@h1"), after: ms(30_000), attempts }]);
}

#[test]
fn one_failure_alone_is_not_worth_a_line() {
    let mut world = World::lan();
    world.ready("l@h0");
    world.found("lan", "a@h1");
    world.dialled("l@h0", "a@h1", Err(DialError::Unreachable("no answer".to_owned())));
    let said = notes(&world.pass_with(ms(30_000), |_, _| Ok(())).into_iter().map(|(_, it)| it).collect::<Vec<_>>());
    assert_eq!(said, []);
}

#[test]
fn a_summary_comes_once_a_minute_while_peers_fail() {
    let mut world = World::lan();
    world.ready("l@h0");
    let names: Vec<String> = (0..9).map(|count| format!("a{count}@h1")).collect();
    world.snapshot("lan", &names.iter().map(String::as_str).collect::<Vec<_>>());
    for name in &names {
        world.dialled("l@h0", name, Err(DialError::Unreachable("no answer".to_owned())));
    }
    let log = world.pass_with(ms(185_000), unreachable);
    let summaries: Vec<Note> = notes(&log.into_iter().map(|(_, output)| output).collect::<Vec<_>>())
        .into_iter()
        .filter(|note| matches!(note, Note::Summary { .. }))
        .collect();
    let five = names[..5].iter().map(|name| node(name)).collect::<Vec<_>>();
    assert_eq!(summaries, vec![Note::Summary { failing: 9, names: five }; 3]);
}

#[test]
fn a_failing_peer_that_leaves_its_source_is_forgotten() {
    let mut world = World::lan();
    world.ready("l@h0");
    world.found("lan", "a@h1");
    world.dialled("l@h0", "a@h1", Err(DialError::Unreachable("no answer".to_owned())));
    world.pass_with(ms(30_000), unreachable);
    world.lost("lan", "a@h1");
    let counters = world.machine.counters();
    assert_eq!((counters.nodes, counters.pairs), (1, 0));
    assert_eq!(dials(&world.pass(ms(120_000))), []);
}

#[test]
fn no_local_node_means_no_dial() {
    let mut world = World::lan();
    world.ready("l@h0");
    world.found("lan", "a@h1");
    world.dialled("l@h0", "a@h1", Err(DialError::Unreachable("no answer".to_owned())));
    world.gone("l@h0");
    assert_eq!(dials(&world.pass(ms(120_000))), []);
    assert_eq!(dials(&world.ready("l@h0")), [dial("l@h0", "a@h1")]);
}
