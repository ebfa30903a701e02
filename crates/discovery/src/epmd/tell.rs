//! Turns what the epmds say into updates: a snapshot whenever the answer changed, one failure when none answers.

use metacluster_types::{Candidate, SourceUpdate};

use super::ask::Asker;
use crate::Feed;

/// What was told so far.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    told: Option<Vec<Candidate>>,
    failure: Option<String>,
}

impl Teller {
    /// Tells the candidates as they stand, if that is news. Nothing is told before each host was asked once, since a
    /// part of the answer would look like the whole.
    pub(crate) async fn tell(&mut self, feed: &Feed, asker: &Asker, candidates: Vec<Candidate>) {
        if !asker.all_asked() {
            return;
        }
        if let Some(line) = asker.all_silent() {
            self.fail(feed, line).await;
            return;
        }
        self.answer(feed, candidates).await;
    }

    /// Tells candidates that stand without any epmd.
    pub(crate) async fn answer(&mut self, feed: &Feed, candidates: Vec<Candidate>) {
        let recovered = self.failure.take().is_some();
        if recovered || self.told.as_ref() != Some(&candidates) {
            self.told = Some(candidates.clone());
            feed.push(SourceUpdate::Snapshot(candidates)).await;
        }
    }

    /// Tells a failure, once for as long as there is one.
    pub(crate) async fn fail(&mut self, feed: &Feed, line: String) {
        if self.failure.is_none() {
            self.failure = Some(line.clone());
            feed.push(SourceUpdate::Failed(line)).await;
        }
    }
}
