//! Keeps the snapshot of members in the state folder: read at the start, written when something changed, at most every
//! few seconds, and when the agent leaves.
//!
//! It is written beside and renamed, so a full disk or a crash leaves the old one whole. A file that cannot be read or
//! written costs one line when that begins and one when it ends, and a counter; the agent goes on without it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use metacluster_membership::{Epoch, Snapshot, SnapshotError};
use metacluster_types::{AgentId, Instant};
use tokio::task::JoinSet;
use tracing::{info, warn};

/// The least time between two writes.
const EVERY: Duration = Duration::from_secs(5);
/// A larger file is no snapshot of ours.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How long the last write may take.
const LAST_WITHIN: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Keeper {
    path: PathBuf,
    dirty: bool,
    next: Instant,
    writing: JoinSet<io::Result<()>>,
    failing: bool,
    /// Writes that failed.
    pub(super) failures: u64,
}

impl Keeper {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join("members.snapshot"),
            dirty: false,
            next: Instant::ZERO,
            writing: JoinSet::new(),
            failing: false,
            failures: 0,
        }
    }

    /// What was kept, if anything was.
    pub(super) fn read(&mut self) -> Option<Snapshot> {
        let bytes = match fs::File::open(&self.path) {
            Ok(file) => {
                let mut bytes = Vec::new();
                match file.take(FILE_BYTES_MAX).read_to_end(&mut bytes) {
                    Ok(_) => bytes,
                    Err(error) => return self.unreadable(&error),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return self.unreadable(&error),
        };
        match Snapshot::decode(&bytes) {
            Ok(snapshot) => Some(snapshot),
            Err(error @ SnapshotError::Incompatible(_)) => self.unreadable(&error),
            Err(error) => self.unreadable(&error),
        }
    }

    fn unreadable(&mut self, error: &dyn std::fmt::Display) -> Option<Snapshot> {
        self.failures += 1;
        warn!("{}: {error}; this agent starts without it and writes a new one", self.path.display());
        None
    }

    /// Something is to be written, at the next chance or, in a hurry, at once.
    pub(super) fn mark(&mut self, hurry: bool) {
        self.dirty = true;
        if hurry {
            self.next = Instant::ZERO;
        }
    }

    /// When [`Keeper::write_due`] has work next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (self.dirty && self.writing.is_empty()).then_some(self.next)
    }

    /// Begins to write if it is time.
    pub(super) fn write_due(&mut self, now: Instant, snapshot: impl FnOnce() -> Snapshot) {
        if self.deadline().is_none_or(|at| at > now) {
            return;
        }
        self.dirty = false;
        self.next = now + EVERY;
        let (path, snapshot) = (self.path.clone(), snapshot());
        self.writing.spawn_blocking(move || write(&path, &snapshot));
    }

    /// Resolves when a write has ended. Cancel safe; with none on its way it never resolves.
    pub(super) async fn written(&mut self) {
        match self.writing.join_next().await {
            Some(Ok(Ok(()))) => self.went(None),
            Some(Ok(Err(error))) => self.went(Some(&error)),
            Some(Err(error)) => self.went(Some(&error)),
            None => std::future::pending().await,
        }
    }

    /// Writes for the last time, and waits for it for a while.
    pub(super) async fn write_last(&mut self, snapshot: Snapshot) {
        let write_both = async {
            while let Some(before) = self.writing.join_next().await {
                drop(before);
            }
            let path = self.path.clone();
            tokio::task::spawn_blocking(move || write(&path, &snapshot)).await
        };
        match tokio::time::timeout(LAST_WITHIN, write_both).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => self.went(Some(&error)),
            Ok(Err(error)) => self.went(Some(&error)),
            Err(error) => self.went(Some(&error)),
        }
    }

    fn went(&mut self, error: Option<&dyn std::fmt::Display>) {
        let path = self.path.display();
        match error {
            Some(error) => {
                self.failures += 1;
                self.dirty = true;
                if !std::mem::replace(&mut self.failing, true) {
                    warn!(
                        "cannot write {path}: {error}; after a full outage this agent may know nobody until this is \
                         mended (it goes on trying)"
                    );
                }
            }
            None if std::mem::take(&mut self.failing) => info!("{path} is written again"),
            None => {}
        }
    }
}

fn write(path: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let fresh = path.with_extension("snapshot.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    let written = file.write_all(&snapshot.encode()).and_then(|()| file.sync_all());
    let written = written.and_then(|()| fs::rename(&fresh, path));
    if written.is_err() {
        // A part of it may hold the last bytes of a full disk.
        drop(fs::remove_file(&fresh));
    }
    written
}

/// So many low bits of a boot's number are drawn.
const EPOCH_BITS: u32 = 14;

/// The boot to begin: the greater of the wall clock and the boot that was kept, and beyond it by a drawn number. A clock
/// that went back brings no boot back; without a snapshot it may, and then the others tell this member so, and it goes
/// beyond what they know.
///
/// The number is drawn because each boot seals under a key of its own, with a counter for a nonce: two copies of one disk that
/// boot in the same second must not be the same boot, or they would use nonces twice and each be taken for a replay of
/// the other.
pub(super) fn next_epoch(wall: SystemTime, id: AgentId, kept: Option<&Snapshot>, drawn: u64) -> Epoch {
    let seconds = wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let drawn = drawn % (1 << EPOCH_BITS);
    let at_least = Epoch((seconds.max(1) << EPOCH_BITS) + drawn);
    let kept = kept.filter(|kept| kept.id == id && kept.epoch >= at_least);
    kept.map_or(at_least, |kept| Epoch(kept.next_epoch(at_least).0 + drawn))
}

#[cfg(test)]
mod tests {
    use metacluster_membership::{Incarnation, SnapshotMember, Stamp, Standing};

    use super::*;

    fn snapshot(epoch: u64) -> Snapshot {
        let member = SnapshotMember {
            id: AgentId(2),
            stamp: Stamp { epoch: Epoch(3), incarnation: Incarnation(4) },
            standing: Standing::Alive,
            address: "10.0.0.5:45893".parse().expect("an address"),
        };
        Snapshot { id: AgentId(1), epoch: Epoch(epoch), members: vec![member], heard: Vec::new() }
    }

    fn wall(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_boot_is_later_than_every_boot_before_whatever_the_clock_says() {
        let (hour, second) = (3_600, 1 << EPOCH_BITS);
        let kept = snapshot(1_000_000 * second);
        let next = |seconds, kept: Option<&Snapshot>| next_epoch(wall(seconds), AgentId(1), kept, 0).0;
        assert_eq!(next(1_000_060, Some(&kept)), 1_000_060 * second, "a minute later");
        assert_eq!(next(1_000_000, Some(&kept)), 1_000_000 * second + 1, "in the same second");
        assert_eq!(next(1_000_060 - hour, Some(&kept)), 1_000_000 * second + 1, "the clock went back an hour");
        assert_eq!(next(1_000_060 + hour, Some(&kept)), (1_000_060 + hour) * second, "or ahead");
        assert_eq!(next(1_000_060, None), 1_000_060 * second);
        assert_eq!(next_epoch(wall(5), AgentId(9), Some(&kept), 0), Epoch(5 * second), "of another id");
        let before_time = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(next_epoch(before_time, AgentId(1), None, 0), Epoch(second));
    }

    #[test]
    fn two_copies_of_one_disk_begin_two_boots() {
        let kept = snapshot(1_000_000 << EPOCH_BITS);
        for (seconds, kept) in [(1_000_060, None), (1_000_060, Some(&kept)), (900_000, Some(&kept))] {
            let next = |drawn| next_epoch(wall(seconds), AgentId(1), kept, drawn);
            assert_ne!(next(7), next(8));
            assert!(next(u64::MAX) < next_epoch(wall(1_000_061), AgentId(1), None, 0), "a second is longer");
        }
    }

    #[tokio::test]
    async fn what_was_written_is_read_and_writes_keep_their_distance() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut keeper = Keeper::new(folder.path());
        assert_eq!(keeper.read(), None);
        assert_eq!(keeper.deadline(), None);
        keeper.mark(false);
        keeper.write_due(Instant::from_origin(EVERY), || snapshot(7));
        keeper.written().await;
        assert_eq!(keeper.read(), Some(snapshot(7)));
        keeper.mark(false);
        keeper.write_due(Instant::from_origin(EVERY + EVERY / 2), || panic!("too early"));
        assert_eq!(keeper.deadline(), Some(Instant::from_origin(EVERY * 2)));
        keeper.mark(true);
        keeper.write_due(Instant::from_origin(EVERY + EVERY / 2), || snapshot(8));
        keeper.written().await;
        keeper.write_last(snapshot(9)).await;
        assert_eq!((keeper.read(), keeper.failures), (Some(snapshot(9)), 0));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing stays beside it");
    }

    #[tokio::test]
    async fn a_damaged_file_is_said_counted_and_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut keeper = Keeper::new(folder.path());
        for bytes in [b"".as_slice(), b"{}", &snapshot(7).encode()[..20]] {
            fs::write(folder.path().join("members.snapshot"), bytes).expect("written");
            assert_eq!(keeper.read(), None);
        }
        assert_eq!(keeper.failures, 3);
        keeper.write_last(snapshot(8)).await;
        assert_eq!(keeper.read(), Some(snapshot(8)));
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_tried_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let gone = folder.path().join("gone");
        let mut keeper = Keeper::new(&gone);
        keeper.mark(false);
        keeper.write_due(Instant::ZERO, || snapshot(7));
        keeper.written().await;
        assert_eq!((keeper.failures, keeper.failing), (1, true));
        fs::create_dir(&gone).expect("made");
        let at = keeper.deadline().expect("it tries again");
        keeper.write_due(at, || snapshot(8));
        keeper.written().await;
        assert_eq!((keeper.read(), keeper.failing), (Some(snapshot(8)), false));
    }
}
