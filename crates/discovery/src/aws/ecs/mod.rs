//! `ecs`: the tasks of an ECS cluster, by service or by family, on Fargate and on instances, in every network mode.
//!
//! [`tasks`] reads what ECS answers, [`look`] asks. A task with an interface of its own (awsvpc) is reached at its
//! address; one in host or bridge mode at the address of its instance, in bridge mode at the host's port for
//! `container_port`. The id of the host is the ARN of the task, which no other task ever has.

mod look;
mod tasks;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::{
    look::{Selection, Tasks},
    tasks::{FAMILY, SERVICE, Shape},
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
        name: "cluster",
        kind: Kind::Text,
        absent: Absent::Default("default"),
        doc: "The ECS cluster, by its name or ARN",
    },
    Key {
        name: "service",
        kind: Kind::Texts,
        absent: Absent::Unset("all, or those of `family`"),
        doc: "The services whose tasks are peers, by their exact names",
    },
    Key {
        name: "family",
        kind: Kind::Texts,
        absent: Absent::Unset("all, or those of `service`"),
        doc: "The families of task definitions whose tasks are peers",
    },
    Key {
        name: "container_port",
        kind: Kind::Integer { least: 1, most: 65_535 },
        absent: Absent::Default("45893"),
        doc: "In bridge mode, the agent's port within the container; the host's port for it is the one that peers use",
    },
    REGION,
    PROFILE,
    ENDPOINT,
    Key {
        doc: "The tags whose values are roles of the host, with commas between several; `service` and `family` make the \
              task's service and family roles",
        ..ROLES_FROM
    },
    INTERVAL,
    TIMEOUT,
];

/// The strategy with its settings.
#[derive(Clone, Debug)]
struct Ecs {
    asking: Asking,
    selection: Selection,
}

pub(crate) fn make(reader: &mut Reader<'_>) -> Box<dyn Strategy> {
    Box::new(Ecs::read(reader))
}

impl Ecs {
    fn read(reader: &mut Reader<'_>) -> Self {
        let naming = Naming::read(reader, Gives::Hosts);
        let from = |word: &str| naming.roles_from().iter().any(|from| from == word);
        let selection = Selection {
            cluster: reader.text("cluster").unwrap_or_default(),
            services: reader.texts("service"),
            families: reader.texts("family"),
            shape: Shape {
                container_port: reader.integer("container_port"),
                service_is_role: from(SERVICE),
                family_is_role: from(FAMILY),
            },
        };
        Self { asking: Asking::read(reader, naming), selection }
    }
}

impl Strategy for Ecs {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move {
            let selection = self.selection.clone();
            self.asking.run(&feed, move |region| Tasks::new(region, selection.clone())).await;
        })
    }
}
