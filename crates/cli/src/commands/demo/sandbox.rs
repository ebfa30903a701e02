//! The ground that the demo stands on: a folder, a cookie and ports of its own, so that it disturbs nothing.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use nix::{
    errno::Errno,
    sys::signal::kill,
    unistd::{Pid, geteuid},
};
use tempfile::TempDir;

use super::plan::{Ground, Plan};
use crate::failure::{Failure, Outcome};

/// What the folder's name begins with; the number of the demo's process follows.
const PREFIX: &str = "metacluster-demo-";

/// The folder, which goes with this value, and what stands in it.
#[derive(Debug)]
pub(super) struct Sandbox {
    folder: TempDir,
    /// What the plan is made from.
    pub(super) ground: Ground,
}

impl Sandbox {
    /// Makes the folder and the cookie and finds free ports.
    pub(super) fn new() -> Outcome<Self> {
        let parent = std::env::temp_dir();
        remove_stale(&parent);
        let folder = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", std::process::id()))
            .tempdir_in(&parent)
            .map_err(|error| Failure::NotSo(format!("cannot make a folder for the demo: {error}")))?;
        let ground = Ground {
            folder: folder.path().to_owned(),
            epmd_port: free_tcp_port().map_err(|error| no_port(&error))?,
            membership_port: free_udp_port().map_err(|error| no_port(&error))?,
            gossip_port: free_udp_port().map_err(|error| no_port(&error))?,
            gossip_secret: random_text()?,
            many_addresses: TcpListener::bind((Ipv4Addr::new(127, 0, 1, 1), 0)).is_ok(),
        };
        write_secret(&ground.cookie_file(), &random_text()?)?;
        Ok(Self { folder, ground })
    }

    /// Writes what the agents start from.
    pub(super) fn furnish(&self, plan: &Plan) -> Outcome {
        for zone in &plan.zones {
            fs::create_dir_all(&zone.folder)
                .map_err(|error| Failure::NotSo(format!("cannot make {}: {error}", zone.folder.display())))?;
            write_secret(&zone.config_file(), &plan.config(zone, &self.ground))?;
        }
        Ok(())
    }

    /// Removes the folder, and says so if that fails.
    pub(super) fn close(self) -> Outcome {
        let path = self.folder.path().to_owned();
        self.folder
            .close()
            .map_err(|error| Failure::NotSo(format!("cannot remove the demo's folder {}: {error}", path.display())))
    }
}

/// Removes the folders of demos that were killed before they could do so themselves. What cannot be read or removed is
/// left to whom it belongs to.
fn remove_stale(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
        let is_gone = pid.is_some_and(|pid: i32| pid > 0 && kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH));
        let is_ours = entry.metadata().is_ok_and(|data| data.is_dir() && data.uid() == geteuid().as_raw());
        if is_gone && is_ours {
            match fs::remove_dir_all(entry.path()) {
                Ok(()) | Err(_) => {}
            }
        }
    }
}

fn no_port(error: &io::Error) -> Failure {
    Failure::NotSo(format!("cannot find a free port on 127.0.0.1: {error}"))
}

fn free_tcp_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port())
}

fn free_udp_port() -> io::Result<u16> {
    Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port())
}

/// 128 random bits as text.
fn random_text() -> Outcome<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|error| Failure::NotSo(format!("cannot read /dev/urandom: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02X}")).collect())
}

/// Writes a file that only its owner may read, which is what `erl` asks of a cookie.
fn write_secret(path: &Path, content: &str) -> Outcome {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(|error| Failure::NotSo(format!("cannot write {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_leaves_nothing() {
        let sandbox = Sandbox::new().expect("a sandbox");
        let folder = sandbox.ground.folder.clone();
        let plan = Plan::new(&sandbox.ground, 2, 2);
        sandbox.furnish(&plan).expect("furnished");
        assert!(plan.zones[1].config_file().exists());
        sandbox.close().expect("closed");
        assert!(!folder.exists());
    }

    #[test]
    fn the_folder_of_a_demo_that_was_killed_goes_and_that_of_one_that_runs_stays() {
        let parent = tempfile::tempdir().expect("a folder");
        let mut child = std::process::Command::new("true").spawn().expect("it runs");
        child.wait().expect("it ended");
        let [stale, alive, other] = [
            format!("{PREFIX}{}-x", child.id()),
            format!("{PREFIX}{}-x", std::process::id()),
            "metacluster-demo-notes".to_owned(),
        ]
        .map(|name| parent.path().join(name));
        for folder in [&stale, &alive, &other] {
            fs::create_dir(folder).expect("made");
        }
        remove_stale(parent.path());
        assert_eq!([&stale, &alive, &other].map(|folder| folder.exists()), [false, true, true]);
    }

    #[test]
    fn secrets_differ() {
        assert_ne!(random_text().expect("random"), random_text().expect("random"));
    }
}
