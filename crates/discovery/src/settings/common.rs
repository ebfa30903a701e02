//! The keys of a topology that the agent reads, whatever the strategy.

use std::time::Duration;

use metacluster_types::{Pattern, TopologyName};

use super::{Absent, Fault, Key, Kind, Reader, Settings};

/// The keys that stand beside those of the strategy. `local_nodes`, and not `nodes`, since `static` and `epmd` have a
/// `nodes` of their own.
pub const COMMON: &[Key] = &[
    Key { name: "name", kind: Kind::Text, absent: Absent::Unset("the strategy's"), doc: "The topology's name" },
    Key { name: "strategy", kind: Kind::Text, absent: Absent::Unset("needed in a file"), doc: "How peers are found" },
    Key {
        name: "prune",
        kind: Kind::Boolean,
        absent: Absent::Default("false"),
        doc: "Whether a peer that leaves the source is disconnected",
    },
    Key {
        name: "local_nodes",
        kind: Kind::Patterns,
        absent: Absent::Unset("all"),
        doc: "Only local nodes that fit one of these patterns take part",
    },
    Key {
        name: "guard_share",
        kind: Kind::Integer { least: 0, most: 100 },
        absent: Absent::Default("50"),
        doc: "An answer that would remove more than this share of at least two known peers, in per cent, is held; 100 \
              holds none",
    },
    Key {
        name: "guard_answers",
        kind: Kind::Integer { least: 1, most: 1_000 },
        absent: Absent::Default("3"),
        doc: "So many answers in a row must say the same before a held one is believed, unless `guard_hold` is given",
    },
    Key {
        name: "guard_hold",
        kind: Kind::Duration { least_ms: 0, most_ms: 86_400_000 },
        absent: Absent::Default("0s"),
        doc: "A held answer that stands for so long is believed, repeated or not; for sources that push changes",
    },
];

/// What the common keys say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Common {
    /// The topology's name, if one was given.
    pub name: Option<TopologyName>,
    /// Whether a peer that leaves the source is dropped.
    pub prune: bool,
    /// Which local nodes take part; empty says all.
    pub local_nodes: Vec<Pattern>,
    /// The share of known peers, in per cent, beyond which an answer without them is held.
    pub guard_share: u8,
    /// How many answers in a row release it.
    pub guard_answers: u32,
    /// How long it is held in place of that; zero for not at all.
    pub guard_hold: Duration,
}

impl Common {
    /// Reads the common keys and leaves the others alone.
    ///
    /// # Errors
    /// Every fault of the common keys.
    pub fn read(settings: &Settings) -> Result<Self, Vec<Fault>> {
        let own = settings.iter().filter(|(key, _)| COMMON.iter().any(|common| common.name == key.as_str()));
        let own: Settings = own.map(|(key, value)| (key.clone(), value.clone())).collect();
        let mut reader = Reader::new(&[COMMON], &own);
        let name = reader.text("name").and_then(|text| match TopologyName::new(&text) {
            Ok(name) => Some(name),
            Err(error) => {
                reader.fault("name", &error.to_string());
                None
            }
        });
        let common = Self {
            name,
            prune: reader.boolean("prune"),
            local_nodes: reader.patterns("local_nodes"),
            guard_share: reader.integer("guard_share"),
            guard_answers: reader.integer("guard_answers"),
            guard_hold: reader.duration("guard_hold"),
        };
        reader.finish()?;
        Ok(common)
    }
}
