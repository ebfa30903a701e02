//! Makes the table of leases, for `metacluster sql migrate`.

use std::path::PathBuf;

use tokio::time::Duration;

use super::{
    SqlError, Where,
    postgres::{Link, Purpose},
    sqlite::Sqlite,
    table::{Flavour, TABLE, TableName},
};
use crate::tls::TlsFiles;

/// How long the statements may take: another migration may hold the lock.
const WITHIN: Duration = Duration::from_secs(60);

/// Which table, and where.
pub struct Migration {
    place: Where,
    table: TableName,
}

impl Migration {
    /// The table (`metacluster_nodes`, unless another is named) of the database at `url`, as the strategy's keys have them.
    ///
    /// # Errors
    /// A line that says what is wrong with the address or the name. It repeats no password.
    pub fn new(
        url: &str,
        table: Option<&str>,
        files: TlsFiles,
        password_file: Option<PathBuf>,
    ) -> Result<Self, String> {
        let place = Where::read(url, files, password_file).map_err(|fault| format!("the address {fault}"))?;
        Ok(Self { place, table: TableName::new(table.unwrap_or(TABLE))? })
    }

    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        self.table.as_str()
    }

    /// The statements.
    #[must_use]
    pub fn statements(&self) -> String {
        self.table.migration(match self.place {
            Where::Postgres(_) => Flavour::Postgres,
            Where::Sqlite(_) => Flavour::Sqlite,
        })
    }

    /// Runs them. Where the table is there already, nothing changes.
    ///
    /// # Errors
    /// What the database refused; then nothing was changed.
    pub async fn run(&self) -> Result<(), SqlError> {
        let statements = self.statements();
        match &self.place {
            Where::Postgres(target) => {
                let mut link = Link::open(target).await?;
                link.ask(&statements, Purpose::Migration, WITHIN).await.map(drop)
            }
            Where::Sqlite(path) => Sqlite::open(path, true).await?.ask(&statements, WITHIN).await.map(drop),
        }
    }
}

impl std::fmt::Debug for Migration {
    /// Shows no address: it may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Migration").field("table", &self.table()).finish_non_exhaustive()
    }
}
