//! What sources say, and when it is doubted.

use super::*;

fn names(world: &World) -> Vec<String> {
    world.machine.candidates().map(|it| it.candidate.node.to_string()).collect()
}

#[test]
fn candidates_of_all_topologies_are_merged_with_their_provenance() {
    let mut world = World::lan();
    world.add("aws", false, &[]);
    world.found("lan", "a@h1");
    world.now = world.now + ms(500);
    world.found("aws", "a@h1");
    let peer = world.machine.peer(&node("a@h1")).expect("known");
    let said: Vec<_> = peer.provenance.iter().map(|it| (it.topology.as_str(), it.since)).collect();
    assert_eq!(said, [("aws", Instant::ZERO + ms(500)), ("lan", Instant::ZERO)]);
}

#[test]
fn found_and_lost_are_said_once_a_topology() {
    let mut world = World::lan();
    let candidate = Candidate::new(node("a@h1"));
    assert_eq!(world.found("lan", "a@h1"), [Output::CandidateFound { topology: topology("lan"), candidate }]);
    assert_eq!(world.found("lan", "a@h1"), []);
    assert_eq!(world.lost("lan", "a@h1"), [Output::CandidateLost { topology: topology("lan"), node: node("a@h1") }]);
    assert_eq!(world.lost("lan", "a@h1"), []);
}

#[test]
fn a_failed_look_up_changes_nothing_but_the_error_which_is_said_once() {
    let mut world = World::lan();
    world.snapshot("lan", &["a@h1", "b@h2"]);
    let failed = || SourceUpdate::Failed("no route".to_owned());
    let error = Output::TopologyError { topology: topology("lan"), error: "no route".to_owned() };
    assert_eq!(world.source("lan", failed()), [error]);
    assert_eq!(world.source("lan", failed()), []);
    assert_eq!(names(&world), ["a@h1", "b@h2"]);
    assert!(world.machine.topologies().all(|it| it.failing && it.errors == 2));
    assert_eq!(world.snapshot("lan", &["a@h1", "b@h2"]), [Output::TopologyRecovered { topology: topology("lan") }]);
}

#[test]
fn notes_change_nothing_and_are_no_answer() {
    let mut world = World::lan();
    world.snapshot("lan", &["a@h1", "b@h2"]);
    world.source("lan", SourceUpdate::Failed("no route".to_owned()));
    assert_eq!(world.source("lan", SourceUpdate::Notes(vec!["a region is away".to_owned()])), []);
    assert_eq!(names(&world), ["a@h1", "b@h2"]);
    assert!(world.machine.topologies().all(|it| it.failing));
}

#[test]
fn an_empty_answer_is_doubted_until_the_third_in_a_row() {
    let mut world = World::lan();
    world.snapshot("lan", &["a@h1", "b@h2"]);
    let error = "an answer without 2 of 2 known peers is held until it is repeated".to_owned();
    assert_eq!(world.snapshot("lan", &[]), [Output::TopologyError { topology: topology("lan"), error }]);
    assert_eq!(world.snapshot("lan", &[]), []);
    let held = world.machine.topologies().next().expect("one").held.expect("held");
    assert_eq!((held.answers, held.needed, held.removals), (2, 3, 2));
    assert!(world.machine.candidates().all(|it| it.doubted));
    assert_eq!(world.snapshot("lan", &[]).len(), 3);
    assert_eq!(names(&world), Vec::<String>::new());
}

#[test]
fn a_sound_answer_in_between_ends_the_doubt() {
    let mut world = World::lan();
    for _ in 0..5 {
        world.snapshot("lan", &["a@h1", "b@h2", "c@h3"]);
        world.snapshot("lan", &[]);
        world.snapshot("lan", &[]);
    }
    assert_eq!(names(&world).len(), 3);
}

#[test]
fn answers_that_differ_remove_only_what_all_of_them_lack() {
    let mut world = World::lan();
    world.snapshot("lan", &["a@h1", "b@h2", "c@h3", "d@h4"]);
    for name in ["a@h1", "b@h2", "c@h3"] {
        world.snapshot("lan", &[name]);
    }
    assert_eq!(names(&world), ["a@h1", "b@h2", "c@h3"]);
}

#[test]
fn a_failed_look_up_in_between_neither_counts_nor_ends_the_doubt() {
    let mut world = World::lan();
    world.snapshot("lan", &["a@h1", "b@h2"]);
    world.snapshot("lan", &[]);
    world.source("lan", SourceUpdate::Failed("no".to_owned()));
    world.snapshot("lan", &[]);
    assert_eq!(names(&world).len(), 2);
    world.snapshot("lan", &[]);
    assert_eq!(names(&world).len(), 0);
}

#[test]
fn a_doubted_answer_still_adds_what_is_new() {
    let mut world = World::lan();
    world.ready("l@h0");
    world.snapshot("lan", &["a@h1", "b@h2"]);
    assert_eq!(dials(&world.snapshot("lan", &["c@h3"])), [dial("l@h0", "c@h3")]);
    assert_eq!(names(&world), ["a@h1", "b@h2", "c@h3"]);
}

#[test]
fn half_the_peers_or_a_single_one_may_leave_at_once() {
    let mut world = World::lan();
    world.snapshot("lan", &["a@h1", "b@h2"]);
    world.snapshot("lan", &["a@h1"]);
    assert_eq!(names(&world), ["a@h1"]);
    world.snapshot("lan", &[]);
    assert_eq!(names(&world), Vec::<String>::new());
}

#[test]
fn a_peer_seen_while_its_absence_is_doubted_stays() {
    let mut world = World::lan();
    world.snapshot("lan", &["a@h1", "b@h2"]);
    world.snapshot("lan", &[]);
    world.snapshot("lan", &[]);
    world.found("lan", "a@h1");
    world.snapshot("lan", &[]);
    assert_eq!(names(&world), ["a@h1"]);
}

#[test]
fn a_removed_topology_takes_its_candidates_along_and_drops_nothing() {
    let mut world = World::new();
    world.add("t", true, &[]);
    world.ready("l@h0");
    world.found("t", "a@h1");
    world.dialled("l@h0", "a@h1", Ok(()));
    let out = world.tell(Input::TopologyRemoved { name: topology("t") });
    assert_eq!(out, [Output::CandidateLost { topology: topology("t"), node: node("a@h1") }]);
    assert_eq!(world.pass(ms(120_000)), []);
    assert!(world.linked("l@h0", "a@h1"));
}

#[test]
fn a_candidate_that_several_local_nodes_wait_for_may_leave() {
    let mut world = World::lan();
    for name in ["l1@h0", "l2@h0", "l3@h0"] {
        world.ready(name);
    }
    world.found_with_agent("lan", "a@h1");
    world.lost("lan", "a@h1");
    let counters = world.machine.counters();
    assert_eq!((counters.nodes, counters.pairs, counters.queued), (3, 0, 0));
}
