//! The proof that a side knows the cookie.

use md5::{Digest as _, Md5};
use metacluster_types::Cookie;

/// The MD5 of the cookie and of the other side's challenge in decimal.
#[derive(Clone, Copy, Debug)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    /// Answers a challenge.
    #[must_use]
    pub fn new(cookie: &Cookie, challenge: u32) -> Self {
        let hash = Md5::new().chain_update(cookie.reveal()).chain_update(challenge.to_string());
        Self(hash.finalize().into())
    }

    /// Whether both are the same, in a time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}
