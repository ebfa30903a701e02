//! Queries: peers, links and readiness.

use super::*;
use crate::{PeerState, ReadinessRules};

#[test]
fn readiness_counts_local_nodes_and_what_they_are_linked_to() {
    let mut world = World::lan();
    let rules = ReadinessRules { nodes_min: 3, mandatory: [node("db@h2")].into() };
    world.ready("l@h0");
    world.up("l@h0", "a@h1");
    let readiness = world.machine.readiness(&rules);
    assert_eq!((readiness.ready, readiness.up, readiness.missing), (false, 2, vec![node("db@h2")]));
    world.up("l@h0", "db@h2");
    assert!(world.machine.readiness(&rules).ready);
    world.gone("l@h0");
    assert_eq!(world.machine.readiness(&rules).up, 0);
}

#[test]
fn the_link_of_a_local_node_that_is_not_ready_does_not_count() {
    let mut world = World::lan();
    world.up("l@h0", "a@h1");
    assert_eq!(world.machine.readiness(&ReadinessRules::default()).up, 0);
}

#[test]
fn a_peer_says_what_it_is_up_to() {
    let mut world = World::lan();
    let state = |world: &World| world.machine.peer(&node("a@h1")).expect("known").state;
    world.found_with_agent("lan", "a@h1");
    assert_eq!(state(&world), PeerState::Unwanted);
    world.ready("l@h0");
    assert_eq!(state(&world), PeerState::Dialling);
    world.dialled("l@h0", "a@h1", Err(DialError::Unreachable("no answer".to_owned())));
    assert_eq!(state(&world), PeerState::Failing);
    let view = world.machine.peer(&node("a@h1")).expect("known");
    assert_eq!((view.attempts, view.last_error), (1, Some(&DialError::Unreachable("no answer".to_owned()))));
    assert!(view.next_try.is_some_and(|at| at > world.now));
    world.up("l@h0", "a@h1");
    assert_eq!(state(&world), PeerState::Linked);
    world.down("l@h0", "a@h1");
    assert_eq!(state(&world), PeerState::Waiting);
}

#[test]
fn links_that_the_mesh_made_by_itself_are_seen_as_unwanted() {
    let mut world = World::lan();
    world.ready("l@h0");
    world.up("l@h0", "a@h1");
    assert!(world.machine.links().all(|link| !link.wanted));
    world.found("lan", "a@h1");
    assert!(world.machine.links().all(|link| link.wanted));
    assert_eq!(world.machine.links().count(), 1);
}

#[test]
fn peers_and_candidates_come_by_name() {
    let mut world = World::lan();
    world.snapshot("lan", &["c@h3", "a@h1", "b@h2"]);
    let names: Vec<_> = world.machine.peers().map(|peer| peer.node.as_str()).collect();
    assert_eq!(names, ["a@h1", "b@h2", "c@h3"]);
}
