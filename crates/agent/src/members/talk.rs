//! Talk, in the task: wishes in, user events and queries out to the event log, answers back, and orders about keys.
//!
//! Invariants: what is told goes to the log at once and waits for nobody; one order changes ring, policy and file, or
//! none of them; an order counts once, and only by one who has a key of the ring.

use std::collections::{BTreeMap, VecDeque};

use metacluster_membership::{
    Ask, DescriptionError, Filter, Keyring, Policy, Query, QueryId, QueryToken, Reply, UserError, UserEvent,
};
use metacluster_types::{AgentId, EventKind, Said, Subject, Tags, Zone};
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
};
use tracing::{debug, info, warn};

use super::driver::Driver;
use crate::{
    events::EventLog,
    talk::{
        INTERNAL, KEYS_QUERY, KeyFile, KeyFileError, KeyState, LocalAnswer, ORDER_TIMEOUT, Order, Outcome, Panel, Told,
        Who, Wish, policy_name,
    },
};

/// So many orders are remembered, so that none counts twice.
const ORDERS_MAX: usize = 1_024;
/// So many orders wait while one is written; one more is refused.
const WAITING_MAX: usize = 16;

/// What the task itself keeps of talk.
pub(super) struct Talking {
    pub(super) wishes: mpsc::Receiver<Wish>,
    pub(super) answers: mpsc::Receiver<LocalAnswer>,
    panel: Panel,
    log: EventLog,
    file: KeyFile,
    asked: BTreeMap<QueryId, Asking>,
    /// Who gave an order, and its nonce.
    orders: VecDeque<(AgentId, u64)>,
    /// The keyring on its way to the disk, and what is done once it is there.
    pub(super) keeping: JoinSet<Result<(), KeyFileError>>,
    kept: Option<Kept>,
    /// Orders that wait for the one before them.
    waiting: VecDeque<(QueryToken, AgentId, Order)>,
}

/// An order that is carried out once the disk has it.
struct Kept {
    token: QueryToken,
    asker: AgentId,
    order: Order,
    ring: Keyring,
    policy: Policy,
}

/// What talk hands to the task: the wishes of others, and where what is told goes.
pub(crate) struct TalkEnds {
    pub(crate) wishes: mpsc::Receiver<Wish>,
    pub(crate) answers: mpsc::Receiver<LocalAnswer>,
    pub(crate) panel: Panel,
    pub(crate) log: EventLog,
}

/// A query that somebody here waits for.
struct Asking {
    told: mpsc::Sender<Told>,
    dropped: u64,
}

impl Talking {
    pub(super) fn new(ends: TalkEnds, file: KeyFile) -> Self {
        let TalkEnds { wishes, answers, panel, log } = ends;
        Self {
            wishes,
            answers,
            panel,
            log,
            file,
            asked: BTreeMap::new(),
            orders: VecDeque::new(),
            keeping: JoinSet::new(),
            kept: None,
            waiting: VecDeque::new(),
        }
    }

    /// The machine is another one: nothing comes of what the one before was asked.
    pub(super) fn forget(&mut self) {
        self.asked.clear();
    }
}

impl Driver {
    /// Whoever waits for an outcome may be gone; then it is nobody's.
    pub(super) fn on_wish(&mut self, wish: Wish) {
        match wish {
            Wish::Event { name, payload, done } => {
                let sent = self.machine.send_event(self.clock.now(), &name, &payload);
                done.send(sent).ok();
            }
            Wish::Ask { ask, told, asked } => {
                asked.send(self.ask(ask, told)).ok();
            }
            Wish::Order { order, told, asked } => {
                let from = (self.id, self.machine.stamp().epoch);
                let payload = self.sealer.seal_order(from, rand::random(), &order.encode());
                let (name, filter) = (KEYS_QUERY.to_owned(), Filter::default());
                let ask = Ask { name, payload, filter, timeout: ORDER_TIMEOUT, acks: false };
                asked.send(self.ask(ask, told)).ok();
            }
            Wish::Tags { change, done } => {
                done.send(self.change_tags(change)).ok();
            }
        }
    }

    fn ask(&mut self, ask: Ask, told: mpsc::Sender<Told>) -> Result<(), UserError> {
        let query = self.machine.ask(self.clock.now(), ask)?;
        self.talking.asked.insert(query, Asking { told, dropped: 0 });
        Ok(())
    }

    fn change_tags(&mut self, change: BTreeMap<String, Option<String>>) -> Result<Tags, DescriptionError> {
        if change.is_empty() {
            return Ok(self.agent.tags.clone());
        }
        let mut tags = self.agent.tags.clone();
        for (key, value) in change {
            match value {
                Some(value) => drop(tags.insert(key, value)),
                None => drop(tags.remove(&key)),
            }
        }
        let before = std::mem::replace(&mut self.agent.tags, tags);
        if let Err(error) = self.describe() {
            self.agent.tags = before;
            return Err(error);
        }
        self.publish_soon();
        Ok(self.agent.tags.clone())
    }

    fn who(&self, id: AgentId) -> (Who, Option<Zone>) {
        let description = if id == self.id {
            Some(self.machine.description().clone())
        } else {
            self.machine.member(id).map(|member| member.description)
        };
        match description {
            Some(described) => (Who { id, name: described.name }, described.place.zone),
            None => (Who { id, name: id.to_string() }, None),
        }
    }

    fn publish_said(&self, kind: EventKind, from: AgentId, said: Said) {
        let (who, zone) = self.who(from);
        if self.talking.log.publish(kind, Subject::said(who.name, said), zone, None).is_none() {
            debug!("a {} came after the log was closed", kind.as_str());
        }
    }

    /// Somebody told all members something.
    pub(super) fn on_said(&mut self, event: UserEvent) {
        let UserEvent { sender, name, payload, .. } = event;
        if !name.starts_with(INTERNAL) {
            self.publish_said(EventKind::User, sender, Said { name, payload, from: sender, query: None });
        }
    }

    /// Somebody asks this agent something.
    pub(super) fn on_query(&mut self, query: Query) {
        let Query { token, asker, .. } = query;
        if query.name == KEYS_QUERY {
            return match self.take_order(&query) {
                Ok(Order::List) => self.say_keys(token, None),
                Ok(order) => {
                    self.talking.waiting.push_back((token, asker, order));
                    self.obey_next();
                }
                Err(error) => self.say_keys(token, Some(error)),
            };
        }
        if query.name.starts_with(INTERNAL) {
            return self.say(token, None);
        }
        let answered = self.talking.panel.open(token.0, &query.name);
        let waits = answered.then_some(token.0);
        self.publish_said(
            EventKind::Query,
            asker,
            Said { name: query.name, payload: query.payload, from: asker, query: waits },
        );
        if !answered {
            self.say(token, None);
        }
    }

    /// A handler or a BEAM process has said something to a query, or they all have nothing to say.
    pub(super) fn on_local_answer(&mut self, answer: LocalAnswer) {
        self.say(QueryToken(answer.query), answer.payload.as_deref());
    }

    fn say(&mut self, token: QueryToken, answer: Option<&[u8]>) {
        let now = self.clock.now();
        let said = match answer {
            Some(answer) => self.machine.answer(now, token, answer),
            None => self.machine.decline(now, token),
        };
        match said {
            Ok(()) => {}
            Err(UserError::Late) => debug!("an answer came after its query had ended"),
            Err(error) => {
                warn!("an answer to a query is not sent: {error}");
                self.machine.decline(now, token).ok();
            }
        }
    }

    /// Something comes of a query of this agent's.
    pub(super) fn on_replied(&mut self, query: QueryId, reply: Reply) {
        let told = match reply {
            Reply::Came(_) => return,
            Reply::Answer { from, payload } => Told::Answer { from: self.who(from).0, payload },
            Reply::Declined(from) => Told::Declined(self.who(from).0),
            Reply::Ends { silent } => {
                let silent = silent.into_iter().map(|id| self.who(id).0).collect();
                if let Some(Asking { told, dropped }) = self.talking.asked.remove(&query) {
                    // Full: whoever asked reads too slowly, and sees the channel close.
                    told.try_send(Told::Ends { silent, dropped }).ok();
                }
                return;
            }
        };
        let Some(asking) = self.talking.asked.get_mut(&query) else { return };
        match asking.told.try_send(told) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => asking.dropped += 1,
            Err(mpsc::error::TrySendError::Closed(_)) => self.machine.cancel(self.clock.now(), query),
        }
    }

    /// What was done about keys, and what keys there are now.
    fn say_keys(&mut self, token: QueryToken, error: Option<String>) {
        let state = Some(KeyState::of(&self.sealer.ring().clone(), self.sealer.policy()));
        let answer = serde_json::to_vec(&Outcome { error, state }).unwrap_or_default();
        self.say(token, Some(&answer));
    }

    /// Reads an order, and sees to it that it counts once.
    fn take_order(&mut self, query: &Query) -> Result<Order, String> {
        let (nonce, bytes) = self
            .sealer
            .open_order((query.asker, query.epoch), &query.payload)
            .map_err(|error| format!("it cannot read the order: {error}"))?;
        let order = Order::decode(&bytes).ok_or("it does not know this order: is it of another version?")?;
        if order == Order::List {
            return Ok(order);
        }
        if self.talking.orders.contains(&(query.asker, nonce)) {
            return Err("the order came before".to_owned());
        }
        if self.talking.waiting.len() >= WAITING_MAX {
            return Err("too many orders at once".to_owned());
        }
        self.talking.orders.push_back((query.asker, nonce));
        if self.talking.orders.len() > ORDERS_MAX {
            self.talking.orders.pop_front();
        }
        Ok(order)
    }

    /// Begins with the next order, if none is on its way to the disk: what a restart would forget is not done, nor
    /// confirmed, and no packet waits for the disk.
    fn obey_next(&mut self) {
        while self.talking.kept.is_none() {
            let Some((token, asker, order)) = self.talking.waiting.pop_front() else { return };
            let (mut ring, mut policy) = (self.sealer.ring().clone(), self.sealer.policy());
            if let Err(error) = order.apply(&mut ring, &mut policy) {
                self.say_keys(token, Some(error.to_string()));
                continue;
            }
            let (file, written) = (self.talking.file.clone(), ring.clone());
            self.talking.keeping.spawn_blocking(move || file.write(&written, policy));
            self.talking.kept = Some(Kept { token, asker, order, ring, policy });
        }
    }

    /// The keyring is on the disk, or cannot be: then nothing is done.
    pub(super) fn on_kept(&mut self, written: Result<Result<(), KeyFileError>, JoinError>) {
        let error = match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(Kept { token, asker, order, ring, policy }) = self.talking.kept.take() {
            if error.is_none() {
                *self.sealer.ring() = ring;
                self.sealer.set_policy(policy);
                if let Err(error) = self.describe() {
                    warn!("others are not told of the key in use: {error}");
                }
                self.say_obeyed(asker, &order);
            }
            self.say_keys(token, error);
        }
        self.obey_next();
    }

    fn say_obeyed(&self, asker: AgentId, order: &Order) {
        let who = self.who(asker).0.name;
        match order {
            Order::List => {}
            Order::Install(key) => info!("key {} is installed, as {who} asks", key.id()),
            Order::Use(id) => info!("key {id} seals from now on, as {who} asks"),
            Order::Remove(id) => info!("key {id} is removed, as {who} asks"),
            Order::Policy(policy) => info!("encryption is \"{}\" from now on, as {who} asks", policy_name(*policy)),
        }
    }
}
