//! Links: who they are, whether they live, which of two stays.

use super::*;

fn up(world: &World, place: usize) -> bool {
    world.gateways[place].machine.status(world.now).gateways.iter().any(|gateway| gateway.up.is_some())
}

#[test]
fn a_link_that_is_silent_is_dead_within_three_seconds() {
    let mut world = World::linked();
    world.pass(Duration::from_secs(60));
    assert!(up(&world, 0) && up(&world, 1), "signs of life keep it");
    // Nothing arrives any more, and no end says so.
    world.wires.clear();
    world.pass(Duration::from_secs(3));
    for place in [0, 1] {
        assert!(!up(&world, place));
        let last = world.gateways[place].notices.last();
        assert!(matches!(last, Some(Notice::Unlinked { reason: CloseReason::Silent, .. })), "{last:?}");
    }
}

#[test]
fn who_does_not_say_who_it_is_is_not_waited_for() {
    let mut world = World::new(&["east"]);
    world.gateways[0].machine.link_opened(world.now, LinkId(1), None, false);
    world.wires.insert(LinkId(1), (0, LinkId(2)));
    world.pass(Duration::from_secs(5));
    assert!(world.wires.is_empty());
}

#[test]
fn of_two_links_to_a_gateway_one_stays_at_both_ends() {
    for order in [[(0, 1), (1, 0)], [(1, 0), (0, 1)], [(0, 1), (0, 1)]] {
        let mut world = World::new(&["east", "west"]);
        for (one, other) in order {
            world.link(one, other);
        }
        assert_eq!(world.wires.len(), 2, "{order:?}");
        assert!(up(&world, 0) && up(&world, 1));
        let proxy = world.export(0, &pid("shop@east", 1), 1);
        world.say(1, send(&pid("till@west", 1), &proxy), Some(&Term::atom("hello")));
        world.only(0);
    }
}

#[test]
fn a_link_that_lives_is_not_given_up_for_one_that_the_other_end_dials() {
    for (first, second) in [((0, 1), (1, 0)), ((1, 0), (0, 1))] {
        let mut world = World::new(&["east", "west"]);
        let (kept, _) = world.link(first.0, first.1);
        let told: Vec<usize> = world.gateways.iter().map(|gateway| gateway.notices.len()).collect();
        let (refused, _) = world.link(second.0, second.1);
        assert!(world.wires.contains_key(&kept) && !world.wires.contains_key(&refused));
        let now: Vec<usize> = world.gateways.iter().map(|gateway| gateway.notices.len()).collect();
        assert_eq!(told, now, "nobody lost a link");
    }
    // One of which nothing was heard for long is given up.
    let mut world = World::new(&["east", "west"]);
    let (old, _) = world.link(1, 0);
    world.wires.clear();
    world.now = world.now + Duration::from_secs(2);
    let (new, _) = world.link(0, 1);
    assert!(world.wires.contains_key(&new) && !world.wires.contains_key(&old));
    assert!(up(&world, 0) && up(&world, 1));
}

#[test]
fn of_two_links_whose_hellos_cross_the_same_one_stays_at_both_ends() {
    for held in [[(0, 1)].as_slice(), &[(1, 0)], &[(0, 1), (1, 0)], &[(1, 0), (0, 1)]] {
        let mut world = World::new(&["east", "west"]);
        let held: Vec<_> = held.iter().map(|&(one, other)| world.hold(one, other)).collect();
        world.link(0, 1);
        world.link(1, 0);
        for held in held {
            world.release(held);
        }
        assert_eq!(world.wires.len(), 2, "one link has two ends");
        assert!(up(&world, 0) && up(&world, 1));
        let proxy = world.export(0, &pid("shop@east", 1), 1);
        world.say(1, send(&pid("till@west", 1), &proxy), Some(&Term::atom("hello")));
        world.only(0);
    }
}

#[test]
fn a_certificate_for_another_cluster_is_refused() {
    let mut world = World::new(&["east", "west"]);
    let now = world.now;
    world.wires.insert(LinkId(1), (1, LinkId(2)));
    world.wires.insert(LinkId(2), (0, LinkId(1)));
    world.gateways[0].machine.link_opened(now, LinkId(1), Some(cluster("north")), true);
    world.gateways[1].machine.link_opened(now, LinkId(2), Some(cluster("east")), false);
    world.run();
    assert!(world.wires.is_empty() && !up(&world, 0) && !up(&world, 1));
}

#[test]
fn a_cluster_that_is_cut_off_stays_out_until_it_is_allowed() {
    let mut world = World::linked();
    let west = cluster("west");
    world.export(0, &pid("shop@east", 1), 1);
    let now = world.now;
    world.gateways[0].machine.cut(now, &west);
    world.run();
    assert!(!up(&world, 0) && !up(&world, 1) && world.gateways[1].published["orders"].is_empty());
    world.link(0, 1);
    assert!(!up(&world, 0), "it is not let in");
    assert!(world.gateways[0].machine.allow(&west) && !world.gateways[0].machine.allow(&west));
    world.link(0, 1);
    assert!(up(&world, 0) && world.gateways[1].published["orders"].len() == 1);
}

#[test]
fn gateways_that_are_gone_make_room_for_others() {
    let names: Vec<_> = (0..70).map(|number| format!("c{number}")).collect();
    let mut world = World::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for other in 1..70 {
        let (link, _) = world.link(0, other);
        world.join(
            other,
            "orders",
            &Pid { node: Atom::new(&format!("shop@c{other}")).expect("short"), ..pid("a@b", 1) },
        );
        assert_eq!(world.gateways[0].published["orders"].len(), 1, "{other}");
        world.pass(Duration::from_millis(10));
        world.cut(link);
    }
    assert_eq!(world.gateways[0].machine.status(world.now).gateways.len(), 64);
}

#[test]
fn a_gateway_of_the_same_cluster_and_one_of_another_version_are_refused() {
    let mut world = World::with(vec![settings("east", 1), settings("east", 2)]);
    world.link(0, 1);
    assert!(!up(&world, 0) && !up(&world, 1));

    let mut world = World::new(&["east"]);
    world.gateways[0].machine.link_opened(world.now, LinkId(1), None, false);
    world.run();
    let mut hello = b"mcfd".to_vec();
    hello.extend([2, 9, 0, 0, 0, 0, 4]);
    hello.extend(b"west");
    hello.extend([0; 24]);
    hello.extend([0, 3]);
    hello.extend(b"a@b");
    hello.extend([0, 0]);
    let mut frame = vec![1, 0, 0, 0, 0, u8::try_from(hello.len()).expect("short")];
    frame.extend(hello);
    world.gateways[0].machine.handle_link(world.now, LinkId(1), &frame);
    let closed = std::iter::from_fn(|| world.gateways[0].machine.poll_output()).any(|output| {
        matches!(output, Output::Close { reason: CloseReason::Incompatible { lowest: 2, highest: 9 }, .. })
    });
    assert!(closed);
}
