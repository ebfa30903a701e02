//! Why etcd gives no answer, sorted by what to do about it.

use crate::http::HttpError;

/// What failed. No candidate changes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EtcdError {
    /// No answer, or one that is not etcd's.
    #[error("etcd: {0}")]
    Http(HttpError),
    /// The file of the password cannot be read.
    #[error("{0}")]
    Password(String),
    /// What came is not what etcd says.
    #[error("the answer of etcd cannot be read: {what}")]
    Garbage {
        /// What is wrong.
        what: String,
    },
    /// The right on the keys is missing.
    #[error(
        "etcd at {at} denies `{user}` the keys below {prefix}: a role of that user needs \
         `etcdctl role grant-permission ROLE --prefix=true readwrite {prefix}` (`read` is enough with `register = false`)"
    )]
    Right {
        /// The server.
        at: String,
        /// Who asked.
        user: String,
        /// What the keys begin with.
        prefix: String,
    },
    /// The server wants a user and none is given.
    #[error("etcd at {at} wants a user: give `username` and `password_file`")]
    WantsUser {
        /// The server.
        at: String,
    },
    /// User or password is wrong.
    #[error("etcd at {at} refuses `{user}`: the user or the password is wrong")]
    Refused {
        /// The server.
        at: String,
        /// Who asked.
        user: String,
    },
    /// The server knows no users. Handled where it comes.
    #[error("etcd wants no users")]
    NoUsersWanted,
    /// The token has run out. Handled where it comes.
    #[error("etcd does not take its own token")]
    Token,
    /// The lease has run out. Handled where it comes.
    #[error("the lease has run out")]
    LeaseGone,
    /// More keys than are taken.
    #[error("there are more than {max} keys below {prefix}: is that the right `prefix`?")]
    TooMany {
        /// What is allowed.
        max: usize,
        /// What the keys begin with.
        prefix: String,
    },
    /// Anything else that etcd said.
    #[error("etcd at {at} says: {what}")]
    Said {
        /// The server.
        at: String,
        /// What it said.
        what: String,
    },
}
