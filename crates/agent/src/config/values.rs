//! From what was written to what each key takes: finds every key's value by precedence and checks its kind.
//!
//! Unknown keys, wrong kinds and values out of range end here, by the table of keys alone; what a name or an address
//! has to look like is judged afterwards.

use std::{collections::BTreeMap, time::Duration};

use metacluster_types::time::parse_duration;

use super::{
    environment::Environment,
    fault::{Fault, Origin, suggestion},
    keys::{self, Default, Key, Kind},
    raw::{Raw, RawTable, RawValue},
};

/// A value of the kind of its key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Checked {
    Text(String),
    Number(u64),
    Duration(Duration),
    Flag(bool),
    List(Vec<(String, Origin)>),
    Map(BTreeMap<String, String>),
}

/// What was found for each key that has a value.
#[derive(Debug, Default)]
pub(super) struct Values(BTreeMap<&'static str, (Checked, Origin)>);

/// Reads what `KEYS` has, and gives the entries of `[[topology]]` and `[[handler]]` as they stand.
pub(super) fn read(
    file: RawTable,
    environment: &Environment,
    faults: &mut Vec<Fault>,
    warnings: &mut Vec<String>,
) -> (Values, BTreeMap<&'static str, Vec<Raw>>) {
    let mut entries = BTreeMap::new();
    let mut found = BTreeMap::new();
    flatten(file, "", &mut found, &mut entries, faults);
    for key in keys::KEYS {
        let name = keys::variable(key.path);
        if let Some(text) = environment.variable(&name) {
            found.insert(key.path, from_text(key, text, Origin::Environment(name)));
        }
        if let Some((flag, text)) = environment.flag(key.path) {
            found.insert(key.path, from_text(key, text, Origin::Flag(flag.to_owned())));
        }
    }
    for (path, flag) in environment.flags() {
        if !keys::KEYS.iter().any(|key| key.path == path) {
            faults.push(Fault::new(&Origin::Flag(flag.to_owned()), format!("there is no key `{path}` to set")));
        }
    }
    look_at_variables(environment, faults, warnings);
    let values = Values::check(keys::KEYS, found, faults);
    (values, entries)
}

impl Values {
    /// Checks what was found against the table, and fills in the fixed defaults.
    fn check(keys: &'static [Key], mut found: BTreeMap<&'static str, Raw>, faults: &mut Vec<Fault>) -> Self {
        let mut values = Self::default();
        for key in keys {
            let raw = found.remove(key.path).or_else(|| match key.default {
                Default::Fixed(text) => Some(from_text(key, text, Origin::Default)),
                Default::Computed(_) | Default::Required => None,
            });
            let Some(raw) = raw else { continue };
            match check(key.kind, &raw.value) {
                Ok(checked) => drop(values.0.insert(key.path, (checked, raw.origin))),
                Err((origin, error)) => {
                    let origin = origin.unwrap_or(raw.origin);
                    faults.push(Fault::new(&origin, format!("`{}`: {error}", key.path)));
                }
            }
        }
        values
    }

    /// Checks an entry, whose keys have no section. `what` names it, such as `[[handler]]`.
    pub(super) fn of_entry(
        keys: &'static [Key],
        what: &str,
        table: RawTable,
        origin: &Origin,
        faults: &mut Vec<Fault>,
    ) -> Self {
        let mut found = BTreeMap::new();
        for (name, raw) in table {
            match keys.iter().find(|key| key.path == name) {
                Some(key) => drop(found.insert(key.path, raw)),
                None => {
                    let near = suggestion(&name, keys.iter().map(|key| key.path));
                    faults.push(Fault::new(&raw.origin, format!("{what} has no key `{name}`{near}")));
                }
            }
        }
        for key in keys.iter().filter(|key| matches!(key.default, Default::Required)) {
            if !found.contains_key(key.path) {
                faults.push(Fault::new(origin, format!("{what} needs `{}`: {}", key.path, key.kind.expected())));
            }
        }
        Self::check(keys, found, faults)
    }

    pub(super) fn text(&self, path: &str) -> Option<(&str, &Origin)> {
        match self.0.get(path) {
            Some((Checked::Text(text), origin)) => Some((text, origin)),
            Some(_) | None => None,
        }
    }

    pub(super) fn number(&self, path: &str) -> Option<u64> {
        match self.0.get(path) {
            Some((Checked::Number(number), _)) => Some(*number),
            Some(_) | None => None,
        }
    }

    pub(super) fn duration(&self, path: &str) -> Option<Duration> {
        match self.0.get(path) {
            Some((Checked::Duration(duration), _)) => Some(*duration),
            Some(_) | None => None,
        }
    }

    pub(super) fn flag(&self, path: &str) -> Option<bool> {
        match self.0.get(path) {
            Some((Checked::Flag(flag), _)) => Some(*flag),
            Some(_) | None => None,
        }
    }

    /// The items, each with its place; none when nothing was said.
    pub(super) fn list(&self, path: &str) -> &[(String, Origin)] {
        match self.0.get(path) {
            Some((Checked::List(items), _)) => items,
            Some(_) | None => &[],
        }
    }

    pub(super) fn map(&self, path: &str) -> BTreeMap<String, String> {
        match self.0.get(path) {
            Some((Checked::Map(map), _)) => map.clone(),
            Some(_) | None => BTreeMap::new(),
        }
    }

    /// Where a key's value came from.
    pub(super) fn origin(&self, path: &str) -> &Origin {
        self.0.get(path).map_or(&Origin::Default, |(_, origin)| origin)
    }
}

/// Brings the sections into one table of paths. What is no key is a fault.
fn flatten(
    table: RawTable,
    section: &str,
    found: &mut BTreeMap<&'static str, Raw>,
    entries: &mut BTreeMap<&'static str, Vec<Raw>>,
    faults: &mut Vec<Fault>,
) {
    for (name, raw) in table {
        let path = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
        if let Some(key) = keys::KEYS.iter().find(|key| key.path == path) {
            found.insert(key.path, raw);
        } else if let Some(entry) = keys::ENTRIES.into_iter().find(|entry| *entry == path) {
            match raw.value.into_list() {
                Ok(items) => drop(entries.insert(entry, items)),
                Err(other) => {
                    let hint = format!("`{path}` is {}: begin each entry with [[{path}]]", other.what());
                    faults.push(Fault::new(&raw.origin, hint));
                }
            }
        } else if sections().any(|known| known == path) {
            match raw.value.into_table() {
                Ok(inner) => flatten(inner, &path, found, entries, faults),
                Err(other) => {
                    let hint = format!("`{path}` is {}: expected a section [{path}]", other.what());
                    faults.push(Fault::new(&raw.origin, hint));
                }
            }
        } else {
            faults.push(Fault::new(&raw.origin, unknown(&path, section, &name)));
        }
    }
}

fn sections() -> impl Iterator<Item = &'static str> {
    keys::KEYS.iter().filter_map(|key| key.path.split_once('.').map(|(section, _)| section))
}

fn unknown(path: &str, section: &str, name: &str) -> String {
    if path == "cookie" {
        return format!(
            "the cookie may not stand in this file: write it to a file with mode 600 and name that with `cookie_file`, \
             or set {}",
            super::cookie::COOKIE_VARIABLE
        );
    }
    let siblings = keys::KEYS.iter().filter_map(|key| {
        if section.is_empty() {
            return Some(key.path.split('.').next().unwrap_or(key.path));
        }
        key.path.strip_prefix(section).and_then(|rest| rest.strip_prefix('.'))
    });
    let mut siblings: Vec<&str> = siblings.collect();
    if section.is_empty() {
        siblings.extend(keys::ENTRIES);
    }
    siblings.dedup();
    format!("there is no key `{path}`{}", suggestion(name, siblings))
}

/// A variable that looks like ours and is none is most likely misspelt; it may also be someone else's.
fn look_at_variables(environment: &Environment, faults: &mut Vec<Fault>, warnings: &mut Vec<String>) {
    for name in environment.unreadable() {
        faults.push(Fault::new(&Origin::Environment(name.clone()), "the value is not UTF-8 text"));
    }
    let known: Vec<String> = keys::KEYS.iter().map(|key| keys::variable(key.path)).collect();
    for name in environment.ours() {
        if keys::OTHER_VARIABLES.contains(&name) || known.iter().any(|known| known == name) {
            continue;
        }
        let near = suggestion(name, known.iter().map(String::as_str));
        warnings.push(format!("{name}: this variable is not known, and has no effect{near}"));
    }
}

/// The value that a variable, a flag or the table of defaults gives, as TOML would have it.
fn from_text(key: &Key, text: &str, origin: Origin) -> Raw {
    let text_of = |text: &str| Raw { value: RawValue::Text(text.to_owned()), origin: origin.clone() };
    let items = || text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let value = match key.kind {
        Kind::Port | Kind::Count { .. } => {
            text.trim().parse().map_or_else(|_| RawValue::Text(text.to_owned()), RawValue::Integer)
        }
        Kind::Flag => text.trim().parse().map_or_else(|_| RawValue::Text(text.to_owned()), RawValue::Boolean),
        Kind::List => RawValue::List(items().map(text_of).collect()),
        Kind::Map => {
            let pairs: Option<RawTable> = items()
                .map(|item| item.split_once('='))
                .map(|pair| pair.map(|(name, value)| (name.trim().to_owned(), text_of(value.trim()))))
                .collect();
            pairs.map_or_else(|| RawValue::Text(text.to_owned()), RawValue::Table)
        }
        Kind::Text | Kind::Path | Kind::Duration { .. } | Kind::Choice(_) => RawValue::Text(text.to_owned()),
    };
    Raw { value, origin }
}

/// Checks one value. The error has the place of the item that is wrong, where that differs from the key's.
fn check(kind: Kind, value: &RawValue) -> Result<Checked, (Option<Origin>, String)> {
    let here = |error: String| (None, error);
    let mismatch = || here(format!("expected {}, got {}", kind.expected(), value.what()));
    match (kind, value) {
        (Kind::Text | Kind::Path, RawValue::Text(text)) if text.is_empty() => Err(here("is empty".to_owned())),
        (Kind::Text | Kind::Path, RawValue::Text(text)) => Ok(Checked::Text(text.clone())),
        (Kind::Port, RawValue::Integer(number)) => match u16::try_from(*number) {
            Ok(port) if port > 0 => Ok(Checked::Number(port.into())),
            Ok(_) | Err(_) => Err(mismatch()),
        },
        (Kind::Count { min, max }, RawValue::Integer(number)) => match u64::try_from(*number) {
            Ok(count) if (min..=max).contains(&count) => Ok(Checked::Number(count)),
            Ok(_) | Err(_) => Err(mismatch()),
        },
        (Kind::Duration { min }, RawValue::Text(text)) => {
            let duration = parse_duration(text).map_err(here)?;
            if duration < min {
                return Err(here(format!("`{text}` is too short: expected {}", kind.expected())));
            }
            Ok(Checked::Duration(duration))
        }
        (Kind::Choice(words), RawValue::Text(text)) => {
            if words.contains(&text.as_str()) {
                return Ok(Checked::Text(text.clone()));
            }
            Err(here(format!("`{text}` is not known{}", suggestion(text, words.iter().copied()))))
        }
        (Kind::Flag, RawValue::Boolean(flag)) => Ok(Checked::Flag(*flag)),
        (Kind::List, RawValue::List(items)) => {
            let item = |item: &Raw| match item.value.as_text() {
                Some(text) => Ok((text.to_owned(), item.origin.clone())),
                None => {
                    let error = format!("expected a list of texts, it holds {}", item.value.what());
                    Err((Some(item.origin.clone()), error))
                }
            };
            items.iter().map(item).collect::<Result<_, _>>().map(Checked::List)
        }
        (Kind::Map, RawValue::Table(table)) => {
            let pair = |(name, raw): (&String, &Raw)| match raw.value.as_text() {
                Some(text) => Ok((name.clone(), text.to_owned())),
                None => {
                    let error = format!("expected a table of texts, `{name}` is {}", raw.value.what());
                    Err((Some(raw.origin.clone()), error))
                }
            };
            table.iter().map(pair).collect::<Result<_, _>>().map(Checked::Map)
        }
        (
            Kind::Text
            | Kind::Path
            | Kind::Port
            | Kind::Count { .. }
            | Kind::Duration { .. }
            | Kind::Choice(_)
            | Kind::Flag
            | Kind::List
            | Kind::Map,
            _,
        ) => Err(mismatch()),
    }
}
