//! Secrets. They have no `Debug` and no `Display`, so that none reaches a log by accident.

use std::sync::Arc;

/// The cookie that nodes of one cluster share.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie(Arc<str>);

impl Cookie {
    /// Takes the text without the white space around it, as `erl` does with its cookie file.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().into())
    }

    /// The cookie's text, for the digest of the handshake.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Any other secret: a gossip secret, a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Takes the bytes as they are.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The secret's bytes.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}
