//! `file`: peers that a file lists, known at once when the file changes.
//!
//! [`watch`] tells of changes. The file is read whole; a line that is no peer fails the whole of it, so that a slip costs
//! no candidate. It may be replaced (by editors, or as Kubernetes does with a ConfigMap), and it may come later.

mod watched;

use std::{io::Read as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf, sync::Arc};

use metacluster_types::time::format_duration;
use nix::fcntl::OFlag;
use tokio::{
    task::spawn_blocking,
    time::{Duration, sleep, timeout},
};

use self::watched::Watched;
use crate::{
    Failure, Feed, Gives, Naming, Strategy,
    feed::Work,
    peers::{Names, Peer},
    settings::{Absent, Key, Kind, Reader},
    watch::{Stream, watch},
};

/// A longer file is not read.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// How long it may take to read it, as where it is on a network.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// How long the file has to be left alone before it is read, since many programs write in several steps.
const SETTLE: Duration = Duration::from_millis(30);
/// Reads that are put off like this one after another, at most.
const SETTLES_MAX: u32 = 4;

pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "path",
        kind: Kind::Path,
        absent: Absent::Required,
        doc: "The file: on each line a name@host, a host, an address, or a JSON object with what is known of the peer",
    },
    Key {
        name: "interval",
        kind: Kind::Duration { least_ms: 100, most_ms: 3_600_000 },
        absent: Absent::Default("5s"),
        doc: "How often the file is read besides, for file systems that tell of no change, and names of hosts resolved",
    },
];

#[derive(Debug)]
struct File {
    path: PathBuf,
    interval: Duration,
    naming: Naming,
}

pub(crate) fn make(reader: &mut Reader<'_>) -> Box<dyn Strategy> {
    let path = reader.path("path").unwrap_or_default();
    Box::new(File { path, interval: reader.duration("interval"), naming: Naming::read(reader, Gives::Both) })
}

impl Strategy for File {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move { watch(&feed, |stream| Arc::clone(&self).follow(stream)).await })
    }
}

impl File {
    async fn follow(self: Arc<Self>, stream: Stream) -> Result<(), Failure> {
        let mut watched = Watched::new(&self.path);
        let mut names = Names::default();
        loop {
            // Before the file is read, so that no change falls between.
            watched.renew();
            let file = Arc::clone(&self);
            let mut reading = spawn_blocking(move || file.read());
            let read = match timeout(READ_WITHIN, &mut reading).await {
                Ok(read) => read,
                Err(_) => {
                    let (path, within) = (self.path.display(), format_duration(READ_WITHIN));
                    stream.fail(format!("{path} cannot be read within {within}: is its file system there?"));
                    // One that hangs is enough.
                    reading.await
                }
            };
            match read {
                Ok(Ok(peers)) => stream.tell(names.answer(&self.naming, peers).await),
                Ok(Err(line)) => stream.fail(line),
                Err(error) => return Err(Failure::new(format!("reading {} panicked: {error}", self.path.display()))),
            }
            if timeout(self.interval, watched.changed()).await.is_ok() {
                for _ in 0..SETTLES_MAX {
                    sleep(SETTLE).await;
                    if !watched.has_changed() {
                        break;
                    }
                }
            }
        }
    }

    fn read(&self) -> Result<Vec<Peer>, String> {
        let path = self.path.display();
        let mut bytes = Vec::new();
        let cannot = |error: std::io::Error| format!("cannot read {path}: {error}");
        // A pipe is opened at once, and known for what it is.
        let file = std::fs::File::options()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(&self.path)
            .map_err(cannot)?;
        if !file.metadata().map_err(cannot)?.is_file() {
            return Err(format!("{path} is no file: `exec` reads what a program says"));
        }
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(format!("{path} is longer than {} MiB: it is no list of peers", FILE_BYTES_MAX >> 20));
        }
        let text = String::from_utf8(bytes).map_err(|error| format!("{path} is no text: {error}"))?;
        let mut peers = Vec::new();
        for (number, line) in text.lines().enumerate() {
            match Peer::of_line(line) {
                Ok(peer) => peers.extend(peer),
                Err(fault) => return Err(format!("{path}:{}: {fault}", number + 1)),
            }
        }
        Ok(peers)
    }
}
