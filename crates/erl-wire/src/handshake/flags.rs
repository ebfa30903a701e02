//! The capabilities that two nodes tell each other. What both have rules the connection.

use std::fmt;

/// A set of capabilities.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(pub u64);

impl Flags {
    /// Known to others: a node without it is hidden.
    pub const PUBLISHED: Self = Self(0x1);
    /// References of more than one word.
    pub const EXTENDED_REFERENCES: Self = Self(0x4);
    /// Monitors of processes.
    pub const DIST_MONITOR: Self = Self(0x8);
    /// Closures as terms of their own.
    pub const FUN_TAGS: Self = Self(0x10);
    /// Monitors by registered name.
    pub const DIST_MONITOR_NAME: Self = Self(0x20);
    /// Closures in their current form.
    pub const NEW_FUN_TAGS: Self = Self(0x80);
    /// Pids and ports of full width.
    pub const EXTENDED_PIDS_PORTS: Self = Self(0x100);
    /// `fun M:F/A` as a term of its own.
    pub const EXPORT_PTR_TAG: Self = Self(0x200);
    /// Bit strings.
    pub const BIT_BINARIES: Self = Self(0x400);
    /// Floats of eight bytes.
    pub const NEW_FLOATS: Self = Self(0x800);
    /// Unicode in the protocol of input and output.
    pub const UNICODE_IO: Self = Self(0x1000);
    /// A header with a cache of atoms before each message. We never offer it: it ties every frame to the state of its
    /// connection.
    pub const DIST_HDR_ATOM_CACHE: Self = Self(0x2000);
    /// Atoms with a length of one byte.
    pub const SMALL_ATOM_TAGS: Self = Self(0x4000);
    /// Atoms in UTF-8.
    pub const UTF8_ATOMS: Self = Self(0x1_0000);
    /// Maps.
    pub const MAP_TAG: Self = Self(0x2_0000);
    /// Creations of four bytes.
    pub const BIG_CREATION: Self = Self(0x4_0000);
    /// Operation 22, which names the sender of a message.
    pub const SEND_SENDER: Self = Self(0x8_0000);
    /// Labels of trace tokens that are any term.
    pub const BIG_SEQTRACE_LABELS: Self = Self(0x10_0000);
    /// Exit reasons as payload.
    pub const EXIT_PAYLOAD: Self = Self(0x40_0000);
    /// Large messages in pieces.
    pub const FRAGMENTS: Self = Self(0x80_0000);
    /// The handshake of OTP 23, which is the one of this crate.
    pub const HANDSHAKE_23: Self = Self(0x100_0000);
    /// Unlinks with an answer.
    pub const UNLINK_ID: Self = Self(0x200_0000);
    /// Short for [`Flags::SET_25`]. The guide says bit 36; OTP's headers and code say this one.
    pub const MANDATORY_25_DIGEST: Self = Self(0x400_0000);
    /// Operation 29.
    pub const SPAWN: Self = Self(1 << 32);
    /// Not a capability but a request: give me a name.
    pub const NAME_ME: Self = Self(1 << 33);
    /// Pids, ports and references of 64 bits and more.
    pub const V4_NC: Self = Self(1 << 34);
    /// Sends to an alias. Without it, OTP drops them without a word.
    pub const ALIAS: Self = Self(1 << 35);
    /// Operation 37, from OTP 28.
    pub const ALTACT_SIG: Self = Self(1 << 37);

    /// What OTP 25 demands of every peer.
    pub const SET_25: Self = Self::EXTENDED_REFERENCES
        .and(Self::FUN_TAGS)
        .and(Self::NEW_FUN_TAGS)
        .and(Self::EXTENDED_PIDS_PORTS)
        .and(Self::EXPORT_PTR_TAG)
        .and(Self::BIT_BINARIES)
        .and(Self::NEW_FLOATS)
        .and(Self::UTF8_ATOMS)
        .and(Self::MAP_TAG)
        .and(Self::BIG_CREATION)
        .and(Self::HANDSHAKE_23);

    /// What OTP 26 to 29 demand of every peer.
    pub const SET_26: Self = Self::SET_25.and(Self::UNLINK_ID).and(Self::V4_NC);

    /// What we demand of every peer: what OTP 25 has, which is the oldest that we talk to.
    pub const REQUIRED: Self = Self::SET_25;

    /// What we offer, hidden. It makes OTP send fragments and no cache of atoms. [`Flags::ALTACT_SIG`] is left out: without
    /// it OTP 28 and 29 say the same in the operations that every release knows, so what a relay takes from one node another
    /// one reads.
    pub const HIDDEN_NODE: Self = Self::SET_26
        .and(Self::MANDATORY_25_DIGEST)
        .and(Self::DIST_MONITOR)
        .and(Self::DIST_MONITOR_NAME)
        .and(Self::UNICODE_IO)
        .and(Self::SMALL_ATOM_TAGS)
        .and(Self::SEND_SENDER)
        .and(Self::BIG_SEQTRACE_LABELS)
        .and(Self::EXIT_PAYLOAD)
        .and(Self::FRAGMENTS)
        .and(Self::SPAWN)
        .and(Self::ALIAS);

    /// What we offer: [`Flags::HIDDEN_NODE`], and for a visible node [`Flags::PUBLISHED`].
    #[must_use]
    pub const fn offered(hidden: bool) -> Self {
        if hidden { Self::HIDDEN_NODE } else { Self::HIDDEN_NODE.and(Self::PUBLISHED) }
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These, but not those.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What both have.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of those are here.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The same set with what [`Flags::MANDATORY_25_DIGEST`] stands for written out.
    #[must_use]
    pub const fn expanded(self) -> Self {
        if self.has(Self::MANDATORY_25_DIGEST) { self.and(Self::SET_25) } else { self }
    }
}

/// The names, for messages that say what a peer lacks.
const NAMES: &[(Flags, &str)] = &[
    (Flags::PUBLISHED, "PUBLISHED"),
    (Flags::EXTENDED_REFERENCES, "EXTENDED_REFERENCES"),
    (Flags::DIST_MONITOR, "DIST_MONITOR"),
    (Flags::FUN_TAGS, "FUN_TAGS"),
    (Flags::DIST_MONITOR_NAME, "DIST_MONITOR_NAME"),
    (Flags::NEW_FUN_TAGS, "NEW_FUN_TAGS"),
    (Flags::EXTENDED_PIDS_PORTS, "EXTENDED_PIDS_PORTS"),
    (Flags::EXPORT_PTR_TAG, "EXPORT_PTR_TAG"),
    (Flags::BIT_BINARIES, "BIT_BINARIES"),
    (Flags::NEW_FLOATS, "NEW_FLOATS"),
    (Flags::UNICODE_IO, "UNICODE_IO"),
    (Flags::DIST_HDR_ATOM_CACHE, "DIST_HDR_ATOM_CACHE"),
    (Flags::SMALL_ATOM_TAGS, "SMALL_ATOM_TAGS"),
    (Flags::UTF8_ATOMS, "UTF8_ATOMS"),
    (Flags::MAP_TAG, "MAP_TAG"),
    (Flags::BIG_CREATION, "BIG_CREATION"),
    (Flags::SEND_SENDER, "SEND_SENDER"),
    (Flags::BIG_SEQTRACE_LABELS, "BIG_SEQTRACE_LABELS"),
    (Flags::EXIT_PAYLOAD, "EXIT_PAYLOAD"),
    (Flags::FRAGMENTS, "FRAGMENTS"),
    (Flags::HANDSHAKE_23, "HANDSHAKE_23"),
    (Flags::UNLINK_ID, "UNLINK_ID"),
    (Flags::MANDATORY_25_DIGEST, "MANDATORY_25_DIGEST"),
    (Flags::SPAWN, "SPAWN"),
    (Flags::NAME_ME, "NAME_ME"),
    (Flags::V4_NC, "V4_NC"),
    (Flags::ALIAS, "ALIAS"),
    (Flags::ALTACT_SIG, "ALTACT_SIG"),
];

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = *self;
        let mut separator = "";
        for (flag, name) in NAMES {
            if rest.has(*flag) {
                write!(f, "{separator}{name}")?;
                separator = " ";
                rest = rest.without(*flag);
            }
        }
        if rest.is_empty() { Ok(()) } else { write!(f, "{separator}{:#x}", rest.0) }
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({:#x}: {self})", self.0)
    }
}
