//! A gateway that was lost and returns: both ways go by the same two gateways again, and nothing is published twice on the
//! way there.

use metacluster_erl_wire::term;

use super::*;
use crate::{codec::frame::head, roles::rank};

/// By then whoever is known to stay is asked.
const SETTLED: Duration = Duration::from_millis(5_252);

/// Gateways of `east` and `west`, each of the one linked to each of the other. Which ones are first is a matter of rank:
/// places are in that order, those of `east` before those of `west`.
struct Sides {
    world: World,
    /// How many each side has.
    count: usize,
    /// The ends at `east`, of those that are linked.
    links: BTreeMap<(usize, usize), LinkId>,
}

impl Sides {
    fn new(count: usize, settled_after: Duration) -> Self {
        let (east, west) = (cluster("east"), cluster("west"));
        let mut all = Vec::new();
        for (name, first) in [("east", 1_u128), ("west", 11)] {
            let mut numbers: Vec<u128> = (first..).take(count).collect();
            numbers.sort_by_key(|number| rank(&east, &west, AgentId(*number)));
            all.extend(numbers.into_iter().map(|number| Settings {
                node: NodeName::new(&format!("metacluster@{name}{number}")).expect("a name"),
                times: Times { settled_after, ..Times::default() },
                ..settings(name, number)
            }));
        }
        let mut sides = Self { world: World::with(all), count, links: BTreeMap::new() };
        for place in 0..count {
            sides.link(place);
        }
        sides.world.pass(SETTLED);
        sides
    }

    fn side(&self, place: usize) -> usize {
        place / self.count
    }

    /// Links this gateway to all of the other side.
    fn link(&mut self, place: usize) {
        let (count, side) = (self.count, self.side(place));
        for other in (0..2 * count).filter(|other| other / count != side) {
            let ends = (place.min(other), place.max(other));
            if !self.links.contains_key(&ends) {
                self.links.insert(ends, self.world.link(ends.0, ends.1).0);
            }
        }
    }

    /// All links of this gateway are lost.
    fn lose(&mut self, place: usize) {
        let ends: Vec<_> = self.links.extract_if(.., |ends, _| ends.0 == place || ends.1 == place).collect();
        ends.into_iter().for_each(|(_, link)| self.world.cut(link));
    }

    /// Who of a side asks whom of the other one.
    fn asked(&self, side: usize) -> Vec<(usize, usize)> {
        let gateways = &self.world.gateways;
        let place = |asked: AgentId| gateways.iter().position(|other| other.machine.settings().gateway == asked);
        let of = |asking: usize| {
            let status = gateways[asking].machine.status(self.world.now);
            let asked = status.gateways.into_iter().filter(|gateway| gateway.asked);
            asked.filter_map(move |gateway| Some((asking, place(gateway.gateway)?)))
        };
        (side * self.count..(side + 1) * self.count).flat_map(of).collect()
    }

    /// The gateways by which both ways go: what `east` publishes, and what `west` does.
    fn ways(&self) -> [(usize, usize); 2] {
        let [east] = self.asked(0)[..] else { panic!("one of east asks one: {:?}", self.asked(0)) };
        let [(west, asked)] = self.asked(1)[..] else { panic!("one of west asks one: {:?}", self.asked(1)) };
        [east, (asked, west)]
    }

    /// A process joins, as all gateways of its side see it.
    fn join(&mut self, side: usize, process: &Pid) {
        (side * self.count..(side + 1) * self.count).for_each(|place| self.world.join(place, "orders", process));
    }

    /// All that is published on a side, and by whom.
    fn published(&self, side: usize) -> Vec<(usize, Pid)> {
        let of = |place: usize| self.world.gateways[place].published.get("orders").into_iter().flatten();
        (side * self.count..(side + 1) * self.count)
            .flat_map(|place| of(place).map(move |pid| (place, pid.clone())))
            .collect()
    }

    /// No link was ended by what came over it.
    fn assert_well_behaved(&self) {
        for gateway in &self.world.gateways {
            let ended = |notice: &&Notice| match notice {
                Notice::Unlinked { reason, .. } => *reason != CloseReason::Lost,
                Notice::Linked { .. } | Notice::Joined { .. } | Notice::Left { .. } | Notice::Refused { .. } => false,
            };
            assert_eq!(gateway.notices.iter().find(ended), None);
        }
    }
}

fn pairs() -> Sides {
    Sides::new(2, Times::default().settled_after)
}

/// A pid of `east` that crosses to a process of `west`, and comes home in what that one sends to a member of `east`.
fn round_trip(sides: &mut Sides) -> Option<Term> {
    let (client, far) = (pid("till@east", 9), pid("till@west", 9));
    let (here, to) = sides.published(0).remove(0);
    sides.world.say(here, send(&client, &to), Some(&term!({hello, (&client)})));
    let (_, _, heard) = (sides.count..2 * sides.count).find_map(|place| sides.world.next(place)).expect("it came");
    let (there, to) = sides.published(1).remove(0);
    sides.world.say(there, send(&far, &to), heard.as_ref());
    let (_, _, back) = (0..sides.count).find_map(|place| sides.world.next(place)).expect("and came back");
    back
}

#[test]
fn both_ways_go_by_the_same_gateways_again_when_one_has_returned() {
    for lost in 0..4 {
        let mut sides = pairs();
        sides.join(0, &pid("shop@east", 1));
        sides.join(1, &pid("shop@west", 1));
        assert_eq!(sides.ways(), [(0, 2), (0, 2)]);
        let original = round_trip(&mut sides);
        assert_eq!(original, Some(term!({hello, (pid("till@east", 9))})));

        sides.lose(lost);
        sides.world.pass(Duration::from_secs(1));
        let [east, west] = sides.ways();
        assert_eq!(east, west, "without {lost}");
        sides.link(lost);
        sides.world.pass(SETTLED);
        assert_eq!(sides.ways(), [(0, 2), (0, 2)], "{lost} has returned");
        assert_eq!((sides.published(0).len(), sides.published(1).len()), (1, 1));
        assert_eq!(round_trip(&mut sides), original, "after {lost} has returned");
        sides.assert_well_behaved();
    }
}

/// What was handed out before is as good as before: the link is there still.
#[test]
fn a_pid_of_the_gateway_that_was_let_go_is_usable_still() {
    let mut sides = pairs();
    sides.join(1, &pid("shop@west", 1));
    sides.lose(2);
    sides.world.pass(Duration::from_secs(1));
    let [(here, proxy)] = sides.published(0).try_into().expect("one");
    sides.link(2);
    sides.world.pass(SETTLED);
    assert_ne!(sides.published(0)[0].1, proxy);
    sides.world.say(here, send(&pid("till@east", 2), &proxy), Some(&term!(hello)));
    assert_eq!(sides.world.only(3).0, "shop@west");
}

#[test]
fn nothing_is_published_while_what_was_sent_before_is_read() {
    let mut sides = pairs();
    sides.join(1, &pid("shop@west", 1));
    sides.lose(2);
    sides.world.pass(Duration::from_secs(1));
    sides.link(2);
    sides.world.pass(Duration::from_millis(4_999));
    assert_eq!((sides.asked(0), sides.published(0).len()), (vec![(0, 3)], 1), "it may be lost again");
    sides.world.pass(Duration::from_millis(1));
    assert_eq!((sides.asked(0), sides.published(0).len()), (vec![], 0));
    sides.world.pass(Duration::from_millis(249));
    assert_eq!((sides.asked(0), sides.published(0).len()), (vec![], 0));
    sides.world.pass(Duration::from_millis(1));
    assert_eq!((sides.asked(0), sides.published(0).len()), (vec![(0, 2)], 1));
}

#[test]
fn a_gateway_that_was_let_go_tells_no_changes() {
    let mut sides = pairs();
    sides.lose(2);
    sides.world.pass(Duration::from_secs(1));
    sides.link(2);
    sides.world.pass(SETTLED);
    let before = sides.world.carried;
    sides.world.join(3, "orders", &pid("shop@west", 1));
    assert_eq!(sides.world.carried, before);
}

#[test]
fn a_gateway_that_comes_and_goes_takes_nothing_with_it() {
    let mut sides = pairs();
    sides.join(1, &pid("shop@west", 1));
    sides.lose(2);
    sides.world.pass(Duration::from_secs(1));
    let before = sides.published(0);
    for _ in 0..5 {
        sides.link(2);
        for _ in 0..4 {
            sides.world.pass(Duration::from_secs(1));
            assert_eq!(sides.published(0), before);
        }
        sides.lose(2);
        sides.world.pass(Duration::from_secs(2));
        assert_eq!(sides.published(0), before);
    }
    sides.link(2);
    sides.world.pass(SETTLED);
    assert_eq!(sides.ways(), [(0, 2), (0, 2)]);
    sides.assert_well_behaved();
}

#[test]
fn one_that_is_lost_as_it_takes_over_leaves_the_other_one_in_place() {
    // Before it is asked, as it is, and with its groups.
    for late in [5_100, 5_250, 5_251, 5_400] {
        let mut sides = pairs();
        sides.join(1, &pid("shop@west", 1));
        for _ in 0..2 {
            sides.lose(2);
            sides.world.pass(Duration::from_secs(1));
            assert_eq!((sides.asked(0), sides.published(0).len()), (vec![(0, 3)], 1), "{late}");
            sides.link(2);
            sides.world.pass(Duration::from_millis(late));
        }
        sides.world.pass(Duration::from_secs(1));
        assert_eq!((sides.ways(), sides.published(0).len()), ([(0, 2), (0, 2)], 1), "{late}");
        sides.assert_well_behaved();
    }
}

#[test]
fn of_three_the_first_one_that_stays_is_gone_back_to() {
    let mut sides = Sides::new(3, Times::default().settled_after);
    sides.join(1, &pid("shop@west", 1));
    sides.lose(3);
    sides.lose(4);
    sides.world.pass(Duration::from_secs(1));
    assert_eq!(sides.asked(0), [(0, 5)]);
    sides.link(4);
    sides.world.pass(Duration::from_secs(4));
    sides.link(3);
    // The second one is known to stay, and would be left at once.
    sides.world.pass(Duration::from_secs(2));
    assert_eq!(sides.asked(0), [(0, 5)]);
    sides.lose(3);
    sides.world.pass(Duration::from_millis(251));
    assert_eq!(sides.ways(), [(0, 4), (0, 4)]);
    sides.link(3);
    sides.world.pass(SETTLED);
    assert_eq!((sides.ways(), sides.published(0).len()), ([(0, 3), (0, 3)], 1));
    sides.assert_well_behaved();
}

/// Groups that were asked for come when they are not wanted any more, and those that are wanted come behind them.
#[test]
fn one_that_is_let_go_before_it_has_said_all_may_be_asked_again() {
    let mut sides = Sides::new(2, Duration::ZERO);
    sides.join(1, &pid("shop@west", 1));
    sides.lose(2);
    // What the other one says when it is asked is on its way for long.
    let held = sides.world.hold(3, 0);
    sides.world.pass(Duration::from_millis(251));
    assert_eq!((sides.asked(0), sides.published(0).len()), (vec![(0, 3)], 0));
    sides.link(2);
    assert_eq!(sides.asked(0), []);
    sides.world.pass(Duration::from_millis(251));
    assert_eq!((sides.asked(0), sides.published(0).len()), (vec![(0, 2)], 1));
    sides.lose(2);
    sides.world.pass(Duration::from_millis(251));
    assert_eq!((sides.asked(0), sides.published(0).len()), (vec![(0, 3)], 0));
    sides.join(1, &pid("shop@west", 2));
    sides.world.release(held);
    assert_eq!(sides.published(0).len(), 2);
    sides.world.leave(3, "orders", &pid("shop@west", 1));
    assert_eq!(sides.published(0).len(), 1);
    sides.assert_well_behaved();
}

/// It is let go, and says at the same time that it must not be asked.
#[test]
fn one_that_is_let_go_as_it_says_who_may_ask_has_its_answer() {
    let mut sides = Sides::new(2, Duration::ZERO);
    sides.join(1, &pid("shop@west", 1));
    sides.lose(0);
    sides.lose(2);
    sides.world.pass(Duration::from_millis(251));
    assert_eq!(sides.asked(0), [(1, 3)]);
    let held = [sides.world.hold(1, 3), sides.world.hold(3, 1)];
    sides.link(2);
    sides.link(0);
    sides.world.pass(Duration::from_millis(500));
    held.into_iter().for_each(|held| sides.world.release(held));
    sides.world.pass(Duration::from_millis(500));
    assert_eq!((sides.ways(), sides.published(0).len()), ([(0, 2), (0, 2)], 1));
    sides.assert_well_behaved();
}

#[test]
fn one_that_does_not_know_that_it_may_be_let_go_is_asked_until_it_is_lost() {
    let mut sides = pairs();
    sides.join(1, &pid("shop@west", 1));
    sides.lose(2);
    sides.lose(3);
    sides.world.old.insert(3);
    sides.link(3);
    sides.world.pass(Duration::from_secs(1));
    let before = sides.published(0);
    sides.link(2);
    sides.world.pass(Duration::from_secs(60));
    assert_eq!((sides.asked(0), sides.published(0)), (vec![(0, 3)], before));
    sides.lose(3);
    sides.world.pass(Duration::from_millis(251));
    assert_eq!((sides.asked(0), sides.published(0).len()), (vec![(0, 2)], 1));
    sides.assert_well_behaved();
}

#[test]
fn letting_go_that_is_out_of_place_ends_the_link() {
    // With a body; where it was not agreed; once as it should be, and once more.
    for (old, bodies) in [(false, vec![&[0][..]]), (true, vec![&[]]), (false, vec![&[], &[]])] {
        let mut world = World::new(&["east", "west"]);
        world.old.extend(old.then_some(0));
        let (here, _) = world.link(0, 1);
        for body in &bodies {
            let up = world.gateways[0].machine.status(world.now).gateways[0].up;
            assert!(up.is_some(), "old: {old}, {bodies:?}");
            let frame = [&head(Kind::LetGo, 0, body.len())[..], body].concat();
            world.gateways[0].machine.handle_link(world.now, here, &frame);
            world.run();
        }
        assert_eq!(world.gateways[0].machine.status(world.now).gateways[0].up, None, "old: {old}, {bodies:?}");
    }
}

/// A pid that one gateway brought, and that was handed out to the other one, leads by the way of the first. The process
/// itself, when it links by the other one, is known by that one's way from then on.
#[test]
fn a_link_by_the_other_way_ends_whatever_the_process_is_known_as_besides() {
    let mut sides = pairs();
    let (server, client) = (pid("shop@east", 1), pid("shop@west", 1));
    sides.join(0, &server);
    sides.join(1, &client);
    let (2, known) = sides.published(1).remove(0) else { panic!("by the first gateway") };
    (0..2).for_each(|place| sides.world.leave(place, "orders", &server));
    sides.lose(0);
    sides.world.pass(Duration::from_secs(1));
    let (1, to_client) = sides.published(0).remove(0) else { panic!("by the second gateway") };
    // The client tells somebody behind the second gateway of the pid that the first one brought.
    sides.world.say(1, send(&pid("till@east", 9), &to_client), Some(&term!({hello, (pid("till@east", 9))})));
    let (_, _, Some(hello)) = sides.world.only(2) else { panic!("a message") };
    let from = hello.as_tuple().expect("a tuple")[1].as_pid().expect("a pid").clone();
    sides.world.say(2, send(&client, &from), Some(&term!({see, (&known)})));
    assert_eq!(sides.world.only(1).2, Some(term!({see, (&server)})));

    sides.world.say(1, Control::Link { from: server.clone(), to: to_client.clone() }, None);
    let (_, Control::Link { from: linked, to }, None) = sides.world.only(2) else { panic!("a link") };
    assert_eq!(to, client);
    sides.join(0, &server);
    assert_eq!(sides.published(1), [(2, linked.clone())]);
    let exit = |from: &Pid, to: &Pid| Control::PayloadExit { from: from.clone(), to: to.clone(), trace: None };
    sides.world.say(1, exit(&server, &to_client), Some(&term!(done)));
    assert_eq!(sides.world.only(2), ("shop@west".to_owned(), exit(&linked, &client), Some(term!(done))));
    for gateway in &sides.world.gateways {
        assert_eq!(gateway.machine.sizes().watches, 0);
    }
}
