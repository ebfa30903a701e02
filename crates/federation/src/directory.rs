//! Groups: those of this cluster that are let out, and those that a far gateway announced.
//!
//! Both sides hash a group's members into one of [`PARTS`] parts. After a reconnect the importing side says the hash of each
//! part that it has, and is told the parts that differ, whole; changes follow in order. So what did not change while the
//! link was down is not sent again. A group's name and its members are hashed in their home form, which both sides have.

use std::collections::BTreeMap;

use bytes::Bytes;
use metacluster_erl_wire::Term;
use metacluster_erl_wire::term::{self, Limits};

use crate::{
    cells,
    identifiers::{Identifiers, PidKey},
    settings::ExportRule,
    table::Slot,
};
use metacluster_types::{ClusterName, Pattern};

/// How many parts the groups are hashed into.
pub(crate) const PARTS: usize = 64;

/// A group: its scope, and its name as a term without version byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// The `pg` scope.
    pub scope: String,
    /// The name.
    pub group: Bytes,
}

impl GroupKey {
    /// Which part it is hashed into, by its home form.
    pub(crate) fn part(&self) -> usize {
        (hash(&[self.scope.as_bytes(), &self.group]) % PARTS as u64) as usize
    }

    /// The text that patterns are held against: that of an atom or a text, of a tuple that of its first element.
    pub(crate) fn text(&self) -> Option<String> {
        let (term, _) = term::decode(&self.group, &Limits::default()).ok()?;
        text(&term)
    }

    /// The name for people.
    #[must_use]
    pub fn printed(&self) -> String {
        term::decode(&self.group, &Limits::default()).map_or_else(|_| "?".to_owned(), |(term, _)| term.to_string())
    }
}

fn text(term: &Term) -> Option<String> {
    match term {
        Term::Atom(atom) => Some(atom.as_str().to_owned()),
        Term::Tuple(items) => text(items.first()?),
        Term::Binary(_) | Term::List(_) => term.as_text(),
        Term::Integer(_)
        | Term::BigInteger(_)
        | Term::Float(_)
        | Term::BitString { .. }
        | Term::ExportFun(_)
        | Term::ImproperList(..)
        | Term::Map(_)
        | Term::Pid(_)
        | Term::Port(_)
        | Term::Reference(_)
        | Term::Fun(_) => None,
    }
}

/// FNV-1a, with each part's end marked.
pub(crate) fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    // The last bits of the hash as it is say little of the first bytes.
    (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ hash >> 32
}

/// What one membership adds to the hash of its part; a member may be there several times.
pub(crate) fn member_hash(identifiers: &Identifiers, key: &GroupKey, pid: &PidKey) -> u64 {
    let name = identifiers.names.name(pid.name).home.as_str();
    let numbers = [pid.creation.to_be_bytes(), pid.id.to_be_bytes(), pid.serial.to_be_bytes()].concat();
    hash(&[key.scope.as_bytes(), &key.group, name.as_bytes(), &numbers])
}

/// Groups of this cluster that some rule lets out.
#[derive(Debug, Default)]
pub(crate) struct Exports {
    pub(crate) groups: BTreeMap<GroupKey, Exported>,
}

/// One of them.
#[derive(Debug, Default)]
pub(crate) struct Exported {
    pub(crate) text: Option<String>,
    /// Each as often as it joined, with its entry among the identifiers of this cluster.
    pub(crate) members: Vec<(PidKey, Slot)>,
}

/// Whether a rule lets this group out to some cluster, or to the one that is asked about.
pub(crate) fn allowed(rules: &[ExportRule], to: Option<&ClusterName>, scope: &str, text: Option<&str>) -> bool {
    rules.iter().any(|rule| {
        rule.scope == scope
            && to.is_none_or(|cluster| rule.to.iter().any(|pattern| names(pattern, cluster)))
            && text.is_some_and(|text| rule.groups.iter().any(|pattern| pattern.matches(text)))
    })
}

/// Whether a rule means this cluster: by its name, or by that of the cluster of which it is a cell.
fn names(pattern: &Pattern, cluster: &ClusterName) -> bool {
    pattern.matches(cluster.as_str()) || cells::parent(cluster).is_some_and(|parent| pattern.matches(parent))
}

/// Groups of a far gateway.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// By home form.
    pub(crate) groups: BTreeMap<GroupKey, Vec<Slot>>,
    pub(crate) members: usize,
    /// Whether they are published here.
    pub(crate) published: bool,
    /// Parts that are being sent anew.
    pub(crate) renewing: u64,
    /// What has come of them.
    pub(crate) renewed: BTreeMap<GroupKey, Vec<Slot>>,
}

impl Directory {
    /// The hash of each part.
    pub(crate) fn digest(&self, identifiers: &Identifiers) -> [u64; PARTS] {
        let mut digest = [0_u64; PARTS];
        for (key, members) in &self.groups {
            let part = &mut digest[key.part()];
            for entry in members.iter().filter_map(|slot| identifiers.far.pids.at(*slot)) {
                *part = part.wrapping_add(member_hash(identifiers, key, &entry.key));
            }
        }
        digest
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use metacluster_erl_wire::term;
    use metacluster_types::Pattern;

    use super::*;

    fn group(name: &Term) -> GroupKey {
        let mut bytes = BytesMut::new();
        term::encode(name, &mut bytes);
        GroupKey { scope: "pg".to_owned(), group: bytes.freeze() }
    }

    #[test]
    fn a_rule_is_held_against_the_first_word_of_a_group() {
        let pattern = |text| Pattern::new(text);
        let rules = [ExportRule {
            to: vec![pattern("we*")],
            scope: "pg".to_owned(),
            groups: vec![pattern("orders"), pattern("Elixir.Shop*")],
        }];
        let (west, east) = (ClusterName::new("west").expect("a name"), ClusterName::new("east").expect("a name"));
        for (name, out) in [
            (term!(orders), true),
            (term!({orders, 3}), true),
            (term!("orders"), true),
            (term!(@"Elixir.Shop.PubSub"), true),
            (term!(secrets), false),
            (term!(7), false),
            (term!({ 7, orders }), false),
        ] {
            let text = group(&name).text();
            assert_eq!(allowed(&rules, Some(&west), "pg", text.as_deref()), out, "{name}");
            assert!(!allowed(&rules, Some(&east), "pg", text.as_deref()));
            assert!(!allowed(&rules, Some(&west), "other", text.as_deref()));
        }
        assert!(!allowed(&[], Some(&west), "pg", Some("orders")), "nothing by default");
    }

    #[test]
    fn groups_are_spread_over_the_parts() {
        let mut counts = [0; PARTS];
        for number in 0..6_400_i64 {
            counts[group(&term!({orders, (number)})).part()] += 1;
        }
        assert!(counts.iter().all(|count| (50..160).contains(count)), "{counts:?}");
    }
}
