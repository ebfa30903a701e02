//! The entries of `[[topology]]`, and those of `--topology`: their names, their strategies, and what the strategies say
//! of their settings.

use std::collections::BTreeMap;

use metacluster_discovery::{
    Settings, Value,
    settings::{COMMON, Common},
    spec::Spec,
    strategies,
};
use metacluster_formation::Guard;
use metacluster_types::TopologyName;

use crate::core::MEMBERS;

use super::{
    TopologyConfig,
    fault::{Fault, Origin, suggestion},
    raw::{Raw, RawTable, RawValue},
    validate,
};

/// A topology as it was given, with the place of each setting.
pub(super) struct Entry {
    strategy: Option<(String, Origin)>,
    settings: Settings,
    places: BTreeMap<String, Origin>,
    origin: Origin,
}

impl Entry {
    pub(super) fn has(&self, key: &str) -> bool {
        self.settings.contains_key(key)
    }

    pub(super) fn place(&self, key: &str) -> &Origin {
        let top = key.split('.').next().unwrap_or(key);
        self.places.get(top).unwrap_or(&self.origin)
    }
}

/// The entries of the file. What is no table, and values that no setting takes, are faults.
pub(super) fn entries(list: Vec<Raw>, faults: &mut Vec<Fault>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for raw in list {
        match raw.value.into_table() {
            Ok(table) => entries.push(entry(table, raw.origin, faults)),
            Err(other) => faults.push(Fault::new(&raw.origin, format!("a topology is a table, not {}", other.what()))),
        }
    }
    entries
}

fn entry(table: RawTable, origin: Origin, faults: &mut Vec<Fault>) -> Entry {
    let mut entry = Entry { strategy: None, settings: Settings::new(), places: BTreeMap::new(), origin };
    let mut said = false;
    for (key, raw) in table {
        entry.places.insert(key.clone(), raw.origin.clone());
        if key == "strategy" {
            said = true;
            match raw.value.as_text() {
                Some(name) => entry.strategy = Some((name.to_owned(), raw.origin)),
                None => {
                    let message = format!("`strategy`: expected the name of a strategy, got {}", raw.value.what());
                    faults.push(Fault::new(&raw.origin, message));
                }
            }
            continue;
        }
        match setting(&raw) {
            Ok(value) => drop(entry.settings.insert(key, value)),
            Err(fault) => faults.push(Fault::new(&fault.0, format!("`{key}`: {}", fault.1))),
        }
    }
    if !said {
        let names = strategies().iter().map(|info| info.name).collect::<Vec<_>>().join(", ");
        let message = format!("[[topology]] needs `strategy`: one of {names}");
        faults.push(Fault::new(&entry.origin, message));
    }
    entry
}

fn setting(raw: &Raw) -> Result<Value, (Origin, String)> {
    Ok(match &raw.value {
        RawValue::Text(text) => Value::Text(text.clone()),
        RawValue::Integer(number) => Value::Integer(*number),
        RawValue::Boolean(boolean) => Value::Boolean(*boolean),
        RawValue::List(items) => Value::List(items.iter().map(setting).collect::<Result<_, _>>()?),
        RawValue::Table(table) => {
            let pairs = table.iter().map(|(key, raw)| Ok((key.clone(), setting(raw)?)));
            Value::Table(pairs.collect::<Result<_, (Origin, String)>>()?)
        }
        RawValue::Float(_) | RawValue::Datetime(_) => {
            return Err((raw.origin.clone(), format!("no setting takes {}", raw.value.what())));
        }
    })
}

/// The entries of the command line: those given, or the defaults where there are none. A topology without a name gets
/// that of its strategy, with a number from the second on.
pub(super) fn from_specs(specs: Vec<Spec>) -> Vec<Entry> {
    let specs = if specs.is_empty() {
        ["gossip", "local-epmd"]
            .map(|strategy| Spec { strategy: strategy.to_owned(), settings: Settings::new() })
            .into()
    } else {
        specs
    };
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    let mut entries = Vec::new();
    for Spec { strategy, mut settings } in specs {
        // Without the settings, among which may be a secret.
        let origin = Origin::Flag(format!("--topology {strategy}"));
        if !settings.contains_key("name") {
            let count = uses.entry(strategy.clone()).or_default();
            *count += 1;
            let name = if *count == 1 { strategy.clone() } else { format!("{strategy}-{count}") };
            settings.insert("name".to_owned(), Value::Text(name));
        }
        entries.push(Entry { strategy: Some((strategy, origin.clone())), settings, places: BTreeMap::new(), origin });
    }
    entries
}

/// Holds every entry against the table of its strategy. Nothing is started.
pub(super) fn validate(entries: Vec<Entry>, faults: &mut Vec<Fault>) -> Vec<TopologyConfig> {
    let mut taken: BTreeMap<TopologyName, Origin> = BTreeMap::new();
    let mut topologies = Vec::new();
    for mut entry in entries {
        let common = common(&entry, faults);
        for error in common.local_nodes.iter().filter_map(|pattern| validate::pattern(pattern.as_str()).err()) {
            faults.push(Fault::new(entry.place("local_nodes"), format!("`local_nodes`: {error}")));
        }
        let Some((strategy, place)) = entry.strategy.clone() else { continue };
        settings(&mut entry, &strategy, &place, faults);
        let name = match common.name.map_or_else(|| TopologyName::new(&strategy), Ok) {
            Ok(name) => name,
            Err(error) => {
                faults.push(Fault::new(&place, format!("`strategy`: {error}")));
                continue;
            }
        };
        if name.as_str() == MEMBERS {
            let message = format!(
                "`{MEMBERS}` is the topology of the nodes that other members tell of: give this one another `name`"
            );
            faults.push(Fault::new(entry.place("name"), message));
        }
        if let Some(first) = taken.get(&name) {
            let first = first.to_string();
            let first =
                if first.is_empty() { String::new() } else { format!(" (at {})", first.trim_end_matches(": ")) };
            let message = format!("another topology is called `{name}`{first}: give each a `name` of its own");
            faults.push(Fault::new(entry.place("name"), message));
        } else {
            taken.insert(name.clone(), entry.place("name").clone());
        }
        topologies.push(TopologyConfig {
            name,
            strategy,
            prune: common.prune,
            local_nodes: common.local_nodes,
            guard: Guard { share_percent: common.guard_share, answers: common.guard_answers, hold: common.guard_hold },
            settings: entry.settings,
        });
    }
    topologies
}

fn common(entry: &Entry, faults: &mut Vec<Fault>) -> Common {
    Common::read(&entry.settings).unwrap_or_else(|found| {
        faults.extend(found.into_iter().map(|fault| Fault::new(entry.place(&fault.key), message(&fault))));
        Common::default()
    })
}

/// Unknown keys are looked for here, since a typing error may be near a key of every topology as well as near one of
/// the strategy; the rest is for the strategy to judge.
fn settings(entry: &mut Entry, strategy: &str, place: &Origin, faults: &mut Vec<Fault>) {
    let Some(info) = strategies().iter().find(|info| info.name == strategy) else {
        let near = suggestion(strategy, strategies().iter().map(|info| info.name));
        faults.push(Fault::new(place, format!("there is no strategy `{strategy}`{near}")));
        return;
    };
    let keys = info.all_keys();
    let known: Vec<&str> = keys.iter().chain(COMMON).map(|key| key.name).collect();
    let mut judged = entry.settings.clone();
    for key in entry.settings.keys().filter(|key| !known.contains(&key.as_str())) {
        judged.remove(key);
        let near = suggestion(key, known.iter().copied());
        faults.push(Fault::new(entry.place(key), format!("the strategy `{strategy}` has no key `{key}`{near}")));
    }
    if let Err(found) = metacluster_discovery::build(strategy, &judged) {
        faults.extend(found.into_iter().map(|fault| Fault::new(entry.place(&fault.key), message(&fault))));
    }
}

fn message(fault: &metacluster_discovery::Fault) -> String {
    format!("`{}` {}", fault.key, fault.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_any_topology_the_command_line_means_gossip_and_local_epmd() {
        let entries = from_specs(Vec::new());
        let strategies: Vec<&str> =
            entries.iter().filter_map(|entry| entry.strategy.as_ref()).map(|(name, _)| name.as_str()).collect();
        assert_eq!(strategies, ["gossip", "local-epmd"]);
        assert!(entries.iter().all(|entry| entry.settings.len() == 1), "a name and nothing else");
    }

    #[test]
    fn a_secret_of_the_command_line_reaches_no_message() {
        let spec = "static:secret=hunter2,nodes=a".parse().expect("a spec");
        let mut faults = Vec::new();
        assert_eq!(validate(from_specs(vec![spec]), &mut faults).len(), 1);
        assert_eq!(faults.len(), 2);
        assert!(faults.iter().all(|fault| !fault.to_string().contains("hunter2")), "{faults:?}");
    }
}
