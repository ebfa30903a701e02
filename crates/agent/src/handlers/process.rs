//! One run of a command: its input, its environment, its limits, and how it ended.
//!
//! The command leads a process group of its own, so that what it started ends with it when it is killed.

use std::{
    ffi::OsString,
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use metacluster_membership::ANSWER_BYTES_MAX;
use metacluster_types::{Event, EventKind};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

use crate::config::HandlerConfig;

/// Between asking a command to end and making it.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long commands may go on once the agent stops.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// How long to wait for what a command wrote last, when something else still holds its standard error.
const STDERR_GRACE: Duration = Duration::from_millis(100);
/// How long to wait for the end of an answer, when something else still holds its standard output.
const ANSWER_GRACE: Duration = Duration::from_millis(500);
/// How much of its standard error is kept.
const STDERR_BYTES_MAX: usize = 1024;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With status 0.
    Succeeded,
    /// With another status, or by a signal that was not ours.
    Failed { how: String, stderr: Option<String> },
    /// It could not begin.
    NotStarted(String),
    /// It ran too long and was killed.
    TimedOut { after: Duration, stderr: Option<String> },
    /// The agent stopped, and it was killed.
    Stopped,
}

/// Runs the command for one event, to its end. The second is its answer, if the event is a query and it has one.
pub(super) async fn run(
    handler: &HandlerConfig,
    event: &Event,
    extra: &[(String, OsString)],
    mut stop: watch::Receiver<bool>,
) -> (Outcome, Option<Vec<u8>>) {
    let mut child = match spawn(handler, event, extra) {
        Ok(child) => child,
        Err(error) => return (Outcome::NotStarted(error.to_string()), None),
    };
    let input = match &event.subject.said {
        Some(said) => Ok(said.payload.clone()),
        None => serde_json::to_vec(event).map(|mut json| {
            json.push(b'\n');
            json
        }),
    };
    let stdin = child.stdin.take();
    let feed = async move {
        if let (Some(mut stdin), Ok(json)) = (stdin, input) {
            // A command need not read its input.
            drop(stdin.write_all(&json).await);
        }
    };
    let read_stdout = child.stdout.take();
    let mut answering = tokio::spawn(async move {
        match read_stdout {
            Some(stdout) => answer(stdout).await,
            None => Vec::new(),
        }
    });
    let (line, read_stderr) = (watch::Sender::new(Vec::new()), child.stderr.take());
    let stderr = line.subscribe();
    let mut drain = tokio::spawn(async move {
        if let Some(stderr) = read_stderr {
            keep_beginning(stderr, &line).await;
        }
    });
    let feeding = tokio::spawn(feed);
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let ended = tokio::select! {
        status = child.wait() => Ended::Itself(status),
        () = tokio::time::sleep(handler.timeout) => Ended::TooLong,
        () = super::stopped(&mut stop) => match timeout(STOP_GRACE, child.wait()).await {
            Ok(status) => Ended::Itself(status),
            Err(_) => Ended::AgentStops,
        },
    };
    if !matches!(ended, Ended::Itself(_)) {
        kill(&mut child, group).await;
    }
    feeding.abort();
    drop(timeout(STDERR_GRACE, &mut drain).await);
    drain.abort();
    let stderr = first_line(&stderr.borrow());
    let answer = timeout(ANSWER_GRACE, &mut answering).await.ok().and_then(Result::ok);
    answering.abort();
    let is_query = event.event == EventKind::Query;
    let outcome = match ended {
        Ended::Itself(Ok(status)) if status.success() => match &answer {
            Some(answer) if is_query && answer.len() > ANSWER_BYTES_MAX => {
                let how = format!("wrote an answer of more than {ANSWER_BYTES_MAX} bytes, which is none");
                Outcome::Failed { how, stderr }
            }
            Some(_) => Outcome::Succeeded,
            None if is_query => Outcome::Failed {
                how: "left its standard output open, so that its answer has no end".to_owned(),
                stderr,
            },
            None => Outcome::Succeeded,
        },
        Ended::Itself(Ok(status)) => Outcome::Failed { how: describe(status), stderr },
        Ended::Itself(Err(error)) => Outcome::Failed { how: format!("waiting for it failed: {error}"), stderr },
        Ended::TooLong => Outcome::TimedOut { after: handler.timeout, stderr },
        Ended::AgentStops => Outcome::Stopped,
    };
    let answer = answer.filter(|_| is_query && outcome == Outcome::Succeeded);
    (outcome, answer)
}

/// Reads an answer, and one byte more than it may have.
async fn answer(stdout: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut bounded = stdout.take(ANSWER_BYTES_MAX as u64 + 1);
    // What came before a failure is no answer: the outcome tells.
    match bounded.read_to_end(&mut bytes).await {
        Ok(_) | Err(_) => bytes,
    }
}

enum Ended {
    Itself(io::Result<ExitStatus>),
    TooLong,
    AgentStops,
}

fn spawn(handler: &HandlerConfig, event: &Event, extra: &[(String, OsString)]) -> io::Result<Child> {
    let (program, arguments) =
        handler.command.split_first().ok_or_else(|| io::Error::other("the command has no words"))?;
    let mut command = Command::new(program);
    // What the agent was configured with, the cookie for one, is not the command's.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("METACLUSTER_")) {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .envs(extra.iter().map(|(name, value)| (name, value)))
        .envs(variables(event))
        .stdin(Stdio::piped())
        .stdout(if event.event == EventKind::Query { Stdio::piped() } else { Stdio::null() })
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// What a command finds in its environment, beside the whole event on its standard input.
fn variables(event: &Event) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        ("METACLUSTER_EVENT", event.event.as_str().to_owned()),
        ("METACLUSTER_SEQ", event.seq.to_string()),
        ("METACLUSTER_AT", event.at.to_string()),
        ("METACLUSTER_CLUSTER", event.cluster.to_string()),
    ];
    let subject = &event.subject;
    let optional = [
        ("METACLUSTER_NODE", subject.node.as_ref().map(ToString::to_string)),
        ("METACLUSTER_MEMBER", subject.member.clone()),
        ("METACLUSTER_MEMBER_ID", subject.said.as_ref().map(|said| said.from.to_string())),
        ("METACLUSTER_NAME", subject.said.as_ref().map(|said| said.name.clone())),
        ("METACLUSTER_TOPOLOGY", subject.topology.as_ref().map(ToString::to_string)),
        ("METACLUSTER_ZONE", event.zone.as_ref().map(ToString::to_string)),
        // The system takes no zero byte in a variable.
        ("METACLUSTER_REASON", event.reason.as_ref().map(|reason| reason.replace('\0', ""))),
    ];
    variables.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
    variables
}

/// Asks the whole group to end, then makes it.
async fn kill(child: &mut Child, group: Option<Pid>) {
    let signal = |signal: Signal| {
        if let Some(group) = group {
            // Nobody left to signal is what is wanted.
            killpg(group, signal).ok();
        }
    };
    signal(Signal::SIGTERM);
    let ended = timeout(TERM_GRACE, child.wait()).await.is_ok();
    // Children of the command may have outlived it.
    signal(Signal::SIGKILL);
    if !ended {
        drop(child.wait().await);
    }
}

/// Reads to the end, so that the command never blocks on it, and keeps the beginning.
async fn keep_beginning(mut stderr: impl AsyncRead + Unpin, kept: &watch::Sender<Vec<u8>>) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        kept.send_if_modified(|kept| {
            let room = STDERR_BYTES_MAX - kept.len();
            kept.extend_from_slice(&buffer[..count.min(room)]);
            room > 0
        });
    }
}

/// The first line that says something, without what could harm a terminal.
fn first_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect())
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}
