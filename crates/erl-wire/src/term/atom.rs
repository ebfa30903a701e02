//! Atoms. At most 255 characters, cheap to clone, compared by text.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// The most characters that an atom may have.
const CHARACTERS_MAX: usize = 255;

/// A text of this many characters is no atom: 255 is the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an atom of {0} characters is too long: at most 255")]
pub struct AtomTooLong(pub usize);

/// An atom.
#[derive(Clone)]
pub struct Atom(Text);

#[derive(Clone)]
enum Text {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Atom {
    /// The atom `''`, which stands where a control message has an unused place.
    pub const EMPTY: Self = Self(Text::Static(""));

    /// Takes a text.
    ///
    /// # Errors
    /// When it has more than 255 characters.
    pub fn new(text: &str) -> Result<Self, AtomTooLong> {
        // Characters are only counted when the bytes leave room for doubt.
        if text.len() > CHARACTERS_MAX {
            let characters = text.chars().count();
            if characters > CHARACTERS_MAX {
                return Err(AtomTooLong(characters));
            }
        }
        Ok(Self(Text::Shared(text.into())))
    }

    /// Takes a text of the program itself, without allocating.
    ///
    /// # Panics
    /// When the text has more than 255 bytes; in a constant, that is an error of the build.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        assert!(text.len() <= CHARACTERS_MAX, "an atom has at most 255 characters");
        Self(Text::Static(text))
    }

    /// The text, unquoted.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Static(text) => text,
            Text::Shared(text) => text,
        }
    }
}

impl From<&metacluster_types::NodeName> for Atom {
    fn from(name: &metacluster_types::NodeName) -> Self {
        // A node name has at most 255 characters, so it needs no check.
        Self(Text::Shared(name.as_str().into()))
    }
}

impl PartialEq for Atom {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Atom {}

impl PartialEq<str> for Atom {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Atom {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialOrd for Atom {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Atom {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Atom {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for Atom {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::display::write_atom(f, self.as_str())
    }
}

impl fmt::Debug for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
