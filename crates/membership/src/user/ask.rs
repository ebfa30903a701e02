//! The asker's side of a query: whom it is for, who was silent, and the end.

use std::{collections::BTreeSet, time::Duration};

use metacluster_types::{AgentId, Instant};

use super::{Filter, QueryId, Reply, TIMEOUT_MAX, UserError, check_name, check_payload};
use crate::{
    Membership, Output,
    codec::{
        claim::description,
        message::{AnswerKind, Message},
        user::{QueryItem, put_query},
    },
    timers::Timer,
};

/// So many queries of one member run at once; one more is refused. Others take no more of it, either.
pub(super) const QUERIES_OF_ASKER: usize = 32;
/// To so many members a query is told directly in one go.
const DIRECT_MAX: usize = 64;
/// Answers to one query come to so many bytes in all; the rest is dropped and counted.
const ANSWERS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What the query is called.
    pub name: String,
    /// What it carries.
    pub payload: Vec<u8>,
    /// Whom it is for.
    pub filter: Filter,
    /// How long answers are taken.
    pub timeout: Duration,
    /// Whether to be told of each member that got it.
    pub acks: bool,
}

/// A query of this member's that runs.
#[derive(Debug)]
pub(crate) struct Asked {
    acks: bool,
    ends_at: Instant,
    due: Instant,
    /// Between two tries with those that were silent.
    pause: Duration,
    expected: BTreeSet<AgentId>,
    came: BTreeSet<AgentId>,
    done: BTreeSet<AgentId>,
    bytes: usize,
    last_told: Option<AgentId>,
}

impl Membership {
    /// Asks every member that the filter admits, this one included. What they say comes as
    /// [`Output::Replied`], and at last [`Reply::Ends`].
    ///
    /// # Errors
    /// When a part of it is too long, too many queries of this member run, or it has left. Nothing was asked.
    pub fn ask(&mut self, now: Instant, ask: Ask) -> Result<QueryId, UserError> {
        let now = self.arrive(now);
        check_name(&ask.name)?;
        check_payload(&ask.payload)?;
        ask.filter.check()?;
        if ask.timeout < Duration::from_millis(1) || ask.timeout > TIMEOUT_MAX {
            return Err(UserError::Timeout);
        }
        if self.is_silent() {
            return Err(UserError::Left);
        }
        if self.user.asked.len() >= QUERIES_OF_ASKER {
            return Err(UserError::TooMany);
        }
        let number = self.fresh_number();
        let mut expected: BTreeSet<AgentId> = self
            .members
            .iter()
            .filter(|(_, member)| member.is_live())
            .filter(|(id, member)| {
                description(&member.described.bytes).is_ok_and(|(described, _)| ask.filter.admits(*id, &described))
            })
            .map(|(id, _)| id)
            .collect();
        if ask.filter.admits(self.me, &self.description) {
            expected.insert(self.me);
        }
        let pause = (self.settings.ack_timeout * 2).max(ask.timeout / 8);
        let ends_at = now + ask.timeout;
        let due = (now + pause).min(ends_at);
        self.timers.set(due, Timer::Asked(number));
        let asked = Asked {
            acks: ask.acks,
            ends_at,
            due,
            pause,
            expected,
            came: BTreeSet::new(),
            done: BTreeSet::new(),
            bytes: 0,
            last_told: None,
        };
        self.user.asked.insert(number, asked);
        self.counters.queries_sent += 1;
        let Ask { name, payload, filter, timeout, acks } = ask;
        let query =
            QueryItem { asker: self.me, epoch: self.stamp.epoch, number, acks, left: timeout, name, payload, filter };
        self.on_query(now, query);
        self.tell_silent(now, number);
        self.end_if_done(now, number);
        Ok(QueryId(number))
    }

    /// Tells a query directly to some of those that have said nothing; those that were told first come last.
    fn tell_silent(&mut self, now: Instant, number: u32) {
        let Some(asked) = self.user.asked.get_mut(&number) else { return };
        let silent = |id: &AgentId| !asked.done.contains(id) && !asked.came.contains(id);
        let after = asked.last_told.unwrap_or(AgentId(0));
        let later = asked.expected.range(after..).filter(|&&id| id != after);
        let targets: Vec<AgentId> = later
            .chain(asked.expected.range(..=after))
            .copied()
            .filter(|id| *id != self.me && silent(id))
            .take(DIRECT_MAX)
            .collect();
        asked.last_told = targets.last().copied().or(asked.last_told);
        let Some(query) = self.user.seen.get(&(self.me, number)).and_then(|seen| seen.item(now)) else { return };
        for target in targets {
            let Some(address) = self.members.of(target).map(|member| member.described.address) else { continue };
            let mut bytes = self.begin(&Message::Gossip);
            put_query(&mut bytes, &query);
            self.transmit(address, bytes);
        }
    }

    /// Those that were silent are told once more, or it has taken its time.
    pub(crate) fn on_asked_due(&mut self, now: Instant, number: u32) {
        let Some(asked) = self.user.asked.get_mut(&number) else { return };
        if now >= asked.ends_at {
            return self.end_query(now, number);
        }
        asked.due = (now + asked.pause).min(asked.ends_at);
        self.timers.set(asked.due, Timer::Asked(number));
        self.tell_silent(now, number);
        // Somebody who failed meanwhile is not waited for.
        self.end_if_done(now, number);
    }

    /// Ends a query before its time. Nothing more is told of it but its end.
    pub fn cancel(&mut self, now: Instant, query: QueryId) {
        let now = self.arrive(now);
        self.end_query(now, query.0);
    }

    fn end_if_done(&mut self, now: Instant, number: u32) {
        let Some(asked) = self.user.asked.get(&number) else { return };
        let waits = |id: AgentId| {
            let lives = id == self.me || self.members.of(id).is_some_and(crate::state::Member::is_live);
            lives && !asked.done.contains(&id)
        };
        if !asked.expected.iter().any(|&id| waits(id)) {
            self.end_query(now, number);
        }
    }

    fn end_query(&mut self, now: Instant, number: u32) {
        let Some(asked) = self.user.asked.remove(&number) else { return };
        self.timers.take_back(asked.due, Timer::Asked(number));
        let silent = asked.expected.difference(&asked.done).copied().collect();
        self.push(Output::Replied { query: QueryId(number), reply: Reply::Ends { silent } });
        self.hush(now, number);
    }

    /// A member says something to a query.
    pub(crate) fn on_answer(&mut self, now: Instant, from: AgentId, number: u32, kind: AnswerKind, payload: Vec<u8>) {
        if from != self.me && self.members.of(from).is_none() {
            self.counters.user_refused += 1;
            return;
        }
        let Some(asked) = self.user.asked.get_mut(&number) else {
            self.counters.answers_late += 1;
            return;
        };
        let reply = match kind {
            AnswerKind::Came => {
                (asked.came.insert(from) && asked.acks && !asked.done.contains(&from)).then_some(Reply::Came(from))
            }
            AnswerKind::Nothing => asked.done.insert(from).then_some(Reply::Declined(from)),
            AnswerKind::Answer => {
                asked.bytes += payload.len();
                if asked.bytes > ANSWERS_BYTES_MAX {
                    self.counters.user_refused += 1;
                    return;
                }
                asked.done.insert(from).then_some(Reply::Answer { from, payload })
            }
        };
        if let Some(reply) = reply {
            self.push(Output::Replied { query: QueryId(number), reply });
            self.end_if_done(now, number);
        }
    }
}
