//! The names of nodes as numbers, so that an identifier is a few words.
//!
//! A name has two forms: `shop@web1` inside its cluster, and `west/shop@web1`, its *home form*, on a link. The home form
//! is how an identifier carries its cluster: a gateway that finds its own cluster there has the original again. Names are
//! never forgotten while the gateway lives; there are at most [`crate::Limits::names_max`].

use std::collections::HashMap;

use metacluster_erl_wire::{Atom, rewrite::AtomView};
use metacluster_types::{ClusterName, NodeName};

use crate::refusal::Refusal;

/// So many names are compared before they are looked up.
const RECENT: usize = 4;

/// A node of some cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NameId(pub(crate) u32);

/// What is known of a name.
#[derive(Debug)]
pub(crate) struct Name {
    /// Whether it is a node of this cluster.
    pub(crate) own: bool,
    /// The form inside its cluster.
    pub(crate) node: Atom,
    /// The form on a link.
    pub(crate) home: Atom,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Names {
    cluster: ClusterName,
    names_max: usize,
    names: Vec<Name>,
    by_node: HashMap<Box<[u8]>, NameId>,
    by_home: HashMap<Box<[u8]>, NameId>,
    recent_node: Recent,
    recent_home: Recent,
}

/// The names that were asked for last: a message names few, and the next one mostly the same.
#[derive(Debug, Default)]
struct Recent {
    ids: [Option<NameId>; RECENT],
    next: usize,
}

impl Recent {
    /// The one whose text that is.
    #[inline]
    fn find<'n>(&self, text: &[u8], of: impl Fn(NameId) -> &'n Atom) -> Option<NameId> {
        self.ids.iter().flatten().copied().find(|id| of(*id).as_str().as_bytes() == text)
    }

    fn note(&mut self, id: NameId) {
        self.ids[self.next] = Some(id);
        self.next = (self.next + 1) % RECENT;
    }
}

impl Names {
    pub(crate) fn new(cluster: ClusterName, names_max: usize) -> Self {
        let (by_node, by_home) = (HashMap::new(), HashMap::new());
        let (recent_node, recent_home) = (Recent::default(), Recent::default());
        Self { cluster, names_max, names: Vec::new(), by_node, by_home, recent_node, recent_home }
    }

    pub(crate) fn name(&self, id: NameId) -> &Name {
        &self.names[id.0 as usize]
    }

    /// The cluster of a node.
    pub(crate) fn cluster(&self, id: NameId) -> &str {
        self.name(id).home.as_str().split_once('/').map_or("", |(cluster, _)| cluster)
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// A node of this cluster.
    #[inline]
    pub(crate) fn own(&mut self, node: &AtomView<'_>) -> Result<NameId, Refusal> {
        if let Some(id) = self.recent_node.find(node.bytes(), |id| &self.names[id.0 as usize].node) {
            return Ok(id);
        }
        let id = match self.by_node.get(node.bytes()) {
            Some(&id) => id,
            None => self.add_own(node.as_str().ok_or(Refusal::BadName)?)?,
        };
        self.recent_node.note(id);
        Ok(id)
    }

    /// A node of this cluster, by its text.
    pub(crate) fn own_text(&mut self, node: &str) -> Result<NameId, Refusal> {
        match self.by_node.get(node.as_bytes()) {
            Some(&id) => Ok(id),
            None => self.add_own(node),
        }
    }

    /// A node of any cluster, in its home form.
    #[inline]
    pub(crate) fn home(&mut self, home: &AtomView<'_>) -> Result<NameId, Refusal> {
        if let Some(id) = self.recent_home.find(home.bytes(), |id| &self.names[id.0 as usize].home) {
            return Ok(id);
        }
        let id = match self.by_home.get(home.bytes()) {
            Some(&id) => id,
            None => self.home_text(home.as_str().ok_or(Refusal::BadName)?)?,
        };
        self.recent_home.note(id);
        Ok(id)
    }

    /// As [`Names::home`], by its text.
    pub(crate) fn home_text(&mut self, home: &str) -> Result<NameId, Refusal> {
        if let Some(&id) = self.by_home.get(home.as_bytes()) {
            return Ok(id);
        }
        let (cluster, node) = home.split_once('/').ok_or(Refusal::BadName)?;
        if cluster == self.cluster.as_str() {
            return self.add_own(node);
        }
        if ClusterName::new(cluster).is_err() || NodeName::new(node).is_err() {
            return Err(Refusal::BadName);
        }
        self.add(false, node, home)
    }

    #[cold]
    fn add_own(&mut self, node: &str) -> Result<NameId, Refusal> {
        if NodeName::new(node).is_err() {
            return Err(Refusal::BadName);
        }
        let home = format!("{}/{node}", self.cluster);
        let id = self.add(true, node, &home)?;
        self.by_node.insert(node.as_bytes().into(), id);
        Ok(id)
    }

    #[cold]
    fn add(&mut self, own: bool, node: &str, home: &str) -> Result<NameId, Refusal> {
        if self.names.len() >= self.names_max {
            return Err(Refusal::TooManyNames);
        }
        let atom = |text| Atom::new(text).map_err(|_| Refusal::BadName);
        let id = NameId(u32::try_from(self.names.len()).map_err(|_| Refusal::TooManyNames)?);
        self.names.push(Name { own, node: atom(node)?, home: atom(home)? });
        self.by_home.insert(home.as_bytes().into(), id);
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names_max: usize) -> Names {
        Names::new(ClusterName::new("west").expect("a name"), names_max)
    }

    #[test]
    fn a_name_of_this_cluster_comes_home_as_itself() {
        let mut names = names(10);
        let out = names.own_text("shop@web").expect("a name");
        assert_eq!(names.name(out).home, "west/shop@web");
        assert_eq!(names.home_text("west/shop@web"), Ok(out));
        let far = names.home_text("east/shop@web").expect("a name");
        assert_ne!(far, out);
        assert!(!names.name(far).own && names.name(out).own);
        assert_eq!(names.home_text("west/till@web").map(|id| names.name(id).own), Ok(true));
    }

    #[test]
    fn what_is_no_name_is_refused_and_names_are_bounded() {
        let mut names = names(2);
        let long = format!("{}@b", "a".repeat(253));
        for bad in ["shop@web", "east/shop", "/a@b", "east/a b@c", &format!("east/{long}")] {
            assert_eq!(names.home_text(bad), Err(Refusal::BadName), "{bad}");
        }
        assert_eq!(names.own_text(&long), Err(Refusal::BadName), "it has no home form");
        assert!(names.home_text("east/a@b").is_ok() && names.home_text("east/c@d").is_ok());
        assert_eq!(names.home_text("east/e@f"), Err(Refusal::TooManyNames));
        assert!(names.home_text("east/a@b").is_ok());
    }
}
