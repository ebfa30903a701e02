//! Messages on their way: out of this cluster, into it, and through it.

use bytes::BytesMut;
use metacluster_erl_wire::{
    Control, Pid, Term,
    control::Process,
    rewrite::{Rewriter, Route, Translate},
    term,
};
use metacluster_types::Instant;

use crate::{
    CloseReason, Federation, Output,
    codec::frame::Kind,
    identifiers::{PidKey, ReferenceKey},
    lanes::{Full, Lane},
    names::NameId,
    peer::PeerId,
    refusal::Refusal,
    seconds,
    translate::{Through, ToLink, ToLocal},
};

/// A message as it came: terms without version byte.
#[derive(Clone, Copy)]
pub(crate) struct Parcel<'a> {
    pub(crate) route: &'a Route<'a>,
    /// It must not be lost while there is a way.
    pub(crate) signal: bool,
}

impl Parcel<'_> {
    fn size(&self) -> usize {
        self.route.control.len() + self.route.payload.len()
    }
}

/// How much longer the identifiers of a message may make it before its buffer has to grow.
const SPARE_BYTES: usize = 256;
/// Messages to nodes are written one behind the other into buffers of this size.
const SCRATCH_BYTES: usize = 32 << 10;

/// Appends what the message becomes, and gives the end of its control message.
fn rewrite(
    rewriter: &mut Rewriter,
    route: &Route<'_>,
    translate: &mut impl Translate,
    out: &mut BytesMut,
) -> Result<usize, Refusal> {
    rewriter.start_routed(route, translate, out).map_err(|_| Refusal::Malformed)?;
    let split = out.len();
    rewriter
        .feed(route.payload, translate, out)
        .and_then(|()| rewriter.finish())
        .map(|()| split)
        .map_err(|_| Refusal::Malformed)
}

impl Federation {
    /// Out of this cluster, into a lane.
    pub(crate) fn carry_out(
        &mut self,
        now: Instant,
        peer: PeerId,
        lane: Lane,
        parcel: &Parcel<'_>,
    ) -> Result<(), Refusal> {
        self.queue(now, peer, lane, parcel, |federation| {
            let now = seconds(now);
            ToLink { identifiers: federation, peer, now, fault: None }
        })
    }

    /// From the gateway `from` to the gateway `to`.
    pub(crate) fn carry_through(
        &mut self,
        now: Instant,
        (from, to): (PeerId, PeerId),
        lane: Lane,
        parcel: &Parcel<'_>,
    ) -> Result<(), Refusal> {
        self.queue(now, to, lane, parcel, |identifiers| {
            let now = seconds(now);
            Through { identifiers, from, to, now, fault: None }
        })
    }

    fn queue<'t, T: Translate + Fault>(
        &'t mut self,
        now: Instant,
        peer: PeerId,
        lane: Lane,
        parcel: &Parcel<'_>,
        translate: impl FnOnce(&'t mut crate::identifiers::Identifiers) -> T,
    ) -> Result<(), Refusal> {
        let bytes_max = self.settings.limits.message_bytes_max;
        let size = parcel.size();
        if size > bytes_max {
            return Err(Refusal::TooLarge);
        }
        let Some(link) = self.peer(peer).link else { return Err(Refusal::NoConnection) };
        let Some(state) = self.links.get_mut(&link) else { return Err(Refusal::NoConnection) };
        match state.lanes.room(lane, size, parcel.signal) {
            Ok(()) => {}
            Err(Full::Lane) => return Err(Refusal::LaneFull),
            Err(Full::Link) => {
                self.close(now, link, CloseReason::Overloaded);
                return Err(Refusal::NoConnection);
            }
        }
        if !state.woken {
            state.woken = true;
            self.outputs.push_back(Output::Transmit(link));
        }
        let traffic = &mut self.peers[peer.index()].traffic;
        let rewriter = &mut self.rewriter;
        let mut translate = translate(&mut self.identifiers);
        let mut written = 0;
        state.lanes.write(lane, Kind::Signal, size + SPARE_BYTES, |out| {
            let start = out.len();
            rewrite(rewriter, parcel.route, &mut translate, out)?;
            written = out.len() - start;
            if written > bytes_max {
                return Err(Refusal::TooLarge);
            }
            translate.fault().map_or(Ok(()), Err)
        })?;
        traffic.signals_out += 1;
        traffic.bytes_out += written as u64;
        Ok(())
    }

    /// Into this cluster, to a node.
    pub(crate) fn carry_in(
        &mut self,
        now: Instant,
        peer: PeerId,
        to: NameId,
        lane: u64,
        parcel: &Parcel<'_>,
    ) -> Result<(), Refusal> {
        let node = &self.identifiers.names.name(to).node;
        if !self.nodes.contains(node) {
            return Err(Refusal::NoConnection);
        }
        let node = node.clone();
        self.scratch.clear();
        let needed = parcel.size() + SPARE_BYTES;
        if self.scratch.capacity() < needed {
            self.scratch.reserve(needed.max(SCRATCH_BYTES));
        }
        let identifiers = &mut self.identifiers;
        let mut translate = ToLocal { identifiers, peer, now: seconds(now), fault: None, forged: 0 };
        let split = rewrite(&mut self.rewriter, parcel.route, &mut translate, &mut self.scratch)?;
        let (fault, forged) = (translate.fault, translate.forged);
        if forged > 0 {
            self.refuse(now, peer, Refusal::NotGranted);
        }
        if let Some(fault) = fault {
            return Err(fault);
        }
        let control = self.scratch.split_to(split).freeze();
        let payload = (!self.scratch.is_empty()).then(|| self.scratch.split().freeze());
        self.peer_mut(peer).traffic.signals_in += 1;
        self.outputs.push_back(Output::Deliver { node, lane, control, payload, signal: parcel.signal });
        Ok(())
    }

    /// Says something over a link that this gateway has to say; all identifiers in home form.
    pub(crate) fn say(&mut self, now: Instant, peer: PeerId, lane: Lane, control: Control, payload: Option<&Term>) {
        let Some(link) = self.peer(peer).link else { return };
        let Some(state) = self.links.get_mut(&link) else { return };
        if state.lanes.room(lane, 256, true).is_err() {
            return self.close(now, link, CloseReason::Overloaded);
        }
        state.lanes.put(lane, Kind::Signal, |out| {
            term::encode(&Term::from(control), out);
            if let Some(payload) = payload {
                term::encode(payload, out);
            }
        });
        self.peer_mut(peer).traffic.signals_out += 1;
        self.wake(link);
    }

    /// Tells a process of this cluster that what it monitors has ended.
    pub(crate) fn tell_down(&mut self, watcher: &PidKey, reference: &ReferenceKey, target: Pid, reason: &'static str) {
        let (to, reference) = (self.identifiers.own_pid(watcher), self.identifiers.own_reference(reference));
        let node = to.node.clone();
        let lane = lane_of(&target);
        let control = Control::PayloadMonitorPExit { from: Process::Pid(target), to, reference };
        self.outputs.push_back(Output::Signal { node, lane, control, payload: Some(Term::atom(reason)) });
    }

    /// Tells a process of this cluster that what it is linked to has ended.
    pub(crate) fn tell_exit(&mut self, own: &PidKey, from: Pid, reason: &'static str) {
        let to = self.identifiers.own_pid(own);
        let (node, lane) = (to.node.clone(), lane_of(&from));
        let control = Control::PayloadExit { from, to, trace: None };
        self.outputs.push_back(Output::Signal { node, lane, control, payload: Some(Term::atom(reason)) });
    }

    /// Confirms an unlink of a process of this cluster.
    pub(crate) fn tell_unlinked(&mut self, own: &PidKey, from: Pid, id: u64) {
        let to = self.identifiers.own_pid(own);
        let (node, lane) = (to.node.clone(), lane_of(&from));
        let control = Control::UnlinkIdAck { id, from, to };
        self.outputs.push_back(Output::Signal { node, lane, control, payload: None });
    }
}

/// Whose order a message to a node keeps.
pub(crate) fn lane_of(from: &Pid) -> u64 {
    u64::from(from.id) << 32 | u64::from(from.serial)
}

/// What went wrong with an identifier.
pub(crate) trait Fault {
    fn fault(&self) -> Option<Refusal>;
}

impl Fault for ToLink<'_> {
    fn fault(&self) -> Option<Refusal> {
        self.fault
    }
}

impl Fault for Through<'_> {
    fn fault(&self) -> Option<Refusal> {
        self.fault
    }
}
