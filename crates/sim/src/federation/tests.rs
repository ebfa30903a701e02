//! Scenarios and seeds, and for each checker something that it catches.

use super::*;

fn holds(scenario: &Scenario, seeds: std::ops::Range<u64>) -> Report {
    let mut all = Report::default();
    for seed in seeds {
        match run(seed, scenario) {
            Ok(report) => {
                all.sent += report.sent;
                all.delivered += report.delivered;
                all.monitors += report.monitors;
            }
            Err(failure) => panic!("{failure}"),
        }
    }
    all
}

#[test]
fn clusters_without_faults_lose_nothing() {
    let report = holds(&Scenario::sound(), 0..8);
    assert!(report.sent > 1_000 && report.monitors > 150, "{report:?}");
    // What is sent to a process that has ended is nobody's.
    assert!(report.delivered * 100 > report.sent * 80, "{report:?}");
}

#[test]
fn clusters_come_together_after_cuts() {
    holds(&Scenario::cuts(), 0..8);
}

#[test]
fn three_clusters_hold_through_cuts_and_killed_gateways() {
    holds(&Scenario::triangle(), 0..8);
}

#[test]
fn clusters_reach_one_another_through_a_third() {
    holds(&Scenario::chain(), 0..8);
}

#[test]
fn another_gateway_stands_in_and_nothing_overtakes() {
    let report = holds(&Scenario::failover(), 0..8);
    assert!(report.delivered * 100 > report.sent * 80, "{report:?}");
}

#[test]
fn two_gateways_a_side_hold_through_cuts_and_kills() {
    holds(&Scenario::pairs(), 0..8);
}

#[test]
fn gateways_of_an_earlier_version_hold_through_cuts_and_kills() {
    holds(&Scenario::mixed(), 0..8);
}

#[test]
fn three_gateways_a_side_hold_through_cuts_and_kills() {
    holds(&Scenario::threes(), 0..4);
}

#[test]
fn seeds_that_once_broke_a_rule_hold() {
    // Groups of a gateway that was lost and came back were kept for ever where another one publishes.
    holds(&Scenario::pairs(), 1028..1029);
    // A link that fell silent just before the faults ended is found dead.
    holds(&Scenario::chain(), 5022..5023);
    // A monitor that came through a third cluster ended at a pid that was used again.
    holds(&Scenario::triangle(), 2..3);
    // A member took the place of one that came in the same frame and was not held yet.
    holds(&Scenario::crowded(), 5135..5136);
}

#[test]
fn little_room_is_kept_to() {
    holds(&Scenario::crowded(), 0..8);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let scenario = Scenario::triangle();
    assert_eq!(run(7, &scenario), run(7, &scenario));
}

/// A world with this fault breaks a rule of that kind.
fn bites(sabotage: Sabotage, rule: impl Fn(&Violation) -> bool) {
    let scenario = Scenario { sabotage: Some(sabotage), ..Scenario::sound() };
    let found = (0..10).find_map(|seed| run(seed, &scenario).err());
    let failure = found.unwrap_or_else(|| panic!("{sabotage:?} is not found"));
    assert!(rule(&failure.violation), "{sabotage:?} is found as {failure}");
}

#[test]
fn every_checker_bites() {
    bites(Sabotage::Duplicate, |rule| matches!(rule, Violation::OutOfOrder { .. }));
    bites(Sabotage::Reorder, |rule| matches!(rule, Violation::OutOfOrder { .. }));
    bites(Sabotage::Misdeliver, |rule| matches!(rule, Violation::WrongReceiver { .. }));
    bites(Sabotage::Garble, |rule| matches!(rule, Violation::Garbled { .. }));
    bites(Sabotage::LoseDown, |rule| matches!(rule, Violation::NeverFired(..)));
    bites(Sabotage::RepeatDown, |rule| matches!(rule, Violation::FiredTwice(_)));
    bites(Sabotage::KeepMember, |rule| matches!(rule, Violation::NotConverged { .. } | Violation::Leftover { .. }));
    // A gateway that returns and is not gone back to.
    let scenario = Scenario { sabotage: Some(Sabotage::KeepPair), ..Scenario::failover() };
    let found = (0..10).find_map(|seed| run(seed, &scenario).err()).expect("ways by other gateways are not found");
    assert!(matches!(*found.violation, Violation::OtherPair { .. }), "{found}");
    // One that is not withdrawn by a gateway is published by the next.
    let scenario = Scenario { sabotage: Some(Sabotage::KeepMember), ..Scenario::failover() };
    let found = (0..10).filter_map(|seed| run(seed, &scenario).err());
    let twice = |failure: &Failure| matches!(*failure.violation, Violation::PublishedTwice { .. });
    assert!(found.into_iter().any(|failure| twice(&failure)), "a member that is published twice is not found");
}

#[test]
fn groups_at_rest_cost_little() {
    let rest = at_rest(10, 1_000);
    assert_eq!(rest.published, 90_000);
    // Nothing had changed: a digest each way for each link, and no group.
    assert!(rest.again_bytes < 90 * 1_500, "{rest:?}");
    assert!(rest.first_bytes < 90_000 * 90, "{rest:?}");
    // Signs of life alone.
    assert!(rest.minute_bytes < 90 * 60 * 2 * 30, "{rest:?}");
}

#[test]
fn halves_that_come_together_again_say_what_changed_and_nothing_else() {
    let parted = after_partition(10, 1_000, 10);
    assert_eq!(parted.wrong, 0, "{parted:?}");
    // Six ways of 50 ms: hello, and the other end's once it has judged it, who may ask, what each has, what differs, and the
    // last of it.
    assert!(parted.time <= Duration::from_millis(300), "{parted:?}");
    // 25 links between the halves, 50 ways: of 64 parts some ten differ, each with its 16 groups.
    assert!(parted.bytes < 50 * (1_500 + 10 * 16 * 100), "{parted:?}");
}

#[test]
fn a_group_that_did_not_come_is_found() {
    let parted = figures::parted(4, 50, 5, true);
    // The member that each of the three others should have, and the one that they have in its place.
    assert_eq!(parted.wrong, 6, "{parted:?}");
}
