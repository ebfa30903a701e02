//! Where a node is and what it is for: zone, region, roles and tags.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::label;

label! {
    /// An availability zone, named as its provider names it.
    Zone
}

label! {
    /// A region, named as its provider names it.
    Region
}

label! {
    /// What a host is for, such as `web`.
    Role
}

/// Free labels, ordered by key.
pub type Tags = BTreeMap<String, String>;

/// A zone and its region, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The availability zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// The region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
}
