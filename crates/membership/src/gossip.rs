//! News that is on its way: one piece a member, sent a bounded number of times, the freshest first.

use std::collections::{BTreeMap, BTreeSet};

use metacluster_types::{AgentId, Instant};

use crate::{
    Membership,
    codec::{claim::put_claim, message::Message},
    record::Claim,
    timers::Timer,
};

/// So many pieces wait; when there are more, the one that was sent most goes.
const ITEMS_MAX: usize = 4096;
/// So many pieces are looked at to fill a packet.
const LOOKS_MAX: usize = 64;

#[derive(Debug)]
struct Item {
    bytes: Box<[u8]>,
    sent: usize,
    order: u64,
}

/// The queue of news.
#[derive(Debug, Default)]
pub(crate) struct News {
    items: BTreeMap<AgentId, Item>,
    /// Least sent first, then newest.
    order: BTreeSet<(usize, u64, AgentId)>,
    queued: u64,
}

impl News {
    /// Adds a claim; it takes the place of an older one about the same member.
    pub(crate) fn put(&mut self, claim: &Claim) {
        self.remove(claim.subject);
        if self.items.len() >= ITEMS_MAX
            && let Some(&(_, _, most_sent)) = self.order.last()
        {
            self.remove(most_sent);
        }
        let mut bytes = Vec::with_capacity(64);
        put_claim(&mut bytes, claim);
        self.queued += 1;
        let order = u64::MAX - self.queued;
        self.order.insert((0, order, claim.subject));
        self.items.insert(claim.subject, Item { bytes: bytes.into(), sent: 0, order });
    }

    pub(crate) fn remove(&mut self, subject: AgentId) {
        if let Some(item) = self.items.remove(&subject) {
            self.order.remove(&(item.sent, item.order, subject));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// Fills a packet up to `bytes_max`, and counts what it took as sent once more. Says whether there was more.
    pub(crate) fn fill(&mut self, out: &mut Vec<u8>, bytes_max: usize, retransmits: usize) -> bool {
        let mut taken = Vec::new();
        let mut more = self.order.len() > LOOKS_MAX;
        for &(sent, order, subject) in self.order.iter().take(LOOKS_MAX) {
            let Some(item) = self.items.get(&subject) else { continue };
            if out.len() + item.bytes.len() <= bytes_max {
                out.extend_from_slice(&item.bytes);
                taken.push((sent, order, subject));
            } else {
                more = true;
            }
        }
        for (sent, order, subject) in taken {
            self.order.remove(&(sent, order, subject));
            if sent + 1 >= retransmits {
                self.items.remove(&subject);
            } else if let Some(item) = self.items.get_mut(&subject) {
                item.sent = sent + 1;
                self.order.insert((sent + 1, order, subject));
            }
        }
        more
    }
}

impl Membership {
    /// Queues news, and wakes gossip up.
    pub(crate) fn spread(&mut self, now: Instant, claim: &Claim) {
        self.news.put(claim);
        self.wake_gossip(now);
    }

    pub(crate) fn wake_gossip(&mut self, now: Instant) {
        if !self.gossip_set {
            self.gossip_set = true;
            let at = now.max(self.gossiped_at + self.settings.gossip_interval);
            self.timers.set(at, Timer::Gossip);
        }
    }

    /// One round of gossip: some members each get the freshest news, within the bytes that a second may have.
    pub(crate) fn on_gossip(&mut self, now: Instant) {
        self.gossip_set = false;
        self.gossiped_at = now;
        if self.is_silent() || (self.news.is_empty() && !self.user.has_rumours()) {
            return;
        }
        let a_round = self.settings.gossip_interval.as_secs_f64() * self.settings.gossip_bytes_per_second as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive count of packets")]
        let packets = (a_round / self.settings.datagram_bytes_max as f64).max(1.0) as usize;
        let fanout = self.settings.gossip_fanout.min(packets);
        let mut targets = self.members.draw(fanout, &mut self.rng, |_, _| true);
        if let Some(&failed) = self.recently_failed(now) {
            targets.push(failed);
        }
        let mut budget = packets;
        for target in targets {
            for _ in 0..(packets / fanout).max(1) {
                if budget == 0 || (self.news.is_empty() && !self.user.has_rumours()) {
                    break;
                }
                budget -= 1;
                // A second packet for what did not fit into the first, not for what was just sent.
                if !self.send_to_member(target, &Message::Gossip, &[]) {
                    break;
                }
            }
        }
        let waits = !self.news.is_empty() || self.user.has_rumours();
        if waits && (!self.members.live().is_empty() || self.members.len() > 0) {
            self.wake_gossip(now);
        }
    }

    /// Now and then, one that failed a moment ago is told, in case it lives.
    fn recently_failed(&mut self, now: Instant) -> Option<&AgentId> {
        use rand::RngExt;
        let failed = self.members.failed();
        if failed.is_empty() || self.rng.random_range(0..8) != 0 {
            return None;
        }
        let id = &self.members.failed()[self.rng.random_range(0..failed.len())];
        let kept = self.settings.reconnect_interval * 8;
        self.members.of(*id).is_some_and(|member| now.since(member.since) < kept).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{ClaimKind, Stamp, Version};

    fn claim(subject: u128) -> Claim {
        Claim {
            subject: AgentId(subject),
            stamp: Stamp::default(),
            version: Version(0),
            kind: ClaimKind::Alive,
            described: None,
        }
    }

    #[test]
    fn news_is_sent_a_bounded_number_of_times_and_the_freshest_first() {
        let mut news = News::default();
        news.put(&claim(1));
        let mut out = Vec::new();
        news.fill(&mut out, 1000, 3);
        news.put(&claim(2));
        let mut next = Vec::new();
        news.fill(&mut next, 20, 3);
        assert_eq!(next[15], 2, "what was sent less goes first");
        for _ in 0..2 {
            news.fill(&mut out, 1000, 3);
        }
        assert!(news.is_empty());
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut news = News::default();
        for subject in 0..10_000 {
            news.put(&claim(subject));
        }
        assert_eq!((news.len(), news.order.len()), (ITEMS_MAX, ITEMS_MAX));
    }
}
