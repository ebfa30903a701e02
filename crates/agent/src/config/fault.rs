//! What is wrong with a configuration: every fault, each with its place, and the nearest key that would be right.

use std::{fmt, path::Path, sync::Arc};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A line of the file, from 1.
    File {
        /// The file as it was named.
        path: Arc<Path>,
        /// The line.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
    /// Nobody said anything.
    Default,
}

impl Origin {
    /// File before environment before flags before what nobody said; by line within the file.
    fn rank(&self) -> (u8, usize) {
        match self {
            Self::File { line, .. } => (0, *line),
            Self::Environment(_) => (1, 0),
            Self::Flag(_) => (2, 0),
            Self::Default => (3, 0),
        }
    }

    /// Whether somebody said it.
    pub(super) fn is_explicit(&self) -> bool {
        *self != Self::Default
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0 } => write!(f, "{}: ", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}: ", path.display()),
            Self::Environment(name) | Self::Flag(name) => write!(f, "{name}: "),
            Self::Default => Ok(()),
        }
    }
}

/// One thing that is wrong, on one line: `file:line: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    origin: Origin,
    message: String,
}

impl Fault {
    pub(super) fn new(origin: &Origin, message: impl Into<String>) -> Self {
        let message: String = message.into();
        // One line, whatever an error below said.
        let message = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        Self { origin: origin.clone(), message }
    }

    /// The line of the file, when it is about one.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        match &self.origin {
            Origin::File { line, .. } if *line > 0 => Some(*line),
            Origin::File { .. } | Origin::Environment(_) | Origin::Flag(_) | Origin::Default => None,
        }
    }

    /// What is wrong and what would be right, without the place.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.message)
    }
}

/// Everything that is wrong with a configuration, in the order of the file. Never empty. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Sorts the faults by place. Without any there is no `Faults`.
    pub(super) fn check(mut faults: Vec<Fault>) -> Result<(), Self> {
        if faults.is_empty() {
            return Ok(());
        }
        faults.sort_by_key(|fault| fault.origin.rank());
        Err(Self(faults))
    }

    pub(super) fn one(fault: Fault) -> Self {
        Self(vec![fault])
    }

    /// The faults.
    #[must_use]
    pub fn as_slice(&self) -> &[Fault] {
        &self.0
    }
}

impl fmt::Display for Faults {
    /// A line for each fault, the last without a line end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// `: did you mean …?` with the nearest of `valid`, or the list of them when none is near and the list is short.
pub(super) fn suggestion<'a>(wrong: &str, valid: impl IntoIterator<Item = &'a str>) -> String {
    let valid: Vec<&str> = valid.into_iter().collect();
    let nearest = valid
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wrong.to_lowercase(), &candidate.to_lowercase()), *candidate))
        .min()
        // About a third of the characters may be wrong.
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count().min(wrong.chars().count()) / 3);
    match nearest {
        Some((_, candidate)) => format!(": did you mean `{candidate}`?"),
        None if valid.is_empty() || valid.len() > 20 => String::new(),
        None => format!(": expected one of {}", valid.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_offered_and_a_far_one_is_not() {
        assert_eq!(suggestion("claster", ["cluster", "zone"]), ": did you mean `cluster`?");
        assert_eq!(suggestion("Zone", ["cluster", "zone"]), ": did you mean `zone`?");
        assert_eq!(suggestion("weather", ["cluster", "zone"]), ": expected one of cluster, zone");
        assert_eq!(suggestion("x", []), "");
    }

    #[test]
    fn faults_stand_in_the_order_of_the_file_on_one_line_each() {
        let line = |line| Origin::File { path: Path::new("m.toml").into(), line };
        let faults = Faults::check(vec![
            Fault::new(&Origin::Default, "no cookie"),
            Fault::new(&line(9), "two\n  lines\n"),
            Fault::new(&Origin::Environment("METACLUSTER_ZONE".to_owned()), "empty"),
            Fault::new(&line(2), "first"),
        ])
        .expect_err("faults");
        assert_eq!(faults.to_string(), "m.toml:2: first\nm.toml:9: two; lines\nMETACLUSTER_ZONE: empty\nno cookie");
        assert_eq!(Faults::check(Vec::new()), Ok(()));
    }
}
