//! Hosts that membership holds failed.

use super::*;
use crate::DropHow;

/// Local nodes `l@h0` and `m@h0`, linked to two nodes of host 1 and one each of hosts 2 and 3.
fn meshed() -> World {
    let mut world = World::lan();
    for peer in ["a@h1", "b@h1", "a@h2", "a@h3"] {
        world.found("lan", peer);
    }
    for local in ["l@h0", "m@h0"] {
        for peer in ["a@h1", "b@h1", "a@h2", "a@h3"] {
            world.up(local, peer);
        }
        world.ready(local);
    }
    world.log.clear();
    world
}

fn check(peer: &str) -> Output {
    Output::Check { peer: node(peer) }
}

fn disconnect(local: &str, peer: &str) -> Output {
    Output::Drop { local: node(local), peer: node(peer), how: DropHow::Disconnect }
}

fn dropped(agent: u128, peers: &[&str], links: usize) -> Output {
    let peers = peers.iter().map(|name| node(name)).collect();
    Output::Note(Note::HostDropped { agent: AgentId(agent), peers, links })
}

fn agent_down(agent: u128, peers: &[&str]) -> Output {
    Output::Note(Note::AgentDown { agent: AgentId(agent), peers: peers.iter().map(|name| node(name)).collect() })
}

fn unconfirmed(agent: u128, peers: &[&str]) -> Output {
    Output::Note(Note::Unconfirmed { agent: AgentId(agent), peers: peers.iter().map(|name| node(name)).collect() })
}

fn drops(outputs: &[Output]) -> usize {
    outputs.iter().filter(|output| matches!(output, Output::Drop { .. })).count()
}

#[test]
fn a_failed_host_that_is_silent_is_dropped_by_every_local_node() {
    let mut world = meshed();
    assert_eq!(world.failed(1, &["a@h1", "b@h1"], 2), [check("a@h1"), check("b@h1")]);
    assert_eq!(world.checked("a@h1", false), [], "one of two");
    let all = [
        dropped(1, &["a@h1", "b@h1"], 4),
        disconnect("l@h0", "a@h1"),
        disconnect("m@h0", "a@h1"),
        disconnect("l@h0", "b@h1"),
        disconnect("m@h0", "b@h1"),
    ];
    assert_eq!(world.checked("b@h1", false), all);
}

#[test]
fn a_host_that_answers_in_one_place_keeps_all_its_links() {
    let mut world = meshed();
    world.failed(1, &["a@h1", "b@h1"], 2);
    assert_eq!(world.checked("a@h1", false), []);
    assert_eq!(world.checked("b@h1", true), [agent_down(1, &["a@h1", "b@h1"])]);
    assert_eq!(drops(&world.pass(ms(600))), 0);
    assert!(world.linked("l@h0", "a@h1"));
}

#[test]
fn a_host_whose_agent_alone_died_is_checked_again_with_growing_pauses_and_noted_once() {
    let mut world = meshed();
    world.failed(1, &["a@h1"], 2);
    assert_eq!(world.checked("a@h1", true), [agent_down(1, &["a@h1"])]);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let begin = world.now;
        while world.pass(ms(10)).is_empty() {}
        pauses.push(world.now.since(begin));
        assert_eq!(world.checked("a@h1", true), []);
    }
    assert!(pauses[0] >= ms(750) && pauses[0] <= ms(1_010), "{pauses:?}");
    assert!(pauses[..5].is_sorted() && pauses[7] >= ms(22_000) && pauses[7] <= ms(30_010), "{pauses:?}");
}

#[test]
fn a_dying_host_whose_agent_went_first_is_dropped_while_the_verdict_is_fresh() {
    let mut world = meshed();
    world.failed(1, &["a@h1"], 2);
    world.checked("a@h1", true);
    assert_eq!(world.pass(ms(1_000)), [check("a@h1")]);
    assert_eq!(drops(&world.checked("a@h1", false)), 2);
}

#[test]
fn a_silence_long_after_the_agent_died_is_our_word_alone() {
    let mut world = meshed();
    world.failed(1, &["a@h1"], 2);
    world.checked("a@h1", true);
    for _ in 0..5 {
        while world.pass(ms(100)).is_empty() {}
        world.checked("a@h1", true);
    }
    while world.pass(ms(100)).is_empty() {}
    assert_eq!(world.checked("a@h1", false), [unconfirmed(1, &["a@h1"])]);
    while world.pass(ms(100)).is_empty() {}
    assert_eq!(world.checked("a@h1", false), [], "said once");
    assert!(world.linked("l@h0", "a@h1"));
}

#[test]
fn a_host_that_is_cut_off_drops_everybody_once_nobody_answers() {
    let mut world = meshed();
    world.failed(1, &["a@h1"], 0);
    world.failed(2, &["a@h2"], 0);
    world.failed(3, &["a@h3"], 0);
    assert_eq!(world.checked("a@h1", false), []);
    assert_eq!(world.checked("a@h2", false), [], "the third may still answer");
    assert_eq!(drops(&world.checked("a@h3", false)), 6);
}

#[test]
fn an_agent_that_lost_its_own_path_drops_nobody_even_if_one_host_is_silent() {
    let mut world = meshed();
    for (agent, peer) in [(1, "a@h1"), (2, "a@h2"), (3, "a@h3")] {
        world.failed(agent, &[peer], 0);
    }
    assert_eq!(world.checked("a@h1", false), []);
    assert_eq!(world.checked("a@h2", true), [agent_down(2, &["a@h2"])]);
    let said = world.checked("a@h3", true);
    assert_eq!(said, [agent_down(3, &["a@h3"]), unconfirmed(1, &["a@h1"])]);
    assert_eq!(drops(&world.pass(ms(60_000))), 0);
    assert!(world.linked("l@h0", "a@h1"));
}

#[test]
fn two_hosts_alone_believe_their_own_eyes() {
    let mut world = World::lan();
    world.ready("l@h0");
    world.found("lan", "a@h1");
    world.up("l@h0", "a@h1");
    world.failed(1, &["a@h1"], 0);
    assert_eq!(drops(&world.checked("a@h1", false)), 1);
}

#[test]
fn a_host_that_returns_under_check_is_not_dropped() {
    let mut world = meshed();
    world.failed(1, &["a@h1", "b@h1"], 2);
    world.checked("a@h1", false);
    assert_eq!(world.host_alive(1, &["a@h1", "b@h1"]), []);
    assert_eq!(world.checked("b@h1", false), []);
    assert_eq!(drops(&world.pass(ms(120_000))), 0);
    assert_eq!(world.machine.failed_hosts().count(), 0);
}

#[test]
fn a_host_that_returns_is_dialled_at_once_however_often_dials_failed() {
    let mut world = meshed();
    world.failed(1, &["a@h1", "b@h1"], 2);
    world.checked("a@h1", false);
    world.checked("b@h1", false);
    for local in ["l@h0", "m@h0"] {
        for peer in ["a@h1", "b@h1"] {
            world.tell(Input::Dropped { local: node(local), peer: node(peer) });
        }
    }
    let unreachable = |_: &NodeName, _: &NodeName| Err(DialError::Unreachable("no answer".to_owned()));
    world.pass_with(ms(60_000), unreachable);
    assert_eq!(dials(&world.host_alive(1, &["a@h1", "b@h1"])).len(), 2, "one a failing peer");
    world.dialled("l@h0", "a@h1", Ok(()));
    world.dialled("m@h0", "a@h1", Ok(()));
    assert!(world.linked("l@h0", "a@h1") || world.linked("m@h0", "a@h1"));
}

#[test]
fn a_check_without_an_outcome_drops_nothing() {
    let mut world = meshed();
    world.failed(1, &["a@h1"], 2);
    let out = world.pass(ms(4_000));
    assert_eq!(out, [check("a@h1")], "asked again, and nothing else");
    assert_eq!(world.checked("a@h1", false).len(), 3, "the second one was");
}

#[test]
fn a_host_without_links_is_not_checked_until_it_has_one() {
    let mut world = World::lan();
    world.ready("l@h0");
    world.found("lan", "a@h1");
    assert_eq!(world.failed(1, &["a@h1"], 2), []);
    assert_eq!(world.up("l@h0", "a@h1"), [check("a@h1")]);
}

#[test]
fn a_link_that_comes_up_during_the_check_is_checked_with_the_others() {
    let mut world = meshed();
    world.down("l@h0", "b@h1");
    world.down("m@h0", "b@h1");
    assert_eq!(world.failed(1, &["a@h1", "b@h1"], 2), [check("a@h1")]);
    assert_eq!(world.up("l@h0", "b@h1"), [check("a@h1"), check("b@h1")]);
    assert_eq!(world.checked("a@h1", false), []);
    assert_eq!(world.checked("b@h1", true), [agent_down(1, &["a@h1", "b@h1"])]);
}

#[test]
fn dials_to_a_failed_host_go_to_the_slow_lane_and_never_hold_up_a_new_node() {
    let mut world = World::lan();
    world.ready("l@h0");
    let dead: Vec<String> = (0..64).map(|count| format!("d{count}@h1")).collect();
    let dead: Vec<&str> = dead.iter().map(String::as_str).collect();
    world.failed(1, &dead, 2);
    let out = world.snapshot("lan", &dead);
    assert_eq!(dials(&out).len(), 8, "the bound of retries");
    assert_eq!(dials(&world.found("lan", "new@h2")), [dial("l@h0", "new@h2")]);
}

#[test]
fn local_nodes_are_never_on_a_failed_host() {
    let mut world = meshed();
    world.up("l@h0", "m@h0");
    assert_eq!(world.failed(1, &["l@h0", "m@h0"], 2), []);
    assert_eq!(world.machine.counters().on_failed_hosts, 0);
}

#[test]
fn a_node_that_moved_to_a_living_host_is_not_dropped_for_its_old_one() {
    let mut world = meshed();
    world.failed(1, &["a@h1", "b@h1"], 2);
    assert_eq!(world.host_alive(9, &["a@h1"]), [check("b@h1")], "those that are left, anew");
    world.checked("a@h1", false);
    let out = world.checked("b@h1", false);
    assert!(
        !out.iter().any(|output| matches!(output, Output::Drop { peer, .. } if peer.as_str() == "a@h1")),
        "{out:?}"
    );
    assert_eq!(drops(&out), 2);
}

#[test]
fn a_forgotten_host_is_let_be() {
    let mut world = meshed();
    world.failed(1, &["a@h1"], 2);
    assert_eq!(world.tell(Input::HostForgotten { agent: AgentId(1) }), []);
    assert_eq!(world.checked("a@h1", false), []);
    assert_eq!(world.pass(ms(120_000)), []);
}

#[test]
fn a_zone_that_goes_dark_is_checked_in_one_batch_within_the_bound() {
    let mut world = World::lan();
    world.ready("l@h0");
    let names: Vec<String> = (0..600).map(|count| format!("a@z{count}")).collect();
    for name in &names {
        world.up("l@h0", name);
    }
    let mut asked: Vec<Output> = Vec::new();
    for (agent, name) in (1_u128..).zip(&names) {
        asked.extend(world.failed(agent, &[name], 3));
    }
    assert_eq!(asked.len(), 512, "at once, but for the bound");
    let mut count = 0;
    for name in &names[..512] {
        count += drops(&world.checked(name, false));
    }
    assert_eq!(world.pass(ms(100)).len(), 88, "the rest when there is room");
    for name in &names[512..] {
        count += drops(&world.checked(name, false));
    }
    assert_eq!(count, 600);
}

#[test]
fn what_is_kept_of_failed_hosts_is_bounded() {
    let settings = Settings { failed_hosts_max: 3, failed_nodes_max: 2, ..Settings::default() };
    let mut world = World::with(settings);
    for agent in 0..5 {
        let names: Vec<String> = (0..5).map(|count| format!("n{count}@h{agent}")).collect();
        world.failed(agent, &names.iter().map(String::as_str).collect::<Vec<_>>(), 1);
    }
    let counters = world.machine.counters();
    assert_eq!((world.machine.failed_hosts().count(), counters.on_failed_hosts, counters.hosts_refused), (3, 6, 2));
}
