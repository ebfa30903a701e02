//! The guard against answers that lack too much, and candidates whose host does not run.

use metacluster_types::HostState;

use super::*;
use crate::Guard;

fn guarded(guard: Guard) -> World {
    let mut world = World::new();
    world
        .tell(Input::TopologyAdded { name: topology("t"), rules: TopologyRules { guard, ..TopologyRules::default() } });
    world.snapshot("t", &["a@h", "b@h", "c@h", "d@h"]);
    world
}

fn held(removals: usize) -> Vec<Output> {
    let error = format!("an answer without {removals} of 4 known peers is held until it is repeated");
    vec![Output::TopologyError { topology: topology("t"), error }]
}

fn lost(outputs: &[Output]) -> usize {
    outputs.iter().filter(|output| matches!(output, Output::CandidateLost { .. })).count()
}

fn recovered() -> Output {
    Output::TopologyRecovered { topology: topology("t") }
}

#[test]
fn a_held_answer_is_an_event_when_it_begins_and_when_it_ends() {
    let mut world = guarded(Guard::default());
    assert_eq!(world.snapshot("t", &["a@h"]), held(3));
    assert_eq!(world.snapshot("t", &["a@h"]), []);
    let out = world.snapshot("t", &["a@h"]);
    assert_eq!((lost(&out), out.last()), (3, Some(&recovered())));
}

#[test]
fn an_answer_that_is_whole_again_ends_the_hold() {
    let mut world = guarded(Guard::default());
    world.snapshot("t", &[]);
    assert_eq!(world.snapshot("t", &["a@h", "b@h", "c@h", "d@h"]), [recovered()]);
}

#[test]
fn the_share_can_be_set() {
    let mut world = guarded(Guard { share_percent: 75, ..Guard::default() });
    assert_eq!(lost(&world.snapshot("t", &["a@h"])), 3, "three of four are no more than that");
    let mut world = guarded(Guard { share_percent: 100, ..Guard::default() });
    assert_eq!(lost(&world.snapshot("t", &[])), 4, "nothing is doubted");
    let mut world = guarded(Guard { share_percent: 0, ..Guard::default() });
    assert_eq!(world.snapshot("t", &["a@h", "b@h", "c@h"]), held(1));
}

#[test]
fn with_a_hold_an_answer_that_stands_is_believed_without_being_repeated() {
    let mut world = guarded(Guard { hold: ms(30_000), ..Guard::default() });
    assert_eq!(world.snapshot("t", &[]), held(4));
    assert_eq!(world.snapshot("t", &[]), [], "repetition alone is not enough");
    assert_eq!(world.snapshot("t", &[]), []);
    let view = world.machine.topologies().next().and_then(|view| view.held).expect("held");
    assert_eq!((view.since, view.until, view.removals), (world.now, Some(world.now + ms(30_000)), 4));
    assert_eq!(world.pass(ms(29_999)), []);
    let out = world.pass(ms(1));
    assert_eq!((lost(&out), out.last()), (4, Some(&recovered())));
}

#[test]
fn a_peer_seen_meanwhile_is_not_lost_with_the_others() {
    let mut world = guarded(Guard { hold: ms(30_000), ..Guard::default() });
    world.snapshot("t", &[]);
    world.found("t", "a@h");
    assert_eq!(lost(&world.pass(ms(30_000))), 3);
}

#[test]
fn the_time_of_a_failure_counts_for_nothing() {
    let mut world = guarded(Guard { hold: ms(30_000), ..Guard::default() });
    world.snapshot("t", &[]);
    world.pass(ms(20_000));
    world.source("t", SourceUpdate::Failed("no route".to_owned()));
    assert_eq!(world.pass(ms(60_000)), [], "nothing is believed while look-ups fail");
    assert_eq!(world.snapshot("t", &["a@h", "b@h", "c@h", "d@h"]), [recovered()]);
}

#[test]
fn a_failure_while_an_answer_is_held_is_said_and_its_end_is_not_the_end_of_the_hold() {
    let mut world = guarded(Guard::default());
    world.snapshot("t", &[]);
    let out = world.source("t", SourceUpdate::Failed("no route".to_owned()));
    assert!(matches!(out[..], [Output::TopologyError { .. }]), "{out:?}");
    assert_eq!(world.snapshot("t", &[]), []);
    assert_eq!(world.snapshot("t", &[]).last(), Some(&recovered()));
}

fn with_state(name: &str, state: HostState) -> Candidate {
    let mut candidate = Candidate::new(node(name));
    candidate.host.state = state;
    candidate
}

#[test]
fn a_host_that_does_not_run_has_no_candidates() {
    for state in [HostState::Pending, HostState::Terminating, HostState::Terminated] {
        let mut world = World::lan();
        world.ready("l@h0");
        assert_eq!(world.source("lan", SourceUpdate::Snapshot(vec![with_state("a@h1", state)])), []);
        assert_eq!(world.source("lan", SourceUpdate::Found(with_state("a@h1", state))), []);
        assert_eq!(world.machine.candidates().count(), 0);
    }
}

#[test]
fn a_host_that_is_told_to_end_is_not_dialled_again_and_its_links_stay() {
    let mut world = World::new();
    world.add("t", true, &[]);
    world.ready("l@h0");
    world.snapshot("t", &["a@h1", "b@h1", "c@h1"]);
    world.up("l@h0", "a@h1");
    let ending = ["a@h1", "b@h1", "c@h1"].map(|name| with_state(name, HostState::Terminating));
    let out = world.source("t", SourceUpdate::Snapshot(ending.to_vec()));
    assert_eq!((lost(&out), out.len()), (3, 3), "said outright, so it is not doubted, and nothing is pruned: {out:?}");
    assert!(world.linked("l@h0", "a@h1"));
    world.down("l@h0", "a@h1");
    assert_eq!(world.pass(ms(60_000)), []);
}
