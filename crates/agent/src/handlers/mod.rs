//! Handlers: a command for each event, as `[[handler]]` asks (docs/contracts.md, Configuration).
//!
//! A command gets the event as one line of JSON on its standard input, and `METACLUSTER_EVENT`, `_SEQ`, `_AT`,
//! `_CLUSTER`, `_NODE`, `_MEMBER`, `_TOPOLOGY`, `_ZONE`, `_REASON` (those that there are) and `METACLUSTER_SOCKET` in its
//! environment. For a user event or a query its standard input is the payload as it is, and `METACLUSTER_NAME` and
//! `METACLUSTER_MEMBER_ID` say what it is called and who sent it. What it writes to its standard output is the answer to a
//! query, unless it fails; else it goes nowhere; the first line of its standard error stands in the log when it fails.
//!
//! Invariants: at most `at_most` commands of a handler run at once and at most 1,000 events wait; one that runs too
//! long is killed with all its process group; no handler holds up another, or the agent; none is left behind when the
//! agent stops.

mod process;
mod stats;
#[cfg(test)]
mod tests;
mod worker;

use std::{ffi::OsString, path::Path, sync::Arc};

use tokio::{sync::watch, task::JoinHandle};

use crate::{config::HandlerConfig, events::EventLog, talk::Panel};

pub use stats::{Counts, Stats};

/// The handlers at work.
#[derive(Debug)]
pub struct Handlers {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    stats: Arc<Stats>,
}

impl Handlers {
    /// Starts a task for each handler. They see every event from now on, so start them before the first is published.
    /// Commands find the agent's socket in `METACLUSTER_SOCKET`.
    #[must_use]
    pub fn start(handlers: &[HandlerConfig], log: &EventLog, socket: &Path, panel: &Panel) -> Self {
        let (stop, stopping) = watch::channel(false);
        let stats = Arc::new(Stats::default());
        let extra: Arc<[(String, OsString)]> = Arc::new([("METACLUSTER_SOCKET".to_owned(), socket.into())]);
        let start = |handler: &HandlerConfig| {
            let (stats, extra) = (Arc::clone(&stats), Arc::clone(&extra));
            let worker =
                worker::Worker::new(handler.clone(), log.reader(None), stats, extra, stopping.clone(), panel.clone());
            tokio::spawn(worker.run())
        };
        let tasks = handlers.iter().map(start).collect();
        Self { stop, tasks, stats }
    }

    /// What was counted; shared, and kept up to date.
    #[must_use]
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// Waits until every event of a closed log was handled. Cancel it at will, then [`Handlers::stop`].
    pub async fn finish(&mut self) {
        for task in &mut self.tasks {
            if !task.is_finished() {
                drop(task.await);
            }
        }
    }

    /// Starts no more commands, gives those that run two seconds, then ends them and waits for that: at most some five
    /// seconds, most often none.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            if !task.is_finished() {
                drop(task.await);
            }
        }
    }
}

/// Resolves when the handlers are stopped, or dropped.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}
