//! User events: sending, taking in, order, and having sent again what is missing.

use std::time::Duration;

use metacluster_types::{AgentId, Instant};
use rand::RngExt;

use super::{
    UserError, UserEvent, check_name, check_payload,
    inbox::{Gap, Rate},
    kept::{EventKey, KEPT_OF_SENDER},
    rumours::Rumour,
};
use crate::{
    Membership, Output,
    codec::{
        message::Message,
        user::{EventItem, Head, put_event, put_head},
    },
    record::Epoch,
    snapshot::Heard,
    timers::Timer,
};

/// What one member may send.
pub(super) const OWN_RATE: Rate = Rate { burst: 48.0, a_second: 8.0 };
/// What is taken of one member: more than it sends, for what was held up comes at once, and is kept once over.
const TAKEN_RATE: Rate = Rate { burst: 2.0 * KEPT_OF_SENDER as f64, a_second: 16.0 };
/// How often something is asked for again, whoever lacks it.
pub(super) const RECALL_RATE: Rate = Rate { burst: 16.0, a_second: 40.0 };
/// One answer to that has so many packets at most.
const RECALL_PACKETS_MAX: usize = 4;
/// A boot sends no more events than this; a sender that comes near begins a new boot.
const SEQUENCE_MAX: u32 = 1 << 30;
/// For so long after something came from a sender, probes and their answers tell its last event.
const HEADS_FOR: Duration = Duration::from_secs(30);
/// Of so many senders at once.
const HEADS_MAX: usize = 8;
/// A stream message tells the last events of so many senders at most.
const STREAM_HEADS_MAX: usize = 2048;
/// A stream message hands over so many bytes of events at most.
const STREAM_EVENT_BYTES_MAX: usize = 256 * 1024;

impl Membership {
    /// Sends a user event to every member, this one included, whose own comes at once as
    /// [`Output::UserEvent`]. Gives its number.
    ///
    /// # Errors
    /// When name or payload are too long, when this member sends more than others would take, or when it has left.
    /// Nothing was sent.
    pub fn send_event(&mut self, now: Instant, name: &str, payload: &[u8]) -> Result<u32, UserError> {
        let now = self.arrive(now);
        check_name(name)?;
        check_payload(payload)?;
        if self.is_silent() {
            return Err(UserError::Left);
        }
        if !self.user.own_rate.take(now) {
            return Err(UserError::TooMany);
        }
        if self.user.own.0 == self.stamp.epoch && self.user.own.1 >= SEQUENCE_MAX {
            self.raise_epoch(now, self.stamp.epoch);
        }
        let epoch = self.stamp.epoch;
        let sequence = if self.user.own.0 == epoch { self.user.own.1 + 1 } else { 1 };
        self.user.own = (epoch, sequence);
        let key = (self.me, epoch, sequence);
        let recent = u8::try_from(self.user.kept.before(key)).unwrap_or(u8::MAX);
        let event = EventItem {
            sender: self.me,
            epoch,
            sequence,
            age: Duration::ZERO,
            recent,
            name: name.to_owned(),
            payload: payload.to_vec(),
        };
        self.counters.events_sent += 1;
        let told = user_event(&event);
        self.user.kept.put(now, event);
        self.user.rumours.put(Rumour::Event(key));
        self.push(Output::UserEvent(told));
        self.wake_forget(now);
        self.wake_gossip(now);
        Ok(sequence)
    }

    /// An event came, from whom it may be asked for what is before it.
    pub(super) fn on_event(&mut self, now: Instant, event: EventItem, teller: Option<AgentId>) {
        let (sender, epoch, sequence) = (event.sender, event.epoch, event.sequence);
        if sender == self.me {
            return self.on_own_event(epoch, sequence);
        }
        // The boot must be known: else a lie about a later one would silence the true one.
        let known = self.members.of(sender).is_some_and(|member| epoch <= member.stamp.epoch);
        if !known || event.age > self.settings.event_kept || sequence == 0 || sequence >= SEQUENCE_MAX {
            self.counters.user_refused += 1;
            return;
        }
        let unheard = self.user.inboxes.of(sender).is_none();
        let before = if unheard && self.is_fresh(now) { 0 } else { event.recent.into() };
        let floor = sequence.saturating_sub(before).max(1);
        let inbox = self.user.inboxes.open(now, sender, epoch, floor, TAKEN_RATE);
        if epoch < inbox.epoch || (epoch == inbox.epoch && (sequence < inbox.next || inbox.waiting.contains(&sequence)))
        {
            return;
        }
        if !inbox.rate.take(now) {
            self.counters.user_refused += 1;
            return;
        }
        inbox.touched = now;
        if epoch > inbox.epoch {
            self.close_boot(sender);
            if let Some(inbox) = self.user.inboxes.of_mut(sender) {
                (inbox.epoch, inbox.next) = (epoch, floor);
            }
        } else if floor > inbox.next {
            // Nobody keeps those before any more.
            self.skip_to(sender, floor);
        }
        self.user.kept.put(now, event);
        self.user.rumours.put(Rumour::Event((sender, epoch, sequence)));
        if let Some(inbox) = self.user.inboxes.of_mut(sender) {
            inbox.waiting.insert(sequence);
        }
        self.deliver(now, sender);
        self.await_gap(now, sender, teller);
        self.wake_forget(now);
        self.wake_gossip(now);
    }

    /// Somebody made up an event of this member's, or remembers what this process does not: it goes on beyond that, or
    /// others would take what it says next for what they have.
    fn on_own_event(&mut self, epoch: Epoch, sequence: u32) {
        let last = if self.user.own.0 == epoch { self.user.own.1 } else { 0 };
        if epoch == self.stamp.epoch && sequence > last && sequence <= SEQUENCE_MAX {
            self.counters.lies += 1;
            self.user.own = (epoch, sequence);
        }
    }

    /// Delivers what waits and has nothing before it.
    fn deliver(&mut self, now: Instant, sender: AgentId) {
        let Some(inbox) = self.user.inboxes.of_mut(sender) else { return };
        while inbox.waiting.remove(&inbox.next) {
            let key = (sender, inbox.epoch, inbox.next);
            inbox.next += 1;
            match self.user.kept.event(key) {
                Some(event) => {
                    self.counters.events_delivered += 1;
                    self.outputs.push_back(Output::UserEvent(user_event(event)));
                }
                // It made room for others while it waited.
                None => self.counters.events_skipped += 1,
            }
        }
        if inbox.waiting.is_empty()
            && let Some(gap) = inbox.gap.take()
        {
            self.timers.take_back(gap.due, Timer::Gap(sender));
        }
        inbox.touched = now;
    }

    /// Goes on with this event, whatever of those before it waits or lacks.
    fn skip_to(&mut self, sender: AgentId, sequence: u32) {
        let now = self.last_now;
        loop {
            let Some(inbox) = self.user.inboxes.of_mut(sender) else { return };
            if inbox.next >= sequence {
                return;
            }
            let next = inbox.waiting.first().map_or(sequence, |&first| first.min(sequence));
            self.counters.events_skipped += u64::from(next - inbox.next);
            inbox.next = next;
            self.deliver(now, sender);
        }
    }

    /// The boot is over: what waits is delivered, whatever it lacks.
    fn close_boot(&mut self, sender: AgentId) {
        while let Some(&first) = self.user.inboxes.of(sender).and_then(|inbox| inbox.waiting.first()) {
            self.skip_to(sender, first);
            self.deliver(self.last_now, sender);
        }
    }

    /// Waits for what is missing, if something is, and asks for it.
    fn await_gap(&mut self, now: Instant, sender: AgentId, teller: Option<AgentId>) {
        let wait = self.settings.event_gap(self.size());
        let pause = self.settings.gossip_interval * 2;
        let Some(inbox) = self.user.inboxes.of_mut(sender) else { return };
        if inbox.waiting.is_empty() || inbox.gap.is_some() {
            return;
        }
        let due = now + pause;
        inbox.gap = Some(Gap { until: now + wait, due, tries: 0 });
        self.timers.set(due, Timer::Gap(sender));
        // It mostly comes by itself in a moment; the teller of the later one has it if anybody does.
        if let Some(teller) = teller {
            self.recall_gap(now, sender, teller);
        }
    }

    fn recall_gap(&mut self, now: Instant, sender: AgentId, whom: AgentId) {
        let Some(inbox) = self.user.inboxes.of(sender) else { return };
        let Some(&first) = inbox.waiting.first() else { return };
        let (epoch, from) = (inbox.epoch, inbox.next);
        self.recall(now, Head { sender, epoch, sequence: first.saturating_sub(1) }, from, whom);
    }

    /// Asks a member for the events of a boot from one up to the head.
    fn recall(&mut self, now: Instant, head: Head, from: u32, whom: AgentId) {
        if !self.user.recall_rate.take(now) {
            return;
        }
        let Head { sender, epoch, sequence } = head;
        self.counters.recalls += 1;
        self.send_to_member(whom, &Message::Recall { sender, epoch, from, to: sequence }, &[]);
    }

    /// What is missing has not come.
    pub(crate) fn on_gap(&mut self, now: Instant, sender: AgentId) {
        let pause = self.settings.gossip_interval * 2;
        let Some(inbox) = self.user.inboxes.of_mut(sender) else { return };
        let Some(gap) = &mut inbox.gap else { return };
        let (until, tries) = (gap.until, gap.tries);
        if now >= until {
            inbox.gap = None;
            if let Some(&first) = inbox.waiting.first() {
                self.skip_to(sender, first);
                self.deliver(now, sender);
                self.await_gap(now, sender, None);
            }
            return;
        }
        gap.tries += 1;
        gap.due = (now + pause).min(until);
        let due = gap.due;
        self.timers.set(due, Timer::Gap(sender));
        // The sender has it; where it does not answer, others may have it.
        let others = self.members.draw(1, &mut self.rng, |id, _| id != sender);
        let whom = if tries % 2 == 0 { Some(sender) } else { others.first().copied() };
        if let Some(whom) = whom {
            self.recall_gap(now, sender, whom);
        }
    }

    /// A member wants events once more.
    pub(crate) fn on_recall(&mut self, now: Instant, whom: std::net::SocketAddr, key: EventKey, to: u32) {
        let keys: Vec<EventKey> = self.user.kept.from(key).take_while(|&(_, _, sequence)| sequence <= to).collect();
        let mut keys = keys.into_iter().peekable();
        for _ in 0..RECALL_PACKETS_MAX {
            if keys.peek().is_none() {
                return;
            }
            let mut bytes = self.begin(&Message::Gossip);
            while let Some(event) = keys.peek().and_then(|&key| self.user.kept.item(now, key)) {
                let begin = bytes.len();
                put_event(&mut bytes, &event);
                if bytes.len() > self.settings.datagram_bytes_max {
                    bytes.truncate(begin);
                    break;
                }
                keys.next();
            }
            self.transmit(whom, bytes);
        }
    }

    /// A member says what the last event of a sender is.
    pub(super) fn on_head(&mut self, now: Instant, head: Head, teller: AgentId) {
        let Head { sender, epoch, sequence } = head;
        if sender == self.me {
            return self.on_own_event(epoch, sequence);
        }
        let known = self.members.of(sender).is_some_and(|member| epoch <= member.stamp.epoch);
        if !known || sequence == 0 || sequence >= SEQUENCE_MAX {
            return;
        }
        if self.is_fresh(now) {
            // All up to here is from before this member came. What is on its way comes by itself.
            if self.user.inboxes.of(sender).is_none() {
                self.user.inboxes.open(now, sender, epoch, sequence + 1, TAKEN_RATE);
            }
            return;
        }
        let lowest = sequence.saturating_sub(u32::try_from(KEPT_OF_SENDER).unwrap_or(u32::MAX)).max(1);
        let from = match self.user.inboxes.of(sender) {
            Some(inbox) if inbox.epoch > epoch => return,
            Some(inbox) if inbox.epoch == epoch => inbox.next.max(lowest),
            Some(_) | None => lowest,
        };
        let waits = self.user.inboxes.of(sender).is_some_and(|inbox| inbox.waiting.contains(&sequence));
        if from <= sequence && !waits {
            self.recall(now, head, from, teller);
        }
    }

    /// Every head that is known and of which something may be kept, the own one first and always.
    fn heads(&self) -> impl Iterator<Item = Head> {
        let (epoch, sequence) = if self.user.own.0 == self.stamp.epoch { self.user.own } else { (self.stamp.epoch, 0) };
        let kept_for = self.settings.event_kept;
        let others = self.user.inboxes.recent(self.last_now, kept_for * 2);
        let others = others.filter(|(_, inbox)| inbox.next > 1);
        std::iter::once(Head { sender: self.me, epoch, sequence }).chain(others.map(|(sender, inbox)| Head {
            sender,
            epoch: inbox.epoch,
            sequence: inbox.next - 1,
        }))
    }

    /// Adds the heads of senders that were at work lately, for a probe or its answer, up to so many bytes.
    pub(crate) fn put_recent_heads(&mut self, bytes: &mut Vec<u8>, bytes_max: usize) {
        let now = self.last_now;
        let kept = self.user.kept.len() > 0;
        if !kept {
            return;
        }
        let own = (self.user.own.0 == self.stamp.epoch && self.user.own.1 > 0)
            .then_some((self.me, self.stamp.epoch, self.user.own.1))
            .filter(|&key| self.user.kept.item(now, key).is_some_and(|event| event.age < HEADS_FOR));
        let own = own.map(|(sender, epoch, sequence)| Head { sender, epoch, sequence });
        let recent = self.user.inboxes.recent(now, HEADS_FOR).filter(|(_, inbox)| inbox.next > 1);
        let recent = recent.map(|(sender, inbox)| Head { sender, epoch: inbox.epoch, sequence: inbox.next - 1 });
        let heads: Vec<Head> = own.into_iter().chain(recent).collect();
        for turn in 0..heads.len().min(HEADS_MAX) {
            let begin = bytes.len();
            put_head(bytes, heads[(self.user.heads_turn + turn) % heads.len()]);
            if bytes.len() > bytes_max {
                bytes.truncate(begin);
                return;
            }
        }
        self.user.heads_turn = self.user.heads_turn.wrapping_add(HEADS_MAX);
    }

    /// Adds what this member has to a stream message: so the peer hands over what it lacks. A fresh one wants nothing.
    pub(crate) fn put_wants(&self, bytes: &mut Vec<u8>) {
        if !self.is_fresh(self.last_now) {
            self.heads().take(STREAM_HEADS_MAX).for_each(|head| put_head(bytes, head));
        }
    }

    /// Hands over what a peer with these heads lacks, and tells the own heads. Without any heads it wants no events.
    pub(crate) fn put_lacking(&self, bytes: &mut Vec<u8>, theirs: &[Head]) {
        let end = bytes.len() + STREAM_EVENT_BYTES_MAX;
        let now = self.last_now;
        if !theirs.is_empty() {
            for sender in self.user.kept.senders() {
                let head = theirs.iter().find(|head| head.sender == sender);
                let from = head.map_or((sender, Epoch(0), 0), |head| (sender, head.epoch, head.sequence + 1));
                for event in self.user.kept.since(from).filter_map(|key| self.user.kept.item(now, key)) {
                    if bytes.len() > end || event.age > self.settings.event_kept {
                        continue;
                    }
                    put_event(bytes, &event);
                }
            }
        }
        self.heads().filter(|head| head.sequence > 0).take(STREAM_HEADS_MAX).for_each(|head| put_head(bytes, head));
    }

    /// What was delivered of each sender, for the snapshot.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.user.inboxes.iter().map(|(id, inbox)| Heard { id, epoch: inbox.epoch, next: inbox.next }).collect()
    }

    /// Takes in what a process before this one had delivered: nothing of it is delivered again, and what came since is.
    pub(crate) fn restore_heard(&mut self, now: Instant, heard: &[Heard]) {
        self.user.fresh = false;
        for &Heard { id, epoch, next } in heard.iter().filter(|heard| heard.id != self.me) {
            self.user.inboxes.open(now, id, epoch, next.max(1), TAKEN_RATE);
        }
    }

    /// A number for a query that none can guess.
    pub(super) fn fresh_number(&mut self) -> u32 {
        loop {
            let number = self.rng.random();
            if !self.user.asked.contains_key(&number) {
                return number;
            }
        }
    }
}

fn user_event(event: &EventItem) -> UserEvent {
    UserEvent {
        sender: event.sender,
        epoch: event.epoch,
        sequence: event.sequence,
        name: event.name.clone(),
        payload: event.payload.clone(),
    }
}
