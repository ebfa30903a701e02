//! User events and queries: order, once, gaps, absence, filters, deadlines, and members of ill will.

use super::*;
use crate::{Ask, Filter, UserError, craft};

impl Cluster {
    fn say(&mut self, number: usize, name: &str) -> u32 {
        let sequence = self.agents[number].machine.send_event(self.now, name, b"payload").expect("it fits");
        self.drain(number);
        sequence
    }

    fn heard(&self, receiver: usize, sender: usize) -> Vec<u32> {
        let events = self.agents[receiver].events.iter();
        events.filter(|(from, _, _)| *from == id(sender)).map(|(_, sequence, _)| *sequence).collect()
    }

    fn all_heard(&self, sender: usize, sequences: &[u32]) -> bool {
        (0..self.agents.len()).all(|receiver| self.heard(receiver, sender) == sequences)
    }

    fn ask(&mut self, number: usize, ask: Ask) -> QueryId {
        let query = self.agents[number].machine.ask(self.now, ask).expect("it fits");
        self.drain(number);
        query
    }

    fn answers(&self, number: usize, query: QueryId) -> Vec<(AgentId, Vec<u8>)> {
        let replies = self.agents[number].replies.iter().filter(|(of, _)| *of == query);
        let answers = replies.filter_map(|(_, reply)| match reply {
            Reply::Answer { from, payload } => Some((*from, payload.clone())),
            Reply::Came(_) | Reply::Declined(_) | Reply::Ends { .. } => None,
        });
        let mut answers: Vec<_> = answers.collect();
        answers.sort();
        answers
    }

    fn silent(&self, number: usize, query: QueryId) -> Option<Vec<AgentId>> {
        self.agents[number].replies.iter().find_map(|(of, reply)| match reply {
            Reply::Ends { silent } if *of == query => Some(silent.clone()),
            Reply::Ends { .. } | Reply::Came(_) | Reply::Declined(_) | Reply::Answer { .. } => None,
        })
    }
}

fn ask(payload: &[u8]) -> Ask {
    Ask {
        name: "load".to_owned(),
        payload: payload.to_vec(),
        filter: Filter::default(),
        timeout: Duration::from_secs(2),
        acks: false,
    }
}

#[test]
fn events_of_one_sender_come_to_all_in_order_and_once() {
    let mut cluster = Cluster::formed(6);
    for _ in 0..10 {
        cluster.say(2, "deploy");
    }
    let sequences: Vec<u32> = (1..=10).collect();
    let took = cluster.until(Duration::from_secs(3), |c| c.all_heard(2, &sequences));
    assert!(took <= Duration::from_secs(1), "{took:?}");
    cluster.run(Duration::from_secs(60));
    assert!(cluster.all_heard(2, &sequences), "and never again");
    assert!(cluster.agents.iter().all(|agent| agent.machine.counters().events_skipped == 0));
}

#[test]
fn a_lost_event_is_had_again_and_those_behind_it_wait() {
    let mut cluster = Cluster::formed(4);
    // Nothing comes to the last from anybody while the first is spread.
    cluster.cuts.extend([(0, 3), (1, 3), (2, 3)]);
    cluster.say(0, "one");
    cluster.run(Duration::from_secs(1));
    cluster.cuts.clear();
    cluster.say(0, "two");
    let took = cluster.until(Duration::from_secs(3), |c| c.heard(3, 0) == [1, 2]);
    assert!(took <= Duration::from_secs(1), "{took:?}");
}

#[test]
fn the_last_event_is_learned_of_from_probes() {
    let mut cluster = Cluster::formed(4);
    cluster.cuts.extend([(0, 3), (1, 3), (2, 3)]);
    cluster.say(0, "only");
    cluster.run(Duration::from_secs(1));
    cluster.cuts.clear();
    let took = cluster.until(Duration::from_secs(5), |c| c.heard(3, 0) == [1]);
    assert!(took <= Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_gap_that_nobody_can_fill_is_skipped_and_counted() {
    let mut cluster = Cluster::formed(3);
    let bytes = |sequence, recent| craft::event("main", (id(1), Epoch(1)), sequence, recent);
    cluster.input(0, Input::Packet { from: at(1), bytes: bytes(1, 0) });
    cluster.input(0, Input::Packet { from: at(1), bytes: bytes(4, 3) });
    assert_eq!(cluster.heard(0, 1), [1], "it waits");
    let took = cluster.until(Duration::from_secs(10), |c| c.heard(0, 1) == [1, 4]);
    assert!(took >= Duration::from_secs(1) && took <= Duration::from_secs(4), "{took:?}");
    assert_eq!(cluster.agents[0].machine.counters().events_skipped, 2);
    cluster.input(0, Input::Packet { from: at(1), bytes: bytes(2, 1) });
    assert_eq!(cluster.heard(0, 1), [1, 4], "too late for its order");
}

#[test]
fn one_that_was_cut_off_gets_what_is_kept_when_it_is_back() {
    let mut cluster = Cluster::formed(5);
    cluster.cuts.extend((0..4).flat_map(|other| [(4, other), (other, 4)]));
    for _ in 0..20 {
        cluster.say(1, "meanwhile");
        cluster.run(Duration::from_secs(5));
    }
    assert_eq!(cluster.heard(4, 1), []);
    cluster.say(4, "alone");
    cluster.cuts.clear();
    let sequences: Vec<u32> = (1..=20).collect();
    cluster.until(Duration::from_secs(30), |c| c.all_heard(1, &sequences) && c.all_heard(4, &[1]));
}

#[test]
fn a_restart_gets_what_it_missed_and_nothing_twice() {
    let mut cluster = Cluster::formed(4);
    cluster.say(0, "before");
    cluster.run(Duration::from_secs(2));
    let snapshot = cluster.agents[3].machine.snapshot();
    cluster.agents[3].runs = false;
    cluster.say(0, "meanwhile");
    cluster.say(1, "too");
    cluster.run(Duration::from_secs(20));
    cluster.agents[3].machine = machine(cluster.now, 3, snapshot.next_epoch(Epoch(1)).0, "main");
    let now = cluster.now;
    cluster.agents[3].machine.restore(now, &snapshot);
    cluster.agents[3].runs = true;
    cluster.input(3, Input::Seeds(snapshot.addresses().collect()));
    cluster.until(Duration::from_secs(5), |c| c.heard(3, 0) == [1, 2] && c.heard(3, 1) == [1]);
    cluster.run(Duration::from_secs(20));
    assert_eq!((cluster.heard(3, 0), cluster.heard(3, 1)), (vec![1, 2], vec![1]));
}

#[test]
fn a_new_member_gets_nothing_from_before_it_came_and_all_from_then_on() {
    let mut cluster = Cluster::formed(4);
    for _ in 0..3 {
        cluster.say(0, "before");
    }
    cluster.run(Duration::from_secs(1));
    let new = cluster.add(machine(cluster.now, 7, 1, "main"), at(7));
    cluster.input(new, Input::Seeds(vec![at(1)]));
    cluster.run(Duration::from_secs(20));
    assert_eq!(cluster.heard(new, 0), []);
    cluster.say(0, "after");
    let took = cluster.until(Duration::from_secs(2), |c| c.heard(new, 0) == [4]);
    assert!(took < Duration::from_secs(1), "it waits for nothing before: {took:?}");
    assert_eq!(cluster.agents[new].machine.counters().events_skipped, 0);
}

#[test]
fn a_sender_that_boots_again_begins_anew() {
    let mut cluster = Cluster::formed(4);
    for _ in 0..3 {
        cluster.say(2, "before");
    }
    cluster.run(Duration::from_secs(2));
    cluster.agents[2].machine = machine(cluster.now, 2, 2, "main");
    cluster.input(2, Input::Seeds(vec![at(0)]));
    cluster.run(Duration::from_secs(2));
    cluster.say(2, "after");
    cluster.run(Duration::from_secs(2));
    for receiver in [0, 1, 3] {
        assert_eq!(cluster.heard(receiver, 2), [1, 2, 3, 1]);
    }
}

#[test]
fn what_does_not_fit_is_refused_and_so_is_too_much() {
    let mut cluster = Cluster::formed(2);
    let now = cluster.now;
    let machine = &mut cluster.agents[0].machine;
    for (name, payload, error) in [
        ("", 0, UserError::Name),
        ("a\nb", 0, UserError::Name),
        (&"x".repeat(65), 0, UserError::NameTooLong(65)),
        ("x", 513, UserError::PayloadTooLong(513)),
    ] {
        assert_eq!(machine.send_event(now, name, &vec![0; payload]), Err(error));
    }
    let sent = (0..1000).take_while(|_| machine.send_event(now, "x", b"").is_ok()).count();
    assert_eq!((sent, machine.send_event(now, "x", b"")), (48, Err(UserError::TooMany)));
    assert!(machine.send_event(now + Duration::from_secs(1), "x", b"").is_ok(), "a second later there is room");
}

#[test]
fn a_flood_takes_its_own_part_of_the_tables_only() {
    let mut cluster = Cluster::formed(4);
    cluster.say(0, "honest");
    cluster.run(Duration::from_secs(1));
    for sequence in 1..5000 {
        let bytes = craft::event("main", (id(1), Epoch(1)), sequence, 255);
        cluster.input(2, Input::Packet { from: at(1), bytes });
    }
    let sizes = cluster.agents[2].machine.sizes();
    assert!(sizes.user.events <= 65 && sizes.user.rumours <= 512, "{sizes:?}");
    assert!(cluster.agents[2].machine.counters().user_refused > 4000);
    cluster.say(0, "still");
    cluster.until(Duration::from_secs(3), |c| [1, 2, 3].iter().all(|&receiver| c.heard(receiver, 0) == [1, 2]));
}

#[test]
fn an_event_of_a_stranger_or_of_a_boot_to_come_is_refused() {
    let mut cluster = Cluster::formed(3);
    for (sender, epoch) in [(id(77), 1), (id(1), 9)] {
        let bytes = craft::event_of("main", (id(2), Epoch(1)), (sender, Epoch(epoch)), 1, 0);
        cluster.input(0, Input::Packet { from: at(2), bytes });
    }
    assert!(cluster.agents[0].events.is_empty());
    assert_eq!(cluster.agents[0].machine.counters().user_refused, 2);
}

#[test]
fn a_member_goes_on_beyond_an_event_that_was_made_up_in_its_name() {
    let mut cluster = Cluster::formed(4);
    let bytes = craft::event_of("main", (id(1), Epoch(1)), (id(2), Epoch(1)), 100, 0);
    cluster.input(0, Input::Packet { from: at(1), bytes });
    cluster.run(Duration::from_secs(2));
    assert_eq!(cluster.say(2, "mine"), 101);
    cluster.until(Duration::from_secs(4), |c| (0..4).all(|receiver| c.heard(receiver, 2).ends_with(&[101])));
}

#[test]
fn all_answer_a_query_and_it_ends_then() {
    let mut cluster = Cluster::formed(5);
    cluster.agents.iter_mut().for_each(|agent| agent.echoes = true);
    let query = cluster.ask(1, ask(b"hello"));
    let took = cluster.until(Duration::from_secs(2), |c| c.silent(1, query).is_some());
    assert!(took <= Duration::from_millis(100), "{took:?}");
    assert_eq!(cluster.silent(1, query), Some(Vec::new()));
    let all: Vec<_> = (0..5).map(|number| (id(number), b"hello".to_vec())).collect();
    assert_eq!(cluster.answers(1, query), all);
    cluster.run(Duration::from_secs(20));
    assert_eq!(cluster.agents[0].queries.len(), 1, "asked once");
    assert_eq!(cluster.answers(1, query), all, "answered once");
    assert!(cluster.agents.iter().all(|agent| agent.machine.sizes().user.answers == 0));
}

#[test]
fn a_query_ends_at_its_deadline_and_names_the_silent() {
    let mut cluster = Cluster::formed(4);
    cluster.agents[0].echoes = true;
    let query = cluster.ask(0, Ask { acks: true, ..ask(b"x") });
    let took = cluster.until(Duration::from_secs(5), |c| c.silent(0, query).is_some());
    assert!(took >= Duration::from_millis(1980) && took <= Duration::from_millis(2020), "{took:?}");
    assert_eq!(cluster.silent(0, query), Some(vec![id(1), id(2), id(3)]));
    let came = |number| cluster.agents[0].replies.contains(&(query, Reply::Came(id(number))));
    assert!([1, 2, 3].into_iter().all(came), "it came to all, though");
    let token = cluster.agents[1].queries[0].token;
    cluster.run(Duration::from_millis(10));
    let now = cluster.now;
    assert_eq!(cluster.agents[1].machine.answer(now, token, b"late"), Err(UserError::Late));
}

#[test]
fn those_who_decline_are_not_waited_for() {
    let mut cluster = Cluster::formed(3);
    let query = cluster.ask(0, ask(b""));
    cluster.run(Duration::from_millis(50));
    for number in 0..3 {
        let token = cluster.agents[number].queries[0].token;
        let now = cluster.now;
        cluster.agents[number].machine.decline(now, token).expect("it is open");
        cluster.drain(number);
    }
    let took = cluster.until(Duration::from_secs(2), |c| c.silent(0, query).is_some());
    assert!(took < Duration::from_millis(100) && cluster.answers(0, query).is_empty(), "{took:?}");
}

#[test]
fn a_filter_says_whom_a_query_is_for() {
    let mut cluster = Cluster::formed(4);
    cluster.agents.iter_mut().for_each(|agent| agent.echoes = true);
    let mut described = description("agent-2", at(2));
    described.tags.insert("app".to_owned(), "shop".to_owned());
    described.roles.insert(metacluster_types::Role::new("web").expect("a role"));
    let now = cluster.now;
    cluster.agents[2].machine.describe(now, described).expect("it fits");
    cluster.run(Duration::from_secs(1));
    let role = metacluster_types::Role::new("web").expect("a role");
    for (filter, answers) in [
        (Filter { ids: BTreeSet::from([id(1), id(3)]), ..Filter::default() }, vec![1, 3]),
        (Filter { names: BTreeSet::from(["agent-0".to_owned()]), ..Filter::default() }, vec![0]),
        (Filter { roles: BTreeSet::from([role.clone()]), ..Filter::default() }, vec![2]),
        (Filter { tags: Tags::from([("app".to_owned(), "shop".to_owned())]), ..Filter::default() }, vec![2]),
        (Filter { ids: BTreeSet::from([id(1)]), roles: BTreeSet::from([role]), ..Filter::default() }, vec![]),
    ] {
        let query = cluster.ask(0, Ask { filter, ..ask(b"") });
        let took = cluster.until(Duration::from_secs(3), |c| c.silent(0, query).is_some());
        assert!(took < Duration::from_millis(200), "{took:?}");
        let from: Vec<AgentId> = cluster.answers(0, query).into_iter().map(|(from, _)| from).collect();
        assert_eq!(from, answers.into_iter().map(id).collect::<Vec<_>>());
    }
}

#[test]
fn a_long_answer_goes_over_a_stream() {
    let mut cluster = Cluster::formed(3);
    let query =
        cluster.ask(0, Ask { filter: Filter { ids: BTreeSet::from([id(1)]), ..Filter::default() }, ..ask(b"") });
    cluster.run(Duration::from_millis(20));
    let (now, token) = (cluster.now, cluster.agents[1].queries[0].token);
    let long = vec![7; crate::ANSWER_BYTES_MAX];
    let answer = cluster.agents[1].machine.answer(now, token, &[long.as_slice(), &[7]].concat());
    assert_eq!(answer, Err(UserError::AnswerTooLong(long.len() + 1)));
    cluster.agents[1].machine.answer(now, token, &long).expect("it is the longest");
    cluster.drain(1);
    cluster.until(Duration::from_secs(1), |c| c.answers(0, query) == [(id(1), long.clone())]);
}

#[test]
fn answers_come_through_where_packets_are_dropped() {
    let mut cluster = Cluster::formed(3);
    let query = cluster.ask(0, Ask { timeout: Duration::from_secs(8), ..ask(b"x") });
    cluster.run(Duration::from_millis(20));
    cluster.udp_works = false;
    for number in 0..3 {
        let (now, token) = (cluster.now, cluster.agents[number].queries[0].token);
        cluster.agents[number].machine.answer(now, token, b"yes").expect("it is open");
        cluster.drain(number);
    }
    cluster.until(Duration::from_secs(7), |c| c.answers(0, query).len() == 3);
}

#[test]
fn one_who_came_after_the_query_went_round_is_asked_too() {
    let mut cluster = Cluster::formed(4);
    cluster.agents.iter_mut().for_each(|agent| agent.echoes = true);
    cluster.cuts.extend([(0, 3), (1, 3), (2, 3)]);
    let query = cluster.ask(0, ask(b"x"));
    cluster.run(Duration::from_millis(800));
    cluster.cuts.clear();
    let took = cluster.until(Duration::from_secs(2), |c| c.answers(0, query).len() == 4);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_flood_of_queries_is_refused() {
    let mut cluster = Cluster::formed(3);
    for number in 0..5000 {
        let bytes = craft::query("main", (id(1), Epoch(1)), number, Duration::from_secs(600));
        cluster.input(0, Input::Packet { from: at(1), bytes });
    }
    let sizes = cluster.agents[0].machine.sizes();
    assert!(sizes.user.queries <= 64 && sizes.user.answers <= 64, "{sizes:?}");
    assert!(cluster.agents[0].machine.counters().user_refused > 4900);
    let now = cluster.now;
    let machine = &mut cluster.agents[2].machine;
    let asked = (0..1000).take_while(|_| machine.ask(now, ask(b"")).is_ok()).count();
    assert_eq!((asked, machine.ask(now, ask(b""))), (32, Err(UserError::TooMany)));
}

#[test]
fn nothing_is_kept_for_ever() {
    let mut cluster = Cluster::formed(3);
    cluster.agents.iter_mut().for_each(|agent| agent.echoes = true);
    cluster.say(0, "old");
    cluster.ask(0, ask(b""));
    cluster.run(Duration::from_secs(700));
    for agent in &cluster.agents {
        let sizes = agent.machine.sizes().user;
        assert_eq!((sizes.events, sizes.rumours, sizes.queries, sizes.answers), (0, 0, 0, 0));
    }
}

#[test]
fn what_is_said_as_soon_as_two_meet_is_heard() {
    for first in [0, 1] {
        let mut cluster = Cluster::of(2);
        cluster.until(Duration::from_secs(3), |c| c.agents.iter().all(|agent| agent.machine.live() == 2));
        cluster.say(first, "at once");
        cluster.until(Duration::from_secs(2), |c| c.heard(1 - first, first) == [1]);
    }
}
