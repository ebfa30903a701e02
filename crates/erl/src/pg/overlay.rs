//! Who is in which group, and what to tell whom: the state of one scope, without a socket.
//!
//! Invariants:
//! - A peer is sent a `join` or `leave` only after a `sync`, so it is never told to take back what it was not told of; a
//!   scope process of OTP would end of that. A peer that something could not be sent to gets a new `sync` before anything
//!   else.
//! - `groups` is the sum of what is local and of what the peers said; a change is told for each difference, and only then.
//! - One scope process a node: a later one takes the place of an earlier one.
//!
//! Membership is not passed on: a peer is told of our own processes alone. Follows `pg.erl` of OTP.

use std::collections::{BTreeMap, VecDeque};

use metacluster_erl_wire::{Pid, Term};

use super::{
    Change,
    message::{self, Heard},
};

/// The members that one peer may announce; those past it are not kept. A member takes some 200 bytes.
const MEMBERS_MAX: usize = 1 << 20;

/// What is to be done outside.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    /// Send this to a scope process; say so with [`Overlay::unsent`] when it was not queued.
    Send { to: Pid, message: Term },
    /// Say with [`Overlay::ended`] when it ends.
    Monitor(Pid),
    /// No longer.
    Demonitor(Pid),
    /// Tell those who watch.
    Tell(Change),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Overlay {
    own: Pid,
    /// Processes of this node and the groups that they are in, each as often as it joined. Those that stand for processes
    /// elsewhere stand in the groups alone.
    local: BTreeMap<Pid, Vec<Term>>,
    peers: BTreeMap<Pid, Peer>,
    groups: BTreeMap<Term, Group>,
    effects: VecDeque<Effect>,
}

/// A scope process of another node.
#[derive(Debug, Default)]
struct Peer {
    /// It has all that it was to be sent.
    synced: bool,
    /// It has said all that it has, and nothing of what it said since was lost.
    heard: bool,
    groups: BTreeMap<Term, Vec<Pid>>,
    members: usize,
}

#[derive(Debug, Default)]
struct Group {
    local: Vec<Pid>,
    /// How many members the peers have of it, all together.
    remote: usize,
}

impl Overlay {
    pub(super) fn new(own: Pid) -> Self {
        Self { own, local: BTreeMap::new(), peers: BTreeMap::new(), groups: BTreeMap::new(), effects: VecDeque::new() }
    }

    /// What is to be done next.
    pub(super) fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub(super) fn members(&self, group: &Term) -> Vec<Pid> {
        let mut members = self.local_members(group);
        self.peers.values().filter_map(|peer| peer.groups.get(group)).for_each(|pids| members.extend_from_slice(pids));
        members
    }

    pub(super) fn local_members(&self, group: &Term) -> Vec<Pid> {
        self.groups.get(group).map_or_else(Vec::new, |group| group.local.clone())
    }

    /// The groups that have members; with `local`, those that have members of this node.
    pub(super) fn groups(&self, local: bool) -> Vec<Term> {
        let kept = self.groups.iter().filter(|(_, group)| !local || !group.local.is_empty());
        kept.map(|(name, _)| name.clone()).collect()
    }

    /// The scope processes of other nodes.
    pub(super) fn peers(&self) -> impl Iterator<Item = &Pid> {
        self.peers.keys()
    }

    /// A process of this node joins.
    pub(super) fn join(&mut self, group: &Term, pid: &Pid) {
        if !self.local.contains_key(pid) {
            self.effects.push_back(Effect::Monitor(pid.clone()));
        }
        self.local.entry(pid.clone()).or_default().push(group.clone());
        self.groups.entry(group.clone()).or_default().local.push(pid.clone());
        self.tell_peers(&message::join(&self.own, group, pid));
        self.tell(Change::Joined { group: group.clone(), pids: vec![pid.clone()] });
    }

    /// A process of this node leaves; false if it is not in the group.
    pub(super) fn leave(&mut self, group: &Term, pid: &Pid) -> bool {
        let Some(groups) = self.local.get_mut(pid) else { return false };
        let Some(place) = groups.iter().position(|joined| joined == group) else { return false };
        groups.remove(place);
        if groups.is_empty() {
            self.local.remove(pid);
            self.effects.push_back(Effect::Demonitor(pid.clone()));
        }
        self.left(pid, vec![group.clone()]);
        true
    }

    /// Pids of this node that stand for processes elsewhere join a group, in one message.
    pub(super) fn announce(&mut self, group: &Term, pids: &[Pid]) {
        self.groups.entry(group.clone()).or_default().local.extend_from_slice(pids);
        self.tell_peers(&message::join_all(&self.own, group, pids));
        self.tell(Change::Joined { group: group.clone(), pids: pids.to_vec() });
    }

    /// And leave it, each once. Those that are not in it are left out.
    pub(super) fn retract(&mut self, group: &Term, pids: &[Pid]) {
        let Some(entry) = self.groups.get_mut(group) else { return };
        let gone = take(&mut entry.local, pids);
        self.tidy(group);
        if !gone.is_empty() {
            self.tell_peers(&message::leave_all(&self.own, &gone, group));
            self.tell(Change::Left { group: group.clone(), pids: gone });
        }
    }

    /// A process that was to be monitored ended: a member of this node, or a scope process.
    pub(super) fn ended(&mut self, pid: &Pid) {
        if let Some(groups) = self.local.remove(pid) {
            self.left(pid, groups);
        }
        self.forget(pid);
    }

    /// Something was not queued for a scope process.
    pub(super) fn unsent(&mut self, peer: &Pid) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.synced = false;
        }
    }

    /// A node came up, and is about to be asked. A scope process there that is still known from an earlier connection has
    /// forgotten what it was told.
    pub(super) fn connected(&mut self, node: &str) {
        for (_, peer) in self.peers.iter_mut().filter(|(pid, _)| pid.node == *node) {
            peer.synced = false;
        }
    }

    /// Messages were lost on the way to us: what peers have of us, and we of them, may be out of date. Followed by
    /// [`Overlay::repeat`].
    pub(super) fn missed(&mut self) {
        for peer in self.peers.values_mut() {
            peer.synced = false;
            peer.heard = false;
        }
    }

    /// Says and asks again what was lost, either way.
    pub(super) fn repeat(&mut self) {
        let behind = |peer: &Peer| !peer.synced || !peer.heard;
        let behind: Vec<_> = self.peers.iter().filter(|(_, peer)| behind(peer)).map(|(pid, _)| pid.clone()).collect();
        for pid in behind {
            if self.peers.get(&pid).is_some_and(|peer| !peer.heard) {
                let message = message::discover(&self.own);
                self.effects.push_back(Effect::Send { to: pid.clone(), message });
            }
            // Also to who has it: one that has forgotten us knows us by the question, and has nothing of ours.
            self.sync(&pid);
        }
    }

    /// A message of another scope process.
    pub(super) fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Discover { peer } => {
                let new = self.meet(&peer);
                self.sync(&peer);
                if new {
                    let message = message::discover(&self.own);
                    self.effects.push_back(Effect::Send { to: peer, message });
                }
            }
            Heard::Sync { peer, groups } => {
                self.meet(&peer);
                self.replace(&peer, groups);
                if self.peers.get(&peer).is_some_and(|peer| !peer.synced) {
                    self.sync(&peer);
                }
            }
            // From a peer that is gone, or was never met: a sync says it all again.
            Heard::Join { peer, group, pids } => self.joined(&peer, group, pids),
            Heard::Leave { peer, pids, groups } => self.left_there(&peer, &pids, &groups),
        }
    }

    /// Whether this peer is new.
    fn meet(&mut self, peer: &Pid) -> bool {
        if self.peers.contains_key(peer) {
            return false;
        }
        let earlier: Vec<Pid> = self.peers.keys().filter(|other| other.node == peer.node).cloned().collect();
        for other in earlier {
            self.effects.push_back(Effect::Demonitor(other.clone()));
            self.forget(&other);
        }
        self.effects.push_back(Effect::Monitor(peer.clone()));
        self.peers.insert(peer.clone(), Peer::default());
        true
    }

    fn sync(&mut self, to: &Pid) {
        let Some(peer) = self.peers.get_mut(to) else { return };
        peer.synced = true;
        let local = self.groups.iter().filter(|(_, group)| !group.local.is_empty());
        let message = message::sync(&self.own, local.map(|(name, group)| (name, &*group.local)));
        self.effects.push_back(Effect::Send { to: to.clone(), message });
    }

    /// A peer said all that it has.
    fn replace(&mut self, pid: &Pid, groups: Vec<(Term, Vec<Pid>)>) {
        let Some(peer) = self.peers.get_mut(pid) else { return };
        peer.heard = true;
        let mut new: BTreeMap<Term, Vec<Pid>> = BTreeMap::new();
        for (group, pids) in groups.into_iter().filter(|(_, pids)| !pids.is_empty()) {
            new.entry(group).or_default().extend(pids);
        }
        peer.members = new.values().map(Vec::len).sum();
        let old = std::mem::replace(&mut peer.groups, new.clone());
        for (group, before) in &old {
            let after = new.get(group).map_or(&[][..], Vec::as_slice);
            self.remove(group, &difference(before, after));
        }
        for (group, after) in &new {
            let before = old.get(group).map_or(&[][..], Vec::as_slice);
            self.add(group, difference(after, before));
        }
    }

    fn joined(&mut self, pid: &Pid, group: Term, pids: Vec<Pid>) {
        let Some(peer) = self.peers.get_mut(pid) else { return };
        if peer.members + pids.len() > MEMBERS_MAX {
            tracing::warn!(node = %pid.node, "the node announces more members than are kept");
            return;
        }
        peer.members += pids.len();
        peer.groups.entry(group.clone()).or_default().extend(pids.iter().cloned());
        self.add(&group, pids);
    }

    fn left_there(&mut self, pid: &Pid, pids: &[Pid], groups: &[Term]) {
        for group in groups {
            let Some(peer) = self.peers.get_mut(pid) else { return };
            let Some(members) = peer.groups.get_mut(group) else { continue };
            let gone = take(members, pids);
            peer.members -= gone.len();
            if members.is_empty() {
                peer.groups.remove(group);
            }
            self.remove(group, &gone);
        }
    }

    /// Forgets a peer and all that it said.
    fn forget(&mut self, pid: &Pid) {
        let Some(peer) = self.peers.remove(pid) else { return };
        for (group, pids) in &peer.groups {
            self.remove(group, pids);
        }
    }

    fn add(&mut self, group: &Term, pids: Vec<Pid>) {
        if pids.is_empty() {
            return;
        }
        self.groups.entry(group.clone()).or_default().remote += pids.len();
        self.tell(Change::Joined { group: group.clone(), pids });
    }

    /// Members of a peer, which were added before.
    fn remove(&mut self, group: &Term, pids: &[Pid]) {
        if pids.is_empty() {
            return;
        }
        if let Some(entry) = self.groups.get_mut(group) {
            entry.remote = entry.remote.saturating_sub(pids.len());
        }
        self.tidy(group);
        self.tell(Change::Left { group: group.clone(), pids: pids.to_vec() });
    }

    /// A process of this node is no longer in these groups, each counted once.
    fn left(&mut self, pid: &Pid, groups: Vec<Term>) {
        for group in &groups {
            if let Some(entry) = self.groups.get_mut(group) {
                take(&mut entry.local, std::slice::from_ref(pid));
            }
            self.tidy(group);
        }
        self.tell_peers(&message::leave(&self.own, pid, &groups));
        for group in groups {
            self.tell(Change::Left { group, pids: vec![pid.clone()] });
        }
    }

    fn tidy(&mut self, group: &Term) {
        if self.groups.get(group).is_some_and(|entry| entry.local.is_empty() && entry.remote == 0) {
            self.groups.remove(group);
        }
    }

    fn tell_peers(&mut self, message: &Term) {
        for (pid, _) in self.peers.iter().filter(|(_, peer)| peer.synced) {
            self.effects.push_back(Effect::Send { to: pid.clone(), message: message.clone() });
        }
    }

    fn tell(&mut self, change: Change) {
        self.effects.push_back(Effect::Tell(change));
    }
}

/// Takes each of these out once; those that were in.
fn take(members: &mut Vec<Pid>, pids: &[Pid]) -> Vec<Pid> {
    if members.len() == pids.len() && *members == pids {
        return std::mem::take(members);
    }
    let mut gone = Vec::new();
    for pid in pids {
        if let Some(place) = members.iter().position(|member| member == pid) {
            gone.push(members.remove(place));
        }
    }
    gone
}

/// What of the one is not in the other, each as often as it is missing there.
fn difference(of: &[Pid], other: &[Pid]) -> Vec<Pid> {
    if of == other {
        return Vec::new();
    }
    let mut counts: BTreeMap<&Pid, usize> = BTreeMap::new();
    for pid in other {
        *counts.entry(pid).or_default() += 1;
    }
    let missing = |pid: &&Pid| match counts.get_mut(*pid) {
        Some(count @ 1..) => {
            *count -= 1;
            false
        }
        Some(_) | None => true,
    };
    of.iter().filter(missing).cloned().collect()
}

#[cfg(test)]
mod tests;
