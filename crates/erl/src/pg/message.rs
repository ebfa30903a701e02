//! What the scope processes of `pg` say to one another.
//!
//! | message | sent to | means |
//! |---|---|---|
//! | `{discover, Scope}` | the name, or a scope process | who are you, and whom do you have? |
//! | `{'$gen_cast', {sync, Scope, [{Group, Pids}]}}` | a scope process | these are all of mine |
//! | `{join, Scope, Group, PidOrPids}` | a scope process | these are mine too |
//! | `{leave, Scope, PidOrPids, Groups}` | a scope process | these no longer, in each of those groups once |
//!
//! A scope process of OTP ends at any other message, so that nothing else is ever sent. Follows `pg.erl` of OTP 23 to 28.

use metacluster_erl_wire::{Pid, Term, term};

/// A message of another scope process.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Heard {
    /// It asks for ours.
    Discover { peer: Pid },
    /// It says all of its own.
    Sync { peer: Pid, groups: Vec<(Term, Vec<Pid>)> },
    /// It says more of its own.
    Join { peer: Pid, group: Term, pids: Vec<Pid> },
    /// It takes some back.
    Leave { peer: Pid, pids: Vec<Pid>, groups: Vec<Term> },
}

impl Heard {
    /// Who says it.
    pub(super) fn peer(&self) -> &Pid {
        match self {
            Self::Discover { peer } | Self::Sync { peer, .. } | Self::Join { peer, .. } | Self::Leave { peer, .. } => {
                peer
            }
        }
    }

    /// Reads a message; none if it is nothing that a scope process says.
    pub(super) fn parse(message: &Term) -> Option<Self> {
        let [tag, rest @ ..] = message.as_tuple()? else { return None };
        match (tag.as_atom()?.as_str(), rest) {
            // A version of the protocol may follow.
            ("discover", [peer, ..]) => Some(Self::Discover { peer: peer.as_pid()?.clone() }),
            ("$gen_cast", [sync]) => match sync.as_tuple()? {
                [tag, peer, groups] if tag.is_atom("sync") => {
                    let group = |entry: &Term| match entry.as_tuple()? {
                        [group, members] => Some((group.clone(), pids(members)?)),
                        _ => None,
                    };
                    let groups = groups.as_list()?.iter().map(group).collect::<Option<_>>()?;
                    Some(Self::Sync { peer: peer.as_pid()?.clone(), groups })
                }
                _ => None,
            },
            ("join", [peer, group, members]) => {
                Some(Self::Join { peer: peer.as_pid()?.clone(), group: group.clone(), pids: pids(members)? })
            }
            ("leave", [peer, members, groups]) => {
                let groups = groups.as_list()?.to_vec();
                Some(Self::Leave { peer: peer.as_pid()?.clone(), pids: pids(members)?, groups })
            }
            _ => None,
        }
    }
}

/// One pid, or a list of them. Those of one node, which are all, share its name.
fn pids(term: &Term) -> Option<Vec<Pid>> {
    let list = match term.as_pid() {
        Some(_) => std::slice::from_ref(term),
        None => term.as_list()?,
    };
    let first = list.first().and_then(|item| Some(&item.as_pid()?.node));
    let pid = |item: &Term| {
        let pid = item.as_pid()?;
        let node = first.filter(|first| **first == pid.node).unwrap_or(&pid.node).clone();
        Some(Pid { node, id: pid.id, serial: pid.serial, creation: pid.creation })
    };
    list.iter().map(pid).collect()
}

pub(super) fn discover(own: &Pid) -> Term {
    term!({discover, (own)})
}

pub(super) fn sync<'a>(own: &Pid, groups: impl Iterator<Item = (&'a Term, &'a [Pid])>) -> Term {
    let groups = groups.map(|(group, pids)| term!({(group), (list(pids))}));
    term!({@"$gen_cast", {sync, (own), (Term::list(groups))}})
}

pub(super) fn join(own: &Pid, group: &Term, pid: &Pid) -> Term {
    term!({join, (own), (group), (pid)})
}

pub(super) fn join_all(own: &Pid, group: &Term, pids: &[Pid]) -> Term {
    term!({join, (own), (group), (list(pids))})
}

pub(super) fn leave_all(own: &Pid, pids: &[Pid], group: &Term) -> Term {
    term!({leave, (own), (list(pids)), [(group)]})
}

pub(super) fn leave(own: &Pid, pid: &Pid, groups: &[Term]) -> Term {
    term!({leave, (own), (pid), (Term::list(groups.iter().cloned()))})
}

fn list(pids: &[Pid]) -> Term {
    Term::list(pids.iter().map(Term::from))
}

#[cfg(test)]
mod tests {
    use metacluster_erl_wire::Atom;

    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let pid = |id| Pid { node: Atom::from_static("a@b"), id, serial: 0, creation: 4 };
        let (peer, one, two) = (pid(1), pid(2), pid(3));
        let group = term!({orders, 1});
        let pids = [one.clone(), two.clone()];
        let said = [
            (discover(&peer), Heard::Discover { peer: peer.clone() }),
            (term!({discover, (&peer), 2}), Heard::Discover { peer: peer.clone() }),
            (
                sync(&peer, [(&group, pids.as_slice())].into_iter()),
                Heard::Sync { peer: peer.clone(), groups: vec![(group.clone(), pids.to_vec())] },
            ),
            (
                join(&peer, &group, &one),
                Heard::Join { peer: peer.clone(), group: group.clone(), pids: vec![one.clone()] },
            ),
            (
                term!({join, (&peer), (&group), [(&one), (&two)]}),
                Heard::Join { peer: peer.clone(), group: group.clone(), pids: pids.to_vec() },
            ),
            (
                leave(&peer, &one, std::slice::from_ref(&group)),
                Heard::Leave { peer: peer.clone(), pids: vec![one.clone()], groups: vec![group] },
            ),
        ];
        for (term, heard) in said {
            assert_eq!(Heard::parse(&term), Some(heard), "{term}");
        }
        for other in [
            term!(discover),
            term!({discover, x}),
            term!({@"$gen_cast", {sync, (&peer), [x]}}),
            term!({@"$gen_cast", {sync, (&peer)}}),
            term!({join, (&peer), g, [1]}),
            term!({leave, (&peer), (&one), g}),
            term!({}),
        ] {
            assert_eq!(Heard::parse(&other), None, "{other}");
        }
    }
}
