//! Pids, ports and references: of this cluster as they are, of others as identifiers of the gateway's own node.
//!
//! A far pid `<id.serial>` of `east/shop@web1` is, in this cluster, a pid of the gateway's node whose serial has its
//! highest bit set; no process of that node has such a pid. Its other bits are the number and the generation of a
//! [`Table`]. References do the same with three words of which the last is the gateway's mark.
//!
//! Invariant: an identifier of this cluster that was never handed out is granted to nobody, and only what is granted to a
//! gateway can be reached by it.

use metacluster_erl_wire::{
    Atom, Pid, Reference,
    rewrite::{PidView, PortView, ReferenceIds, ReferenceView},
};
use metacluster_types::ClusterName;

use crate::{
    names::{NameId, Names},
    peer::PeerId,
    refusal::Refusal,
    settings::Settings,
    table::{GENERATION_BITS, Slot, Table},
};

/// In the serial of a pid: it stands for a far process.
pub const PROXY_SERIAL: u32 = 1 << 31;
/// In the number of a port: it stands for a far port.
const PROXY_PORT: u64 = 1 << 63;
/// A slot that no table has: the identifier of nobody.
const NOBODY: Slot = Slot { index: 0, generation: (1 << GENERATION_BITS) - 1 };

/// A pid, wherever its node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PidKey {
    pub(crate) name: NameId,
    pub(crate) creation: u32,
    pub(crate) id: u32,
    pub(crate) serial: u32,
}

/// A port, wherever its node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PortKey {
    pub(crate) name: NameId,
    pub(crate) creation: u32,
    pub(crate) id: u64,
}

/// A reference, whichever node made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ReferenceKey {
    pub(crate) name: NameId,
    pub(crate) creation: u32,
    pub(crate) ids: ReferenceIds,
}

/// What an identifier of a local message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// Of a node of this cluster.
    Own,
    /// Of the gateway, for a far one.
    Proxy(Slot),
    /// Of the gateway, for one that no one can use any more.
    Dead,
}

/// The tables of one side.
#[derive(Debug)]
pub(crate) struct Kinds {
    pub(crate) pids: Table<PidKey>,
    pub(crate) ports: Table<PortKey>,
    pub(crate) references: Table<ReferenceKey>,
}

impl Kinds {
    fn new(settings: &Settings, factor: u32, life: u32) -> Self {
        let (all, of_peer) = (settings.limits.identifiers_max, settings.limits.identifiers_of_peer_max);
        let seconds = |time: std::time::Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX).max(1) * factor;
        let (idle, reference) = (settings.times.identifier_idle, settings.times.reference_idle);
        Self {
            pids: Table::new(all, of_peer, seconds(idle), life),
            ports: Table::new(all, of_peer, seconds(idle), life),
            references: Table::new(all, of_peer, seconds(reference), life),
        }
    }

    fn collect(&mut self, now: u32) {
        self.pids.collect(now);
        self.ports.collect(now);
        self.references.collect(now);
    }

    fn forget(&mut self, peer: PeerId) {
        self.pids.forget(peer);
        self.ports.forget(peer);
        self.references.forget(peer);
    }
}

/// All identifiers that a gateway knows.
#[derive(Debug)]
pub(crate) struct Identifiers {
    pub(crate) names: Names,
    /// Those of this cluster that were handed out.
    pub(crate) own: Kinds,
    /// Those of others.
    pub(crate) far: Kinds,
    /// The gateway's node.
    pub(crate) node: Atom,
    creation: u32,
    mark: u32,
    /// The clusters of the gateways that were met.
    clusters: Vec<ClusterName>,
}

impl Identifiers {
    /// None are known. What was handed out in another `life` is nobody's in this one.
    pub(crate) fn new(settings: &Settings, life: u32) -> Self {
        Self {
            names: Names::new(settings.cluster.clone(), settings.limits.names_max),
            // What was handed out is kept twice as long as what it is handed out as: the far side gives up first.
            own: Kinds::new(settings, 2, life),
            far: Kinds::new(settings, 1, life),
            node: Atom::from(&settings.node),
            creation: settings.creation,
            mark: settings.reference_mark,
            clusters: Vec::new(),
        }
    }

    /// A gateway is met, in the place of another one if there was one: whatever that one had is no one's.
    pub(crate) fn meet(&mut self, peer: PeerId, cluster: &ClusterName) {
        match self.clusters.get_mut(peer.index()) {
            Some(known) => {
                known.clone_from(cluster);
                self.forget(peer);
            }
            None => self.clusters.push(cluster.clone()),
        }
    }

    pub(crate) fn collect(&mut self, now: u32) {
        self.own.collect(now);
        self.far.collect(now);
    }

    /// A peer lives anew: what it had is no one's.
    pub(crate) fn forget(&mut self, peer: PeerId) {
        self.own.forget(peer);
        self.far.forget(peer);
    }

    /// What a pid of a local message is.
    #[inline]
    pub(crate) fn local_pid(&self, pid: &PidView<'_>) -> Local {
        if pid.serial & PROXY_SERIAL == 0 || !pid.node.is(self.node.as_str()) {
            return Local::Own;
        }
        let slot = Slot { index: pid.id, generation: pid.serial & !PROXY_SERIAL };
        let known = pid.creation == self.creation && self.far.pids.at(slot).is_some();
        if known { Local::Proxy(slot) } else { Local::Dead }
    }

    #[inline]
    pub(crate) fn local_port(&self, port: &PortView<'_>) -> Local {
        if port.id & PROXY_PORT == 0 || !port.node.is(self.node.as_str()) {
            return Local::Own;
        }
        let generation = (port.id >> 32) as u32 & ((1 << GENERATION_BITS) - 1);
        let slot = Slot { index: port.id as u32, generation };
        let known = port.creation == self.creation && self.far.ports.at(slot).is_some();
        if known { Local::Proxy(slot) } else { Local::Dead }
    }

    #[inline]
    pub(crate) fn local_reference(&self, reference: &ReferenceView<'_>) -> Local {
        let &[low, high, mark] = reference.ids.as_slice() else { return Local::Own };
        if mark != self.mark || !reference.node.is(self.node.as_str()) {
            return Local::Own;
        }
        let slot = Slot { index: low & 0x3_ffff | (high & 0x3f) << 18, generation: high >> 6 };
        let known = reference.creation == self.creation && self.far.references.at(slot).is_some();
        if known { Local::Proxy(slot) } else { Local::Dead }
    }

    /// The pid that stands for a far one.
    #[inline]
    pub(crate) fn proxy_pid(&self, slot: Slot) -> PidView<'_> {
        let serial = PROXY_SERIAL | slot.generation;
        PidView { node: (&self.node).into(), id: slot.index, serial, creation: self.creation }
    }

    /// As [`Identifiers::proxy_pid`], as a value.
    pub(crate) fn proxy(&self, slot: Slot) -> Pid {
        let serial = PROXY_SERIAL | slot.generation;
        Pid { node: self.node.clone(), id: slot.index, serial, creation: self.creation }
    }

    /// The port that stands for a far one.
    pub(crate) fn proxy_port(&self, slot: Slot) -> PortView<'_> {
        let id = PROXY_PORT | u64::from(slot.generation) << 32 | u64::from(slot.index);
        PortView { node: (&self.node).into(), id, creation: self.creation }
    }

    /// The reference that stands for a far one.
    #[inline]
    pub(crate) fn proxy_reference(&self, slot: Slot) -> ReferenceView<'_> {
        let words = [slot.index & 0x3_ffff, slot.index >> 18 & 0x3f | slot.generation << 6, self.mark];
        let ids = reference_ids(words);
        ReferenceView { node: (&self.node).into(), creation: self.creation, ids }
    }

    pub(crate) fn nobody_pid(&self) -> PidView<'_> {
        self.proxy_pid(NOBODY)
    }

    pub(crate) fn nobody_port(&self) -> PortView<'_> {
        self.proxy_port(NOBODY)
    }

    pub(crate) fn nobody_reference(&self) -> ReferenceView<'_> {
        self.proxy_reference(NOBODY)
    }

    /// A pid of a node of this cluster.
    pub(crate) fn own_key(&mut self, pid: &PidView<'_>) -> Result<PidKey, Refusal> {
        let name = self.names.own(&pid.node)?;
        Ok(PidKey { name, creation: pid.creation, id: pid.id, serial: pid.serial })
    }

    /// A reference of a node of this cluster.
    pub(crate) fn own_reference_key(&mut self, reference: &ReferenceView<'_>) -> Result<ReferenceKey, Refusal> {
        let name = self.names.own(&reference.node)?;
        Ok(ReferenceKey { name, creation: reference.creation, ids: reference.ids })
    }

    /// A pid as it stands on a link.
    pub(crate) fn home_key(&mut self, pid: &PidView<'_>) -> Result<PidKey, Refusal> {
        let name = self.names.home(&pid.node)?;
        Ok(PidKey { name, creation: pid.creation, id: pid.id, serial: pid.serial })
    }

    /// A reference as it stands on a link.
    pub(crate) fn home_reference_key(&mut self, reference: &ReferenceView<'_>) -> Result<ReferenceKey, Refusal> {
        let name = self.names.home(&reference.node)?;
        Ok(ReferenceKey { name, creation: reference.creation, ids: reference.ids })
    }

    /// A far or own pid in its home form, as a value.
    pub(crate) fn home_pid(&self, key: &PidKey) -> Pid {
        let node = self.names.name(key.name).home.clone();
        Pid { node, id: key.id, serial: key.serial, creation: key.creation }
    }

    /// A pid of this cluster, as a value.
    pub(crate) fn own_pid(&self, key: &PidKey) -> Pid {
        let node = self.names.name(key.name).node.clone();
        Pid { node, id: key.id, serial: key.serial, creation: key.creation }
    }

    /// A reference in its home form, as a value.
    pub(crate) fn home_reference(&self, key: &ReferenceKey) -> Reference {
        let node = self.names.name(key.name).home.clone();
        Reference { node, creation: key.creation, ids: key.ids.as_slice().to_vec() }
    }

    /// A reference of this cluster, as a value.
    pub(crate) fn own_reference(&self, key: &ReferenceKey) -> Reference {
        let node = self.names.name(key.name).node.clone();
        Reference { node, creation: key.creation, ids: key.ids.as_slice().to_vec() }
    }

    /// The far pid that a gateway means: one that it brought, or one of a third cluster that was handed out to it. One of
    /// its own cluster that another gateway brought leads there by that one's link, and is another.
    pub(crate) fn far_pid(&self, peer: PeerId, key: &PidKey) -> Option<Slot> {
        let brought = self.far.pids.find(Some(peer), key);
        brought.or_else(|| if self.is_at_home(peer, key.name) { None } else { granted(&self.far.pids, peer, key) })
    }

    /// As [`Identifiers::far_pid`].
    pub(crate) fn far_reference(&self, peer: PeerId, key: &ReferenceKey) -> Option<Slot> {
        let brought = self.far.references.find(Some(peer), key);
        brought
            .or_else(|| if self.is_at_home(peer, key.name) { None } else { granted(&self.far.references, peer, key) })
    }

    /// Whether a node is of the cluster of that gateway.
    fn is_at_home(&self, peer: PeerId, node: NameId) -> bool {
        self.clusters.get(peer.index()).is_some_and(|cluster| self.names.cluster(node) == cluster.as_str())
    }

    /// Whether this pid of this cluster was handed out to that gateway. It counts as used.
    pub(crate) fn is_granted(&mut self, peer: PeerId, key: &PidKey, now: u32) -> Option<Slot> {
        let slot = self.own.pids.find(None, key)?;
        let entry = self.own.pids.use_at(slot, now)?;
        (entry.granted & peer.bit() != 0).then_some(slot)
    }

    /// As [`Identifiers::is_granted`].
    pub(crate) fn is_granted_reference(&mut self, peer: PeerId, key: &ReferenceKey, now: u32) -> Option<Slot> {
        let slot = self.own.references.find(None, key)?;
        let entry = self.own.references.use_at(slot, now)?;
        (entry.granted & peer.bit() != 0).then_some(slot)
    }
}

/// Of the same identifier that several gateways brought, the one that was handed out to this gateway.
fn granted<K: Copy + Eq + std::hash::Hash>(table: &Table<K>, peer: PeerId, key: &K) -> Option<Slot> {
    PeerId::all().filter(|via| *via != peer).find_map(|via| {
        let slot = table.find(Some(via), key)?;
        table.at(slot).filter(|entry| entry.granted & peer.bit() != 0).map(|_| slot)
    })
}

fn reference_ids(words: [u32; 3]) -> ReferenceIds {
    ReferenceIds::new(&words).expect("three words are one to five")
}
