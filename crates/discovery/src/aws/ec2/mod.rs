//! `ec2`: the instances of an account, by tag, security group, Auto Scaling group, VPC and subnet.
//!
//! [`filters`] says which, [`instances`] reads the answer, [`look`] asks every page and then for those that were known and
//! are missing. A running instance is a candidate; a terminated one is provider truth, told with the addresses that it
//! had; a stopped one is neither.

mod filters;
mod instances;
mod look;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(super) use self::look::{describe, with_ids};
use self::{
    filters::{Filters, GROUPS},
    look::Instances,
};
use super::source::{Asking, ENDPOINT, INTERVAL, PROFILE, REGION, TIMEOUT};
use crate::{
    Feed, Strategy,
    feed::Work,
    naming::{Gives, Naming, ROLES_FROM},
    settings::{Absent, Key, Kind, Reader},
};

pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "tag",
        kind: Kind::Table,
        absent: Absent::Unset("any"),
        doc: "Tags that an instance must have, such as `{ app = \"shop\" }`; `*` and `?` are wildcards, and of \
              several values one must fit",
    },
    Key {
        name: "security_group",
        kind: Kind::Texts,
        absent: Absent::Unset("any"),
        doc: "Security groups of which an instance must have one, all by their names or all by their ids (`sg-…`)",
    },
    Key {
        name: "auto_scaling_group",
        kind: Kind::Texts,
        absent: Absent::Unset("any"),
        doc: "The Auto Scaling group that an instance must be in, by its name; of several, one of them",
    },
    Key {
        name: "vpc", kind: Kind::Texts, absent: Absent::Unset("any"), doc: "The id of the instances' VPC (`vpc-…`)"
    },
    Key {
        name: "subnet",
        kind: Kind::Texts,
        absent: Absent::Unset("any"),
        doc: "The id of the instances' subnet (`subnet-…`)",
    },
    Key {
        name: "state",
        kind: Kind::Texts,
        absent: Absent::Unset("all"),
        doc: "The states that are asked for. Only running instances are candidates; without the others it is not known \
              which ended",
    },
    REGION,
    PROFILE,
    ENDPOINT,
    Key {
        doc: "The tags whose values are roles of the host, with commas between several; `security_group` makes its security \
              groups roles",
        ..ROLES_FROM
    },
    INTERVAL,
    TIMEOUT,
];

/// The strategy with its settings.
#[derive(Clone, Debug)]
struct Ec2 {
    asking: Asking,
    filters: Arc<Filters>,
}

pub(crate) fn make(reader: &mut Reader<'_>) -> Box<dyn Strategy> {
    Box::new(Ec2::read(reader))
}

impl Ec2 {
    fn read(reader: &mut Reader<'_>) -> Self {
        let mut filters = Filters::read(reader);
        if filters.is_empty() {
            let message = "is missing, and so is any other filter: every instance of the account would be a peer; give one of \
                           tag, security_group, auto_scaling_group, vpc and subnet";
            reader.fault("tag", message);
        }
        let naming = Naming::read(reader, Gives::Hosts);
        filters.groups_are_roles = naming.roles_from().iter().any(|from| from == GROUPS);
        Self { asking: Asking::read(reader, naming), filters: Arc::new(filters) }
    }
}

impl Strategy for Ec2 {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move {
            let filters = Arc::clone(&self.filters);
            self.asking.run(&feed, move |region| Instances::new(region, Arc::clone(&filters))).await;
        })
    }
}
