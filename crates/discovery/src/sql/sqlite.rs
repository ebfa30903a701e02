//! A file of SQLite: statements whose answers are text, and the word that another process wrote.
//!
//! The file is shared by all agents of a host. Statements run on blocking threads, one at a time; one whose caller is gone
//! is interrupted. That someone wrote is told by the file system and confirmed by `PRAGMA data_version`, which is looked
//! at again shortly after: the bytes of a commit are there before the commit is. A file that was removed or replaced is no
//! longer the one that is open, so the connection ends then.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use notify::{EventKind, RecursiveMode, Watcher as _};
use rusqlite::{
    Batch, Connection, ErrorCode, InterruptHandle, OpenFlags, fallible_iterator::FallibleIterator as _, types::ValueRef,
};
use tokio::{
    sync::Notify,
    time::{Duration, sleep, timeout},
};

use super::{error::SqlError, row::Table};

/// How long a statement waits for another process to finish writing.
const BUSY_WITHIN: Duration = Duration::from_secs(2);
/// When the version is looked at after the file was written to.
const LOOKS: [Duration; 3] = [Duration::from_millis(5), Duration::from_millis(20), Duration::from_millis(80)];
/// How often the version is looked at where the file cannot be watched.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How many rows an answer may have.
const ROWS_MAX: usize = 20_000;
/// How many bytes the values of an answer may have together.
const BYTES_MAX: usize = 64 << 20;

/// An open file.
pub(super) struct Sqlite {
    path: PathBuf,
    identity: Identity,
    connection: Arc<Mutex<Connection>>,
    interrupt: Arc<InterruptHandle>,
    written: Arc<Notify>,
    /// `None` where the file cannot be watched.
    watcher: Option<notify::RecommendedWatcher>,
    version: i64,
}

impl Sqlite {
    /// Opens the file; with `writes` it is made if need be.
    pub(super) async fn open(path: &Path, writes: bool) -> Result<Self, SqlError> {
        let own = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || open(&own, writes)).await;
        let (connection, version, identity) = opened.map_err(|error| SqlError::Said(error.to_string()))??;
        let interrupt = Arc::new(connection.get_interrupt_handle());
        let written = Arc::new(Notify::new());
        let watcher = watch(path, Arc::clone(&written)).ok();
        let connection = Arc::new(Mutex::new(connection));
        Ok(Self { path: path.to_owned(), identity, connection, interrupt, written, watcher, version })
    }

    /// Whether writes of others are told by the file system.
    pub(super) fn is_watched(&self) -> bool {
        self.watcher.is_some()
    }

    /// Runs statements and gives the rows of the last that has any.
    pub(super) async fn ask(&mut self, statements: &str, within: Duration) -> Result<Table, SqlError> {
        self.stands()?;
        let (path, statements) = (self.path.clone(), statements.to_owned());
        self.blocking(within, move |connection| answer(connection, &statements).map_err(|error| error.explain(&path)))
            .await
    }

    /// Waits until another connection has written.
    pub(super) async fn notice(&mut self) -> Result<(), SqlError> {
        loop {
            if self.is_watched() {
                self.written.notified().await;
                for wait in LOOKS {
                    sleep(wait).await;
                    if self.has_changed().await? {
                        return Ok(());
                    }
                }
            } else {
                sleep(LOOK_EVERY).await;
                if self.has_changed().await? {
                    return Ok(());
                }
            }
        }
    }

    /// Whether the file that is open is the one of the path.
    fn stands(&self) -> Result<(), SqlError> {
        let file = |what: &str| SqlError::File { path: self.path.display().to_string(), what: what.to_owned() };
        match identity(&self.path) {
            Some(identity) if self.identity.is_some_and(|own| own != identity) => {
                Err(file("was replaced by another file, which is opened now"))
            }
            Some(_) => Ok(()),
            None => Err(file("is not there any more: was it removed or renamed?")),
        }
    }

    async fn has_changed(&mut self) -> Result<bool, SqlError> {
        self.stands()?;
        let path = self.path.clone();
        let version = self
            .blocking(BUSY_WITHIN * 2, move |connection| {
                version(connection).map_err(|error| Fault::Sqlite(error).explain(&path))
            })
            .await?;
        Ok(std::mem::replace(&mut self.version, version) != version)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        within: Duration,
        work: impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, SqlError> {
        let connection = Arc::clone(&self.connection);
        let mut guard = Interrupt(Some(Arc::clone(&self.interrupt)));
        let task =
            tokio::task::spawn_blocking(move || work(&connection.lock().unwrap_or_else(PoisonError::into_inner)));
        let slow = |_| SqlError::Slow { at: self.path.display().to_string(), within };
        let done = timeout(within, task).await.map_err(slow)?;
        guard.0 = None;
        done.map_err(|error| SqlError::Said(error.to_string()))?
    }
}

/// Interrupts the statement at work when it is dropped.
struct Interrupt(Option<Arc<InterruptHandle>>);

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.interrupt();
        }
    }
}

/// Device and inode. `None` for a file that is not there.
type Identity = Option<(u64, u64)>;

fn identity(path: &Path) -> Identity {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn open(path: &Path, writes: bool) -> Result<(Connection, i64, Identity), SqlError> {
    let explain = |error| Fault::Sqlite(error).explain(path);
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX
        | if writes {
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE
        } else {
            OpenFlags::SQLITE_OPEN_READ_ONLY
        };
    let before = identity(path);
    let connection = Connection::open_with_flags(path, flags).map_err(explain)?;
    // One that came between is found to be another at the first look.
    let identity = before.or_else(|| identity(path));
    connection.busy_timeout(BUSY_WITHIN).map_err(explain)?;
    if writes {
        // Readers and one writer at a time do not wait for each other then. A lease that a power cut takes with it is
        // renewed soon, so the last commits need not be on the disk.
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(explain)?;
        if !mode.eq_ignore_ascii_case("wal") {
            tracing::debug!(path = %path.display(), mode, "the file takes no write-ahead log");
        }
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(explain)?;
    }
    let version = version(&connection).map_err(explain)?;
    Ok((connection, version, identity))
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA data_version", [], |row| row.get(0))
}

/// Tells writes to the file, to its write-ahead log and to its journal.
fn watch(path: &Path, written: Arc<Notify>) -> notify::Result<notify::RecommendedWatcher> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let ours = |path: &PathBuf| {
            path.file_name().is_some_and(|file| {
                let file = file.to_string_lossy();
                file.strip_prefix(&name).is_some_and(|end| ["", "-wal", "-journal"].contains(&end))
            })
        };
        let written_to = match event {
            Ok(event) => !matches!(event.kind, EventKind::Access(_)) && event.paths.iter().any(ours),
            // Events were lost: one of them may have been ours.
            Err(_) => true,
        };
        if written_to {
            written.notify_one();
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

enum Fault {
    Sqlite(rusqlite::Error),
    TooMuch(String),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn answer(connection: &Connection, statements: &str) -> Result<Table, Fault> {
    let answer = run(connection, statements);
    if answer.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK").ok();
    }
    answer
}

fn run(connection: &Connection, statements: &str) -> Result<Table, Fault> {
    let mut answer = Table::default();
    let mut batch = Batch::new(connection, statements);
    while let Some(mut statement) = batch.next()? {
        let columns: Vec<String> = statement.column_names().map(ToOwned::to_owned).collect();
        let mut rows = statement.raw_query();
        let mut read = Vec::new();
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            if read.len() == ROWS_MAX {
                return Err(Fault::TooMuch(format!("{ROWS_MAX} rows")));
            }
            let mut values = Vec::with_capacity(columns.len());
            for at in 0..columns.len() {
                let value = match row.get_ref(at)? {
                    ValueRef::Null | ValueRef::Blob(_) => None,
                    ValueRef::Integer(number) => Some(number.to_string()),
                    ValueRef::Real(number) => Some(number.to_string()),
                    ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
                };
                bytes += value.as_ref().map_or(0, String::len);
                if bytes > BYTES_MAX {
                    return Err(Fault::TooMuch(format!("{BYTES_MAX} bytes")));
                }
                values.push(value);
            }
            read.push(values);
        }
        if !columns.is_empty() {
            answer = Table { columns, rows: read };
        }
    }
    Ok(answer)
}

impl Fault {
    fn explain(self, path: &Path) -> SqlError {
        let error = match self {
            Self::Sqlite(error) => error,
            Self::TooMuch(max) => return SqlError::TooMuch { max },
        };
        let file = |what: &str| SqlError::File { path: path.display().to_string(), what: what.to_owned() };
        let text =
            if let rusqlite::Error::SqliteFailure(_, Some(text)) = &error { text.clone() } else { error.to_string() };
        if text.starts_with("no such table") {
            return SqlError::NoTable { what: text, help: format!("is {} the right file?", path.display()) };
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::CannotOpen) => {
                file("cannot be opened: does the folder exist, and may this user read and write there?")
            }
            Some(ErrorCode::NotADatabase) => file("is no database of SQLite"),
            Some(ErrorCode::DatabaseCorrupt) => file("is damaged: remove it, or restore it from a copy"),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                file("is locked by another process; is one of them hung?")
            }
            Some(ErrorCode::DiskFull) => file("cannot be written: the disk is full"),
            Some(ErrorCode::PermissionDenied) => file("may not be used by this user"),
            Some(ErrorCode::ReadOnly) => SqlError::ReadOnly,
            Some(_) | None => SqlError::Said(text),
        }
    }
}
