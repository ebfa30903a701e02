//! Talk: user events and queries under simulation, and what must hold of them.
//!
//! The ledger knows what was sent and what each id was delivered, over all of its boots: one sender's events come in
//! order and each once, whatever happens; what does not come is counted as skipped; a query is answered once a member,
//! ends once, and in time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use metacluster_membership::{Ask, Epoch, Filter, Query, QueryId, Reply, UserError, UserEvent, craft};
use metacluster_types::{AgentId, Instant};
use rand::RngExt;

use super::{
    checks::Violation,
    world::{Broken, CLUSTER, World},
};
use crate::network::HostId;

/// How long the queries of a simulation take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// For so long after its first boot a member may be too new for an event.
const NEW: Duration = Duration::from_secs(12);

type EventKey = (AgentId, Epoch, u32);

/// A query that was asked.
#[derive(Debug)]
struct Asked {
    at: Instant,
    answered: BTreeSet<AgentId>,
    ended: bool,
}

/// What was sent, delivered, asked and answered.
#[derive(Debug, Default)]
pub struct Talk {
    sent: BTreeMap<EventKey, Instant>,
    /// What a member of ill will made up.
    forged: BTreeSet<EventKey>,
    delivered: BTreeMap<AgentId, BTreeSet<EventKey>>,
    last: BTreeMap<(AgentId, AgentId), (Epoch, u32)>,
    first_boots: BTreeMap<AgentId, Instant>,
    asked: BTreeMap<(AgentId, u32, QueryId), Asked>,
    /// Events from before are older than their receivers take.
    jumped_at: Instant,
}

impl Talk {
    /// An event was sent.
    pub fn sent(&mut self, now: Instant, sender: AgentId, epoch: Epoch, sequence: u32) {
        self.sent.insert((sender, epoch, sequence), now);
    }

    pub(super) fn booted(&mut self, now: Instant, id: AgentId) {
        self.first_boots.entry(id).or_insert(now);
    }

    pub(super) fn jumped(&mut self, now: Instant) {
        self.jumped_at = now;
    }

    /// An event was delivered.
    ///
    /// # Errors
    /// When it came out of order or twice, or nobody sent it.
    pub fn delivered(&mut self, receiver: AgentId, event: &UserEvent) -> Result<(), Violation> {
        let UserEvent { sender, epoch, sequence, .. } = *event;
        let key = (sender, epoch, sequence);
        // The own ones are delivered while they are sent.
        if sender != receiver && !self.sent.contains_key(&key) && !self.forged.contains(&key) {
            return Err(Violation::EventFromNowhere { sender, epoch, sequence });
        }
        if let Some((last_epoch, last)) = self.last.insert((receiver, sender), (epoch, sequence))
            && (epoch, sequence) <= (last_epoch, last)
        {
            return Err(Violation::EventOutOfOrder { sender, epoch, sequence, last_epoch, last });
        }
        self.delivered.entry(receiver).or_default().insert(key);
        Ok(())
    }

    fn has(&self, receiver: AgentId, key: EventKey) -> bool {
        self.delivered.get(&receiver).is_some_and(|delivered| delivered.contains(&key))
    }

    /// A query was asked.
    pub fn asked(&mut self, at: Instant, (asker, boot): (AgentId, u32), query: QueryId) {
        self.asked.entry((asker, boot, query)).or_insert(Asked { at, answered: BTreeSet::new(), ended: false });
    }

    /// Something was told of a query.
    ///
    /// # Errors
    /// When that cannot be.
    pub fn replied(
        &mut self,
        now: Instant,
        (asker, boot): (AgentId, u32),
        query: QueryId,
        reply: &Reply,
    ) -> Result<(), Violation> {
        // What is told while it is asked comes before the ledger has it.
        let fresh = Asked { at: now, answered: BTreeSet::new(), ended: false };
        let asked = self.asked.entry((asker, boot, query)).or_insert(fresh);
        if asked.ended {
            return Err(Violation::Query("something was told after its end"));
        }
        match reply {
            Reply::Came(_) => {}
            Reply::Answer { from, .. } | Reply::Declined(from) => {
                if !asked.answered.insert(*from) {
                    return Err(Violation::Query("a member answered twice"));
                }
            }
            Reply::Ends { .. } => asked.ended = true,
        }
        Ok(())
    }
}

impl World<'_> {
    /// A member sends an event, unless it may not.
    pub(super) fn say(&mut self, host: HostId) -> Result<Option<EventKey>, Broken> {
        let now = self.queue.now();
        let state = self.host(host);
        let (clock, id, paused) = (now + state.ahead, state.id, state.paused);
        let Some((machine, _)) = state.machine.as_mut().filter(|_| !paused) else { return Ok(None) };
        let key = match machine.send_event(clock, "said", b"something") {
            Ok(sequence) => (id, machine.stamp().epoch, sequence),
            Err(UserError::TooMany | UserError::Left) => return Ok(None),
            Err(_) => return Err((host, Violation::Query("an event that fits was refused"))),
        };
        self.talk.sent(now, key.0, key.1, key.2);
        self.drain(host)?;
        Ok(Some(key))
    }

    /// A member asks all.
    pub(super) fn ask(&mut self, host: HostId) -> Result<Option<(AgentId, u32, QueryId)>, Broken> {
        let now = self.queue.now();
        let acks = self.rng.random();
        let state = self.host(host);
        let (clock, id, boot, paused) = (now + state.ahead, state.id, state.boot, state.paused);
        let Some((machine, _)) = state.machine.as_mut().filter(|_| !paused) else { return Ok(None) };
        let (name, payload) = ("asked".to_owned(), b"what".to_vec());
        let ask = Ask { name, payload, filter: Filter::default(), timeout: TIMEOUT, acks };
        let query = match machine.ask(clock, ask) {
            Ok(query) => query,
            Err(UserError::TooMany | UserError::Left) => return Ok(None),
            Err(_) => return Err((host, Violation::Query("a query that fits was refused"))),
        };
        self.talk.asked(now, (id, boot), query);
        self.drain(host)?;
        Ok(Some((id, boot, query)))
    }

    /// A member answers at once, or says that it has nothing to say.
    pub(super) fn answer(&mut self, host: HostId, query: &Query) {
        let now = self.queue.now();
        let answers = self.quiet || self.rng.random_range(0..4) > 0;
        let state = self.host(host);
        let clock = now + state.ahead;
        if let Some((machine, _)) = &mut state.machine {
            let said =
                if answers { machine.answer(clock, query.token, b"this") } else { machine.decline(clock, query.token) };
            match said {
                // It may have ended within this very step.
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// One member sends many made-up events and queries to another, in its own name or another's.
    pub(super) fn flood(&mut self) {
        let running: Vec<_> = self
            .running()
            .map(|(host, state, machine)| (host, state.id, state.address, machine.stamp().epoch))
            .collect();
        if running.len() < 3 {
            return;
        }
        let mut one = || running[self.rng.random_range(0..running.len())];
        let ((flooder, id, from, epoch), (_, other, _, others), (_, _, to, _)) = (one(), one(), one());
        let (subject, of) = if self.rng.random() { (id, epoch) } else { (other, others) };
        let first = self.rng.random_range(1..1000);
        for sequence in first..first + 300 {
            self.talk.forged.insert((subject, of, sequence));
            let recent = self.rng.random_range(0..4);
            let event = craft::event_of(CLUSTER, (id, epoch), (subject, of), sequence, recent);
            self.transmit(flooder, from, to, event);
            let query = craft::query(CLUSTER, (id, epoch), self.rng.random(), Duration::from_secs(5));
            self.transmit(flooder, from, to, query);
        }
    }

    /// In a calm world everyone sends an event, and a few ask something.
    pub(crate) fn all_talk(&mut self) -> Result<(), Broken> {
        let hosts: Vec<HostId> = self.running().map(|(host, _, _)| host).collect();
        for (number, &host) in hosts.iter().enumerate() {
            self.say(host)?;
            if number < 3 {
                self.ask(host)?;
            }
        }
        Ok(())
    }

    /// What somebody has not heard of what was said since then, or did not answer.
    pub(crate) fn unheard(&self, since: Instant) -> Option<Violation> {
        let members = self.running().count();
        for (_, host, machine) in self.running() {
            let lacks =
                |(&key, &at): (&EventKey, &Instant)| (at >= since && !self.talk.has(host.id, key)).then_some(key);
            if let Some((sender, _, sequence)) = self.talk.sent.iter().find_map(lacks) {
                let skipped = machine.counters().events_skipped;
                return Some(Violation::EventsLost { observer: host.id, missing: 1, skipped, sender, sequence });
            }
        }
        let asked = self.talk.asked.values().filter(|asked| asked.at >= since);
        let short = asked.map(|asked| asked.answered.len()).find(|&answers| answers < members);
        if let Some(answers) = short {
            return Some(Violation::QueryUnanswered { answers, members });
        }
        let late = |asked: &Asked| !asked.ended && self.queue.now().since(asked.at) > TIMEOUT * 2;
        let runs = |asker: AgentId, boot| self.running().any(|(_, host, _)| host.id == asker && host.boot == boot);
        let stuck = self.talk.asked.iter().find(|&(&(asker, boot, _), asked)| late(asked) && runs(asker, boot));
        stuck.map(|_| Violation::Query("it did not end in time"))
    }

    /// Events of the boots that run that some member was there for, and that neither came nor are counted as skipped.
    /// Where somebody makes events up, nothing is promised of those that he took the numbers of.
    pub(crate) fn lost(&self) -> Option<Violation> {
        if !self.talk.forged.is_empty() {
            return None;
        }
        let kept = self.scenario.settings.event_kept;
        let boots: BTreeMap<AgentId, Epoch> =
            self.running().map(|(_, host, machine)| (host.id, machine.stamp().epoch)).collect();
        for (_, host, machine) in self.running() {
            let there = self.talk.first_boots.get(&host.id).copied().unwrap_or_default() + NEW;
            let since = there.max(self.talk.jumped_at);
            let due = self.talk.sent.iter().filter(|&(&(sender, epoch, _), &at)| {
                at > since && self.queue.now().since(at) < kept && boots.get(&sender) == Some(&epoch)
            });
            let lacking: Vec<EventKey> =
                due.map(|(&key, _)| key).filter(|&key| key.0 != host.id && !self.talk.has(host.id, key)).collect();
            let (missing, skipped) = (lacking.len() as u64, host.skipped + machine.counters().events_skipped);
            if let Some(&(sender, _, sequence)) = lacking.first()
                && missing > skipped
            {
                return Some(Violation::EventsLost { observer: host.id, missing, skipped, sender, sequence });
            }
        }
        None
    }
}
