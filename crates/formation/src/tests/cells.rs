//! Nodes that are meshes of their own.

use std::collections::BTreeMap;

use metacluster_types::CellName;

use super::*;
use crate::DropHow;

fn cells(world: &mut World, cells: &[(&str, &str)]) -> Vec<Output> {
    let name = |cell: &str| CellName::new(cell).expect("a name");
    let cells: BTreeMap<NodeName, CellName> = cells.iter().map(|(n, cell)| (node(n), name(cell))).collect();
    world.tell(Input::Cells { cells: Some(cells) })
}

fn part(local: &str, peer: &str) -> Output {
    Output::Drop { local: node(local), peer: node(peer), how: DropHow::Part }
}

fn drops(outputs: &[Output]) -> Vec<Output> {
    outputs.iter().filter(|output| matches!(output, Output::Drop { .. })).cloned().collect()
}

/// A local node in `one` with a candidate in each of two cells.
fn world() -> World {
    let mut world = World::lan();
    cells(&mut world, &[("l@h0", "one"), ("a@h1", "one"), ("b@h2", "two")]);
    world.ready("l@h0");
    world
}

#[test]
fn a_node_is_linked_to_its_own_cell_alone() {
    let mut world = world();
    assert_eq!(dials(&world.found("lan", "a@h1")), [dial("l@h0", "a@h1")]);
    world.dialled("l@h0", "a@h1", Ok(()));
    assert_eq!(dials(&world.found("lan", "b@h2")), []);
    assert_eq!(dials(&world.found("lan", "c@h3")), [], "nobody placed it");
    assert_eq!(dials(&world.pass(ms(60_000))).len(), 0);
    let placed = cells(&mut world, &[("l@h0", "one"), ("a@h1", "one"), ("b@h2", "two"), ("c@h3", "one")]);
    assert_eq!(dials(&placed), [dial("l@h0", "c@h3")]);
}

#[test]
fn without_cells_all_are_one_mesh_again() {
    let mut world = world();
    world.found("lan", "b@h2");
    assert_eq!(dials(&world.tell(Input::Cells { cells: None })), [dial("l@h0", "b@h2")]);
}

#[test]
fn a_link_between_cells_is_parted_after_a_while_and_until_it_is_gone() {
    let mut world = world();
    world.up("l@h0", "a@h1");
    world.up("l@h0", "b@h2");
    assert_eq!(drops(&world.pass(ms(3_900))), [], "the other end may have moved, and parts by itself");
    // Its name is the greater one, so that the far agent's turn comes first.
    let parted = world.pass(ms(6_200));
    assert_eq!(drops(&parted), [part("l@h0", "b@h2")]);
    let said = matches!(notes(&parted)[..], [Note::CellParted { .. }]);
    assert!(said, "{parted:?}");
    let again = world.pass(ms(25_000));
    assert_eq!(drops(&again), [part("l@h0", "b@h2")]);
    assert_eq!(notes(&again), [], "said once");
    world.down("l@h0", "b@h2");
    assert_eq!(world.pass(ms(600_000)), [], "and a@h1 stays");
    assert!(world.linked("l@h0", "a@h1"));
}

#[test]
fn a_node_that_moves_parts_from_its_old_cell_and_is_linked_to_the_new_one_then() {
    let mut world = world();
    world.found("lan", "a@h1");
    world.dialled("l@h0", "a@h1", Ok(()));
    world.found("lan", "b@h2");
    let moved = cells(&mut world, &[("l@h0", "two"), ("a@h1", "one"), ("b@h2", "two")]);
    assert_eq!((drops(&moved), dials(&moved)), (vec![], vec![]));
    assert_eq!(world.pass(ms(999)), []);
    assert_eq!(drops(&world.pass(ms(2))), [part("l@h0", "a@h1")]);
    world.down("l@h0", "a@h1");
    assert_eq!(world.pass(ms(900)), []);
    assert_eq!(dials(&world.pass(ms(200))), [dial("l@h0", "b@h2")]);
    world.dialled("l@h0", "b@h2", Ok(()));
    assert_eq!(world.pass(ms(600_000)), []);
}

#[test]
fn a_peer_that_moves_is_left_to_its_own_agent_and_parted_only_if_that_does_nothing() {
    let mut world = world();
    world.up("l@h0", "a@h1");
    cells(&mut world, &[("l@h0", "one"), ("a@h1", "two"), ("b@h2", "two")]);
    assert_eq!(drops(&world.pass(ms(3_900))), []);
    assert_eq!(drops(&world.pass(ms(6_200))), [part("l@h0", "a@h1")]);
    // It comes back before anything was done.
    cells(&mut world, &[("l@h0", "one"), ("a@h1", "one"), ("b@h2", "two")]);
    assert_eq!(world.pass(ms(600_000)), []);
}

#[test]
fn nothing_is_said_of_a_node_that_nobody_placed() {
    let mut world = world();
    world.up("l@h0", "shell@h9");
    assert_eq!(world.pass(ms(600_000)), []);
    assert!(world.linked("l@h0", "shell@h9"));
    assert_eq!(world.machine.counters().queued, 0);
}
