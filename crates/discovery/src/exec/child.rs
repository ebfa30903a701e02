//! The program: started in a process group of its own, heard line by line within bounds, and killed with its whole group
//! when this is dropped.
//!
//! Its standard input stays open and empty as long as it is wanted, so that a program which reads it sees the end of
//! the agent, however that comes.

use std::{
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    process::{ChildStdin, ChildStdout, Command},
    task::JoinHandle,
    time::{Duration, timeout},
};

use crate::{Failure, peers::shorten};

/// What one answer, and one line, may have.
pub(super) const OUTPUT_BYTES_MAX: usize = 8 << 20;
/// What of a line of the error output is kept.
const COMPLAINT_BYTES_MAX: usize = 4096;
/// How long a program may live on after it closed its output.
const LINGER: Duration = Duration::from_secs(2);

/// A running program.
#[derive(Debug)]
pub(super) struct Child {
    name: String,
    process: tokio::process::Child,
    group: Option<Pid>,
    output: BufReader<ChildStdout>,
    _input: Option<ChildStdin>,
    complaints: JoinHandle<()>,
    complaint: Arc<Mutex<String>>,
}

/// What a program is called in a line: without its folder, and without its arguments, which may hold a secret.
pub(super) fn name_of(command: &[String]) -> &str {
    let program = command.first().map_or("", String::as_str);
    program.rsplit('/').next().unwrap_or(program)
}

impl Child {
    pub(super) fn start(command: &[String], environment: &[(&'static str, String)]) -> Result<Self, Failure> {
        let (program, arguments) = command.split_first().ok_or_else(|| Failure::new("`command` is empty"))?;
        let mut start = Command::new(program);
        start.args(arguments).envs(environment.iter().map(|(key, value)| (key, value)));
        start.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        start.process_group(0).kill_on_drop(true);
        let cannot = |error: std::io::Error| Failure::new(format!("cannot run {program}: {error}"));
        let mut process = start.spawn().map_err(cannot)?;
        let pipes = (process.stdout.take(), process.stderr.take());
        let (Some(output), Some(errors)) = pipes else {
            return Err(Failure::new(format!("{program} has no output, which is a bug")));
        };
        let complaint = Arc::new(Mutex::new(String::new()));
        Ok(Self {
            name: name_of(command).to_owned(),
            group: process.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw),
            _input: process.stdin.take(),
            output: BufReader::with_capacity(1 << 16, output),
            complaints: tokio::spawn(hear(errors, Arc::clone(&complaint))),
            complaint,
            process,
        })
    }

    /// What it is called in a line.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its next line, or `None` at the end of its output.
    pub(super) async fn line(&mut self) -> Result<Option<String>, Failure> {
        let mut bytes = Vec::new();
        let most = OUTPUT_BYTES_MAX as u64 + 1;
        let read = (&mut self.output).take(most).read_until(b'\n', &mut bytes).await;
        read.map_err(|error| Failure::new(format!("cannot read from {}: {error}", self.name)))?;
        if bytes.len() > OUTPUT_BYTES_MAX {
            let mib = OUTPUT_BYTES_MAX >> 20;
            return Err(Failure::new(format!("{} printed a line of more than {mib} MiB: it was stopped", self.name)));
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let text = String::from_utf8(bytes);
        text.map(Some).map_err(|_| Failure::new(format!("{} printed what is no UTF-8: it was stopped", self.name)))
    }

    /// Whether another line can be read without waiting.
    pub(super) fn has_more(&self) -> bool {
        self.output.buffer().contains(&b'\n')
    }

    /// Waits for its end after that of its output.
    pub(super) async fn end(&mut self) -> Result<(), Failure> {
        match timeout(LINGER, self.process.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => {
                // Its last words may still be on their way; a child of its own may hold them back for ever.
                timeout(LINGER, &mut self.complaints).await.ok();
                let complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let said =
                    if complaint.is_empty() { "it said nothing".to_owned() } else { format!("it said: {complaint}") };
                Err(Failure::new(format!("{} ended with {status}; {said}", self.name)))
            }
            Ok(Err(error)) => Err(Failure::new(format!("cannot wait for {}: {error}", self.name))),
            Err(_) => Err(Failure::new(format!("{} closed its output and did not end: it was stopped", self.name))),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.complaints.abort();
        if let Some(group) = self.group {
            // The group is gone when nobody of it is left, which is what is wanted.
            killpg(group, Signal::SIGKILL).ok();
        }
    }
}

/// Keeps the last line of the error output.
async fn hear(errors: impl AsyncRead + Unpin, last: Arc<Mutex<String>>) {
    let mut errors = BufReader::new(errors);
    loop {
        let mut bytes = Vec::new();
        match (&mut errors).take(COMPLAINT_BYTES_MAX as u64).read_until(b'\n', &mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&bytes);
        let line = shorten(line.trim());
        if !line.is_empty() {
            tracing::debug!(line, "a program of `exec` complains");
            *last.lock().unwrap_or_else(PoisonError::into_inner) = line;
        }
    }
}
