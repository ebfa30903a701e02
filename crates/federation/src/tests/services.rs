//! Services: a key has its partition everywhere, and is served near its caller.

use metacluster_erl_wire::term;
use metacluster_types::{Region, Zone};

use super::*;

fn place(zone: &str, region: &str) -> Place {
    Place { zone: Zone::new(zone).ok(), region: Region::new(region).ok() }
}

/// Two clusters in one region, each in a zone of its own, and the partition `{orders, 0..partitions}` in each.
fn served(partitions: i64) -> World {
    let with = |name, number, zone| Settings { place: place(zone, "r1"), ..settings(name, number) };
    let mut world = World::with(vec![with("east", 1, "za"), with("west", 2, "zb")]);
    world.link(0, 1);
    for partition in 0..partitions {
        for (at, node) in [(0, "shop@east"), (1, "shop@west")] {
            serve(&mut world, at, partition, &pid(node, partition as u32 + 1));
        }
    }
    world
}

fn serve(world: &mut World, at: usize, partition: i64, process: &Pid) {
    let key = group(&term!({orders, (partition)}));
    world.gateways[at].machine.local_joined(world.now, &key, std::slice::from_ref(process));
    world.run();
}

fn route(world: &World, at: usize, key: i64, node: &str) -> Option<Pid> {
    let node = NodeName::new(node).expect("a name");
    world.gateways[at].machine.route(&term!(orders), &Term::Integer(key), &node)
}

/// The number of the process that serves a key, wherever it is.
fn served_by(world: &World, at: usize, key: i64, node: &str) -> u32 {
    let pid = route(world, at, key, node).expect("somebody");
    world.gateways[at].machine.home_of(&pid).map_or(pid.id, |home| home.id)
}

#[test]
fn a_key_has_the_same_partition_in_every_cluster_and_is_served_in_the_callers_zone() {
    let world = served(8);
    let mut used = BTreeSet::new();
    for key in 0..200 {
        let (here, there) = (route(&world, 0, key, "shop@east"), route(&world, 1, key, "shop@west"));
        assert_eq!(here.as_ref().map(|pid| pid.node.as_str().to_owned()).as_deref(), Some("shop@east"));
        assert_eq!(there.as_ref().map(|pid| pid.node.as_str().to_owned()).as_deref(), Some("shop@west"));
        assert_eq!(served_by(&world, 0, key, "shop@east"), served_by(&world, 1, key, "shop@west"));
        used.insert(served_by(&world, 0, key, "shop@east"));
    }
    assert_eq!(used.len(), 8, "all partitions serve");
}

#[test]
fn a_partition_that_goes_moves_its_own_keys_only() {
    let mut world = served(8);
    let before: Vec<u32> = (0..400).map(|key| served_by(&world, 0, key, "shop@east")).collect();
    for (at, node) in [(0, "shop@east"), (1, "shop@west")] {
        let key = group(&term!({orders, 3}));
        world.gateways[at].machine.local_left(world.now, &key, &[pid(node, 4)]);
        world.run();
    }
    for (key, was) in before.iter().enumerate() {
        let is = served_by(&world, 0, key as i64, "shop@east");
        assert!(is == *was || *was == 4, "{key} moved from {was} to {is}");
        assert_ne!(is, 4);
    }
}

#[test]
fn a_far_member_serves_where_there_is_no_near_one_and_a_zone_goes_before_a_cluster() {
    let mut world = served(1);
    let east = pid("shop@east", 1);
    // A node of east that is in the zone of west is nearer to the members there.
    let guest = NodeName::new("till@east").expect("a name");
    world.gateways[0].machine.set_place(&guest, &place("zb", "r1"));
    let far = route(&world, 0, 7, "till@east").expect("somebody");
    assert_eq!(
        world.gateways[0].machine.home_of(&far).map(|home| home.node.as_str().to_owned()).as_deref(),
        Some("west/shop@west")
    );
    let key = group(&term!({orders, 0}));
    world.gateways[0].machine.local_left(world.now, &key, std::slice::from_ref(&east));
    world.run();
    assert_eq!(route(&world, 0, 7, "shop@east"), Some(far));
    let members = world.gateways[0].machine.members_of(&term!(orders));
    assert_eq!((members.len(), members[0].1.len()), (1, 1));
    assert_eq!(world.gateways[0].machine.route(&term!(nothing), &term!(1), &guest), None);
}

#[test]
fn of_several_far_clusters_one_of_the_region_serves_then_the_one_that_answers_fastest() {
    let with = |name, number, zone, region| Settings { place: place(zone, region), ..settings(name, number) };
    let mut world = World::with(vec![
        with("east", 1, "za", "r1"),
        with("near", 2, "zb", "r1"),
        with("slow", 3, "zc", "r2"),
        with("quick", 4, "zd", "r3"),
    ]);
    for (other, delay) in [(1, 90), (2, 80), (3, 20)] {
        world.delays.insert(other, Duration::from_millis(delay));
        world.link(0, other);
    }
    world.pass(Duration::from_secs(6));
    let processes = [(1, pid("shop@near", 1)), (2, pid("shop@slow", 2)), (3, pid("shop@quick", 3))];
    for (at, process) in &processes {
        serve(&mut world, *at, 0, process);
    }
    // The one of the region is the slowest of all.
    for served in [1, 3, 2] {
        for key in 0..20 {
            assert_eq!(served_by(&world, 0, key, "shop@east"), served, "key {key}");
        }
        let (at, process) = processes.iter().find(|(_, process)| process.id == served).expect("one of them");
        let key = group(&term!({orders, 0}));
        world.gateways[*at].machine.local_left(world.now, &key, std::slice::from_ref(process));
        world.run();
    }
    assert_eq!(route(&world, 0, 1, "shop@east"), None);
}

#[test]
fn the_directory_names_all_services_and_a_lost_link_takes_its_members_away() {
    let mut world = served(2);
    let of = |world: &World| {
        let services = world.gateways[0].machine.services();
        let count = |cluster: &str| {
            let members = services.iter().flat_map(|service| &service.partitions);
            members.filter_map(|(_, clusters)| clusters.get(&super::cluster(cluster))).sum::<usize>()
        };
        (services.len(), count("east"), count("west"))
    };
    assert_eq!(of(&world), (1, 2, 2));
    let link = *world.wires.keys().next().expect("a link");
    world.cut(link);
    assert_eq!(of(&world), (1, 2, 0));
    let now = world.now;
    world.gateways[0].machine.local_groups_are(now, "pg", BTreeMap::new());
    assert_eq!(of(&world), (0, 0, 0));
}

#[test]
fn the_time_that_a_ping_takes_is_known() {
    let mut world = World::linked();
    world.pass(Duration::from_secs(2));
    let status = world.gateways[0].machine.status(world.now);
    assert_eq!(status.gateways[0].round_trip, Some(Duration::ZERO));
}
