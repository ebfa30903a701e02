//! Why a walk over terms stops.

/// A walk stopped: what was wrong, and where. Terms tell no length, so there is no way to skip what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}, at byte {at}")]
pub struct RewriteError {
    /// How many bytes of the terms stand before the token that is at fault.
    pub at: u64,
    /// What is wrong.
    pub fault: RewriteFault,
}

/// What is wrong. All but [`RewriteFault::FunTooLarge`], [`RewriteFault::FunTooDeep`] and [`RewriteFault::TooLong`]
/// blame the sender; those three say that a message is more than the caller allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RewriteFault {
    /// A tag that no version of OTP sends to a peer with our flags.
    #[error("unknown tag {0}")]
    UnknownTag(u8),
    /// A name that is not UTF-8, or longer than 255 characters; or something else where an atom must be.
    #[error("an atom that is none, is not UTF-8 or has more than 255 characters")]
    BadAtom,
    /// A number that is not finite, or whose text is no number.
    #[error("a float that is not a finite number")]
    BadFloat,
    /// A reference without words or with more than five, a closure whose size is not what it says, and so on.
    #[error("a malformed {0}")]
    Malformed(&'static str),
    /// The bytes end before the terms do, or a count says more than there is.
    #[error("the terms are cut short")]
    Truncated,
    /// Bytes behind the last term.
    #[error("bytes behind the last term")]
    Trailing,
    /// A closure of more bytes than the limit, before or after its identifiers are replaced.
    #[error("a closure of more than {0} bytes")]
    FunTooLarge(usize),
    /// Closures in closures, deeper than the limit.
    #[error("closures are nested deeper than {0}")]
    FunTooDeep(usize),
    /// More bytes written than the limit.
    #[error("the rewritten terms take more than {0} bytes")]
    TooLong(u64),
}
