//! Requests to the API: a whole answer within a bounded time and size, or a stream of lines.
//!
//! Invariants: nothing waits for ever and nothing grows with what the API sends. The client with its credentials is made
//! when it is first needed and anew after [`Api::renew`]; making one may run an exec plugin, so it is done on a thread
//! for that, and never twice at once.

use http_body_util::BodyExt as _;
use hyper::{Request, Response, body::Bytes, header};
use kube::{
    Client, Config,
    client::{AuthError, Body},
};
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Duration, Instant, timeout, timeout_at},
};

use super::{access::Access, object::Status, problem::Problem, scope::Verb};
use crate::http::{self, LineTooLong, Lines};

/// How large a whole answer may be: a page of 500 pods of 64 kB.
pub(super) const ANSWER_BYTES_MAX: usize = 32 << 20;
/// How long one event may be. The API keeps no object of more than 3 MiB.
pub(super) const EVENT_BYTES_MAX: usize = 4 << 20;
/// How much of an answer that is no success is read.
const STATUS_BYTES_MAX: usize = 64 << 10;
const AGENT: &str = concat!("metacluster/", env!("CARGO_PKG_VERSION"));

/// The API as one strategy uses it.
#[derive(Debug)]
pub(super) struct Api {
    access: Access,
    timeout: Duration,
    slot: Mutex<Slot>,
}

/// The client in use, or at least the one that is being made.
#[derive(Default)]
struct Slot {
    made: Option<Made>,
    making: Option<JoinHandle<Result<Made, Problem>>>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("made", &self.made.is_some()).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Made {
    client: Client,
    namespace: String,
}

impl Api {
    /// An API that each request has this long for.
    pub(super) fn new(access: Access, timeout: Duration) -> Self {
        Self { access, timeout, slot: Mutex::new(Slot::default()) }
    }

    /// The namespace that holds where none is given: the pod's own, or that of the kubeconfig's context.
    pub(super) async fn namespace(&self) -> Result<String, Problem> {
        Ok(self.made().await?.namespace)
    }

    /// Reads the credentials again before the next request.
    pub(super) async fn renew(&self) {
        self.slot.lock().await.made = None;
    }

    /// A whole answer.
    pub(super) async fn get(&self, verb: Verb, path: &str, accept: &'static str) -> Result<Vec<u8>, Problem> {
        let deadline = Instant::now() + self.timeout;
        let response = self.send(verb, path, accept, deadline).await?;
        let body = timeout_at(deadline, whole(response.into_body(), ANSWER_BYTES_MAX)).await;
        body.map_err(|_| Problem::Slow(self.timeout))?
    }

    /// An answer that goes on. The time counts until it begins.
    pub(super) async fn open(&self, path: &str) -> Result<Stream, Problem> {
        let deadline = Instant::now() + self.timeout;
        let response = self.send(Verb::Watch, path, "application/json", deadline).await?;
        Ok(Stream { body: response.into_body(), lines: Lines::new(EVENT_BYTES_MAX), ended: false })
    }

    async fn send(
        &self,
        verb: Verb,
        path: &str,
        accept: &'static str,
        deadline: Instant,
    ) -> Result<Response<Body>, Problem> {
        let made = self.made().await?;
        let request = Request::get(path).header(header::ACCEPT, accept).header(header::USER_AGENT, AGENT);
        let request = request.body(Body::empty()).map_err(|error| Problem::Access(error.to_string()))?;
        let slow = |_| Problem::Slow(self.timeout);
        let response = match timeout_at(deadline, made.client.send(request)).await.map_err(slow)? {
            Ok(response) => response,
            Err(error) => {
                let problem = sort(&error);
                if matches!(problem, Problem::Untrusted(_) | Problem::Access(_)) {
                    // Its certificate authority or its credentials may have been replaced on the disk.
                    self.renew().await;
                }
                return Err(problem);
            }
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let seconds = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = timeout_at(deadline, whole(response.into_body(), STATUS_BYTES_MAX)).await.map_err(slow)?;
        let status: Option<Status> = body.ok().and_then(|body| serde_json::from_slice(&body).ok());
        let status = Status { code, ..status.unwrap_or_default() };
        Err(Problem::of_status(status, verb, seconds.map(Duration::from_secs)))
    }

    async fn made(&self) -> Result<Made, Problem> {
        let mut slot = self.slot.lock().await;
        if let Some(made) = &slot.made {
            return Ok(made.clone());
        }
        let (access, within) = (self.access.clone(), self.timeout);
        let making = slot.making.get_or_insert_with(|| tokio::task::spawn_blocking(move || make(&access, within)));
        let Ok(made) = timeout(self.timeout, &mut *making).await else {
            // It goes on, so that a plugin which hangs is not started again and again.
            return Err(Problem::Access(format!(
                "the credentials for the Kubernetes API were not read within {} (`timeout`): does the kubeconfig's exec \
                 plugin hang?",
                metacluster_types::time::format_duration(self.timeout)
            )));
        };
        slot.making = None;
        let made = made.map_err(|error| {
            Problem::Access(format!("the credentials for the Kubernetes API cannot be read: {error}"))
        })??;
        slot.made = Some(made.clone());
        Ok(made)
    }
}

/// Makes a client. It reads files and may run a program, so it blocks.
fn make(access: &Access, timeout: Duration) -> Result<Made, Problem> {
    let config: Config = access.config(timeout)?;
    let namespace = config.default_namespace.clone();
    let client = Client::try_from(config).map_err(|error| sort(&error))?;
    Ok(Made { client, namespace })
}

/// A watch that is open. Dropping it closes the connection.
#[derive(Debug)]
pub(super) struct Stream {
    body: Body,
    lines: Lines,
    ended: bool,
}

impl Stream {
    /// The next line, or `None` at the end, be it in good order or not: a stream that breaks off is begun again where it
    /// stopped. When this is cancelled, nothing is lost.
    pub(super) async fn line(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            if let Some(line) = self.lines.pop() {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(None);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.lines.push(&data).map_err(|LineTooLong| Problem::TooLong(EVENT_BYTES_MAX))?;
                    }
                }
                // Half a line that stands at the end is no event.
                Some(Err(_)) | None => self.ended = true,
            }
        }
    }
}

/// Reads a body to its end.
async fn whole(mut body: Body, bytes_max: usize) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::Broken(http::innermost(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > bytes_max {
            return Err(Problem::TooLong(bytes_max));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Sorts what kube says, by what stands at the bottom of it.
fn sort(error: &kube::Error) -> Problem {
    let what = http::innermost(error);
    if http::find::<AuthError>(error).is_some() || matches!(error, kube::Error::Auth(_)) {
        return Problem::Access(format!("the credentials for the Kubernetes API cannot be used: {error}"));
    }
    match http::find::<rustls::Error>(error) {
        Some(rustls::Error::InvalidCertificate(_)) => return Problem::Untrusted(what),
        Some(_) => return Problem::Unreachable(format!("no TLS with it: {what}")),
        None => {}
    }
    if matches!(error, kube::Error::RustlsTls(_) | kube::Error::TlsRequired) {
        return Problem::Access(format!(
            "the certificates of the kubeconfig or service account cannot be used: {error}"
        ));
    }
    // The connection was there.
    let broken =
        |error: &hyper::Error| error.is_incomplete_message() || error.is_parse() || error.is_body_write_aborted();
    if http::find::<hyper::Error>(error).is_some_and(broken) {
        return Problem::Broken(what);
    }
    Problem::Unreachable(what)
}
