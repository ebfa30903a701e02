//! Virtual time: events in the order in which they are due, and first come first served among equals.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use metacluster_types::Instant;

/// A queue of events. Taking one moves the clock to it.
#[derive(Debug)]
pub struct Queue<E> {
    now: Instant,
    pushed: u64,
    heap: BinaryHeap<Reverse<Entry<E>>>,
}

#[derive(Debug)]
struct Entry<E> {
    at: Instant,
    order: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { now: Instant::ZERO, pushed: 0, heap: BinaryHeap::new() }
    }
}

impl<E> Queue<E> {
    /// The time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Adds an event; one that is due in the past is due now.
    pub fn push_at(&mut self, at: Instant, event: E) {
        self.pushed += 1;
        self.heap.push(Reverse(Entry { at: at.max(self.now), order: self.pushed, event }));
    }

    /// Adds an event that is due after a wait.
    pub fn push_after(&mut self, wait: Duration, event: E) {
        self.push_at(self.now + wait, event);
    }

    /// Takes the next event if it is due by `until`; else moves the clock there.
    pub fn pop_until(&mut self, until: Instant) -> Option<E> {
        if self.heap.peek().is_some_and(|Reverse(entry)| entry.at <= until) {
            let Reverse(entry) = self.heap.pop()?;
            self.now = entry.at;
            return Some(entry.event);
        }
        self.now = self.now.max(until);
        None
    }

    /// How many events wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_of_time_and_then_of_arrival() {
        let mut queue = Queue::default();
        let at = |ms| Instant::from_origin(Duration::from_millis(ms));
        for (ms, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (3, 'b')] {
            queue.push_at(at(ms), event);
        }
        let mut order = Vec::new();
        while let Some(event) = queue.pop_until(at(5)) {
            order.push((queue.now(), event));
            if event == 'c' {
                queue.push_at(at(0), 'e');
            }
        }
        assert_eq!(order, [(at(1), 'a'), (at(3), 'b'), (at(5), 'c'), (at(5), 'd'), (at(5), 'e')]);
        assert_eq!((queue.pop_until(at(9)), queue.now(), queue.is_empty()), (None, at(9), true));
    }
}
