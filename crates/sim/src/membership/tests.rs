//! Scenarios and seeds, and for each checker something that it catches.

use metacluster_membership::{
    Change, ChangeKind, DownReason, Epoch, Reply, Settings, Sizes, Stamp, UserEvent, UserSizes, craft,
};
use metacluster_types::AgentId;

use super::*;
use crate::network::HostId;

fn holds(scenario: &Scenario, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if let Err(failure) = run(seed, scenario) {
            panic!("{failure}");
        }
    }
}

#[test]
fn sound_clusters_form() {
    for hosts in [2, 3, 5, 32] {
        holds(&Scenario::sound(hosts), 0..3);
    }
}

#[test]
fn clusters_converge_after_cuts_between_zones() {
    holds(&Scenario::zones(), 0..4);
}

#[test]
fn clusters_converge_through_churn() {
    holds(&Scenario::churn(), 0..6);
}

#[test]
fn a_member_of_ill_will_does_no_lasting_harm() {
    holds(&Scenario::hostile(), 0..6);
}

#[test]
fn clusters_converge_through_loss() {
    holds(&Scenario::lossy(), 0..4);
}

#[test]
fn random_worlds_converge() {
    for seed in 0..40 {
        if let Err(failure) = run(seed, &Scenario::random(seed)) {
            panic!("{failure}");
        }
    }
}

#[test]
fn kept_seeds_hold() {
    for &seed in SEEDS {
        if let Err(failure) = run(seed, &Scenario::random(seed)) {
            panic!("{failure}");
        }
    }
}

#[test]
fn everyone_is_heard_through_loss_cuts_and_restarts() {
    holds(&Scenario::talkative(), 0..8);
}

#[test]
fn a_flood_of_made_up_events_and_queries_does_no_lasting_harm() {
    holds(&Scenario::flooded(), 0..6);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    assert_eq!(run(7, &Scenario::random(7)), run(7, &Scenario::random(7)));
}

#[test]
fn healthy_members_are_not_expelled_while_others_stand_still() {
    for waking in [Waking::Whole, Waking::Starved(20)] {
        assert_eq!(figures::expelled(48, 8, Duration::from_secs(16), waking, 1), Ok(0), "{waking:?}");
    }
}

#[test]
fn healthy_members_are_not_expelled_under_loss() {
    assert_eq!(figures::expelled_by_loss(5, 200, Duration::from_secs(600), 1), Ok(0));
}

#[test]
fn a_death_is_known_in_time() {
    for seed in 0..10 {
        let death = figures::death(5, 0, seed).expect("no rule breaks").expect("it is known");
        assert!(death.all < Duration::from_secs(3), "seed {seed}: {death:?}");
    }
}

#[test]
fn agents_that_start_together_form_one_cluster() {
    for seed in 0..60 {
        assert_eq!(figures::clusters_formed(seed), Ok(1), "seed {seed}");
    }
}

#[test]
fn a_cluster_comes_back_from_an_outage_with_new_addresses() {
    for seed in 0..5 {
        let took = figures::outage(8, seed).expect("no rule breaks");
        assert!(took.is_some_and(|took| took < Duration::from_secs(30)), "seed {seed}: {took:?}");
    }
}

const NOW: Instant = Instant::ZERO;
const PEER: AgentId = AgentId(2);

fn checker() -> Checker {
    Checker::new(AgentId(1))
}

fn told(kind: ChangeKind, epoch: u64) -> [Change; 1] {
    [Change { id: PEER, epoch: Epoch(epoch), kind }]
}

#[test]
fn the_checker_of_stamps_bites() {
    let stamps: [Stamp; 3] = [craft::stamp(1, 5), craft::stamp(1, 4), craft::stamp(0, 9)];
    for back in [stamps[1], stamps[2]] {
        let mut checker = checker();
        checker.own_stamp(stamps[0]).expect("the first");
        assert!(matches!(checker.own_stamp(back), Err(Violation::StampWentBack { .. })));
        checker.holds([(PEER, stamps[0])].into_iter()).expect("the first");
        let held = checker.holds([(PEER, back)].into_iter());
        assert!(matches!(held, Err(Violation::StampWentBack { id: PEER, .. })));
    }
}

#[test]
fn the_checker_of_resurrection_bites() {
    for reason in [DownReason::Left, DownReason::Provider, DownReason::Restarted] {
        let mut checker = checker();
        checker.changes(NOW, &told(ChangeKind::Joined, 3)).expect("it joins");
        checker.changes(NOW, &told(ChangeKind::Down(reason), 3)).expect("it ends");
        let back = checker.changes(NOW, &told(ChangeKind::Joined, 3));
        assert_eq!(back, Err(Violation::Resurrected { id: PEER, epoch: Epoch(3) }));
        checker.changes(NOW, &told(ChangeKind::Joined, 4)).expect("a later boot may join");
    }
}

#[test]
fn the_checker_of_alternation_bites() {
    let mut checker = checker();
    for kind in [ChangeKind::Suspect, ChangeKind::Recovered, ChangeKind::Down(DownReason::Failed)] {
        let early = checker.changes(NOW, &told(kind, 1));
        assert_eq!(early, Err(Violation::NoAlternation { id: PEER, kind, up: false }));
    }
    checker.changes(NOW, &told(ChangeKind::Joined, 1)).expect("it joins");
    let twice = checker.changes(NOW, &told(ChangeKind::Joined, 1));
    assert_eq!(twice, Err(Violation::NoAlternation { id: PEER, kind: ChangeKind::Joined, up: true }));
}

#[test]
fn the_checker_of_the_dead_self_bites() {
    let mut checker = Checker::new(PEER);
    assert_eq!(checker.changes(NOW, &told(ChangeKind::Joined, 1)), Err(Violation::SelfAmongOthers));
    assert_eq!(checker.holds([(PEER, Stamp::default())].into_iter()), Err(Violation::SelfAmongOthers));
}

#[test]
fn the_checker_of_flapping_bites() {
    let mut checker = checker();
    let mut flap = |second: u64| {
        let now = Instant::from_origin(Duration::from_secs(second));
        checker.changes(now, &told(ChangeKind::Joined, 1)).expect("it joins");
        checker.changes(now, &told(ChangeKind::Down(DownReason::Failed), 1))
    };
    assert!((0..20).all(|minute| flap(minute * 61).is_ok()), "seldom is fine");
    assert!((0..7).any(|second| matches!(flap(2000 + second), Err(Violation::Flapping { .. }))));
}

#[test]
fn the_checker_of_livelock_bites() {
    let scenario = Scenario::sound(2);
    let mut world = World::new(&scenario, 1);
    while let Some(event) = world.queue.pop_until(Instant::from_origin(Duration::from_secs(3))) {
        world.handle(event).unwrap_or_else(|(_, violation)| panic!("{violation}"));
    }
    let (_, host, machine) = world.running().next().expect("one runs");
    let due = machine.next_deadline().expect("it probes");
    // Had the machine said that it has nothing to do at that time, it would be asked for ever.
    assert_eq!(Checker::new(host.id).drained(due, machine), Err(Violation::Livelock(due)));
}

#[test]
fn the_checker_of_memory_bites() {
    let (checker, settings) = (checker(), Settings::lan());
    let user = UserSizes::default();
    let sound = Sizes { members: 9, timers: 20, ..Sizes::default() };
    checker.sizes(sound, &settings, 10).expect("within bounds");
    for swollen in [
        Sizes { members: 11, ..sound },
        Sizes { news: 11, ..sound },
        Sizes { tombstones: 11, ..sound },
        Sizes { probes: 3000, ..sound },
        Sizes { exchanges: 65, ..sound },
        Sizes { seeds: 2000, ..sound },
        Sizes { timers: 1000, ..sound },
        Sizes { user: UserSizes { events: 2049, ..user }, ..sound },
        Sizes { user: UserSizes { senders: 11, ..user }, ..sound },
        Sizes { user: UserSizes { rumours: 513, ..user }, ..sound },
        Sizes { user: UserSizes { queries: 2081, ..user }, ..sound },
        Sizes { user: UserSizes { answers: 513, ..user }, ..sound },
    ] {
        assert!(matches!(checker.sizes(swollen, &settings, 10), Err(Violation::Memory { .. })), "{swollen:?}");
    }
}

#[test]
fn the_requirement_of_liveness_bites() {
    // A cluster whose members are never told of each other.
    let scenario = Scenario::sound(3);
    let mut world = World::new(&scenario, 1);
    world.seeds = Some(Vec::new());
    while let Some(event) = world.queue.pop_until(Instant::from_origin(Duration::from_secs(10))) {
        world.handle(event).unwrap_or_else(|(_, violation)| panic!("{violation}"));
    }
    assert_eq!(world.wrong().0, 6);
}

fn event(sequence: u32, epoch: u64) -> UserEvent {
    UserEvent { sender: PEER, epoch: Epoch(epoch), sequence, name: "x".to_owned(), payload: Vec::new() }
}

#[test]
fn the_checker_of_the_order_of_events_bites() {
    let mut talk = Talk::default();
    for (epoch, sequence) in [(1, 1), (1, 2), (1, 3), (2, 1)] {
        talk.sent(NOW, PEER, Epoch(epoch), sequence);
    }
    let mut deliver = |sequence, epoch| talk.delivered(AgentId(1), &event(sequence, epoch));
    assert_eq!(deliver(2, 1), Ok(()));
    assert!(matches!(deliver(2, 1), Err(Violation::EventOutOfOrder { sequence: 2, last: 2, .. })), "twice");
    assert!(matches!(deliver(1, 1), Err(Violation::EventOutOfOrder { sequence: 1, .. })), "too late");
    assert_eq!(deliver(1, 2), Ok(()), "a later boot begins anew");
    assert!(matches!(deliver(3, 1), Err(Violation::EventOutOfOrder { sequence: 3, .. })), "an earlier boot");
    assert!(matches!(deliver(9, 2), Err(Violation::EventFromNowhere { sequence: 9, .. })));
}

#[test]
fn the_checker_of_lost_events_bites() {
    let scenario = Scenario::sound(3);
    let mut world = World::new(&scenario, 1);
    while let Some(event) = world.queue.pop_until(Instant::from_origin(Duration::from_secs(20))) {
        world.handle(event).unwrap_or_else(|(_, violation)| panic!("{violation}"));
    }
    let begin = world.queue.now();
    let (_, host, machine) = world.running().next().expect("one runs");
    let (id, epoch) = (host.id, machine.stamp().epoch);
    assert_eq!((world.unheard(begin), world.lost()), (None, None));
    world.talk.sent(begin, id, epoch, 1);
    assert!(matches!(world.unheard(begin), Some(Violation::EventsLost { sequence: 1, .. })));
    assert!(matches!(world.lost(), Some(Violation::EventsLost { missing: 1, skipped: 0, .. })));
}

#[test]
fn the_checker_of_queries_bites() {
    let scenario = Scenario::sound(3);
    let mut world = World::new(&scenario, 1);
    while let Some(event) = world.queue.pop_until(Instant::from_origin(Duration::from_secs(20))) {
        world.handle(event).unwrap_or_else(|(_, violation)| panic!("{violation}"));
    }
    let begin = world.queue.now();
    let asked = world.ask(HostId(0)).unwrap_or_else(|(_, violation)| panic!("{violation}"));
    let (id, boot, query) = asked.expect("it runs");
    // Nobody else has had the time to answer.
    assert_eq!(world.unheard(begin), Some(Violation::QueryUnanswered { answers: 1, members: 3 }));
    let answer = |from| Reply::Answer { from, payload: Vec::new() };
    let mut told = |reply: &Reply| world.talk.replied(begin, (id, boot), query, reply);
    assert_eq!(told(&answer(PEER)), Ok(()));
    assert_eq!(told(&Reply::Declined(PEER)), Err(Violation::Query("a member answered twice")));
    assert_eq!(told(&Reply::Ends { silent: Vec::new() }), Ok(()));
    assert_eq!(told(&answer(AgentId(3))), Err(Violation::Query("something was told after its end")));
}
