//! `erlang-hosts`: the hosts of a `.hosts.erlang`, and all that their epmds have registered.
//!
//! The file is looked for where OTP's `net_adm:host_file/0` does: in the working directory, the home directory and the
//! root of OTP. It is read again when it changed; while it cannot be read, the hosts stay.

use std::{
    env, fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use metacluster_types::{Candidate, NodeName, Pattern};
use tokio::time::{self, Duration, MissedTickBehavior};

use super::{EXCLUDE, INTERVAL, PORT, ask::Asker, file, is_excluded, port, tell::Teller};
use crate::{
    Feed, Strategy,
    feed::Work,
    settings::{Absent, Key, Kind, Reader},
};

/// How often the file is looked at.
const WATCH: Duration = Duration::from_secs(1);
/// A longer file is not read.
const FILE_BYTES_MAX: u64 = 1 << 20;
const NAME: &str = ".hosts.erlang";
/// Where OTP mostly is.
const OTP_ROOTS: [&str; 2] = ["/usr/lib/erlang", "/usr/local/lib/erlang"];

pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "path",
        kind: Kind::Path,
        absent: Absent::Unset("the first .hosts.erlang in the working, home and OTP directories"),
        doc: "The file of hosts: an Erlang atom and a full stop on each line, such as 'host.domain'.",
    },
    PORT,
    INTERVAL,
    EXCLUDE,
];

struct ErlangHosts {
    paths: Vec<PathBuf>,
    exclude: Vec<Pattern>,
    port: u16,
    interval: Duration,
}

pub(crate) fn make(reader: &mut Reader<'_>) -> Box<dyn Strategy> {
    let paths = reader.path("path").map_or_else(usual_paths, |path| vec![path]);
    let exclude = reader.patterns("exclude");
    Box::new(ErlangHosts { paths, exclude, port: port(reader), interval: reader.duration("interval") })
}

fn usual_paths() -> Vec<PathBuf> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let root = env::var_os("ROOTDIR").map(PathBuf::from);
    let folders = [Some(PathBuf::from(".")), home, root].into_iter().flatten();
    folders.chain(OTP_ROOTS.map(PathBuf::from)).map(|folder| folder.join(NAME)).collect()
}

/// What tells one state of the file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    changed: Option<SystemTime>,
    bytes: u64,
}

impl ErlangHosts {
    /// The first of the files that there is.
    fn stamp(&self) -> Option<Stamp> {
        let stamp = |path: &PathBuf| {
            let metadata = fs::metadata(path).ok()?;
            Some(Stamp { path: path.clone(), changed: metadata.modified().ok(), bytes: metadata.len() })
        };
        self.paths.iter().find_map(stamp)
    }

    fn missing(&self) -> String {
        let paths: Vec<String> = self.paths.iter().map(|path| path.display().to_string()).collect();
        format!("there is no file of hosts; looked for {}", paths.join(", "))
    }

    fn candidates(&self, asker: &Asker) -> Vec<Candidate> {
        let mut nodes = Vec::new();
        for (host, names) in asker.names() {
            let names = names.iter().filter(|name| !is_excluded(&self.exclude, name));
            nodes.extend(names.filter_map(|name| NodeName::from_parts(name, host).ok()));
        }
        nodes.sort();
        nodes.into_iter().map(Candidate::new).collect()
    }

    async fn follow(&self, feed: &Feed) {
        let mut asker = Asker::new(self.port, self.interval);
        let mut teller = Teller::default();
        let mut read: Option<Stamp> = None;
        let mut watch = time::interval(WATCH);
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = asker.next() => {}
                _ = watch.tick() => {
                    let stamp = self.stamp();
                    let Some(stamp) = stamp else {
                        read = None;
                        teller.fail(feed, self.missing()).await;
                        continue;
                    };
                    if read.as_ref() == Some(&stamp) {
                        continue;
                    }
                    match read_hosts(&stamp.path) {
                        Ok(hosts) => asker.set_hosts(hosts),
                        Err(line) => {
                            teller.fail(feed, line).await;
                            continue;
                        }
                    }
                    read = Some(stamp);
                }
            }
            if read.is_some() {
                teller.tell(feed, &asker, self.candidates(&asker)).await;
            }
        }
    }
}

fn read_hosts(path: &Path) -> Result<std::collections::BTreeSet<String>, String> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{} is longer than {FILE_BYTES_MAX} bytes: it is no file of hosts", path.display()));
    }
    file::parse(&String::from_utf8_lossy(&bytes)).map_err(|fault| format!("{}:{fault}", path.display()))
}

impl Strategy for ErlangHosts {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move {
            tokio::select! {
                () = self.follow(&feed) => {}
                () = feed.stopped() => {}
            }
        })
    }
}
