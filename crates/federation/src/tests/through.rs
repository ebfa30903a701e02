//! Links of processes of two clusters that know one another through a third one only.

use metacluster_erl_wire::term;

use super::*;

/// `east` and `north`, each linked to `west` alone; a client of north knows a server of east.
struct Row {
    world: World,
    links: [LinkId; 2],
    server: Pid,
    client: Pid,
    /// The server, as it is known to the client, and the client, as it is known to the server.
    proxies: [Pid; 2],
}

fn row() -> Row {
    let mut world = World::new(&["east", "west", "north"]);
    let links = [world.link(0, 1).0, world.link(1, 2).0];
    let (server, between, client) = (pid("shop@east", 1), pid("shop@west", 2), pid("shop@north", 3));
    let in_west = world.export(0, &server, 1);
    let to_north = {
        world.join(2, "orders_north", &client);
        world.gateways[1].published["orders_north"].last().expect("published").clone()
    };
    world.say(1, send(&between, &to_north), Some(&term!({use, (&in_west)})));
    let (_, _, Some(message)) = world.only(2) else { panic!("a message") };
    let far_server = message.as_tuple().expect("a tuple")[1].as_pid().expect("a pid").clone();
    world.say(2, Control::Link { from: client.clone(), to: far_server.clone() }, None);
    let (_, Control::Link { from: far_client, to }, None) = world.only(0) else { panic!("a link") };
    assert_eq!(to, server);
    Row { world, links, server, client, proxies: [far_server, far_client] }
}

fn exit(from: &Pid, to: &Pid) -> Control {
    Control::PayloadExit { from: from.clone(), to: to.clone(), trace: None }
}

#[test]
fn a_link_through_a_third_cluster_fires_at_the_other_end_whichever_ends() {
    let mut row = row();
    row.world.say(0, exit(&row.server, &row.proxies[1]), Some(&term!({shutdown, sold_out})));
    let told = exit(&row.proxies[0], &row.client);
    assert_eq!(row.world.only(2), ("shop@north".to_owned(), told, Some(term!({shutdown, sold_out}))));
    assert_eq!(row.world.gateways[1].machine.sizes().watches, 0);
    row.world.cut(row.links[0]);
    assert_eq!(row.world.next(2), None, "it fires once");

    let mut row = self::row();
    row.world.say(2, exit(&row.client, &row.proxies[0]), Some(&term!(done)));
    let told = exit(&row.proxies[1], &row.server);
    assert_eq!(row.world.only(0), ("shop@east".to_owned(), told, Some(term!(done))));
}

#[test]
fn a_lost_half_of_the_way_is_told_at_the_other_end() {
    for (cut, told) in [(0, 2), (1, 0)] {
        let mut row = row();
        let link = row.links[cut];
        row.world.cut(link);
        let (node, expected) = match told {
            2 => ("shop@north", exit(&row.proxies[0], &row.client)),
            _ => ("shop@east", exit(&row.proxies[1], &row.server)),
        };
        assert_eq!(row.world.only(told), (node.to_owned(), expected, Some(term!(noconnection))));
        // The end whose own link is gone is told by its own gateway.
        assert!(row.world.next(2 - told).is_some());
        assert_eq!(row.world.gateways[1].machine.sizes().watches, 0);
    }
}

#[test]
fn an_unlink_through_a_third_cluster_is_confirmed_by_the_process_itself() {
    let mut row = row();
    let unlink = Control::UnlinkId { id: 7, from: row.client.clone(), to: row.proxies[0].clone() };
    row.world.say(2, unlink, None);
    let (_, Control::UnlinkId { id, from, to }, None) = row.world.only(0) else { panic!("an unlink") };
    assert_eq!((&from, &to), (&row.proxies[1], &row.server));
    row.world.say(0, Control::UnlinkIdAck { id, from: to, to: from }, None);
    let ack = Control::UnlinkIdAck { id: 7, from: row.proxies[0].clone(), to: row.client.clone() };
    assert_eq!(row.world.only(2), ("shop@north".to_owned(), ack, None));
    assert_eq!(row.world.gateways[1].machine.sizes().watches, 0);
    // There is no link any more, and nothing passes for one.
    row.world.say(0, exit(&row.server, &row.proxies[1]), Some(&term!(late)));
    assert_eq!(row.world.next(2), None);
}

/// East knows the client by its own link to north, too, and has told west of it.
fn triangle() -> Row {
    let mut world = World::new(&["east", "west", "north"]);
    let links = [world.link(0, 1).0, world.link(1, 2).0];
    world.link(0, 2);
    let (server, between, client) = (pid("shop@east", 1), pid("shop@west", 2), pid("shop@north", 3));
    let [in_west, to_west, direct] = [(0, &server, 1), (1, &between, 0), (2, &client, 0)].map(|(at, process, to)| {
        world.join(at, "orders", process);
        world.gateways[to].published["orders"].last().expect("published").clone()
    });
    let to_north = world.gateways[1].published["orders"].last().expect("published").clone();
    world.say(0, send(&server, &to_west), Some(&term!({see, (&direct)})));
    assert!(world.next(1).is_some());
    world.say(1, send(&between, &to_north), Some(&term!({use, (&in_west)})));
    let (_, _, Some(message)) = world.only(2) else { panic!("a message") };
    let far_server = message.as_tuple().expect("a tuple")[1].as_pid().expect("a pid").clone();
    world.say(2, Control::Link { from: client.clone(), to: far_server.clone() }, None);
    let (_, Control::Link { from: far_client, to }, None) = world.only(0) else { panic!("a link") };
    assert_eq!((to, &far_client), (server.clone(), &direct), "one process of north is one pid, by whichever way");
    Row { world, links, server, client, proxies: [far_server, far_client] }
}

#[test]
fn a_link_ends_by_the_way_that_it_came_whatever_other_way_there_is() {
    let mut row = triangle();
    row.world.say(0, exit(&row.server, &row.proxies[1]), Some(&term!(done)));
    let told = exit(&row.proxies[0], &row.client);
    assert_eq!(row.world.only(2), ("shop@north".to_owned(), told, Some(term!(done))));
    for gateway in &row.world.gateways {
        assert_eq!(gateway.machine.sizes().watches, 0);
    }

    let mut row = triangle();
    row.world.say(2, Control::UnlinkId { id: 7, from: row.client.clone(), to: row.proxies[0].clone() }, None);
    let (_, Control::UnlinkId { id, from, to }, None) = row.world.only(0) else { panic!("an unlink") };
    let ack = Control::UnlinkIdAck { id: 7, from: row.proxies[0].clone(), to: row.client.clone() };
    assert_eq!(row.world.only(2), ("shop@north".to_owned(), ack, None));
    row.world.say(0, Control::UnlinkIdAck { id, from: to, to: from }, None);
    assert_eq!(row.world.next(2), None, "it is confirmed once");
    for gateway in &row.world.gateways {
        assert_eq!(gateway.machine.sizes().watches, 0);
    }

    let mut row = triangle();
    row.world.say(0, Control::UnlinkId { id: 8, from: row.server.clone(), to: row.proxies[1].clone() }, None);
    let (_, Control::UnlinkId { id, from, to }, None) = row.world.only(2) else { panic!("an unlink") };
    row.world.say(2, Control::UnlinkIdAck { id, from: to, to: from }, None);
    let ack = Control::UnlinkIdAck { id: 8, from: row.proxies[1].clone(), to: row.server.clone() };
    assert_eq!(row.world.only(0), ("shop@east".to_owned(), ack, None));
}
