//! Who of this host may answer a query, and what they said: the first answer goes out; when all have nothing to say, so
//! much is said at once.
//!
//! Handlers are known from the configuration, and each says in the end whether it has an answer. BEAM processes come and
//! go, and need not answer; where one listens, the query stays open until its deadline.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metacluster_types::EventKind;
use tokio::sync::mpsc;

use crate::config::HandlerConfig;

/// Queries that wait at once; the oldest is let go, and so ends unanswered. As many as the machine has open.
const OPEN_MAX: usize = 512;
/// Answers that wait for the members' task; one more is dropped, and the asker sees silence.
const ANSWERS: usize = 512;

/// What this host says to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalAnswer {
    /// The query, as the members' task numbers it.
    pub(crate) query: u64,
    /// The answer, or that there is none.
    pub(crate) payload: Option<Vec<u8>>,
}

/// The panel. Clones share it.
#[derive(Clone, Debug)]
pub struct Panel {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    handlers: Vec<HandlerConfig>,
    inner: Mutex<Inner>,
    answers: mpsc::Sender<LocalAnswer>,
}

#[derive(Debug, Default)]
struct Inner {
    /// BEAM processes that take queries.
    processes: usize,
    /// How many may still answer each query.
    open: BTreeMap<u64, usize>,
}

impl Panel {
    /// A panel of these handlers, and what it says.
    #[must_use]
    pub fn new(handlers: &[HandlerConfig]) -> (Self, mpsc::Receiver<LocalAnswer>) {
        let (answers, said) = mpsc::channel(ANSWERS);
        let asks = |handler: &&HandlerConfig| {
            handler.on.contains(&EventKind::Query) || handler.named.iter().any(|(kind, _)| *kind == EventKind::Query)
        };
        let handlers = handlers.iter().filter(asks).cloned().collect();
        (Self { shared: Arc::new(Shared { handlers, inner: Mutex::default(), answers }) }, said)
    }

    /// A query came. Says whether anybody may answer it.
    pub(crate) fn open(&self, query: u64, name: &str) -> bool {
        let handlers = self.shared.handlers.iter().filter(|of| of.wants_named(EventKind::Query, name)).count();
        let mut inner = self.inner();
        let parties = handlers + inner.processes;
        if parties > 0 {
            inner.open.insert(query, parties);
        }
        while inner.open.len() > OPEN_MAX {
            inner.open.pop_first();
        }
        parties > 0
    }

    /// Somebody has an answer, or has none.
    pub(crate) fn answer(&self, query: u64, payload: Option<Vec<u8>>) {
        {
            let mut inner = self.inner();
            let Some(parties) = inner.open.get_mut(&query) else { return };
            *parties = parties.saturating_sub(1);
            if payload.is_none() && *parties > 0 {
                return;
            }
            inner.open.remove(&query);
        }
        if self.shared.answers.try_send(LocalAnswer { query, payload }).is_err() {
            tracing::warn!("an answer to a query was dropped: too many at once, or the agent is stopping");
        }
    }

    /// A BEAM process takes queries from now on, or does so no more.
    pub(crate) fn processes(&self, more: usize, fewer: usize) {
        let mut inner = self.inner();
        inner.processes = (inner.processes + more).saturating_sub(fewer);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Counts are never half changed.
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use metacluster_types::Pattern;

    use super::*;

    fn handler(name: &str) -> HandlerConfig {
        HandlerConfig {
            on: BTreeSet::new(),
            named: vec![(EventKind::Query, Pattern::new(name))],
            command: vec!["true".to_owned()],
            at_most: 1,
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn the_first_answer_goes_out_and_silence_is_told_when_all_are_silent() {
        let (panel, mut said) = Panel::new(&[handler("load"), handler("lo*")]);
        assert!(!panel.open(1, "other"), "nobody takes it");
        assert!(panel.open(2, "load"));
        panel.answer(2, None);
        assert!(said.try_recv().is_err(), "the other one may answer");
        panel.answer(2, None);
        assert_eq!(said.try_recv(), Ok(LocalAnswer { query: 2, payload: None }));
        assert!(panel.open(3, "load"));
        panel.answer(3, Some(b"1".to_vec()));
        panel.answer(3, Some(b"2".to_vec()));
        assert_eq!(said.try_recv(), Ok(LocalAnswer { query: 3, payload: Some(b"1".to_vec()) }));
        assert!(said.try_recv().is_err(), "one answer only");
    }

    #[test]
    fn a_process_that_listens_keeps_a_query_open() {
        let (panel, mut said) = Panel::new(&[handler("load")]);
        panel.processes(1, 0);
        assert!(panel.open(1, "anything") && panel.open(2, "load"));
        panel.answer(2, None);
        assert!(said.try_recv().is_err());
        panel.processes(0, 1);
        assert!(!panel.open(3, "anything"));
    }
}
