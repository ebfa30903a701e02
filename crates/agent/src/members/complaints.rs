//! One line about packets that are refused, not one a packet.
//!
//! For each reason the first is told at once with the address that it came from and what to do; those that follow within
//! a minute are counted, and told with the next.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use metacluster_membership::{DecodeError, OpenError};
use metacluster_types::Instant;
use tracing::warn;

/// The least time between two lines of one reason.
const QUIET: Duration = Duration::from_secs(60);

/// Why a packet, or what it says, was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refusal {
    Malformed,
    Incompatible,
    Foreign,
    UnknownKey,
    Forged,
    Plain,
    Replayed,
    /// It was read, and said of a member what cannot be so.
    Lie,
}

impl Refusal {
    pub(super) fn of(error: OpenError) -> Self {
        match error {
            OpenError::Malformed(DecodeError::Incompatible(_)) => Self::Incompatible,
            OpenError::Malformed(_) => Self::Malformed,
            OpenError::Foreign => Self::Foreign,
            OpenError::UnknownKey => Self::UnknownKey,
            OpenError::Forged => Self::Forged,
            OpenError::Plain => Self::Plain,
            OpenError::Replayed => Self::Replayed,
            // An error of a later version of the machine.
            _ => Self::Malformed,
        }
    }

    /// What a person should know and do; nothing where there is nothing to do.
    const fn line(self) -> Option<&'static str> {
        Some(match self {
            Self::Malformed => {
                "sends what is no packet of members; another program uses this port, or somebody tries the door"
            }
            Self::Incompatible => "speaks another version of the protocol of members: run the same version everywhere",
            Self::Foreign => {
                "is of another cluster: give both the same `cluster` if they belong together, else take its address \
                 out of this agent's topologies"
            }
            Self::UnknownKey => {
                "seals with a key that this agent does not have: use the same cookie, or the same membership.key_file, \
                 on all hosts"
            }
            Self::Forged => "sends packets that were changed on their way, or made without the key",
            Self::Plain => {
                "sends packets that are not sealed: set membership.encryption to the same on all hosts, or to \
                 \"preferred\" while it is turned on"
            }
            // A packet that the network doubled looks the same.
            Self::Replayed => return None,
            Self::Lie => {
                "says of a member what cannot be so, and is not believed: it has this cluster's key, so look at that \
                 host, and change the key with `metacluster keys` if it is none of yours"
            }
        })
    }
}

/// What was said, and how often it would have been said since.
#[derive(Debug, Default)]
pub(super) struct Complaints(BTreeMap<Refusal, Said>);

#[derive(Debug)]
struct Said {
    next: Instant,
    untold: u64,
}

impl Complaints {
    /// Says a line, if it is time for one.
    pub(super) fn refuse(&mut self, now: Instant, refusal: Refusal, from: SocketAddr) {
        if let Some(line) = self.line(now, refusal, from) {
            warn!("{line}");
        }
    }

    fn line(&mut self, now: Instant, refusal: Refusal, from: SocketAddr) -> Option<String> {
        let line = refusal.line()?;
        let said = self.0.entry(refusal).or_insert(Said { next: now, untold: 0 });
        if now < said.next {
            said.untold += 1;
            return None;
        }
        said.next = now + QUIET;
        let more = match std::mem::take(&mut said.untold) {
            0 => String::new(),
            untold => format!(" ({untold} more since the last such line)"),
        };
        Some(format!("{from} {line}{more}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn a_line_a_minute_and_reason_with_what_to_do() {
        let mut complaints = Complaints::default();
        let from: SocketAddr = "10.0.0.9:45893".parse().expect("an address");
        let first = complaints.line(at(0), Refusal::Foreign, from).expect("the first is said");
        assert!(first.starts_with("10.0.0.9:45893 is of another cluster: give both the same `cluster`"), "{first}");
        for second in 1..60 {
            assert_eq!(complaints.line(at(second), Refusal::Foreign, from), None);
        }
        assert!(complaints.line(at(30), Refusal::UnknownKey, from).expect("another").contains("cookie"));
        let next = complaints.line(at(60), Refusal::Foreign, from).expect("a minute later");
        assert!(next.ends_with("(59 more since the last such line)"), "{next}");
        assert_eq!(complaints.line(at(0), Refusal::Replayed, from), None);
    }

    #[test]
    fn the_version_is_told_apart_from_garbage() {
        assert_eq!(Refusal::of(OpenError::Malformed(DecodeError::Incompatible(2))), Refusal::Incompatible);
        assert_eq!(Refusal::of(OpenError::Malformed(DecodeError::Truncated)), Refusal::Malformed);
    }
}
