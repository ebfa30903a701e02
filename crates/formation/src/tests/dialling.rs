//! Who dials whom, and when.

use super::*;

#[test]
fn a_new_local_node_dials_every_known_peer_at_once() {
    let mut world = World::lan();
    world.snapshot("lan", &["a@h1", "b@h2", "c@h3"]);
    let mut out = dials(&world.ready("l@h0"));
    out.sort_by_key(|output| format!("{output:?}"));
    assert_eq!(out, [dial("l@h0", "a@h1"), dial("l@h0", "b@h2"), dial("l@h0", "c@h3")]);
}

#[test]
fn a_new_candidate_is_dialled_at_once() {
    let mut world = World::lan();
    world.ready("l@h0");
    assert_eq!(dials(&world.found("lan", "a@h1")), [dial("l@h0", "a@h1")]);
}

#[test]
fn a_candidate_with_an_agent_is_left_the_first_try() {
    let mut world = World::lan();
    world.ready("l@h0");
    assert_eq!(dials(&world.found_with_agent("lan", "a@h1")), []);
    assert_eq!(world.pass(ms(74)), []);
    assert_eq!(world.pass(ms(52)), [dial("l@h0", "a@h1")]);
}

#[test]
fn a_link_from_the_other_side_cancels_the_held_dial() {
    let mut world = World::lan();
    world.ready("l@h0");
    world.found_with_agent("lan", "a@h1");
    world.up("l@h0", "a@h1");
    assert_eq!(world.pass(ms(60_000)), []);
}

#[test]
fn a_node_never_dials_itself() {
    let mut world = World::lan();
    world.snapshot("lan", &["l@h0"]);
    world.ready("l@h0");
    assert_eq!(world.pass(ms(60_000)), []);
    assert_eq!(world.machine.counters().pairs, 0);
}

#[test]
fn two_local_nodes_are_one_pair_and_one_of_them_dials() {
    let mut world = World::lan();
    world.snapshot("lan", &["l1@h0", "l2@h0"]);
    world.ready("l1@h0");
    world.ready("l2@h0");
    let first = dials(&world.log.iter().map(|(_, output)| output.clone()).collect::<Vec<_>>());
    assert_eq!(first.len(), 1);
    world.up("l2@h0", "l1@h0");
    world.up("l1@h0", "l2@h0");
    assert!(world.linked("l1@h0", "l2@h0"));
    assert_eq!(world.pass(ms(9_000)), []);
}

#[test]
fn one_local_node_of_two_that_goes_leaves_the_other_to_dial() {
    let mut world = World::lan();
    world.snapshot("lan", &["l1@h0", "l2@h0"]);
    world.ready("l1@h0");
    world.ready("l2@h0");
    world.up("l1@h0", "l2@h0");
    world.gone("l1@h0");
    assert!(!world.linked("l1@h0", "l2@h0"));
    world.pass(ms(20_000));
    assert!(world.log.iter().any(|(_, output)| *output == dial("l2@h0", "l1@h0")));
}

#[test]
fn patterns_say_for_which_local_nodes_a_topology_speaks() {
    let mut world = World::new();
    world.add("shop", false, &["shop"]);
    world.ready("shop@h0");
    world.ready("worker@h0");
    assert_eq!(dials(&world.found("shop", "shop@h1")), [dial("shop@h0", "shop@h1")]);
}

#[test]
fn rules_that_change_move_the_pairs() {
    let mut world = World::new();
    world.add("t", false, &["shop"]);
    world.ready("worker@h0");
    world.found("t", "shop@h1");
    assert_eq!(world.machine.counters().pairs, 0);
    world.add("t", false, &["worker"]);
    assert_eq!(world.machine.counters().pairs, 1);
}

#[test]
fn a_short_name_is_never_paired_with_a_long_one_and_that_is_said_once() {
    let mut world = World::lan();
    world.ready("l@h0");
    let first = world.found("lan", "a@10.0.0.1");
    let second = world.found("lan", "b@10.0.0.2");
    let note = Note::NameFormsMixed { topology: topology("lan"), local: node("l@h0"), peer: node("a@10.0.0.1") };
    assert_eq!((notes(&first), dials(&first)), (vec![note], vec![]));
    assert_eq!((notes(&second), dials(&second)), (vec![], vec![]));
}

#[test]
fn links_told_before_the_local_node_is_ready_are_not_dialled() {
    let mut world = World::lan();
    world.snapshot("lan", &["a@h1", "b@h2"]);
    world.up("l@h0", "a@h1");
    assert_eq!(dials(&world.ready("l@h0")), [dial("l@h0", "b@h2")]);
}

#[test]
fn a_dropped_link_is_dialled_again_soon() {
    let mut world = World::lan();
    world.ready("l@h0");
    world.found("lan", "a@h1");
    world.dialled("l@h0", "a@h1", Ok(()));
    world.pass(ms(60_000));
    world.down("l@h0", "a@h1");
    assert_eq!(world.pass(ms(49)), []);
    assert_eq!(world.pass(ms(201)), [dial("l@h0", "a@h1")]);
}

#[test]
fn a_link_that_never_lasts_is_backed_off() {
    let mut world = World::lan();
    world.ready("l@h0");
    world.found("lan", "a@h1");
    for _ in 0..400 {
        world.pass_with(ms(250), |_, _| Ok(()));
        world.down("l@h0", "a@h1");
    }
    let dials = world.dials_of("a@h1");
    assert!((20..50).contains(&dials.len()), "{} dials in 100 s", dials.len());
}

#[test]
fn a_link_that_drops_while_its_dial_is_in_flight_counts_as_down() {
    let mut world = World::lan();
    world.ready("l@h0");
    world.found("lan", "a@h1");
    world.up("l@h0", "a@h1");
    assert_eq!(world.down("l@h0", "a@h1"), []);
    assert_eq!(world.pass(ms(1_000)), [], "the first dial is still in flight");
    world.dialled("l@h0", "a@h1", Ok(()));
    assert!(!world.linked("l@h0", "a@h1"));
    assert_eq!(dials(&world.pass(ms(250))), [dial("l@h0", "a@h1")]);
}

#[test]
fn a_dial_that_never_answers_is_given_up() {
    let mut world = World::lan();
    world.ready("l@h0");
    world.found("lan", "a@h1");
    assert_eq!(world.pass(ms(10_100)), []);
    assert_eq!(dials(&world.pass(ms(100))), [dial("l@h0", "a@h1")]);
    // The first dial's late answer is taken for the second's, which is still the truth about the link.
    world.dialled("l@h0", "a@h1", Ok(()));
    assert!(world.linked("l@h0", "a@h1"));
}

#[test]
fn a_dial_that_could_not_be_asked_for_blames_no_peer() {
    let mut world = World::lan();
    world.ready("l@h0");
    world.found("lan", "a@h1");
    world.dialled("l@h0", "a@h1", Err(DialError::LocalUnavailable));
    assert_eq!(world.machine.peer(&node("a@h1")).expect("known").attempts, 0);
    assert_eq!(world.pass(ms(1_000)), [dial("l@h0", "a@h1")]);
}

#[test]
fn a_name_used_again_elsewhere_is_the_same_peer() {
    let mut world = World::lan();
    world.ready("l@h0");
    world.found("lan", "a@h1");
    world.dialled("l@h0", "a@h1", Ok(()));
    let out = world.found_with_agent("lan", "a@h1");
    assert_eq!((out, world.machine.counters().nodes), (vec![], 2));
}

#[test]
fn a_spurious_or_late_wake_up_is_harmless() {
    let mut world = World::lan();
    world.ready("l@h0");
    world.found_with_agent("lan", "a@h1");
    for _ in 0..50 {
        world.drain();
    }
    world.now = world.now + ms(5_000);
    assert_eq!(world.drain(), [dial("l@h0", "a@h1")]);
    assert_eq!(world.drain(), []);
}

#[test]
fn inputs_about_unknown_names_change_nothing() {
    let mut world = World::new();
    world.found("nowhere", "a@h1");
    world.lost("nowhere", "a@h1");
    world.down("l@h0", "a@h1");
    world.dialled("l@h0", "a@h1", Ok(()));
    world.alive("a@h1");
    world.gone("l@h0");
    world.tell(Input::PeerChecked { peer: node("a@h1"), alive: false });
    world.tell(Input::Dropped { local: node("l@h0"), peer: node("a@h1") });
    world.up("a@h1", "a@h1");
    let counters = world.machine.counters();
    assert_eq!((counters.nodes, counters.pairs, world.log.len()), (0, 0, 0));
}

#[test]
fn a_dial_between_two_local_nodes_stays_in_flight_when_its_target_goes() {
    let mut world = World::lan();
    world.snapshot("lan", &["l1@h0", "l2@h0"]);
    world.ready("l1@h0");
    world.ready("l2@h0");
    let out = world.gone("l2@h0");
    assert_eq!(dials(&out), []);
    assert_eq!(dials(&world.ready("l2@h0")), [], "l1 still dials l2");
    world.dialled("l1@h0", "l2@h0", Ok(()));
    assert_eq!(dials(&world.pass(ms(250))).len(), 1, "an answer of before says nothing of now");
}
