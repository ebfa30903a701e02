//! Tells that a file may have changed, though it be replaced, be a link, or come later.
//!
//! What is watched are the directories that lead to the file: its own, and for each symbolic link on the way that of
//! the link's target. A file that is renamed into place and a link that is turned (`..data` in a ConfigMap) are changes
//! of a directory.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// Links that are followed.
const LINKS_MAX: usize = 8;

#[derive(Debug, Default)]
struct Flag {
    changed: AtomicBool,
    notify: Notify,
}

/// A watch on one file. Without a working watch it never tells, and polling has to do.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    flag: Arc<Flag>,
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
}

impl Watched {
    pub(super) fn new(path: &Path) -> Self {
        let flag = Arc::new(Flag::default());
        let told = Arc::clone(&flag);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Reading is no change, and it is what the reader does.
            if !matches!(event, Ok(Event { kind: EventKind::Access(_), .. })) {
                told.changed.store(true, Ordering::Release);
                told.notify.notify_one();
            }
        });
        let watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot watch for changes: the file is read at intervals");
                None
            }
        };
        Self { path: path.to_owned(), flag, watcher, folders: BTreeSet::new() }
    }

    /// Follows the links anew, and watches what they lead through now. What changed until now is forgotten.
    pub(super) fn renew(&mut self) {
        self.flag.changed.store(false, Ordering::Release);
        let Some(watcher) = &mut self.watcher else { return };
        let folders = folders(&self.path);
        for gone in self.folders.difference(&folders) {
            // A folder that was removed took its watch with it.
            watcher.unwatch(gone).ok();
        }
        self.folders.retain(|folder| folders.contains(folder));
        for folder in folders {
            // A folder of the same name may be a new one; to watch it again is to have one watch.
            if watcher.watch(&folder, RecursiveMode::NonRecursive).is_ok() {
                self.folders.insert(folder);
            }
        }
    }

    /// Whether anything changed since [`Watched::renew`] or the last answer.
    pub(super) fn has_changed(&self) -> bool {
        self.flag.changed.swap(false, Ordering::AcqRel)
    }

    /// Resolves when something changes.
    pub(super) async fn changed(&self) {
        while !self.has_changed() {
            self.flag.notify.notified().await;
        }
    }
}

/// The folders that lead to a file.
fn folders(path: &Path) -> BTreeSet<PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    };
    let mut folders = BTreeSet::from([parent(path)]);
    let mut at = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(target) = fs::read_link(&at) else { break };
        at = parent(&at).join(target);
        folders.insert(parent(&at));
    }
    // Where a link stands among the folders themselves, the real one is watched too.
    if let Ok(real) = fs::canonicalize(path) {
        folders.insert(parent(&real));
    }
    folders
}
