//! The instance metadata service, version 2: a token by PUT, then GETs with it.
//!
//! Follows "Use the Instance Metadata Service to access instance metadata" of the EC2 User Guide: a token is for at most
//! six hours, a 401 says that it is none any more, a 403 to the PUT that the service is off, and an answer to the PUT
//! travels no further than the hop limit of the instance, by default to the instance itself and into no container.
//! Version 1 is never used.
//!
//! Invariants: no call lasts longer than its time, no answer is longer than [`ANSWER_BYTES_MAX`], no token is in a log.

use std::env;

use hyper::body::Bytes;
use tokio::{
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::{
    http::{Client, HttpError, Request},
    tls::TlsFiles,
};

/// Where it is over IPv4.
const IPV4: &str = "http://169.254.169.254";
/// Where it is over IPv6, on instances that have it enabled there.
const IPV6: &str = "http://[fd00:ec2::254]";
/// What a token is asked for, the longest there is.
const TOKEN_TTL: Duration = Duration::from_secs(21_600);
/// How long before its end a token is not used any more.
const TOKEN_REST: Duration = Duration::from_secs(120);
/// Longer tokens are none. AWS's have 56 characters.
const TOKEN_BYTES_MAX: usize = 1024;
/// User data has at most 16 kB, the rest is shorter.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How long one call may take. The service is on the same host.
const WITHIN: Duration = Duration::from_secs(1);

const TOKEN: &str = "x-aws-ec2-metadata-token";
const TOKEN_TTL_SECONDS: &str = "x-aws-ec2-metadata-token-ttl-seconds";
/// The variable that names the service's address, as AWS's own tools read it.
pub(super) const ENDPOINT_VARIABLE: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const MODE_VARIABLE: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE";
const DISABLED_VARIABLE: &str = "AWS_EC2_METADATA_DISABLED";

/// Why the service gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImdsError {
    /// The environment says that it is not to be used.
    #[error("the instance metadata is not asked, since AWS_EC2_METADATA_DISABLED is set")]
    Disabled,
    /// The instance has it switched off.
    #[error(
        "the instance metadata service is off (403): switch it on with `aws ec2 modify-instance-metadata-options \
         --http-endpoint enabled`"
    )]
    Off,
    /// Nobody answers. Off AWS that is as it should be.
    #[error(
        "the instance metadata service does not answer ({error}): this is no EC2 instance, or a container on one; for \
         containers raise the hop limit with `aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2`"
    )]
    Silent {
        /// What the attempt ended with.
        error: HttpError,
    },
    /// Something else answers there.
    #[error("what answers at {at} is no instance metadata service version 2: {what}")]
    Other {
        /// The address.
        at: String,
        /// What it said.
        what: String,
    },
    /// It takes no token, not even a fresh one.
    #[error("the instance metadata service refuses its own fresh token (401)")]
    TokenRefused,
    /// It failed on one item.
    #[error("the instance metadata service answers {status} to {path}")]
    Status {
        /// The item.
        path: String,
        /// The status.
        status: u16,
    },
}

/// A client of the service. The token is kept between calls.
#[derive(Debug)]
pub(crate) struct Imds {
    bases: Vec<String>,
    disabled: bool,
    /// How long one call may take.
    within: Duration,
    client: Client,
    session: Mutex<Option<Session>>,
}

#[derive(Clone)]
struct Session {
    base: String,
    token: String,
    until: Instant,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Imds {
    /// The service as the environment says it: `AWS_EC2_METADATA_SERVICE_ENDPOINT`, else
    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE` (`IPv4` or `IPv6`), else both in this order.
    pub(crate) fn of_environment() -> Self {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let disabled = variable(DISABLED_VARIABLE).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let bases = match (variable(ENDPOINT_VARIABLE), variable(MODE_VARIABLE)) {
            (Some(endpoint), _) => vec![endpoint.trim_end_matches('/').to_owned()],
            (None, Some(mode)) if mode.eq_ignore_ascii_case("ipv6") => vec![IPV6.to_owned()],
            (None, Some(mode)) if mode.eq_ignore_ascii_case("ipv4") => vec![IPV4.to_owned()],
            (None, _) => vec![IPV4.to_owned(), IPV6.to_owned()],
        };
        Self { disabled, ..Self::at(bases) }
    }

    /// The service at the first of these addresses that answers.
    pub(crate) fn at(bases: Vec<String>) -> Self {
        Self::waiting(bases, WITHIN)
    }

    /// The same, where one call may take this long.
    pub(crate) fn waiting(bases: Vec<String>, within: Duration) -> Self {
        let client = Client::with_connect_timeout(TlsFiles::default(), within);
        Self { bases, disabled: false, within, client, session: Mutex::new(None) }
    }

    /// An item such as `/latest/meta-data/instance-id`, or `None` if there is none of that name.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<Bytes>, ImdsError> {
        let session = self.session(false).await?;
        let mut answer = self.ask(&session, path).await?;
        if answer.0 == 401 {
            let session = self.session(true).await?;
            answer = self.ask(&session, path).await?;
        }
        match answer {
            (200, body) => Ok(Some(body)),
            (404, _) => Ok(None),
            (401, _) => Err(ImdsError::TokenRefused),
            (403, _) => Err(ImdsError::Off),
            (status, _) => Err(ImdsError::Status { path: path.to_owned(), status }),
        }
    }

    /// An item that is a short text.
    ///
    /// # Errors
    /// As [`Imds::get`].
    pub(crate) async fn text(&self, path: &str) -> Result<Option<String>, ImdsError> {
        let body = self.get(path).await?;
        Ok(body.map(|body| String::from_utf8_lossy(&body).trim().to_owned()))
    }

    async fn ask(&self, session: &Session, path: &str) -> Result<(u16, Bytes), ImdsError> {
        let request = Request::get(&format!("{}{path}", session.base)).header(TOKEN, &session.token);
        let answer = self.client.send(request.within(self.within).bytes_max(ANSWER_BYTES_MAX)).await;
        let answer = answer.map_err(|error| ImdsError::Silent { error })?;
        Ok((answer.status.as_u16(), answer.body))
    }

    /// A token that holds, a new one if `anew`.
    async fn session(&self, anew: bool) -> Result<Session, ImdsError> {
        if self.disabled {
            return Err(ImdsError::Disabled);
        }
        let mut session = self.session.lock().await;
        if let Some(session) = session.as_ref().filter(|session| !anew && Instant::now() < session.until) {
            return Ok(session.clone());
        }
        let mut first = None;
        for base in &self.bases {
            match self.token(base).await {
                Ok(fresh) => return Ok(session.insert(fresh).clone()),
                Err(error) => first = first.or(Some(error)),
            }
        }
        *session = None;
        Err(first.unwrap_or(ImdsError::Disabled))
    }

    async fn token(&self, base: &str) -> Result<Session, ImdsError> {
        let ttl = TOKEN_TTL.as_secs().to_string();
        let request = Request::put(&format!("{base}/latest/api/token"), Bytes::new()).header(TOKEN_TTL_SECONDS, &ttl);
        let asked = Instant::now();
        let answer = self.client.send(request.within(self.within).bytes_max(TOKEN_BYTES_MAX)).await;
        let other = |what: String| ImdsError::Other { at: base.to_owned(), what };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error @ (HttpError::Broken { .. } | HttpError::TooLong { .. })) => {
                return Err(other(error.to_string()));
            }
            Err(error) => return Err(ImdsError::Silent { error }),
        };
        match answer.status.as_u16() {
            200 => {}
            403 => return Err(ImdsError::Off),
            status => return Err(other(format!("it answers {status} to the request for a token"))),
        }
        let token = std::str::from_utf8(&answer.body).map(str::trim).unwrap_or_default();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(other("it gives a token that is none".to_owned()));
        }
        let given = answer.header(TOKEN_TTL_SECONDS).and_then(|text| text.parse().ok());
        let ttl = given.map_or(TOKEN_TTL, Duration::from_secs).min(TOKEN_TTL);
        let until = asked + ttl.saturating_sub(TOKEN_REST.min(ttl / 10));
        Ok(Session { base: base.to_owned(), token: token.to_owned(), until })
    }
}
