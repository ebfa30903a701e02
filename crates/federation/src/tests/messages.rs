//! Messages: there, back, home again, and through a third cluster.

use metacluster_erl_wire::term;

use super::*;

/// `{'$gen_call', {Pid, [alias | Reference]}, Request}`.
fn call(from: &Pid, alias: &Reference, request: Term) -> Term {
    let tag = Term::ImproperList(vec![Term::atom("alias")], Box::new(alias.into()));
    term!({@"$gen_call", {(from), (tag)}, (request)})
}

#[test]
fn a_call_crosses_and_its_answer_comes_back_to_the_alias() {
    let mut world = World::linked();
    let (server, client) = (pid("shop@east", 1), pid("till@west", 2));
    let proxy = world.export(0, &server, 1);
    assert_eq!(proxy.node, "metacluster@west");

    let alias = reference("till@west", 1);
    world.say(1, send(&client, &proxy), Some(&call(&client, &alias, term!({buy, 3}))));
    let (node, control, message) = world.only(0);
    assert_eq!(node, "shop@east");
    let Control::SendSender { from, to, .. } = control else { panic!("a message") };
    assert_eq!((from.node.as_str(), &to), ("metacluster@east", &server));
    let message = message.expect("a message");
    let [_, caller, request] = message.as_tuple().expect("a call") else { panic!("a call") };
    assert_eq!(*request, term!({buy, 3}));
    let [Term::Pid(caller), Term::ImproperList(_, tail)] = caller.as_tuple().expect("from") else { panic!("from") };
    assert_eq!(*caller, from, "one process, one pid");
    let Term::Reference(far) = &**tail else { panic!("an alias") };

    let tag = Term::ImproperList(vec![Term::atom("alias")], Box::new(far.into()));
    let reply = Control::AliasSend { from: server.clone(), to: far.clone(), trace: None };
    world.say(0, reply, Some(&Term::tuple([tag, term!(sold)])));
    let (node, control, answer) = world.only(1);
    assert_eq!(node, "till@west");
    let Control::AliasSend { from, to, .. } = control else { panic!("to the alias") };
    assert_eq!((from, to), (proxy, alias.clone()), "the alias is the caller's own again");
    let tag = Term::ImproperList(vec![Term::atom("alias")], Box::new(alias.into()));
    assert_eq!(answer, Some(Term::tuple([tag, term!(sold)])));
}

#[test]
fn a_pid_that_comes_back_is_the_original() {
    let mut world = World::linked();
    let (server, client, other) = (pid("shop@east", 1), pid("till@west", 2), pid("shop@west", 3));
    let proxy = world.export(0, &server, 1);
    world.say(1, send(&client, &proxy), Some(&term!([(&other), (&proxy), (reference("shop@west", 9))])));
    let (_, control, message) = world.only(0);
    let Control::SendSender { from: far_client, .. } = control else { panic!("a message") };
    let message = message.expect("a message");
    assert_eq!(message.as_list().expect("a list")[1], Term::from(&server), "its own pid");

    world.say(0, send(&server, &far_client), Some(&message));
    let (_, control, message) = world.only(1);
    assert_eq!(control, send(&proxy, &client));
    assert_eq!(message, Some(term!([(&other), (&proxy), (reference("shop@west", 9))])));
}

#[test]
fn messages_of_a_sender_keep_their_order_whatever_their_size() {
    let mut world = World::linked();
    let (server, client, quick) = (pid("shop@east", 1), pid("till@west", 2), pid("till@west", 4));
    let proxy = world.export(0, &server, 1);
    let large = Term::binary(vec![7; 1 << 20]);
    world.put(1, send(&client, &proxy), Some(&term!(first)));
    world.put(1, send(&client, &proxy), Some(&large));
    world.put(1, send(&client, &proxy), Some(&term!(last)));
    world.put(1, send(&quick, &proxy), Some(&term!(quick)));
    world.run();
    let order: Vec<Term> = std::iter::from_fn(|| world.next(0)).filter_map(|(_, _, payload)| payload).collect();
    let place = |term: &Term| order.iter().position(|other| other == term).expect("it arrived");
    assert_eq!(order.len(), 4);
    assert!(place(&term!(first)) < place(&large) && place(&large) < place(&term!(last)));
    assert!(place(&term!(quick)) < place(&large), "a small message of another sender does not wait");
}

#[test]
fn a_pid_of_a_third_cluster_is_reached_through_the_second() {
    let mut world = World::new(&["east", "west", "north"]);
    world.link(0, 1);
    world.link(1, 2);
    let (server, client, far) = (pid("shop@east", 1), pid("shop@west", 2), pid("shop@north", 3));
    let east = world.export(0, &server, 1);
    let west = world.export(1, &client, 2);
    // west hands its pid of east on to a process of north, which it knows from a message.
    world.say(2, send(&far, &west), Some(&term!(hello)));
    let (_, Control::SendSender { from: far_in_west, .. }, _) = world.only(1) else { panic!("a message") };
    world.say(1, send(&client, &far_in_west), Some(&term!({use, (&east)})));
    let (_, _, Some(message)) = world.only(2) else { panic!("a message") };
    let far_server = message.as_tuple().expect("a tuple")[1].as_pid().expect("a pid").clone();
    assert_eq!(far_server.node, "metacluster@north");

    world.say(2, send(&far, &far_server), Some(&term!({from, (&far)})));
    let (node, control, Some(message)) = world.only(0) else { panic!("a message") };
    let Control::SendSender { from: back, to, .. } = control else { panic!("a message") };
    assert_eq!((node.as_str(), &to), ("shop@east", &server));
    assert_eq!(message, term!({from, (&back)}));
    world.say(0, send(&server, &back), Some(&term!({answer, (&server)})));
    let (node, control, message) = world.only(2);
    assert_eq!((node.as_str(), control), ("shop@north", send(&far_server, &far)));
    assert_eq!(message, Some(term!({answer, (&far_server)})));

    // A monitor goes the same way.
    let watch = reference("shop@north", 5);
    let monitor =
        Control::MonitorP { from: far.clone(), to: Process::Pid(far_server.clone()), reference: watch.clone() };
    world.say(2, monitor, None);
    let (_, Control::MonitorP { from, reference, .. }, _) = world.only(0) else { panic!("a monitor") };
    let down = Control::PayloadMonitorPExit { from: Process::Pid(server.clone()), to: from, reference };
    world.say(0, down, Some(&term!(done)));
    let fired = Control::PayloadMonitorPExit { from: Process::Pid(far_server), to: far, reference: watch };
    assert_eq!(world.only(2), ("shop@north".to_owned(), fired, Some(term!(done))));
}

#[test]
fn what_one_cluster_was_handed_is_of_no_use_to_another() {
    let mut world = World::new(&["east", "west", "north"]);
    world.link(0, 1);
    world.link(0, 2);
    let (server, client) = (pid("shop@east", 1), pid("shop@west", 2));
    world.gateways[0].machine.local_joined(world.now, &group(&term!(orders)), &[server]);
    world.run();
    let proxy = world.gateways[1].published["orders"][0].clone();
    world.say(1, send(&client, &proxy), Some(&term!(hello)));
    let (_, Control::SendSender { from: in_east, .. }, _) = world.only(0) else { panic!("a message") };
    assert_eq!(world.gateways[2].machine.sizes().far, 1, "north knows the member, and nothing of west");
    assert_eq!(in_east.node, "metacluster@east");
}

#[test]
fn what_is_large_in_a_message_is_passed_on_and_what_is_around_it_translated() {
    let mut world = World::linked();
    let server = pid("shop@east", 1);
    let proxy = world.export(0, &server, 1);
    let client = pid("shop@west", 2);
    let large = |byte, size| Term::binary(vec![byte; size]);
    for size in [15_000, 16_383, 16_384, 32_000, 33_000, 70_000, 300_000] {
        let bits = Term::list((0..size / 100).map(|number| Term::from(i64::from(number))));
        let message = term!({
            first, (&client), (large(1, size as usize)), [(&proxy), (large(2, size as usize))], (&bits), (large(3, 20_000)), (&client)
        });
        world.say(1, send(&client, &proxy), Some(&message));
        let (_, Control::SendSender { from: in_east, .. }, come) = world.only(0) else { panic!("a message") };
        let expected = term!({
            first, (&in_east), (large(1, size as usize)), [(&server), (large(2, size as usize))], (&bits), (large(3, 20_000)), (&in_east)
        });
        assert_eq!(come, Some(expected), "binaries of {size} bytes");
    }
    // Cut within one, it is refused as any other.
    let mut body = BytesMut::new();
    term::encode(&Term::from(send(&client, &proxy)), &mut body);
    term::encode(&large(4, 100_000), &mut body);
    body.truncate(body.len() - 1);
    let now = world.now;
    world.gateways[1].machine.handle_local(now, &body.freeze());
    world.run();
    assert_eq!((world.next(0), world.refused(1, Refusal::Malformed)), (None, 1));
}

#[test]
fn a_large_binary_is_not_copied_on_its_way_out() {
    let mut world = World::linked();
    let proxy = world.export(0, &pid("shop@east", 1), 1);
    let mut body = BytesMut::new();
    term::encode(&Term::from(send(&pid("shop@west", 2), &proxy)), &mut body);
    term::encode(&Term::binary(vec![7; 100_000]), &mut body);
    let body = body.freeze();
    let now = world.now;
    let machine = &mut world.gateways[1].machine;
    machine.handle_local(now, &body);
    let link = *machine.links.keys().next().expect("a link");
    let shared = |piece: &Bytes| body.as_ptr_range().contains(&piece.as_ptr());
    let pieces: Vec<Bytes> = std::iter::from_fn(|| machine.poll_transmit(now, link)).map(|piece| piece.body).collect();
    let bytes: usize = pieces.iter().filter(|piece| shared(piece)).map(Bytes::len).sum();
    assert!(bytes > 98_000, "{bytes} bytes are shared");
}
