//! Events and queries on their way: each sent a bounded number of times, those that were sent least first, the oldest of
//! these first, so that one sender's events mostly come in order.

use std::collections::{BTreeMap, BTreeSet};

use metacluster_types::AgentId;

use super::kept::EventKey;

/// So many wait; when there are more, the one that was sent most goes. A member that lacks it learns so from a head.
const RUMOURS_MAX: usize = 512;
/// So many are looked at to fill a packet.
const LOOKS_MAX: usize = 16;

/// What is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rumour {
    Event(EventKey),
    Query((AgentId, u32)),
}

#[derive(Debug, Default)]
pub(super) struct Rumours {
    /// How often it was sent, and its place in the queue.
    sent: BTreeMap<Rumour, (usize, u64)>,
    order: BTreeSet<(usize, u64, Rumour)>,
    queued: u64,
}

impl Rumours {
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(super) fn put(&mut self, rumour: Rumour) {
        if self.sent.contains_key(&rumour) {
            return;
        }
        if self.sent.len() >= RUMOURS_MAX
            && let Some(&(_, _, most_sent)) = self.order.last()
        {
            self.remove(most_sent);
        }
        self.queued += 1;
        self.sent.insert(rumour, (0, self.queued));
        self.order.insert((0, self.queued, rumour));
    }

    fn remove(&mut self, rumour: Rumour) {
        if let Some((sent, place)) = self.sent.remove(&rumour) {
            self.order.remove(&(sent, place, rumour));
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(Rumour) -> bool) {
        self.sent.retain(|&rumour, _| keep(rumour));
        self.order.retain(|&(_, _, rumour)| keep(rumour));
    }

    /// Fills a packet up to `bytes_max`. `put` writes one, or says that it is nobody's news any more. Says whether there
    /// was more.
    pub(super) fn fill(
        &mut self,
        out: &mut Vec<u8>,
        bytes_max: usize,
        retransmits: usize,
        put: impl Fn(Rumour, &mut Vec<u8>) -> Option<()>,
    ) -> bool {
        let looked: Vec<_> = self.order.iter().take(LOOKS_MAX).copied().collect();
        let mut more = self.order.len() > looked.len();
        for (sent, place, rumour) in looked {
            let begin = out.len();
            let written = put(rumour, out).is_some();
            if written && out.len() > bytes_max {
                out.truncate(begin);
                more = true;
                continue;
            }
            self.order.remove(&(sent, place, rumour));
            if !written || sent + 1 >= retransmits {
                self.sent.remove(&rumour);
            } else {
                self.sent.insert(rumour, (sent + 1, place));
                self.order.insert((sent + 1, place, rumour));
            }
        }
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Epoch;

    fn rumour(sequence: u32) -> Rumour {
        Rumour::Event((AgentId(1), Epoch(1), sequence))
    }

    #[test]
    fn each_is_sent_a_bounded_number_of_times_and_the_oldest_first() {
        let mut rumours = Rumours::default();
        (1..=3).for_each(|sequence| rumours.put(rumour(sequence)));
        let put = |rumour: Rumour, out: &mut Vec<u8>| {
            let Rumour::Event((_, _, sequence)) = rumour else { return None };
            out.push(u8::try_from(sequence).expect("few"));
            Some(())
        };
        let mut out = Vec::new();
        assert!(rumours.fill(&mut out, 2, 3, put), "one did not fit");
        assert_eq!(out, [1, 2]);
        let mut rest = Vec::new();
        for _ in 0..4 {
            rumours.fill(&mut rest, 100, 3, put);
        }
        assert_eq!(rest, [3, 1, 2, 3, 1, 2, 3], "each three times in all");
        assert!(rumours.is_empty() && rumours.order.is_empty());
    }

    #[test]
    fn the_queue_is_bounded_and_lets_go_of_what_is_nobodys_news() {
        let mut rumours = Rumours::default();
        (0..10_000).for_each(|sequence| rumours.put(rumour(sequence)));
        assert_eq!((rumours.len(), rumours.order.len()), (RUMOURS_MAX, RUMOURS_MAX));
        let mut out = Vec::new();
        while rumours.fill(&mut out, 100, 3, |_, _| None) {}
        assert!(rumours.is_empty());
    }
}
