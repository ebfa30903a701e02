//! `-daemon`, `-systemd`, and the name of the program.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream},
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::{Command, Stdio},
};

use metacluster_testbed::{Child, eventually};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::servers::{PATIENCE, Whose, free_port, request};

/// Ends the epmd of a port, whatever became of the test.
struct Killed(u16);

impl Drop for Killed {
    fn drop(&mut self) {
        if let Some(pid) = daemon_of(self.0) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
    }
}

/// The process that was started as a daemon on that port.
fn daemon_of(port: u16) -> Option<i32> {
    let wanted = format!("-port\0{port}\0-daemon\0");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line).contains(&wanted).then(|| entry.file_name().to_str()?.parse().ok())?
    })
}

#[test]
fn a_daemon_listens_when_its_launcher_returns_and_has_left_it() {
    for started_as_command in [false, true] {
        let port = free_port();
        let mut command = Whose::Ours.command();
        if started_as_command {
            command.arg0("metacluster").arg("epmd");
        }
        // A pipe that the daemon would hold open, were it to keep what it inherits.
        let output = command.args(["-port", &port.to_string(), "-daemon"]).output().expect("it returns");
        let _killed = Killed(port);
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
        for address in [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()] {
            let address: std::net::SocketAddr = address;
            TcpStream::connect(address).expect("it listens already");
        }
        let pid = daemon_of(port).expect("it runs");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("a state").split_whitespace().collect();
        assert_eq!((fields[3], fields[4]), (pid.to_string().as_str(), "0"), "a session of its own, without a terminal");
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).expect("a folder").to_str(), Some("/"));
        for descriptor in 0..3 {
            let target = fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).expect("open");
            assert_eq!(target.to_str(), Some("/dev/null"), "descriptor {descriptor}");
        }

        // Killed, its port is free as soon as that is said.
        let said = Whose::Ours.command().args(["-port", &port.to_string(), "-kill"]).output().expect("it runs");
        assert_eq!(said.stdout, b"Killed\n");
        drop(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("free"));
        eventually(PATIENCE, "the daemon is gone", || match daemon_of(port) {
            None => Ok(()),
            Some(pid) => Err(format!("process {pid} runs")),
        })
        .expect("gone");
    }
}

#[test]
fn a_new_epmd_listens_at_once_where_one_was_killed_with_nodes() {
    let port = free_port().to_string();
    let _killed = Killed(port.parse().expect("a port"));
    let mut held = Vec::new();
    for round in 0..3 {
        let flags = ["-port", &port, "-daemon"];
        let started = Whose::Ours.command().args(flags).env("ERL_EPMD_RELAXED_COMMAND_CHECK", "").output();
        assert!(started.expect("it returns").status.success(), "round {round}");
        let names = Whose::Ours.command().args(["-port", &port, "-names"]).output().expect("it runs");
        assert_eq!(names.stdout, format!("epmd: up and running on port {port} with data:\n").as_bytes());
        let mut node = TcpStream::connect((Ipv4Addr::LOCALHOST, port.parse().expect("a port"))).expect("it listens");
        std::io::Write::write_all(&mut node, &crate::servers::alive2(b"shop", b"")).expect("written");
        std::io::Read::read_exact(&mut node, &mut [0; 6]).expect("a reply");
        held.push(node);
        let said = Whose::Ours.command().args(["-port", &port, "-kill"]).output().expect("it runs");
        assert_eq!(said.stdout, b"Killed\n", "round {round}");
    }
}

#[test]
fn a_daemon_that_cannot_listen_says_so() {
    let port = free_port().to_string();
    for (address, word) in [("192.0.2.1", "192.0.2.1"), ("nonsense", "cannot parse IP address \"nonsense\"")] {
        let flags = ["-port", &port, "-daemon", "-address", address];
        let output = Whose::Ours.command().args(flags).output().expect("it returns");
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(word), "{output:?}");
    }
}

#[test]
fn the_sockets_of_systemd_are_served() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    // As systemd does it: the socket is descriptor 3, and the process that is named is the one that runs.
    let script = r#"exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" epmd -systemd"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_metacluster")]);
    let socket = listener.try_clone().expect("a descriptor");
    assert!(socket.as_raw_fd() > 2);
    command.stdin(std::os::fd::OwnedFd::from(socket)).stdout(Stdio::null()).stderr(Stdio::null());
    drop(listener);
    let mut child = Child::spawn(&mut command, "epmd").expect("it starts");
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("systemd listens from the start");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    std::io::Write::write_all(&mut stream, &request(b"k")).expect("written");
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut answer).expect("the end");
    assert_eq!(answer, b"OK");
    assert!(child.wait(PATIENCE).expect("it ends").success());
}
