//! The demo, as its callers meet it: it forms, loses a node and heals, and however it ends it leaves nothing.
#![cfg(target_os = "linux")]

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use metacluster_testbed::{Tool, require};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long the machine may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A demo in a folder of the test's own, by which all that it starts can be told.
struct Demo {
    folder: tempfile::TempDir,
}

impl Demo {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn command(&self, arguments: &[&str], path: Option<&Path>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_metacluster"));
        command.arg("demo").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("TMPDIR", self.folder.path());
        if let Some(path) = path {
            command.env("PATH", path);
        }
        command
    }

    /// A path on which there is no `erl`.
    fn empty_path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Every process whose command line or surroundings name the folder.
    fn processes(&self) -> BTreeSet<u32> {
        let folder = self.folder.path().as_os_str().as_encoded_bytes();
        let names_it =
            |file: PathBuf| fs::read(file).is_ok_and(|text| text.windows(folder.len()).any(|window| window == folder));
        fs::read_dir("/proc")
            .expect("Linux has it")
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| *pid != std::process::id())
            .filter(|pid| {
                names_it(format!("/proc/{pid}/cmdline").into()) || names_it(format!("/proc/{pid}/environ").into())
            })
            .collect()
    }

    /// Fails when a process is left after a while.
    #[track_caller]
    fn assert_nothing_runs(&self) {
        let until = Instant::now() + PATIENCE;
        while !self.processes().is_empty() {
            assert!(Instant::now() < until, "left running: {:?}", self.processes());
            std::thread::yield_now();
        }
    }

    #[track_caller]
    fn assert_folder_is_empty(&self) {
        let left: Vec<PathBuf> =
            fs::read_dir(self.folder.path()).expect("read").flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

/// Reads until a line has the words.
#[track_caller]
fn read_until(child: &mut Child, words: &str) -> BufReader<ChildStdout> {
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut seen = String::new();
    loop {
        let from = seen.len();
        if output.read_line(&mut seen).expect("text") == 0 {
            panic!("ended before `{words}`:\n{seen}");
        }
        if seen[from..].contains(words) {
            return output;
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), signal).expect("sent");
}

#[track_caller]
fn assert_plays(demo: &Demo, mut command: Command) {
    let output = command.output().expect("it runs");
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{error}", output.status);
    for words in
        ["registered", "full mesh: 6 links", "4 of 4 nodes up", "kill -9 a2@", "nodedown told by all zones", "healed"]
    {
        assert!(out.contains(words), "`{words}` is missing in:\n{out}\n{error}");
    }
    assert!(!out.contains('\x1b'), "colour without a terminal:\n{out}");
    demo.assert_nothing_runs();
    demo.assert_folder_is_empty();
}

#[test]
fn a_cluster_of_erlang_nodes_forms_loses_one_and_heals() {
    if !require(&[Tool::Erl]) {
        return;
    }
    let demo = Demo::new();
    assert_plays(&demo, demo.command(&["--zones", "2", "--nodes", "4", "--exit"], None));
}

#[test]
fn without_erl_it_says_so_and_uses_nodes_of_its_own() {
    let demo = Demo::new();
    assert_plays(&demo, demo.command(&["--zones", "2", "--nodes", "4", "--exit"], Some(&demo.empty_path())));
    let output = demo.command(&["--zones", "1", "--nodes", "2", "--exit"], Some(&demo.empty_path())).output();
    let out = output.expect("it runs").stdout;
    assert!(String::from_utf8_lossy(&out).contains("no `erl` on the PATH"));
}

#[test]
fn an_interrupt_leaves_nothing() {
    let demo = Demo::new();
    // While it forms.
    let mut child = demo.command(&["--zones", "2", "--nodes", "4"], Some(&demo.empty_path())).spawn().expect("it runs");
    let output = read_until(&mut child, "agents up");
    signal(&child, Signal::SIGINT);
    assert_eq!(child.wait().expect("ended").code(), Some(1));
    demo.assert_nothing_runs();
    demo.assert_folder_is_empty();
    drop(output);
    // While it stays.
    let mut child = demo.command(&["--zones", "2", "--nodes", "4"], Some(&demo.empty_path())).spawn().expect("it runs");
    let output = read_until(&mut child, "Ctrl-C");
    signal(&child, Signal::SIGINT);
    assert_eq!(child.wait().expect("ended").code(), Some(0));
    demo.assert_nothing_runs();
    demo.assert_folder_is_empty();
    drop(output);
}

#[test]
fn a_demo_that_is_killed_takes_its_programs_along() {
    let demo = Demo::new();
    let mut child = demo.command(&["--zones", "2", "--nodes", "4"], Some(&demo.empty_path())).spawn().expect("it runs");
    let output = read_until(&mut child, "Ctrl-C");
    assert!(demo.processes().len() >= 7, "the demo, two agents, four nodes: {:?}", demo.processes());
    child.kill().expect("killed");
    child.wait().expect("ended");
    demo.assert_nothing_runs();
    drop(output);
    // What it could not remove, the next one does.
    let output = demo.command(&["--zones", "1", "--nodes", "2", "--exit"], Some(&demo.empty_path())).output();
    assert!(output.expect("it runs").status.success());
    demo.assert_folder_is_empty();
}

#[test]
fn a_demo_stays_until_it_is_told_to_end_and_its_agents_answer() {
    let demo = Demo::new();
    let mut child = demo.command(&["--zones", "3", "--nodes", "3"], Some(&demo.empty_path())).spawn().expect("it runs");
    let output = read_until(&mut child, "Ctrl-C");
    let folder = fs::read_dir(demo.folder.path()).expect("read").flatten().next().expect("the demo's folder").path();
    let socket = folder.join("b/metacluster.sock");
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_metacluster"));
        let output = command.args(arguments).arg("--socket").arg(&socket).output().expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(ask(&["wait", "--nodes", "3", "--timeout", "30s"]).contains("3 nodes up and linked"));
    assert!(ask(&["nodes"]).contains("3 of 3 nodes up"));
    assert!(ask(&["topologies"]).contains("gossip"));
    assert!(ask(&["topology"]).contains("a1@"));
    let events = ask(&["events", "--json"]);
    let told = |kind: &str| {
        events
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
            .filter(|event| {
                event["event"] == kind && event["node"].as_str().is_some_and(|node| node.starts_with("a1@"))
            })
            .count()
    };
    assert_eq!((told("nodeup"), told("nodedown")), (2, 1), "{events}");
    signal(&child, Signal::SIGTERM);
    assert!(child.wait().expect("ended").success());
    demo.assert_nothing_runs();
    drop(output);
}
