//! Peers that left every source.

use super::*;
use crate::{DropHow, Guard};

/// A local node linked to `a@h1`, which topology `t` has.
fn linked(prune: bool) -> World {
    let mut world = World::new();
    world.add("t", prune, &[]);
    world.ready("l@h0");
    world.found("t", "a@h1");
    world.dialled("l@h0", "a@h1", Ok(()));
    world
}

fn lost(name: &str) -> Output {
    Output::CandidateLost { topology: topology("t"), node: node(name) }
}

fn checked(world: &mut World, alive: bool) -> Vec<Output> {
    world.tell(Input::PeerChecked { peer: node("a@h1"), alive })
}

#[test]
fn a_peer_that_left_its_source_keeps_its_link_and_is_not_dialled_again() {
    let mut world = linked(false);
    assert_eq!(world.lost("t", "a@h1"), [lost("a@h1")]);
    assert_eq!(world.pass(ms(120_000)), []);
    assert!(world.linked("l@h0", "a@h1"));
    world.down("l@h0", "a@h1");
    assert_eq!(world.pass(ms(120_000)), []);
    assert_eq!(world.machine.counters().nodes, 1);
}

#[test]
fn a_pruned_peer_is_checked_and_dropped_only_when_it_is_dead() {
    let mut world = linked(true);
    assert_eq!(world.lost("t", "a@h1"), [lost("a@h1"), Output::Check { peer: node("a@h1") }]);
    let drop = Output::Drop { local: node("l@h0"), peer: node("a@h1"), how: DropHow::Disconnect };
    assert_eq!(checked(&mut world, false), [drop]);
    world.tell(Input::Dropped { local: node("l@h0"), peer: node("a@h1") });
    assert_eq!(world.pass(ms(120_000)), []);
    assert_eq!(world.machine.counters().nodes, 1);
}

#[test]
fn a_pruned_peer_that_lives_keeps_its_link_and_is_checked_again() {
    let mut world = linked(true);
    world.lost("t", "a@h1");
    assert_eq!(checked(&mut world, true), [Output::Note(Note::PruneHeld { peer: node("a@h1") })]);
    assert_eq!(world.pass(ms(30_000)), [Output::Check { peer: node("a@h1") }]);
    assert_eq!(checked(&mut world, true), [], "said once");
    assert!(world.linked("l@h0", "a@h1"));
}

#[test]
fn a_check_without_an_outcome_drops_nothing() {
    let mut world = linked(true);
    world.lost("t", "a@h1");
    assert_eq!(world.pass(ms(45_000)), [Output::Check { peer: node("a@h1") }]);
    assert!(world.linked("l@h0", "a@h1"));
}

#[test]
fn one_topology_that_never_prunes_keeps_a_peer_for_good() {
    let mut world = linked(true);
    world.add("kept", false, &[]);
    world.found("kept", "a@h1");
    world.lost("kept", "a@h1");
    assert_eq!(world.lost("t", "a@h1"), [lost("a@h1")]);
    assert_eq!(world.pass(ms(120_000)), []);
}

#[test]
fn a_peer_that_another_topology_still_has_is_not_pruned() {
    let mut world = linked(true);
    world.add("u", true, &[]);
    world.found("u", "a@h1");
    assert_eq!(world.lost("t", "a@h1"), [lost("a@h1")]);
    assert_eq!(world.machine.peer(&node("a@h1")).expect("known").provenance.len(), 1);
}

#[test]
fn a_pruned_peer_that_its_source_has_again_is_kept() {
    let mut world = linked(true);
    world.lost("t", "a@h1");
    world.found("t", "a@h1");
    assert_eq!(checked(&mut world, false), []);
    assert_eq!(world.pass(ms(120_000)), []);
}

#[test]
fn a_pruned_local_node_leaves_the_mesh_by_itself_and_stays_out() {
    let mut world = linked(true);
    world.found("t", "l@h0");
    let leave = Output::Drop { local: node("l@h0"), peer: node("l@h0"), how: DropHow::LeaveMesh };
    assert_eq!(world.lost("t", "l@h0"), [lost("l@h0"), leave]);
    world.tell(Input::Dropped { local: node("l@h0"), peer: node("l@h0") });
    world.down("l@h0", "a@h1");
    assert_eq!(world.pass(ms(60_000)), []);
    world.gone("l@h0");
    assert_eq!(world.ready("l@h0"), [], "also after its restart");
    assert_eq!(dials(&world.found("t", "l@h0")), [dial("l@h0", "a@h1")]);
}

#[test]
fn checks_keep_their_bound() {
    let mut world = World::new();
    let guard = Guard { answers: 1, ..Guard::default() };
    world
        .tell(Input::TopologyAdded { name: topology("t"), rules: TopologyRules { prune: true, guard, nodes: vec![] } });
    world.ready("l@h0");
    let names: Vec<String> = (0..100).map(|count| format!("a@h{count}")).collect();
    for name in &names {
        world.up("l@h0", name);
    }
    world.snapshot("t", &names.iter().map(String::as_str).collect::<Vec<_>>());
    let out = world.snapshot("t", &[]);
    assert_eq!(out.iter().filter(|output| matches!(output, Output::Check { .. })).count(), 16);
}
