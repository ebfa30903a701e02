//! Whom a query is for.

use std::collections::BTreeSet;

use metacluster_types::{AgentId, Role, Tags};

use super::UserError;
use crate::{codec::user::put_filter, record::Description};

/// So many parts a filter has at most.
pub(crate) const FILTER_PARTS_MAX: usize = 16;
/// So many bytes a filter has at most.
pub(crate) const FILTER_BYTES_MAX: usize = 240;

/// Whom a query is for; everyone when it is empty. A member is meant when it is one of `ids` and `names`, if there are
/// any, and has each role and each tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// These members, by id.
    pub ids: BTreeSet<AgentId>,
    /// These members, by name.
    pub names: BTreeSet<String>,
    /// Only members with all of these roles.
    pub roles: BTreeSet<Role>,
    /// Only members with all of these tags.
    pub tags: Tags,
}

impl Filter {
    pub(crate) fn parts(&self) -> usize {
        self.ids.len() + self.names.len() + self.roles.len() + self.tags.len()
    }

    pub(crate) fn check(&self) -> Result<(), UserError> {
        let label = |text: &str| text.len() <= 255;
        let short = self.names.iter().all(|name| label(name))
            && self.roles.iter().all(|role| label(role.as_str()))
            && self.tags.iter().all(|(key, value)| label(key) && label(value));
        let mut bytes = Vec::new();
        put_filter(&mut bytes, self);
        let fits = short && self.parts() <= FILTER_PARTS_MAX && bytes.len() <= FILTER_BYTES_MAX;
        if fits { Ok(()) } else { Err(UserError::FilterTooLong) }
    }

    /// Whether a member that describes itself so is meant.
    #[must_use]
    pub fn admits(&self, id: AgentId, description: &Description) -> bool {
        let anyone = self.ids.is_empty() && self.names.is_empty();
        (anyone || self.ids.contains(&id) || self.names.contains(&description.name))
            && self.roles.is_subset(&description.roles)
            && self.tags.iter().all(|(key, value)| description.tags.get(key) == Some(value))
    }
}
