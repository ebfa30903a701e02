//! The sources of one host: files and programs, which commit each fault in their own way.

use std::{
    fmt::Write as _,
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Mutex,
};

use metacluster_testbed::Wire;
use rusqlite::Connection;
use tempfile::TempDir;

use super::Source;

/// No text, no JSON, no database.
const GARBAGE: &[u8] = b"\xff\xfe\x00 lorem ipsum \x00\x13\x37";
/// Longer than anything that is read.
const ENDLESS: u64 = 1 << 40;

/// A file that lists the hosts.
pub(crate) struct Listed {
    folder: TempDir,
    /// How its spec begins.
    strategy: &'static str,
    text: fn(&[Ipv4Addr]) -> String,
    state: Mutex<(Vec<Ipv4Addr>, Wire)>,
}

impl Listed {
    fn new(strategy: &'static str, text: fn(&[Ipv4Addr]) -> String) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, strategy, text, state: Mutex::new((Vec::new(), Wire::Good)) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("peers")
    }

    fn write(&self) {
        let (hosts, wire) = &*self.state.lock().expect("whole");
        let (path, text) = (self.path(), (self.text)(hosts));
        match wire {
            Wire::Good => replace(&path, text.as_bytes()),
            Wire::Refuses => fs::remove_file(&path).expect("gone"),
            Wire::Garbage => replace(&path, GARBAGE),
            Wire::Half => replace(&path, &text.as_bytes()[..text.len() / 2]),
            Wire::Flood => endless(&path).expect("a hole"),
            Wire::Hangs | Wire::Slow(_) => panic!("a file cannot"),
        }
    }
}

/// A file is never seen half written.
fn replace(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).expect("written");
    fs::rename(&new, path).expect("in place");
}

fn endless(path: &Path) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::File::create(&new)?.set_len(ENDLESS)?;
    fs::rename(&new, path)
}

impl Source for Listed {
    fn says(&self, _: Wire) -> &'static str {
        "/peers"
    }

    fn spec(&self, _: &str) -> String {
        format!("{}path={},basename=shop,interval=1s", self.strategy, self.path().display())
    }

    fn set(&self, hosts: &[Ipv4Addr]) {
        hosts.clone_into(&mut self.state.lock().expect("whole").0);
        self.write();
    }

    fn wire(&mut self, wire: Wire) {
        self.state.lock().expect("whole").1 = wire;
        self.write();
    }
}

pub(crate) fn file() -> Option<impl Source> {
    Some(Listed::new("file:", |hosts| hosts.iter().map(|host| format!("{{\"addresses\":[\"{host}\"]}}\n")).collect()))
}

pub(crate) fn launch_data() -> Option<impl Source> {
    Some(Listed::new("launch-data:from=file,", |hosts| serde_json::json!({ "seeds": hosts }).to_string()))
}

/// A program that prints the hosts.
pub(crate) struct Exec {
    folder: TempDir,
    wire: Wire,
}

impl Exec {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

pub(crate) fn exec() -> Option<impl Source> {
    let mut exec = Exec { folder: tempfile::tempdir().expect("a folder"), wire: Wire::Good };
    exec.wire(Wire::Good);
    Some(exec)
}

impl Source for Exec {
    fn says(&self, _: Wire) -> &'static str {
        "sh "
    }

    fn spec(&self, timeout: &str) -> String {
        let script = self.path("script");
        format!("exec:command=sh,{},basename=shop,interval=500ms,timeout={timeout}", script.display())
    }

    fn set(&self, hosts: &[Ipv4Addr]) {
        let text: String = hosts.iter().map(|host| format!("{host}\n")).collect();
        replace(&self.path("hosts"), text.as_bytes());
    }

    fn wire(&mut self, wire: Wire) {
        self.wire = wire;
        let prints = format!("cat {}", self.path("hosts").display());
        let script = match wire {
            Wire::Good => prints,
            Wire::Hangs => "exec sleep 600".to_owned(),
            Wire::Slow(by) => format!("sleep {}; {prints}", by.as_secs()),
            Wire::Refuses => "echo no rights >&2; exit 1".to_owned(),
            Wire::Garbage => "printf '\\377\\376 lorem ipsum'".to_owned(),
            Wire::Half => format!("{prints} | head -n 1; kill -9 $$"),
            Wire::Flood => "exec yes '# a comment without end'".to_owned(),
        };
        replace(&self.path("script"), script.as_bytes());
    }
}

/// A database in a file.
pub(crate) struct Sqlite {
    folder: TempDir,
    hosts: Mutex<Vec<Ipv4Addr>>,
    wire: Wire,
    /// While it is there, nobody else can read.
    lock: Option<Connection>,
}

pub(crate) fn sqlite() -> Option<impl Source> {
    let folder = tempfile::tempdir().expect("a folder");
    Some(Sqlite { folder, hosts: Mutex::default(), wire: Wire::Good, lock: None })
}

impl Sqlite {
    fn path(&self) -> PathBuf {
        self.folder.path().join("hosts.db")
    }

    fn open(&self) -> Connection {
        let connection = Connection::open(self.path()).expect("the file");
        connection.busy_timeout(super::super::BUSY_WITHIN).expect("set");
        connection
    }

    /// A new file in the place of the one that there is.
    fn write(&self) {
        let new = self.path().with_extension("new");
        fs::remove_file(&new).or_else(|error| if new.exists() { Err(error) } else { Ok(()) }).expect("gone");
        let connection = Connection::open(&new).expect("a file");
        let mut statements = "BEGIN; CREATE TABLE hosts (address);".to_owned();
        for host in self.hosts.lock().expect("whole").iter() {
            write!(statements, "INSERT INTO hosts VALUES ('{host}');").expect("a text");
        }
        connection.execute_batch(&format!("{statements} COMMIT")).expect("written");
        drop(connection);
        fs::rename(&new, self.path()).expect("in place");
    }
}

impl Source for Sqlite {
    fn says(&self, wire: Wire) -> &'static str {
        match wire {
            Wire::Flood => "the query gives more than",
            Wire::Good | Wire::Hangs | Wire::Refuses | Wire::Garbage | Wire::Half | Wire::Slow(_) => "hosts.db",
        }
    }

    fn spec(&self, timeout: &str) -> String {
        let path = self.path();
        format!(
            "sql:url=sqlite:{},query=SELECT * FROM hosts,basename=shop,interval=500ms,timeout={timeout}",
            path.display()
        )
    }

    fn set(&self, hosts: &[Ipv4Addr]) {
        hosts.clone_into(&mut self.hosts.lock().expect("whole"));
        if self.wire == Wire::Good {
            self.write();
        }
    }

    fn wire(&mut self, wire: Wire) {
        self.wire = wire;
        self.lock = None;
        match wire {
            Wire::Good => self.write(),
            Wire::Hangs | Wire::Slow(_) => {
                let lock = self.open();
                lock.execute_batch("BEGIN EXCLUSIVE").expect("locked");
                self.lock = Some(lock);
            }
            Wire::Refuses => fs::remove_file(self.path()).expect("gone"),
            Wire::Garbage => replace(&self.path(), &GARBAGE.repeat(100)),
            Wire::Half => {
                let whole = fs::read(self.path()).expect("read");
                replace(&self.path(), &whole[..whole.len() / 2]);
            }
            Wire::Flood => self
                .open()
                .execute_batch(
                    "BEGIN IMMEDIATE; DROP TABLE hosts;
                     CREATE VIEW hosts AS WITH RECURSIVE n (address) AS
                     (SELECT '10.7.0.1' UNION ALL SELECT address FROM n) SELECT address FROM n;
                     COMMIT",
                )
                .expect("a view"),
        }
    }
}
