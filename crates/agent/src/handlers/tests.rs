//! Real commands through `sh`: what they get, how many run, and that none outlives its time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::Duration,
};

use metacluster_types::{AgentId, ClusterName, Event, EventKind, NodeName, Pattern, Said, Subject, Zone};
use nix::{sys::signal::killpg, unistd::Pid};
use tokio::time::{Instant, timeout};

use super::{
    process::Outcome,
    worker::{Lines, QUEUE_MAX, failure_line},
    *,
};

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(30);

struct Bench {
    folder: tempfile::TempDir,
    log: EventLog,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, log: EventLog::new(ClusterName::new("main").expect("valid"), 10_000) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A handler of `nodeup` that runs `script` with the folder as `$0`.
    fn handler(&self, script: &str) -> HandlerConfig {
        let folder = self.folder.path().to_str().expect("a text").to_owned();
        HandlerConfig {
            on: BTreeSet::from([EventKind::NodeUp]),
            named: Vec::new(),
            command: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned(), folder],
            at_most: 4,
            timeout: LONG,
        }
    }

    fn start(&self, handler: HandlerConfig) -> Handlers {
        Handlers::start(&[handler], &self.log, &self.path("agent.sock"), &Panel::new(&[]).0)
    }

    fn nodeup(&self, number: usize) {
        let node = NodeName::new(&format!("n{number}@h")).expect("valid");
        let zone = Zone::new("z1").expect("valid");
        self.log.publish(EventKind::NodeUp, Subject::node(node), Some(zone), None).expect("published");
    }

    /// Publishes, ends the log, and waits until all was handled.
    async fn run(&self, handler: HandlerConfig, events: usize) -> Arc<Stats> {
        let mut handlers = self.start(handler);
        (0..events).for_each(|number| self.nodeup(number));
        self.log.close();
        timeout(LONG, handlers.finish()).await.expect("handled in time");
        handlers.stats()
    }
}

/// Waits for a state that will come.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Whether nobody is left in the process group that a script wrote to the file `pid`.
fn group_is_gone(bench: &Bench) -> bool {
    let pid = bench.read("pid").trim().parse().expect("a process id");
    killpg(Pid::from_raw(pid), None) == Err(nix::errno::Errno::ESRCH)
}

#[tokio::test]
async fn a_command_gets_the_event_as_json_and_in_its_environment() {
    let bench = Bench::new();
    let script = "cat > \"$0/in\"; env | grep ^METACLUSTER_ | sort > \"$0/env\"";
    let stats = bench.run(bench.handler(script), 1).await;
    assert_eq!(stats.counts(), Counts { started: 1, succeeded: 1, ..Counts::default() });
    let input = bench.read("in");
    let event: Event = serde_json::from_str(&input).expect("an event");
    assert!(input.ends_with('\n') && input.lines().count() == 1);
    assert_eq!((event.seq, event.event), (1, EventKind::NodeUp));
    let socket = bench.path("agent.sock");
    assert_eq!(
        bench.read("env"),
        format!(
            "METACLUSTER_AT={}\nMETACLUSTER_CLUSTER=main\nMETACLUSTER_EVENT=nodeup\nMETACLUSTER_NODE=n0@h\n\
             METACLUSTER_SEQ=1\nMETACLUSTER_SOCKET={}\nMETACLUSTER_ZONE=z1\n",
            event.at,
            socket.display()
        )
    );
}

#[tokio::test]
async fn only_the_events_that_were_asked_for_run_a_command() {
    let bench = Bench::new();
    let mut handlers = bench.start(bench.handler("echo \"$METACLUSTER_EVENT\" >> \"$0/out\""));
    let node = || Subject::node(NodeName::new("a@h").expect("valid"));
    for kind in [EventKind::CandidateFound, EventKind::NodeUp, EventKind::NodeDown] {
        bench.log.publish(kind, node(), None, None).expect("published");
    }
    bench.log.close();
    timeout(LONG, handlers.finish()).await.expect("handled in time");
    assert_eq!(bench.read("out"), "nodeup\n");
}

#[tokio::test]
async fn no_more_commands_run_at_once_than_allowed() {
    let bench = Bench::new();
    let script = "echo + >> \"$0/out\"; until [ -e \"$0/go\" ]; do sleep 0.01; done; echo - >> \"$0/out\"";
    let mut handlers = bench.start(HandlerConfig { at_most: 2, ..bench.handler(script) });
    (0..6).for_each(|number| bench.nodeup(number));
    bench.log.close();
    until("two starts", || bench.read("out").lines().count() == 2).await;
    fs::write(bench.path("go"), "").expect("written");
    timeout(LONG, handlers.finish()).await.expect("handled in time");
    let (mut now, mut most) = (0, 0);
    for line in bench.read("out").lines() {
        now += if line == "+" { 1 } else { -1 };
        most = most.max(now);
    }
    assert_eq!((now, most), (0, 2));
    assert_eq!(handlers.stats().counts().succeeded, 6);
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_its_children() {
    let bench = Bench::new();
    let script = "echo $$ > \"$0/pid\"; echo stuck on the pager >&2; sleep 1000 & sleep 1000";
    let stats = bench.run(HandlerConfig { timeout: Duration::from_secs(1), ..bench.handler(script) }, 1).await;
    assert_eq!(stats.counts(), Counts { started: 1, timed_out: 1, ..Counts::default() });
    until("the end of the group", || group_is_gone(&bench)).await;
    assert_eq!(
        stats.last_failure().as_deref(),
        Some("the handler sh ran longer than 1s and was killed (event 1); it said: stuck on the pager")
    );
}

#[tokio::test]
async fn a_command_that_will_not_end_is_made_to() {
    let bench = Bench::new();
    let script = "trap '' TERM; echo $$ > \"$0/pid\"; while :; do sleep 0.05; done";
    let stats = bench.run(HandlerConfig { timeout: Duration::from_secs(1), ..bench.handler(script) }, 1).await;
    assert_eq!(stats.counts().timed_out, 1);
    until("the end of the group", || group_is_gone(&bench)).await;
}

#[tokio::test]
async fn a_stop_leaves_nothing_running() {
    let bench = Bench::new();
    let script = "echo $$ > \"$0/pid\"; sleep 1000 & sleep 1000";
    let handlers = bench.start(HandlerConfig { at_most: 1, ..bench.handler(script) });
    (0..3).for_each(|number| bench.nodeup(number));
    until("the start", || bench.read("pid").ends_with('\n')).await;
    let stats = handlers.stats();
    timeout(LONG, handlers.stop()).await.expect("stopped in time");
    assert_eq!(stats.counts(), Counts { started: 1, stopped: 1, overflowed: 2, ..Counts::default() });
    until("the end of the group", || group_is_gone(&bench)).await;
}

#[tokio::test]
async fn a_failure_is_told_with_its_status_and_first_words() {
    let bench = Bench::new();
    // A megabyte of it, to a pipe that holds 64 KiB, and not a byte of the input read.
    let script = "echo >&2; echo 'no route to pager' >&2; head -c 1000000 /dev/zero >&2; exit 3";
    let stats = bench.run(bench.handler(script), 1).await;
    assert_eq!(stats.counts(), Counts { started: 1, failed: 1, ..Counts::default() });
    assert_eq!(
        stats.last_failure().as_deref(),
        Some("the handler sh ended with status 3 (event 1); it said: no route to pager")
    );
}

#[tokio::test]
async fn a_command_that_cannot_start_is_a_failure() {
    let bench = Bench::new();
    let handler = HandlerConfig { command: vec!["/nowhere/page".to_owned()], ..bench.handler("") };
    let stats = bench.run(handler, 2).await;
    assert_eq!(stats.counts(), Counts { started: 2, failed: 2, ..Counts::default() });
    let line = stats.last_failure().expect("a failure");
    assert!(line.starts_with("the handler /nowhere/page could not start: No such file"), "{line}");
}

#[tokio::test]
async fn something_left_behind_that_holds_the_standard_error_delays_nothing() {
    let bench = Bench::new();
    // It ends when the folder goes, at the end of this test.
    let script = "(while [ -d \"$0\" ]; do sleep 0.05; done) & echo left >&2; exit 1";
    let stats = bench.run(bench.handler(script), 1).await;
    assert!(stats.last_failure().is_some_and(|line| line.ends_with("it said: left")));
}

#[tokio::test]
async fn what_the_queue_cannot_hold_is_counted() {
    let bench = Bench::new();
    let script = "echo \"$METACLUSTER_SEQ\" >> \"$0/out\"; until [ -e \"$0/go\" ]; do sleep 0.01; done";
    let handlers = bench.start(HandlerConfig { at_most: 1, ..bench.handler(script) });
    bench.nodeup(0);
    until("the first start", || !bench.read("out").is_empty()).await;
    // One runs, `QUEUE_MAX` wait, and the oldest five of those gave way.
    (1..=QUEUE_MAX + 5).for_each(|number| bench.nodeup(number));
    let stats = handlers.stats();
    until("the overflow", || stats.counts().overflowed == 5).await;
    // The one after the first that runs is the oldest that is left: 2 to 6 are gone.
    fs::write(bench.path("go"), "").expect("written");
    until("the second start", || bench.read("out").lines().count() >= 2).await;
    assert_eq!(bench.read("out").lines().nth(1), Some("7"));
    handlers.stop().await;
}

#[tokio::test]
async fn one_handler_that_hangs_does_not_hold_up_another() {
    let bench = Bench::new();
    let stuck = HandlerConfig { at_most: 1, ..bench.handler("sleep 1000") };
    let quick = bench.handler("echo x >> \"$0/out\"");
    let handlers = Handlers::start(&[stuck, quick], &bench.log, &bench.path("agent.sock"), &Panel::new(&[]).0);
    (0..3).for_each(|number| bench.nodeup(number));
    until("the quick one's runs", || bench.read("out").lines().count() == 3).await;
    handlers.stop().await;
}

#[test]
fn lines_of_the_log_are_bounded_and_what_is_left_out_is_counted() {
    let mut lines = Lines::default();
    let start = Instant::now();
    assert_eq!((0..25).filter(|_| lines.allow(start).is_some()).count(), 10);
    assert_eq!(lines.allow(start + Duration::from_secs(60)), Some(15));
    assert_eq!(lines.allow(start + Duration::from_secs(61)), Some(0));
}

#[test]
fn a_success_is_not_worth_a_line() {
    assert_eq!(failure_line(&["x".to_owned()], 1, &Outcome::Succeeded), None);
    assert_eq!(
        failure_line(&["x".to_owned()], 9, &Outcome::Stopped).as_deref(),
        Some("the handler x was killed, since the agent stops (event 9)")
    );
}

#[tokio::test]
async fn what_a_program_writes_is_its_answer_to_a_query_and_failure_is_none() {
    let bench = Bench::new();
    let asks = |script: &str, name: &str| HandlerConfig {
        on: BTreeSet::new(),
        named: vec![(EventKind::Query, Pattern::new(name))],
        ..bench.handler(script)
    };
    let handlers = [
        asks("echo \"load $METACLUSTER_NAME of $METACLUSTER_MEMBER: $(cat)\"", "load"),
        asks("echo never; exit 1", "fails"),
        asks("head -c 20000 /dev/zero", "long"),
        asks("true", "empty"),
        // An event of another kind with that name asks for no answer.
        HandlerConfig { named: vec![(EventKind::User, Pattern::new("load"))], ..asks("echo told >> \"$0/told\"", "") },
    ];
    let (panel, mut said) = Panel::new(&handlers);
    let mut running = Handlers::start(&handlers, &bench.log, &bench.path("agent.sock"), &panel);
    for (query, name) in [(1, "load"), (2, "fails"), (3, "long"), (4, "empty")] {
        assert!(panel.open(query, name), "{name}");
        let of = Said { name: name.to_owned(), payload: b"now".to_vec(), from: AgentId(1), query: Some(query) };
        bench.log.publish(EventKind::Query, Subject::said("h1".to_owned(), of), None, None).expect("published");
    }
    let of = Said { name: "load".to_owned(), payload: Vec::new(), from: AgentId(1), query: None };
    bench.log.publish(EventKind::User, Subject::said("h1".to_owned(), of), None, None).expect("published");
    bench.log.close();
    timeout(LONG, running.finish()).await.expect("handled in time");
    let mut answers = BTreeMap::new();
    while let Ok(answer) = said.try_recv() {
        assert!(answers.insert(answer.query, answer.payload).is_none(), "one answer a query");
    }
    let load = b"load load of h1: now\n".to_vec();
    assert_eq!(answers.remove(&1), Some(Some(load)));
    assert_eq!((answers.remove(&2), answers.remove(&3)), (Some(None), Some(None)), "no answer, and said so at once");
    assert_eq!(answers.remove(&4), Some(Some(Vec::new())), "an empty answer is one");
    assert_eq!(bench.read("told"), "told\n");
}
