//! What can go wrong with TLS, sorted by who can mend it. Each error is one line.

use std::{
    io,
    path::{Path, PathBuf},
};

use metacluster_erl_wire::handshake::HandshakeError;
use metacluster_types::NodeName;
use rustls::{AlertDescription, CertificateError};

/// Why there is no TLS connection with a peer. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The peer's certificate, or that of its authority, is past its end. The peer needs a new one; or our clock is wrong.
    #[error("the peer's certificate has expired (or the clock here is wrong)")]
    Expired,
    /// The peer's certificate is not valid yet. Mostly a clock is wrong.
    #[error("the peer's certificate is not valid yet (or the clock here is wrong)")]
    NotYetValid,
    /// Nobody whom we trust has signed the peer's certificate. One side has the wrong authority.
    #[error("the peer's certificate is signed by no authority that is trusted here")]
    UnknownAuthority,
    /// The peer showed no certificate, and must.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// The certificate is good, but belongs to others.
    #[error("{node} showed a certificate for {names}")]
    WrongName {
        /// Who showed it.
        node: NodeName,
        /// For whom it is.
        names: String,
    },
    /// The certificate is bad in another way: revoked, for another purpose, with a wrong signature.
    #[error("the peer's certificate is not accepted: {0}")]
    BadCertificate(String),
    /// The peer refused us: in most cases our certificate is missing, or its authority is not known there.
    #[error("the peer refused TLS with this node: {0}")]
    RefusedByPeer(String),
    /// The peer speaks plain distribution, and this node TLS.
    #[error("the peer speaks plain distribution, and this node TLS: start it with `-proto_dist inet_tls`")]
    PeerIsPlain,
    /// The peer speaks TLS, and this node plain distribution.
    #[error("the peer speaks TLS (`-proto_dist inet_tls`), and this node plain distribution")]
    PeerIsTls,
    /// The two have no version or cipher in common, or the peer breaks the protocol.
    #[error("TLS failed: {0}")]
    Protocol(String),
    /// The peer closed the connection in the middle.
    #[error("the peer closed the connection during the TLS handshake")]
    Closed,
    /// The network failed.
    #[error("the network failed during the TLS handshake: {0}")]
    Network(String),
}

impl TlsError {
    /// Whether what is no handshake in plain is one in TLS: the first byte of a record is its type, handshake or alert, and
    /// the second the major version.
    pub(crate) fn is_tls(error: &HandshakeError) -> bool {
        matches!(error, HandshakeError::TooLong(0x1503 | 0x1603))
    }

    /// Sorts what a read, a write or a handshake gave.
    pub(crate) fn from_io(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (tls, error.kind()) {
            (Some(tls), _) => Self::from_rustls(tls),
            (
                None,
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe,
            ) => Self::Closed,
            (None, _) => Self::Network(error.to_string()),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "rustls adds errors in minor versions")]
    fn from_rustls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => match error {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
                CertificateError::UnknownIssuer => Self::UnknownAuthority,
                // A key of the same name that did not sign it: an authority that was made anew.
                CertificateError::BadSignature => Self::UnknownAuthority,
                other => Self::BadCertificate(other.to_string()),
            },
            rustls::Error::NoCertificatesPresented => Self::NoCertificate,
            rustls::Error::AlertReceived(alert) => Self::RefusedByPeer(refusal(*alert)),
            rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => Self::PeerIsPlain,
            other => Self::Protocol(other.to_string()),
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "most alerts need no words of ours")]
fn refusal(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA => "it does not know the authority of our certificate".into(),
        AlertDescription::CertificateExpired => "our certificate has expired, as it sees it".into(),
        AlertDescription::CertificateRequired => "it wants a certificate from us".into(),
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "it does not accept our certificate".into()
        }
        AlertDescription::HandshakeFailure => {
            "handshake failure (no certificate, a name that does not fit, or no cipher in common)".into()
        }
        AlertDescription::ProtocolVersion => "it speaks no version of TLS that this node does (1.2 and 1.3)".into(),
        other => format!("{other:?}"),
    }
}

/// Why a node cannot speak TLS: what it was given does not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsSetupError {
    /// A file cannot be read.
    #[error("{}: {error}", .file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        error: String,
    },
    /// A file is no PEM, or lacks what it is to hold.
    #[error("{}: no {wanted} in PEM form{hint}", .file.display())]
    Missing {
        /// Which.
        file: PathBuf,
        /// What it is to hold.
        wanted: &'static str,
        /// What may help.
        hint: &'static str,
    },
    /// A certificate of an authority cannot be used.
    #[error("{}: the certificate of an authority cannot be used: {error}", .file.display())]
    BadAuthority {
        /// Which file.
        file: PathBuf,
        /// Why.
        error: String,
    },
    /// The key is of another kind, or does not belong to the certificate.
    #[error("{}: the key does not fit {}: {error}", .key.display(), .certificate.display())]
    BadKey {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificate: PathBuf,
        /// Why.
        error: String,
    },
}

impl TlsSetupError {
    /// The file to look at.
    #[must_use]
    pub fn file(&self) -> &Path {
        match self {
            Self::Unreadable { file, .. } | Self::Missing { file, .. } | Self::BadAuthority { file, .. } => file,
            Self::BadKey { key, .. } => key,
        }
    }
}
