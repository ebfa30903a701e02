//! The task of one handler: it reads the log, queues what is for it, and keeps no more than so many commands running.

use std::{collections::VecDeque, ffi::OsString, sync::Arc, time::Duration};

use metacluster_types::{Event, time::format_duration};
use tokio::{sync::watch, task::JoinSet, time::Instant};

use super::{
    process::{self, Outcome},
    stats::Stats,
};
use crate::{
    config::HandlerConfig,
    events::{Next, Reader},
    talk::Panel,
};

/// Events that wait for a place. When it is full, the oldest gives way: the newest says what is so.
pub(super) const QUEUE_MAX: usize = 1_000;

/// Lines of the log that one handler's failures may fill in [`LINES_PERIOD`].
const LINES_MAX: u32 = 10;
const LINES_PERIOD: Duration = Duration::from_secs(60);

/// A handler at work.
pub(super) struct Worker {
    pub(super) handler: Arc<HandlerConfig>,
    pub(super) reader: Reader,
    pub(super) stats: Arc<Stats>,
    pub(super) extra: Arc<[(String, OsString)]>,
    pub(super) stop: watch::Receiver<bool>,
    queue: VecDeque<Arc<Event>>,
    running: JoinSet<(u64, Outcome)>,
    lines: Lines,
    panel: Panel,
}

/// The query that an event is, and that waits for an answer.
fn query(event: &Event) -> Option<u64> {
    event.subject.said.as_ref().and_then(|said| said.query)
}

impl Worker {
    pub(super) fn new(
        handler: HandlerConfig,
        reader: Reader,
        stats: Arc<Stats>,
        extra: Arc<[(String, OsString)]>,
        stop: watch::Receiver<bool>,
        panel: Panel,
    ) -> Self {
        Self {
            handler: Arc::new(handler),
            reader,
            stats,
            extra,
            stop,
            queue: VecDeque::new(),
            running: JoinSet::new(),
            lines: Lines::default(),
            panel,
        }
    }

    /// Works until the log is closed and everything has run, or until the agent stops.
    pub(super) async fn run(mut self) {
        let mut open = true;
        while open || !self.running.is_empty() {
            tokio::select! {
                next = self.reader.next(), if open => match next {
                    Next::Event(event) => self.queue(event),
                    Next::Gap { from, to, .. } => self.overflow((to + 1).saturating_sub(from)),
                    Next::Closed => open = false,
                },
                Some(ended) = self.running.join_next() => self.ended(ended),
                () = super::stopped(&mut self.stop) => break,
            }
            self.start();
        }
        self.overflow(self.queue.len() as u64);
        // Each ends within its grace.
        while let Some(ended) = self.running.join_next().await {
            self.ended(ended);
        }
    }

    fn queue(&mut self, event: Arc<Event>) {
        if !self.handler.wants(&event) {
            return;
        }
        if self.queue.len() == QUEUE_MAX {
            if let Some(query) = self.queue.pop_front().as_deref().and_then(query) {
                self.panel.answer(query, None);
            }
            self.overflow(1);
        }
        self.queue.push_back(event);
    }

    fn start(&mut self) {
        while self.running.len() < self.handler.at_most {
            let Some(event) = self.queue.pop_front() else { return };
            let (handler, extra, stop) = (Arc::clone(&self.handler), Arc::clone(&self.extra), self.stop.clone());
            self.stats.change(|counts| {
                counts.started += 1;
                counts.running += 1;
            });
            let panel = self.panel.clone();
            self.running.spawn(async move {
                let (outcome, answer) = process::run(&handler, &event, &extra, stop).await;
                if let Some(query) = query(&event) {
                    panel.answer(query, answer);
                }
                (event.seq, outcome)
            });
        }
    }

    fn ended(&mut self, ended: Result<(u64, Outcome), tokio::task::JoinError>) {
        let (seq, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => (0, Outcome::NotStarted(format!("its task failed: {error}"))),
        };
        self.stats.change(|counts| {
            counts.running -= 1;
            match outcome {
                Outcome::Succeeded => counts.succeeded += 1,
                Outcome::Failed { .. } | Outcome::NotStarted(_) => counts.failed += 1,
                Outcome::TimedOut { .. } => counts.timed_out += 1,
                Outcome::Stopped => counts.stopped += 1,
            }
        });
        if let Some(line) = failure_line(&self.handler.command, seq, &outcome) {
            self.stats.failure(&line);
            self.log(&line);
        }
    }

    fn overflow(&mut self, count: u64) {
        if count > 0 {
            self.stats.change(|counts| counts.overflowed += count);
            let program = program(&self.handler.command);
            self.log(&format!("the handler {program} is too slow: {count} events will not reach it"));
        }
    }

    fn log(&mut self, line: &str) {
        match self.lines.allow(Instant::now()) {
            Some(0) => tracing::warn!("{line}"),
            Some(suppressed) => tracing::warn!("{line} ({suppressed} more such lines were left out)"),
            None => {}
        }
    }
}

fn program(command: &[String]) -> &str {
    command.first().map_or("", String::as_str)
}

/// What the log says of a run that did not succeed.
pub(super) fn failure_line(command: &[String], seq: u64, outcome: &Outcome) -> Option<String> {
    let program = program(command);
    let (what, stderr) = match outcome {
        Outcome::Succeeded => return None,
        Outcome::Failed { how, stderr } => (how.clone(), stderr),
        Outcome::NotStarted(why) => (format!("could not start: {why}"), &None),
        Outcome::TimedOut { after, stderr } => {
            (format!("ran longer than {} and was killed", format_duration(*after)), stderr)
        }
        Outcome::Stopped => ("was killed, since the agent stops".to_owned(), &None),
    };
    let said = stderr.as_ref().map_or_else(String::new, |line| format!("; it said: {line}"));
    Some(format!("the handler {program} {what} (event {seq}){said}"))
}

/// How many lines may still be written. Bounded in every period; what is left out is counted.
#[derive(Debug, Default)]
pub(super) struct Lines {
    since: Option<Instant>,
    written: u32,
    suppressed: u64,
}

impl Lines {
    /// Whether a line may be written now, and how many were left out before it.
    pub(super) fn allow(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.duration_since(since) >= LINES_PERIOD) {
            self.since = Some(now);
            self.written = 0;
        }
        if self.written == LINES_MAX {
            self.suppressed += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}
