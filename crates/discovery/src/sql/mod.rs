//! `sql`: the peers that a database knows, PostgreSQL or a file of SQLite.
//!
//! Three ways: a *query* of the user's that yields nodes or hosts; *our own table* with leases (`table`), into which
//! each agent writes its nodes; and *heartbeats* by `NOTIFY` (`heartbeat`), as three libraries of the libcluster world
//! send them. `store` is the one face of both databases, `drive` what a connection does, `row` how columns are read.
//!
//! Invariants: leases count by the database's clock. A database that fails changes no candidate. A change is known at
//! once where the database can tell (`NOTIFY`, a write to the file), else at the next poll.

mod drive;
pub(crate) mod error;
mod heartbeat;
pub mod migrate;
mod postgres;
mod row;
mod sqlite;
mod store;
mod table;

use std::{path::PathBuf, sync::Arc};

use rand::RngExt as _;
use tokio::time::Duration;

pub use self::error::SqlError;
use self::{
    heartbeat::{Dialect, Heartbeat},
    postgres::Target,
    table::TableName,
};
use crate::{
    Feed, Gives, Naming, Pace, Strategy,
    feed::Work,
    naming::ROLES_FROM,
    settings::{Absent, Key, Kind, Reader},
    tls::{self, TlsFiles},
};

pub(crate) const GIVES: Gives = Gives::Both;

pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "url",
        kind: Kind::Secret,
        absent: Absent::Required,
        doc: "The database: `postgres://user:password@host:5432/database?sslmode=verify-full` or `sqlite:/path/to/file`",
    },
    Key {
        name: "password_file",
        kind: Kind::Path,
        absent: Absent::Unset("the password of `url`"),
        doc: "A file that holds PostgreSQL's password; it is read for each connection, so it may change",
    },
    tls::CA_FILE,
    tls::CERTIFICATE_FILE,
    tls::KEY_FILE,
    Key {
        name: "query",
        kind: Kind::Text,
        absent: Absent::Unset("the peers are in `table`"),
        doc: "A query that yields peers, such as `SELECT * FROM nodes`; its columns are known by their names: `node`, \
              `name`, `host`, `address` or `ip`, `port`, `zone`, `region`, `state`, `instance`, `roles`, `tags`",
    },
    Key {
        name: "table",
        kind: Kind::Text,
        absent: Absent::Default(table::TABLE),
        doc: "The table of leases; `metacluster sql migrate` makes it in PostgreSQL, and a file of SQLite gets it by itself",
    },
    Key {
        name: "register",
        kind: Kind::Boolean,
        absent: Absent::Unset("`true`, and `false` with `query`"),
        doc: "Whether the nodes of this host are written into `table`, or announced with `dialect`",
    },
    Key {
        name: "lease",
        kind: Kind::Duration { least_ms: 2_000, most_ms: 3_600_000 },
        absent: Absent::Default("15s"),
        doc: "How long our rows hold without being renewed, by the clock of the database; they are renewed three times as often",
    },
    Key {
        name: "channel",
        kind: Kind::Text,
        absent: Absent::Unset("the name of `table`; none with `query`; `cluster` with `dialect`"),
        doc: "The channel of PostgreSQL's NOTIFY on which a change is told, or heartbeats go with `dialect`",
    },
    Key {
        name: "dialect",
        kind: Kind::OneOf(Dialect::WORDS),
        absent: Absent::Unset("no heartbeats"),
        doc: "Find peers by heartbeats on `channel`, as the libcluster strategies of these names do: payloads `NODE` \
              (supabase), `heartbeat::NODE` (kevbuchanan), `heartbeat:NODE` and `goodbye:NODE` (firezone); all are understood, one is spoken",
    },
    Key {
        name: "heartbeat",
        kind: Kind::Duration { least_ms: 500, most_ms: 300_000 },
        absent: Absent::Default("5s"),
        doc: "The time between two heartbeats with `dialect`, give or take a tenth; a peer that is silent for three of them is lost",
    },
    ROLES_FROM,
    Pace::interval("5s"),
    Pace::timeout("5s"),
];

/// Where the database is.
enum Where {
    Postgres(Box<Target>),
    Sqlite(PathBuf),
}

impl Where {
    fn read(url: &str, files: TlsFiles, password_file: Option<PathBuf>) -> Result<Self, String> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Target::new(url, files, password_file)
                .map(|target| Self::Postgres(Box::new(target)))
                .map_err(|error| error.to_string());
        }
        let Some(path) = url.strip_prefix("sqlite:") else {
            return Err("is neither `postgres://…` nor `sqlite:/path/to/file`".to_owned());
        };
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.contains([':', '?']) {
            return Err("has no path of a file: expected `sqlite:/path/to/file`".to_owned());
        }
        Ok(Self::Sqlite(path.into()))
    }
}

/// What the settings ask for.
struct Plan {
    place: Where,
    query: Option<String>,
    table: TableName,
    register: bool,
    lease: Duration,
    channel: Option<String>,
    pace: Pace,
    naming: Naming,
}

impl Plan {
    /// The time to the next look-up, if no change is told.
    fn interval(&self) -> Duration {
        self.pace.interval.mul_f64(rand::rng().random_range(0.9..1.1))
    }
}

/// The strategy.
struct Sql {
    plan: Arc<Plan>,
    heartbeat: Option<Heartbeat>,
}

/// The longest name that PostgreSQL has.
const CHANNEL_BYTES_MAX: usize = 63;

pub(crate) fn make(reader: &mut Reader<'_>) -> Box<dyn Strategy> {
    let files = TlsFiles::read(reader);
    let password_file = reader.path("password_file");
    let url = reader.secret("url");
    let place = url.map(|url| Where::read(&String::from_utf8_lossy(url.reveal()), files, password_file));
    let place = match place {
        Some(Ok(place)) => place,
        Some(Err(fault)) => {
            reader.fault("url", &fault);
            Where::Sqlite(PathBuf::new())
        }
        None => Where::Sqlite(PathBuf::new()),
    };
    let query = reader.text("query");
    let table = reader.text("table").unwrap_or_default();
    let table = TableName::new(&table).unwrap_or_else(|fault| {
        reader.fault("table", &fault);
        TableName::usual()
    });
    let register = if reader.is_given("register") { reader.boolean("register") } else { query.is_none() };
    if register && query.is_some() {
        reader.fault("register", "cannot go with `query`: rows are written into `table` alone");
    }
    let dialect = reader.text("dialect").and_then(|word| Dialect::of_word(&word));
    let channel = reader.text("channel");
    if channel.as_ref().is_some_and(|channel| channel.len() > CHANNEL_BYTES_MAX) {
        reader.fault("channel", "is longer than the 63 bytes of a name in PostgreSQL");
    }
    let own_channel = query.is_none().then(|| table.bare().to_owned());
    let channel = channel.or(if dialect.is_some() { Some(heartbeat::CHANNEL.to_owned()) } else { own_channel });
    let is_file = matches!(place, Where::Sqlite(_));
    if dialect == Some(Dialect::Supabase) && !reader.is_given("channel") {
        reader.fault(
            "channel",
            "is missing: there it is the cookie of the nodes, each character but letters, digits and `_` replaced by `_`",
        );
    }
    for key in ["dialect", "channel", "password_file"] {
        if is_file && reader.is_given(key) && reader.is_given("url") {
            reader.fault(key, "has no use with a file of SQLite: it is for PostgreSQL");
        }
    }
    if dialect.is_some() && query.is_some() {
        reader.fault("dialect", "cannot go with `query`: make two topologies of them");
    }
    let (lease, interval) = (reader.duration("lease"), reader.duration("heartbeat"));
    let (pace, naming) = (Pace::read(reader), Naming::read(reader, GIVES));
    let heartbeat = dialect.map(|dialect| Heartbeat { dialect, interval });
    let plan = Arc::new(Plan { place, query, table, register, lease, channel, pace, naming });
    Box::new(Sql { plan, heartbeat })
}

impl Strategy for Sql {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        let plan = Arc::clone(&self.plan);
        match self.heartbeat {
            Some(heartbeat) => Box::pin(heartbeat.run(plan, feed)),
            None => Box::pin(drive::run(plan, feed)),
        }
    }

    fn listens(&self) -> Option<Duration> {
        self.heartbeat.as_ref().map(Heartbeat::listens)
    }
}
