//! A bridge in a namespace of its own, to which hosts are joined by one cable each.

use std::{
    path::Path,
    process,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{
    Host, TestRun,
    command::run,
    reap::{PREFIX, reap, remove_namespace},
};

/// How many networks one process has at a time; a test that wants one more waits. BEAM nodes want the cores.
const NETWORKS_MAX: u32 = 2;

static NETWORKS: Mutex<u32> = Mutex::new(0);
static FREED: Condvar = Condvar::new();
static NEXT: AtomicU32 = AtomicU32::new(1);

/// One private network: 10.91.0.0/24 on a bridge. Hosts keep it alive.
#[derive(Clone, Debug)]
pub struct Network {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    // Fields drop in this order.
    pub(crate) bridge: Namespace,
    pub(crate) files: TempDir,
    next_host: AtomicU32,
    _permit: Permit,
}

impl Network {
    /// Makes the bridge. Waits while this process has too many networks already.
    pub fn new() -> Result<Self> {
        let permit = Permit::acquire();
        reap()?;
        let files = tempfile::tempdir().context("no temporary folder")?;
        let bridge = Namespace::new()?;
        let name = bridge.name.as_str();
        // Without snooping the bridge floods multicast, as a plain switch does.
        run("ip", &["-n", name, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"])?;
        run("ip", &["-n", name, "link", "set", "br0", "up"])?;
        let shared = Shared { bridge, files, next_host: AtomicU32::new(1), _permit: permit };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Adds a host with the next address and plugs it in.
    pub fn host(&self) -> Result<Host> {
        let index = self.shared.next_host.fetch_add(1, Ordering::Relaxed);
        Host::new(Arc::clone(&self.shared), index)
    }

    /// Adds several hosts.
    pub fn hosts<const N: usize>(&self) -> Result<[Host; N]> {
        let hosts: Result<Vec<Host>> = (0..N).map(|_| self.host()).collect();
        hosts?.try_into().ok().context("as many as were asked for")
    }
}

/// A network namespace that goes with its guard.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    pub(crate) fn new() -> Result<Self> {
        let name = format!("{PREFIX}{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        if let Some(run) = TestRun::current() {
            run.note_namespace(&name)?;
        }
        run("ip", &["netns", "add", &name])?;
        let namespace = Self { name };
        run("ip", &["-n", &namespace.name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Gives the namespace its own `/etc/hosts` and `/etc/resolv.conf`: host N is `hN` and `hN.test`, nothing else
    /// resolves, and a look-up of anything else fails at once.
    pub(crate) fn write_names(&self, hosts: u32) -> Result<()> {
        let folder = Path::new("/etc/netns").join(&self.name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut text = "127.0.0.1 localhost\n".to_owned();
        for host in 1..=hosts {
            text.push_str(&format!("{} h{host}.test h{host}\n", Host::address_of(host)));
        }
        std::fs::write(folder.join("hosts"), text)?;
        std::fs::write(folder.join("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")?;
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = remove_namespace(&self.name) {
            complain(&error);
        }
    }
}

#[expect(clippy::print_stderr, reason = "a drop can fail in no other way")]
fn complain(error: &anyhow::Error) {
    eprintln!("{error:#}");
}

#[derive(Debug)]
struct Permit;

impl Permit {
    fn acquire() -> Self {
        let mut networks = NETWORKS.lock().unwrap_or_else(PoisonError::into_inner);
        while *networks >= NETWORKS_MAX {
            networks = FREED.wait(networks).unwrap_or_else(PoisonError::into_inner);
        }
        *networks += 1;
        Self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *NETWORKS.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}
