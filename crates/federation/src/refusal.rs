//! Why something did not cross, counted by kind.

/// A reason for which a signal, or a group, was not carried. What was refused is gone; the link stays, unless the reason
/// says that its other end cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// A request to start a process, or an answer to one. Never crosses.
    Spawn,
    /// A message or a monitor to a registered name, such as `rex` or `net_kernel`. Never crosses.
    RegisteredName,
    /// A new group leader. Never crosses.
    GroupLeader,
    /// `exit/2`, or the exit of a process that is not linked. Never crosses.
    ExitWithoutLink,
    /// An operation that gateways do not speak.
    Operation,
    /// To a process that was never handed out to that side, or whose time is up.
    NotGranted,
    /// From a process that cannot be of that side.
    ForgedSender,
    /// An end of a monitor or a link that nobody made.
    NotWatched,
    /// More messages or bytes a second than that side may bring.
    Quota,
    /// More identifiers than are kept, and none of them idle.
    TooManyIdentifiers,
    /// More names of nodes than are kept.
    TooManyNames,
    /// A name that is none, or that is too long with its cluster.
    BadName,
    /// More monitors or links than are kept.
    TooManyWatches,
    /// More group members than are kept.
    TooManyMembers,
    /// A group in a scope that this gateway does not follow.
    Scope,
    /// To a process that no one can use any more.
    Dead,
    /// The lane is full.
    LaneFull,
    /// Larger than a message may be.
    TooLarge,
    /// No link, or no connection to the node.
    NoConnection,
    /// Bytes that are no terms.
    Malformed,
    /// The node of the receiver does not read.
    SlowNode,
    /// A compressed frame that would inflate beyond its bound, or that is not what it says. The link ends.
    Inflation,
}

impl Refusal {
    /// Every kind.
    pub const ALL: [Self; 22] = [
        Self::Spawn,
        Self::RegisteredName,
        Self::GroupLeader,
        Self::ExitWithoutLink,
        Self::Operation,
        Self::NotGranted,
        Self::ForgedSender,
        Self::NotWatched,
        Self::Quota,
        Self::TooManyIdentifiers,
        Self::TooManyNames,
        Self::BadName,
        Self::TooManyWatches,
        Self::TooManyMembers,
        Self::Scope,
        Self::Dead,
        Self::LaneFull,
        Self::TooLarge,
        Self::NoConnection,
        Self::Malformed,
        Self::SlowNode,
        Self::Inflation,
    ];

    /// The name in metrics, the status and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spawn => "spawn",
            Self::RegisteredName => "registered_name",
            Self::GroupLeader => "group_leader",
            Self::ExitWithoutLink => "exit_without_link",
            Self::Operation => "operation",
            Self::NotGranted => "not_granted",
            Self::ForgedSender => "forged_sender",
            Self::NotWatched => "not_watched",
            Self::Quota => "quota",
            Self::TooManyIdentifiers => "too_many_identifiers",
            Self::TooManyNames => "too_many_names",
            Self::BadName => "bad_name",
            Self::TooManyWatches => "too_many_watches",
            Self::TooManyMembers => "too_many_members",
            Self::Scope => "scope",
            Self::Dead => "dead",
            Self::LaneFull => "lane_full",
            Self::TooLarge => "too_large",
            Self::NoConnection => "no_connection",
            Self::Malformed => "malformed",
            Self::SlowNode => "slow_node",
            Self::Inflation => "inflation",
        }
    }
}

/// How often each kind was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals([u64; Refusal::ALL.len()]);

impl Refusals {
    /// One more; how many there are then.
    pub(crate) fn count(&mut self, refusal: Refusal) -> u64 {
        let count = &mut self.0[refusal as usize];
        *count += 1;
        *count
    }

    /// How often this one was.
    #[must_use]
    pub fn of(&self, refusal: Refusal) -> u64 {
        self.0[refusal as usize]
    }

    /// Those that were, with how often.
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        Refusal::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_under_its_own_name() {
        let mut refusals = Refusals::default();
        for (place, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, place);
            refusals.count(refusal);
        }
        let names: std::collections::BTreeSet<_> = refusals.iter().map(|(refusal, _)| refusal.as_str()).collect();
        assert_eq!(names.len(), Refusal::ALL.len());
        assert_eq!(refusals.count(Refusal::Spawn), 2);
    }
}
