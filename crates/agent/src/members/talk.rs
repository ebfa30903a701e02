//! Talk, in the task: wishes in, user events and queries out to the event log, answers back, and orders about keys.
//!
//! Invariants: what is told goes to the log at once and waits for nobody; one order changes ring, policy and file, or
//! none of them; an order counts once, and only by one who has a key of the ring.

use std::collections::{BTreeMap, VecDeque};

use metacluster_membership::{Ask, DescriptionError, Filter, Query, QueryId, QueryToken, Reply, UserError, UserEvent};
use metacluster_types::{AgentId, EventKind, Said, Subject, Tags, Zone};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::driver::Driver;
use crate::{
    events::EventLog,
    talk::{
        INTERNAL, KEYS_QUERY, KeyFile, KeyState, LocalAnswer, ORDER_TIMEOUT, Order, Outcome, Panel, Told, Who, Wish,
        policy_name,
    },
};

/// So many orders are remembered, so that none counts twice.
const ORDERS_MAX: usize = 1_024;

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
        Self { wishes, answers, panel, log, file, asked: BTreeMap::new(), orders: VecDeque::new() }
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
            let outcome = self.obey(&query);
            let answer = serde_json::to_vec(&outcome).unwrap_or_default();
            return self.say(token, Some(&answer));
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

    /// Does what a member orders about keys, and says what there is now.
    fn obey(&mut self, query: &Query) -> Outcome {
        let error = self.try_obey(query).err();
        let state = Some(KeyState::of(&self.sealer.ring().clone(), self.sealer.policy()));
        Outcome { error, state }
    }

    fn try_obey(&mut self, query: &Query) -> Result<(), String> {
        let (nonce, bytes) = self
            .sealer
            .open_order((query.asker, query.epoch), &query.payload)
            .map_err(|error| format!("it cannot read the order: {error}"))?;
        let order = Order::decode(&bytes).ok_or("it does not know this order: is it of another version?")?;
        if order == Order::List {
            return Ok(());
        }
        if self.talking.orders.contains(&(query.asker, nonce)) {
            return Err("the order came before".to_owned());
        }
        self.talking.orders.push_back((query.asker, nonce));
        if self.talking.orders.len() > ORDERS_MAX {
            self.talking.orders.pop_front();
        }
        let (mut ring, mut policy) = (self.sealer.ring().clone(), self.sealer.policy());
        order.apply(&mut ring, &mut policy).map_err(|error| error.to_string())?;
        // A rare few hundred bytes: it waits for the disk, so that nothing is confirmed that a restart would forget.
        self.talking.file.write(&ring, policy).map_err(|error| error.to_string())?;
        *self.sealer.ring() = ring;
        self.sealer.set_policy(policy);
        if let Err(error) = self.describe() {
            warn!("others are not told of the key in use: {error}");
        }
        let who = self.who(query.asker).0.name;
        match order {
            Order::List => {}
            Order::Install(key) => info!("key {} is installed, as {who} asks", key.id()),
            Order::Use(id) => info!("key {id} seals from now on, as {who} asks"),
            Order::Remove(id) => info!("key {id} is removed, as {who} asks"),
            Order::Policy(policy) => info!("encryption is \"{}\" from now on, as {who} asks", policy_name(policy)),
        }
        Ok(())
    }
}
