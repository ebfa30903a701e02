//! Who is registered: the rules of names and creations, without a socket.
//!
//! A name is active for as long as the connection that registered it. After that its creation is remembered, so that
//! its next life gets the next number: that tells the pids of two lives apart. What goes at once is remembered at
//! once; beyond a bound each new name pushes out the one that went first, as in stock epmd.
//! Follows `erts/epmd/src/epmd_srv.c` of OTP, but for one thing: a name that was forgotten never comes back with a
//! creation that it had.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use metacluster_erl_wire::epmd::Registration;
use tokio::task::AbortHandle;

use super::names::{ByName, Entry, Names};

/// What a listing shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listing {
    /// `NAMES`: who is registered.
    Names,
    /// `DUMP`: the same with more detail, and who was.
    Dump,
}

/// How far a listing has come. Names that stay registered while it is read are shown once; those that come are not,
/// and those that go may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cursor {
    /// The active names below this serial are to come.
    Active(u64),
    /// The remembered names from this place on are to come.
    Remembered(u64),
}

impl Cursor {
    pub(crate) const START: Self = Self::Active(u64::MAX);
}

/// Another connection holds the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken;

/// An active registration, in the order of registration.
#[derive(Debug)]
struct Active {
    entry: Arc<Entry>,
    /// Ends the task that holds the connection.
    holder: Option<AbortHandle>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Table {
    names: Names,
    active: BTreeMap<u64, Active>,
    remembered: BTreeMap<u64, Arc<Entry>>,
    /// The names that are remembered, and their places.
    places: BTreeMap<ByName, u64>,
    /// How many names may be remembered before a new one pushes one out.
    remembered_max: usize,
    /// The highest creation of a name that was pushed out.
    forgotten: u32,
    /// Counts registrations and what is remembered.
    serial: u64,
}

impl Table {
    pub(crate) fn new(remembered_max: usize) -> Self {
        Self {
            names: Names::default(),
            active: BTreeMap::new(),
            remembered: BTreeMap::new(),
            places: BTreeMap::new(),
            remembered_max,
            forgotten: 0,
            serial: 0,
        }
    }

    /// What is active now.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Registers a name that the codec has found good. `seed` is the creation of a name that was never seen,
    /// `descriptor` is for dumps.
    pub(crate) fn register(
        &mut self,
        registration: Registration,
        seed: u32,
        descriptor: i32,
    ) -> Result<Arc<Entry>, Taken> {
        if self.names.contains_key(&registration.name) {
            return Err(Taken);
        }
        let creation = match self.places.remove(registration.name.as_str()) {
            Some(place) => {
                let last = self.remembered.remove(&place);
                next(last.map_or(self.forgotten, |last| last.creation))
            }
            None => {
                if self.remembered.len() > self.remembered_max {
                    self.forget();
                }
                seed.max(next(self.forgotten))
            }
        };
        self.serial += 1;
        let entry = Arc::new(Entry { registration, serial: self.serial, creation, descriptor });
        self.active.insert(entry.serial, Active { entry: Arc::clone(&entry), holder: None });
        self.names.insert(Arc::clone(&entry));
        Ok(entry)
    }

    /// Forgets the name that went first.
    fn forget(&mut self) {
        if let Some((_, oldest)) = self.remembered.pop_first() {
            self.forgotten = self.forgotten.max(oldest.creation);
            self.places.remove(oldest.name());
        }
    }

    /// Notes the task that holds the connection of a registration; false if that has ended already.
    pub(crate) fn hold(&mut self, entry: &Entry, holder: AbortHandle) -> bool {
        match self.active.get_mut(&entry.serial) {
            Some(active) => {
                active.holder = Some(holder);
                true
            }
            None => false,
        }
    }

    /// Ends a registration; false if it had ended before.
    pub(crate) fn unregister(&mut self, entry: &Entry) -> bool {
        let Some(Active { entry, holder: _ }) = self.active.remove(&entry.serial) else { return false };
        self.names.remove(entry.name());
        self.serial += 1;
        self.places.insert(ByName(Arc::clone(&entry)), self.serial);
        self.remembered.insert(self.serial, entry);
        true
    }

    /// Ends the registration of a name and the task that holds it; false if there is none.
    pub(crate) fn stop(&mut self, name: &str) -> bool {
        let Some(entry) = self.names.entry(name).map(Arc::clone) else { return false };
        if let Some(holder) = self.active.get(&entry.serial).and_then(|active| active.holder.as_ref()) {
            holder.abort();
        }
        self.unregister(&entry)
    }

    /// Appends lines of a listing until `out` has `bytes` or more; gives where to go on, or nothing at the end.
    pub(crate) fn list(&self, listing: Listing, cursor: Cursor, bytes: usize, out: &mut String) -> Option<Cursor> {
        let mut from = 0;
        match cursor {
            Cursor::Active(below) => {
                for (serial, Active { entry, .. }) in self.active.range(..below).rev() {
                    if out.len() >= bytes {
                        return Some(Cursor::Active(serial + 1));
                    }
                    let (name, port, descriptor) = (entry.name(), entry.registration.port, entry.descriptor);
                    let written = match listing {
                        Listing::Names => writeln!(out, "name {name} at port {port}"),
                        Listing::Dump => {
                            write!(out, "active name     <{name}> at port {port}, fd = {descriptor}\n\0")
                        }
                    };
                    written.expect("a string takes all");
                }
            }
            Cursor::Remembered(place) => from = place,
        }
        if listing == Listing::Names {
            return None;
        }
        for (place, entry) in self.remembered.range(from..) {
            if out.len() >= bytes {
                return Some(Cursor::Remembered(*place));
            }
            let (name, port, descriptor) = (entry.name(), entry.registration.port, entry.descriptor);
            write!(out, "old/unused name <{name}>, port = {port}, fd = {descriptor} \n\0").expect("a string takes all");
        }
        None
    }

    /// Names that went and are remembered, in the order in which they went.
    #[cfg(test)]
    fn remembered(&self) -> Vec<&str> {
        self.remembered.values().map(|entry| entry.name()).collect()
    }

    /// Checks that the indices agree.
    #[cfg(test)]
    fn check(&self) {
        assert_eq!(self.names.len(), self.active.len());
        for Active { entry, .. } in self.active.values() {
            assert!(self.names.entry(entry.name()).is_some_and(|named| Arc::ptr_eq(named, entry)));
        }
        let places: std::collections::BTreeSet<_> =
            self.places.iter().map(|(ByName(entry), place)| (*place, entry.name())).collect();
        assert!(places.iter().copied().eq(self.remembered.iter().map(|(place, entry)| (*place, entry.name()))));
    }
}

/// The creation after `last`: 0 to 3 are those of old nodes, so they are left out.
fn next(last: u32) -> u32 {
    last.wrapping_add(1).max(4)
}

#[cfg(test)]
mod tests;
