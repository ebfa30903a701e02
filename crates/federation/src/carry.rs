//! Messages on their way: out of this cluster, into it, and through it.

use bytes::{Bytes, BytesMut};
use metacluster_erl_wire::{
    Control, Pid, Term,
    control::Process,
    frame::Payload,
    rewrite::{Rewriter, Route, Translate},
    term,
};
use metacluster_types::Instant;

use crate::{
    CloseReason, Federation, Output,
    codec::frame::{CHUNK_BYTES, Kind},
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
    /// What the route is of, where it may be shared.
    pub(crate) body: Option<&'a Bytes>,
    /// It must not be lost while there is a way.
    pub(crate) signal: bool,
}

impl Parcel<'_> {
    fn size(&self) -> usize {
        self.route.control.len() + self.route.payload.len()
    }

    /// Where what is large in it may stay: it does not fit a frame anyway, and is most of what it keeps in memory.
    fn shareable(&self) -> Option<&Bytes> {
        self.body.filter(|_| self.size() > CHUNK_BYTES)
    }
}

/// How much longer the identifiers of a message may make it before its buffer has to grow.
const SPARE_BYTES: usize = 256;
/// Messages to nodes are written one behind the other into buffers of this size.
const SCRATCH_BYTES: usize = 32 << 10;
/// From this size on what a message holds is not copied: each such part is passed on from where it came.
const SHARED_BYTES_MIN: usize = 16 << 10;
/// A message that may hold such a part is looked at in steps of this size.
const STEP_BYTES: usize = 1 << 10;

/// What of a message is passed on from where it came: each part, and behind how many of the bytes that were written.
type Shared = Vec<(usize, Bytes)>;

/// Appends what the message becomes, without what is shared, and gives the end of its control message.
fn rewrite(
    rewriter: &mut Rewriter,
    parcel: &Parcel<'_>,
    translate: &mut impl Translate,
    out: &mut BytesMut,
) -> Result<(usize, Shared), Refusal> {
    let mut shared = Shared::new();
    rewriter.start_routed(parcel.route, translate, out).map_err(|_| Refusal::Malformed)?;
    let split = out.len();
    let mut rest = parcel.route.payload;
    // The payload is the end of the body, and what is left of it the end of that.
    while let Some(body) = parcel.shareable().filter(|body| (SHARED_BYTES_MIN..=body.len()).contains(&rest.len())) {
        let passing = usize::try_from(rewriter.passing()).unwrap_or(usize::MAX).min(rest.len());
        if passing >= SHARED_BYTES_MIN {
            let at = body.len() - rest.len();
            shared.push((out.len(), body.slice(at..at + passing)));
            rewriter.pass(passing as u64).map_err(|_| Refusal::Malformed)?;
            rest = &rest[passing..];
            continue;
        }
        if out.capacity() - out.len() < STEP_BYTES + SPARE_BYTES {
            out.reserve(rest.len() + SPARE_BYTES);
        }
        let (step, left) = rest.split_at(STEP_BYTES);
        rewriter.feed(step, translate, out).map_err(|_| Refusal::Malformed)?;
        rest = left;
    }
    rewriter.feed(rest, translate, out).and_then(|()| rewriter.finish()).map_err(|_| Refusal::Malformed)?;
    Ok((split, shared))
}

/// What was written and what is shared, in their order.
fn pieces(mut written: Bytes, shared: Shared, start: usize) -> Vec<Bytes> {
    let mut pieces = Vec::with_capacity(2 * shared.len() + 1);
    let mut taken = start;
    for (at, part) in shared {
        pieces.push(written.split_to(at - taken));
        pieces.push(part);
        taken = at;
    }
    pieces.push(written);
    pieces.retain(|piece| !piece.is_empty());
    pieces
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
        if parcel.shareable().is_some() {
            self.scratch.clear();
            let (_, shared) = rewrite(rewriter, parcel, &mut translate, &mut self.scratch)?;
            let pieces = pieces(self.scratch.split().freeze(), shared, 0);
            let written: usize = pieces.iter().map(Bytes::len).sum();
            if written > bytes_max {
                return Err(Refusal::TooLarge);
            }
            translate.fault().map_or(Ok(()), Err)?;
            state.lanes.put_large(lane, pieces);
            traffic.signals_out += 1;
            traffic.bytes_out += written as u64;
            return Ok(());
        }
        let mut written = 0;
        state.lanes.write(lane, Kind::Signal, size + SPARE_BYTES, |out| {
            let start = out.len();
            rewrite(rewriter, parcel, &mut translate, out)?;
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
        let needed = parcel.shareable().map_or(parcel.size(), |_| 0) + SPARE_BYTES;
        if self.scratch.capacity() < needed {
            self.scratch.reserve(needed.max(SCRATCH_BYTES));
        }
        let identifiers = &mut self.identifiers;
        let mut translate = ToLocal { identifiers, peer, now: seconds(now), fault: None, forged: 0 };
        let (split, shared) = rewrite(&mut self.rewriter, parcel, &mut translate, &mut self.scratch)?;
        let (fault, forged) = (translate.fault, translate.forged);
        if forged > 0 {
            self.refuse(now, peer, Refusal::NotGranted);
        }
        if let Some(fault) = fault {
            return Err(fault);
        }
        let control = self.scratch.split_to(split).freeze();
        let written = self.scratch.split().freeze();
        let payload = if shared.is_empty() {
            (!written.is_empty()).then(|| Payload::from_bytes(written))
        } else {
            Some(Payload::from_pieces(pieces(written, shared, split)))
        };
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
