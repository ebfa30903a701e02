//! PostgreSQL on this machine, and PgBouncer before it: Debian's, each in a folder and on a port of its own.
//!
//! Both refuse to run as root; started by root they run as `postgres`, or as `nobody` where Debian made no such user.

use std::{
    fs::{self, File, Permissions},
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::Signal,
    unistd::{User, geteuid},
};
use tempfile::TempDir;

use crate::{Child, Host, capture, child::tied, eventually, free_port};

/// How long a server may take to come up on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to end.
const END_WITHIN: Duration = Duration::from_secs(60);

/// A server of its own. It ends with this guard, and its folder goes.
#[derive(Debug)]
pub struct Postgres {
    child: Option<Child>,
    at: SocketAddr,
    launcher: Command,
    options: Vec<String>,
    folder: TempDir,
}

impl Postgres {
    /// The name of its superuser.
    pub const USER: &'static str = "postgres";
    /// The superuser's password.
    pub const PASSWORD: &'static str = "s3cret";

    /// One on a free port of the loopback interface, with more options such as `ssl=on`. [`crate::Tool::Postgres`] must
    /// be there.
    pub fn start(options: &[&str]) -> Result<Self> {
        let at = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port()?);
        Self::begin(at, as_an_ordinary_user(tied("setpriv")), options)
    }

    /// One on a host's own address, for the agents of its network.
    pub fn start_on(host: &Host) -> Result<Self> {
        let at = SocketAddr::new(IpAddr::V4(host.address()), 5432);
        Self::begin(at, as_an_ordinary_user(host.command("setpriv")), &[])
    }

    fn begin(at: SocketAddr, launcher: Command, options: &[&str]) -> Result<Self> {
        let folder = folder()?;
        let password = folder.path().join("password");
        fs::write(&password, Self::PASSWORD)?;
        hand_over(&password)?;
        let mut initdb = as_an_ordinary_user(tied("setpriv"));
        initdb.arg(program("initdb").context("there is no initdb")?);
        initdb.args(["--auth=scram-sha-256", "--no-sync", "--no-locale", "--encoding=UTF8"]);
        initdb.args(["--username", Self::USER]).arg("--pwfile").arg(&password);
        initdb.arg("--pgdata").arg(folder.path().join("data")).current_dir(folder.path());
        capture(&mut initdb)?;
        let mut access = File::options().append(true).open(folder.path().join("data/pg_hba.conf"))?;
        writeln!(access, "host all all samenet scram-sha-256")?;
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mut server = Self { child: None, at, launcher, options, folder };
        server.restart()?;
        Ok(server)
    }

    /// Starts it again after its end.
    pub fn restart(&mut self) -> Result<()> {
        self.child = None;
        let folder = self.folder.path();
        let mut command = again(&self.launcher);
        command.arg(program("postgres").context("there is no postgres")?);
        command.arg("-D").arg(folder.join("data")).arg("-k").arg(folder);
        command.args(["-p", &self.at.port().to_string(), "-h", &self.at.ip().to_string()]);
        command.args(["-c", "fsync=off", "-c", "max_connections=100"]);
        command.args(self.options.iter().flat_map(|option| ["-c", option]));
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::from(File::options().create(true).append(true).open(folder.join("log"))?));
        self.child = Some(Child::spawn(&mut command, "postgres")?);
        eventually(START_WITHIN, "postgres takes connections", || {
            self.psql("SELECT 1").map(drop).map_err(|error| format!("{error:#}; it said: {}", self.log()))
        })?;
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.at
    }

    /// The folder of its Unix socket.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The address of the database `postgres` for its superuser.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(Self::USER, Self::PASSWORD)
    }

    /// The address of the database `postgres` for another role.
    #[must_use]
    pub fn url_of(&self, user: &str, password: &str) -> String {
        format!("postgres://{user}:{password}@{}/postgres", self.at)
    }

    /// Runs SQL as the superuser, with `psql`, over the Unix socket, and gives what it printed.
    pub fn psql(&self, sql: &str) -> Result<String> {
        self.psql_many(&[sql])
    }

    /// As [`Postgres::psql`], one statement after the other over one connection. Notifications are among what it printed.
    pub fn psql_many(&self, statements: &[&str]) -> Result<String> {
        let mut command = Command::new("psql");
        command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]);
        command.arg("--host").arg(self.folder.path()).args(["--port", &self.at.port().to_string()]);
        command.args(["--username", Self::USER, "--dbname", "postgres"]);
        command.args(statements.iter().flat_map(|statement| ["--command", statement]));
        command.env("PGPASSWORD", Self::PASSWORD);
        Ok(capture(&mut command)?.trim().to_owned())
    }

    /// Makes every new transaction a read-only one, or ends that.
    pub fn set_read_only(&self, read_only: bool) -> Result<()> {
        let value = if read_only { "on" } else { "off" };
        self.psql(&format!("ALTER SYSTEM SET default_transaction_read_only = {value}")).or_else(|_| {
            self.psql(&format!(
                "SET default_transaction_read_only = off; ALTER SYSTEM SET default_transaction_read_only = {value}"
            ))
        })?;
        self.psql("SELECT pg_reload_conf()").map(drop)
    }

    /// Kills it with SIGKILL.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.as_mut().context("it does not run")?.kill9()
    }

    /// Ends it as a service manager does: connections are closed.
    pub fn stop(&mut self) -> Result<()> {
        let child = self.child.as_mut().context("it does not run")?;
        child.signal(Signal::SIGINT)?;
        child.wait(END_WITHIN).map(drop)
    }

    /// Stops it and all its processes where they are: connections are taken and nothing is answered.
    pub fn pause(&self) -> Result<()> {
        self.signal_all(Signal::SIGSTOP)
    }

    /// Lets them go on.
    pub fn resume(&self) -> Result<()> {
        self.signal_all(Signal::SIGCONT)
    }

    fn signal_all(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("it does not run")?;
        child.signal(signal)?;
        let backends = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.pid())).unwrap_or_default();
        for pid in backends.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            // It may have ended meanwhile.
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).ok();
        }
        Ok(())
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // At once, and yet without leaving shared memory behind. The guard of the process kills it if need be.
            child.signal(Signal::SIGCONT).and_then(|()| child.signal(Signal::SIGQUIT)).ok();
            child.wait(END_WITHIN).ok();
        }
    }
}

/// PgBouncer before a server. It ends with this guard.
#[derive(Debug)]
pub struct PgBouncer {
    _child: Child,
    at: SocketAddr,
    _folder: TempDir,
}

impl PgBouncer {
    /// One on a free port of the loopback interface. `pool_mode` is `session`, `transaction` or `statement`.
    pub fn start(server: &Postgres, pool_mode: &str) -> Result<Self> {
        let folder = folder()?;
        let at = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port()?);
        let (host, port) = (server.address().ip(), server.address().port());
        let (user, password) = (Postgres::USER, Postgres::PASSWORD);
        let settings = format!(
            "[databases]\n* = host={host} port={port} user={user} password={password}\n\
             [pgbouncer]\nlisten_addr = {}\nlisten_port = {}\nunix_socket_dir =\nauth_type = any\npool_mode = {pool_mode}\n\
             ignore_startup_parameters = extra_float_digits\n",
            at.ip(),
            at.port()
        );
        let path = folder.path().join("pgbouncer.ini");
        fs::write(&path, settings)?;
        hand_over(&path)?;
        let mut command = as_an_ordinary_user(tied("setpriv"));
        command.arg(program("pgbouncer").context("there is no pgbouncer")?).arg(&path).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::from(File::create(folder.path().join("log"))?));
        let child = Child::spawn(&mut command, "pgbouncer")?;
        eventually(START_WITHIN, "pgbouncer listens", || {
            let log = || fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            std::net::TcpStream::connect(at).map(drop).map_err(|error| format!("{error}; it said: {}", log()))
        })?;
        Ok(Self { _child: child, at, _folder: folder })
    }

    /// The address of the database `postgres` through it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://{}@{}/postgres", Postgres::USER, self.at)
    }
}

/// Gives a folder and its files to the user that the servers run as, such as a key that PostgreSQL insists on owning.
pub fn open_to_servers(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).context("no folder")? {
        hand_over(&entry?.path())?;
    }
    hand_over(folder)
}

/// A program of PostgreSQL. Debian keeps the server's away from the path.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut debian: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    debian.sort();
    let folders = std::env::split_paths(&path).chain(debian.into_iter().rev()).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// The user that the servers run as when root starts them.
fn ordinary_user() -> Option<User> {
    if !geteuid().is_root() {
        return None;
    }
    ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).ok().flatten())
}

/// Adds to a `setpriv` what makes it drop root's rights.
fn as_an_ordinary_user(mut setpriv: Command) -> Command {
    if let Some(user) = ordinary_user() {
        setpriv.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid)).arg("--clear-groups");
    }
    // Once more: what `ip netns exec` starts has another parent, and a change of the user unties.
    setpriv.args(["--pdeathsig", "KILL"]);
    setpriv
}

/// A folder that the ordinary user can reach and write. Where the usual place of such folders is closed to others, it is
/// below `/tmp`.
fn folder() -> Result<TempDir> {
    let open = |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0);
    let usual = std::env::temp_dir();
    let place = if usual.ancestors().all(open) { usual } else { PathBuf::from("/tmp") };
    let folder = tempfile::Builder::new().prefix("mc-pg-").tempdir_in(place).context("no temporary folder")?;
    hand_over(folder.path())?;
    // Root reads it anyway.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    Ok(folder)
}

fn hand_over(path: &Path) -> Result<()> {
    let Some(user) = ordinary_user() else { return Ok(()) };
    chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
        .with_context(|| format!("cannot give {} to {}", path.display(), user.name))
}

/// The same command, to be started once more.
fn again(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => copy.env(name, value),
            None => copy.env_remove(name),
        };
    }
    copy
}
