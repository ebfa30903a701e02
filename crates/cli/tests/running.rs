//! `up` and `agent` as a service manager meets them: what they say when they start, how they end, how they refuse.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use metacluster_testbed::free_port;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long the machine may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A place for one agent: folder, cookie, epmd port.
struct Place {
    folder: tempfile::TempDir,
    epmd_port: u16,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let cookie = folder.path().join("cookie");
        fs::write(&cookie, "a-cookie-for-the-tests").expect("written");
        fs::set_permissions(&cookie, std::os::unix::fs::PermissionsExt::from_mode(0o400)).expect("permissions");
        Self { folder, epmd_port: free_port().expect("a port") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn metacluster(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_metacluster"));
        command.env_clear().args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn up(&self, more: &[&str]) -> Command {
        let mut command = self.metacluster(&["up", "--topology", "static:nodes=far@127.0.0.1", "--http", "off"]);
        command.args(["--epmd-port", &self.epmd_port.to_string()]).args(more);
        command.arg("--cookie-file").arg(self.path("cookie")).arg("--state-dir").arg(self.path("state"));
        command
    }
}

/// An agent that has said that it is up. It is killed with its value.
struct Up {
    child: Child,
    block: String,
}

impl Up {
    #[track_caller]
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("it runs");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut block = String::new();
        while !block.contains("\n  http ") {
            assert_ne!(lines.read_line(&mut block).expect("text"), 0, "ended before it was up:\n{block}");
        }
        // Nobody may block on a full pipe.
        std::thread::spawn(move || drop(lines.read_to_end(&mut Vec::new())));
        Self { child, block }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")), signal).expect("sent");
    }

    #[track_caller]
    fn assert_ends(mut self) {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("its own child") {
                assert!(status.success(), "{status}");
                return;
            }
            assert!(Instant::now() < until, "it goes on");
            std::thread::yield_now();
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn the_first_lines_tell_what_runs_where_and_a_signal_ends_it_in_order() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let place = Place::new();
        let up = Up::start(place.up(&["--zone", "east", "--host", "127.0.0.1", "--cluster", "shop"]));
        for words in [
            "is up\n".to_owned(),
            "metacluster@127.0.0.1 (cluster shop, zone east)".to_owned(),
            format!("this agent, port {}", place.epmd_port),
            "topologies static".to_owned(),
            place.path("state/metacluster.sock").display().to_string(),
            "http       off".to_owned(),
        ] {
            assert!(up.block.contains(&words), "`{words}` is missing in:\n{}", up.block);
        }
        up.signal(signal);
        up.assert_ends();
        assert!(!place.path("state/metacluster.sock").exists(), "the socket is left");
    }
}

#[test]
fn leave_ends_it_and_waits_until_it_has_ended() {
    let place = Place::new();
    let up = Up::start(place.up(&[]));
    let leave = |place: &Place| {
        place.metacluster(&["leave"]).env("METACLUSTER_STATE_DIR", place.path("state")).output().expect("it runs")
    };
    let output = leave(&place);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    up.assert_ends();
    assert_eq!(leave(&place).status.code(), Some(69));
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let place = Place::new();
    let socket = UnixDatagram::bind(place.path("notify")).expect("bound");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    let next = || {
        let mut buffer = [0; 64];
        let size = socket.recv(&mut buffer).expect("a datagram");
        String::from_utf8_lossy(&buffer[..size]).into_owned()
    };
    let mut command = place.up(&[]);
    command.env("NOTIFY_SOCKET", place.path("notify"));
    let up = Up::start(command);
    assert_eq!(next(), "READY=1\n");
    up.signal(Signal::SIGTERM);
    assert_eq!(next(), "STOPPING=1\n");
    up.assert_ends();
}

#[test]
fn an_agent_from_a_file_ends_with_its_input_when_it_is_told_to() {
    let place = Place::new();
    let file = place.path("agent.toml");
    let text = format!(
        "cookie_file = \"{}\"\nstate_dir = \"{}\"\n[epmd]\nport = {}\n[api]\nhttp = \"off\"\n",
        place.path("cookie").display(),
        place.path("state").display(),
        place.epmd_port
    );
    fs::write(&file, text).expect("written");
    let mut command = place.metacluster(&["agent", "--until-input-ends", "--config"]);
    command.arg(&file).stdin(Stdio::piped());
    let mut up = Up::start(command);
    drop(up.child.stdin.take());
    up.assert_ends();
}

#[test]
fn two_agents_do_not_share_a_state_folder_or_a_port() {
    let place = Place::new();
    let _up = Up::start(place.up(&[]));
    let refused = |mut command: Command| {
        let output = command.output().expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stderr).lines().last().expect("a reason").to_owned()
    };
    let reason = refused(place.up(&[]));
    assert!(reason.contains("another agent"), "{reason}");
    let other = Place { epmd_port: place.epmd_port, ..Place::new() };
    let reason = refused(other.up(&["--epmd", "own", "--node-name", "second"]));
    assert!(reason.contains(&place.epmd_port.to_string()), "{reason}");
}
