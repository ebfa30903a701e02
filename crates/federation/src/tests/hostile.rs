//! A far gateway that says what it must not: every forbidden signal is refused and counted, and no bytes do harm.

use metacluster_erl_wire::{
    control::{ALTACT_PRIORITY, Destination, SPAWN_LINKED, SpawnRequest, SpawnResult},
    term,
};

use crate::codec::frame::{Kind, head};

use super::*;

/// A gateway `east` with a member of `orders`, and a link of a hostile `west` that has said hello.
struct Hostile {
    world: World,
    link: LinkId,
    server: Pid,
    own: Pid,
}

/// An identifier as it stands on a link.
fn home(cluster: &str, process: &Pid) -> Pid {
    let node = Atom::new(&format!("{cluster}/{}", process.node.as_str())).expect("short");
    Pid { node, ..process.clone() }
}

fn home_reference(cluster: &str, reference: &Reference) -> Reference {
    let node = Atom::new(&format!("{cluster}/{}", reference.node.as_str())).expect("short");
    Reference { node, ..reference.clone() }
}

impl Hostile {
    fn new() -> Self {
        let mut world = World::linked();
        let (server, own) = (pid("shop@east", 1), pid("evil@west", 666));
        world.export(0, &server, 1);
        let link = *world.wires.keys().next().expect("a link");
        Self { world, link, server: home("east", &server), own: home("west", &own) }
    }

    /// Says something that no gateway of ours would.
    fn say(&mut self, control: Control, payload: Option<&Term>) {
        let mut body = BytesMut::new();
        term::encode(&Term::from(control), &mut body);
        if let Some(payload) = payload {
            term::encode(payload, &mut body);
        }
        self.raw(Kind::Signal, &body);
    }

    fn raw(&mut self, kind: Kind, body: &[u8]) {
        let mut frame = head(kind, 1, body.len()).to_vec();
        frame.extend_from_slice(body);
        self.world.gateways[0].machine.handle_link(self.world.now, self.link, &frame);
        self.world.run();
    }

    fn is_up(&self) -> bool {
        self.world.gateways[0].machine.status(self.world.now).gateways.iter().any(|gateway| gateway.up.is_some())
    }
}

#[test]
fn what_never_crosses_is_refused_by_its_kind() {
    let mut hostile = Hostile::new();
    let (from, to) = (hostile.own.clone(), hostile.server.clone());
    let (rex, init) = (Atom::from_static("rex"), home("east", &pid("shop@east", 0)));
    let watch = home_reference("west", &reference("evil@west", 1));
    let spawn = SpawnRequest {
        request: watch.clone(),
        from: from.clone(),
        group_leader: from.clone(),
        module: Atom::from_static("os"),
        function: Atom::from_static("cmd"),
        arity: 1,
        options: vec![],
        trace: None,
    };
    let (any, nobody) = (term!(boom), home("east", &pid("shop@east", 99)));
    let reply = Control::SpawnReply {
        request: watch.clone(),
        to: to.clone(),
        flags: SPAWN_LINKED,
        result: SpawnResult::Started(from.clone()),
        trace: None,
    };
    let named = Process::Name(rex.clone());
    let prior = Control::AltactSigSend {
        flags: ALTACT_PRIORITY,
        from: Process::Pid(from.clone()),
        to: Destination::Pid(to.clone()),
        trace: None,
    };
    let cases = [
        (Control::SpawnRequest(Box::new(spawn)), true, Refusal::Spawn),
        (reply, false, Refusal::Spawn),
        (Control::RegSend { from: from.clone(), to: rex, trace: None }, true, Refusal::RegisteredName),
        (
            Control::MonitorP { from: from.clone(), to: named.clone(), reference: watch.clone() },
            false,
            Refusal::RegisteredName,
        ),
        (
            Control::MonitorPExit { from: named, to: to.clone(), reference: watch.clone(), reason: any.clone() },
            false,
            Refusal::RegisteredName,
        ),
        (Control::GroupLeader { from: from.clone(), to: to.clone() }, false, Refusal::GroupLeader),
        (
            Control::Exit2 { from: from.clone(), to: to.clone(), reason: any.clone(), trace: None },
            false,
            Refusal::ExitWithoutLink,
        ),
        (Control::PayloadExit2 { from: from.clone(), to: to.clone(), trace: None }, true, Refusal::ExitWithoutLink),
        (Control::PayloadExit { from: from.clone(), to: to.clone(), trace: None }, true, Refusal::ExitWithoutLink),
        (
            Control::Exit { from: from.clone(), to: to.clone(), reason: any.clone(), trace: None },
            false,
            Refusal::ExitWithoutLink,
        ),
        (Control::Unlink { from: from.clone(), to: to.clone() }, false, Refusal::Operation),
        (prior, true, Refusal::Operation),
        (send(&from, &init), true, Refusal::NotGranted),
        (send(&from, &nobody), true, Refusal::NotGranted),
        (Control::Link { from: from.clone(), to: nobody.clone() }, false, Refusal::NotGranted),
        (
            Control::MonitorP { from: from.clone(), to: Process::Pid(nobody.clone()), reference: watch.clone() },
            false,
            Refusal::NotGranted,
        ),
        (send(&nobody, &to), true, Refusal::ForgedSender),
        (send(&from, &home("north", &pid("a@north", 1))), true, Refusal::NotGranted),
        (send(&from, &home("west", &pid("a@west", 1))), true, Refusal::NotGranted),
        (
            Control::AliasSend {
                from: from.clone(),
                to: home_reference("east", &reference("shop@east", 9)),
                trace: None,
            },
            true,
            Refusal::NotGranted,
        ),
        (
            Control::MonitorPExit {
                from: Process::Pid(from.clone()),
                to: to.clone(),
                reference: home_reference("east", &reference("shop@east", 9)),
                reason: any.clone(),
            },
            false,
            Refusal::NotWatched,
        ),
        (
            Control::PayloadMonitorPExit { from: Process::Pid(from.clone()), to: to.clone(), reference: watch },
            true,
            Refusal::NotWatched,
        ),
        (Control::UnlinkIdAck { id: 1, from: from.clone(), to: to.clone() }, false, Refusal::NotWatched),
        (
            Control::SendSender { from: Pid { node: Atom::from_static("evil"), ..from }, to, trace: None },
            true,
            Refusal::BadName,
        ),
    ];
    for (control, payload, refusal) in cases {
        let before = hostile.world.refused(0, refusal);
        hostile.say(control.clone(), payload.then_some(&any));
        assert_eq!(hostile.world.refused(0, refusal), before + 1, "{control:?}");
        assert_eq!(hostile.world.next(0), None, "nothing of it arrives: {control:?}");
        assert!(hostile.is_up(), "{control:?}");
    }
    let told = hostile.world.gateways[0].notices.iter().filter(|notice| matches!(notice, Notice::Refused { .. }));
    assert_eq!(told.count(), 1, "all are counted, and one is told in a while");
}

#[test]
fn an_identifier_that_was_never_handed_out_is_nobodys() {
    let mut hostile = Hostile::new();
    let secret = home("east", &pid("shop@east", 50));
    let alias = home_reference("east", &reference("shop@east", 51));
    let (from, to) = (hostile.own.clone(), hostile.server.clone());
    hostile.say(send(&from, &to), Some(&term!({reply, (&secret), (&alias)})));
    let (_, _, Some(message)) = hostile.world.only(0) else { panic!("a message") };
    let [_, Term::Pid(nobody), Term::Reference(none)] = message.as_tuple().expect("a tuple") else { panic!() };
    assert_eq!((nobody.node.as_str(), none.node.as_str()), ("metacluster@east", "metacluster@east"));
    let machine = &hostile.world.gateways[0].machine;
    assert_eq!(machine.identifiers.local_pid(&PidView::from(nobody)), crate::identifiers::Local::Dead);
    assert_eq!(machine.identifiers.local_reference(&ReferenceView::from(none)), crate::identifiers::Local::Dead);
    assert_eq!(hostile.world.refused(0, Refusal::NotGranted), 1);
}

#[test]
fn bytes_that_are_none_end_the_link_and_nothing_else() {
    let cases: [(Kind, &[u8]); 14] = [
        (Kind::Signal, &[]),
        (Kind::Signal, &[131]),
        (Kind::Signal, &[104, 3, 97, 22]),
        (Kind::Signal, &[104, 0]),
        (Kind::Ping, &[1]),
        (Kind::Digest, &[0; 9]),
        (Kind::Differing, &[0; 3]),
        (Kind::Group, &[2, b'p', b'g', 0, 1, 106, 0, 0, 0, 0, 0, 0]),
        (Kind::Join, &[0; 4]),
        (Kind::Join, &[2, b'p', b'g', 0, 1, 106, 0, 0, 255, 255, 255, 255]),
        (Kind::Leave, &[255; 60]),
        (Kind::Hello, b"mcfd"),
        (Kind::Join, b"\x02pg\x00\x01\x6a\x00\x01\x00\x0aeast/a@b.c\x00\x00\x00\x00"),
        (
            Kind::Join,
            b"\x02pg\x00\x01\x6a\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        ),
    ];
    for (kind, body) in cases {
        let mut hostile = Hostile::new();
        hostile.raw(kind, body);
        assert!(!hostile.is_up(), "{kind:?} {body:?}");
        assert_eq!(hostile.world.next(0), None);
    }
    // Whole control messages with a payload that is no term.
    let mut hostile = Hostile::new();
    let mut body = bytes(&Term::from(send(&hostile.own.clone(), &hostile.server.clone()))).to_vec();
    body.extend([109, 0, 0]);
    hostile.raw(Kind::Signal, &body);
    assert!(!hostile.is_up());
}

#[test]
fn frames_and_messages_without_end_are_not_kept() {
    let mut hostile = Hostile::new();
    let huge = [4, 1, 255, 255, 255, 255];
    hostile.world.gateways[0].machine.handle_link(hostile.world.now, hostile.link, &huge);
    assert!(!hostile.is_up());

    let mut east = settings("east", 1);
    east.limits.message_bytes_max = 100_000;
    let mut world = World::with(vec![east, settings("west", 2)]);
    let (link, _) = world.link(0, 1);
    let part = [&head(Kind::Part, 1, 60_000)[..], &[0; 60_000]].concat();
    world.gateways[0].machine.handle_link(world.now, link, &part);
    assert!(world.wires.contains_key(&link));
    world.gateways[0].machine.handle_link(world.now, link, &part);
    world.run();
    assert!(!world.wires.contains_key(&link));
}

#[test]
fn a_gateway_cannot_announce_groups_without_end_or_in_scopes_that_nobody_follows() {
    let mut east = settings("east", 1);
    east.limits.members_of_peer_max = 10;
    let mut west = settings("west", 2);
    let other = ExportRule { scope: "other".to_owned(), ..west.exports[0].clone() };
    west.exports.push(other);
    let mut world = World::with(vec![east, west]);
    world.link(0, 1);
    for id in 0..20 {
        world.join(1, "orders", &pid("shop@west", id));
    }
    assert_eq!(world.gateways[0].published["orders"].len(), 10);
    assert_eq!(world.refused(0, Refusal::TooManyMembers), 10);
    let key = GroupKey { scope: "other".to_owned(), ..group(&term!(orders)) };
    world.gateways[1].machine.local_joined(world.now, &key, &[pid("shop@west", 1)]);
    world.run();
    assert_eq!(world.refused(0, Refusal::Scope), 1);
}

#[test]
fn a_gateway_that_has_much_said_and_does_not_read_it_is_cut_off() {
    const FRAMES_MAX: usize = 1_000;
    let digest = |of: u64| [0; 63].into_iter().chain([of]).flat_map(u64::to_be_bytes).collect::<Vec<u8>>();
    for (kind, body) in [(Kind::Ping, vec![0; 8]), (Kind::Role, vec![0]), (Kind::Digest, digest(1))] {
        let mut east = settings("east", 1);
        east.limits.lane_bytes_max = 1_000;
        let mut world = World::with(vec![east, settings("west", 2)]);
        let (link, _) = world.link(0, 1);
        world.export(0, &pid("shop@east", 1), 1);
        let machine = &mut world.gateways[0].machine;
        let frame = [&head(kind, 0, body.len())[..], &body].concat();
        let said = (0..FRAMES_MAX).find(|_| {
            machine.handle_link(world.now, link, &frame);
            !machine.links.contains_key(&link)
        });
        assert!(said.is_some_and(|frames| frames > 20), "{kind:?}: {said:?}");
        let overloaded = |output| matches!(output, Output::Close { reason: CloseReason::Overloaded, .. });
        assert!(std::iter::from_fn(|| machine.poll_output()).any(overloaded), "{kind:?}");
    }
}

#[test]
fn all_groups_are_one_answer_of_any_size_and_not_two_at_once() {
    let mut east = settings("east", 1);
    east.limits.lane_bytes_max = 1_000;
    let mut world = World::with(vec![east, settings("west", 2)]);
    for id in 0..5_000 {
        world.join(0, "orders", &pid("shop@east", id));
    }
    let (link, _) = world.link(0, 1);
    assert_eq!(world.gateways[1].published["orders"].len(), 5_000, "who reads has all");
    let machine = &mut world.gateways[0].machine;
    let frame = [&head(Kind::Digest, 0, 512)[..], &[7; 512]].concat();
    machine.handle_link(world.now, link, &frame);
    assert!(machine.links[&link].lanes.bytes() > 4 * 1_000);
    machine.handle_timeout(world.now);
    assert!(machine.links.contains_key(&link), "the answer itself may wait");
    machine.handle_link(world.now, link, &frame);
    assert!(!machine.links.contains_key(&link));
}
