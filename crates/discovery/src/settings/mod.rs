//! Settings of a strategy: values as they were given, and the one table of keys that reads, explains and tests them.
//!
//! Values come from TOML, where they have types, or from a [`Spec`](crate::spec::Spec), where each is a text; a
//! [`Kind`] reads both. No value is ever printed: it may be a secret.

mod common;
mod reader;
mod reference;

use std::{collections::BTreeMap, fmt};

pub use common::{COMMON, Common};
pub use reader::{Reader, read_secret};
pub use reference::reference;

/// What was given for each key.
pub type Settings = BTreeMap<String, Value>;

/// A value as it was given. Its `Debug` shows the shape alone, since any text may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Boolean(bool),
    /// Several values.
    List(Vec<Self>),
    /// Values by name, such as `tag = { app = "shop" }` or `tag.app=shop`.
    Table(Settings),
}

impl Value {
    /// What it is, for a message.
    #[must_use]
    pub fn shape(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a number",
            Self::Boolean(_) => "a boolean",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shape())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// What is wrong with one key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct Fault {
    /// The key as it was given, or the one that is missing.
    pub key: String,
    /// What is wrong and what would be right. It never repeats a secret.
    pub message: String,
}

impl Fault {
    /// A fault of `key`.
    #[must_use]
    pub fn new(key: &str, message: &str) -> Self {
        Self { key: key.to_owned(), message: message.to_owned() }
    }
}

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// A text that is never printed.
    Secret,
    /// The path of a file.
    Path,
    /// A duration, such as `1s` or `250ms`, between two bounds in milliseconds.
    Duration {
        /// The shortest, in milliseconds.
        least_ms: u64,
        /// The longest, in milliseconds.
        most_ms: u64,
    },
    /// A whole number between two bounds.
    Integer {
        /// The least.
        least: i64,
        /// The most.
        most: i64,
    },
    /// True or false.
    Boolean,
    /// An IPv4 address.
    Address,
    /// One text or several.
    Texts,
    /// One node or several, each as name@host.
    Nodes,
    /// One pattern or several, with `*` and `?`.
    Patterns,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A table of texts, each key with one or several, such as `tag = { app = "shop" }` or `tag.app=shop`.
    Table,
}

impl Kind {
    /// What it takes, for the reference.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Secret => "secret",
            Self::Path => "path",
            Self::Duration { .. } => "duration",
            Self::Integer { .. } => "number",
            Self::Boolean => "true or false",
            Self::Address => "IPv4 address",
            Self::Texts => "texts",
            Self::Nodes => "nodes",
            Self::Patterns => "patterns",
            Self::OneOf(_) => "one of several words",
            Self::Table => "table",
        }
    }
}

/// What holds when a key is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It has to be given.
    Required,
    /// This value, written as a text; several with commas between them.
    Default(&'static str),
    /// No value; the text says what that means.
    Unset(&'static str),
}

/// One key of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What holds without it.
    pub absent: Absent,
    /// What it does, in one line.
    pub doc: &'static str,
}

/// The name that someone who wrote `given` most likely meant, if one is near enough.
#[must_use]
pub fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (strsim::damerau_levenshtein(given, name), name))
        .filter(|&(distance, name)| distance <= 1.max(name.len().min(given.len()) / 3 + 1))
        .min()
        .map(|(_, name)| name)
}
