//! What the world needs of a machine, so that a broken one can stand in to show that a checker bites.

use metacluster_formation::{Counters, Formation, Input, Output};
use metacluster_types::{Instant, NodeName};

/// A formation machine.
pub trait Machine {
    /// As [`Formation::handle_input`].
    fn handle_input(&mut self, now: Instant, input: Input);
    /// As [`Formation::poll_output`].
    fn poll_output(&mut self, now: Instant) -> Option<Output>;
    /// As [`Formation::next_deadline`].
    fn next_deadline(&self) -> Option<Instant>;
    /// As [`Formation::counters`].
    fn counters(&self) -> Counters;
    /// As [`Formation::is_linked`].
    fn is_linked(&self, local: &NodeName, peer: &NodeName) -> bool;
    /// How many links it knows.
    fn links(&self) -> usize;
}

impl Machine for Formation {
    fn handle_input(&mut self, now: Instant, input: Input) {
        Self::handle_input(self, now, input);
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output> {
        Self::poll_output(self, now)
    }

    fn next_deadline(&self) -> Option<Instant> {
        Self::next_deadline(self)
    }

    fn counters(&self) -> Counters {
        Self::counters(self)
    }

    fn is_linked(&self, local: &NodeName, peer: &NodeName) -> bool {
        Self::is_linked(self, local, peer)
    }

    fn links(&self) -> usize {
        Self::links(self).count()
    }
}
