//! What PostgreSQL says when it refuses, as an error that says what to do. Follows PostgreSQL's appendix A, *Error codes*.

use tokio_postgres::{Error, error::SqlState};

use crate::sql::error::SqlError;

/// What a statement is for, and so what is told when it is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose<'a> {
    /// The settings' query, or something that every role may do.
    Query,
    /// Our own table.
    Table(&'a str),
    /// To make our own table.
    Migration,
}

/// Who asked whom for what.
pub(super) struct Asked<'a> {
    pub(super) at: &'a str,
    pub(super) user: &'a str,
    pub(super) purpose: Purpose<'a>,
}

impl Asked<'_> {
    /// Sorts an error of the connection or of a statement.
    pub(super) fn explain(&self, error: &Error) -> SqlError {
        let at = self.at.to_owned();
        let Some(said) = error.as_db_error() else { return self.explain_connection(error) };
        let what = said.message().to_owned();
        let code = said.code();
        let refused = [
            SqlState::INVALID_PASSWORD,
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            SqlState::INVALID_CATALOG_NAME,
            SqlState::TOO_MANY_CONNECTIONS,
        ];
        if refused.contains(code) {
            return SqlError::Refused { at, user: self.user.to_owned(), what };
        }
        if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
            return SqlError::ReadOnly;
        }
        if *code == SqlState::INSUFFICIENT_PRIVILEGE {
            return SqlError::Right { grant: self.grant(&what), what };
        }
        if *code == SqlState::UNDEFINED_TABLE {
            let help = match self.purpose {
                Purpose::Table(_) => "make it with `metacluster sql migrate postgres://…`",
                Purpose::Query | Purpose::Migration => "is the database the right one, does the table need its schema?",
            };
            return SqlError::NoTable { what, help: help.to_owned() };
        }
        if *code == SqlState::CANNOT_CONNECT_NOW {
            return SqlError::Unreachable { at, what };
        }
        // 57P01 to 57P04: the server ends the connection.
        if code.code().starts_with("57P") {
            return SqlError::Closed { at, what };
        }
        let hint = said.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
        SqlError::Said(format!("{what}{hint} (SQLSTATE {})", code.code()))
    }

    fn explain_connection(&self, error: &Error) -> SqlError {
        let at = self.at.to_owned();
        let mut innermost: &(dyn std::error::Error + 'static) = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        let what = innermost.to_string();
        // tokio-postgres has no other mark for these.
        match error.to_string().as_str() {
            "error performing TLS handshake" => SqlError::Tls { at, what },
            "authentication error" | "invalid configuration" => {
                SqlError::Refused { at, user: self.user.to_owned(), what }
            }
            _ => SqlError::Closed { at, what },
        }
    }

    /// The statement that gives the right which is missing.
    fn grant(&self, what: &str) -> String {
        let user = self.user;
        let object = what.rsplit(' ').next().unwrap_or_default();
        let schema = what.starts_with("permission denied for schema");
        match self.purpose {
            Purpose::Migration if schema => format!("GRANT USAGE, CREATE ON SCHEMA {object} TO {user}"),
            Purpose::Migration => "metacluster sql migrate".to_owned(),
            Purpose::Query | Purpose::Table(_) if schema => format!("GRANT USAGE ON SCHEMA {object} TO {user}"),
            Purpose::Table(table) => format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {user}"),
            Purpose::Query if what.starts_with("permission denied for function") => {
                format!("GRANT EXECUTE ON FUNCTION {object} TO {user}")
            }
            Purpose::Query => format!("GRANT SELECT ON {object} TO {user}"),
        }
    }
}
