//! Our own table: what makes it, and the statements that read, renew and leave it.
//!
//! Each agent has a row for each of its nodes, or one with an empty `node` while it has none. A row holds until
//! `expires_at`, by the clock of the database and never by ours; whoever renews purges what has expired. In PostgreSQL a
//! trigger tells every change of who is there on a channel that is called as the table; a renewal alone is not told.

use std::fmt::Write as _;

use metacluster_types::ClusterName;
use tokio::time::Duration;

use crate::Local;

/// The table, unless the settings name another.
pub(super) const TABLE: &str = "metacluster_nodes";
/// How many rows one agent writes; its nodes beyond are not announced.
const OWN_ROWS_MAX: usize = 256;

/// Which SQL is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    Postgres,
    Sqlite,
}

impl Flavour {
    fn now(self) -> &'static str {
        match self {
            Self::Postgres => "clock_timestamp()",
            Self::Sqlite => "unixepoch('now', 'subsec')",
        }
    }

    fn after(self, lease: Duration) -> String {
        let milliseconds = lease.as_millis();
        match self {
            Self::Postgres => format!("{} + interval '{milliseconds} milliseconds'", self.now()),
            Self::Sqlite => format!("{} + {milliseconds} / 1000.0", self.now()),
        }
    }

    /// A text as it stands in a statement.
    pub(super) fn quote(self, text: &str) -> String {
        let text: String = text.chars().filter(|&letter| letter != '\0').collect();
        let doubled = text.replace('\'', "''");
        match self {
            Self::Postgres if text.contains('\\') => format!("E'{}'", doubled.replace('\\', "\\\\")),
            Self::Postgres | Self::Sqlite => format!("'{doubled}'"),
        }
    }
}

/// A name of a table, maybe with its schema: letters, digits and `_`. It may stand in a statement as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableName(String);

impl TableName {
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let part = |part: &str| {
            let first = part.chars().next().is_some_and(|letter| letter.is_ascii_alphabetic() || letter == '_');
            first && part.len() <= 50 && part.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        };
        if text.split('.').count() <= 2 && text.split('.').all(part) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "`{}` is no name of a table: expected letters, digits and `_`, after `schema.` if need be",
                text.escape_debug()
            ))
        }
    }

    /// [`TABLE`].
    pub(super) fn usual() -> Self {
        Self(TABLE.to_owned())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its schema, as the channel and the function are called.
    pub(super) fn bare(&self) -> &str {
        self.0.rsplit('.').next().unwrap_or(&self.0)
    }

    /// The schema with its dot, or nothing.
    fn schema(&self) -> &str {
        &self.0[..self.0.len() - self.bare().len()]
    }

    /// The statements that make the table, and change nothing where it is there.
    pub(super) fn migration(&self, flavour: Flavour) -> String {
        let (table, bare, schema) = (self.as_str(), self.bare(), self.schema());
        match flavour {
            Flavour::Sqlite => format!(
                "\
CREATE TABLE IF NOT EXISTS {table} (
    cluster    TEXT NOT NULL,
    agent      TEXT NOT NULL,
    node       TEXT NOT NULL,
    host       TEXT,
    address    TEXT,
    port       INTEGER,
    region     TEXT,
    zone       TEXT,
    roles      TEXT,
    tags       TEXT,
    expires_at REAL NOT NULL,
    PRIMARY KEY (cluster, agent, node)
) WITHOUT ROWID;
"
            ),
            Flavour::Postgres => format!(
                "\
BEGIN;
SELECT pg_advisory_xact_lock(hashtext('metacluster {table}'));
CREATE TABLE IF NOT EXISTS {table} (
    cluster    text NOT NULL,
    agent      text NOT NULL,
    node       text NOT NULL,
    host       text,
    address    text,
    port       integer,
    region     text,
    zone       text,
    roles      text,
    tags       text,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (cluster, agent, node)
);
CREATE OR REPLACE FUNCTION {schema}{bare}_changed() RETURNS trigger LANGUAGE plpgsql AS $metacluster$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM pg_notify('{bare}', OLD.cluster);
    ELSE
        PERFORM pg_notify('{bare}', NEW.cluster);
    END IF;
    RETURN NULL;
END
$metacluster$;
DROP TRIGGER IF EXISTS {bare}_came_or_went ON {table};
CREATE TRIGGER {bare}_came_or_went AFTER INSERT OR DELETE ON {table}
    FOR EACH ROW EXECUTE PROCEDURE {schema}{bare}_changed();
DROP TRIGGER IF EXISTS {bare}_differs ON {table};
CREATE TRIGGER {bare}_differs AFTER UPDATE ON {table} FOR EACH ROW
    WHEN ((OLD.host, OLD.address, OLD.port, OLD.region, OLD.zone, OLD.roles, OLD.tags)
          IS DISTINCT FROM (NEW.host, NEW.address, NEW.port, NEW.region, NEW.zone, NEW.roles, NEW.tags))
    EXECUTE PROCEDURE {schema}{bare}_changed();
COMMIT;
"
            ),
        }
    }

    /// Who is there.
    pub(super) fn list(&self, flavour: Flavour, cluster: &ClusterName) -> String {
        let (table, now, cluster) = (self.as_str(), flavour.now(), flavour.quote(cluster.as_str()));
        format!("SELECT * FROM {table} WHERE cluster = {cluster} AND expires_at > {now}")
    }

    /// Purges what has expired, writes our rows, and removes those of ours that are no more. One transaction.
    pub(super) fn renew(&self, flavour: Flavour, local: &Local, lease: Duration) -> String {
        let (table, now) = (self.as_str(), flavour.now());
        let (cluster, agent) = (flavour.quote(local.cluster.as_str()), flavour.quote(&local.agent.to_string()));
        let until = flavour.after(lease);
        let rows = rows(flavour, local);
        let values: Vec<String> = rows
            .iter()
            .map(|row| {
                format!(
                    "({cluster}, {agent}, {}, {}, {}, {}, {}, {until})",
                    row.node, row.host, row.address, row.region, row.zone
                )
            })
            .collect();
        let nodes: Vec<&str> = rows.iter().map(|row| row.node.as_str()).collect();
        let (values, nodes) = (values.join(", "), nodes.join(", "));
        // Two agents that purge the same rows must not wait for each other in turns.
        let expired = match flavour {
            Flavour::Postgres => format!(
                "DELETE FROM {table} WHERE expires_at <= {now} AND (cluster, agent, node) IN \
                 (SELECT cluster, agent, node FROM {table} WHERE expires_at <= {now} FOR UPDATE SKIP LOCKED)"
            ),
            Flavour::Sqlite => format!("DELETE FROM {table} WHERE expires_at <= {now}"),
        };
        let begin = match flavour {
            Flavour::Postgres => "BEGIN",
            Flavour::Sqlite => "BEGIN IMMEDIATE",
        };
        let mut text = String::new();
        // Writing to a string cannot fail.
        write!(
            text,
            "{begin}; {expired}; \
             INSERT INTO {table} (cluster, agent, node, host, address, region, zone, expires_at) VALUES {values} \
             ON CONFLICT (cluster, agent, node) DO UPDATE SET host = excluded.host, address = excluded.address, \
             region = excluded.region, zone = excluded.zone, expires_at = excluded.expires_at; \
             DELETE FROM {table} WHERE cluster = {cluster} AND agent = {agent} AND node NOT IN ({nodes}); COMMIT"
        )
        .ok();
        text
    }

    /// Removes our rows.
    pub(super) fn leave(&self, flavour: Flavour, local: &Local) -> String {
        let (table, cluster) = (self.as_str(), flavour.quote(local.cluster.as_str()));
        format!("DELETE FROM {table} WHERE cluster = {cluster} AND agent = {}", flavour.quote(&local.agent.to_string()))
    }
}

struct OwnRow {
    node: String,
    host: String,
    address: String,
    region: String,
    zone: String,
}

fn rows(flavour: Flavour, local: &Local) -> Vec<OwnRow> {
    let text = |text: Option<&str>| text.map_or_else(|| "NULL".to_owned(), |text| flavour.quote(text));
    let region = text(local.place.region.as_ref().map(metacluster_types::Region::as_str));
    let zone = text(local.place.zone.as_ref().map(metacluster_types::Zone::as_str));
    let row = |node: &str, host: Option<&str>| {
        let is_address = host.is_some_and(|host| host.parse::<std::net::IpAddr>().is_ok());
        let (host, address) = if is_address { (None, host) } else { (host, None) };
        let (node, region, zone) = (flavour.quote(node), region.clone(), zone.clone());
        OwnRow { node, host: text(host), address: text(address), region, zone }
    };
    if local.nodes.is_empty() {
        return vec![row("", None)];
    }
    local.nodes.iter().take(OWN_ROWS_MAX).map(|node| row(node.as_str(), Some(node.host()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_text_ends_no_statement() {
        for (text, postgres, sqlite) in [
            ("a", "'a'", "'a'"),
            ("o'hara", "'o''hara'", "'o''hara'"),
            (r"\'; DROP", r"E'\\''; DROP'", r"'\''; DROP'"),
            ("a\0b", "'ab'", "'ab'"),
        ] {
            assert_eq!(Flavour::Postgres.quote(text), postgres);
            assert_eq!(Flavour::Sqlite.quote(text), sqlite);
        }
    }

    #[test]
    fn a_table_has_a_plain_name() {
        let table = TableName::new("ops.nodes_1").expect("a name");
        assert_eq!((table.bare(), table.schema()), ("nodes_1", "ops."));
        assert_eq!(TableName::new(TABLE).expect("a name").schema(), "");
        for text in ["", "a b", "a;b", "1a", "a.b.c", ".a", "a.", "ä", &"a".repeat(51)] {
            assert!(TableName::new(text).is_err(), "{text}");
        }
    }
}
