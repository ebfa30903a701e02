//! The keys of a topology that the agent reads, whatever the strategy.

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
        let common = Self { name, prune: reader.boolean("prune"), local_nodes: reader.patterns("local_nodes") };
        reader.finish()?;
        Ok(common)
    }
}
