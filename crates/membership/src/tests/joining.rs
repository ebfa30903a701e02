//! Joining, and who is not let in.

use super::*;

#[test]
fn all_see_all_soon_after_they_start() {
    let mut cluster = Cluster::of(6);
    let took = cluster.until(Duration::from_secs(2), |c| (0..6).all(|a| c.agents[a].machine.live() == 6));
    assert!(took <= Duration::from_secs(1), "{took:?}");
    cluster.run(Duration::from_secs(1));
    for number in 0..6 {
        let joined: BTreeSet<_> = cluster.agents[number].told.iter().collect();
        assert_eq!(joined.len(), 5);
        assert_eq!(cluster.agents[number].told.len(), 5, "each is told once");
    }
}

#[test]
fn two_clusters_that_formed_apart_become_one() {
    let mut cluster = Cluster::of(6);
    for number in 1..6 {
        let seed = if number < 3 { 0 } else { 3 };
        cluster.input(number, Input::Seeds(vec![at(seed)]));
    }
    cluster.run(Duration::from_secs(5));
    cluster.input(1, Input::Seeds(vec![at(4)]));
    cluster.until(Duration::from_secs(5), |c| (0..6).all(|a| c.agents[a].machine.live() == 6));
}

#[test]
fn packets_of_another_cluster_are_refused_and_counted() {
    let mut cluster = Cluster::formed(3);
    let stranger = cluster.add(machine(cluster.now, 9, 1, "another"), at(9));
    cluster.input(stranger, Input::Seeds(vec![at(0)]));
    cluster.run(Duration::from_secs(5));
    assert_eq!(cluster.agents[stranger].machine.live(), 1);
    assert!(cluster.agents[0].machine.counters().foreign > 0);
    assert_eq!(cluster.standing(0, 9), None);
}

#[test]
fn a_change_of_tags_reaches_all_at_once() {
    let mut cluster = Cluster::formed(5);
    let mut changed = description("agent-2", at(2));
    changed.tags.insert("app".to_owned(), "shop".to_owned());
    let now = cluster.now;
    cluster.agents[2].machine.describe(now, changed.clone()).expect("it fits");
    cluster.drain(2);
    cluster.run(Duration::from_secs(1));
    for observer in [0, 1, 3, 4] {
        assert_eq!(cluster.kinds(observer, 2), [ChangeKind::Updated]);
        assert_eq!(cluster.agents[observer].machine.member(id(2)).expect("known").description, changed);
    }
}

#[test]
fn a_shared_name_is_noticed() {
    let mut cluster = Cluster::formed(3);
    let identity = Identity {
        id: AgentId(7),
        epoch: Epoch(1),
        cluster: ClusterName::new("main").expect("a name"),
        proof: LeaveProof([9; 16]),
    };
    let twin = Membership::new(cluster.now, identity, description("agent-1", at(7)), Settings::lan(), 7);
    let twin = cluster.add(twin.expect("it fits"), at(7));
    cluster.input(twin, Input::Seeds(vec![at(0)]));
    cluster.run(Duration::from_secs(3));
    let shared = |notice: &&Notice| matches!(notice, Notice::NameShared { .. });
    assert_eq!(cluster.agents[0].notices.iter().filter(shared).count(), 1);
    assert_eq!(cluster.agents[0].machine.live(), 4, "both are members");
}

#[test]
fn the_address_of_a_dead_member_brings_it_no_life() {
    let mut cluster = Cluster::formed(4);
    cluster.agents[3].runs = false;
    let mut heir = machine(cluster.now, 8, 1, "main");
    heir.describe(cluster.now, description("heir", at(3))).expect("it fits");
    let heir = cluster.add(heir, at(3));
    cluster.input(heir, Input::Seeds(vec![at(0)]));
    cluster.until(Duration::from_secs(6), |c| {
        (0..3).all(|a| c.standing(a, 3) == Some(Standing::Failed) && c.standing(a, 8) == Some(Standing::Alive))
    });
    cluster.run(Duration::from_secs(20));
    assert_eq!(cluster.kinds(0, 8), [ChangeKind::Joined], "nor does it harm the heir");
    assert!(cluster.agents[heir].machine.counters().misdirected > 0);
}

/// Two processes with one id, at two addresses: they end as two members, whether their boots differ or not.
fn doubled(epochs: [u64; 2]) {
    let mut cluster = Cluster::formed(3);
    for (place, epoch) in [(7, epochs[0]), (8, epochs[1])] {
        let number = cluster.add(machine(cluster.now, 9, epoch, "main"), at(place));
        let described = description(&format!("twin-{place}"), at(place));
        cluster.agents[number].machine.describe(cluster.now, described).expect("it fits");
        cluster.input(number, Input::Seeds(vec![at(0)]));
    }
    let taken = |cluster: &Cluster| {
        let twins = &cluster.agents[3..];
        twins.iter().any(|twin| twin.notices.contains(&Notice::IdentityTaken))
    };
    let took = cluster.until(Duration::from_secs(120), taken);
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn an_id_that_two_boots_use_is_found_out() {
    doubled([5, 9]);
}

#[test]
fn an_id_that_one_boot_uses_twice_is_found_out() {
    doubled([5, 5]);
}
