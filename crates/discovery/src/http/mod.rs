//! The HTTP client that strategies share, custom ones too: HTTP/1.1 over TCP or TLS.
//!
//! [`Client::send`] gives a whole answer within a bounded time and size; [`Client::open`] gives one that goes on, such as
//! a watch, line by line, each line bounded. Connections are kept and used again. The files of TLS are read again when
//! they change, so that a rotated certificate needs no restart.
//!
//! Invariants: nothing waits for ever, nothing grows with what a server sends, and a redirect is an answer like any
//! other: it is not followed. Proxies (`HTTPS_PROXY` and the like) are not used. Follows RFC 9110 and RFC 9112.

mod answer;
mod error;
mod lines;
mod request;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};

use http_body_util::Full;
use hyper::{Uri, body::Bytes};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Pooled, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::{Duration, Instant, timeout_at};

pub use self::{
    answer::{Answer, Streamed},
    error::HttpError,
    request::{ANSWER_BYTES_MAX, ANSWER_WITHIN, Request},
};
pub(crate) use self::{
    error::{find, innermost},
    lines::{LineTooLong, Lines},
};
use crate::tls::{Stamp, TlsFiles};

/// How long a TCP connection may take to come up, over all addresses of a name.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection that nobody uses is kept.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How many such connections are kept to one server; those beyond are closed.
const IDLE_CONNECTIONS_MAX: usize = 4;

type Connections = Pooled<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client with its connections. It is made once for a strategy's run and shared by reference.
#[derive(Debug)]
pub struct Client {
    files: TlsFiles,
    connect_within: Duration,
    plain: Pooled<HttpConnector, Full<Bytes>>,
    secure: Mutex<Option<(Stamp, Connections)>>,
}

impl Client {
    /// A client that trusts and shows what these files hold. They are read when they are first needed, so plain HTTP
    /// needs none.
    #[must_use]
    pub fn new(files: TlsFiles) -> Self {
        Self::with_connect_timeout(files, CONNECT_WITHIN)
    }

    /// A client with another time for a connection to come up.
    #[must_use]
    pub fn with_connect_timeout(files: TlsFiles, connect_within: Duration) -> Self {
        let plain = pooled().build(connector(connect_within));
        Self { files, connect_within, plain, secure: Mutex::new(None) }
    }

    /// Sends a request and reads its whole answer, whatever its status.
    ///
    /// # Errors
    /// Any but [`HttpError::Status`], which [`Answer::success`] gives.
    pub async fn send(&self, request: Request) -> Result<Answer, HttpError> {
        let at = request.at();
        let (within, bytes_max) = (request.within, request.bytes_max);
        let deadline = Instant::now() + within;
        let slow = || HttpError::Slow { at: at.clone(), within };
        let response = timeout_at(deadline, self.exchange(request, &at)).await.map_err(|_| slow())??;
        timeout_at(deadline, Answer::read(response, at.clone(), bytes_max)).await.map_err(|_| slow())?
    }

    /// Sends a request and reads the head of its answer; the body comes piece by piece and may go on for ever. The
    /// request's time counts until the head is there, its size for one piece. An answer that is no success is read
    /// whole, and is [`HttpError::Status`].
    ///
    /// # Errors
    /// Any.
    pub async fn open(&self, request: Request) -> Result<Streamed, HttpError> {
        let at = request.at();
        let (within, bytes_max) = (request.within, request.bytes_max);
        let deadline = Instant::now() + within;
        let slow = || HttpError::Slow { at: at.clone(), within };
        let response = timeout_at(deadline, self.exchange(request, &at)).await.map_err(|_| slow())??;
        if response.status().is_success() {
            return Ok(Streamed::new(response, at, bytes_max));
        }
        let whole = timeout_at(deadline, Answer::read(response, at.clone(), bytes_max)).await.map_err(|_| slow())??;
        Err(whole.failure())
    }

    async fn exchange(&self, request: Request, at: &str) -> Result<hyper::Response<hyper::body::Incoming>, HttpError> {
        let request = request.into_hyper()?;
        let answer = if is_https(request.uri()) {
            self.secure()?.request(request).await
        } else {
            self.plain.request(request).await
        };
        answer.map_err(|error| HttpError::sort(at, &error, self.connect_within))
    }

    /// The connections over TLS, made anew when a file changed.
    fn secure(&self) -> Result<Connections, HttpError> {
        let stamp = self.files.stamp();
        let mut secure = self.secure.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made_of, connections)) = &*secure
            && *made_of == stamp
        {
            return Ok(connections.clone());
        }
        let mut tcp = connector(self.connect_within);
        tcp.enforce_http(false);
        let tls = HttpsConnectorBuilder::new().with_tls_config(self.files.client_config()?);
        let connections: Connections = pooled().build(tls.https_only().enable_http1().wrap_connector(tcp));
        *secure = Some((stamp, connections.clone()));
        Ok(connections)
    }
}

fn is_https(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https")
}

fn connector(connect_within: Duration) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(connect_within));
    connector.set_nodelay(true);
    connector.set_keepalive(Some(IDLE_MAX));
    connector
}

fn pooled() -> hyper_util::client::legacy::Builder {
    let mut builder = Pooled::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new());
    builder.pool_idle_timeout(IDLE_MAX).pool_max_idle_per_host(IDLE_CONNECTIONS_MAX);
    builder
}
