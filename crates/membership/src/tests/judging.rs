//! Suspicion, failure, refutation, and not judging while one stood still.

use metacluster_types::Zone;

use super::*;
use crate::DownReason;

#[test]
fn a_silent_death_is_known_to_all_within_two_and_a_half_seconds_and_told_once() {
    let mut cluster = Cluster::formed(5);
    cluster.agents[2].runs = false;
    let took = cluster.until(Duration::from_secs(10), |c| c.all_hold(2, Standing::Failed));
    assert!(took < Duration::from_millis(2500), "{took:?}");
    cluster.run(Duration::from_secs(30));
    for observer in [0, 1, 3, 4] {
        assert_eq!(cluster.kinds(observer, 2), [ChangeKind::Suspect, ChangeKind::Down(DownReason::Failed)]);
    }
}

#[test]
fn one_that_stood_still_for_a_moment_refutes_the_suspicion() {
    let mut cluster = Cluster::formed(5);
    cluster.agents[2].runs = false;
    cluster.until(Duration::from_secs(5), |c| c.kinds(0, 2) == [ChangeKind::Suspect]);
    cluster.agents[2].runs = true;
    cluster.until(Duration::from_secs(2), |c| c.all_hold(2, Standing::Alive));
    cluster.run(Duration::from_secs(10));
    assert_eq!(cluster.kinds(0, 2), [ChangeKind::Suspect, ChangeKind::Recovered]);
    assert!(cluster.agents[2].machine.stamp().incarnation > crate::Incarnation(0));
}

#[test]
fn one_that_stood_still_for_long_judges_nobody_and_comes_back() {
    let mut cluster = Cluster::formed(5);
    cluster.agents[2].runs = false;
    cluster.run(Duration::from_secs(30));
    assert!(cluster.all_hold(2, Standing::Failed));
    cluster.agents[2].runs = true;
    let took = cluster.until(Duration::from_secs(15), |c| c.all_hold(2, Standing::Alive));
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert!(cluster.agents[2].told.is_empty(), "{:?}", cluster.agents[2].told);
    assert!(cluster.agents[2].machine.counters().pauses > 0);
}

#[test]
fn a_late_or_needless_wake_up_is_harmless() {
    let mut cluster = Cluster::formed(3);
    for _ in 0..100 {
        cluster.drain(0);
        let now = cluster.now;
        assert!(cluster.agents[0].machine.next_deadline().is_some_and(|due| due > now));
    }
    let back = Instant::ZERO;
    assert_eq!(cluster.agents[0].machine.poll_output(back), None, "time that runs backwards stands still");
    cluster.run(Duration::from_secs(5));
    assert_eq!(cluster.agents[0].machine.live(), 3);
}

#[test]
fn who_gets_nacks_trusts_itself_and_who_hears_nothing_at_all_takes_its_time() {
    // The helpers say that they hear nothing of it either: it is not this side.
    let mut cluster = Cluster::formed(5);
    cluster.agents[2].runs = false;
    cluster.until(Duration::from_secs(10), |c| c.all_hold(2, Standing::Failed));
    for observer in [0, 1, 3, 4] {
        assert!(cluster.agents[observer].machine.counters().probes_failed > 0);
        assert_eq!(cluster.agents[observer].machine.health(), 0);
    }
    // Nobody says anything: it may well be this side, which probes less often and waits longer.
    let mut cluster = Cluster::formed(5);
    cluster.cuts.extend((1..5).flat_map(|other| [(0, other), (other, 0)]));
    cluster.until(Duration::from_secs(10), |c| c.agents[0].machine.health() >= 2);
    let failed = |c: &Cluster| (1..5).filter(|&other| c.standing(0, other) == Some(Standing::Failed)).count();
    let alone = cluster.until(Duration::from_secs(30), |c| failed(c) == 4);
    assert!(cluster.all_hold(0, Standing::Failed), "all others are sure of it long before");
    assert!(alone > Duration::from_secs(1), "{alone:?}");
    cluster.cuts.clear();
    cluster.until(Duration::from_secs(30), |c| (0..5).all(|number| c.all_hold(number, Standing::Alive)));
    cluster.until(Duration::from_secs(30), |c| c.agents[0].machine.health() == 0);
}

#[test]
fn a_suspect_hears_of_it_with_the_next_probe_and_refutes_in_its_answer() {
    let mut cluster = Cluster::formed(2);
    // Between two rounds of gossip, so that no news brings it.
    cluster.run(Duration::from_secs(1));
    let lie = crate::craft::Lie::Suspect;
    let told = crate::craft::gossip("main", (id(9), Epoch(1)), id(1), crate::craft::stamp(1, 0), lie);
    cluster.input(0, Input::Packet { from: at(9), bytes: told });
    assert_eq!(cluster.standing(0, 1), Some(Standing::Suspect));
    cluster.run(DELAY * 2);
    assert_eq!(cluster.standing(0, 1), Some(Standing::Alive), "there and back");
    assert_eq!(cluster.agents[1].machine.counters().refuted, 1);
}

#[test]
fn a_cable_cut_between_two_is_bridged_by_the_others() {
    let mut cluster = Cluster::formed(5);
    cluster.cuts.extend([(0, 1), (1, 0), (2, 3)]);
    cluster.run(Duration::from_secs(60));
    assert!((0..5).all(|number| cluster.all_hold(number, Standing::Alive)));
    assert!((0..5).all(|number| cluster.agents[number].told.is_empty()));
}

#[test]
fn where_udp_is_dropped_the_stream_keeps_members_alive() {
    let mut cluster = Cluster::formed(3);
    cluster.udp_works = false;
    cluster.run(Duration::from_secs(30));
    assert!((0..3).all(|number| cluster.all_hold(number, Standing::Alive)));
    assert!(cluster.agents[0].machine.counters().stream_answers > 10);
}

#[test]
fn the_loss_of_half_is_told_in_few_bursts() {
    let mut cluster = Cluster::formed(10);
    for number in 5..10 {
        cluster.agents[number].runs = false;
    }
    cluster.until(Duration::from_secs(30), |c| (5..10).all(|number| c.all_hold(number, Standing::Failed)));
    cluster.run(Duration::from_secs(1));
    let downs = cluster.agents[0].told.iter().filter(|(_, kind)| matches!(kind, ChangeKind::Down(_))).count();
    assert_eq!(downs, 5);
    assert!(cluster.agents[0].batches <= 3, "{} batches", cluster.agents[0].batches);
}

#[test]
fn the_loss_of_a_zone_is_told_in_one_burst() {
    let zones = ["a", "b", "c"].map(|zone| Place { zone: Some(Zone::new(zone).expect("a zone")), region: None });
    let in_zone = |number: usize| placed(Instant::ZERO, number, 1, "main", zones[number % 3].clone());
    // Each member has dice of its own, so their rounds are at other places in each cluster.
    for (lost, hosts) in [(0, 9), (1, 15), (2, 24), (1, 45)] {
        let mut cluster = Cluster::by(hosts, in_zone).settled();
        let (gone, left): (Vec<usize>, Vec<usize>) = (0..hosts).partition(|number| number % 3 == lost);
        for &number in &gone {
            cluster.agents[number].runs = false;
        }
        cluster.until(Duration::from_secs(30), |c| gone.iter().all(|&number| c.all_hold(number, Standing::Failed)));
        cluster.run(Duration::from_secs(1));
        for agent in left.iter().map(|&number| &cluster.agents[number]) {
            let downs = agent.told.iter().filter(|(_, kind)| matches!(kind, ChangeKind::Down(_))).count();
            assert_eq!((downs, agent.batches), (hosts / 3, 1), "zone {lost} of {hosts}");
        }
    }
}

#[test]
fn halves_that_were_cut_find_each_other() {
    let mut cluster = Cluster::formed(8);
    for (one, other) in (0..4).flat_map(|one| (4..8).map(move |other| (one, other))) {
        cluster.cuts.extend([(one, other), (other, one)]);
    }
    cluster.run(Duration::from_secs(60));
    assert_eq!(cluster.agents[0].machine.live(), 4);
    cluster.cuts.clear();
    cluster.until(Duration::from_secs(20), |c| (0..8).all(|number| c.all_hold(number, Standing::Alive)));
}

#[test]
fn round_trips_are_estimated() {
    let mut cluster = Cluster::formed(3);
    cluster.run(Duration::from_secs(60));
    let estimate = cluster.agents[0].machine.round_trip(id(1)).expect("it was probed");
    assert!(estimate > Duration::from_millis(1) && estimate < Duration::from_millis(4), "{estimate:?}");
}

#[test]
fn a_wrong_address_that_somebody_told_is_put_right() {
    for port in [45893, 7] {
        let mut cluster = Cluster::formed(6);
        let elsewhere = SocketAddr::from(([10, 0, 0, 200], port));
        let lie = crate::craft::Lie::Alive(elsewhere);
        let told = crate::craft::gossip("main", (id(5), Epoch(1)), id(2), crate::craft::stamp(1, 1), lie);
        // Its subject hears nothing of it, and of what others make of it.
        let cut = [0, 1, 3, 4, 5].map(|other| (other, 2));
        cluster.cuts.extend(cut);
        for number in [0, 1, 3, 4] {
            cluster.input(number, Input::Packet { from: at(5), bytes: told.clone() });
        }
        cluster
            .until(Duration::from_secs(3), |c| [0, 1, 3, 4].map(|o| c.standing(o, 2)) == [Some(Standing::Suspect); 4]);
        cluster.cuts.clear();
        let right = |c: &Cluster| {
            [0, 1, 3, 4, 5].into_iter().all(|observer| {
                let held = c.agents[observer].machine.member(id(2));
                held.is_some_and(|held| (held.description.address, held.standing) == (at(2), Standing::Alive))
            })
        };
        let took = cluster.until(Duration::from_secs(20), right);
        assert!(took < Duration::from_secs(2), "port {port}: {took:?}");
    }
}

#[test]
fn who_went_on_during_a_long_cut_is_believed_after_it() {
    let mut cluster = Cluster::formed(3);
    cluster.cuts.extend([(0, 2), (2, 0), (1, 2), (2, 1)]);
    cluster.until(Duration::from_secs(30), |c| [0, 1].map(|o| c.standing(o, 2)) == [Some(Standing::Failed); 2]);
    for round in 0..1_200 {
        for turn in 0..4 {
            let described = description(&format!("changed {round} {turn}"), at(2));
            let now = cluster.now;
            cluster.agents[2].machine.describe(now, described).expect("it fits");
            cluster.drain(2);
        }
        cluster.run(Duration::from_secs(1));
    }
    cluster.cuts.clear();
    let right = |c: &Cluster| {
        [0, 1].into_iter().all(|observer| {
            let held = c.agents[observer].machine.member(id(2));
            held.is_some_and(|held| {
                held.standing == Standing::Alive && held.description.name == "changed 1199 3" && held.stamp.epoch.0 == 1
            })
        })
    };
    cluster.until(Duration::from_secs(60), right);
}
