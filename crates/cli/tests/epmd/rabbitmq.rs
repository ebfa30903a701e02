//! RabbitMQ's servers and tools with our epmd in the place of the stock one: two brokers make a cluster.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use metacluster_testbed::{Child, Tool, eventually, require};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::servers::{Epmd, PATIENCE, Whose, free_port};

/// RabbitMQ's own scripts; those on the path change to a user of their own, whose folders are the machine's.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";

/// A broker takes seconds to start, and several times as long on a busy machine.
const START: u32 = 4;

/// One broker with all of its files in a folder, and what it starts.
struct Broker {
    name: &'static str,
    epmd: u16,
    home: PathBuf,
    process: Child,
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Its script waits for the node that it started, in the same group.
        let group = i32::try_from(self.process.pid()).expect("a process id is positive");
        killpg(Pid::from_raw(group), Signal::SIGKILL).expect("the script lives as long as its node");
    }
}

/// What both the brokers and their tools read.
fn surroundings(command: &mut Command, home: &Path, epmd: u16) {
    command.env("HOME", home).env("ERL_EPMD_PORT", epmd.to_string()).env("ERL_CRASH_DUMP_SECONDS", "0");
    command.env("RABBITMQ_USE_LONGNAME", "true").stdin(Stdio::null());
}

impl Broker {
    fn start(name: &'static str, home: &Path, epmd: u16) -> Self {
        let folder = home.join(name);
        fs::create_dir(&folder).expect("a folder");
        let mut command = Command::new(format!("{PROGRAMS}/rabbitmq-server"));
        surroundings(&mut command, home, epmd);
        command.env("RABBITMQ_NODENAME", format!("{name}@127.0.0.1"));
        for variable in ["RABBITMQ_NODE_PORT", "RABBITMQ_DIST_PORT"] {
            command.env(variable, free_port().to_string());
        }
        for variable in ["RABBITMQ_MNESIA_BASE", "RABBITMQ_LOG_BASE"] {
            command.env(variable, &folder);
        }
        for (variable, file) in [
            ("RABBITMQ_CONFIG_FILE", "rabbitmq"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "plugins"),
            ("RABBITMQ_PID_FILE", "pid"),
        ] {
            command.env(variable, folder.join(file));
        }
        let log = fs::File::create(folder.join("out")).expect("a file");
        command.env("RABBITMQ_LOGS", "-").stdout(log.try_clone().expect("a file")).stderr(log).process_group(0);
        let process = Child::spawn(&mut command, name).expect("it starts");
        Self { name, epmd, home: home.to_owned(), process }
    }

    /// What `rabbitmqctl` says of this broker, if it is content.
    fn control(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(format!("{PROGRAMS}/rabbitmqctl"));
        surroundings(&mut command, &self.home, self.epmd);
        let output = command.args(["-l", "-n", &format!("{}@127.0.0.1", self.name)]).args(arguments).output();
        let output = output.map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr) + &text(&output.stdout))
        }
    }

    fn must(&self, arguments: &[&str]) -> String {
        self.control(arguments).unwrap_or_else(|error| panic!("{} {arguments:?}: {error}", self.name))
    }

    fn wait(&self) {
        eventually(START * PATIENCE, &format!("{} runs", self.name), || {
            let log = || fs::read_to_string(self.home.join(self.name).join("out")).unwrap_or_default();
            self.control(&["await_startup"]).map(drop).map_err(|error| error + &log())
        })
        .expect("it runs");
    }
}

#[test]
fn rabbitmq_makes_a_cluster() {
    if !require(&[Tool::RabbitMq]) {
        return;
    }
    let epmd = Epmd::start(Whose::Ours, &[]);
    let home = tempfile::tempdir().expect("a folder");
    // One after the other: the first makes the cookie.
    let one = Broker::start("one", home.path(), epmd.port);
    one.wait();
    let two = Broker::start("two", home.path(), epmd.port);
    two.wait();
    two.must(&["stop_app"]);
    two.must(&["join_cluster", "one@127.0.0.1"]);
    two.must(&["start_app"]);
    for broker in [&one, &two] {
        let status = broker.must(&["cluster_status", "--formatter", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        let running = status["running_nodes"].as_array().expect("a list");
        assert!(["one@127.0.0.1", "two@127.0.0.1"].iter().all(|name| running.contains(&(*name).into())), "{status}");
    }
    let names = epmd.names();
    assert!(names.contains("name one at port ") && names.contains("name two at port "), "{names}");
}
