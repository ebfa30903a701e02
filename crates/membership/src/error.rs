//! Errors, sorted by blame: bytes that are no packet, packets of others, and calls that cannot be.

/// Why bytes were no packet. Nothing changed; the packet is dropped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end within a field.
    #[error("the bytes end within a field")]
    Truncated,
    /// Bytes are left over.
    #[error("bytes are left after the last field")]
    Trailing,
    /// A field holds what it cannot.
    #[error("a field holds what it cannot: {0}")]
    Invalid(&'static str),
    /// A field is longer than allowed.
    #[error("a field is longer than allowed: {0}")]
    TooLong(&'static str),
    /// Another version of the protocol: an incompatible peer, not a broken one.
    #[error("version {0} of the protocol; this is version 1")]
    Incompatible(u8),
}

/// Why a description cannot be told to others. Nothing changed; the caller should shorten it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionError {
    /// One of its parts is longer, or has more entries, than the limits of its field.
    #[error("{0} is too long to tell to other members")]
    TooLong(&'static str),
    /// Each part is fine, but all together do not fit into one packet.
    #[error("name, place, roles, tags and state come to {bytes} bytes, more than the {max} that fit into a packet")]
    TooLarge {
        /// So many.
        bytes: usize,
        /// The bound.
        max: usize,
    },
}

/// Why a sealed packet was not opened. Nothing changed; it is dropped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The bytes are no packet.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// Of another cluster.
    #[error("a packet of another cluster")]
    Foreign,
    /// Sealed with a key that is not in the ring.
    #[error("sealed with a key that is not in the ring")]
    UnknownKey,
    /// Somebody changed it, or made it without the key.
    #[error("not sealed with the key that it names")]
    Forged,
    /// Not sealed, though the policy wants that.
    #[error("not sealed")]
    Plain,
    /// Seen before, or too old to know.
    #[error("a packet that came before")]
    Replayed,
}
