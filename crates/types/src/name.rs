//! Names and ids. Each is cheap to clone and ordered, so that it can key an ordered map.

use std::{
    borrow::Borrow,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// There is no `@`, or nothing on one side of it.
    #[error("`{0}` is no node name: expected name@host, such as shop@10.0.0.4")]
    NotANode(String),
    /// A character that neither an Erlang node name nor a log line can carry.
    #[error("`{0}` holds a control character, a space, or a second `@`")]
    BadCharacter(String),
    /// Longer than the 255 characters of an Erlang atom.
    #[error("a name of {0} characters is too long: at most 255")]
    TooLong(usize),
    /// Nothing at all.
    #[error("an empty name")]
    Empty,
    /// Not the 32 hexadecimal digits of an agent id.
    #[error("`{0}` is no agent id: expected 32 hexadecimal digits")]
    NotAnId(String),
}

/// The name of a node, `name@host`, as Erlang has it. A table of nodes can be asked with its text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeName {
    text: Arc<str>,
    at: usize,
}

impl NodeName {
    /// Reads `name@host`.
    ///
    /// # Errors
    /// When a side is missing, the whole is longer than an atom, or a character cannot stand in a name.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let at = text.find('@').ok_or_else(|| NameError::NotANode(text.to_owned()))?;
        if at == 0 || at + 1 == text.len() {
            return Err(NameError::NotANode(text.to_owned()));
        }
        let characters = text.chars().count();
        if characters > 255 {
            return Err(NameError::TooLong(characters));
        }
        let bad = |c: char| c.is_control() || c.is_whitespace() || c == '@';
        if text[..at].contains(bad) || text[at + 1..].contains(bad) {
            return Err(NameError::BadCharacter(text.to_owned()));
        }
        Ok(Self { text: text.into(), at })
    }

    /// Joins the two sides.
    ///
    /// # Errors
    /// As [`NodeName::new`].
    pub fn from_parts(basename: &str, host: &str) -> Result<Self, NameError> {
        Self::new(&format!("{basename}@{host}"))
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before `@`, which is what epmd knows.
    #[must_use]
    pub fn basename(&self) -> &str {
        &self.text[..self.at]
    }

    /// The part after `@`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.text[self.at + 1..]
    }

    /// Whether this is a long name (`-name`): its host has a dot or a colon. Long and short names never mix in one
    /// cluster.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.host().contains(['.', ':'])
    }
}

impl Borrow<str> for NodeName {
    fn borrow(&self) -> &str {
        &self.text
    }
}

/// As its text.
impl Hash for NodeName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl FromStr for NodeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

macro_rules! text_traits {
    ($name:ident) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use text_traits;

macro_rules! label {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Takes the text as it is.
            ///
            /// # Errors
            /// When it is empty, longer than 255 characters, or holds a control character.
            pub fn new(text: &str) -> Result<Self, $crate::NameError> {
                let characters = text.chars().count();
                if characters == 0 {
                    return Err($crate::NameError::Empty);
                }
                if characters > 255 {
                    return Err($crate::NameError::TooLong(characters));
                }
                if text.contains(char::is_control) {
                    return Err($crate::NameError::BadCharacter(text.escape_debug().to_string()));
                }
                Ok(Self(text.into()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::NameError;

            fn from_str(text: &str) -> Result<Self, $crate::NameError> {
                Self::new(text)
            }
        }

        $crate::name::text_traits!($name);
    };
}
pub(crate) use label;

text_traits!(NodeName);

label! {
    /// The name of a cluster: nodes that mesh with one another.
    ClusterName
}

label! {
    /// The name of a cell: a part of a cluster that is a mesh of its own.
    CellName
}

label! {
    /// The name of a topology: one strategy with its settings.
    TopologyName
}

/// What tells one agent from another: 128 random bits that are kept in its state folder, apart from its address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentId(pub u128);

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for AgentId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(id) if digits => Ok(Self(id)),
            Ok(_) | Err(_) => Err(NameError::NotAnId(text.to_owned())),
        }
    }
}

impl serde::Serialize for AgentId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for AgentId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_name_has_two_sides() {
        let name = NodeName::new("shop@10.0.0.4").expect("valid");
        assert_eq!((name.basename(), name.host(), name.is_long()), ("shop", "10.0.0.4", true));
        assert!(!NodeName::new("shop@web").expect("valid").is_long());
        for bad in ["", "shop", "@host", "shop@", "a b@c", "a@b@c", "a@b\n", "a\0@b"] {
            assert!(NodeName::new(bad).is_err(), "{bad:?} must be refused");
        }
        assert_eq!(NodeName::new(&format!("a@{}", "x".repeat(300))), Err(NameError::TooLong(302)));
    }

    #[test]
    fn an_agent_id_survives_its_text_form() {
        let id = AgentId(0xdead_beef);
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "12", "+0000000000000000000000000000001", &"g".repeat(32)] {
            assert!(bad.parse::<AgentId>().is_err(), "{bad:?} must be refused");
        }
    }
}
