//! Monitors and links: each fires once, with the reason, or for want of a link.

use metacluster_erl_wire::term;

use super::*;

struct Watched {
    world: World,
    server: Pid,
    client: Pid,
    proxy: Pid,
    link: LinkId,
}

fn watched() -> Watched {
    let mut world = World::new(&["east", "west"]);
    let (link, _) = world.link(0, 1);
    let (server, client) = (pid("shop@east", 1), pid("till@west", 2));
    let proxy = world.export(0, &server, 1);
    Watched { world, server, client, proxy, link }
}

fn down(from: &Pid, to: &Pid, reference: &Reference) -> Control {
    Control::PayloadMonitorPExit { from: Process::Pid(from.clone()), to: to.clone(), reference: reference.clone() }
}

fn exit(from: &Pid, to: &Pid) -> Control {
    Control::PayloadExit { from: from.clone(), to: to.clone(), trace: None }
}

impl Watched {
    fn monitor(&mut self, word: u32) -> Reference {
        let reference = reference("till@west", word);
        let (from, to) = (self.client.clone(), Process::Pid(self.proxy.clone()));
        self.world.say(1, Control::MonitorP { from, to, reference: reference.clone() }, None);
        reference
    }

    /// What the watched node got: who monitors, under which reference.
    fn monitored(&mut self) -> (Pid, Reference) {
        match self.world.only(0) {
            (_, Control::MonitorP { from, to, reference }, None) if to == Process::Pid(self.server.clone()) => {
                (from, reference)
            }
            other => panic!("not a monitor: {other:?}"),
        }
    }

    fn link(&mut self) -> Pid {
        self.world.say(1, Control::Link { from: self.client.clone(), to: self.proxy.clone() }, None);
        match self.world.only(0) {
            (_, Control::Link { from, to }, None) if to == self.server => from,
            other => panic!("not a link: {other:?}"),
        }
    }
}

#[test]
fn a_monitor_fires_with_the_far_reason_once() {
    let mut watched = watched();
    let reference = watched.monitor(1);
    let (from, far) = watched.monitored();
    let fired = down(&watched.server, &from, &far);
    watched.world.say(0, fired.clone(), Some(&term!({shutdown, sold_out})));
    let expected = down(&watched.proxy, &watched.client, &reference);
    assert_eq!(watched.world.only(1), ("till@west".to_owned(), expected, Some(term!({shutdown, sold_out}))));
    watched.world.say(0, fired, Some(&term!(again)));
    watched.world.cut(watched.link);
    assert_eq!(watched.world.next(1), None, "a monitor fires once");
}

#[test]
fn a_monitor_that_is_taken_back_does_not_fire() {
    let mut watched = watched();
    let reference = watched.monitor(1);
    let (from, far) = watched.monitored();
    let (by, to) = (watched.client.clone(), Process::Pid(watched.proxy.clone()));
    watched.world.say(1, Control::DemonitorP { from: by, to, reference }, None);
    let server = Process::Pid(watched.server.clone());
    let taken = Control::DemonitorP { from, to: server, reference: far };
    assert_eq!(watched.world.only(0), ("shop@east".to_owned(), taken, None));
    watched.world.cut(watched.link);
    assert_eq!(watched.world.next(1), None);
    assert_eq!(watched.world.gateways[1].machine.sizes().watches, 0);
}

#[test]
fn a_lost_link_fires_what_hangs_on_it_and_takes_back_what_nobody_needs() {
    let mut watched = watched();
    let reference = watched.monitor(1);
    let (by, far) = watched.monitored();
    let linked = watched.link();
    let (server, client, proxy) = (watched.server.clone(), watched.client.clone(), watched.proxy.clone());
    watched.world.cut(watched.link);
    let gone = Some(term!(noconnection));
    assert_eq!(watched.world.next(1), Some(("till@west".to_owned(), down(&proxy, &client, &reference), gone.clone())));
    assert_eq!(watched.world.only(1), ("till@west".to_owned(), exit(&proxy, &client), gone.clone()));
    let taken = Control::DemonitorP { from: by, to: Process::Pid(server.clone()), reference: far };
    assert_eq!(watched.world.next(0), Some(("shop@east".to_owned(), taken, None)));
    assert_eq!(watched.world.only(0), ("shop@east".to_owned(), exit(&linked, &server), gone.clone()));

    // Without a link, there is nothing to wait for.
    let reference = watched.monitor(2);
    assert_eq!(watched.world.only(1), ("till@west".to_owned(), down(&proxy, &client, &reference), gone.clone()));
    watched.world.say(1, Control::Link { from: client.clone(), to: proxy.clone() }, None);
    assert_eq!(watched.world.only(1), ("till@west".to_owned(), exit(&proxy, &client), gone));
}

#[test]
fn a_lost_node_fires_too() {
    let mut watched = watched();
    let reference = watched.monitor(1);
    watched.monitored();
    watched.link();
    let now = watched.world.now;
    watched.world.gateways[0].machine.node_down(now, &NodeName::new("shop@east").expect("a name"));
    watched.world.run();
    let gone = Some(term!(noconnection));
    let (proxy, client) = (watched.proxy.clone(), watched.client.clone());
    assert_eq!(watched.world.next(1), Some(("till@west".to_owned(), down(&proxy, &client, &reference), gone.clone())));
    assert_eq!(watched.world.only(1), ("till@west".to_owned(), exit(&proxy, &client), gone.clone()));
    let reference = watched.monitor(2);
    assert_eq!(watched.world.only(1), ("till@west".to_owned(), down(&proxy, &client, &reference), gone));
}

#[test]
fn a_watchers_node_that_is_lost_takes_its_monitors_back() {
    let mut watched = watched();
    watched.monitor(1);
    let (by, far) = watched.monitored();
    let now = watched.world.now;
    watched.world.gateways[1].machine.node_down(now, &NodeName::new("till@west").expect("a name"));
    watched.world.run();
    let to = Process::Pid(watched.server.clone());
    let taken = Control::DemonitorP { from: by, to, reference: far };
    assert_eq!(watched.world.only(0), ("shop@east".to_owned(), taken, None));
}

#[test]
fn a_link_carries_the_exit_either_way_once() {
    let mut watched = watched();
    let far = watched.link();
    watched.world.say(0, exit(&watched.server.clone(), &far), Some(&term!(crashed)));
    let expected = exit(&watched.proxy, &watched.client);
    assert_eq!(watched.world.only(1), ("till@west".to_owned(), expected, Some(term!(crashed))));
    let far = watched.link();
    watched.world.say(1, exit(&watched.client.clone(), &watched.proxy.clone()), Some(&term!(killed)));
    assert_eq!(
        watched.world.only(0),
        ("shop@east".to_owned(), exit(&far, &watched.server.clone()), Some(term!(killed)))
    );
    watched.world.cut(watched.link);
    assert_eq!((watched.world.next(0), watched.world.next(1)), (None, None));
}

#[test]
fn an_unlink_is_confirmed_by_the_far_process_and_the_link_is_off_at_once() {
    let mut watched = watched();
    let far = watched.link();
    let (server, client, proxy) = (watched.server.clone(), watched.client.clone(), watched.proxy.clone());
    // Its exit crosses with the unlink.
    watched.world.put(1, Control::UnlinkId { id: 5, from: client.clone(), to: proxy.clone() }, None);
    watched.world.put(0, exit(&server, &far), Some(&term!(crashed)));
    watched.world.run();
    let confirmed = Control::UnlinkIdAck { id: 5, from: proxy.clone(), to: client.clone() };
    assert_eq!(watched.world.only(1), ("till@west".to_owned(), confirmed, None), "and no exit");

    let far = watched.link();
    watched.world.say(1, Control::UnlinkId { id: 6, from: client.clone(), to: proxy.clone() }, None);
    let unlink = Control::UnlinkId { id: 6, from: far.clone(), to: server.clone() };
    assert_eq!(watched.world.only(0), ("shop@east".to_owned(), unlink, None));
    watched.world.say(0, Control::UnlinkIdAck { id: 6, from: server, to: far }, None);
    let confirmed = Control::UnlinkIdAck { id: 6, from: proxy.clone(), to: client.clone() };
    assert_eq!(watched.world.only(1), ("till@west".to_owned(), confirmed, None));

    // Nobody else would answer.
    watched.world.cut(watched.link);
    watched.world.say(1, Control::UnlinkId { id: 7, from: client.clone(), to: proxy.clone() }, None);
    let confirmed = Control::UnlinkIdAck { id: 7, from: proxy, to: client };
    assert_eq!(watched.world.only(1), ("till@west".to_owned(), confirmed, None));
    assert_eq!(watched.world.gateways[1].machine.sizes().watches, 0);
}
