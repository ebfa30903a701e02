//! Why there is no answer, sorted by what to do about it.

use std::{error::Error, io};

use tokio::time::Duration;

use crate::tls::TlsFilesError;

/// Why a request has no answer, or not the one that was hoped for. Whether the server did what was asked is known for
/// [`HttpError::Status`] alone. `at` is the server as `host` or `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The address is none. Nothing was sent.
    #[error("`{given}` is no address: expected http://host:port or https://host:port")]
    Address {
        /// The address without what may be secret.
        given: String,
    },
    /// A header's name or value has bytes that no header may have. Nothing was sent.
    #[error("the value of the header `{name}` has characters that no header may have")]
    Header {
        /// The header's name.
        name: String,
    },
    /// The certificates and keys of the configuration cannot be used. Nothing was sent.
    #[error(transparent)]
    Files(#[from] TlsFilesError),
    /// The name has no address.
    #[error("{at} cannot be resolved: {what}")]
    Unresolved {
        /// The server.
        at: String,
        /// What the resolver said.
        what: String,
    },
    /// Nothing listens there.
    #[error("{at} refuses the connection: is the server up?")]
    Refused {
        /// The server.
        at: String,
    },
    /// No connection: no route, a firewall, a socket that cannot be made.
    #[error("{at} cannot be reached: {what}")]
    Unreachable {
        /// The server.
        at: String,
        /// What the system said.
        what: String,
    },
    /// Nobody answered the attempt to connect.
    #[error("{at} cannot be reached: no connection within {}", metacluster_types::time::format_duration(*within))]
    NoConnection {
        /// The server.
        at: String,
        /// The time that it had.
        within: Duration,
    },
    /// The server's certificate is not one to trust, or is for another name.
    #[error("the certificate of {at} is not trusted: {what}")]
    Untrusted {
        /// The server.
        at: String,
        /// What is wrong with it.
        what: String,
    },
    /// TLS failed otherwise; such as when the server wants a certificate from the client.
    #[error("no TLS with {at}: {what}")]
    Tls {
        /// The server.
        at: String,
        /// What failed.
        what: String,
    },
    /// The answer took too long.
    #[error("{at} did not answer within {}", metacluster_types::time::format_duration(*within))]
    Slow {
        /// The server.
        at: String,
        /// The time that it had.
        within: Duration,
    },
    /// The connection closed within the answer, or what came is no HTTP.
    #[error("the answer of {at} is broken: {what}")]
    Broken {
        /// The server.
        at: String,
        /// What is wrong.
        what: String,
    },
    /// The answer is longer than it may be.
    #[error("the answer of {at} is longer than {bytes_max} bytes")]
    TooLong {
        /// The server.
        at: String,
        /// What would have been allowed.
        bytes_max: usize,
    },
    /// The server answered with another status than 2xx.
    #[error("{at} answers {status}{}{excerpt}", if excerpt.is_empty() { "" } else { ": " })]
    Status {
        /// The server.
        at: String,
        /// The status.
        status: u16,
        /// The beginning of the body on one line.
        excerpt: String,
    },
}

impl HttpError {
    /// The status, if there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        if let Self::Status { status, .. } = self { Some(*status) } else { None }
    }

    pub(super) fn broken(at: &str, error: &hyper::Error) -> Self {
        Self::Broken { at: at.to_owned(), what: innermost(error) }
    }

    /// Sorts what the pool of connections says, by what stands at the bottom of it.
    pub(super) fn sort(at: &str, error: &hyper_util::client::legacy::Error, connect_within: Duration) -> Self {
        let at = at.to_owned();
        if let Some(tls) = find::<rustls::Error>(error) {
            let what = tls.to_string();
            return if matches!(tls, rustls::Error::InvalidCertificate(_)) {
                Self::Untrusted { at, what }
            } else {
                Self::Tls { at, what }
            };
        }
        if !error.is_connect() {
            return Self::Broken { at, what: innermost(error) };
        }
        if chain(error).any(|error| error.to_string() == "dns error") {
            return Self::Unresolved { at, what: innermost(error) };
        }
        let kind = find::<io::Error>(error).map(io::Error::kind);
        match kind {
            Some(io::ErrorKind::ConnectionRefused) => Self::Refused { at },
            Some(io::ErrorKind::TimedOut) => Self::NoConnection { at, within: connect_within },
            Some(_) | None => Self::Unreachable { at, what: innermost(error) },
        }
    }
}

/// The error and what caused it, each cause after what it caused.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error))
}

/// What caused an error. An [`io::Error`] hides what it wraps from `source`.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// The innermost error of a type.
pub(crate) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    chain(error).filter_map(|error| error.downcast_ref::<E>()).last()
}

/// What stands at the bottom of an error.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}
