//! Every bound and wait of the machine, by name.

use std::time::Duration;

/// Bounds and waits. A zero where one makes no sense counts as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Dials in flight at once; what is due beyond that waits its turn. Default 16.
    pub dials_in_flight_max: usize,
    /// Of those, at most so many for dropped links and failing peers, so that dead hosts never hold up a new node.
    /// Default 8.
    pub retries_in_flight_max: usize,
    /// Dials a second in the long run. Default 50.
    pub dials_per_second: u32,
    /// Dials at once after a rest. Default 64.
    pub dials_burst: u32,
    /// A dial without an outcome is given up after this. Default 10 s, above the BEAM's own 7 s.
    pub dial_timeout: Duration,
    /// How a failing peer is tried again.
    pub back_off: BackOff,
    /// How long the dial of a new candidate is left to the candidate's own agent, ± a quarter. Default 100 ms.
    pub hold_off: Duration,
    /// A dropped link is dialled again after a wait between this … Default 50 ms.
    pub redial_min: Duration,
    /// … and this. Default 250 ms.
    pub redial_max: Duration,
    /// A link that lasted less than this and drops again and again is backed off like a failure. Default 5 s.
    pub link_stable: Duration,
    /// Early tries of one failing peer, for a sign of life, keep this apart; twice as far after each that failed.
    /// Default 1 s.
    pub early_gap: Duration,
    /// The most that early tries are held apart. Default 30 s.
    pub early_gap_max: Duration,
    /// Candidates of one topology; what is beyond is refused and counted. Default 10,000.
    pub candidates_max: usize,
    /// Links that no topology wants and that are kept in mind all the same; what is beyond is not recorded.
    /// Default 100,000.
    pub unwanted_links_max: usize,
    /// The summary of failing peers is said at most this often. Default 60 s.
    pub summary_interval: Duration,
    /// A pruned peer that lives is checked again after this. Default 30 s.
    pub check_interval: Duration,
    /// Checks of pruned peers in flight at once. Default 16.
    pub checks_in_flight_max: usize,
    /// Checks of peers on failed hosts in flight at once; further hosts wait. A host is checked as a whole, so one with
    /// more peers than this is checked alone. Default 512.
    pub host_checks_in_flight_max: usize,
    /// A host's check without an outcome is given up after this. Default 3 s.
    pub host_check_timeout: Duration,
    /// A failed host that answered is checked again after this, then twice as long each time, up to `check_interval`.
    /// Default 1 s.
    pub host_recheck_min: Duration,
    /// For how long membership's verdict backs a silent check when an earlier one was answered: the agent may have been
    /// the first to go on a host that was dying. Default 10 s.
    pub verdict_fresh: Duration,
    /// Failed hosts that are kept in mind; of what is beyond, nothing is dropped before the BEAM does. Default 10,000.
    pub failed_hosts_max: usize,
    /// A link between nodes of two cells is parted after this when the local node has moved: by then those that it left
    /// know, and do not dial it again. Default 1 s.
    pub cell_part_moved: Duration,
    /// Where neither has moved, or the other one has, after this; twice as long for the end whose name is greater, and
    /// then each time. Default 4 s.
    pub cell_part: Duration,
    /// The most of that. Default 1 minute.
    pub cell_part_max: Duration,
    /// A node that moved is dialled by its new cell after this, when it has parted from the old one. Default 2 s.
    pub cell_move: Duration,
    /// Nodes of one failed host that are kept in mind. Default 1,000.
    pub failed_nodes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dials_in_flight_max: 16,
            retries_in_flight_max: 8,
            dials_per_second: 50,
            dials_burst: 64,
            dial_timeout: Duration::from_secs(10),
            back_off: BackOff::default(),
            hold_off: Duration::from_millis(100),
            redial_min: Duration::from_millis(50),
            redial_max: Duration::from_millis(250),
            link_stable: Duration::from_secs(5),
            early_gap: Duration::from_secs(1),
            early_gap_max: Duration::from_secs(30),
            candidates_max: 10_000,
            unwanted_links_max: 100_000,
            summary_interval: Duration::from_secs(60),
            check_interval: Duration::from_secs(30),
            checks_in_flight_max: 16,
            host_checks_in_flight_max: 512,
            host_check_timeout: Duration::from_secs(3),
            host_recheck_min: Duration::from_secs(1),
            verdict_fresh: Duration::from_secs(10),
            failed_hosts_max: 10_000,
            cell_part_moved: Duration::from_secs(1),
            cell_part: Duration::from_secs(4),
            cell_part_max: Duration::from_secs(60),
            cell_move: Duration::from_secs(2),
            failed_nodes_max: 1_000,
        }
    }
}

/// Exponential back-off. Jitter takes up to a quarter off a wait and never adds to it, so the caps hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// The wait after the first failure. Default 200 ms.
    pub start: Duration,
    /// How much longer each wait is than the one before. Default 2.
    pub factor: u32,
    /// The longest wait while the peer has failed for less than `old_after`. Default 4 s.
    pub cap: Duration,
    /// When a peer counts as gone for long. Default 10 minutes.
    pub old_after: Duration,
    /// The longest wait after that. Default 30 s.
    pub cap_old: Duration,
}

impl Default for BackOff {
    fn default() -> Self {
        Self {
            start: Duration::from_millis(200),
            factor: 2,
            cap: Duration::from_secs(4),
            old_after: Duration::from_secs(600),
            cap_old: Duration::from_secs(30),
        }
    }
}

impl BackOff {
    /// The wait before jitter, after `step` steps (the first is 0), of a peer that has failed for `failing`.
    #[must_use]
    pub fn wait(&self, step: u32, failing: Duration) -> Duration {
        let cap = if failing < self.old_after { self.cap } else { self.cap_old };
        let factor = self.factor.max(1).checked_pow(step).unwrap_or(u32::MAX);
        self.start.checked_mul(factor).map_or(cap, |wait| wait.min(cap))
    }
}

impl Settings {
    pub(crate) fn normalised(mut self) -> Self {
        self.dials_in_flight_max = self.dials_in_flight_max.max(1);
        self.retries_in_flight_max = self.retries_in_flight_max.clamp(1, self.dials_in_flight_max);
        self.dials_per_second = self.dials_per_second.max(1);
        self.dials_burst = self.dials_burst.max(1);
        self.checks_in_flight_max = self.checks_in_flight_max.max(1);
        self.redial_max = self.redial_max.max(self.redial_min);
        self
    }
}
