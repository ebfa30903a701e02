//! Talks to an agent: HTTP/1 over its Unix socket, one connection a request, and its stream of events.
//!
//! Nothing waits for ever: to connect, to get an answer's head and to read a listing each has a time, and an answer has
//! a size. An agent that is not there is [`Failure::NoAgent`], with the way to get one. Specification: docs/contracts.md,
//! "HTTP".

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use metacluster_agent::{events::Position, view::ErrorAnswer};
use serde::de::DeserializeOwned;
use tokio::{net::UnixStream, task::JoinHandle, time::timeout};

use crate::{
    failure::{Failure, Outcome},
    output::clean,
    sse::{Frame, Parser},
};

/// How long an agent may take to accept a connection, and to begin its answer.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// The largest listing that is read: some hundred thousand nodes.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// The longest line of an answer that comes line by line.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Where an agent answers.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

/// What goes with a request.
struct Body {
    media: &'static str,
    text: String,
}

impl Body {
    fn json(value: &serde_json::Value) -> Self {
        Self { media: "application/json", text: value.to_string() }
    }

    fn text(text: &str) -> Self {
        Self { media: "text/plain; charset=utf-8", text: text.to_owned() }
    }
}

impl Client {
    /// The agent at that socket.
    pub(crate) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Asks for a listing, as text.
    pub(crate) async fn get_text(&self, path: &str) -> Outcome<String> {
        self.ask(Method::GET, path, None).await
    }

    /// Asks for a listing.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Outcome<T> {
        self.read(path, &self.ask(Method::GET, path, None).await?)
    }

    /// Orders something.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str) -> Outcome<T> {
        self.read(path, &self.ask(Method::POST, path, None).await?)
    }

    /// Puts something in place, described by a text.
    pub(crate) async fn put(&self, path: &str, text: &str) -> Outcome {
        self.ask(Method::PUT, path, Some(Body::text(text))).await.map(drop)
    }

    /// Takes something away.
    pub(crate) async fn delete(&self, path: &str) -> Outcome {
        self.ask(Method::DELETE, path, None).await.map(drop)
    }

    /// Changes something, as the body says.
    pub(crate) async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &serde_json::Value,
    ) -> Outcome<T> {
        self.read(path, &self.ask(method, path, Some(Body::json(body))).await?)
    }

    /// Asks for an answer that comes line by line.
    pub(crate) async fn lines(&self, path: &str, body: &serde_json::Value) -> Outcome<Lines> {
        let (response, connection) = self.send(Method::POST, path, None, Some(Body::json(body))).await?;
        let (status, body) = (response.status(), response.into_body());
        if !status.is_success() {
            let text = self.body(path, body).await?;
            return Err(self.refused(path, status, &text));
        }
        Ok(Lines { connection, body, bytes: Vec::new() })
    }

    /// Whether something accepts connections at the socket.
    pub(crate) async fn is_there(&self) -> bool {
        UnixStream::connect(&self.socket).await.is_ok()
    }

    /// Opens a stream of events. `since` names the last one that is known already.
    pub(crate) async fn events(&self, path: &str, since: Option<Position>) -> Outcome<Events> {
        let (response, connection) = self.send(Method::GET, path, since, None).await?;
        let (status, response) = (response.status(), response.into_body());
        if !status.is_success() {
            let text = self.body(path, response).await?;
            return Err(self.refused(path, status, &text));
        }
        Ok(Events { connection, body: response, parser: Parser::default(), ready: VecDeque::new() })
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Body>) -> Outcome<String> {
        let (response, connection) = self.send(method, path, None, body).await?;
        let status = response.status();
        let text = self.body(path, response.into_body()).await?;
        drop(connection);
        if status.is_success() { Ok(text) } else { Err(self.refused(path, status, &text)) }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        since: Option<Position>,
        body: Option<Body>,
    ) -> Outcome<(Response<Incoming>, Connection)> {
        let stream = match timeout(ANSWER_WAIT, UnixStream::connect(&self.socket)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.absent(&error)),
            Err(_) => return Err(self.silent()),
        };
        let broken = |error: hyper::Error| {
            Failure::NoAgent(format!("what answers at {} is no agent: {error}", self.socket.display()))
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let connection = Connection(tokio::spawn(async move {
            // The request sees the error of its connection.
            match connection.await {
                Ok(()) | Err(_) => {}
            }
        }));
        let mut request = Request::builder().method(method).uri(path).header("Host", "localhost");
        if let Some(since) = since {
            request = request.header("Last-Event-ID", since.to_string());
        }
        if let Some(body) = &body {
            request = request.header("Content-Type", body.media);
        }
        let request = request
            .body(Full::new(Bytes::from(body.map(|body| body.text).unwrap_or_default())))
            .map_err(|error| Failure::Usage(format!("cannot ask for `{}`: {error}", clean(path))))?;
        match timeout(ANSWER_WAIT, sender.send_request(request)).await {
            Ok(response) => Ok((response.map_err(broken)?, connection)),
            Err(_) => Err(self.silent()),
        }
    }

    async fn body(&self, path: &str, body: Incoming) -> Outcome<String> {
        let whole = match timeout(ANSWER_WAIT, Limited::new(body, ANSWER_BYTES_MAX).collect()).await {
            Ok(Ok(whole)) => whole.to_bytes(),
            Ok(Err(error)) => return Err(Failure::NotSo(format!("the agent's answer to {path} broke off: {error}"))),
            Err(_) => return Err(self.silent()),
        };
        String::from_utf8(whole.into())
            .map_err(|_| Failure::NotSo(format!("the agent's answer to {path} is no text: is it another program?")))
    }

    fn read<T: DeserializeOwned>(&self, path: &str, text: &str) -> Outcome<T> {
        serde_json::from_str(text).map_err(|error| {
            Failure::NotSo(format!(
                "the answer to {path} of the agent at {} is of another version: {error}",
                self.socket.display()
            ))
        })
    }

    fn refused(&self, path: &str, status: StatusCode, text: &str) -> Failure {
        match serde_json::from_str::<ErrorAnswer>(text) {
            Ok(answer) => Failure::NotSo(format!("the agent refused {path}: {}", clean(&answer.error))),
            Err(_) => Failure::NotSo(format!("the agent at {} refused {path}: {status}", self.socket.display())),
        }
    }

    fn absent(&self, error: &io::Error) -> Failure {
        let socket = self.socket.display();
        let kind = error.kind();
        Failure::NoAgent(if kind == io::ErrorKind::NotFound {
            format!(
                "no agent: there is no socket {socket}; start one with `metacluster up`, or name its socket with --socket"
            )
        } else if kind == io::ErrorKind::ConnectionRefused {
            format!("no agent: nothing listens at {socket}, its agent has ended; start one with `metacluster up`")
        } else if kind == io::ErrorKind::PermissionDenied {
            format!("may not open {socket}: permission denied; run this as the user that runs the agent")
        } else {
            format!("no agent: cannot connect to {socket}: {error}")
        })
    }

    fn silent(&self) -> Failure {
        Failure::NoAgent(format!(
            "the agent at {} does not answer: it took longer than {} seconds",
            self.socket.display(),
            ANSWER_WAIT.as_secs()
        ))
    }
}

/// The task that drives a connection; it ends with its holder.
#[derive(Debug)]
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer that comes line by line.
#[derive(Debug)]
pub(crate) struct Lines {
    /// Kept: the body ends with its connection.
    #[expect(dead_code, reason = "held for its drop")]
    connection: Connection,
    body: Incoming,
    bytes: Vec<u8>,
}

impl Lines {
    /// The next line; `None` at the end.
    pub(crate) async fn next(&mut self) -> Outcome<Option<String>> {
        loop {
            if let Some(end) = self.bytes.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()));
            }
            if self.bytes.len() > LINE_BYTES_MAX {
                return Err(Failure::NotSo("a line of the agent's answer is longer than any may be".to_owned()));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(Failure::NotSo(format!("the agent's answer broke off: {error}"))),
                Some(Ok(frame)) => self.bytes.extend(frame.into_data().unwrap_or_default()),
            }
        }
    }
}

/// An open stream of events.
#[derive(Debug)]
pub(crate) struct Events {
    /// Kept: the body ends with its connection.
    #[expect(dead_code, reason = "held for its drop")]
    connection: Connection,
    body: Incoming,
    parser: Parser,
    ready: VecDeque<Frame>,
}

impl Events {
    /// The next frame; `None` when the stream ended, in good order or not.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            let chunk = self.body.frame().await?.ok()?;
            if let Ok(bytes) = chunk.into_data() {
                self.ready.extend(self.parser.feed(&bytes).ok()?);
            }
        }
    }
}

/// The socket that a command asks: `--socket`, else what the environment says, else the one in the first of the default
/// state folders where there is one.
pub(crate) fn socket_or_default(given: Option<&Path>) -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(socket) = given.map(Path::to_owned).or_else(|| variable("METACLUSTER_SOCKET")) {
        return socket;
    }
    if let Some(folder) = variable("METACLUSTER_STATE_DIR") {
        return folder.join(SOCKET_NAME);
    }
    let state = variable("XDG_STATE_HOME").filter(|folder| folder.is_absolute());
    let state = state.or_else(|| variable("HOME").map(|home| home.join(".local/state")));
    let system = Path::new(SYSTEM_STATE_DIR).join(SOCKET_NAME);
    match state.map(|state| state.join("metacluster").join(SOCKET_NAME)) {
        // An agent that this user started is nearer than that of the system.
        Some(own) if own.exists() => own,
        Some(_) | None => system,
    }
}

const SOCKET_NAME: &str = "metacluster.sock";
/// Where the state of root's agent lives; others keep theirs at home.
const SYSTEM_STATE_DIR: &str = "/var/lib/metacluster";

/// A path as a shell takes it.
pub(crate) fn shown_path(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
