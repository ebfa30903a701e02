//! Each rule of the checker, shown to bite on an output that breaks it.

use metacluster_formation::{Counters, DialError, DropHow, Input, Note, Output, Settings, TopologyRules};
use metacluster_types::{AgentId, Candidate, NodeName, SourceUpdate, TopologyName};

use super::*;

struct Bench {
    checker: Checker,
    now: Instant,
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a name")
}

fn topology() -> TopologyName {
    TopologyName::new("t").expect("a name")
}

fn dial(local: &str, peer: &str) -> Output {
    Output::Dial { local: node(local), peer: node(peer) }
}

impl Bench {
    /// `l@h0` and `m@h0` are ready and topology `t` has them and `a0@h1` to `a99@h1`.
    fn new(prune: bool) -> Self {
        let mut it = Self { checker: Checker::new(Settings::default()), now: Instant::ZERO };
        it.tell(Input::TopologyAdded { name: topology(), rules: TopologyRules { prune, ..TopologyRules::default() } });
        for local in ["l@h0", "m@h0"] {
            it.tell(Input::LocalReady { node: node(local) });
        }
        let names = (0..100).map(|count| format!("a{count}@h1")).chain(["l@h0".to_owned(), "m@h0".to_owned()]);
        let candidates: Vec<Candidate> = names.map(|name| Candidate::new(node(&name))).collect();
        it.source(SourceUpdate::Snapshot(candidates.clone()));
        for candidate in candidates {
            assert_eq!(it.put(Output::CandidateFound { topology: topology(), candidate }), Ok(()));
        }
        it
    }

    fn tell(&mut self, input: Input) {
        self.checker.on_input(&input);
    }

    fn source(&mut self, update: SourceUpdate) {
        self.tell(Input::Source { topology: topology(), update });
    }

    fn put(&mut self, output: Output) -> Result<(), Violation> {
        self.checker.on_output(self.now, &output)
    }

    fn lose(&mut self, name: &str) -> Result<(), Violation> {
        self.put(Output::CandidateLost { topology: topology(), node: node(name) })
    }

    fn drop_of(&mut self, local: &str, peer: &str, how: DropHow) -> Result<(), Violation> {
        self.put(Output::Drop { local: node(local), peer: node(peer), how })
    }

    fn answer(&mut self, local: &str, peer: &str) {
        let outcome = Err(DialError::Unreachable("no answer".to_owned()));
        self.tell(Input::Dialled { local: node(local), peer: node(peer), outcome });
    }
}

#[test]
fn a_dial_to_self_is_caught() {
    assert_eq!(Bench::new(false).put(dial("l@h0", "l@h0")), Err(Violation::SelfDial(node("l@h0"))));
}

#[test]
fn a_dial_that_no_topology_wants_is_caught() {
    let caught = |bench: &mut Bench, local: &str, peer: &str| {
        let violation = Violation::UnwantedDial { local: node(local), peer: node(peer) };
        assert_eq!(bench.put(dial(local, peer)), Err(violation));
    };
    let mut bench = Bench::new(false);
    caught(&mut bench, "l@h0", "stranger@h1");
    caught(&mut bench, "notready@h0", "a0@h1");
    bench.source(SourceUpdate::Lost(node("a0@h1")));
    assert_eq!(bench.put(dial("l@h0", "a0@h1")), Ok(()), "until the machine lets go of it");
    assert_eq!(bench.lose("a0@h1"), Ok(()));
    caught(&mut bench, "m@h0", "a0@h1");
    bench.tell(Input::LocalGone { node: node("l@h0") });
    caught(&mut bench, "l@h0", "a1@h1");
}

#[test]
fn a_dial_of_a_name_of_the_other_form_is_caught() {
    let mut bench = Bench::new(false);
    let candidate = Candidate::new(node("long@10.0.0.1"));
    bench.source(SourceUpdate::Found(candidate.clone()));
    assert_eq!(bench.put(Output::CandidateFound { topology: topology(), candidate }), Ok(()));
    assert!(matches!(bench.put(dial("l@h0", "long@10.0.0.1")), Err(Violation::UnwantedDial { .. })));
}

#[test]
fn a_second_dial_of_a_pair_is_caught_in_either_direction() {
    let mut bench = Bench::new(false);
    assert_eq!(bench.put(dial("l@h0", "m@h0")), Ok(()));
    assert!(matches!(bench.put(dial("m@h0", "l@h0")), Err(Violation::SecondDial { .. })));
}

#[test]
fn a_dial_after_the_answer_or_after_it_was_given_up_is_no_second_one() {
    let mut bench = Bench::new(false);
    assert_eq!(bench.put(dial("l@h0", "a0@h1")), Ok(()));
    bench.answer("l@h0", "a0@h1");
    assert_eq!(bench.put(dial("l@h0", "a0@h1")), Ok(()));
    bench.now = bench.now + Settings::default().dial_timeout;
    assert_eq!(bench.put(dial("l@h0", "a0@h1")), Ok(()));
}

#[test]
fn too_many_dials_in_flight_are_caught() {
    let mut bench = Bench::new(false);
    for count in 0..16 {
        assert_eq!(bench.put(dial("l@h0", &format!("a{count}@h1"))), Ok(()));
    }
    assert_eq!(bench.put(dial("l@h0", "a16@h1")), Err(Violation::TooManyInFlight { dials: 17, max: 16 }));
}

#[test]
fn a_dial_storm_is_caught() {
    let mut bench = Bench::new(false);
    let mut storm = Ok(());
    for count in 0..200 {
        let peer = format!("a{}@h1", count % 100);
        storm = bench.put(dial("l@h0", &peer));
        if storm.is_err() {
            break;
        }
        bench.answer("l@h0", &peer);
        bench.now = bench.now + Duration::from_millis(1);
    }
    assert_eq!(storm, Err(Violation::DialStorm { dials: 115, max: 114 }));
}

#[test]
fn a_drop_without_pruning_is_caught() {
    let why = |result: Result<(), Violation>| match result {
        Err(Violation::UnwarrantedDrop { why, .. }) => why,
        other => panic!("not caught: {other:?}"),
    };
    let mut bench = Bench::new(true);
    assert_eq!(why(bench.drop_of("l@h0", "a0@h1", DropHow::Disconnect)), "a topology has it");
    bench.source(SourceUpdate::Lost(node("a0@h1")));
    assert_eq!(bench.lose("a0@h1"), Ok(()));
    assert_eq!(why(bench.drop_of("l@h0", "a0@h1", DropHow::Disconnect)), "no check found it dead");
    bench.tell(Input::PeerChecked { peer: node("a0@h1"), alive: true });
    assert_eq!(why(bench.drop_of("l@h0", "a0@h1", DropHow::Disconnect)), "no check found it dead");
    bench.tell(Input::PeerChecked { peer: node("a0@h1"), alive: false });
    assert_eq!(bench.drop_of("l@h0", "a0@h1", DropHow::Disconnect), Ok(()));
    assert_eq!(why(bench.drop_of("l@h0", "a0@h1", DropHow::LeaveMesh)), "only a local node leaves");
    bench.source(SourceUpdate::Lost(node("m@h0")));
    assert_eq!(bench.lose("m@h0"), Ok(()));
    assert_eq!(why(bench.drop_of("l@h0", "m@h0", DropHow::Disconnect)), "a local node leaves by itself");
    assert_eq!(bench.drop_of("m@h0", "m@h0", DropHow::LeaveMesh), Ok(()));
}

#[test]
fn a_drop_of_a_peer_that_a_topology_keeps_is_caught() {
    let mut bench = Bench::new(false);
    bench.source(SourceUpdate::Lost(node("a0@h1")));
    assert_eq!(bench.lose("a0@h1"), Ok(()));
    bench.tell(Input::PeerChecked { peer: node("a0@h1"), alive: false });
    assert!(matches!(
        bench.drop_of("l@h0", "a0@h1", DropHow::Disconnect),
        Err(Violation::UnwarrantedDrop { why: "a topology that had it never prunes", .. })
    ));
}

#[test]
fn a_drop_on_a_failed_host_without_a_silent_check_is_caught() {
    let why = |result: Result<(), Violation>| match result {
        Err(Violation::UnwarrantedDrop { why, .. }) => why,
        other => panic!("not caught: {other:?}"),
    };
    let failed = |agent, names: [&str; 2], witnesses| Input::HostFailed {
        agent: AgentId(agent),
        nodes: names.map(node).to_vec(),
        witnesses,
    };
    let mut bench = Bench::new(false);
    bench.tell(failed(1, ["a0@h1", "a1@h1"], 2));
    assert_eq!(why(bench.drop_of("l@h0", "a0@h1", DropHow::Disconnect)), "no check found it dead");
    bench.tell(Input::PeerChecked { peer: node("a0@h1"), alive: false });
    assert_eq!(bench.drop_of("l@h0", "a0@h1", DropHow::Disconnect), Ok(()));
    bench.tell(Input::PeerChecked { peer: node("a1@h1"), alive: true });
    assert_eq!(why(bench.drop_of("l@h0", "a0@h1", DropHow::Disconnect)), "its host answers");
    assert_eq!(why(bench.drop_of("l@h0", "a0@h1", DropHow::LeaveMesh)), "a local node leaves by itself");
    bench.tell(failed(2, ["a2@h1", "a3@h1"], 0));
    bench.tell(Input::PeerChecked { peer: node("a2@h1"), alive: false });
    let alone = "nobody confirms it, and another host answers";
    assert_eq!(why(bench.drop_of("l@h0", "a2@h1", DropHow::Disconnect)), alone);
    bench.tell(Input::HostForgotten { agent: AgentId(1) });
    assert_eq!(bench.drop_of("l@h0", "a2@h1", DropHow::Disconnect), Ok(()));
    bench.tell(Input::HostAlive { agent: AgentId(2), nodes: Vec::new() });
    assert_eq!(why(bench.drop_of("l@h0", "a2@h1", DropHow::Disconnect)), "a topology has it");
}

#[test]
fn a_candidate_lost_to_a_failed_look_up_is_caught() {
    let mut bench = Bench::new(false);
    bench.source(SourceUpdate::Failed("no route".to_owned()));
    let violation = Violation::FalseLost { topology: topology(), node: node("a0@h1") };
    assert_eq!(bench.lose("a0@h1"), Err(violation));
}

#[test]
fn a_candidate_from_nowhere_or_found_twice_is_caught() {
    let mut bench = Bench::new(false);
    for name in ["stranger@h1", "a0@h1"] {
        let candidate = Candidate::new(node(name));
        let found = bench.put(Output::CandidateFound { topology: topology(), candidate });
        assert!(matches!(found, Err(Violation::FalseFound { .. })), "{name}");
    }
}

#[test]
fn a_needless_line_in_the_log_is_caught() {
    let mut bench = Bench::new(false);
    let failing = || {
        Output::Note(Note::PeerFailing {
            peer: node("a0@h1"),
            topologies: vec![topology()],
            error: DialError::NoAnswer,
        })
    };
    assert_eq!(bench.put(failing()), Ok(()));
    assert!(matches!(bench.put(failing()), Err(Violation::NeedlessNote(_))));
    let recovered =
        || Output::Note(Note::PeerRecovered { peer: node("a0@h1"), after: Duration::from_secs(1), attempts: 2 });
    assert_eq!(bench.put(recovered()), Ok(()));
    assert!(matches!(bench.put(recovered()), Err(Violation::NeedlessNote(_))));
    let summary = || Output::Note(Note::Summary { failing: 1, names: vec![node("a0@h1")] });
    assert_eq!(bench.put(summary()), Ok(()));
    bench.now = bench.now + Duration::from_secs(59);
    assert!(matches!(bench.put(summary()), Err(Violation::NeedlessNote(_))));
}

#[test]
fn a_machine_that_is_never_done_is_caught() {
    let bench = Bench::new(false);
    assert_eq!(bench.checker.on_drained(bench.now, Some(bench.now)), Err(Violation::Livelock(bench.now)));
    assert_eq!(bench.checker.on_drained(bench.now, Some(bench.now + Duration::from_nanos(1))), Ok(()));
}

#[test]
fn a_machine_that_hoards_is_caught() {
    let bench = Bench::new(false);
    let sound = Counters { nodes: 102, pairs: 201, ..Counters::default() };
    assert_eq!(bench.checker.on_sizes(sound), Ok(()));
    for hoard in
        [Counters { nodes: 1_000, ..sound }, Counters { pairs: 1_000, ..sound }, Counters { queued: 10_000, ..sound }]
    {
        assert!(matches!(bench.checker.on_sizes(hoard), Err(Violation::Memory { .. })), "{hoard:?}");
    }
}
