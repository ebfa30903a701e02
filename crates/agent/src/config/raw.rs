//! The file as it was written: TOML turned into plain values that know their line.
//!
//! Nothing is judged here but the syntax.

use std::{collections::BTreeMap, fmt, ops::Range, path::Path, sync::Arc};

use toml_edit::{Document, Item, TableLike, Value};

use super::fault::{Fault, Origin};

/// A longer file is no configuration.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Raw {
    pub(super) value: RawValue,
    pub(super) origin: Origin,
}

/// A value of TOML.
#[derive(Clone, PartialEq)]
pub(super) enum RawValue {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Datetime(String),
    List(Vec<Raw>),
    Table(RawTable),
}

/// Keys and values, by key. The origin of each is the line of its key.
pub(super) type RawTable = BTreeMap<String, Raw>;

impl RawValue {
    /// What it is, for a message.
    pub(super) fn what(&self) -> String {
        match self {
            Self::Text(text) => format!("the text {text:?}"),
            Self::Integer(number) => format!("the number {number}"),
            Self::Float(number) => format!("the number {number}"),
            Self::Boolean(boolean) => boolean.to_string(),
            Self::Datetime(at) => format!("the date {at}"),
            Self::List(_) => "a list".to_owned(),
            Self::Table(_) => "a table".to_owned(),
        }
    }
}

impl RawValue {
    /// The table, or the value back.
    pub(super) fn into_table(self) -> Result<RawTable, Self> {
        if let Self::Table(table) = self { Ok(table) } else { Err(self) }
    }

    /// The list, or the value back.
    pub(super) fn into_list(self) -> Result<Vec<Raw>, Self> {
        if let Self::List(list) = self { Ok(list) } else { Err(self) }
    }

    /// The text.
    pub(super) fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

impl fmt::Debug for RawValue {
    /// Shows no text: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("a text"),
            Self::Table(table) => table.fmt(f),
            Self::List(list) => list.fmt(f),
            Self::Integer(_) | Self::Float(_) | Self::Boolean(_) | Self::Datetime(_) => f.write_str(&self.what()),
        }
    }
}

/// Reads and parses a file.
pub(super) fn read(path: &Path) -> Result<RawTable, Fault> {
    let origin = |line| Origin::File { path: path.into(), line };
    let bytes = super::read_bounded(path, FILE_BYTES_MAX).map_err(|error| Fault::new(&origin(0), error))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        Fault::new(&origin(line), "the file is not UTF-8 text here")
    })?;
    parse(path, &text)
}

/// Parses the text of a file.
pub(super) fn parse(path: &Path, text: &str) -> Result<RawTable, Fault> {
    let lines = Lines { path: path.into(), starts: line_starts(text) };
    let document = Document::parse(text).map_err(|error| {
        let origin = lines.origin(error.span().or(Some(0..0)), &Origin::Default);
        Fault::new(&origin, format!("no TOML: {}", error.message()))
    })?;
    let top = lines.at(0);
    Ok(lines.table(document.as_table(), &top))
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1)).collect()
}

struct Lines {
    path: Arc<Path>,
    starts: Vec<usize>,
}

impl Lines {
    fn at(&self, offset: usize) -> Origin {
        let line = self.starts.partition_point(|start| *start <= offset);
        Origin::File { path: Arc::clone(&self.path), line }
    }

    /// The line of a span; that of the parent where the parser kept none.
    fn origin(&self, span: Option<Range<usize>>, parent: &Origin) -> Origin {
        span.map_or_else(|| parent.clone(), |span| self.at(span.start))
    }

    fn table(&self, table: &dyn TableLike, parent: &Origin) -> RawTable {
        let mut raw = RawTable::new();
        for (key, item) in table.iter() {
            let span = table.get_key_value(key).and_then(|(key, _)| key.span()).or_else(|| item.span());
            let origin = self.origin(span, parent);
            if let Some(value) = self.item(item, &origin) {
                raw.insert(key.to_owned(), Raw { value, origin });
            }
        }
        raw
    }

    fn item(&self, item: &Item, origin: &Origin) -> Option<RawValue> {
        Some(match item {
            Item::None => return None,
            Item::Value(value) => self.value(value, origin),
            Item::Table(table) => RawValue::Table(self.table(table, origin)),
            Item::ArrayOfTables(tables) => {
                let entry = |table: &toml_edit::Table| {
                    let origin = self.origin(table.span(), origin);
                    Raw { value: RawValue::Table(self.table(table, &origin)), origin }
                };
                RawValue::List(tables.iter().map(entry).collect())
            }
        })
    }

    fn value(&self, value: &Value, origin: &Origin) -> RawValue {
        match value {
            Value::String(text) => RawValue::Text(text.value().clone()),
            Value::Integer(number) => RawValue::Integer(*number.value()),
            Value::Float(number) => RawValue::Float(*number.value()),
            Value::Boolean(boolean) => RawValue::Boolean(*boolean.value()),
            Value::Datetime(at) => RawValue::Datetime(at.value().to_string()),
            Value::Array(values) => {
                let entry = |value: &Value| {
                    let origin = self.origin(value.span(), origin);
                    Raw { value: self.value(value, &origin), origin }
                };
                RawValue::List(values.iter().map(entry).collect())
            }
            Value::InlineTable(table) => RawValue::Table(self.table(table, origin)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(raw: &Raw) -> usize {
        match raw.origin {
            Origin::File { line, .. } => line,
            Origin::Environment(_) | Origin::Flag(_) | Origin::Default => 0,
        }
    }

    fn table(raw: &Raw) -> &RawTable {
        let RawValue::Table(table) = &raw.value else { panic!("expected a table: {raw:?}") };
        table
    }

    fn list(raw: &Raw) -> &[Raw] {
        let RawValue::List(list) = &raw.value else { panic!("expected a list: {raw:?}") };
        list
    }

    #[test]
    fn every_value_knows_its_line() {
        let text = "\n# first\ncluster = \"main\"\nroles = [\n  \"web\",\n  7,\n]\ntags = { app = 1 }\nlog.level = \"x\"\n\n[epmd]\nport = 1\n\n[[topology]]\nname = \"a\"\n\n[[topology]]\nname = \"b\"\n  [topology.tag]\n  app = true\n";
        let raw = parse(Path::new("m.toml"), text).expect("valid");
        assert_eq!(line(&raw["cluster"]), 3);
        assert_eq!(list(&raw["roles"]).iter().map(line).collect::<Vec<_>>(), [5, 6]);
        assert_eq!(line(&table(&raw["tags"])["app"]), 8);
        assert_eq!(line(&table(&raw["log"])["level"]), 9);
        assert_eq!((line(&raw["epmd"]), line(&table(&raw["epmd"])["port"])), (11, 12));
        let topologies = list(&raw["topology"]);
        assert_eq!(topologies.iter().map(line).collect::<Vec<_>>(), [14, 17]);
        assert_eq!(line(&table(&topologies[1])["name"]), 18);
        assert_eq!(line(&table(&table(&topologies[1])["tag"])["app"]), 20);
    }

    #[test]
    fn a_syntax_error_has_its_line() {
        for (text, line) in [("a = 1\nb = \n", 2), ("a = 1\na = 2\n", 2), ("\n\n[x\n", 3), ("a = 'x", 1)] {
            let fault = parse(Path::new("m.toml"), text).expect_err("no TOML");
            assert_eq!(fault.line(), Some(line), "{text:?}: {fault}");
            assert!(!fault.to_string().contains('\n'));
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let text = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse(Path::new("m.toml"), &text).is_err());
    }
}
