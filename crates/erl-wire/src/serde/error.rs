//! Why a value is no term, or a term no such value, and where in it.

use std::fmt::{self, Display, Formatter};

use crate::term::DecodeError;

/// A value that has no term, or a term that does not fit a type. Nothing was changed.
///
/// It prints as one line, `path: fault`; at the outermost level there is no path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversionError {
    /// Innermost first, since it grows on the way out.
    path: Vec<Segment>,
    fault: Fault,
}

/// What does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Something else was expected there, or the type itself refused the value. The text says which.
    #[error("{0}")]
    Mismatch(String),
    /// The value nests deeper than this.
    #[error("nested deeper than {0}")]
    TooDeep(usize),
    /// Erlang has no such value: the text says which.
    #[error("Erlang has no term for {0}")]
    NoTerm(String),
    /// The bytes are no term.
    #[error("{0}")]
    Malformed(#[from] DecodeError),
}

/// One step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// An element of a list or tuple, counted from 0.
    Index(usize),
    /// What is under a key of a map, as the key prints.
    Key(String),
    /// The data of a variant.
    Variant(String),
}

impl ConversionError {
    /// What does not fit.
    #[must_use]
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// The way to it: `[2].name`, say. Empty for the value itself.
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = String::new();
        for segment in self.path.iter().rev() {
            match segment {
                Segment::Index(index) => path += &format!("[{index}]"),
                Segment::Key(name) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path += name;
                }
                Segment::Variant(name) => path += &format!("{{{name}}}"),
            }
        }
        path
    }

    pub(super) fn at(mut self, segment: Segment) -> Self {
        self.path.push(segment);
        self
    }
}

impl From<Fault> for ConversionError {
    fn from(fault: Fault) -> Self {
        Self { path: Vec::new(), fault }
    }
}

impl From<DecodeError> for ConversionError {
    fn from(error: DecodeError) -> Self {
        Fault::Malformed(error).into()
    }
}

impl Display for ConversionError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path())?;
        }
        self.fault.fmt(f)
    }
}

impl std::error::Error for ConversionError {}

impl serde::ser::Error for ConversionError {
    fn custom<T: Display>(message: T) -> Self {
        Fault::Mismatch(message.to_string()).into()
    }
}

impl serde::de::Error for ConversionError {
    fn custom<T: Display>(message: T) -> Self {
        Fault::Mismatch(message.to_string()).into()
    }

    fn invalid_type(found: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::custom(format_args!("expected {expected}, found {found}"))
    }

    fn invalid_value(found: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::custom(format_args!("expected {expected}, found {found}"))
    }
}
