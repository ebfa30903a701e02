//! Stock BEAM nodes, started by `erl` or `elixir` with no code of ours in them but a loop that evaluates what the test
//! asks.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::PathBuf,
    process::{ChildStdin, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::{Child, Host, Lines, eventually};

const LOOP: &str = include_str!("../scripts/node.script");
const WATCH: &str = include_str!("../scripts/watch.script");

/// How long a node may take to start, and an expression to be evaluated, on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(60);
const EVAL_WITHIN: Duration = Duration::from_secs(60);

/// What a node will be started with.
#[derive(Clone, Debug)]
pub struct BeamBuilder<'h> {
    host: &'h Host,
    name: String,
    program: PathBuf,
    elixir: bool,
    short: bool,
    distributed: bool,
    cookie: Option<String>,
    flags: Vec<String>,
}

impl<'h> BeamBuilder<'h> {
    pub(crate) fn new(host: &'h Host, basename: &str) -> Self {
        let name = host.node_name(basename);
        let (program, cookie, flags) = (PathBuf::from("erl"), None, Vec::new());
        Self { host, name, program, elixir: false, short: false, distributed: true, cookie, flags }
    }

    /// Starts it with `elixir` in place of `erl`.
    #[must_use]
    pub fn elixir(mut self) -> Self {
        self.elixir = true;
        self
    }

    /// Starts it with this `erl`, such as that of another release.
    #[must_use]
    pub fn program(mut self, erl: impl Into<PathBuf>) -> Self {
        self.program = erl.into();
        self
    }

    /// Gives it a short name, `basename@hN`.
    #[must_use]
    pub fn short(mut self) -> Self {
        let basename = self.name.split('@').next().unwrap_or_default().to_owned();
        self.name = format!("{basename}@{}", self.host.short_name());
        self.short = true;
        self
    }

    /// Gives it a cookie other than that of its home folder.
    #[must_use]
    pub fn cookie(mut self, cookie: &str) -> Self {
        self.cookie = Some(cookie.to_owned());
        self
    }

    /// More flags for `erl`, such as `-connect_all false`.
    #[must_use]
    pub fn flags(mut self, flags: &str) -> Self {
        self.flags.extend(flags.split_whitespace().map(str::to_owned));
        self
    }

    /// Starts it without distribution; `net_kernel:start/1` can give it its name later.
    #[must_use]
    pub fn undistributed(mut self) -> Self {
        self.distributed = false;
        self
    }

    /// Starts it and waits until it evaluates.
    pub fn start(&self) -> Result<Beam> {
        let beam = self.spawn()?;
        beam.wait_ready()?;
        Ok(beam)
    }

    /// Starts it. It is not ready yet when this returns.
    pub fn spawn(&self) -> Result<Beam> {
        let files = self.host.home().join(&self.name);
        fs::create_dir_all(&files).context("no folder for the node")?;
        let script = files.join("node.script");
        fs::write(&script, LOOP).context("cannot write the node's script")?;
        let script = script.display();
        // One scheduler that sleeps when it has nothing to do: many nodes share the cores.
        let mut flags = vec!["+S", "1:1", "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none", "-noshell"];
        flags.extend(self.flags.iter().map(String::as_str));
        let mut command;
        if self.elixir {
            command = self.host.command("elixir");
            command.arg(if self.short { "--sname" } else { "--name" }).arg(&self.name);
            if let Some(cookie) = &self.cookie {
                command.args(["--cookie", cookie]);
            }
            command.args(["--erl", &flags.join(" "), "--no-halt", "-e", &format!(":file.script('{script}')")]);
        } else {
            command = self.host.command(&self.program);
            if self.distributed {
                command.arg(if self.short { "-sname" } else { "-name" }).arg(&self.name);
            }
            if let Some(cookie) = &self.cookie {
                command.args(["-setcookie", cookie]);
            }
            command.args(flags).args(["-eval", &format!("file:script(\"{script}\").")]);
        }
        command.env("ERL_CRASH_DUMP", "/dev/null").current_dir(&files);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Child::spawn(&mut command, &self.name)?;
        let stdin = child.take_stdin().context("it has an input")?;
        let output = Lines::read(child.take_stdout().context("it has an output")?);
        let complaints = Lines::read(child.take_stderr().context("it has an error output")?);
        Ok(Beam {
            name: self.name.clone(),
            files,
            child,
            stdin: Mutex::new(stdin),
            output,
            complaints,
            next_id: AtomicU64::new(1),
        })
    }
}

/// A running BEAM node. It ends with this guard.
#[derive(Debug)]
pub struct Beam {
    name: String,
    files: PathBuf,
    child: Child,
    stdin: Mutex<ChildStdin>,
    output: Lines,
    complaints: Lines,
    next_id: AtomicU64,
}

impl Beam {
    /// Its node name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Waits until it evaluates expressions.
    pub fn wait_ready(&self) -> Result<()> {
        self.reply(0, START_WITHIN).map(drop).with_context(|| format!("{} does not start", self.name))
    }

    /// Evaluates Erlang expressions (no full stop) in a process of their own and gives the value in Erlang's syntax on
    /// one line.
    pub fn eval(&self, expressions: &str) -> Result<String> {
        self.ask(expressions, EVAL_WITHIN)
    }

    fn ask(&self, expressions: &str, within: Duration) -> Result<String> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let line = expressions.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        {
            let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
            stdin.write_all(format!("{id} {line}.\n").as_bytes()).with_context(|| format!("{} is gone", self.name))?;
        }
        self.reply(id, within).with_context(|| format!("in {}: {expressions}", self.name))
    }

    fn reply(&self, id: u64, within: Duration) -> Result<String> {
        let start = format!("mc! {id} ");
        let line = self.output.wait_for(within, "the node answers", |line| line.starts_with(&start));
        let text = line.with_context(|| self.complaints.text())?.text;
        match text[start.len()..].split_once(' ') {
            Some(("ok", value)) => Ok(value.to_owned()),
            Some((_, reason)) => bail!("it failed: {reason}"),
            None => bail!("no answer: {text}"),
        }
    }

    /// What it printed, its log among it.
    #[must_use]
    pub fn log(&self) -> String {
        self.output.text() + &self.complaints.text()
    }

    fn names(&self, expression: &str) -> Result<BTreeSet<String>> {
        let text = self
            .eval(&format!("list_to_atom(lists:flatten(lists:join(\" \", [atom_to_list(N) || N <- {expression}])))"))?;
        Ok(text.trim_matches('\'').split_whitespace().map(str::to_owned).collect())
    }

    /// The visible nodes that it is connected to.
    pub fn nodes(&self) -> Result<BTreeSet<String>> {
        self.names("nodes()")
    }

    /// The hidden nodes that it is connected to; an agent is one.
    pub fn hidden_nodes(&self) -> Result<BTreeSet<String>> {
        self.names("nodes(hidden)")
    }

    /// Waits until its visible nodes are exactly those.
    pub fn wait_nodes(&self, within: Duration, expected: &[&str]) -> Result<Duration> {
        let expected: BTreeSet<String> = expected.iter().map(|&name| name.to_owned()).collect();
        eventually(within, &format!("{} sees {expected:?}", self.name), || {
            let nodes = self.nodes().map_err(|error| format!("{error:#}"))?;
            if nodes == expected { Ok(()) } else { Err(format!("it sees {nodes:?}")) }
        })
    }

    /// Waits until it has so many visible nodes. The node does the waiting, so asking costs it next to nothing.
    pub fn wait_count(&self, within: Duration, count: usize) -> Result<()> {
        let until = format!("erlang:monotonic_time(millisecond) + {}", within.as_millis());
        let answer = self.ask(
            &format!(
                "net_kernel:monitor_nodes(true), Until = {until},
                 Loop = fun Loop() -> case length(nodes()) of
                     {count} -> there;
                     _ -> receive {{_, _}} -> Loop()
                          after max(0, Until - erlang:monotonic_time(millisecond)) -> nodes() end end end,
                 Loop()"
            ),
            within + EVAL_WITHIN,
        )?;
        ensure!(answer == "there", "{} has not {count} nodes after {within:?}, but {answer}", self.name);
        Ok(())
    }

    /// Records what `net_kernel` says of other nodes from now on.
    pub fn watch(&self) -> Result<Sighting<'_>> {
        self.sighting("net_kernel:monitor_nodes(true)")
    }

    /// Records what the agent of that node name says, by `{subscribe, Pid}`.
    pub fn subscribe(&self, agent: &str) -> Result<Sighting<'_>> {
        // A call after the plain send: when it is answered, the agent has read the subscription.
        self.sighting(&format!(
            "{{metacluster, '{agent}'}} ! {{subscribe, self()}}, gen_server:call({{metacluster, '{agent}'}}, ready)"
        ))
    }

    fn sighting(&self, subscribe: &str) -> Result<Sighting<'_>> {
        let path = self.write_script("watch.script", WATCH)?;
        let watcher =
            self.eval(&format!("{{ok, Watch}} = file:script({path:?}), pid_to_list(Watch(fun() -> {subscribe} end))"))?;
        Ok(Sighting { beam: self, watcher })
    }

    pub(crate) fn write_script(&self, name: &str, text: &str) -> Result<String> {
        let path = self.files.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path.display().to_string())
    }

    /// Kills it with SIGKILL.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill9()
    }

    /// Stops it, so that it answers nothing but keeps its connections (SIGSTOP).
    pub fn pause(&self) -> Result<()> {
        self.child.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<()> {
        self.child.signal(Signal::SIGCONT)
    }
}

/// What a process in a BEAM node learned of other nodes.
#[derive(Debug)]
pub struct Sighting<'b> {
    beam: &'b Beam,
    watcher: String,
}

/// A node came up or went down, as a process saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When the process got the message.
    pub at: SystemTime,
    /// Up or down.
    pub up: bool,
    /// The node.
    pub node: String,
}

impl Sighting<'_> {
    /// All changes so far, in order.
    pub fn changes(&self) -> Result<Vec<Change>> {
        let text = self.beam.eval(&format!(
            "list_to_pid({}) ! {{seen, self()}},
             receive {{seen, Seen}} ->
                 [list_to_atom(lists:flatten(io_lib:format(\"~b ~s ~s\", [At, Kind, Node]))) || {{At, Kind, Node}} <- Seen]
             after 5000 -> exit(no_watcher) end",
            self.watcher
        ));
        let text = text?;
        let changes = text.trim_matches(['[', ']']).split(',').map(|change| change.trim().trim_matches('\''));
        changes.filter(|change| !change.is_empty()).map(parse_change).collect()
    }

    /// Waits for the first change of that kind.
    pub fn wait_for(&self, within: Duration, up: bool, node: &str) -> Result<Change> {
        let what = format!("{} sees {} {node}", self.beam.name, if up { "nodeup" } else { "nodedown" });
        crate::eventually_value(within, &what, || {
            let changes = self.changes().map_err(|error| format!("{error:#}"))?;
            let found = changes.iter().rfind(|change| change.up == up && change.node == node);
            found.cloned().ok_or_else(|| format!("{changes:?}"))
        })
    }
}

fn parse_change(text: &str) -> Result<Change> {
    let mut words = text.split(' ');
    let (at, kind, node) = (words.next(), words.next(), words.next());
    let at: u64 = at.context("a time")?.parse().with_context(|| format!("no time: {text}"))?;
    ensure!(matches!(kind, Some("up" | "down")), "neither up nor down: {text}");
    let node = node.context("a node")?.to_owned();
    Ok(Change { at: UNIX_EPOCH + Duration::from_millis(at), up: kind == Some("up"), node })
}
