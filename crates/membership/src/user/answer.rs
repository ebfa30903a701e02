//! The other side of a query: whether it is for this member, and its answer on the way to the asker.

use std::{net::SocketAddr, time::Duration};

use metacluster_types::{AgentId, Instant};

use super::{ANSWER_BYTES_MAX, Query, QueryToken, User, UserError, ask::QUERIES_OF_ASKER, rumours::Rumour};
use crate::{
    Membership, Output,
    codec::{
        message::{AnswerKind, Message},
        user::QueryItem,
    },
    sync::Purpose,
    timers::Timer,
};

/// So many queries are remembered; one more is refused.
const SEEN_MAX: usize = 2048;
/// A query is remembered for so long at least, so that one asker has a bounded number of them.
const SEEN_FOR: Duration = Duration::from_secs(10);
/// So many queries wait for this member at once; one more is refused.
const OPEN_MAX: usize = 512;
/// An answer is sent so often in packets before it goes over a stream.
const ANSWER_TRIES: u32 = 4;

/// A query that came lately.
#[derive(Debug)]
pub(crate) struct Seen {
    query: QueryItem,
    ends_at: Instant,
    pub(super) until: Instant,
    token: Option<QueryToken>,
}

impl Seen {
    /// The query as it goes to others, with the time that is left; none once it has ended.
    pub(super) fn item(&self, now: Instant) -> Option<QueryItem> {
        let left = self.ends_at.since(now);
        (left > Duration::ZERO).then(|| QueryItem { left, ..self.query.clone() })
    }
}

/// A query that waits for this member's answer, or an answer that waits for the asker's word.
#[derive(Debug)]
pub(crate) struct Open {
    asker: AgentId,
    number: u32,
    ends_at: Instant,
    due: Instant,
    answer: Option<Message>,
    tries: u32,
}

impl Membership {
    /// A query came, by whatever way.
    pub(super) fn on_query(&mut self, now: Instant, query: QueryItem) {
        let (asker, number) = (query.asker, query.number);
        if let Some(seen) = self.user.seen.get(&(asker, number)) {
            // The asker asks again, so it has not heard of this member.
            if query.acks
                && seen.token.is_some_and(|token| self.user.open.get(&token).is_some_and(|open| open.answer.is_none()))
            {
                self.say_came(asker, number);
            }
            return;
        }
        if asker == self.me && !self.user.asked.contains_key(&number) {
            return;
        }
        let known = asker == self.me || self.members.of(asker).is_some_and(|member| member.is_live());
        let of_asker = |user: &User| user.seen.range((asker, 0)..=(asker, u32::MAX)).count();
        if of_asker(&self.user) >= 2 * QUERIES_OF_ASKER || self.user.seen.len() >= SEEN_MAX {
            self.user.seen.retain(|_, seen| seen.until > now);
        }
        let of_asker = of_asker(&self.user);
        let room =
            self.user.seen.len() < SEEN_MAX && of_asker < 2 * QUERIES_OF_ASKER && self.user.open.len() < OPEN_MAX;
        if !known || (!room && asker != self.me) || query.left == Duration::ZERO {
            self.counters.user_refused += 1;
            return;
        }
        let ends_at = now + query.left;
        let meant = query.filter.admits(self.me, &self.description);
        let token = meant.then(|| {
            self.user.next_token += 1;
            QueryToken(self.user.next_token)
        });
        let epoch = query.epoch;
        let (name, payload, left, acks) = (query.name.clone(), query.payload.clone(), query.left, query.acks);
        let until = ends_at.max(now + SEEN_FOR);
        self.user.seen.insert((asker, number), Seen { query, ends_at, until, token });
        self.user.rumours.put(Rumour::Query((asker, number)));
        self.wake_forget(now);
        self.wake_gossip(now);
        if let Some(token) = token {
            self.timers.set(ends_at, Timer::Open(token));
            let open = Open { asker, number, ends_at, due: ends_at, answer: None, tries: 0 };
            self.user.open.insert(token, open);
            self.counters.queries_received += 1;
            self.push(Output::Query(Query { token, asker, epoch, name, payload, left }));
            if acks {
                self.say_came(asker, number);
            }
        }
    }

    fn say_came(&mut self, asker: AgentId, number: u32) {
        if asker == self.me {
            return self.on_answer(self.last_now, self.me, number, AnswerKind::Came, Vec::new());
        }
        self.send_to_member(asker, &Message::Answer { number, kind: AnswerKind::Came, payload: Vec::new() }, &[]);
    }

    /// Answers a query.
    ///
    /// # Errors
    /// When the answer is too long (another may follow), or the query has ended or was answered.
    pub fn answer(&mut self, now: Instant, token: QueryToken, payload: &[u8]) -> Result<(), UserError> {
        let now = self.arrive(now);
        if payload.len() > ANSWER_BYTES_MAX {
            return Err(UserError::AnswerTooLong(payload.len()));
        }
        self.say(now, token, AnswerKind::Answer, payload.to_vec())
    }

    /// Says that this member has no answer, so that the asker need not wait for one.
    ///
    /// # Errors
    /// When the query has ended or was answered.
    pub fn decline(&mut self, now: Instant, token: QueryToken) -> Result<(), UserError> {
        let now = self.arrive(now);
        self.say(now, token, AnswerKind::Nothing, Vec::new())
    }

    fn say(&mut self, now: Instant, token: QueryToken, kind: AnswerKind, payload: Vec<u8>) -> Result<(), UserError> {
        let open = self.user.open.get_mut(&token).filter(|open| open.answer.is_none() && now < open.ends_at);
        let Some(open) = open else { return Err(UserError::Late) };
        let (asker, number) = (open.asker, open.number);
        if asker == self.me {
            self.close(token);
            self.on_answer(now, self.me, number, kind, payload);
        } else {
            open.answer = Some(Message::Answer { number, kind, payload });
            self.send_answer(now, token);
        }
        Ok(())
    }

    /// Sends an answer, in a packet if it fits and was not lost too often.
    fn send_answer(&mut self, now: Instant, token: QueryToken) {
        let pause = self.settings.ack_timeout * 2;
        let stream_timeout = self.settings.stream_timeout;
        let Some(open) = self.user.open.get_mut(&token) else { return };
        let (asker, tries, due, ends_at) = (open.asker, open.tries, open.due, open.ends_at);
        let Some(answer) = open.answer.clone() else { return };
        let address: Option<SocketAddr> = self.members.of(asker).map(|member| member.described.address);
        let (Some(address), true) = (address, now < ends_at) else { return self.close(token) };
        let bytes = self.begin(&answer);
        let by_packet = bytes.len() <= self.settings.datagram_bytes_max && tries < ANSWER_TRIES;
        let wait = if by_packet { pause * (tries + 1) } else { stream_timeout };
        self.timers.take_back(due, Timer::Open(token));
        let due = (now + wait).min(ends_at);
        self.timers.set(due, Timer::Open(token));
        if let Some(open) = self.user.open.get_mut(&token) {
            (open.due, open.tries) = (due, tries + 1);
        }
        if by_packet {
            self.transmit(address, bytes);
        } else {
            self.request(now, address, &answer, &[], Purpose::Answer { token });
        }
    }

    /// An answer was not taken yet, or nothing was said in time.
    pub(crate) fn on_open_due(&mut self, now: Instant, token: QueryToken) {
        let Some(open) = self.user.open.get(&token) else { return };
        if now >= open.ends_at || open.answer.is_none() {
            return self.close(token);
        }
        self.send_answer(now, token);
    }

    /// The asker has it.
    pub(crate) fn on_taken(&mut self, asker: AgentId, number: u32) {
        let token = self.user.seen.get(&(asker, number)).and_then(|seen| seen.token);
        let answered = |token: &QueryToken| self.user.open.get(token).is_some_and(|open| open.answer.is_some());
        if let Some(token) = token.filter(answered) {
            self.close(token);
        }
    }

    fn close(&mut self, token: QueryToken) {
        if let Some(open) = self.user.open.remove(&token) {
            self.timers.take_back(open.due, Timer::Open(token));
        }
    }

    /// The own query has ended: nobody here needs to answer it, and nobody is told of it any more.
    pub(super) fn hush(&mut self, now: Instant, number: u32) {
        if let Some(seen) = self.user.seen.get_mut(&(self.me, number)) {
            seen.ends_at = seen.ends_at.min(now);
            if let Some(token) = seen.token {
                self.close(token);
            }
        }
    }
}
