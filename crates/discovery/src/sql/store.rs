//! One database, of either kind: it answers statements with text and says when something changed.

use tokio::time::Duration;

use super::{
    Plan, Where,
    error::SqlError,
    postgres::{Link, Purpose},
    row::Table,
    sqlite::Sqlite,
    table::Flavour,
};

/// How long after a notification the next look-up waits, so that many changes at once are one look-up.
const TOGETHER: Duration = Duration::from_millis(20);

/// An open database.
pub(super) enum Store {
    Postgres {
        link: Box<Link>,
        /// Whether changes are told; else only the end of the connection is noticed.
        listens: bool,
    },
    Sqlite(Sqlite),
}

impl Store {
    /// Opens the database and gets ready to hear of changes. The notes say what cannot be had.
    pub(super) async fn open(plan: &Plan) -> Result<(Self, Vec<String>), SqlError> {
        let mut notes = Vec::new();
        match &plan.place {
            Where::Postgres(target) => {
                let mut link = Link::open(target).await?;
                let listens = match &plan.channel {
                    None => false,
                    Some(channel) => match link.listen(channel, target, plan.pace.timeout).await {
                        Ok(true) => true,
                        Ok(false) => {
                            notes.push(format!(
                                "{} is a pooler that lends connections by the transaction, so LISTEN does not work through it: \
                                 changes are polled for; give the server's own address to know them at once",
                                link.at()
                            ));
                            false
                        }
                        Err(SqlError::ReadOnly) => {
                            notes.push(format!(
                                "{} is a replica, where LISTEN does not work: changes are polled for; give the primary's \
                                 address to know them at once",
                                link.at()
                            ));
                            false
                        }
                        Err(error) => return Err(error),
                    },
                };
                Ok((Self::Postgres { link: Box::new(link), listens }, notes))
            }
            Where::Sqlite(path) => {
                let mut file = Sqlite::open(path, plan.query.is_none()).await?;
                if plan.query.is_none() {
                    file.ask(&plan.table.migration(Flavour::Sqlite), plan.pace.timeout).await?;
                }
                if !file.is_watched() {
                    notes.push(format!(
                        "{} cannot be watched (are there too many inotify instances?): it is looked at ten times a second",
                        path.display()
                    ));
                }
                Ok((Self::Sqlite(file), notes))
            }
        }
    }

    /// Runs statements and gives the rows of the last that has any.
    pub(super) async fn ask(&mut self, plan: &Plan, statements: &str, within: Duration) -> Result<Table, SqlError> {
        match self {
            Self::Postgres { link, .. } => {
                let purpose = if plan.query.is_none() { Purpose::Table(plan.table.as_str()) } else { Purpose::Query };
                link.ask(statements, purpose, within).await
            }
            Self::Sqlite(file) => file.ask(statements, within).await,
        }
    }

    /// Waits until something may have changed. What changed while nobody waited is told at the next call.
    pub(super) async fn notice(&mut self) -> Result<(), SqlError> {
        match self {
            Self::Postgres { link, listens } => {
                loop {
                    link.hear().await?;
                    if *listens {
                        break;
                    }
                }
                tokio::time::sleep(TOGETHER).await;
                while link.hear_now().is_some() {}
                Ok(())
            }
            Self::Sqlite(file) => file.notice().await,
        }
    }
}
