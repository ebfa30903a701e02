//! Bounds: what is known of others goes away, and a full place refuses.

use metacluster_erl_wire::term;

use super::*;

#[test]
fn what_no_one_uses_goes_away_and_a_send_to_it_is_a_send_to_nobody() {
    let mut world = World::linked();
    let (server, client) = (pid("shop@east", 1), pid("till@west", 2));
    let proxy = world.export(0, &server, 1);
    world.say(1, send(&client, &proxy), Some(&term!({hello, (reference("till@west", 1))})));
    let (_, Control::SendSender { from: far, .. }, _) = world.only(0) else { panic!("a message") };
    assert_eq!(world.gateways[0].machine.sizes().far, 2);
    world.pass(Duration::from_secs(62));
    assert_eq!(world.gateways[0].machine.sizes().far, 1, "the reference went");
    world.pass(Duration::from_secs(3_600));
    assert_eq!(world.gateways[0].machine.sizes().far, 0, "the caller went");
    assert_eq!(world.gateways[1].machine.sizes().far, 1, "a member of a group stays");

    world.say(0, send(&server, &far), Some(&term!(answer)));
    assert_eq!(world.next(1), None);
    assert_eq!(world.gateways[0].machine.refused_here().of(Refusal::Dead), 1);
    let watch = reference("shop@east", 4);
    let monitor = Control::MonitorP { from: server.clone(), to: Process::Pid(far.clone()), reference: watch.clone() };
    world.say(0, monitor, None);
    let down = Control::PayloadMonitorPExit { from: Process::Pid(far.clone()), to: server.clone(), reference: watch };
    assert_eq!(world.only(0), ("shop@east".to_owned(), down, Some(term!(noproc))));
    world.say(0, Control::Link { from: server.clone(), to: far.clone() }, None);
    let exit = Control::PayloadExit { from: far, to: server, trace: None };
    assert_eq!(world.only(0), ("shop@east".to_owned(), exit, Some(term!(noproc))));
}

#[test]
fn a_monitor_keeps_both_of_its_ends() {
    let mut world = World::linked();
    let (server, client) = (pid("shop@east", 1), pid("till@west", 2));
    let proxy = world.export(0, &server, 1);
    let watch = reference("till@west", 1);
    let monitor = Control::MonitorP { from: client, to: Process::Pid(proxy), reference: watch.clone() };
    world.say(1, monitor, None);
    let (_, Control::MonitorP { from, reference, .. }, _) = world.only(0) else { panic!("a monitor") };
    world.leave(0, "orders", &server);
    world.pass(Duration::from_secs(20_000));
    let down = Control::PayloadMonitorPExit { from: Process::Pid(server), to: from, reference };
    world.say(0, down, Some(&term!(done)));
    let (_, Control::PayloadMonitorPExit { reference, .. }, _) = world.only(1) else { panic!("it fires") };
    assert_eq!(reference, watch);
}

#[test]
fn a_lane_that_is_full_refuses_messages_and_counts_them() {
    let mut east = settings("east", 1);
    east.limits.lane_bytes_max = 1_000;
    let mut world = World::with(vec![settings("west", 2), east]);
    world.link(0, 1);
    let proxy = world.export(0, &pid("shop@west", 1), 1);
    let client = pid("till@east", 2);
    for _ in 0..10 {
        world.put(1, send(&client, &proxy), Some(&Term::binary([7; 300])));
    }
    world.run();
    let arrived = std::iter::from_fn(|| world.next(0)).count() as u64;
    assert!((2..5).contains(&arrived), "{arrived}");
    assert_eq!(world.refused(1, Refusal::LaneFull), 10 - arrived);
}

#[test]
fn a_gateway_that_brings_too_much_is_held_to_its_share() {
    let mut east = settings("east", 1);
    east.limits.messages_per_second = Some(3);
    let mut world = World::with(vec![east, settings("west", 2)]);
    world.link(0, 1);
    let proxy = world.export(0, &pid("shop@east", 1), 1);
    let client = pid("till@west", 2);
    for _ in 0..5 {
        world.say(1, send(&client, &proxy), Some(&term!(hello)));
    }
    assert_eq!(std::iter::from_fn(|| world.next(0)).count(), 3);
    assert_eq!(world.refused(0, Refusal::Quota), 2);
    world.pass(Duration::from_secs(1));
    world.say(1, send(&client, &proxy), Some(&term!(hello)));
    world.only(0);
}

#[test]
fn identifiers_of_a_gateway_are_bounded() {
    let mut east = settings("east", 1);
    east.limits.identifiers_of_peer_max = 100;
    let mut world = World::with(vec![east, settings("west", 2)]);
    world.link(0, 1);
    let proxy = world.export(0, &pid("shop@east", 1), 1);
    for id in 0..1_000 {
        world.say(1, send(&pid("till@west", id), &proxy), Some(&term!(hello)));
    }
    assert_eq!(std::iter::from_fn(|| world.next(0)).count(), 1_000, "the oldest idle one makes room");
    assert_eq!(world.gateways[0].machine.sizes().far, 100);
    let many = Term::list((0..200).map(|id| Term::from(pid("till@west", id))));
    world.say(1, send(&pid("till@west", 1), &proxy), Some(&many));
    assert_eq!(world.gateways[0].machine.sizes().far, 100);
}
