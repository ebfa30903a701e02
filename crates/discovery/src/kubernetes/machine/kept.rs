//! The objects that one watch keeps, and how much that is.

use std::collections::BTreeMap;

use super::WEIGHT_MAX;
use crate::kubernetes::object::Object;

/// An object's namespace and name.
type Key = (String, String);

/// Objects of a bounded weight in all.
#[derive(Clone, Debug)]
pub(super) struct Kept<O> {
    pub(super) objects: BTreeMap<Key, O>,
    weight: usize,
}

impl<O> Default for Kept<O> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), weight: 0 }
    }
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Put<O> {
    /// It says what was known.
    Same,
    /// It is new, or says something new. One of the same name that was there before and is another object is given back.
    Changed(Option<O>),
    /// There is no room. If it was known before, it is no more.
    Over,
}

impl<O: Object> Kept<O> {
    pub(super) fn put(&mut self, mut object: O) -> Put<O> {
        object.forget_version();
        let key = key(&object);
        if self.objects.get(&key).is_some_and(|known| *known == object) {
            return Put::Same;
        }
        let before = self.objects.remove(&key);
        self.weight -= before.as_ref().map_or(0, Object::weight);
        if self.weight + object.weight() > WEIGHT_MAX {
            return Put::Over;
        }
        self.weight += object.weight();
        let before = before.filter(|before| before.meta().uid != object.meta().uid);
        self.objects.insert(key, object);
        Put::Changed(before)
    }

    /// Says whether it was there.
    pub(super) fn remove(&mut self, object: &O) -> bool {
        let before = self.objects.remove(&key(object));
        self.weight -= before.as_ref().map_or(0, Object::weight);
        before.is_some()
    }
}

fn key<O: Object>(object: &O) -> Key {
    (object.meta().namespace.clone(), object.meta().name.clone())
}
