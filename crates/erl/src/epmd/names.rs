//! Who is registered at one moment.
//!
//! A [`Names`] never changes and costs nothing to keep: it shares all but the path to what changed with the moments
//! before and after it. So a watcher of 50,000 registrations costs a registration no more than a watcher of none.

use std::{borrow::Borrow, cmp::Ordering, fmt, ops::Index, sync::Arc};

use metacluster_erl_wire::epmd::Registration;
use rpds::RedBlackTreeSetSync;

/// A registration, and what of it only its epmd knows.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) registration: Registration,
    /// Which registration of the server this is; a later one has a higher number.
    pub(crate) serial: u64,
    /// Which life of the name this is.
    pub(crate) creation: u32,
    /// Of the connection; for dumps.
    pub(crate) descriptor: i32,
}

impl Entry {
    pub(crate) fn name(&self) -> &str {
        &self.registration.name
    }
}

/// An entry among others, found by its name.
#[derive(Clone, Debug)]
pub(crate) struct ByName(pub(crate) Arc<Entry>);

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        self.0.name()
    }
}

impl Ord for ByName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.name().cmp(other.0.name())
    }
}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for ByName {}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

/// The names that were registered at one moment, and how. Cheap to clone.
#[derive(Clone)]
pub struct Names(RedBlackTreeSetSync<ByName>);

impl Default for Names {
    fn default() -> Self {
        Self(RedBlackTreeSetSync::new_sync())
    }
}

impl Names {
    /// How a node is registered; its name is the part before the `@`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Registration> {
        self.entry(name).map(|entry| &entry.registration)
    }

    /// Whether a node of that name is registered.
    #[must_use]
    pub fn contains_key(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Names and registrations, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Registration)> {
        self.0.iter().map(|ByName(entry)| (entry.name(), &entry.registration))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.size()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn entry(&self, name: &str) -> Option<&Arc<Entry>> {
        self.0.get(name).map(|ByName(entry)| entry)
    }

    pub(crate) fn insert(&mut self, entry: Arc<Entry>) {
        self.0.insert_mut(ByName(entry));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.remove_mut(name);
    }
}

impl Index<&str> for Names {
    type Output = Registration;

    /// # Panics
    /// When no node of that name is registered; [`Names::get`] does not.
    fn index(&self, name: &str) -> &Registration {
        self.get(name).expect("the caller says that it is registered")
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
