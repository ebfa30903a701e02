//! Leaving, being ended by the provider, restarts, and claims of ill will.

use super::*;
use crate::{
    DownReason,
    craft::{self, Lie},
};

#[test]
fn a_leave_is_known_to_all_at_once_and_is_for_good() {
    let mut cluster = Cluster::formed(6);
    let now = cluster.now;
    cluster.agents[2].machine.leave(now);
    cluster.drain(2);
    let took = cluster.until(Duration::from_secs(2), |c| c.all_hold(2, Standing::Left));
    assert!(took <= Duration::from_millis(100), "{took:?}");
    cluster.run(Duration::from_secs(2));
    assert!(cluster.agents[2].notices.contains(&Notice::LeaveTold));
    cluster.agents[2].runs = false;
    // Old news of it comes back.
    let stale = craft::gossip("main", (id(1), Epoch(1)), id(2), craft::stamp(1, 9), Lie::Alive(at(2)));
    cluster.input(0, Input::Packet { from: at(1), bytes: stale });
    cluster.run(Duration::from_secs(10));
    assert_eq!(cluster.kinds(0, 2), [ChangeKind::Down(DownReason::Left)]);
}

#[test]
fn nobody_can_say_that_another_left() {
    let mut cluster = Cluster::formed(4);
    let lie = craft::gossip("main", (id(1), Epoch(1)), id(2), craft::stamp(1, 0), Lie::Left);
    cluster.input(0, Input::Packet { from: at(1), bytes: lie });
    cluster.run(Duration::from_secs(5));
    assert!(cluster.agents[0].told.is_empty() && cluster.agents[0].machine.counters().lies == 1);
}

#[test]
fn a_failure_that_only_one_claims_is_checked_and_not_believed() {
    let mut cluster = Cluster::formed(4);
    let lie = craft::gossip("main", (id(1), Epoch(1)), id(2), craft::stamp(1, 0), Lie::Failed);
    cluster.input(0, Input::Packet { from: at(1), bytes: lie });
    cluster.run(Duration::from_secs(5));
    assert!(cluster.all_hold(2, Standing::Alive));
    assert!((0..4).all(|number| cluster.agents[number].told.is_empty()));
}

#[test]
fn a_false_address_of_another_is_corrected_by_that_one() {
    let mut cluster = Cluster::formed(4);
    let lie = craft::gossip("main", (id(1), Epoch(1)), id(2), craft::stamp(1, 5), Lie::Alive(at(77)));
    cluster.input(0, Input::Packet { from: at(1), bytes: lie });
    cluster.run(Duration::from_secs(20));
    for observer in [0, 1, 3] {
        let held = cluster.agents[observer].machine.member(id(2)).expect("known");
        assert_eq!((held.description.address, held.standing), (at(2), Standing::Alive));
    }
}

#[test]
fn an_unheard_of_incarnation_is_a_lie() {
    let mut cluster = Cluster::formed(3);
    let lie = craft::gossip("main", (id(1), Epoch(1)), id(2), craft::stamp(1, 1 << 29), Lie::Alive(at(2)));
    cluster.input(0, Input::Packet { from: at(1), bytes: lie });
    assert_eq!(cluster.agents[0].machine.counters().lies, 1);
}

#[test]
fn the_provider_ends_a_suspect_within_a_second_and_its_record_is_soon_gone() {
    let mut cluster = Cluster::formed(5);
    cluster.agents[2].runs = false;
    cluster.until(Duration::from_secs(5), |c| c.standing(0, 2) == Some(Standing::Suspect));
    cluster.input(0, Input::Terminated(id(2)));
    let took = cluster.until(Duration::from_secs(2), |c| c.all_hold(2, Standing::Left));
    assert!(took < Duration::from_secs(1), "{took:?}");
    cluster.run(Duration::from_secs(10));
    for observer in [0, 1, 3, 4] {
        let kinds = cluster.kinds(observer, 2);
        let last = [ChangeKind::Down(DownReason::Provider), ChangeKind::Reaped];
        assert!(kinds.ends_with(&last), "{kinds:?}");
        assert_eq!(cluster.agents[observer].machine.ended_boot(id(2)), Some(Epoch(1)));
    }
}

#[test]
fn one_that_its_provider_ended_by_mistake_comes_back_as_a_later_boot() {
    let mut cluster = Cluster::formed(4);
    cluster.input(0, Input::Terminated(id(2)));
    cluster.run(Duration::from_secs(20));
    assert!(cluster.agents[2].notices.contains(&Notice::EndedByProvider));
    assert_eq!(cluster.standing(0, 2), None);
    cluster.run(Duration::from_secs(60));
    assert!(cluster.all_hold(2, Standing::Alive));
    assert!(cluster.agents[2].machine.stamp().epoch > Epoch(1));
}

#[test]
fn a_restart_is_told_as_down_and_up_in_one_batch() {
    let mut cluster = Cluster::formed(4);
    cluster.agents[2].machine = machine(cluster.now, 2, 2, "main");
    cluster.input(2, Input::Seeds(vec![at(0)]));
    cluster.run(Duration::from_secs(3));
    for observer in [0, 1, 3] {
        let kinds = cluster.kinds(observer, 2);
        assert_eq!(kinds, [ChangeKind::Down(DownReason::Restarted), ChangeKind::Joined]);
    }
}

#[test]
fn a_restart_that_forgot_its_boot_goes_beyond_it() {
    let mut cluster = Cluster::formed(4);
    cluster.agents[2].machine = machine(cluster.now, 2, 0, "main");
    cluster.input(2, Input::Seeds(vec![at(0)]));
    cluster.run(Duration::from_secs(5));
    assert!(cluster.all_hold(2, Standing::Alive));
    let epoch = cluster.agents[2].machine.stamp().epoch;
    assert!(epoch > Epoch(1) && cluster.agents[2].notices.contains(&Notice::EpochRaised(epoch)));
}

#[test]
fn two_processes_with_one_id_do_not_fight_for_ever() {
    let mut cluster = Cluster::formed(4);
    let twin = machine(cluster.now, 2, 1, "main");
    let twin = cluster.add(twin, at(9));
    let mut moved = description("agent-2", at(9));
    moved.name = "the other".to_owned();
    let now = cluster.now;
    cluster.agents[twin].machine.describe(now, moved).expect("it fits");
    cluster.input(twin, Input::Seeds(vec![at(0)]));
    cluster.run(Duration::from_secs(120));
    let stamp = |c: &Cluster| [2, twin].map(|number| c.agents[number].machine.stamp());
    let before = stamp(&cluster);
    cluster.run(Duration::from_secs(10));
    let after = stamp(&cluster);
    let raised = after.iter().zip(before).map(|(after, before)| after.incarnation.0 - before.incarnation.0);
    assert!(raised.max() < Some(400), "bounded, not a storm: {before:?} {after:?}");
    assert!([0, 1, 3].iter().all(|&number| cluster.agents[number].machine.live() == 4), "the others are unharmed");
}

#[test]
fn the_restored_snapshot_keeps_the_ended_ended() {
    let mut cluster = Cluster::formed(3);
    cluster.input(0, Input::Terminated(id(2)));
    cluster.run(Duration::from_secs(1));
    let snapshot = cluster.agents[0].machine.snapshot();
    let mut again = machine(cluster.now, 0, snapshot.next_epoch(Epoch(0)).0, "main");
    again.restore(cluster.now, &snapshot);
    let stale = craft::gossip("main", (id(1), Epoch(1)), id(2), craft::stamp(1, 9), Lie::Alive(at(2)));
    again.handle_input(cluster.now, Input::Packet { from: at(1), bytes: stale });
    assert_eq!((again.standing(id(2)), again.stamp().epoch), (None, Epoch(2)));
}
