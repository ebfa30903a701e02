//! Where the API listens: the Unix socket and loopback TCP, bound before anything else starts.
//!
//! A lock on `<socket>.lock` decides whose the socket is, so a file that a dead agent left is replaced and a live agent
//! is never robbed of its own, however two starts race. The lock's file stays; the socket's goes with the server.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    net::SocketAddr,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
    task::JoinHandle,
};

use super::{State, Transport, bound::Bounded, router};
use crate::config::ApiConfig;

/// How long a stop waits for answers that are on their way.
const STOP_WAIT: Duration = Duration::from_secs(1);
const BACKLOG: i32 = 128;

/// Why the API cannot listen. Nothing was bound, and nothing of another agent was touched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A live agent has the socket. Stop it, or give this one a `state_dir` of its own.
    #[error(
        "another agent runs here: it listens on {}; stop it (metacluster leave), or set METACLUSTER_STATE_DIR for this one",
        .0.display()
    )]
    AnotherAgent(PathBuf),
    /// There is a file of another kind where the socket has to be. It was left alone.
    #[error("{} is there and is no socket: remove it, or set `api.socket`", .0.display())]
    NoSocket(PathBuf),
    /// The folder or the socket cannot be made.
    #[error("cannot make the socket {}: {error}", .path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The address that was asked for cannot be had.
    #[error("cannot listen on {address} for HTTP: {error}; set `api.http` to another address, or to \"off\"")]
    Http {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
}

/// The bound sockets. Connections wait in them until [`Listeners::serve`].
#[derive(Debug)]
pub struct Listeners {
    unix: UnixListener,
    http: Option<TcpListener>,
    socket: SocketFile,
    warnings: Vec<String>,
}

impl Listeners {
    /// Binds both. Has to run within a tokio runtime.
    ///
    /// A taken default address is a warning; an address that somebody asked for has to be had.
    ///
    /// # Errors
    /// When the socket belongs to a live agent, cannot be made, or the HTTP address that was asked for cannot be had.
    pub async fn bind(config: &ApiConfig) -> Result<Self, BindError> {
        let (unix, socket) = bind_socket(&config.socket)?;
        let mut warnings = Vec::new();
        let mut http = None;
        if let Some(wanted) = &config.http {
            match TcpListener::bind(wanted.address).await {
                Ok(listener) => http = Some(listener),
                Err(error) if wanted.explicit => return Err(BindError::Http { address: wanted.address, error }),
                Err(error) => warnings.push(format!(
                    "no HTTP: cannot listen on {}: {error}; the Unix socket {} serves all the same (set `api.http` to \
                     choose an address, or \"off\")",
                    wanted.address,
                    config.socket.display()
                )),
            }
        }
        Ok(Self { unix, http, socket, warnings })
    }

    /// Where the HTTP listens, if it does.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// What is worth a line in the log.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Begins to answer.
    #[must_use]
    pub fn serve(self, state: State) -> Server {
        let (stop, stopping) = watch::channel(false);
        let state = State { stopping: Some(stopping.clone()), ..state };
        let http_address = self.http_address();
        let unix = axum::serve(Bounded::new(self.unix), router(state.clone(), Transport::Unix))
            .with_graceful_shutdown(stopped(stopping.clone()));
        let mut tasks = vec![tokio::spawn(async move { drop(unix.await) })];
        if let Some(listener) = self.http {
            let http = axum::serve(Bounded::new(listener), router(state, Transport::Loopback))
                .with_graceful_shutdown(stopped(stopping));
            tasks.push(tokio::spawn(async move { drop(http.await) }));
        }
        Server { stop, tasks, http_address, _socket: self.socket }
    }
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // A dropped server stops as well.
    drop(stopping.wait_for(|stopping| *stopping).await);
}

/// The API at work. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    http_address: Option<SocketAddr>,
    _socket: SocketFile,
}

impl Server {
    /// Where the HTTP listens, if it does.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// Takes no more connections, ends the event streams, lets answers that are on their way go out for a second at
    /// most, and removes the socket.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + STOP_WAIT;
        for task in &mut self.tasks {
            if tokio::time::timeout_at(deadline, &mut *task).await.is_err() {
                task.abort();
            }
        }
    }
}

/// The socket's file, removed when this goes, and the lock that makes it ours.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is as good.
        drop(fs::remove_file(&self.path));
    }
}

fn bind_socket(path: &Path) -> Result<(UnixListener, SocketFile), BindError> {
    let failed = |error: io::Error| BindError::Socket { path: path.to_owned(), error };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&lock).map_err(failed)?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        let held = errno == nix::errno::Errno::EWOULDBLOCK;
        if held { BindError::AnotherAgent(path.to_owned()) } else { failed(errno.into()) }
    })?;
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    socket.bind(&SockAddr::unix(path).map_err(failed)?).map_err(failed)?;
    let file = SocketFile { path: path.to_owned(), _lock: lock };
    // Between these two nobody can connect, whatever the umask is.
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    let listener = UnixListener::from_std(socket.into()).map_err(failed)?;
    Ok((listener, file))
}

/// Removes what a dead agent left. With the lock in hand, whoever answers there is no agent that knows the lock, and is
/// left alone.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    let failed = |error: io::Error| BindError::Socket { path: path.to_owned(), error };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(BindError::NoSocket(path.to_owned())),
        Ok(_) => {}
    }
    if UnixStream::connect(path).is_ok() {
        return Err(BindError::AnotherAgent(path.to_owned()));
    }
    fs::remove_file(path).map_err(failed)
}
