//! Refusals: each is the caller's to mend, and nothing has changed.

use super::{ANSWER_BYTES_MAX, FILTER_BYTES_MAX, FILTER_PARTS_MAX, NAME_BYTES_MAX, PAYLOAD_BYTES_MAX, TIMEOUT_MAX};

/// Why an event, a query or an answer is not sent. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// A name is a text without control characters. Name it otherwise.
    #[error("a name is a text without control characters, and not empty")]
    Name,
    /// The name is too long by itself. Shorten it.
    #[error("the name has {0} bytes; {NAME_BYTES_MAX} are the most")]
    NameTooLong(usize),
    /// The payload does not fit into one packet. Send where it is to be had, not the thing itself.
    #[error("the payload has {0} bytes; {PAYLOAD_BYTES_MAX} are the most")]
    PayloadTooLong(usize),
    /// The answer is longer than the asker takes. Shorten it.
    #[error("the answer has {0} bytes; {ANSWER_BYTES_MAX} are the most")]
    AnswerTooLong(usize),
    /// The filter has too many parts, or they are too long.
    #[error(
        "the filter is too long: {FILTER_PARTS_MAX} members, roles and tags of {FILTER_BYTES_MAX} bytes are the most"
    )]
    FilterTooLong,
    /// A query may not take so long.
    #[error("a query may take from one millisecond up to {} minutes", TIMEOUT_MAX.as_secs() / 60)]
    Timeout,
    /// More than others would take from one member. Try again in a second.
    #[error("too many at once; try again in a second")]
    TooMany,
    /// The query has ended, or was answered before; what was to be said is lost.
    #[error("the query has ended, or was answered already")]
    Late,
    /// This member has left, or is silent.
    #[error("this member has left")]
    Left,
}
