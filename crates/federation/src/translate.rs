//! What becomes of the identifiers in a message as it crosses: each is handed out, brought in, or comes home.
//!
//! - [`ToLink`]: a local message goes out. Identifiers of this cluster are granted to the far gateway and get their home
//!   form; those that stand for far ones get the home form of what they stand for.
//! - [`ToLocal`]: a message of a link goes to a process of this cluster. Home forms of this cluster become the original
//!   again; those of others become identifiers of the gateway's node. One that was never handed out becomes nobody's.
//! - [`Through`]: a message of one link goes on over another. Home forms stay; both sides are noted.

use metacluster_erl_wire::rewrite::{PidView, PortView, ReferenceView, Translate};

use crate::{
    identifiers::{Identifiers, Local, PidKey, PortKey, ReferenceKey},
    peer::PeerId,
    refusal::Refusal,
    table::Table,
};

/// See the module.
pub(crate) struct ToLink<'t> {
    pub(crate) identifiers: &'t mut Identifiers,
    pub(crate) peer: PeerId,
    pub(crate) now: u32,
    /// The first fault: what was written is then of no use.
    pub(crate) fault: Option<Refusal>,
}

/// See the module.
pub(crate) struct ToLocal<'t> {
    pub(crate) identifiers: &'t mut Identifiers,
    pub(crate) peer: PeerId,
    pub(crate) now: u32,
    pub(crate) fault: Option<Refusal>,
    /// How many identifiers were nobody's.
    pub(crate) forged: u32,
}

/// See the module.
pub(crate) struct Through<'t> {
    pub(crate) identifiers: &'t mut Identifiers,
    pub(crate) from: PeerId,
    pub(crate) to: PeerId,
    pub(crate) now: u32,
    pub(crate) fault: Option<Refusal>,
}

/// Hands an identifier of this cluster out.
fn grant<K: Copy + Eq + std::hash::Hash>(table: &mut Table<K>, key: K, peer: PeerId, now: u32) -> Result<(), Refusal> {
    let slot = table.intern(None, key, now).ok_or(Refusal::TooManyIdentifiers)?;
    if let Some(entry) = table.use_at(slot, now) {
        entry.granted |= peer.bit();
    }
    Ok(())
}

impl ToLink<'_> {
    fn note<T>(&mut self, result: Result<T, Refusal>) -> Option<T> {
        result.map_err(|refusal| self.fault.get_or_insert(refusal)).ok()
    }

    fn own_pid(&mut self, pid: &PidView<'_>) -> Option<PidView<'_>> {
        let key = self.identifiers.own_key(pid);
        let key = self.note(key)?;
        let granted = grant(&mut self.identifiers.own.pids, key, self.peer, self.now);
        self.note(granted)?;
        let node = (&self.identifiers.names.name(key.name).home).into();
        Some(PidView { node, id: key.id, serial: key.serial, creation: key.creation })
    }
}

impl Translate for ToLink<'_> {
    #[inline]
    fn pid(&mut self, pid: &PidView<'_>) -> Option<PidView<'_>> {
        match self.identifiers.local_pid(pid) {
            // One that no one can use any more goes out as a pid of the gateway, where nobody answers.
            Local::Own | Local::Dead => self.own_pid(pid),
            Local::Proxy(slot) => {
                let entry = self.identifiers.far.pids.use_at(slot, self.now)?;
                if entry.via != Some(self.peer) {
                    entry.granted |= self.peer.bit();
                }
                let key = entry.key;
                let node = (&self.identifiers.names.name(key.name).home).into();
                Some(PidView { node, id: key.id, serial: key.serial, creation: key.creation })
            }
        }
    }

    fn port(&mut self, port: &PortView<'_>) -> Option<PortView<'_>> {
        match self.identifiers.local_port(port) {
            Local::Own | Local::Dead => {
                let name = self.identifiers.names.own(&port.node);
                let name = self.note(name)?;
                let key = PortKey { name, creation: port.creation, id: port.id };
                let granted = grant(&mut self.identifiers.own.ports, key, self.peer, self.now);
                self.note(granted)?;
                let node = (&self.identifiers.names.name(name).home).into();
                Some(PortView { node, id: key.id, creation: key.creation })
            }
            Local::Proxy(slot) => {
                let entry = self.identifiers.far.ports.use_at(slot, self.now)?;
                if entry.via != Some(self.peer) {
                    entry.granted |= self.peer.bit();
                }
                let key = entry.key;
                let node = (&self.identifiers.names.name(key.name).home).into();
                Some(PortView { node, id: key.id, creation: key.creation })
            }
        }
    }

    #[inline]
    fn reference(&mut self, reference: &ReferenceView<'_>) -> Option<ReferenceView<'_>> {
        let key = match self.identifiers.local_reference(reference) {
            Local::Own | Local::Dead => {
                let key = self.identifiers.own_reference_key(reference);
                let key = self.note(key)?;
                let granted = grant(&mut self.identifiers.own.references, key, self.peer, self.now);
                self.note(granted)?;
                key
            }
            Local::Proxy(slot) => {
                let entry = self.identifiers.far.references.use_at(slot, self.now)?;
                if entry.via != Some(self.peer) {
                    entry.granted |= self.peer.bit();
                }
                entry.key
            }
        };
        let node = (&self.identifiers.names.name(key.name).home).into();
        Some(ReferenceView { node, creation: key.creation, ids: key.ids })
    }
}

impl ToLocal<'_> {
    fn note<T>(&mut self, result: Result<T, Refusal>) -> Option<T> {
        result.map_err(|refusal| self.fault.get_or_insert(refusal)).ok()
    }
}

impl Translate for ToLocal<'_> {
    #[inline]
    fn pid(&mut self, pid: &PidView<'_>) -> Option<PidView<'_>> {
        let key = self.identifiers.home_key(pid);
        let key: PidKey = self.note(key)?;
        let (peer, now) = (self.peer, self.now);
        if self.identifiers.names.name(key.name).own {
            // Handed out to anybody: it may come back another way.
            let known = self.identifiers.own.pids.find(None, &key);
            let known = known.and_then(|slot| self.identifiers.own.pids.use_at(slot, now));
            if known.is_none() {
                self.forged += 1;
                return Some(self.identifiers.nobody_pid());
            }
            let node = (&self.identifiers.names.name(key.name).node).into();
            return Some(PidView { node, id: key.id, serial: key.serial, creation: key.creation });
        }
        let slot = match self.identifiers.far_pid(peer, &key) {
            Some(slot) => {
                self.identifiers.far.pids.use_at(slot, now);
                slot
            }
            None => {
                let made = self.identifiers.far.pids.intern(Some(peer), key, now).ok_or(Refusal::TooManyIdentifiers);
                self.note(made)?
            }
        };
        Some(self.identifiers.proxy_pid(slot))
    }

    fn port(&mut self, port: &PortView<'_>) -> Option<PortView<'_>> {
        let name = self.identifiers.names.home(&port.node);
        let name = self.note(name)?;
        let key = PortKey { name, creation: port.creation, id: port.id };
        let (peer, now) = (self.peer, self.now);
        if self.identifiers.names.name(name).own {
            if self.identifiers.own.ports.find(None, &key).is_none() {
                self.forged += 1;
                return Some(self.identifiers.nobody_port());
            }
            let node = (&self.identifiers.names.name(name).node).into();
            return Some(PortView { node, id: key.id, creation: key.creation });
        }
        let made = self.identifiers.far.ports.intern(Some(peer), key, now).ok_or(Refusal::TooManyIdentifiers);
        let slot = self.note(made)?;
        Some(self.identifiers.proxy_port(slot))
    }

    #[inline]
    fn reference(&mut self, reference: &ReferenceView<'_>) -> Option<ReferenceView<'_>> {
        let key = self.identifiers.home_reference_key(reference);
        let key: ReferenceKey = self.note(key)?;
        let (peer, now) = (self.peer, self.now);
        if self.identifiers.names.name(key.name).own {
            let known = self.identifiers.own.references.find(None, &key);
            let known = known.and_then(|slot| self.identifiers.own.references.use_at(slot, now));
            if known.is_none() {
                self.forged += 1;
                return Some(self.identifiers.nobody_reference());
            }
            let node = (&self.identifiers.names.name(key.name).node).into();
            return Some(ReferenceView { node, creation: key.creation, ids: key.ids });
        }
        let slot = match self.identifiers.far_reference(peer, &key) {
            Some(slot) => {
                self.identifiers.far.references.use_at(slot, now);
                slot
            }
            None => {
                let made = self.identifiers.far.references.intern(Some(peer), key, now);
                self.note(made.ok_or(Refusal::TooManyIdentifiers))?
            }
        };
        Some(self.identifiers.proxy_reference(slot))
    }
}

impl Through<'_> {
    fn note<T>(&mut self, result: Result<T, Refusal>) -> Option<T> {
        result.map_err(|refusal| self.fault.get_or_insert(refusal)).ok()
    }
}

impl Translate for Through<'_> {
    fn pid(&mut self, pid: &PidView<'_>) -> Option<PidView<'_>> {
        let key = self.identifiers.home_key(pid);
        let key = self.note(key)?;
        let (from, to, now) = (self.from, self.to, self.now);
        if self.identifiers.names.name(key.name).own {
            if let Some(slot) = self.identifiers.is_granted(from, &key, now)
                && let Some(entry) = self.identifiers.own.pids.use_at(slot, now)
            {
                entry.granted |= to.bit();
            }
            return None;
        }
        let slot = match self.identifiers.far_pid(from, &key) {
            Some(slot) => Ok(slot),
            None => {
                let made = self.identifiers.far.pids.intern(Some(from), key, now);
                made.ok_or(Refusal::TooManyIdentifiers)
            }
        };
        let slot = self.note(slot)?;
        let entry = self.identifiers.far.pids.use_at(slot, now)?;
        if entry.via != Some(to) {
            entry.granted |= to.bit();
        }
        None
    }

    fn port(&mut self, _: &PortView<'_>) -> Option<PortView<'_>> {
        None
    }

    fn reference(&mut self, reference: &ReferenceView<'_>) -> Option<ReferenceView<'_>> {
        let key = self.identifiers.home_reference_key(reference);
        let key = self.note(key)?;
        let (from, to, now) = (self.from, self.to, self.now);
        if self.identifiers.names.name(key.name).own {
            if let Some(slot) = self.identifiers.is_granted_reference(from, &key, now)
                && let Some(entry) = self.identifiers.own.references.use_at(slot, now)
            {
                entry.granted |= to.bit();
            }
            return None;
        }
        let slot = match self.identifiers.far_reference(from, &key) {
            Some(slot) => Ok(slot),
            None => {
                let made = self.identifiers.far.references.intern(Some(from), key, now);
                made.ok_or(Refusal::TooManyIdentifiers)
            }
        };
        let slot = self.note(slot)?;
        let entry = self.identifiers.far.references.use_at(slot, now)?;
        if entry.via != Some(to) {
            entry.granted |= to.bit();
        }
        None
    }
}
