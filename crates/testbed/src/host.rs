//! A host: a network namespace with its own loopback, epmd port, name files and home folder.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use anyhow::{Context as _, Result};

use crate::{
    AgentBuilder, BeamBuilder, Cable, Epmd,
    child::tied,
    command::run,
    network::{Namespace, Shared},
};

/// How many hosts a network's name files know.
const HOSTS_MAX: u32 = 128;
/// So many neighbours the kernel keeps for all namespaces together; what goes to others is dropped.
const NEIGHBOURS: &str = "net.ipv4.neigh.default.gc_thresh3";

/// The cookie of every host's home folder.
pub(crate) const COOKIE: &str = "TESTBEDCOOKIE";

/// A host on a [`crate::Network`]. Dropping it kills what runs in it.
#[derive(Debug)]
pub struct Host {
    // The namespace goes first, then the network.
    namespace: Namespace,
    network: Arc<Shared>,
    index: u32,
    home: PathBuf,
}

/// Each host may come to know every other.
fn neighbours_fit(hosts: u32) -> Result<()> {
    let path = format!("/proc/sys/{}", NEIGHBOURS.replace('.', "/"));
    // Where it cannot be read, nothing is known against it.
    let most = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(u32::MAX);
    let needed = hosts * hosts;
    anyhow::ensure!(
        needed <= most,
        "{hosts} hosts may need {needed} entries of neighbours, and the kernel keeps {most}: sysctl -w {NEIGHBOURS}=65536"
    );
    Ok(())
}

impl Host {
    pub(crate) fn new(network: Arc<Shared>, index: u32) -> Result<Self> {
        anyhow::ensure!(index <= HOSTS_MAX, "a network has at most {HOSTS_MAX} hosts");
        neighbours_fit(index)?;
        let namespace = Namespace::new()?;
        namespace.write_names(HOSTS_MAX)?;
        let (name, bridge, port) = (namespace.name.as_str(), network.bridge.name.as_str(), format!("p{index}"));
        run("ip", &["-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", &port, "netns", bridge])?;
        run("ip", &["-n", bridge, "link", "set", &port, "master", "br0", "up"])?;
        let address = format!("{}/24", Self::address_of(index));
        run("ip", &["-n", name, "addr", "add", &address, "dev", "eth0"])?;
        run("ip", &["-n", name, "link", "set", "eth0", "up"])?;
        // Multicast needs a route, as the default route of a real host gives it.
        run("ip", &["-n", name, "route", "add", "default", "dev", "eth0"])?;
        let home = network.files.path().join(format!("h{index}"));
        fs::create_dir(&home).context("no home folder")?;
        let host = Self { namespace, network, index, home };
        host.write_cookie(COOKIE)?;
        Ok(host)
    }

    pub(crate) fn address_of(index: u32) -> Ipv4Addr {
        let last = u8::try_from(index).expect("at most HOSTS_MAX hosts");
        Ipv4Addr::new(10, 91, 0, last)
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        Self::address_of(self.index)
    }

    /// The short name that every host of the network resolves, such as `h1`; `h1.test` is its long form.
    #[must_use]
    pub fn short_name(&self) -> String {
        format!("h{}", self.index)
    }

    /// The name of a node of that basename here, with the address as its host part.
    #[must_use]
    pub fn node_name(&self, basename: &str) -> String {
        format!("{basename}@{}", self.address())
    }

    /// A folder of its own, the `HOME` of all that runs here. It holds `.erlang.cookie`.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Replaces the cookie of its home folder. Who read it keeps the old one.
    pub fn write_cookie(&self, cookie: &str) -> Result<()> {
        let path = self.home.join(".erlang.cookie");
        fs::write(&path, cookie).context("cannot write the cookie")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).context("cannot protect the cookie")
    }

    /// A command that runs here, in the home folder's environment, and dies with the thread that starts it.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = tied("ip");
        command.args(["netns", "exec", &self.namespace.name]).arg(program.as_ref()).env("HOME", &self.home);
        command
    }

    /// Its namespace, to be entered by a thread.
    pub(crate) fn namespace(&self) -> Result<fs::File> {
        let path = Path::new("/run/netns").join(&self.namespace.name);
        fs::File::open(&path).with_context(|| format!("cannot open {}", path.display()))
    }

    /// Gives this host another address. [`Host::address`] and the names of its nodes stay what they were.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn move_to(&self, address: &str) -> Result<()> {
        let (namespace, address) = (self.namespace.name.as_str(), format!("{address}/24"));
        run("ip", &["-n", namespace, "addr", "flush", "dev", "eth0"])?;
        run("ip", &["-n", namespace, "addr", "add", &address, "dev", "eth0"])?;
        run("ip", &["-n", namespace, "route", "replace", "default", "dev", "eth0"]).map(drop)
    }

    /// The cable between this host and the bridge.
    #[must_use]
    pub fn cable(&self) -> Cable<'_> {
        Cable::new(&self.network, self.index)
    }

    /// A BEAM node here that is yet to be started.
    #[must_use]
    pub fn beam<'h>(&'h self, basename: &str) -> BeamBuilder<'h> {
        BeamBuilder::new(self, basename)
    }

    /// An agent here that is yet to be started. The path is that of the `metacluster` binary.
    #[must_use]
    pub fn agent<'h>(&'h self, binary: &Path) -> AgentBuilder<'h> {
        AgentBuilder::new(self, binary)
    }

    /// Starts the stock epmd here.
    pub fn epmd(&self) -> Result<Epmd> {
        Epmd::start(self)
    }
}
