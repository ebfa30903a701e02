//! Groups both ways: what is let out, what came, and how the two are compared after a reconnect.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use metacluster_erl_wire::{Pid, rewrite::PidView};
use metacluster_types::Instant;

use crate::{
    Federation, GroupKey, LinkId, Notice, Output,
    codec::{
        CodecError, Reader,
        frame::Kind,
        group::{GROUP_BYTES_MAX, MEMBERS_MAX, Member, Members, NAMES_MAX},
    },
    directory::{PARTS, allowed, member_hash},
    identifiers::PidKey,
    names::NameId,
    peer::PeerId,
    refusal::Refusal,
    seconds,
    table::Slot,
    translate::{ToLink, ToLocal},
};

impl Federation {
    /// Processes of this cluster joined a group; one as often as it joined. Those of gateways are none of this cluster's
    /// and must not be told.
    pub fn local_joined(&mut self, now: Instant, key: &GroupKey, pids: &[Pid]) {
        self.serves_here(key, pids);
        self.export_joined(now, key, pids);
    }

    fn export_joined(&mut self, now: Instant, key: &GroupKey, pids: &[Pid]) {
        let known = self.exports.groups.get(key).map(|exported| exported.text.clone());
        let text = known.unwrap_or_else(|| key.text());
        if !allowed(&self.settings.exports, None, &key.scope, text.as_deref()) || key.group.len() > GROUP_BYTES_MAX {
            return;
        }
        if pids.is_empty() {
            return;
        }
        let mut joined = Vec::new();
        for pid in pids {
            let Ok(pid) = self.identifiers.own_key(&PidView::from(pid)) else { continue };
            let Some(slot) = self.identifiers.own.pids.intern(None, pid, seconds(now)) else { continue };
            self.identifiers.own.pids.hold(slot);
            joined.push((pid, slot));
        }
        let exported = self.exports.groups.entry(key.clone()).or_default();
        exported.text.clone_from(&text);
        exported.members.extend(&joined);
        let joined: Vec<PidKey> = joined.into_iter().map(|(pid, _)| pid).collect();
        self.tell_peers(now, Kind::Join, key, text.as_deref(), &joined);
    }

    /// Processes of this cluster left a group.
    pub fn local_left(&mut self, now: Instant, key: &GroupKey, pids: &[Pid]) {
        self.serves_here_no_more(key, pids);
        self.export_left(now, key, pids);
    }

    fn export_left(&mut self, now: Instant, key: &GroupKey, pids: &[Pid]) {
        let mut left = Vec::new();
        let Some(exported) = self.exports.groups.get_mut(key) else { return };
        for pid in pids {
            let Ok(pid) = self.identifiers.own_key(&PidView::from(pid)) else { continue };
            let Some(place) = exported.members.iter().position(|(member, _)| *member == pid) else { continue };
            let (pid, slot) = exported.members.remove(place);
            self.identifiers.own.pids.release(slot, seconds(now));
            left.push(pid);
        }
        let text = exported.text.clone();
        if exported.members.is_empty() {
            self.exports.groups.remove(key);
        }
        self.tell_peers(now, Kind::Leave, key, text.as_deref(), &left);
    }

    /// These are all the members of this cluster in all groups of a scope: what differs from what was told before joins or
    /// leaves.
    pub fn local_groups_are(&mut self, now: Instant, scope: &str, mut groups: BTreeMap<GroupKey, Vec<Pid>>) {
        if scope == "pg" {
            self.services_here_are(&groups);
        }
        let known: Vec<(GroupKey, Vec<PidKey>)> = self
            .exports
            .groups
            .iter()
            .filter(|(key, _)| key.scope == scope)
            .map(|(key, exported)| (key.clone(), exported.members.iter().map(|(pid, _)| *pid).collect()))
            .collect();
        for (key, members) in known {
            let mut new = groups.remove(&key).unwrap_or_default();
            let mut gone = Vec::new();
            for member in members {
                let pid = self.identifiers.own_pid(&member);
                match new.iter().position(|other| *other == pid) {
                    Some(place) => drop(new.swap_remove(place)),
                    None => gone.push(pid),
                }
            }
            self.export_left(now, &key, &gone);
            self.export_joined(now, &key, &new);
        }
        for (key, pids) in groups {
            self.export_joined(now, &key, &pids);
        }
    }

    fn tell_peers(&mut self, now: Instant, kind: Kind, key: &GroupKey, text: Option<&str>, pids: &[PidKey]) {
        for peer in PeerId::all().take(self.peers.len()) {
            let state = self.peer(peer);
            let Some(link) = state.link.filter(|_| state.in_step) else { continue };
            if allowed(&self.settings.exports, Some(&state.cluster), &key.scope, text) {
                self.announce(now, link, peer, kind, key, pids);
            }
        }
    }

    /// The name of a group of this cluster in its home form.
    fn home_group(&mut self, now: Instant, peer: PeerId, key: &GroupKey) -> Option<GroupKey> {
        let mut out = BytesMut::new();
        let identifiers = &mut self.identifiers;
        let mut translate = ToLink { identifiers, peer, now: seconds(now), fault: None };
        self.rewriter.rewrite(1, &key.group, &mut translate, &mut out).ok()?;
        (translate.fault.is_none() && out.len() <= GROUP_BYTES_MAX)
            .then(|| GroupKey { scope: key.scope.clone(), group: out.freeze() })
    }

    /// Says members of a group of this cluster, which are handed out by that.
    fn announce(&mut self, now: Instant, link: LinkId, peer: PeerId, kind: Kind, key: &GroupKey, pids: &[PidKey]) {
        let Some(home) = self.home_group(now, peer, key) else { return self.refuse(now, peer, Refusal::BadName) };
        for pid in pids {
            if let Some(slot) = self.identifiers.own.pids.find(None, pid)
                && let Some(entry) = self.identifiers.own.pids.use_at(slot, seconds(now))
            {
                entry.granted |= peer.bit();
            }
        }
        let mut rest = pids;
        while !rest.is_empty() {
            let mut names: Vec<NameId> = Vec::new();
            let mut members = Vec::new();
            for pid in rest.iter().take(MEMBERS_MAX) {
                let name = names.iter().position(|name| *name == pid.name).unwrap_or(names.len());
                if name == names.len() {
                    if names.len() == NAMES_MAX {
                        break;
                    }
                    names.push(pid.name);
                }
                let name = name as u16;
                members.push(Member { name, creation: pid.creation, id: pid.id, serial: pid.serial });
            }
            rest = &rest[members.len()..];
            let names = names.into_iter().map(|name| self.identifiers.names.name(name).home.as_str()).collect();
            let said = Members { scope: &home.scope, group: &home.group, names, members };
            if let Some(state) = self.links.get_mut(&link) {
                state.control(kind, |out| said.put(out));
            }
        }
        self.wake(link);
    }

    /// The other side says what it has of our groups: it is told what differs, and each change from now on.
    pub(crate) fn digest_came(
        &mut self,
        now: Instant,
        link: LinkId,
        peer: PeerId,
        body: &[u8],
    ) -> Result<(), CodecError> {
        let mut reader = Reader::new(body);
        let mut theirs = [0; PARTS];
        for part in &mut theirs {
            *part = reader.u64()?;
        }
        reader.end()?;
        let cluster = self.peer(peer).cluster.clone();
        let rules = &self.settings.exports;
        let out: Vec<(GroupKey, Vec<PidKey>)> = self
            .exports
            .groups
            .iter()
            .filter(|(key, exported)| allowed(rules, Some(&cluster), &key.scope, exported.text.as_deref()))
            .map(|(key, exported)| (key.clone(), exported.members.iter().map(|(pid, _)| *pid).collect()))
            .collect();
        let mut ours = [0_u64; PARTS];
        let mut parts = Vec::new();
        for (key, pids) in &out {
            let home = self.home_group(now, peer, key);
            if let Some(home) = &home {
                let part = &mut ours[home.part()];
                for pid in pids {
                    *part = part.wrapping_add(member_hash(&self.identifiers, home, pid));
                }
            }
            parts.push(home.map(|home| home.part()));
        }
        let differing =
            (0..PARTS).filter(|part| ours[*part] != theirs[*part]).fold(0_u64, |mask, part| mask | 1 << part);
        if let Some(state) = self.links.get_mut(&link) {
            state.control(Kind::Differing, |out| out.put_u64(differing));
        }
        for ((key, pids), part) in out.iter().zip(&parts) {
            match part {
                Some(part) if differing & 1 << part != 0 => self.announce(now, link, peer, Kind::Group, key, pids),
                // It has them; they are handed out as before.
                Some(_) => self.grant_all(now, peer, pids),
                None => {}
            }
        }
        if let Some(state) = self.links.get_mut(&link) {
            state.control(Kind::InStep, |_| {});
            state.lanes.answered();
        }
        self.peer_mut(peer).in_step = true;
        self.wake(link);
        Ok(())
    }

    fn grant_all(&mut self, now: Instant, peer: PeerId, pids: &[PidKey]) {
        for pid in pids {
            if let Some(slot) = self.identifiers.own.pids.find(None, pid)
                && let Some(entry) = self.identifiers.own.pids.use_at(slot, seconds(now))
            {
                entry.granted |= peer.bit();
            }
        }
    }

    fn let_go(&mut self, now: Instant, slots: &[Slot]) {
        slots.iter().for_each(|slot| self.identifiers.far.pids.release(*slot, seconds(now)));
    }

    /// Reads members that a gateway announces: those of its own cluster, as far as there is room. They are held.
    fn read_members(&mut self, now: Instant, peer: PeerId, said: &Members<'_>) -> Result<Vec<Slot>, CodecError> {
        let mut names = Vec::new();
        for name in &said.names {
            let of_peer = name.strip_prefix(self.peer(peer).cluster.as_str()).is_some_and(|rest| rest.starts_with('/'));
            if !of_peer {
                return Err(CodecError::Invalid("cluster of a member"));
            }
            names.push(self.identifiers.names.home_text(name));
        }
        let mut slots = Vec::new();
        for member in &said.members {
            let name = match names.get(usize::from(member.name)) {
                Some(Ok(name)) => *name,
                Some(Err(refusal)) => {
                    let refusal = *refusal;
                    self.refuse(now, peer, refusal);
                    continue;
                }
                None => continue,
            };
            let key = PidKey { name, creation: member.creation, id: member.id, serial: member.serial };
            match self.identifiers.far.pids.intern(Some(peer), key, seconds(now)) {
                Some(slot) => {
                    // Held at once, or the next one could take its room.
                    self.identifiers.far.pids.hold(slot);
                    slots.push(slot);
                }
                None => self.refuse(now, peer, Refusal::TooManyIdentifiers),
            }
        }
        Ok(slots)
    }

    fn follows(&self, scope: &str) -> bool {
        scope == "pg" || self.settings.exports.iter().any(|rule| rule.scope == scope)
    }

    /// The other side is about to say all of these parts.
    pub(crate) fn start_renewal(&mut self, now: Instant, peer: PeerId, parts: u64) {
        let directory = &mut self.peers[peer.index()].directory;
        directory.renewing = parts;
        for slot in std::mem::take(&mut directory.renewed).values().flatten() {
            self.identifiers.far.pids.release(*slot, seconds(now));
        }
    }

    /// A group of a part that is being renewed.
    pub(crate) fn group_came(&mut self, now: Instant, peer: PeerId, body: &[u8]) -> Result<(), CodecError> {
        let said = Members::read(body)?;
        let key = GroupKey { scope: said.scope.to_owned(), group: Bytes::copy_from_slice(said.group) };
        if self.peer(peer).directory.renewing & 1 << key.part() == 0 {
            return Err(CodecError::Invalid("part of a group"));
        }
        if !self.follows(&key.scope) {
            self.refuse(now, peer, Refusal::Scope);
            return Ok(());
        }
        let slots = self.read_members(now, peer, &said)?;
        let held: usize = self.peer(peer).directory.renewed.values().map(Vec::len).sum();
        if held + slots.len() > self.settings.limits.members_of_peer_max {
            self.let_go(now, &slots);
            self.refuse(now, peer, Refusal::TooManyMembers);
            return Ok(());
        }
        self.peer_mut(peer).directory.renewed.entry(key).or_default().extend(slots);
        Ok(())
    }

    /// All of what differed has come: the directory is what the other side has, and is published.
    pub(crate) fn in_step(&mut self, now: Instant, peer: PeerId) {
        let directory = &mut self.peer_mut(peer).directory;
        let parts = std::mem::take(&mut directory.renewing);
        let renewed = std::mem::take(&mut directory.renewed);
        let published = std::mem::replace(&mut directory.published, true);
        let old: BTreeMap<GroupKey, Vec<Slot>> =
            directory.groups.extract_if(.., |key, _| parts & 1 << key.part() != 0).collect();
        for (key, slots) in &old {
            if published {
                self.withdraw(peer, key, slots);
            }
            slots.iter().for_each(|slot| self.identifiers.far.pids.release(*slot, seconds(now)));
        }
        self.peer_mut(peer).directory.groups.extend(renewed.clone());
        let publish = if published { renewed } else { self.peer(peer).directory.groups.clone() };
        for (key, slots) in &publish {
            self.publish(now, peer, key, slots);
        }
        let directory = &mut self.peer_mut(peer).directory;
        directory.members = directory.groups.values().map(Vec::len).sum();
        // What another gateway of that cluster had said before is said anew by this one.
        for other in PeerId::all().take(self.peers.len()) {
            if other != peer && self.peer(other).cluster == self.peer(peer).cluster {
                self.drop_directory(now, other);
            }
        }
    }

    /// Forgets the groups of a gateway that are not published.
    pub(crate) fn drop_directory(&mut self, now: Instant, peer: PeerId) {
        let directory = std::mem::take(&mut self.peer_mut(peer).directory);
        for slot in directory.groups.values().chain(directory.renewed.values()).flatten() {
            self.identifiers.far.pids.release(*slot, seconds(now));
        }
    }

    /// What gateways had said that were not asked for long is not remembered any longer.
    pub(crate) fn drop_old_directories(&mut self, now: Instant) {
        for peer in PeerId::all().take(self.peers.len()) {
            let state = self.peer(peer);
            // Also of one that is back, when another gateway publishes.
            let old = !state.asked && now.since(state.since) >= self.settings.times.identifier_idle;
            if old && !state.directory.groups.is_empty() {
                self.drop_directory(now, peer);
            }
        }
    }

    pub(crate) fn joined(&mut self, now: Instant, peer: PeerId, body: &[u8]) -> Result<(), CodecError> {
        let said = Members::read(body)?;
        let key = GroupKey { scope: said.scope.to_owned(), group: Bytes::copy_from_slice(said.group) };
        if !self.peer(peer).directory.published {
            return Err(CodecError::Invalid("change before the groups"));
        }
        if !self.follows(&key.scope) {
            self.refuse(now, peer, Refusal::Scope);
            return Ok(());
        }
        let slots = self.read_members(now, peer, &said)?;
        let directory = &mut self.peers[peer.index()].directory;
        if directory.members + slots.len() > self.settings.limits.members_of_peer_max {
            self.let_go(now, &slots);
            self.refuse(now, peer, Refusal::TooManyMembers);
            return Ok(());
        }
        directory.members += slots.len();
        directory.groups.entry(key.clone()).or_default().extend(&slots);
        self.publish(now, peer, &key, &slots);
        Ok(())
    }

    pub(crate) fn left(&mut self, now: Instant, peer: PeerId, body: &[u8]) -> Result<(), CodecError> {
        let said = Members::read(body)?;
        let key = GroupKey { scope: said.scope.to_owned(), group: Bytes::copy_from_slice(said.group) };
        let slots = self.read_members(now, peer, &said)?;
        // Those that were read to find them.
        self.let_go(now, &slots);
        let directory = &mut self.peers[peer.index()].directory;
        let Some(members) = directory.groups.get_mut(&key) else { return Ok(()) };
        let mut gone = Vec::new();
        for slot in slots {
            if let Some(place) = members.iter().position(|member| *member == slot) {
                members.remove(place);
                gone.push(slot);
            }
        }
        directory.members -= gone.len();
        if members.is_empty() {
            directory.groups.remove(&key);
        }
        self.withdraw(peer, &key, &gone);
        gone.iter().for_each(|slot| self.identifiers.far.pids.release(*slot, seconds(now)));
        Ok(())
    }

    /// A group in the form of this cluster. The same group always gives the same.
    fn local_group(&mut self, peer: PeerId, now: u32, key: &GroupKey) -> Option<GroupKey> {
        let mut out = BytesMut::new();
        let mut translate = ToLocal { identifiers: &mut self.identifiers, peer, now, fault: None, forged: 0 };
        self.rewriter.rewrite(1, &key.group, &mut translate, &mut out).ok()?;
        translate.fault.is_none().then(|| GroupKey { scope: key.scope.clone(), group: out.freeze() })
    }

    fn publish(&mut self, now: Instant, peer: PeerId, key: &GroupKey, slots: &[Slot]) {
        if slots.is_empty() {
            return;
        }
        let Some(group) = self.local_group(peer, seconds(now), key) else {
            return self.refuse(now, peer, Refusal::Malformed);
        };
        let members: Vec<Pid> = slots.iter().map(|slot| self.proxy(*slot)).collect();
        let home = |slot: &Slot| self.identifiers.far.pids.at(*slot).map(|entry| entry.key);
        let served: Vec<_> = members.iter().cloned().zip(slots.iter().filter_map(home)).collect();
        self.serves_there(peer, &group, &served);
        let (cluster, count) = (self.peer(peer).cluster.clone(), members.len());
        self.outputs.push_back(Output::Publish { group: group.clone(), members });
        self.outputs.push_back(Output::Notice(Notice::Joined { cluster, group, members: count }));
    }

    fn withdraw(&mut self, peer: PeerId, key: &GroupKey, slots: &[Slot]) {
        if slots.is_empty() {
            return;
        }
        let Some(group) = self.local_group(peer, 0, key) else { return };
        let members: Vec<Pid> = slots.iter().map(|slot| self.proxy(*slot)).collect();
        self.serves_there_no_more(&group, &members);
        let (cluster, count) = (self.peer(peer).cluster.clone(), members.len());
        self.outputs.push_back(Output::Withdraw { group: group.clone(), members });
        self.outputs.push_back(Output::Notice(Notice::Left { cluster, group, members: count }));
    }

    /// The link is lost: nothing of it is published any more. It is remembered for the next one.
    pub(crate) fn withdraw_all(&mut self, peer: PeerId) {
        let directory = &mut self.peer_mut(peer).directory;
        directory.renewing = 0;
        let renewed = std::mem::take(&mut directory.renewed);
        let published = std::mem::replace(&mut directory.published, false);
        for slot in renewed.values().flatten() {
            self.identifiers.far.pids.release(*slot, 0);
        }
        if published {
            let groups = self.peer(peer).directory.groups.clone();
            for (key, slots) in &groups {
                self.withdraw(peer, key, slots);
            }
        }
    }
}
