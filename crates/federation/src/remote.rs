//! Signals that come over a link.
//!
//! Everything that a far gateway says is doubted: who sends must be of its side, who gets it must have been handed out to
//! it, and the end of a monitor or a link must be of one that was made. What never crosses is refused by its kind.

use bytes::Bytes;
use metacluster_erl_wire::{
    Control, Term,
    control::Process,
    rewrite::{Endpoint, Route, RouteError},
};
use metacluster_types::Instant;

use crate::{
    CloseReason, Federation, LinkId,
    carry::Parcel,
    codec::frame::Body,
    identifiers::{PidKey, ReferenceKey},
    lanes::Lane,
    local::{lane, operation, signal, unlink_id},
    peer::PeerId,
    refusal::Refusal,
    seconds,
    table::Slot,
    through::Word,
    watches::{Inward, Target},
};

/// Whom a signal of a link is for.
enum Receiver {
    /// A process of this cluster.
    Own(PidKey, Slot),
    /// One of a third cluster, which was handed out to that gateway.
    Far(PeerId, Slot),
}

/// The ends of a signal that is no message.
struct Ends {
    from: PidKey,
    to: PidKey,
}

impl Federation {
    pub(crate) fn remote_signal(&mut self, now: Instant, link: LinkId, peer: PeerId, body: &Body<'_>) {
        let route = match Route::read(body) {
            Ok(route) if route.has_payload() == route.payload.is_empty() => None,
            Ok(route) => Some(route),
            Err(RouteError::UnknownOperation(_)) => return self.refuse(now, peer, Refusal::Operation),
            Err(_) => None,
        };
        let Some(route) = route else { return self.close(now, link, CloseReason::MalformedSignal) };
        match self.remote(now, peer, &route, body.shared()) {
            Ok(()) => {}
            Err(Refusal::Malformed) => {
                self.refuse(now, peer, Refusal::Malformed);
                self.close(now, link, CloseReason::MalformedSignal);
            }
            Err(refusal) => self.refuse(now, peer, refusal),
        }
    }

    fn remote(&mut self, now: Instant, peer: PeerId, route: &Route<'_>, body: Option<&Bytes>) -> Result<(), Refusal> {
        match route.operation {
            6 | 16 => return Err(Refusal::RegisteredName),
            7 => return Err(Refusal::GroupLeader),
            8 | 18 | 26 | 27 => return Err(Refusal::ExitWithoutLink),
            29..=32 => return Err(Refusal::Spawn),
            _ => {}
        }
        if operation::is_message(route.operation) {
            return self.remote_message(now, peer, route, body);
        }
        let (Some(Endpoint::Pid(from)), Some(Endpoint::Pid(to))) = (route.from, route.to) else {
            return Err(Refusal::RegisteredName);
        };
        let ends = Ends { from: self.identifiers.home_key(&from)?, to: self.identifiers.home_key(&to)? };
        if self.identifiers.names.name(ends.from.name).own {
            return Err(Refusal::ForgedSender);
        }
        match route.operation {
            operation::MONITOR => self.remote_monitor(now, peer, route, &ends),
            operation::DEMONITOR => self.remote_demonitor(now, peer, route, &ends),
            operation::MONITOR_EXIT | operation::PAYLOAD_MONITOR_EXIT => self.remote_down(now, peer, route, &ends),
            operation::LINK => self.remote_link(now, peer, route, &ends),
            operation::UNLINK_ID => self.remote_unlink(now, peer, route, &ends),
            operation::UNLINK_ID_ACK => self.remote_unlinked(now, peer, route, &ends),
            operation::EXIT | operation::EXIT_TRACED | operation::PAYLOAD_EXIT | operation::PAYLOAD_EXIT_TRACED => {
                self.remote_exit(now, peer, route, &ends)
            }
            _ => Err(Refusal::Operation),
        }
    }

    fn receiver(&mut self, now: Instant, peer: PeerId, to: &PidKey) -> Option<Receiver> {
        if self.identifiers.names.name(to.name).own {
            let slot = self.identifiers.is_granted(peer, to, seconds(now))?;
            return Some(Receiver::Own(*to, slot));
        }
        // What it brought itself is not behind this gateway.
        let slot = self.identifiers.far_pid(peer, to)?;
        let via = self.identifiers.far.pids.use_at(slot, seconds(now))?.via?;
        (via != peer).then_some(Receiver::Far(via, slot))
    }

    /// Counts what a gateway brings against what it may bring in a second.
    fn take_quota(&mut self, now: Instant, peer: PeerId, route: &Route<'_>) -> Result<(), Refusal> {
        let limits = self.settings.limits;
        let size = route.control.len() + route.payload.len();
        let window = &mut self.peer_mut(peer).window;
        let fits = window.take(now, size, limits.messages_per_second, limits.bytes_per_second);
        if fits { Ok(()) } else { Err(Refusal::Quota) }
    }

    fn remote_message(
        &mut self,
        now: Instant,
        peer: PeerId,
        route: &Route<'_>,
        body: Option<&Bytes>,
    ) -> Result<(), Refusal> {
        self.take_quota(now, peer, route)?;
        let mut from_lane = 0;
        if let Some(Endpoint::Pid(from)) = route.from {
            let from = self.identifiers.home_key(&from)?;
            if self.identifiers.names.name(from.name).own {
                return Err(Refusal::ForgedSender);
            }
            from_lane = node_lane(&from);
        }
        let parcel = Parcel { route, body, signal: false };
        match route.to {
            Some(Endpoint::Pid(to)) => {
                let to = self.identifiers.home_key(&to)?;
                match self.receiver(now, peer, &to).ok_or(Refusal::NotGranted)? {
                    Receiver::Own(to, _) => self.carry_in(now, peer, to.name, from_lane, &parcel),
                    Receiver::Far(via, _) => self.carry_through(now, (peer, via), lane(route), &parcel),
                }
            }
            Some(Endpoint::Alias(to)) => {
                let to = self.identifiers.home_reference_key(&to)?;
                if self.identifiers.names.name(to.name).own {
                    self.identifiers.is_granted_reference(peer, &to, seconds(now)).ok_or(Refusal::NotGranted)?;
                    return self.carry_in(now, peer, to.name, from_lane, &parcel);
                }
                let slot = self.identifiers.far_reference(peer, &to).ok_or(Refusal::NotGranted)?;
                let via = self.identifiers.far.references.at(slot).and_then(|entry| entry.via);
                let via = via.filter(|via| *via != peer).ok_or(Refusal::NotGranted)?;
                self.carry_through(now, (peer, via), lane(route), &parcel)
            }
            Some(Endpoint::Name(_)) | None => Err(Refusal::RegisteredName),
        }
    }

    fn reference(&mut self, route: &Route<'_>) -> Result<ReferenceKey, Refusal> {
        let reference = route.reference.ok_or(Refusal::Malformed)?;
        self.identifiers.home_reference_key(&reference)
    }

    fn remote_monitor(&mut self, now: Instant, peer: PeerId, route: &Route<'_>, ends: &Ends) -> Result<(), Refusal> {
        let reference = self.reference(route)?;
        if self.identifiers.names.name(reference.name).own {
            return Err(Refusal::ForgedSender);
        }
        let quota = self.take_quota(now, peer, route);
        let receiver = self.receiver(now, peer, &ends.to);
        let made = match &receiver {
            _ if quota.is_err() => quota,
            None => Err(Refusal::NotGranted),
            Some(_) if self.watches.inward.len() >= self.settings.limits.watches_max => Err(Refusal::TooManyWatches),
            Some(Receiver::Own(to, _)) => self.carry_in(now, peer, to.name, node_lane(&ends.from), &signal(route)),
            Some(Receiver::Far(via, _)) => self.carry_through(now, (peer, *via), lane(route), &signal(route)),
        };
        // Both are known since it was carried.
        let slots = self.identifiers.far_pid(peer, &ends.from).zip(self.identifiers.far_reference(peer, &reference));
        let (Ok(()), Some(receiver), Some((watcher, slot))) = (&made, receiver, slots) else {
            let refusal = made.err().unwrap_or(Refusal::NotGranted);
            let reason = if refusal == Refusal::NotGranted { "noproc" } else { "noconnection" };
            self.say_down(now, peer, ends, &reference, reason);
            return Err(refusal);
        };
        let target = match receiver {
            Receiver::Own(key, slot) => {
                self.identifiers.own.pids.hold(slot);
                Target::Own(key, slot)
            }
            Receiver::Far(via, slot) => {
                self.identifiers.far.pids.hold(slot);
                Target::Far(via, slot)
            }
        };
        self.identifiers.far.pids.hold(watcher);
        self.identifiers.far.references.hold(slot);
        if let Some(old) = self.watches.inward.insert(slot, Inward { peer, watcher, target }) {
            self.release_inward(now, slot, &old);
        }
        Ok(())
    }

    /// Tells a far process that what it monitors is no more.
    fn say_down(&mut self, now: Instant, peer: PeerId, ends: &Ends, reference: &ReferenceKey, reason: &'static str) {
        let control = Control::PayloadMonitorPExit {
            from: Process::Pid(self.identifiers.home_pid(&ends.to)),
            to: self.identifiers.home_pid(&ends.from),
            reference: self.identifiers.home_reference(reference),
        };
        self.say(now, peer, Lane::of(ends.to.id, ends.to.serial), control, Some(&Term::atom(reason)));
    }

    fn remote_demonitor(&mut self, now: Instant, peer: PeerId, route: &Route<'_>, ends: &Ends) -> Result<(), Refusal> {
        let reference = self.reference(route)?;
        // One that fired on its way is taken back in vain.
        let Some(slot) = self.identifiers.far_reference(peer, &reference) else { return Ok(()) };
        let Some(known) = self.watches.inward.get(&slot).copied().filter(|known| known.peer == peer) else {
            return Ok(());
        };
        self.watches.inward.remove(&slot);
        let carried = match known.target {
            Target::Own(to, _) => self.carry_in(now, peer, to.name, node_lane(&ends.from), &signal(route)),
            Target::Far(via, _) => self.carry_through(now, (peer, via), lane(route), &signal(route)),
        };
        self.release_inward(now, slot, &known);
        carried
    }

    fn remote_down(&mut self, now: Instant, peer: PeerId, route: &Route<'_>, ends: &Ends) -> Result<(), Refusal> {
        let reference = self.reference(route)?;
        if self.identifiers.names.name(reference.name).own {
            let target = self.identifiers.far_pid(peer, &ends.from);
            let known = self.watches.outward.get(&reference).copied();
            let known = known.filter(|known| known.peer == peer && Some(known.target) == target);
            let known = known.ok_or(Refusal::NotWatched)?;
            self.watches.outward.remove(&reference);
            let carried = self.carry_in(now, peer, known.watcher.name, node_lane(&ends.from), &signal(route));
            self.release_outward(now, &known);
            return carried;
        }
        // Of a process of another cluster, which monitors through this gateway.
        let slot = self.identifiers.far_reference(peer, &reference).ok_or(Refusal::NotWatched)?;
        let known = self.watches.inward.get(&slot).copied();
        let known = known.filter(|known| matches!(known.target, Target::Far(via, _) if via == peer));
        let known = known.ok_or(Refusal::NotWatched)?;
        self.watches.inward.remove(&slot);
        let carried = self.carry_through(now, (peer, known.peer), lane(route), &signal(route));
        self.release_inward(now, slot, &known);
        carried
    }

    fn remote_link(&mut self, now: Instant, peer: PeerId, route: &Route<'_>, ends: &Ends) -> Result<(), Refusal> {
        let quota = self.take_quota(now, peer, route);
        let made = match self.receiver(now, peer, &ends.to) {
            _ if quota.is_err() => quota.map(|()| None),
            None => Err(Refusal::NotGranted),
            Some(Receiver::Far(via, to)) => self.link_through(now, peer, route, &ends.from, (via, to)).map(|()| None),
            Some(Receiver::Own(..)) if self.watches.links.len() >= self.settings.limits.watches_max => {
                Err(Refusal::TooManyWatches)
            }
            Some(Receiver::Own(to, _)) => {
                self.carry_in(now, peer, to.name, node_lane(&ends.from), &signal(route)).map(|()| Some(to))
            }
        };
        match made {
            Ok(own) => {
                if let Some((own, slot)) = own.zip(self.identifiers.far_pid(peer, &ends.from)) {
                    self.add_link(now, own, slot, peer);
                }
                Ok(())
            }
            Err(refusal) => {
                let reason = if refusal == Refusal::NotGranted { "noproc" } else { "noconnection" };
                let (from, to) = (self.identifiers.home_pid(&ends.to), self.identifiers.home_pid(&ends.from));
                let control = Control::PayloadExit { from, to, trace: None };
                self.say(now, peer, Lane::of(ends.to.id, ends.to.serial), control, Some(&Term::atom(reason)));
                Err(refusal)
            }
        }
    }

    fn remote_unlink(&mut self, now: Instant, peer: PeerId, route: &Route<'_>, ends: &Ends) -> Result<(), Refusal> {
        let id = unlink_id(route).ok_or(Refusal::Malformed)?;
        if let Some(slot) = self.identifiers.far_pid(peer, &ends.from)
            && let Some(linked) = self.watches.links.remove(&(ends.to, slot))
        {
            let carried = self.carry_in(now, peer, ends.to.name, node_lane(&ends.from), &signal(route));
            // The process itself confirms it, by the way by which the far one is reached.
            let confirms = self.identifiers.far.pids.at(slot).is_some_and(|entry| entry.via == Some(peer));
            self.release_link(now, slot, &linked);
            if carried.is_ok() && confirms {
                return Ok(());
            }
        }
        if self.say_through(now, peer, route, (&ends.from, &ends.to), Word::Unlink).is_ok() {
            return Ok(());
        }
        let (from, to) = (self.identifiers.home_pid(&ends.to), self.identifiers.home_pid(&ends.from));
        let control = Control::UnlinkIdAck { id, from, to };
        self.say(now, peer, Lane::of(ends.to.id, ends.to.serial), control, None);
        Ok(())
    }

    fn remote_unlinked(&mut self, now: Instant, peer: PeerId, route: &Route<'_>, ends: &Ends) -> Result<(), Refusal> {
        let id = unlink_id(route).ok_or(Refusal::Malformed)?;
        if !self.identifiers.names.name(ends.to.name).own {
            return self.say_through(now, peer, route, (&ends.from, &ends.to), Word::Unlinked);
        }
        let slot = self.identifiers.far_pid(peer, &ends.from).ok_or(Refusal::NotWatched)?;
        let known = self.watches.links.get(&(ends.to, slot)).copied();
        let linked = known.filter(|linked| linked.peer == peer && linked.unlinking == Some(id));
        let linked = linked.ok_or(Refusal::NotWatched)?;
        self.watches.links.remove(&(ends.to, slot));
        let carried = self.carry_in(now, peer, ends.to.name, node_lane(&ends.from), &signal(route));
        self.release_link(now, slot, &linked);
        carried
    }

    fn remote_exit(&mut self, now: Instant, peer: PeerId, route: &Route<'_>, ends: &Ends) -> Result<(), Refusal> {
        if !self.identifiers.names.name(ends.to.name).own {
            return self.say_through(now, peer, route, (&ends.from, &ends.to), Word::Exit);
        }
        let slot = self.identifiers.far_pid(peer, &ends.from).ok_or(Refusal::ExitWithoutLink)?;
        let known = self.watches.links.get(&(ends.to, slot)).copied();
        let linked = known.filter(|linked| linked.peer == peer).ok_or(Refusal::ExitWithoutLink)?;
        if linked.unlinking.is_some() {
            // It was off; its confirmation is on its way.
            return Ok(());
        }
        self.watches.links.remove(&(ends.to, slot));
        let carried = self.carry_in(now, peer, ends.to.name, node_lane(&ends.from), &signal(route));
        self.release_link(now, slot, &linked);
        carried
    }

    /// A monitor of a far process is no more.
    pub(crate) fn release_inward(&mut self, now: Instant, slot: Slot, inward: &Inward) {
        let now = seconds(now);
        self.identifiers.far.references.release(slot, now);
        self.identifiers.far.pids.release(inward.watcher, now);
        match inward.target {
            Target::Own(_, slot) => self.identifiers.own.pids.release(slot, now),
            Target::Far(_, slot) => self.identifiers.far.pids.release(slot, now),
        }
    }
}

/// Whose order a message to a node of this cluster keeps.
fn node_lane(from: &PidKey) -> u64 {
    u64::from(from.id) << 32 | u64::from(from.serial)
}
