//! Why a database gives no answer, sorted by what to do about it, each with the right that is missing or the command
//! that helps.

use metacluster_types::time::format_duration;
use tokio::time::Duration;

use crate::tls::TlsFilesError;

/// What failed. No candidate changes; the line is for whoever is on call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SqlError {
    /// The address is none. Nothing was sent.
    #[error("{0}")]
    Url(String),
    /// A certificate, a key or the password's file cannot be used. Nothing was sent.
    #[error(transparent)]
    Files(#[from] TlsFilesError),
    /// The file of the password cannot be read.
    #[error("{0}")]
    Password(String),
    /// No connection to the server.
    #[error("PostgreSQL at {at} cannot be reached: {what}")]
    Unreachable {
        /// The server.
        at: String,
        /// What the system said.
        what: String,
    },
    /// No server of the address is of the kind that `target_session_attrs` asks for.
    #[error("{at} takes no writes, and the address asks for `target_session_attrs=read-write`")]
    WrongKind {
        /// The server.
        at: String,
    },
    /// TLS failed, or one side does not want it.
    #[error("no TLS with PostgreSQL at {at}: {what}")]
    Tls {
        /// The server.
        at: String,
        /// What failed.
        what: String,
    },
    /// The server refused who asks: password, role, `pg_hba.conf`, database.
    #[error("PostgreSQL at {at} refuses `{user}`: {what}")]
    Refused {
        /// The server.
        at: String,
        /// The role that asked.
        user: String,
        /// What the server said.
        what: String,
    },
    /// A right is missing.
    #[error("{what}: a superuser or the owner has to run `{grant}`")]
    Right {
        /// What the server said.
        what: String,
        /// The statement that helps.
        grant: String,
    },
    /// The server or the transaction takes no writes.
    #[error("the database takes no writes")]
    ReadOnly,
    /// The table of the query or our own table is not there.
    #[error("{what}; {help}")]
    NoTable {
        /// What the database said.
        what: String,
        /// What makes the table.
        help: String,
    },
    /// The query gives no column that says who.
    #[error(
        "the query gives the columns {}, and none says who: expected `node`, `name`, `host`, `address` or `ip`, such as \
         `SELECT hostname AS node …`",
        shown(columns)
    )]
    Columns {
        /// The columns.
        columns: Vec<String>,
    },
    /// No row of the answer can be read.
    #[error("no row of the answer can be read; the first: {what}")]
    Rows {
        /// What is wrong with the first.
        what: String,
    },
    /// More rows or bytes than are taken.
    #[error("the query gives more than {max}: give it a WHERE or a LIMIT")]
    TooMuch {
        /// What is allowed.
        max: String,
    },
    /// No answer in time.
    #[error("{at} did not answer within {}: is it overloaded, is the query slow? (`timeout`)", format_duration(*within))]
    Slow {
        /// The database.
        at: String,
        /// The time that it had.
        within: Duration,
    },
    /// The connection is gone.
    #[error("PostgreSQL at {at} closed the connection: {what}")]
    Closed {
        /// The server.
        at: String,
        /// Why, as far as it said.
        what: String,
    },
    /// The file of SQLite cannot be used.
    #[error("{path}: {what}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// Anything else that the database said, such as a fault of the query.
    #[error("the database says: {0}")]
    Said(String),
}

fn shown(columns: &[String]) -> String {
    const SHOWN_MAX: usize = 12;
    let mut shown: Vec<String> =
        columns.iter().take(SHOWN_MAX).map(|column| format!("`{}`", column.escape_debug())).collect();
    if columns.len() > SHOWN_MAX {
        shown.push("…".to_owned());
    }
    if shown.is_empty() { "(none)".to_owned() } else { shown.join(", ") }
}

impl SqlError {
    /// Whether another connection is the way on. Else the connection is good, and what was asked of it was not.
    pub(super) fn ends_connection(&self) -> bool {
        match self {
            Self::Url(_)
            | Self::Files(_)
            | Self::Password(_)
            | Self::Unreachable { .. }
            | Self::WrongKind { .. }
            | Self::Tls { .. }
            | Self::Refused { .. }
            | Self::TooMuch { .. }
            | Self::Slow { .. }
            | Self::Closed { .. }
            | Self::File { .. } => true,
            Self::Right { .. }
            | Self::ReadOnly
            | Self::NoTable { .. }
            | Self::Columns { .. }
            | Self::Rows { .. }
            | Self::Said(_) => false,
        }
    }
}
