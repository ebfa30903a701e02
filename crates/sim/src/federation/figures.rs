//! Figures that a test or a bench asks for: what groups cost when nothing happens, and to come back into step.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::BytesMut;
use metacluster_erl_wire::{Atom, Pid, Term, term};
use metacluster_federation::{Federation, GroupKey, LinkId, Output};
use metacluster_types::{Instant, NodeName};

use super::world::settings;

/// How far apart clusters are that were parted: one way.
const DELAY: Duration = Duration::from_millis(50);

/// What was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// Bytes to bring each group to each cluster the first time.
    pub first_bytes: u64,
    /// Bytes to come into step again after all links were lost and nothing had changed.
    pub again_bytes: u64,
    /// Bytes of a minute at rest.
    pub minute_bytes: u64,
    /// Groups that are published, all clusters together.
    pub published: usize,
}

/// What a partition cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// Bytes to come into step again.
    pub bytes: u64,
    /// How long that took from when links were possible again, with TCP and TLS done and 50 ms one way.
    pub time: Duration,
    /// Groups of a cluster that are not published in another one as they are: none, or something is wrong.
    pub wrong: usize,
}

/// So many clusters, each linked to each, each with so many groups of one member.
///
/// # Panics
/// With more clusters than can be named.
#[must_use]
pub fn at_rest(clusters: usize, groups: usize) -> Rest {
    let mut full = Full::new(clusters, groups);
    let all = |_: usize, _: usize| true;
    full.link(all);
    let first_bytes = full.run().bytes;
    full.cut(all);
    full.run();
    full.link(all);
    let again_bytes = full.run().bytes;
    let (mut minute_bytes, until) = (0, full.now + Duration::from_secs(60));
    let due = |full: &Full| full.machines.iter().filter_map(Federation::next_deadline).min();
    while let Some(due) = due(&full).filter(|due| *due <= until) {
        full.now = full.now.max(due);
        let now = full.now;
        full.machines.iter_mut().for_each(|machine| machine.handle_timeout(now));
        minute_bytes += full.run().bytes;
    }
    let published = full.published.iter().map(BTreeMap::len).sum();
    Rest { first_bytes, again_bytes, minute_bytes, published }
}

/// As [`at_rest`]; then the clusters are parted into two halves, in each cluster so many groups get another member in the
/// place of the one that they had, and the halves come together again.
///
/// # Panics
/// As [`at_rest`].
#[must_use]
pub fn after_partition(clusters: usize, groups: usize, changed: usize) -> Partition {
    parted(clusters, groups, changed, false)
}

/// With `forgetful`, the checker has something to find: a change of one cluster is kept from all others.
pub(super) fn parted(clusters: usize, groups: usize, changed: usize, forgetful: bool) -> Partition {
    let mut full = Full::new(clusters, groups);
    full.link(|_, _| true);
    full.run();
    let apart = move |one: usize, other: usize| (one < clusters / 2) != (other < clusters / 2);
    full.cut(apart);
    full.run();
    let now = full.now;
    for (at, machine) in full.machines.iter_mut().enumerate() {
        for group in 0..changed {
            machine.local_left(now, &named(group), &[member(at, group)]);
            let other = member(at, groups + group);
            machine.local_joined(now, &named(group), std::slice::from_ref(&other));
            full.members[at].insert(group, other);
        }
    }
    if forgetful {
        full.members[0].insert(0, member(0, groups * 2));
    }
    full.run();
    full.link(apart);
    let came = full.run();
    Partition { bytes: came.bytes, time: came.last.since(now), wrong: full.wrong() }
}

/// What was carried until nothing more was said, and when the last group was published or taken back.
struct Came {
    bytes: u64,
    last: Instant,
}

/// Machines of which each is linked to each, over links that all take [`DELAY`].
struct Full {
    machines: Vec<Federation>,
    now: Instant,
    /// The number of each group's member.
    members: Vec<BTreeMap<usize, Pid>>,
    /// Who is published in a cluster: the far member in its home form.
    published: Vec<BTreeMap<(GroupKey, Pid), Pid>>,
    wires: BTreeMap<LinkId, Wire>,
    last_link: u64,
}

/// The end of a link, and the other end.
#[derive(Clone, Copy, Debug)]
struct Wire {
    from: usize,
    to: usize,
    there: LinkId,
}

impl Full {
    fn new(clusters: usize, groups: usize) -> Self {
        let now = Instant::from_origin(Duration::from_secs(1));
        let mut machines: Vec<Federation> =
            (0..clusters).map(|at| Federation::new(settings(at, 0, 1, 1 << 20), now)).collect();
        let mut members = Vec::new();
        for (at, machine) in machines.iter_mut().enumerate() {
            machine.node_up(&NodeName::new(&format!("n@c{at}")).expect("a name"));
            let all: BTreeMap<usize, Pid> = (0..groups).map(|group| (group, member(at, group))).collect();
            all.iter().for_each(|(group, pid)| machine.local_joined(now, &named(*group), std::slice::from_ref(pid)));
            members.push(all);
        }
        let published = vec![BTreeMap::new(); clusters];
        Self { machines, now, members, published, wires: BTreeMap::new(), last_link: 0 }
    }

    /// Links those that are to be.
    fn link(&mut self, which: impl Fn(usize, usize) -> bool) {
        for one in 0..self.machines.len() {
            for other in one + 1..self.machines.len() {
                if !which(one, other) {
                    continue;
                }
                self.last_link += 2;
                let (here, there) = (LinkId(self.last_link), LinkId(self.last_link + 1));
                self.wires.insert(here, Wire { from: one, to: other, there });
                self.wires.insert(there, Wire { from: other, to: one, there: here });
                self.machines[one].link_opened(self.now, here, None, true);
                self.machines[other].link_opened(self.now, there, None, false);
            }
        }
    }

    /// Takes links away, at both ends.
    fn cut(&mut self, which: impl Fn(usize, usize) -> bool) {
        let gone: Vec<(LinkId, Wire)> = self.wires.extract_if(.., |_, wire| which(wire.from, wire.to)).collect();
        for (here, wire) in gone {
            self.machines[wire.from].link_closed(self.now, here);
        }
    }

    /// Lets all be said that there is to say. What is sent at the same time arrives at the same time.
    fn run(&mut self) -> Came {
        let mut came = Came { bytes: 0, last: self.now };
        loop {
            let mut sent = Vec::new();
            for at in 0..self.machines.len() {
                while let Some(output) = self.machines[at].poll_output() {
                    match output {
                        Output::Transmit(link) => {
                            let mut out = BytesMut::new();
                            while let Some(piece) = self.machines[at].poll_transmit(self.now, link) {
                                out.extend_from_slice(piece.head.as_ref().map_or(&[][..], |head| head));
                                out.extend_from_slice(&piece.body);
                            }
                            came.bytes += out.len() as u64;
                            if let Some(&Wire { to, there, .. }) = self.wires.get(&link) {
                                sent.push((to, there, out));
                            }
                        }
                        Output::Publish { group, members } => {
                            came.last = self.now;
                            for pid in members {
                                if let Some(home) = self.machines[at].home_of(&pid) {
                                    self.published[at].insert((group.clone(), pid), home);
                                }
                            }
                        }
                        Output::Withdraw { group, members } => {
                            came.last = self.now;
                            for pid in members {
                                self.published[at].remove(&(group.clone(), pid));
                            }
                        }
                        Output::Close { .. } | Output::Deliver { .. } | Output::Signal { .. } | Output::Notice(_) => {}
                    }
                }
            }
            if sent.is_empty() {
                return came;
            }
            self.now = self.now + DELAY;
            for (to, there, bytes) in sent {
                self.machines[to].handle_link(self.now, there, &bytes);
            }
        }
    }

    /// Groups, each of each cluster, that are not published in another cluster with the member that they have, or that are
    /// published with another one.
    fn wrong(&self) -> usize {
        let mut wrong = 0;
        for (at, published) in self.published.iter().enumerate() {
            let mut there: BTreeSet<(GroupKey, String, u32)> = BTreeSet::new();
            for ((group, _), home) in published {
                there.insert((group.clone(), home.node.as_str().to_owned(), home.id));
            }
            for (other, members) in self.members.iter().enumerate().filter(|(other, _)| *other != at) {
                let home = format!("c{other}/n@c{other}");
                wrong += members
                    .iter()
                    .filter(|(group, pid)| !there.remove(&(named(**group), home.clone(), pid.id)))
                    .count();
            }
            wrong += there.len();
        }
        wrong
    }
}

fn member(at: usize, number: usize) -> Pid {
    let node = Atom::new(&format!("n@c{at}")).expect("short");
    Pid { node, id: u32::try_from(number).unwrap_or(u32::MAX), serial: 0, creation: 1 }
}

fn named(group: usize) -> GroupKey {
    let number = u32::try_from(group).unwrap_or(u32::MAX);
    let mut bytes = BytesMut::new();
    term::encode(&term!({ shop, (number) }), &mut bytes);
    GroupKey { scope: "pg".to_owned(), group: bytes.freeze() }
}

/// A group's name, for the worlds.
pub(super) fn group() -> GroupKey {
    let mut bytes = BytesMut::new();
    term::encode(&Term::atom("shop"), &mut bytes);
    GroupKey { scope: "pg".to_owned(), group: bytes.freeze() }
}
