//! Keeps a stream from a source open: begins it again when it ends, less and less often while it fails, and repeats what
//! it told last.
//!
//! Invariants: a stream that ends changes no candidate. Of answers that come faster than they are read only the last is
//! kept. While a stream is open and silent, what it told stands, and is told again every [`REPEAT`], since an answer that
//! was doubted has to be repeated.

use std::future::Future;

use metacluster_types::SourceUpdate;
use tokio::{
    sync::watch as channel,
    task::JoinSet,
    time::{Duration, Instant, sleep_until},
};

use crate::{
    Failure, Feed,
    naming::Answer,
    poll::{Backoff, note},
    run::panic_text,
};

/// How often an answer that stands is told again.
pub const REPEAT: Duration = Duration::from_secs(5);
/// The longest wait before a stream that fails is begun again.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A stream that was open this long and ended in good order is begun again at once.
const STEADY: Duration = Duration::from_secs(1);

/// What a stream says.
#[derive(Clone, Debug)]
enum Word {
    /// It is not open yet, or has said nothing.
    Nothing,
    Answer(Answer),
    Failed(String),
}

/// The end of a stream that a strategy's body holds.
#[derive(Clone, Debug)]
pub struct Stream {
    words: channel::Sender<Word>,
}

impl Stream {
    /// Tells the whole answer as it stands now.
    pub fn tell(&self, answer: Answer) {
        self.words.send_replace(Word::Answer(answer));
    }

    /// Tells a failure that does not end the stream. What was told before stands, and is repeated no more.
    pub fn fail(&self, line: impl Into<String>) {
        self.words.send_replace(Word::Failed(line.into()));
    }
}

/// Runs the body again and again until the feed says stop; a body at work then is dropped. Each runs on a task of its
/// own, so it owns what it uses. `Ok` says that the stream ended in good order, as streams do that a server closes after
/// some time: no failure is told of it.
pub async fn watch<B, F>(feed: &Feed, mut body: B)
where
    B: FnMut(Stream) -> F,
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    tokio::select! {
        () = go_on(feed, &mut body) => {}
        () = feed.stopped() => {}
    }
}

async fn go_on<B, F>(feed: &Feed, body: &mut B)
where
    B: FnMut(Stream) -> F,
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let mut backoff = Backoff::new(BACKOFF_MAX);
    // A run that was begun anew does not know what the one before it told.
    let mut notes = (feed.attempt() == 0).then(Vec::new);
    loop {
        let begun = Instant::now();
        let (words, mut heard) = channel::channel(Word::Nothing);
        // A set, since that ends its task when it is dropped.
        let mut task = JoinSet::new();
        task.spawn(body(Stream { words }));
        let mut repeat: Option<Instant> = None;
        let ended = loop {
            let due = repeat.unwrap_or_else(Instant::now);
            let word = tokio::select! {
                // What was said last is heard before the end.
                biased;
                Ok(()) = heard.changed() => heard.borrow_and_update().clone(),
                Some(ended) = task.join_next() => break ended,
                () = sleep_until(due), if repeat.is_some() => heard.borrow().clone(),
                else => return,
            };
            repeat = match word {
                Word::Answer(answer) => {
                    backoff.reset();
                    note(feed, &mut notes, &answer).await;
                    feed.answer(answer).await;
                    Some(Instant::now() + REPEAT)
                }
                Word::Failed(line) => {
                    feed.push(SourceUpdate::Failed(line)).await;
                    None
                }
                Word::Nothing => None,
            };
        };
        let wait = match ended {
            Ok(Ok(())) if begun.elapsed() >= STEADY => continue,
            Ok(Ok(())) => backoff.next(None),
            Ok(Err(Failure { line, wait })) => {
                feed.push(SourceUpdate::Failed(line)).await;
                backoff.next(wait)
            }
            Err(error) => {
                let line = format!("the watch panicked, which is a bug: {}", panic_text(error));
                feed.push(SourceUpdate::Failed(line)).await;
                backoff.next(None)
            }
        };
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests;
