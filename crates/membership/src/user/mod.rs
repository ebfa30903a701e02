//! User events and queries: what people and programs tell, and ask, the members of a cluster.
//!
//! A **user event** is a name and a payload. Each sender numbers its events within its boot; every receiver delivers the
//! events of one sender in that order and each at most once. They travel with the gossip. A receiver that lacks one
//! waits for it for a bounded time and has it sent again; then the gap is skipped and counted. Recent events are kept,
//! so that a member that was away for a short while gets them when it is back; a member that is new gets none from
//! before it came. A sender that boots again begins anew.
//!
//! A **query** is a name, a payload, a filter and a deadline. It travels with the gossip too, and is told again directly
//! to members that have said nothing. Answers go to the asker alone, again until it says that it has them. A query ends
//! at its deadline, or when every member that it is for has answered, or has said that it will not.
//!
//! Invariants: what one member sends, or makes up, takes a bounded part of every table (`EVENT_RATE`, `KEPT_OF_SENDER`,
//! `QUERIES_OF_ASKER`); an event older than [`Settings::event_kept`](crate::Settings) is nobody's news; an answer is
//! told at most once a member and never after its query has ended.
//!
//! | file | holds |
//! |---|---|
//! | `event`, `inbox`, `kept` | user events: sending, order, what is kept |
//! | `ask`, `answer`, `filter` | queries: the asker's side, the other side, and whom they are for |
//! | `rumours` | what is on its way |
//! | `error` | refusals |

mod answer;
mod ask;
mod error;
mod event;
mod filter;
mod inbox;
mod kept;
mod rumours;

use std::{collections::BTreeMap, time::Duration};

use metacluster_types::{AgentId, Instant};

pub use ask::Ask;
pub use error::UserError;
pub use filter::Filter;
pub(crate) use filter::{FILTER_BYTES_MAX, FILTER_PARTS_MAX};

use crate::{
    Membership,
    codec::user::{UserItem, put_event, put_query},
    record::Epoch,
    timers::Timer,
};
use answer::{Open, Seen};
use ask::Asked;
use inbox::{Bucket, Inboxes};
use kept::Kept;
use rumours::{Rumour, Rumours};

/// The longest name of an event or a query, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// The longest payload of an event or a query, in bytes; so that either always fits into one packet.
pub const PAYLOAD_BYTES_MAX: usize = 512;
/// The longest answer, in bytes. One that does not fit into a packet goes over a stream.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// The longest time that a query may take.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// What is kept too long is looked for so often, while there is any.
const FORGET_INTERVAL: Duration = Duration::from_secs(20);

/// A user event, as it is delivered. The own ones are delivered too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserEvent {
    /// Who sent it.
    pub sender: AgentId,
    /// In which of its boots.
    pub epoch: Epoch,
    /// Counts the sender's events within that boot, from 1.
    pub sequence: u32,
    /// What it is called.
    pub name: String,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// A query of this member's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub(crate) u32);

/// A query that waits for this member's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryToken(pub u64);

/// A query that came, the own ones too. It wants one [`answer`](Membership::answer), or one
/// [`decline`](Membership::decline), within the time that is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// What the answer names.
    pub token: QueryToken,
    /// Who asks.
    pub asker: AgentId,
    /// In which of its boots.
    pub epoch: Epoch,
    /// What it is called.
    pub name: String,
    /// What it carries.
    pub payload: Vec<u8>,
    /// How long an answer is still taken.
    pub left: Duration,
}

/// What became of a query of this member's. `Ends` comes once, and nothing after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It came to this member; only told when that was asked for.
    Came(AgentId),
    /// This member's answer.
    Answer {
        /// Who answers.
        from: AgentId,
        /// What it says.
        payload: Vec<u8>,
    },
    /// This member has nothing to say.
    Declined(AgentId),
    /// No answer is taken any more. These members that it was for, as far as is known here, said nothing at all, in
    /// order of their ids.
    Ends {
        /// Who was silent.
        silent: Vec<AgentId>,
    },
}

/// Everything about events and queries that a member keeps.
#[derive(Debug)]
pub(crate) struct User {
    rumours: Rumours,
    kept: Kept,
    inboxes: Inboxes,
    /// The own last event, and the boot in which it was sent.
    own: (Epoch, u32),
    own_rate: Bucket,
    recall_rate: Bucket,
    /// Whether this member is so new that nothing from before can be meant for it.
    fresh: bool,
    asked: BTreeMap<u32, Asked>,
    seen: BTreeMap<(AgentId, u32), Seen>,
    open: BTreeMap<QueryToken, Open>,
    next_token: u64,
    forget_set: bool,
    /// Which of the recent heads come next.
    heads_turn: usize,
}

/// How much of events and queries is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserSizes {
    /// User events that are kept, or wait for one before them.
    pub events: usize,
    /// Senders of whom it is known what they sent last.
    pub senders: usize,
    /// Events and queries on their way.
    pub rumours: usize,
    /// Queries that were seen lately, those of others and the own.
    pub queries: usize,
    /// Queries that wait for this member's answer, and answers that wait for the asker's word.
    pub answers: usize,
}

impl User {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            rumours: Rumours::default(),
            kept: Kept::default(),
            inboxes: Inboxes::default(),
            own: (Epoch(0), 0),
            own_rate: Bucket::new(now, event::OWN_RATE),
            recall_rate: Bucket::new(now, event::RECALL_RATE),
            fresh: true,
            asked: BTreeMap::new(),
            seen: BTreeMap::new(),
            open: BTreeMap::new(),
            next_token: 0,
            forget_set: false,
            heads_turn: 0,
        }
    }

    /// Whether anything is on its way.
    pub(crate) fn has_rumours(&self) -> bool {
        !self.rumours.is_empty()
    }

    /// This process stood still, or its clock jumped: for that while nobody could have told it anything, so nobody's
    /// silence counts. Else a sender that it does not see just now would be new to it afterwards, and its old events too.
    pub(crate) fn stood_still(&mut self, now: Instant, late: Duration) {
        self.inboxes.put_off(now, late);
    }

    pub(crate) fn sizes(&self) -> UserSizes {
        UserSizes {
            events: self.kept.len(),
            senders: self.inboxes.len(),
            rumours: self.rumours.len(),
            queries: self.seen.len() + self.asked.len(),
            answers: self.open.len(),
        }
    }
}

impl Membership {
    /// Takes in what stood beside the claims of one message, by the one that sent it.
    pub(crate) fn apply_user(&mut self, now: Instant, items: Vec<UserItem>, teller: AgentId) {
        if self.is_silent() {
            return;
        }
        for item in items {
            match item {
                UserItem::Event(event) => self.on_event(now, event, Some(teller)),
                UserItem::Query(query) => self.on_query(now, query),
                UserItem::Head(head) => self.on_head(now, head, teller),
            }
        }
    }

    /// Fills a packet with events and queries on their way. Says whether there was more.
    pub(crate) fn fill_user(&mut self, out: &mut Vec<u8>, bytes_max: usize, retransmits: usize) -> bool {
        if self.user.rumours.is_empty() {
            return false;
        }
        let now = self.last_now;
        let User { rumours, kept, seen, .. } = &mut self.user;
        rumours.fill(out, bytes_max, retransmits, |rumour, out| match rumour {
            Rumour::Event(key) => kept.item(now, key).map(|event| put_event(out, &event)),
            Rumour::Query(key) => seen.get(&key).and_then(|seen| seen.item(now)).map(|query| put_query(out, &query)),
        })
    }

    /// Sees to it that what is kept is forgotten in time.
    fn wake_forget(&mut self, now: Instant) {
        if !self.user.forget_set {
            self.user.forget_set = true;
            self.timers.set(now + FORGET_INTERVAL, Timer::Forget);
        }
    }

    pub(crate) fn on_forget(&mut self, now: Instant) {
        self.user.forget_set = false;
        let kept_for = self.settings.event_kept;
        self.user.kept.forget(now, kept_for);
        self.user.seen.retain(|_, seen| seen.until > now);
        self.user.rumours.retain(|rumour| match rumour {
            Rumour::Event(key) => self.user.kept.contains(key),
            Rumour::Query(key) => self.user.seen.contains_key(&key),
        });
        // A sender that is no member any more, and of whom nothing can come any more.
        let members = &self.members;
        self.user.inboxes.retain(|id, inbox| members.of(id).is_some() || now.since(inbox.touched) < kept_for * 2);
        if self.user.kept.len() + self.user.seen.len() > 0 {
            self.wake_forget(now);
        }
    }

    /// Whether nothing from before this moment can be meant for this member.
    fn is_fresh(&self, now: Instant) -> bool {
        self.user.fresh && self.is_young(now)
    }

    /// This member has learned what there was before it came.
    pub(crate) fn no_longer_fresh(&mut self) {
        self.user.fresh = false;
    }
}

/// A name as events and queries have it.
fn check_name(name: &str) -> Result<(), UserError> {
    if name.is_empty() || name.contains(char::is_control) {
        return Err(UserError::Name);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(UserError::NameTooLong(name.len()));
    }
    Ok(())
}

fn check_payload(payload: &[u8]) -> Result<(), UserError> {
    if payload.len() > PAYLOAD_BYTES_MAX { Err(UserError::PayloadTooLong(payload.len())) } else { Ok(()) }
}
