//! Several gateways a cluster: a member is published once, and another gateway stands in for one that is lost.

use metacluster_erl_wire::term;

use super::*;

/// By then whoever takes the place of another does.
const TAKEN_OVER: Duration = Duration::from_millis(251);

/// Two gateways of `east` (0 and 1) and two of `west` (2 and 3), without links.
fn pairs() -> World {
    let gateway = |name: &str, number: u128| Settings {
        node: NodeName::new(&format!("metacluster@{name}{number}")).expect("a name"),
        ..settings(name, number)
    };
    World::with(vec![gateway("east", 1), gateway("east", 2), gateway("west", 3), gateway("west", 4)])
}

/// Each of the one linked to each of the other; the ends at `east`.
fn linked() -> (World, BTreeMap<(usize, usize), LinkId>) {
    let mut world = pairs();
    let mut links = BTreeMap::new();
    for (one, other) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        links.insert((one, other), world.link(one, other).0);
    }
    world.pass(TAKEN_OVER);
    (world, links)
}

/// A process of `east` joins, as both of its gateways see it.
fn join(world: &mut World, process: &Pid) {
    world.join(0, "orders", process);
    world.join(1, "orders", process);
}

/// The gateways of `west` that publish the group, and its members there.
fn published(world: &World) -> Vec<(usize, Pid)> {
    let of = |place: usize| world.gateways[place].published.get("orders").into_iter().flatten();
    [2, 3].into_iter().flat_map(|place| of(place).map(move |pid| (place, pid.clone()))).collect()
}

fn asked(world: &World, place: usize) -> Vec<AgentId> {
    let status = world.gateways[place].machine.status(world.now);
    status.gateways.iter().filter(|gateway| gateway.asked).map(|gateway| gateway.gateway).collect()
}

#[test]
fn a_member_is_published_once() {
    let (mut world, _) = linked();
    let process = pid("shop@east", 1);
    join(&mut world, &process);
    assert_eq!(published(&world).len(), 1);
    for side in [[0, 1], [2, 3]] {
        let asked: Vec<_> = side.into_iter().flat_map(|place| asked(&world, place)).collect();
        assert_eq!(asked.len(), 1, "one asks one");
    }
}

#[test]
fn another_gateway_publishes_when_one_is_lost_and_gives_way_when_it_returns() {
    let (mut world, links) = linked();
    let process = pid("shop@east", 1);
    join(&mut world, &process);
    let [(west, before)] = published(&world).try_into().expect("one");
    for (_, link) in links.iter().filter(|((_, other), _)| *other == west) {
        world.cut(*link);
    }
    assert!(published(&world).is_empty(), "the nodes must know first that the other one is gone");
    world.pass(TAKEN_OVER);
    let [(other, _)] = published(&world).try_into().expect("one");
    assert_ne!(other, west);
    let (client, (_, proxy)) = (pid("till@west", 2), published(&world).remove(0));
    world.say(other, send(&client, &proxy), Some(&term!(hello)));
    assert_eq!([0, 1].into_iter().filter_map(|place| world.next(place)).count(), 1);

    world.link(0, west);
    world.link(1, west);
    assert!(published(&world).is_empty(), "what is withdrawn is known before it is published again");
    world.pass(TAKEN_OVER);
    let [(back, after)] = published(&world).try_into().expect("one");
    assert_eq!((back, after), (west, before), "as it was, and the same pid");
}

#[test]
fn another_gateway_is_asked_when_that_of_the_other_side_is_lost() {
    let (mut world, links) = linked();
    let process = pid("shop@east", 1);
    join(&mut world, &process);
    let (west, _) = published(&world)[0];
    let [AgentId(east)] = asked(&world, west)[..] else { panic!("one is asked") };
    for (_, link) in links.iter().filter(|((one, _), _)| *one == east as usize - 1) {
        world.cut(*link);
    }
    assert!(published(&world).is_empty(), "what it had sent is let through first");
    world.pass(TAKEN_OVER - Duration::from_millis(2));
    assert!(published(&world).is_empty());
    world.pass(Duration::from_millis(2));
    let [(again, proxy)] = published(&world).try_into().expect("one");
    assert_eq!(again, west);
    world.say(west, send(&pid("till@west", 2), &proxy), Some(&term!(hello)));
    let other = 2 - east as usize;
    assert_eq!(world.only(other).0, "shop@east");
}

/// Who publishes by way of one gateway rests before another one may ask, whichever gateway lets it.
#[test]
fn a_gateway_that_returns_by_one_link_waits_for_one_that_publishes_by_another() {
    let (mut world, links) = linked();
    join(&mut world, &pid("shop@east", 1));
    let (west, other) = match published(&world)[..] {
        [(2, _)] => (2, 3),
        _ => (3, 2),
    };
    for (_, link) in links.iter().filter(|((_, place), _)| *place == west) {
        world.cut(*link);
    }
    world.pass(TAKEN_OVER);
    let [AgentId(east)] = asked(&world, other)[..] else { panic!("one is asked") };
    let idle = 2 - east as usize;
    // What the one that publishes says to the gateway that it did not ask is on its way still.
    let held = world.hold(other, idle);
    world.link(idle, west);
    world.pass(TAKEN_OVER * 2);
    assert!(asked(&world, west).is_empty(), "nobody has said that the other one rests");
    world.release(held);
    world.pass(TAKEN_OVER);
    assert_eq!((asked(&world, west).len(), asked(&world, other).len()), (1, 0));
    assert_eq!(published(&world).len(), 1);
}

#[test]
fn one_that_never_says_that_it_rests_holds_up_the_others_no_longer_than_a_dead_one() {
    use crate::{
        codec::{
            frame::{Kind, head},
            hello::Hello,
        },
        roles::rank,
    };
    let mut world = pairs();
    let (east, west) = (cluster("east"), cluster("west"));
    let first = rank(&east, &west, AgentId(3));
    let behind = (5..).map(AgentId).find(|other| first < rank(&east, &west, *other)).expect("half of all");
    // It is let ask, as it is alone, and answers pings, and nothing else.
    let (stubborn, now) = (LinkId(1_000), world.now);
    let Settings { node, place, .. } = settings("west", behind.0);
    let hello = Hello { lowest: 1, highest: 1, features: 0, cluster: west, gateway: behind, epoch: 1, node, place };
    let mut body = BytesMut::new();
    hello.put(&mut body);
    world.gateways[0].machine.link_opened(now, stubborn, None, false);
    let say = |world: &mut World, kind, body: &[u8]| {
        let frame = [&head(kind, 0, body.len())[..], body].concat();
        world.gateways[0].machine.handle_link(world.now, stubborn, &frame);
        world.run();
    };
    say(&mut world, Kind::Hello, &body);
    world.link(0, 2);
    for _ in 0..8 {
        world.pass(Duration::from_millis(300));
        say(&mut world, Kind::Ping, &[0; 8]);
        assert!(asked(&world, 2).is_empty(), "the other one may publish still");
    }
    world.pass(Duration::from_millis(100) + TAKEN_OVER);
    assert_eq!(asked(&world, 2), [AgentId(1)]);
    let ended = |notice: &Notice| matches!(notice, Notice::Unlinked { reason: CloseReason::Restless, .. });
    assert!(world.gateways[0].notices.iter().any(ended));
    world.join(0, "orders", &pid("shop@east", 1));
    assert_eq!(published(&world).len(), 1);
}

#[test]
fn rest_that_nobody_asked_for_ends_the_link() {
    use crate::codec::frame::{Kind, head};
    let mut world = World::new(&["east", "west"]);
    let (here, _) = world.link(0, 1);
    world.gateways[0].machine.handle_link(world.now, here, &head(Kind::Resting, 0, 0));
    world.run();
    assert!(world.gateways[0].machine.status(world.now).gateways[0].up.is_none());
}

#[test]
fn one_link_that_is_down_moves_at_most_one_role() {
    for lost in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        let (mut world, links) = linked();
        join(&mut world, &pid("shop@east", 1));
        world.cut(links[&lost]);
        world.pass(Duration::from_millis(300));
        assert_eq!(published(&world).len(), 1, "{lost:?}");
        join(&mut world, &pid("shop@east", 2));
        assert_eq!(published(&world).len(), 2, "{lost:?}");
        world.link(lost.0, lost.1);
        world.pass(Duration::from_millis(300));
        assert_eq!(published(&world).len(), 2, "{lost:?}");
    }
}

#[test]
fn groups_that_nobody_asked_for_end_the_link() {
    use crate::codec::frame::{Kind, head};
    for kind in [Kind::InStep, Kind::Differing] {
        let mut world = World::new(&["east", "west"]);
        let (here, _) = world.link(0, 1);
        let frame = [&head(kind, 0, 8)[..], &[0; 8]].concat();
        world.gateways[0].machine.handle_link(world.now, here, &frame);
        world.run();
        assert!(world.gateways[0].machine.status(world.now).gateways[0].up.is_none(), "{kind:?}");
    }
}
