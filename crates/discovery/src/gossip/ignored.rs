//! What was ignored, counted by reason and told in one line a minute at most.

use std::{collections::BTreeMap, time::Duration};

use metacluster_types::Instant;

/// The least time between two reports.
const EVERY: Duration = Duration::from_secs(60);

/// Why a datagram changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// More came than is read in a second.
    Flood,
    /// Longer than any heartbeat.
    Oversized,
    /// It does not open with our secret.
    Sealed,
    /// It does not begin like a heartbeat.
    Prefix,
    /// Its term is broken or costs too much.
    Term,
    /// Its term is no heartbeat's.
    Content,
    /// It names a node that runs without distribution.
    Undistributed,
    /// It is of another cluster.
    OtherCluster,
    /// The table of peers is full.
    Full,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Self::Flood => "above the limit of a second",
            Self::Oversized => "too long",
            Self::Sealed => "that our secret does not open",
            Self::Prefix => "that are no heartbeats (sealed with a secret, or of another program)",
            Self::Term => "with a broken term",
            Self::Content => "without a node's name",
            Self::Undistributed => "of a node without distribution",
            Self::OtherCluster => "of another cluster",
            Self::Full => "of new peers, when the table of peers was full",
        }
    }
}

/// The counts since the last report, and in all.
#[derive(Debug, Default)]
pub(crate) struct Ignored {
    fresh: BTreeMap<Reason, u64>,
    total: u64,
    reported: Option<Instant>,
}

impl Ignored {
    pub(crate) fn count(&mut self, reason: Reason) {
        *self.fresh.entry(reason).or_default() += 1;
        self.total += 1;
    }

    /// The line to log, if there is something to tell and the last line is old enough.
    pub(crate) fn report(&mut self, now: Instant) -> Option<String> {
        if self.fresh.is_empty() || self.reported.is_some_and(|at| now.since(at) < EVERY) {
            return None;
        }
        self.reported = Some(now);
        let parts: Vec<String> =
            std::mem::take(&mut self.fresh).into_iter().map(|(why, count)| format!("{count} {}", why.text())).collect();
        Some(format!("ignored datagrams: {} ({} in all)", parts.join(", "), self.total))
    }

    #[cfg(test)]
    pub(crate) fn fresh(&self, reason: Reason) -> u64 {
        self.fresh.get(&reason).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_counts_all() {
        let mut ignored = Ignored::default();
        assert_eq!(ignored.report(Instant::ZERO), None);
        ignored.count(Reason::Term);
        let line = ignored.report(Instant::ZERO).expect("the first at once");
        assert_eq!(line, "ignored datagrams: 1 with a broken term (1 in all)");
        ignored.count(Reason::Term);
        ignored.count(Reason::Flood);
        assert_eq!(ignored.report(Instant::ZERO + Duration::from_secs(59)), None);
        let line = ignored.report(Instant::ZERO + EVERY).expect("a minute later");
        assert_eq!(line, "ignored datagrams: 1 above the limit of a second, 1 with a broken term (3 in all)");
        assert_eq!(ignored.report(Instant::ZERO + EVERY * 2), None);
    }
}
