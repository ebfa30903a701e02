//! Talk: user events, queries, run-time tags and orders about keys, from whoever asks to the task of the members.
//!
//! [`Talk`] is the way in, for the API: a wish goes to the members' task, which has the machine, and what comes of it
//! comes back over the wish's own channel. [`Panel`] is the way back: the handlers and BEAM processes of this host that
//! may answer a query. Everything is bounded, and nobody waits for a reader that is slow: its answers are dropped, and it
//! is told how many.

mod order;
mod panel;
pub mod view;

use std::{collections::BTreeMap, time::Duration};

use metacluster_membership::{Ask, DescriptionError, UserError};
use metacluster_types::{AgentId, Tags};
use tokio::sync::{mpsc, oneshot};

pub(crate) use order::{
    KeyFile, KeyFileError, KeyState, Order, Outcome, key, key_id, policy, policy_name, read_outcome,
};
pub use panel::{LocalAnswer, Panel};

/// Names that begin so are this program's own.
pub(crate) const INTERNAL: &str = "metacluster:";
/// The query that carries orders about keys.
pub(crate) const KEYS_QUERY: &str = "metacluster:keys";
/// How long an order about keys may take.
pub(crate) const ORDER_TIMEOUT: Duration = Duration::from_secs(5);
/// Wishes that wait for the members' task.
const WISHES: usize = 64;
/// Answers that wait for whoever asked.
const ANSWERS: usize = 4_096;

/// Something that the members' task is asked to do.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Send a user event; gives its number.
    Event { name: String, payload: Vec<u8>, done: oneshot::Sender<Result<u32, UserError>> },
    /// Ask all whom the filter admits.
    Ask { ask: Ask, told: mpsc::Sender<Told>, asked: oneshot::Sender<Result<(), UserError>> },
    /// Have every member do something about its keys.
    Order { order: Order, told: mpsc::Sender<Told>, asked: oneshot::Sender<Result<(), UserError>> },
    /// Set these tags, and take away those without a value; gives all tags.
    Tags { change: BTreeMap<String, Option<String>>, done: oneshot::Sender<Result<Tags, DescriptionError>> },
}

/// A member, as people know it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Who {
    pub(crate) id: AgentId,
    pub(crate) name: String,
}

/// What comes of a query.
#[derive(Debug)]
pub(crate) enum Told {
    /// A member's answer.
    Answer { from: Who, payload: Vec<u8> },
    /// A member has nothing to say.
    Declined(Who),
    /// No more comes. These were silent; so many answers were dropped since nobody took them.
    Ends { silent: Vec<Who>, dropped: u64 },
}

/// The way to the members' task.
#[derive(Clone, Debug)]
pub struct Talk {
    wishes: mpsc::Sender<Wish>,
}

/// The members' task does not run: membership is switched off, or the agent is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this agent knows no members: membership is switched off (membership.enabled), or the agent is stopping")]
pub struct NobodyThere;

impl Talk {
    /// A way, and its end in the members' task.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Wish>) {
        let (wishes, end) = mpsc::channel(WISHES);
        (Self { wishes }, end)
    }

    /// A way to nowhere.
    #[must_use]
    pub fn nowhere() -> Self {
        Self::new().0
    }

    pub(crate) async fn event(&self, name: String, payload: Vec<u8>) -> Result<Result<u32, UserError>, NobodyThere> {
        let (done, sent) = oneshot::channel();
        self.wish(Wish::Event { name, payload, done }).await?;
        sent.await.map_err(|_| NobodyThere)
    }

    pub(crate) async fn tags(
        &self,
        change: BTreeMap<String, Option<String>>,
    ) -> Result<Result<Tags, DescriptionError>, NobodyThere> {
        let (done, changed) = oneshot::channel();
        self.wish(Wish::Tags { change, done }).await?;
        changed.await.map_err(|_| NobodyThere)
    }

    /// Dropping what it gives ends the query.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Result<mpsc::Receiver<Told>, UserError>, NobodyThere> {
        let ((told, replies), (asked, answer)) = (mpsc::channel(ANSWERS), oneshot::channel());
        self.wish(Wish::Ask { ask, told, asked }).await?;
        Ok(answer.await.map_err(|_| NobodyThere)?.map(|()| replies))
    }

    pub(crate) async fn order(&self, order: Order) -> Result<Result<mpsc::Receiver<Told>, UserError>, NobodyThere> {
        let ((told, replies), (asked, answer)) = (mpsc::channel(ANSWERS), oneshot::channel());
        self.wish(Wish::Order { order, told, asked }).await?;
        Ok(answer.await.map_err(|_| NobodyThere)?.map(|()| replies))
    }

    async fn wish(&self, wish: Wish) -> Result<(), NobodyThere> {
        self.wishes.send(wish).await.map_err(|_| NobodyThere)
    }
}
