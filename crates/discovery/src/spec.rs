//! A topology in one line: `gossip:secret=s3,port=45892`, or the same as arguments: `gossip secret=s3 port=45892`.
//!
//! ```text
//! spec     = strategy [ ":" settings ]          arguments = strategy { settings }
//! settings = segment { "," segment }
//! segment  = key "=" value | value              a value alone makes a list of the one before it
//! key      = name { "." name }                  `tag.app=shop` is the table tag = { app = "shop" }
//! ```
//! A backslash takes the next character as it is, so `\,` and `\=` can stand in a value.

use std::{mem, str::FromStr};

use crate::settings::{Settings, Value};

/// A strategy and its settings. Every value is a text, a list of texts or a table of those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The strategy's name, not yet held against the list of those there are.
    pub strategy: String,
    /// Its settings, and those common to all topologies.
    pub settings: Settings,
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (strategy, settings) = text.split_once(':').unwrap_or((text, ""));
        let arguments = if settings.is_empty() { &[][..] } else { &[settings][..] };
        Self::from_arguments(strategy, arguments)
    }
}

impl Spec {
    /// Reads a strategy's name and arguments, each `key=value`.
    ///
    /// # Errors
    /// A line that says which part is wrong and what would be right. It repeats no value.
    pub fn from_arguments<S: AsRef<str>>(strategy: &str, arguments: &[S]) -> Result<Self, String> {
        let strategy = strategy.trim();
        if strategy.is_empty() {
            return Err("no strategy: expected its name, such as `gossip` or `static:nodes=a@h1,b@h2`".to_owned());
        }
        if strategy.contains(['=', ',']) {
            return Err("the strategy's name comes first, such as `gossip:port=45892`".to_owned());
        }
        let mut pairs: Vec<(String, Vec<String>)> = Vec::new();
        for argument in arguments {
            for (at, segment) in split(argument.as_ref()).into_iter().enumerate() {
                match (segment.key, pairs.last_mut()) {
                    (Some(key), _) => pairs.push((key, vec![segment.value])),
                    (None, Some((_, values))) if at > 0 => values.push(segment.value),
                    (None, _) => return Err(format!("setting {} has no `=`: expected key=value", pairs.len() + 1)),
                }
            }
        }
        let mut settings = Settings::new();
        for (key, mut values) in pairs {
            let value = match values.pop() {
                Some(only) if values.is_empty() => Value::Text(only),
                last => Value::List(values.into_iter().chain(last).map(Value::Text).collect()),
            };
            insert(&mut settings, &key, &key, value)?;
        }
        Ok(Self { strategy: strategy.to_owned(), settings })
    }
}

/// Puts a value under a key, through a table for each dot.
fn insert(settings: &mut Settings, whole: &str, key: &str, value: Value) -> Result<(), String> {
    if let Some((table, rest)) = key.split_once('.') {
        let inner = settings.entry(table.to_owned()).or_insert_with(|| Value::Table(Settings::new()));
        return match inner {
            Value::Table(inner) => insert(inner, whole, rest, value),
            Value::Text(_) | Value::Integer(_) | Value::Boolean(_) | Value::List(_) => {
                Err(format!("`{table}` cannot be a value and hold `{whole}` too"))
            }
        };
    }
    if key.is_empty() {
        return Err(format!("`{whole}=` has no key: expected key=value"));
    }
    match settings.insert(key.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(format!("`{whole}` is given twice; for several values write {whole}=a,b")),
    }
}

struct Segment {
    key: Option<String>,
    value: String,
}

/// Splits at commas, and each part at its first `=`, but for what a backslash stands before.
fn split(text: &str) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut key = None;
    let mut part = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => part.push(letters.next().unwrap_or('\\')),
            ',' => segments.push(Segment { key: key.take(), value: mem::take(&mut part) }),
            '=' if key.is_none() => key = Some(mem::take(&mut part).trim().to_owned()),
            other => part.push(other),
        }
    }
    segments.push(Segment { key, value: part });
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(values: &[&str]) -> Value {
        Value::List(values.iter().copied().map(Value::from).collect())
    }

    #[test]
    fn a_spec_and_its_arguments_are_the_same() {
        let spec: Spec = "gossip:secret=s3,port=45892".parse().expect("a spec");
        assert_eq!(spec.strategy, "gossip");
        assert_eq!(spec.settings, [("port", "45892"), ("secret", "s3")].map(|(k, v)| (k.into(), v.into())).into());
        assert_eq!(Spec::from_arguments("gossip", &["secret=s3", "port=45892"]), Ok(spec));
        assert_eq!("gossip".parse::<Spec>().expect("a spec").settings, Settings::new());
    }

    #[test]
    fn a_segment_without_a_key_makes_a_list() {
        let spec: Spec = "static:nodes=a@h1,b@h2,basename=a".parse().expect("a spec");
        assert!(spec.settings["nodes"] == list(&["a@h1", "b@h2"]), "both nodes");
        assert!(spec.settings["basename"] == "a".into(), "the key after the list");
        assert_eq!(Spec::from_arguments("static", &["nodes=a@h1,b@h2", "basename=a"]), Ok(spec));
    }

    #[test]
    fn dots_make_tables_and_backslashes_escape() {
        let spec = Spec::from_arguments("ec2", &["tag.app=shop", "tag.env=x", r"secret=a\,b\=c=d"]).expect("a spec");
        let table = [("app", "shop"), ("env", "x")].map(|(k, v)| (k.to_owned(), v.into()));
        assert!(spec.settings["tag"] == Value::Table(table.into()), "a table of two");
        assert!(spec.settings["secret"] == "a,b=c=d".into(), "one text");
    }

    #[test]
    fn what_is_no_spec_is_refused_without_its_values() {
        for (text, says) in [
            ("", "no strategy"),
            (":port=1", "no strategy"),
            ("port=1", "comes first"),
            ("gossip:hunter2", "no `=`"),
            ("gossip:port=1,port=2", "twice"),
            ("gossip:=hunter2", "no key"),
            ("ec2:tag=a,tag.b=hunter2", "cannot be a value"),
        ] {
            let fault = text.parse::<Spec>().expect_err(text);
            assert!(fault.contains(says), "{text}: {fault}");
            assert!(!fault.contains("hunter2"), "{fault}");
        }
        assert!(Spec::from_arguments("gossip", &["port=1", "45"]).is_err(), "an argument alone is no list");
    }
}
