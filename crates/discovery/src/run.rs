//! The supervisor of one strategy: it runs, is begun anew when it ends or panics, and stops in bounded time.

use std::sync::Arc;

use metacluster_types::{SourceUpdate, TopologyName};
use rand::RngExt;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Duration, Instant, sleep, timeout},
};

use crate::{Feed, Local, Strategy};

/// How long a strategy may take to say goodbye.
pub const GRACE: Duration = Duration::from_millis(500);
/// The wait before the first new beginning.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest wait before a new beginning. A run that lasted longer starts the count afresh.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// A strategy at work. Dropping it stops the strategy too, without waiting for it.
#[derive(Debug)]
pub struct Running {
    switch: watch::Sender<bool>,
    supervisor: JoinHandle<()>,
}

impl Running {
    /// Stops the strategy: it has [`GRACE`] to say goodbye, then it is cut off. Returns when nothing of it runs.
    pub async fn stop(self) {
        self.switch.send_replace(true);
        if let Err(error) = self.supervisor.await {
            tracing::error!(%error, "the supervisor of a strategy failed");
        }
    }
}

/// Runs a strategy on its own task. Its updates go to `updates` under the topology's name.
///
/// Must be called within a tokio runtime.
#[must_use]
pub fn spawn(
    topology: TopologyName,
    strategy: Box<dyn Strategy>,
    local: watch::Receiver<Local>,
    updates: mpsc::Sender<(TopologyName, SourceUpdate)>,
) -> Running {
    let (feed, switch) = Feed::new(topology, local, updates);
    spawn_with(strategy, feed, switch)
}

pub(crate) fn spawn_with(strategy: Box<dyn Strategy>, feed: Feed, switch: watch::Sender<bool>) -> Running {
    let supervisor = tokio::spawn(supervise(Arc::from(strategy), feed));
    Running { switch, supervisor }
}

async fn supervise(strategy: Arc<dyn Strategy>, feed: Feed) {
    let mut backoff = BACKOFF_MIN;
    for attempt in 0_u64.. {
        let begun = Instant::now();
        let mut task = tokio::spawn(Arc::clone(&strategy).run(feed.with_attempt(attempt)));
        let ended = tokio::select! {
            ended = &mut task => ended,
            () = feed.stopped() => {
                if timeout(GRACE, &mut task).await.is_err() {
                    task.abort();
                    tracing::warn!(topology = %feed.topology(), "the strategy did not stop in time and was cut off");
                    // The task is gone once this resolves; that it was cancelled is what was asked for.
                    drop(task.await);
                }
                return;
            }
        };
        if begun.elapsed() > BACKOFF_MAX {
            backoff = BACKOFF_MIN;
        }
        let what = match ended {
            Ok(()) => "ended of its own accord".to_owned(),
            Err(error) => format!("failed: {}", panic_text(error)),
        };
        let wait = backoff.mul_f64(rand::rng().random_range(0.5..1.0));
        let line = format!("the strategy {what}; it is begun anew in {:.1} s", wait.as_secs_f64());
        tokio::select! {
            () = async { feed.push(SourceUpdate::Failed(line)).await; sleep(wait).await } => {}
            () = feed.stopped() => return,
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// The text that the panic carried, if it carried one.
pub(crate) fn panic_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => panic.downcast::<&str>().map_or_else(|_| "a panic".to_owned(), |text| (*text).to_owned()),
        },
        Err(error) => error.to_string(),
    }
}
