//! Asks a source again and again: at intervals with jitter, each time for a bounded time, less and less often while it
//! fails.
//!
//! Invariants: one look-up at a time. A look-up that fails, panics or takes too long is one
//! [`Failed`](metacluster_types::SourceUpdate::Failed) and changes nothing; a look-up that succeeds is told even if
//! nothing changed, since an answer that was doubted has to be repeated. The first one begins at once.

use std::{
    future::{Future, ready},
    pin::pin,
    sync::Arc,
};

use metacluster_types::{SourceUpdate, time::format_duration};
use rand::RngExt;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Duration, Instant, sleep, sleep_until, timeout},
};

use crate::{
    Feed,
    naming::Answer,
    run::panic_text,
    settings::{Absent, Key, Kind, Reader},
};

/// The first wait after a failure, unless the interval is shorter.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest wait after failures, unless the interval is longer.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The shortest wait between two look-ups, however much is asked for.
const REST: Duration = Duration::from_millis(50);
/// The longest wait that a source may ask for.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// So many lines are told of one answer.
const NOTES_MAX: usize = 16;
/// What a topology says whose first turn has not come.
const WAITS: &str = "not asked yet: other agents of this cluster ask, and what they find comes through membership";

/// How often, and how long at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The time between two look-ups, give or take a tenth.
    pub interval: Duration,
    /// How long one look-up may take.
    pub timeout: Duration,
}

impl Pace {
    /// The key `interval`, for the table of a strategy.
    #[must_use]
    pub const fn interval(default: &'static str) -> Key {
        Key {
            name: "interval",
            kind: Kind::Duration { least_ms: 100, most_ms: 3_600_000 },
            absent: Absent::Default(default),
            doc: "The time between two look-ups, give or take a tenth; while the source fails it grows from a second to 30 s, or to itself if that is longer",
        }
    }

    /// The key `timeout`, for the table of a strategy.
    #[must_use]
    pub const fn timeout(default: &'static str) -> Key {
        Key {
            name: "timeout",
            kind: Kind::Duration { least_ms: 100, most_ms: 300_000 },
            absent: Absent::Default(default),
            doc: "How long one look-up may take before it counts as failed",
        }
    }

    /// Reads both keys.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self { interval: reader.duration("interval"), timeout: reader.duration("timeout") }
    }
}

/// Why a look-up or a watch failed, in one line: what failed, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The line.
    pub line: String,
    /// How long the source asks to be left alone, such as an HTTP `Retry-After`; it counts up to an hour.
    pub wait: Option<Duration>,
}

impl Failure {
    /// A failure after which the usual wait follows.
    pub fn new(line: impl Into<String>) -> Self {
        Self { line: line.into(), wait: None }
    }

    /// A failure with a wait that the source asked for.
    pub fn with_wait(line: impl Into<String>, wait: Duration) -> Self {
        Self { line: line.into(), wait: Some(wait) }
    }
}

impl From<String> for Failure {
    fn from(line: String) -> Self {
        Self::new(line)
    }
}

/// What one look-up found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The answer.
    pub answer: Answer,
    /// When to look again, if the source says so, such as the TTL of a record; else the interval holds.
    pub again: Option<Duration>,
}

impl From<Answer> for Found {
    fn from(answer: Answer) -> Self {
        Self { answer, again: None }
    }
}

/// The loop.
#[derive(Clone, Debug)]
pub struct Poll {
    pace: Pace,
    source: String,
    wake: Arc<Notify>,
}

impl Poll {
    /// A loop at a pace.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        Self { pace, source: "the source".to_owned(), wake: Arc::new(Notify::new()) }
    }

    /// Says what is asked, for the line about a look-up that took too long as a whole: such as `AWS in eu-west-1`.
    #[must_use]
    pub fn asks(mut self, source: impl Into<String>) -> Self {
        self.source = source.into();
        self
    }

    /// Whoever notifies this begins the next look-up at once.
    #[must_use]
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Looks, tells and waits until the feed says stop. A look-up at work then is dropped.
    ///
    /// Each look-up runs on a task of its own, so it owns what it uses.
    pub async fn run<L, F, A>(&self, feed: &Feed, look: L)
    where
        L: FnMut() -> F,
        F: Future<Output = Result<A, Failure>> + Send + 'static,
        A: Into<Found> + Send + 'static,
    {
        self.run_by_turns(feed, || ready(()), look).await;
    }

    /// The same where each look-up, the first one too, waits until it is this agent's turn.
    pub(crate) async fn run_by_turns<T, W, L, F, A>(&self, feed: &Feed, mut turn: T, mut look: L)
    where
        T: FnMut() -> W,
        W: Future<Output = ()>,
        L: FnMut() -> F,
        F: Future<Output = Result<A, Failure>> + Send + 'static,
        A: Into<Found> + Send + 'static,
    {
        tokio::select! {
            () = self.go_on(feed, &mut turn, &mut look) => {}
            () = feed.stopped() => {}
        }
    }

    async fn go_on<T, W, L, F, A>(&self, feed: &Feed, turn: &mut T, look: &mut L)
    where
        T: FnMut() -> W,
        W: Future<Output = ()>,
        L: FnMut() -> F,
        F: Future<Output = Result<A, Failure>> + Send + 'static,
        A: Into<Found> + Send + 'static,
    {
        let mut backoff = Backoff::new(self.pace.interval);
        // A run that was begun anew does not know what the one before it told.
        let mut notes = (feed.attempt() == 0).then(Vec::new);
        first_turn(feed, &mut notes, turn()).await;
        loop {
            let begun = Instant::now();
            let wait = match self.look_once(look()).await {
                Ok(found) => {
                    let Found { answer, again } = found.into();
                    note(feed, &mut notes, &answer).await;
                    feed.answer(answer).await;
                    backoff.reset();
                    again.unwrap_or_else(|| self.pace.interval.mul_f64(rand::rng().random_range(0.9..1.1)))
                }
                Err(failure) => {
                    let wait = backoff.next(failure.wait);
                    feed.push(SourceUpdate::Failed(failure.line)).await;
                    wait
                }
            };
            let due = Instant::now().max(begun) + wait.max(REST);
            tokio::select! {
                () = sleep_until(due) => {}
                () = self.wake.notified() => sleep(REST).await,
            }
            turn().await;
        }
    }

    /// One look-up, for as long as it may take.
    async fn look_once<F, A>(&self, look: F) -> Result<A, Failure>
    where
        F: Future<Output = Result<A, Failure>> + Send + 'static,
        A: Send + 'static,
    {
        // A set, since that ends its task when it is dropped.
        let mut task = JoinSet::new();
        task.spawn(look);
        match timeout(self.pace.timeout, task.join_next()).await {
            Ok(Some(Ok(outcome))) => outcome,
            Ok(Some(Err(error))) => {
                Err(Failure::new(format!("the look-up panicked, which is a bug: {}", panic_text(error))))
            }
            Ok(None) => Err(Failure::new("the look-up did not begin, which is a bug")),
            Err(_) => {
                let (source, timeout) = (&self.source, format_duration(self.pace.timeout));
                let line = format!("no answer from {source} within {timeout}: is it up, is it reachable? (`timeout`)");
                Err(Failure::new(line))
            }
        }
    }
}

/// Waits for the first turn, and says so when it does not come at once: the topology is not to look dead.
async fn first_turn(feed: &Feed, said: &mut Option<Vec<String>>, turn: impl Future<Output = ()>) {
    let mut turn = pin!(turn);
    if said.is_some() {
        tokio::select! {
            biased;
            () = &mut turn => return,
            () = sleep(REST) => {}
        }
        let waits = vec![WAITS.to_owned()];
        feed.push(SourceUpdate::Notes(waits.clone())).await;
        *said = Some(waits);
    }
    turn.await;
}

/// Tells what is to be known of an answer, and logs it once for as long as it is so. `said` is what was told last, if
/// anything was.
pub(crate) async fn note(feed: &Feed, said: &mut Option<Vec<String>>, answer: &Answer) {
    let notes: Vec<String> = answer.notes.iter().take(NOTES_MAX).cloned().collect();
    for line in notes.iter().filter(|line| said.as_ref().is_none_or(|said| !said.contains(line))) {
        tracing::warn!(topology = %feed.topology(), "{line}");
    }
    if said.as_ref() != Some(&notes) {
        feed.push(SourceUpdate::Notes(notes.clone())).await;
        *said = Some(notes);
    }
}

/// Waits that double from one failure to the next, each give or take a tenth.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// `usual` is the wait while all is well: a longer one is the bound, a shorter one the beginning.
    pub(crate) fn new(usual: Duration) -> Self {
        let first = BACKOFF_MIN.min(usual);
        Self { first, longest: BACKOFF_MAX.max(usual), next: first }
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The wait after one more failure: at least what the source asked for.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let wait = self.next.mul_f64(rand::rng().random_range(0.9..1.1));
        self.next = (self.next * 2).min(self.longest);
        wait.max(asked.unwrap_or_default().min(WAIT_MAX))
    }
}

#[cfg(test)]
mod tests;
