//! The log's promises, each held against a reader.

use super::*;

fn log(keep: usize) -> EventLog {
    EventLog::new(ClusterName::new("main").expect("valid"), keep)
}

fn node(name: &str) -> Subject {
    Subject::node(NodeName::new(name).expect("valid"))
}

fn publish(log: &EventLog, kind: EventKind, name: &str) -> Option<u64> {
    log.publish(kind, node(name), None, None).map(|event| event.seq)
}

/// Fills the log with `count` events that always pass.
fn fill(log: &EventLog, count: u64) {
    for _ in 0..count {
        assert!(publish(log, EventKind::CandidateFound, "a@h").is_some());
    }
}

fn drain(reader: &mut Reader) -> Vec<Next> {
    std::iter::from_fn(|| reader.try_next()).take(1_000).collect()
}

fn seqs(items: &[Next]) -> Vec<u64> {
    items
        .iter()
        .map(|item| match item {
            Next::Event(event) => event.seq,
            Next::Gap { .. } | Next::Closed => panic!("expected events only, got {item:?}"),
        })
        .collect()
}

/// The first node whose events do not alternate, beginning with `nodeup`.
fn not_alternating(events: &[Event]) -> Option<NodeName> {
    let mut up = BTreeSet::new();
    events.iter().find_map(|event| {
        let node = event.subject.node.clone()?;
        let is_up = event.event == EventKind::NodeUp;
        let is_down = event.event == EventKind::NodeDown;
        let fits = (!is_up || up.insert(node.clone())) && (!is_down || up.remove(&node));
        (!fits).then_some(node)
    })
}

#[test]
fn sequence_numbers_count_from_one() {
    let log = log(10);
    fill(&log, 3);
    assert_eq!(seqs(&drain(&mut log.reader(Some(0)))), [1, 2, 3]);
    assert_eq!(log.last_seq(), 3);
}

#[test]
fn a_reader_resumes_after_the_last_event_that_it_saw() {
    let log = log(10);
    fill(&log, 5);
    assert_eq!(seqs(&drain(&mut log.reader(Some(3)))), [4, 5]);
    assert_eq!(drain(&mut log.reader(Some(5))), []);
    let mut from_now = log.reader(None);
    fill(&log, 1);
    assert_eq!(seqs(&drain(&mut from_now)), [6]);
}

#[test]
fn a_reader_that_fell_behind_is_told_what_is_gone() {
    let log = log(3);
    let mut slow = log.reader(None);
    fill(&log, 10);
    assert_eq!(slow.try_next(), Some(Next::Gap { from: 1, to: 7, restarted: false }));
    assert_eq!(seqs(&drain(&mut slow)), [8, 9, 10]);
}

#[test]
fn a_reader_from_before_a_restart_is_told_and_reads_all() {
    let log = log(10);
    fill(&log, 2);
    let mut reader = log.reader(Some(500));
    assert_eq!(reader.try_next(), Some(Next::Gap { from: 501, to: 0, restarted: true }));
    assert_eq!(seqs(&drain(&mut reader)), [1, 2]);
    let mut last = log.reader(Some(u64::MAX));
    assert_eq!(last.try_next(), Some(Next::Gap { from: u64::MAX, to: 0, restarted: true }));
}

#[test]
fn a_reader_from_before_a_restart_is_told_even_where_the_count_has_passed_its_own() {
    let log = log(10);
    fill(&log, 5);
    let other = Position { epoch: Some(log.epoch() ^ 1), seq: 2 };
    let mut reader = log.reader_after(Some(other));
    assert_eq!(reader.try_next(), Some(Next::Gap { from: 3, to: 0, restarted: true }));
    assert_eq!(seqs(&drain(&mut reader)), [1, 2, 3, 4, 5]);
    let mut same = log.reader_after(Some(Position { epoch: Some(log.epoch()), seq: 2 }));
    assert_eq!(seqs(&drain(&mut same)), [3, 4, 5]);
}

#[test]
fn a_slow_reader_holds_up_nobody_and_keeps_nothing_alive() {
    let log = log(4);
    let mut slow = log.reader(None);
    let mut quick = log.reader(None);
    for seq in 1..=1_000 {
        fill(&log, 1);
        assert_eq!(seqs(&drain(&mut quick)), [seq]);
    }
    assert_eq!(log.ring().events.len(), 4);
    assert!(log.ring().events.iter().all(|event| Arc::strong_count(event) == 1), "the ring alone holds the events");
    assert_eq!(slow.try_next(), Some(Next::Gap { from: 1, to: 996, restarted: false }));
}

#[test]
fn nodeup_and_nodedown_alternate_for_one_node() {
    let log = log(100);
    let mut reader = log.reader(None);
    let calls = [
        (EventKind::NodeDown, "a@h", None),
        (EventKind::NodeUp, "a@h", Some(1)),
        (EventKind::NodeUp, "a@h", None),
        (EventKind::NodeUp, "b@h", Some(2)),
        (EventKind::NodeDown, "a@h", Some(3)),
        (EventKind::NodeDown, "a@h", None),
        (EventKind::NodeUp, "a@h", Some(4)),
    ];
    for (kind, name, seq) in calls {
        assert_eq!(publish(&log, kind, name), seq, "{kind:?} of {name}");
    }
    let events: Vec<Event> = drain(&mut reader)
        .into_iter()
        .filter_map(|next| if let Next::Event(event) = next { Some((*event).clone()) } else { None })
        .collect();
    assert_eq!(events.len(), 4);
    assert_eq!(not_alternating(&events), None);
    assert_eq!(log.nodes_up().len(), 2);

    // The checker bites: the same stream with one event twice is refused.
    let mut doubled = events.clone();
    doubled.insert(1, events[0].clone());
    assert_eq!(not_alternating(&doubled), events[0].subject.node);
}

#[tokio::test]
async fn a_waiting_reader_wakes_for_an_event_and_for_the_end() {
    let log = log(10);
    let mut reader = log.reader(None);
    let waiting = tokio::spawn(async move { (reader.next().await, reader.next().await) });
    tokio::task::yield_now().await;
    fill(&log, 1);
    log.close();
    let (first, second) = waiting.await.expect("no panic");
    assert!(matches!(first, Next::Event(event) if event.seq == 1));
    assert_eq!(second, Next::Closed);
    assert_eq!(publish(&log, EventKind::NodeUp, "a@h"), None, "a closed log takes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_beside_a_writer_miss_nothing() {
    let log = log(100_000);
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let mut reader = log.reader(Some(0));
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while let Next::Event(event) = reader.next().await {
                    seen.push(event.seq);
                }
                seen
            })
        })
        .collect();
    fill(&log, 5_000);
    log.close();
    for reader in readers {
        assert_eq!(reader.await.expect("no panic"), (1..=5_000).collect::<Vec<_>>());
    }
}
