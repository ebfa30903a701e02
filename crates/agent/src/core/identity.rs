//! Who this agent is: its id, which outlives it in the state folder, and its lock on that folder.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use metacluster_types::AgentId;
use nix::fcntl::{Flock, FlockArg};

/// Why an agent has no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The folder cannot be made or written. Nothing was changed.
    #[error("state_dir {}: {error}; name a folder that this user may write (state_dir, METACLUSTER_STATE_DIR or --state-dir)", path.display())]
    StateDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another agent holds the folder. Nothing was changed.
    #[error("another agent{} runs with state_dir {}: stop it, or give this one a state_dir of its own", holder(*pid), path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
        /// The process that holds it.
        pid: Option<u32>,
    },
    /// The id file holds something else. Nothing was changed.
    #[error("{}: not an agent id; remove the file to get a new one", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

/// An identity that is held: while it lives, no other agent can take the same folder.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The agent's id.
    pub(crate) id: AgentId,
    _lock: Flock<File>,
}

impl Identity {
    /// Makes the folder if it is missing, locks it and reads or writes the id.
    pub(crate) fn hold(state_dir: &Path) -> Result<Self, IdentityError> {
        let broken = |error: io::Error| IdentityError::StateDir { path: state_dir.to_owned(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(broken)?;
        let open = |name: &str| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(state_dir.join(name))
        };
        let lock = open("lock").map_err(broken)?;
        let mut lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(mut file, errno)| {
            if errno != nix::errno::Errno::EWOULDBLOCK {
                return broken(errno.into());
            }
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            IdentityError::Taken { path: state_dir.to_owned(), pid }
        })?;
        lock.set_len(0).map_err(broken)?;
        lock.rewind().map_err(broken)?;
        writeln!(lock, "{}", std::process::id()).map_err(broken)?;
        Ok(Self { id: Self::id(state_dir).map_err(|error| error.into_identity(state_dir))?, _lock: lock })
    }

    fn id(state_dir: &Path) -> Result<AgentId, IdFault> {
        let path = state_dir.join("agent-id");
        match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| IdFault::Malformed(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let id = AgentId(rand::random());
                renew_id(state_dir, id).map_err(IdFault::Io)?;
                Ok(id)
            }
            Err(error) => Err(IdFault::Io(error)),
        }
    }
}

/// Puts another id into the folder. Written beside and renamed, so that a full disk leaves no half of an id.
pub(crate) fn renew_id(state_dir: &Path, id: AgentId) -> io::Result<()> {
    let fresh = state_dir.join("agent-id.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    writeln!(file, "{id}").and_then(|()| file.sync_all())?;
    fs::rename(&fresh, state_dir.join("agent-id"))
}

enum IdFault {
    Malformed(PathBuf),
    Io(io::Error),
}

impl IdFault {
    fn into_identity(self, state_dir: &Path) -> IdentityError {
        match self {
            Self::Malformed(path) => IdentityError::Malformed { path },
            Self::Io(error) => IdentityError::StateDir { path: state_dir.to_owned(), error },
        }
    }
}

/// This host's name, as the node names of this host have it when nothing else is known.
pub(crate) fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_kept_and_a_folder_is_held_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = Identity::hold(dir.path()).expect("free");
        let taken = Identity::hold(dir.path()).expect_err("held");
        assert!(taken.to_string().contains(&format!("(pid {})", std::process::id())), "{taken}");
        let id = first.id;
        drop(first);
        assert_eq!(Identity::hold(dir.path()).expect("free again").id, id);
    }

    #[test]
    fn what_cannot_be_read_as_an_id_is_refused_and_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("agent-id"), "hello").expect("written");
        let error = Identity::hold(dir.path()).expect_err("no id");
        assert!(error.to_string().contains("agent-id: not an agent id"), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join("agent-id")).expect("kept"), "hello");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("file"), "").expect("written");
        let error = Identity::hold(&dir.path().join("file/state")).expect_err("no folder");
        assert!(error.to_string().contains("METACLUSTER_STATE_DIR"), "{error}");
    }
}
