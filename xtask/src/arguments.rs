//! The few options that the commands take: `--name value` and `--name`.

use anyhow::{Context as _, Result, bail};

/// Options that were given, held against those that are known.
#[derive(Debug)]
pub(crate) struct Options {
    given: Vec<(String, Option<String>)>,
}

impl Options {
    /// Reads `--name value` for the names of `valued` and `--name` for those of `flags`; anything else is an error.
    pub(crate) fn read(arguments: &[String], valued: &[&str], flags: &[&str]) -> Result<Self> {
        let mut given = Vec::new();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let name = argument.strip_prefix("--").with_context(|| format!("`{argument}` is no option"))?;
            if valued.contains(&name) {
                let value = rest.next().with_context(|| format!("--{name} needs a value"))?;
                given.push((name.to_owned(), Some(value.clone())));
            } else if flags.contains(&name) {
                given.push((name.to_owned(), None));
            } else {
                bail!("no option --{name}; known: {}", [valued, flags].concat().join(", "));
            }
        }
        Ok(Self { given })
    }

    /// The value of an option, or `default`.
    pub(crate) fn number(&self, name: &str, default: u64) -> Result<u64> {
        let parse = |text: &str| text.parse().with_context(|| format!("--{name} {text} is no number"));
        self.text(name).map_or(Ok(default), parse)
    }

    /// The value of an option, if it was given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.given.iter().rev().find(|(given, _)| given == name).and_then(|(_, value)| value.as_deref())
    }

    /// Whether an option was given.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| given == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Options> {
        let arguments: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Options::read(&arguments, &["minutes"], &["json"])
    }

    #[test]
    fn known_options_are_read_and_others_refused() {
        assert_eq!(read("--json --minutes 7").and_then(|options| options.number("minutes", 1)).expect("valid"), 7);
        assert_eq!(read("").and_then(|options| options.number("minutes", 1)).expect("valid"), 1);
        assert_eq!(read("--minutes 7 --minutes 8").expect("valid").text("minutes"), Some("8"), "the last one counts");
        for bad in ["--hours 3", "minutes", "--minutes"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read("--minutes x").and_then(|options| options.number("minutes", 1)).is_err());
    }
}
