//! Reads settings by a table of keys and gathers every fault on the way.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use metacluster_types::{NodeName, Pattern, Secret, time};
use tokio::time::Duration;

use super::{Absent, COMMON, Fault, Key, Kind, Settings, Value, nearest};

/// A table at work on one set of settings. A call that finds a fault notes it and gives an empty value, so that the
/// next call can find the next fault; [`Reader::finish`] tells them all.
#[derive(Debug)]
pub struct Reader<'a> {
    keys: Vec<Key>,
    settings: &'a Settings,
    faults: Vec<Fault>,
}

/// A value that its kind has read.
enum Typed {
    Text(String),
    Duration(Duration),
    Integer(i64),
    Boolean(bool),
    Address(Ipv4Addr),
    Texts(Vec<String>),
    Nodes(Vec<NodeName>),
    Table(BTreeMap<String, Vec<String>>),
}

impl<'a> Reader<'a> {
    /// Notes at once every key that the tables do not have and every key that is required and missing.
    #[must_use]
    pub fn new(tables: &[&[Key]], settings: &'a Settings) -> Self {
        let keys: Vec<Key> = tables.iter().flat_map(|table| table.iter().copied()).collect();
        let mut reader = Self { keys, settings, faults: Vec::new() };
        for given in settings.keys() {
            if !reader.names().any(|name| name == given) {
                let near = nearest(given, reader.names()).map(ToOwned::to_owned);
                let message = match near {
                    Some(name) => format!("there is no such key; did you mean `{name}`?"),
                    None => format!("there is no such key; there are {}", reader.own_names().join(", ")),
                };
                reader.fault(given, &message);
            }
        }
        for key in reader.keys.clone() {
            if key.absent == Absent::Required && !settings.contains_key(key.name) {
                reader.fault(key.name, &format!("is missing: {}", lower_first(key.doc)));
            }
        }
        reader
    }

    fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.keys.iter().chain(COMMON).map(|key| key.name)
    }

    fn own_names(&self) -> Vec<&'static str> {
        self.keys.iter().map(|key| key.name).collect()
    }

    /// Notes a fault that the strategy itself found.
    pub fn fault(&mut self, key: &str, message: &str) {
        self.faults.push(Fault::new(key, message));
    }

    /// Whether the key was given.
    #[must_use]
    pub fn is_given(&self, key: &str) -> bool {
        self.settings.contains_key(key)
    }

    /// Whether the tables have the key.
    #[must_use]
    pub fn has_key(&self, key: &str) -> bool {
        self.keys.iter().any(|known| known.name == key)
    }

    /// A text.
    pub fn text(&mut self, key: &str) -> Option<String> {
        match self.read(key) {
            Some(Typed::Text(text)) => Some(text),
            Some(other) => self.misread(key, &other),
            None => None,
        }
    }

    /// A secret's bytes.
    pub fn secret(&mut self, key: &str) -> Option<Secret> {
        self.text(key).map(|text| Secret::new(text.as_bytes()))
    }

    /// A secret that either of two keys gives: itself, or the path of a file that holds it, read once. One line end at
    /// the file's end is left out.
    pub fn secret_or_file(&mut self, key: &str, file: &str) -> Option<Secret> {
        let given = self.secret(key);
        let Some(path) = self.path(file) else { return given };
        if self.is_given(key) {
            self.fault(file, &format!("`{key}` is given too: leave one of them out"));
            return given;
        }
        match read_secret(&path) {
            Ok(secret) => Some(secret),
            Err(line) => {
                self.fault(file, &line);
                None
            }
        }
    }

    /// A path.
    pub fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// A duration; zero where the key has no value.
    pub fn duration(&mut self, key: &str) -> Duration {
        match self.read(key) {
            Some(Typed::Duration(duration)) => duration,
            Some(other) => self.misread(key, &other).unwrap_or_default(),
            None => Duration::ZERO,
        }
    }

    /// A number; zero where the key has no value or it does not fit the type.
    pub fn integer<N: TryFrom<i64> + Default>(&mut self, key: &str) -> N {
        match self.read(key) {
            Some(Typed::Integer(number)) => N::try_from(number).unwrap_or_default(),
            Some(other) => self.misread(key, &other).unwrap_or_default(),
            None => N::default(),
        }
    }

    /// A boolean; false where the key has no value.
    pub fn boolean(&mut self, key: &str) -> bool {
        match self.read(key) {
            Some(Typed::Boolean(boolean)) => boolean,
            Some(other) => self.misread(key, &other).unwrap_or_default(),
            None => false,
        }
    }

    /// An IPv4 address.
    pub fn address(&mut self, key: &str) -> Option<Ipv4Addr> {
        match self.read(key) {
            Some(Typed::Address(address)) => Some(address),
            Some(other) => self.misread(key, &other),
            None => None,
        }
    }

    /// Texts; none where the key has no value.
    pub fn texts(&mut self, key: &str) -> Vec<String> {
        match self.read(key) {
            Some(Typed::Texts(texts)) => texts,
            Some(other) => self.misread(key, &other).unwrap_or_default(),
            None => Vec::new(),
        }
    }

    /// Patterns; none where the key has no value.
    pub fn patterns(&mut self, key: &str) -> Vec<Pattern> {
        self.texts(key).iter().map(|text| Pattern::new(text)).collect()
    }

    /// A table; empty where the key has no value.
    pub fn table(&mut self, key: &str) -> BTreeMap<String, Vec<String>> {
        match self.read(key) {
            Some(Typed::Table(table)) => table,
            Some(other) => self.misread(key, &other).unwrap_or_default(),
            None => BTreeMap::new(),
        }
    }

    /// Nodes; none where the key has no value.
    pub fn nodes(&mut self, key: &str) -> Vec<NodeName> {
        match self.read(key) {
            Some(Typed::Nodes(nodes)) => nodes,
            Some(other) => self.misread(key, &other).unwrap_or_default(),
            None => Vec::new(),
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Every fault that was noted, each once.
    pub fn finish(mut self) -> Result<(), Vec<Fault>> {
        self.faults.sort_by(|a, b| a.key.cmp(&b.key));
        self.faults.dedup();
        if self.faults.is_empty() { Ok(()) } else { Err(self.faults) }
    }

    fn read(&mut self, name: &str) -> Option<Typed> {
        let Some(key) = self.keys.iter().find(|key| key.name == name).copied() else {
            self.fault(name, "a fault of metacluster: the strategy reads a key that its table does not have");
            return None;
        };
        let default = match key.absent {
            Absent::Default(text) if matches!(key.kind, Kind::Texts | Kind::Nodes | Kind::Patterns) => {
                Some(Value::List(text.split(',').map(Value::from).collect()))
            }
            Absent::Default(text) => Some(Value::from(text)),
            Absent::Required | Absent::Unset(_) => None,
        };
        let value = self.settings.get(name).cloned().or(default)?;
        match read_value(key.kind, &value) {
            Ok(typed) => Some(typed),
            Err(message) => {
                self.fault(name, &message);
                None
            }
        }
    }

    fn misread<T>(&mut self, key: &str, _typed: &Typed) -> Option<T> {
        self.fault(key, "a fault of metacluster: the strategy reads this key as another kind than its table says");
        None
    }
}

/// Reads a file that holds a secret, without the line end at its end.
///
/// # Errors
/// A line that says which file and why. It holds nothing of the secret.
pub fn read_secret(path: &Path) -> Result<Secret, String> {
    let bytes = fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    if bytes.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(Secret::new(bytes)) }
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

fn read_value(kind: Kind, value: &Value) -> Result<Typed, String> {
    let wrong = |expected: &str| format!("is {}: expected {expected}", value.shape());
    match kind {
        Kind::Text | Kind::Path => match value {
            Value::Text(text) if text.is_empty() => Err("is empty".to_owned()),
            Value::Text(text) => Ok(Typed::Text(text.clone())),
            Value::Integer(number) => Ok(Typed::Text(number.to_string())),
            Value::Boolean(_) | Value::List(_) | Value::Table(_) => Err(wrong("a text")),
        },
        Kind::Secret => match value {
            Value::Text(text) if text.is_empty() => Err("is empty".to_owned()),
            Value::Text(text) => Ok(Typed::Text(text.clone())),
            Value::List(_) => Err("holds a comma: write it as `\\,`, or keep the secret in a file".to_owned()),
            Value::Integer(_) | Value::Boolean(_) | Value::Table(_) => Err(wrong("a text in quotes")),
        },
        Kind::Duration { least_ms, most_ms } => {
            let Value::Text(text) = value else { return Err(wrong("a duration such as \"1s\" or \"250ms\"")) };
            let duration = time::parse_duration(text)?;
            let (least, most) = (Duration::from_millis(least_ms), Duration::from_millis(most_ms));
            if duration < least || duration > most {
                let (least, most) = (time::format_duration(least), time::format_duration(most));
                return Err(format!("`{text}` is out of range: expected {least} to {most}"));
            }
            Ok(Typed::Duration(duration))
        }
        Kind::Integer { least, most } => {
            let number = match value {
                Value::Integer(number) => *number,
                Value::Text(text) => {
                    text.parse().map_err(|_| format!("`{text}` is no number: expected {least} to {most}"))?
                }
                Value::Boolean(_) | Value::List(_) | Value::Table(_) => return Err(wrong("a number")),
            };
            if number < least || number > most {
                return Err(format!("{number} is out of range: expected {least} to {most}"));
            }
            Ok(Typed::Integer(number))
        }
        Kind::Boolean => match value {
            Value::Boolean(boolean) => Ok(Typed::Boolean(*boolean)),
            Value::Text(text) if text == "true" => Ok(Typed::Boolean(true)),
            Value::Text(text) if text == "false" => Ok(Typed::Boolean(false)),
            Value::Text(_) | Value::Integer(_) | Value::List(_) | Value::Table(_) => Err(wrong("true or false")),
        },
        Kind::Address => {
            let Value::Text(text) = value else { return Err(wrong("an IPv4 address in quotes")) };
            text.parse()
                .map(Typed::Address)
                .map_err(|_| format!("`{text}` is no IPv4 address: expected four numbers, such as 10.0.0.1"))
        }
        Kind::Texts | Kind::Patterns => read_texts(value).map(Typed::Texts),
        Kind::OneOf(words) => match value {
            Value::Text(text) if words.contains(&text.as_str()) => Ok(Typed::Text(text.clone())),
            Value::Text(text) => Err(match nearest(text, words.iter().copied()) {
                Some(word) => format!("`{text}` is none of {}; did you mean `{word}`?", words.join(", ")),
                None => format!("`{text}` is none of {}", words.join(", ")),
            }),
            Value::Integer(_) | Value::Boolean(_) | Value::List(_) | Value::Table(_) => {
                Err(wrong(&format!("one of {}", words.join(", "))))
            }
        },
        Kind::Table => match value {
            Value::Table(table) => {
                let pairs = table.iter().map(|(key, value)| match read_texts(value) {
                    Ok(texts) => Ok((key.clone(), texts)),
                    Err(message) => Err(format!("`{key}` {message}")),
                });
                pairs.collect::<Result<_, _>>().map(Typed::Table)
            }
            Value::Text(_) | Value::Integer(_) | Value::Boolean(_) | Value::List(_) => {
                Err(wrong("a table, such as { app = \"shop\" } in a file or `.app=shop` after the key"))
            }
        },
        Kind::Nodes => {
            let nodes: Vec<_> = read_texts(value)?.iter().map(|text| NodeName::new(text)).collect();
            let wrong: Vec<String> =
                nodes.iter().filter_map(|node| node.as_ref().err()).map(ToString::to_string).collect();
            if wrong.is_empty() {
                Ok(Typed::Nodes(nodes.into_iter().flatten().collect()))
            } else {
                Err(wrong.join("; "))
            }
        }
    }
}

/// One text or a list of them, none empty.
fn read_texts(value: &Value) -> Result<Vec<String>, String> {
    let list = match value {
        Value::List(list) => list.as_slice(),
        Value::Text(_) | Value::Integer(_) | Value::Boolean(_) | Value::Table(_) => std::slice::from_ref(value),
    };
    let mut texts = Vec::new();
    for value in list {
        match value {
            Value::Text(text) if !text.is_empty() => texts.push(text.clone()),
            Value::Text(_) => return Err("holds an empty text".to_owned()),
            Value::Integer(_) | Value::Boolean(_) | Value::List(_) | Value::Table(_) => {
                return Err(format!("holds {}: expected texts", value.shape()));
            }
        }
    }
    if texts.is_empty() { Err("is an empty list".to_owned()) } else { Ok(texts) }
}
