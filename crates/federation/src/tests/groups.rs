//! Groups: let out, published, withdrawn, and compared after a reconnect.

use metacluster_erl_wire::term;

use super::*;

#[test]
fn only_what_a_rule_names_is_published() {
    let mut world = World::linked();
    world.join(0, "orders", &pid("shop@east", 1));
    world.join(0, "secrets", &pid("shop@east", 2));
    let published: Vec<_> = world.gateways[1].published.keys().cloned().collect();
    assert_eq!(published, ["orders"]);
    world.leave(0, "secrets", &pid("shop@east", 2));
    world.leave(0, "orders", &pid("shop@east", 1));
    assert!(world.gateways[1].published["orders"].is_empty());
}

#[test]
fn nothing_is_exported_by_default() {
    let mut east = settings("east", 1);
    east.exports.clear();
    let mut world = World::with(vec![east, settings("west", 2)]);
    world.link(0, 1);
    world.join(0, "orders", &pid("shop@east", 1));
    assert!(world.gateways[1].published.is_empty());
}

#[test]
fn a_process_that_joined_twice_leaves_once() {
    let mut world = World::linked();
    let process = pid("shop@east", 1);
    world.join(0, "orders", &process);
    world.join(0, "orders", &process);
    assert_eq!(world.gateways[1].published["orders"].len(), 2);
    world.leave(0, "orders", &process);
    assert_eq!(world.gateways[1].published["orders"].len(), 1);
}

#[test]
fn a_lost_link_withdraws_and_the_next_one_publishes_what_is_so_then() {
    let mut world = World::new(&["east", "west"]);
    let (link, _) = world.link(0, 1);
    let pids: Vec<_> = (0..300).map(|id| pid("shop@east", id)).collect();
    for process in &pids {
        world.join(0, "orders", process);
    }
    let before = world.gateways[1].published["orders"].clone();
    world.cut(link);
    assert!(world.gateways[1].published["orders"].is_empty());
    world.leave(0, "orders", &pids[0]);
    world.join(0, "orders_new", &pid("till@east", 1));

    let carried = world.carried;
    let (link, _) = world.link(0, 1);
    assert_eq!(world.gateways[1].published["orders"], before[1..], "the same pids stand for the same processes");
    assert_eq!(world.gateways[1].published["orders_new"].len(), 1);
    let first = world.carried - carried;

    world.cut(link);
    let carried = world.carried;
    world.link(0, 1);
    assert_eq!(world.gateways[1].published["orders"].len(), 299);
    let second = world.carried - carried;
    assert!(second < 1_500 && second < first, "what did not change is not sent: {first} bytes, then {second}");
}

#[test]
fn a_gateway_that_lives_anew_knows_nothing_of_before() {
    let mut world = World::new(&["east", "west"]);
    let (link, _) = world.link(0, 1);
    let old = world.export(0, &pid("shop@east", 1), 1);
    world.cut(link);
    let mut settings = settings("east", 1);
    settings.epoch = 2;
    let mut machine = Federation::new(settings, world.now);
    machine.node_up(&NodeName::new("shop@east").expect("a name"));
    world.gateways[0].machine = machine;
    world.join(0, "orders", &pid("shop@east", 1));
    world.link(0, 1);
    let new = world.gateways[1].published["orders"].clone();
    assert_eq!(new.len(), 1);
    assert_ne!(new[0], old, "nobody who kept the old one reaches the new one by it");
    world.say(1, send(&pid("till@west", 1), &old), Some(&term!(hello)));
    assert_eq!(world.next(0), None);
}

#[test]
fn groups_are_named_by_any_term() {
    let mut world = World::linked();
    let owner = pid("shop@east", 8);
    let key = group(&term!({orders, [1, "two"], (&owner)}));
    world.gateways[0].machine.local_joined(world.now, &key, &[pid("shop@east", 1)]);
    world.run();
    let name = world.gateways[1].published.keys().next().expect("a group").clone();
    assert!(name.starts_with("{orders,[1,<<\"two\">>],<"), "{name}");
    world.gateways[0].machine.local_left(world.now, &key, &[pid("shop@east", 1)]);
    world.run();
    assert!(world.gateways[1].published[&name].is_empty());
}
