//! The binary as its callers meet it, as far as no agent runs: usage, exit codes, refusals, what it prints where.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// A folder of the test's own, which goes with it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("written");
        path
    }

    /// A cookie that only its owner may read.
    fn cookie(&self) -> PathBuf {
        let path = self.file("cookie", "a-cookie-for-the-tests");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o400)).expect("permissions");
        path
    }
}

/// The binary, with nothing of the surroundings but the path.
fn metacluster() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_metacluster"));
    command.env_clear().stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    metacluster().args(arguments).output().expect("it runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[track_caller]
fn assert_ended(output: &Output, code: i32) {
    assert_eq!(
        output.status.code(),
        Some(code),
        "standard output:\n{}\nstandard error:\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

#[test]
fn without_a_command_the_help_is_printed_and_the_usage_is_wrong() {
    let output = run(&[]);
    assert_ended(&output, 2);
    let help = text(&output.stderr);
    for command in ["demo", "up", "agent", "check-config", "nodes", "topologies", "events", "wait", "discover"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is missing in:\n{help}");
    }
    assert_ended(&run(&["--help"]), 0);
    assert_ended(&run(&["--version"]), 0);
}

#[test]
fn what_belongs_to_later_releases_is_not_listed() {
    let output = run(&["--help"]);
    let help = text(&output.stdout);
    for command in ["doctor", "man", "clusters", "demo-node"] {
        assert!(!help.contains(&format!("\n  {command} ")), "{command} is listed in:\n{help}");
    }
}

#[test]
fn a_mistyped_command_or_flag_gives_the_nearest() {
    for (arguments, nearest) in [
        (&["nodse"][..], "nodes"),
        (&["topologie"], "topologies"),
        (&["nodes", "--jsn"], "--json"),
        (&["up", "--zoen", "a"], "--zone"),
    ] {
        let output = run(arguments);
        assert_ended(&output, 2);
        let error = text(&output.stderr);
        assert!(error.contains(nearest), "{arguments:?} should name {nearest}:\n{error}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_value_that_cannot_be_is_wrong_usage() {
    for arguments in [
        &["wait"][..],
        &["wait", "--nodes", "0"],
        &["wait", "--nodes", "3", "--timeout", "soon"],
        &["demo", "--zones", "0"],
        &["demo", "--zones", "5", "--nodes", "3"],
        &["demo", "--nodes", "1"],
        &["completions", "tcsh"],
        &["topology", "--json", "--svg", "x"],
        &["events", "--since", "x"],
        &["up", "--topology", "port=1"],
        &["up", "--epmd", "mine"],
    ] {
        let output = run(arguments);
        assert_ended(&output, 2);
        assert!(!output.stderr.is_empty(), "{arguments:?} says nothing");
    }
}

#[test]
fn without_an_agent_each_command_that_asks_one_says_so() {
    let folder = Folder::new();
    let socket = folder.path("none.sock");
    let socket = socket.to_str().expect("text");
    for arguments in [
        &["nodes"][..],
        &["nodes", "--json"],
        &["topologies"],
        &["events"],
        &["topology"],
        &["leave"],
        &["wait", "--nodes", "1", "--timeout", "10ms"],
    ] {
        let output = run(&[arguments, &["--socket", socket]].concat());
        assert_ended(&output, 69);
        let error = text(&output.stderr);
        assert_eq!(error.lines().count(), 1, "one line:\n{error}");
        assert!(error.starts_with("error: no agent") && error.contains(socket), "{error}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn the_socket_comes_from_the_flag_or_from_the_surroundings() {
    let folder = Folder::new();
    let said = |variables: &[(&str, &Path)]| {
        let output = metacluster().arg("nodes").envs(variables.iter().copied()).output().expect("it runs");
        assert_ended(&output, 69);
        text(&output.stderr).to_owned()
    };
    let (socket, state) = (folder.path("here.sock"), folder.path("state"));
    let path = |path: &Path| path.display().to_string();
    assert!(said(&[("METACLUSTER_SOCKET", &socket)]).contains(&path(&socket)));
    assert!(said(&[("METACLUSTER_STATE_DIR", &state)]).contains(&path(&state.join("metacluster.sock"))));
    let both = [("METACLUSTER_SOCKET", socket.as_path()), ("METACLUSTER_STATE_DIR", state.as_path())];
    assert!(said(&both).contains(&path(&socket)));
}

#[test]
fn a_socket_that_nobody_serves_or_that_is_no_agent_is_no_agent() {
    let folder = Folder::new();
    let stale = folder.path("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("bound"));
    let output = run(&["nodes", "--socket", stale.to_str().expect("text")]);
    assert_ended(&output, 69);

    let other = folder.path("other.sock");
    let listener = std::os::unix::net::UnixListener::bind(&other).expect("bound");
    let greeter = std::thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = listener.accept().expect("accepted");
        stream.write_all(b"220 mail.example ESMTP\r\n").expect("written");
        stream
    });
    let output = run(&["nodes", "--socket", other.to_str().expect("text")]);
    drop(greeter.join().expect("served"));
    assert_ended(&output, 69);
    assert!(text(&output.stderr).contains("is no agent"), "{}", text(&output.stderr));
}

#[test]
fn check_config_tells_every_fault_at_once_with_its_line() {
    let folder = Folder::new();
    let cookie = folder.cookie();
    let file = folder.file(
        "bad.toml",
        &format!(
            "claster = \"main\"\n\
             cookie_file = \"{}\"\n\
             [epmd]\n\
             mode = \"mine\"\n\
             port = 70000\n\
             [[topology]]\n\
             strategy = \"statik\"\n\
             [[handler]]\n\
             on = [\"nodedwn\"]\n\
             command = []\n",
            cookie.display()
        ),
    );
    let output = run(&["check-config", file.to_str().expect("text")]);
    assert_ended(&output, 64);
    let error = text(&output.stderr);
    for (line, nearest) in [(1, "cluster"), (4, "own"), (5, "65535"), (7, "static"), (9, "nodedown"), (10, "")] {
        let place = format!("{}:{line}: ", file.display());
        let fault = error.lines().find(|fault| fault.starts_with(&place));
        assert!(fault.is_some_and(|fault| fault.contains(nearest)), "no fault of line {line} in:\n{error}");
    }
    assert!(output.stdout.is_empty());
}

#[test]
fn check_config_sums_a_good_file_up() {
    let folder = Folder::new();
    let file = folder.file(
        "good.toml",
        &format!(
            "cluster = \"shop\"\nzone = \"east\"\ncookie_file = \"{}\"\nstate_dir = \"{}\"\n\
             [[topology]]\nname = \"fixed\"\nstrategy = \"static\"\nnodes = [\"a@10.0.0.1\"]\n",
            folder.cookie().display(),
            folder.path("state").display()
        ),
    );
    let output = run(&["check-config", file.to_str().expect("text")]);
    assert_ended(&output, 0);
    let says = text(&output.stdout);
    assert!(says.contains("good") && says.contains("cluster shop") && says.contains("fixed (static)"), "{says}");
    assert!(!folder.path("state").exists(), "nothing is made");
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_a_bad_configuration() {
    let folder = Folder::new();
    let missing = folder.path("missing.toml");
    let broken = folder.file("broken.toml", "cluster = \n");
    for (command, file) in
        [("check-config", &missing), ("check-config", &broken)].into_iter().chain([("agent", &missing)])
    {
        let file = file.to_str().expect("text");
        let arguments = if command == "agent" { vec![command, "--config", file] } else { vec![command, file] };
        let output = run(&arguments);
        assert_ended(&output, 64);
        assert!(text(&output.stderr).contains(file), "{}", text(&output.stderr));
    }
}

#[test]
fn discover_prints_a_candidate_a_line() {
    for arguments in [
        &["discover", "static", "nodes=b@10.0.0.2,a@10.0.0.1"][..],
        &["discover", "static:nodes=b@10.0.0.2,a@10.0.0.1"],
    ] {
        let output = run(arguments);
        assert_ended(&output, 0);
        assert_eq!(text(&output.stdout), "a@10.0.0.1\nb@10.0.0.2\n");
    }
    let output = run(&["discover", "static", "nodes=a@10.0.0.1", "--json"]);
    assert_ended(&output, 0);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["version"], 1);
    assert_eq!(answer["candidates"][0]["node"], "a@10.0.0.1");
}

#[test]
fn discover_refuses_what_is_no_strategy_or_no_setting() {
    for (arguments, says) in [
        (&["discover", "statik", "nodes=a@h"][..], "static"),
        (&["discover", "static", "nods=a@h"], "nodes"),
        (&["discover", "static"], "nodes"),
        (&["discover", "static", "nodes"], "key=value"),
    ] {
        let output = run(arguments);
        assert_ended(&output, 2);
        assert!(text(&output.stderr).contains(says), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completions", shell]);
        assert_ended(&output, 0);
        let script = text(&output.stdout);
        assert!(script.contains("check-config") && script.contains("topologies"), "{shell}");
        assert!(!script.contains("demo-node"), "{shell} completes what is not listed");
    }
}

#[test]
fn version_is_for_people_and_for_programs() {
    let output = run(&["version"]);
    assert_ended(&output, 0);
    assert_eq!(text(&output.stdout), format!("metacluster {}\n", env!("CARGO_PKG_VERSION")));
    let output = run(&["version", "--json"]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&answer["version"], &answer["release"]), (&1.into(), &env!("CARGO_PKG_VERSION").into()));
}

#[test]
fn a_closed_pipe_is_success() {
    for arguments in [&["completions", "zsh"][..], &["--help"], &["version"], &["discover", "static:nodes=a@h"]] {
        // The reader goes before anything is written.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = metacluster().args(arguments).stdout(writer).stderr(Stdio::piped()).output().expect("it runs");
        assert_ended(&output, 0);
        assert!(output.stderr.is_empty(), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let output = metacluster().arg("version").stdout(full).stderr(Stdio::piped()).output().expect("it runs");
    assert_ended(&output, 1);
    assert!(text(&output.stderr).contains("cannot write"), "{}", text(&output.stderr));
}

#[test]
fn there_is_no_colour_without_a_terminal() {
    let mut child = metacluster()
        .args(["nodse"])
        .env("TERM", "xterm-256color")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut error = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut error).expect("read");
    child.wait().expect("ended");
    assert!(!error.contains('\x1b'), "{error:?}");
}
