//! What is asked, and how long and how large the answer may be.

use std::str::FromStr as _;

use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Uri,
    body::Bytes,
    header::{HOST, HeaderName, HeaderValue, USER_AGENT},
};
use tokio::time::Duration;

use super::HttpError;

/// How long a whole answer may take, unless [`Request::within`] says otherwise.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How large an answer, or a piece of one that goes on, may be, unless [`Request::bytes_max`] says otherwise. 10,000
/// instances of 1.5 kB fit.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;
const AGENT: &str = concat!("metacluster/", env!("CARGO_PKG_VERSION"));

/// A request. What is wrong with an address or a header is told when it is sent.
#[derive(Clone)]
pub struct Request {
    method: Method,
    url: Uri,
    headers: HeaderMap,
    body: Bytes,
    fault: Option<HttpError>,
    pub(super) within: Duration,
    pub(super) bytes_max: usize,
}

impl std::fmt::Debug for Request {
    /// Shows neither headers nor body: both may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("method", &self.method).field("at", &self.at()).finish_non_exhaustive()
    }
}

impl Request {
    /// A request of any method to `http://…` or `https://…`.
    #[must_use]
    pub fn new(method: Method, url: &str) -> Self {
        let (url, fault) = match Uri::from_str(url) {
            Ok(uri) if matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() => (uri, None),
            Ok(_) | Err(_) => (Uri::default(), Some(HttpError::Address { given: without_secrets(url) })),
        };
        let headers = HeaderMap::new();
        Self { method, url, headers, body: Bytes::new(), fault, within: ANSWER_WITHIN, bytes_max: ANSWER_BYTES_MAX }
    }

    /// A GET.
    #[must_use]
    pub fn get(url: &str) -> Self {
        Self::new(Method::GET, url)
    }

    /// A POST with a body.
    #[must_use]
    pub fn post(url: &str, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::new(Method::POST, url) }
    }

    /// A PUT with a body.
    #[must_use]
    pub fn put(url: &str, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::new(Method::PUT, url) }
    }

    /// A DELETE.
    #[must_use]
    pub fn delete(url: &str) -> Self {
        Self::new(Method::DELETE, url)
    }

    /// Adds a header, in place of one of the same name. Its value is never printed.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match (HeaderName::from_str(name), HeaderValue::from_str(value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                self.headers.insert(name, value);
            }
            (Ok(_) | Err(_), Ok(_) | Err(_)) => self.fault = Some(HttpError::Header { name: name.to_owned() }),
        }
        self
    }

    /// How long the whole answer may take, the connection included. For [`Client::open`](super::Client::open), the head
    /// of the answer.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// How many bytes the answer may have. For [`Client::open`](super::Client::open), one piece of it.
    #[must_use]
    pub fn bytes_max(mut self, bytes_max: usize) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// The server, as `host` or `host:port`.
    pub(super) fn at(&self) -> String {
        match (self.url.host(), self.url.port_u16()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => String::new(),
        }
    }

    pub(super) fn into_hyper(self) -> Result<hyper::Request<Full<Bytes>>, HttpError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let mut request = hyper::Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.url;
        *request.headers_mut() = self.headers;
        request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        // A request that was signed brings its own.
        if !request.headers().contains_key(HOST)
            && let Some(host) = request.uri().authority().map(|authority| host_of(authority.as_str()))
            && let Ok(host) = HeaderValue::from_str(host)
        {
            request.headers_mut().insert(HOST, host);
        }
        Ok(request)
    }
}

/// An authority without the user before the `@`.
fn host_of(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// An address without what may be a password or a token.
pub(crate) fn without_secrets(url: &str) -> String {
    let before_query = url.split(['?', '#']).next().unwrap_or_default();
    match before_query.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) =
                rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
            let path = path.map(|path| format!("/{path}")).unwrap_or_default();
            format!("{scheme}://{}{path}", host_of(authority))
        }
        None => host_of(before_query).to_owned(),
    }
}
