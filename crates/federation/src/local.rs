//! Signals of this cluster to far processes.
//!
//! What the BEAM must be answered, it is answered here when there is no way: a monitor and a link of nobody get `noproc`,
//! without a link `noconnection`, and an unlink gets its confirmation.

use bytes::Bytes;
use metacluster_erl_wire::{
    Control, Pid,
    rewrite::{Endpoint, PidView, ReferenceView, Route},
    term::{self, Limits},
};
use metacluster_types::Instant;

use crate::{
    Federation,
    carry::Parcel,
    identifiers::{Local, PidKey},
    lanes::Lane,
    peer::PeerId,
    refusal::Refusal,
    seconds,
    table::Slot,
    watches::{Linked, Outward},
};

/// Operations, as control messages have them.
pub(crate) mod operation {
    pub(crate) const LINK: u8 = 1;
    pub(crate) const EXIT: u8 = 3;
    pub(crate) const EXIT_TRACED: u8 = 13;
    pub(crate) const MONITOR: u8 = 19;
    pub(crate) const DEMONITOR: u8 = 20;
    pub(crate) const MONITOR_EXIT: u8 = 21;
    pub(crate) const PAYLOAD_EXIT: u8 = 24;
    pub(crate) const PAYLOAD_EXIT_TRACED: u8 = 25;
    pub(crate) const PAYLOAD_MONITOR_EXIT: u8 = 28;
    pub(crate) const UNLINK_ID: u8 = 35;
    pub(crate) const UNLINK_ID_ACK: u8 = 36;

    /// A message to a pid or an alias.
    pub(crate) fn is_message(operation: u8) -> bool {
        matches!(operation, 2 | 12 | 22 | 23 | 33 | 34)
    }
}

/// The end of a signal that is a far process.
enum Far {
    Known(PeerId, Slot),
    Dead,
}

impl Federation {
    /// Whether a message of this cluster to this end is one for a far process. The control message alone says so.
    #[must_use]
    pub fn is_for_far(&self, route: &Route<'_>) -> bool {
        match route.to {
            Some(Endpoint::Pid(pid)) => self.identifiers.local_pid(&pid) != Local::Own,
            Some(Endpoint::Alias(reference)) => self.identifiers.local_reference(&reference) != Local::Own,
            Some(Endpoint::Name(_)) | None => false,
        }
    }

    /// A control message of a node of this cluster to a far process, and its payload, as terms without version byte. What
    /// is not for one ([`Federation::is_for_far`]) changes nothing.
    pub fn handle_local(&mut self, now: Instant, body: &Bytes) {
        if let Ok(route) = Route::read(body) {
            self.handle_route(now, &route, body);
        }
    }

    /// As [`Federation::handle_local`], of a message of which the route is known: that of this body.
    pub fn handle_route(&mut self, now: Instant, route: &Route<'_>, body: &Bytes) {
        if operation::is_message(route.operation) {
            return self.local_message(now, route, body);
        }
        let (Some(Endpoint::Pid(from)), Some(Endpoint::Pid(to))) = (route.from, route.to) else { return };
        match route.operation {
            operation::MONITOR => self.local_monitor(now, route, &from, &to),
            operation::DEMONITOR => self.local_demonitor(now, route, &from, &to),
            operation::MONITOR_EXIT | operation::PAYLOAD_MONITOR_EXIT => self.local_down(now, route, &from),
            operation::LINK => self.local_link(now, route, &from, &to),
            operation::UNLINK_ID | operation::UNLINK_ID_ACK => self.local_unlink(now, route, &from, &to),
            operation::EXIT | operation::EXIT_TRACED | operation::PAYLOAD_EXIT | operation::PAYLOAD_EXIT_TRACED => {
                self.local_exit(now, route, &from, &to);
            }
            8 | 18 | 26 | 27 => self.refuse_local(now, &to, Refusal::ExitWithoutLink),
            7 => self.refuse_local(now, &to, Refusal::GroupLeader),
            _ => self.refuse_local(now, &to, Refusal::Operation),
        }
    }

    fn far(&self, pid: &PidView<'_>) -> Option<Far> {
        match self.identifiers.local_pid(pid) {
            Local::Own => None,
            Local::Dead => Some(Far::Dead),
            Local::Proxy(slot) => {
                let via = self.identifiers.far.pids.at(slot).and_then(|entry| entry.via);
                Some(via.map_or(Far::Dead, |peer| Far::Known(peer, slot)))
            }
        }
    }

    fn far_alias(&self, reference: &ReferenceView<'_>) -> Option<Far> {
        match self.identifiers.local_reference(reference) {
            Local::Own => None,
            Local::Dead => Some(Far::Dead),
            Local::Proxy(slot) => {
                let via = self.identifiers.far.references.at(slot).and_then(|entry| entry.via);
                Some(via.map_or(Far::Dead, |peer| Far::Known(peer, slot)))
            }
        }
    }

    fn refuse_local(&mut self, now: Instant, to: &PidView<'_>, refusal: Refusal) {
        match self.far(to) {
            Some(Far::Known(peer, _)) => self.refuse(now, peer, refusal),
            Some(Far::Dead) | None => {
                self.refusals.count(refusal);
            }
        }
    }

    fn local_message(&mut self, now: Instant, route: &Route<'_>, body: &Bytes) {
        let far = match route.to {
            Some(Endpoint::Pid(to)) => self.far(&to),
            Some(Endpoint::Alias(to)) => self.far_alias(&to),
            Some(Endpoint::Name(_)) | None => None,
        };
        match far {
            None => {}
            Some(Far::Dead) => {
                self.refusals.count(Refusal::Dead);
            }
            Some(Far::Known(peer, _)) => {
                let parcel = Parcel { route, body: Some(body), signal: false };
                if let Err(refusal) = self.carry_out(now, peer, lane(route), &parcel) {
                    self.refuse(now, peer, refusal);
                }
            }
        }
    }

    fn local_monitor(&mut self, now: Instant, route: &Route<'_>, from: &PidView<'_>, to: &PidView<'_>) {
        let Some(reference) = route.reference else { return };
        let keys = self.identifiers.own_key(from).and_then(|watcher| {
            let reference = self.identifiers.own_reference_key(&reference)?;
            Ok((watcher, reference))
        });
        let Ok((watcher, reference)) = keys else { return };
        let Some(far) = self.far(to) else { return };
        let Far::Known(peer, target) = far else {
            return self.tell_down(&watcher, &reference, to.to_pid(), "noproc");
        };
        let carried = if self.watches.outward.len() >= self.settings.limits.watches_max {
            Err(Refusal::TooManyWatches)
        } else {
            self.carry_out(now, peer, lane(route), &signal(route))
        };
        if let Err(refusal) = carried {
            self.refuse(now, peer, refusal);
            return self.tell_down(&watcher, &reference, to.to_pid(), "noconnection");
        }
        // Both were handed out just now.
        let (Some(watcher_slot), Some(reference_slot)) =
            (self.identifiers.own.pids.find(None, &watcher), self.identifiers.own.references.find(None, &reference))
        else {
            return;
        };
        self.identifiers.own.pids.hold(watcher_slot);
        self.identifiers.own.references.hold(reference_slot);
        self.identifiers.far.pids.hold(target);
        let outward = Outward { peer, watcher, watcher_slot, reference_slot, target };
        if let Some(old) = self.watches.outward.insert(reference, outward) {
            self.release_outward(now, &old);
        }
    }

    fn local_demonitor(&mut self, now: Instant, route: &Route<'_>, from: &PidView<'_>, to: &PidView<'_>) {
        let Some(reference) = route.reference else { return };
        let (Ok(watcher), Ok(reference)) =
            (self.identifiers.own_key(from), self.identifiers.own_reference_key(&reference))
        else {
            return;
        };
        let Some(known) = self.watches.outward.get(&reference).copied() else { return };
        let same = self.identifiers.local_pid(to) == Local::Proxy(known.target);
        if known.watcher != watcher || !same {
            return;
        }
        self.watches.outward.remove(&reference);
        if let Err(refusal) = self.carry_out(now, known.peer, lane(route), &signal(route)) {
            self.refuse(now, known.peer, refusal);
        }
        self.release_outward(now, &known);
    }

    /// A process of this cluster that a far one monitors has ended.
    fn local_down(&mut self, now: Instant, route: &Route<'_>, _from: &PidView<'_>) {
        let Some(reference) = route.reference else { return };
        let Local::Proxy(slot) = self.identifiers.local_reference(&reference) else { return };
        let Some(known) = self.watches.inward.remove(&slot) else { return };
        if let Err(refusal) = self.carry_out(now, known.peer, lane(route), &signal(route)) {
            self.refuse(now, known.peer, refusal);
        }
        self.release_inward(now, slot, &known);
    }

    fn local_link(&mut self, now: Instant, route: &Route<'_>, from: &PidView<'_>, to: &PidView<'_>) {
        let Ok(own) = self.identifiers.own_key(from) else { return };
        let Some(far) = self.far(to) else { return };
        let Far::Known(peer, slot) = far else { return self.tell_exit(&own, to.to_pid(), "noproc") };
        let carried = if self.watches.links.len() >= self.settings.limits.watches_max {
            Err(Refusal::TooManyWatches)
        } else {
            self.carry_out(now, peer, lane(route), &signal(route))
        };
        if let Err(refusal) = carried {
            self.refuse(now, peer, refusal);
            return self.tell_exit(&own, to.to_pid(), "noconnection");
        }
        self.add_link(now, own, slot, peer);
    }

    pub(crate) fn add_link(&mut self, now: Instant, own: PidKey, slot: Slot, peer: PeerId) {
        let Some(own_slot) = self.identifiers.own.pids.find(None, &own) else { return };
        self.identifiers.own.pids.hold(own_slot);
        self.identifiers.far.pids.hold(slot);
        if let Some(old) = self.watches.links.insert((own, slot), Linked { peer, own_slot, unlinking: None }) {
            self.release_link(now, slot, &old);
        }
    }

    fn local_unlink(&mut self, now: Instant, route: &Route<'_>, from: &PidView<'_>, to: &PidView<'_>) {
        let Ok(own) = self.identifiers.own_key(from) else { return };
        let Some(id) = unlink_id(route) else { return };
        let Some(far) = self.far(to) else { return };
        if route.operation == operation::UNLINK_ID_ACK {
            // What a far process asked for is done.
            if let Far::Known(peer, _) = far
                && let Err(refusal) = self.carry_out(now, peer, lane(route), &signal(route))
            {
                self.refuse(now, peer, refusal);
            }
            return;
        }
        // By the way that the link came: not always that by which the far process is reached.
        if let Far::Known(_, slot) = far
            && let Some(peer) = self.watches.links.get(&(own, slot)).map(|linked| linked.peer)
            && self.carry_out(now, peer, lane(route), &signal(route)).is_ok()
        {
            if let Some(linked) = self.watches.links.get_mut(&(own, slot)) {
                linked.unlinking = Some(id);
            }
            return;
        }
        self.tell_unlinked(&own, to.to_pid(), id);
    }

    fn local_exit(&mut self, now: Instant, route: &Route<'_>, from: &PidView<'_>, to: &PidView<'_>) {
        let Ok(own) = self.identifiers.own_key(from) else { return };
        let Some(Far::Known(peer, slot)) = self.far(to) else { return };
        let Some(linked) = self.watches.links.remove(&(own, slot)) else {
            return self.refuse(now, peer, Refusal::ExitWithoutLink);
        };
        if let Err(refusal) = self.carry_out(now, linked.peer, lane(route), &signal(route)) {
            self.refuse(now, linked.peer, refusal);
        }
        self.release_link(now, slot, &linked);
    }

    /// A monitor of this cluster is no more.
    pub(crate) fn release_outward(&mut self, now: Instant, outward: &Outward) {
        let now = seconds(now);
        self.identifiers.own.pids.release(outward.watcher_slot, now);
        self.identifiers.own.references.release(outward.reference_slot, now);
        self.identifiers.far.pids.release(outward.target, now);
    }

    /// A link is no more.
    pub(crate) fn release_link(&mut self, now: Instant, slot: Slot, linked: &Linked) {
        self.identifiers.own.pids.release(linked.own_slot, seconds(now));
        self.identifiers.far.pids.release(slot, seconds(now));
    }

    /// The pid that stands for a far one, as a value.
    pub(crate) fn proxy(&self, slot: Slot) -> Pid {
        self.identifiers.proxy(slot)
    }
}

/// That of the sender.
pub(crate) fn lane(route: &Route<'_>) -> Lane {
    match route.from {
        Some(Endpoint::Pid(pid)) => Lane::of(pid.id, pid.serial),
        Some(Endpoint::Name(_) | Endpoint::Alias(_)) | None => Lane::of(0, 0),
    }
}

/// The message as one that must not be lost.
pub(crate) fn signal<'a>(route: &'a Route<'a>) -> Parcel<'a> {
    Parcel { route, body: None, signal: true }
}

/// What names an unlink, and its confirmation.
pub(crate) fn unlink_id(route: &Route<'_>) -> Option<u64> {
    let (term, _) = term::decode(route.control, &Limits::default()).ok()?;
    match Control::try_from(term) {
        Ok(Control::UnlinkId { id, .. } | Control::UnlinkIdAck { id, .. }) => Some(id),
        Ok(_) | Err(_) => None,
    }
}
