//! Distribution over TLS, as `-proto_dist inet_tls` has it: TLS 1.2 and 1.3, with certificates on both sides.
//!
//! The handshake of the distribution follows inside, with lengths of 32 bits from the first message on, and the cookies
//! are proved all the same. A node that has a [`Tls`] speaks nothing else, on no connection: OTP has no mixed clusters
//! either.
//!
//! Follows `inet_tls_dist.erl` of OTP 25.

mod certificate;
mod error;
mod verify;

use std::{
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use metacluster_erl_wire::handshake::Expect;
use metacluster_types::NodeName;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use self::certificate::Names;
pub use self::{
    certificate::common_name,
    error::{TlsError, TlsSetupError},
    verify::SignedByAuthority,
};

/// Whose certificate must name the node that shows it. Every certificate must be signed by a trusted authority.
///
/// The names are the hosts (`dNSName`, `iPAddress`) and nodes (`directoryName` with a common name, or anything with an
/// `@`) of the certificate's `subjectAltName`, as in `inet_tls_dist:verify_client/3`; without any of these, the common
/// name of its subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameCheck {
    /// Nobody's: one certificate may serve a whole cluster.
    Never,
    /// That of a node which we dial, as OTP's client does when it verifies.
    #[default]
    Dialled,
    /// That of a node which dials us, too.
    Always,
}

/// What a node needs for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// PEM: the certificate of this node, and those that lead to the authority.
    pub certificate: PathBuf,
    /// PEM: the key of the certificate, without a password. It may be the same file.
    pub key: PathBuf,
    /// PEM: the certificates of the authorities that sign those of peers.
    pub authorities: PathBuf,
    /// Whose certificate must name its node. Default [`NameCheck::Dialled`].
    pub names: NameCheck,
    /// Whether nodes that dial us must show a certificate. Default true. OTP does not ask for one by default, so a
    /// cluster may have nodes without.
    pub client_certificates: bool,
}

impl TlsOptions {
    /// The defaults, with these files.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>, authorities: impl Into<PathBuf>) -> Self {
        Self {
            certificate: certificate.into(),
            key: key.into(),
            authorities: authorities.into(),
            names: NameCheck::default(),
            client_certificates: true,
        }
    }
}

/// TLS, ready for use. Cheap to clone.
///
/// The files are looked at before each handshake: those that have changed are read again, so a certificate is renewed by
/// putting the new one in its place. Files that are no good (or half written) change nothing but a line in the log.
/// Connections that are up keep what they have.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

struct Shared {
    options: TlsOptions,
    loaded: Mutex<Loaded>,
}

/// What the files gave, and how they looked then.
struct Loaded {
    seen: Seen,
    ends: Ends,
}

/// Both ends of a connection.
#[derive(Clone)]
struct Ends {
    client: TlsConnector,
    server: TlsAcceptor,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file cannot be read or used; the error names it.
    pub fn load(options: &TlsOptions) -> Result<Self, TlsSetupError> {
        let loaded = Loaded { seen: Seen::of(options), ends: Ends::load(options)? };
        Ok(Self { shared: Arc::new(Shared { options: options.clone(), loaded: Mutex::new(loaded) }) })
    }

    /// What it was made of.
    #[must_use]
    pub fn options(&self) -> &TlsOptions {
        &self.shared.options
    }

    /// What the files give now, or gave last.
    fn ends(&self) -> Ends {
        let Shared { options, loaded } = &*self.shared;
        let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
        // Before they are read: what changes meanwhile is seen the next time.
        let seen = Seen::of(options);
        if loaded.seen != seen {
            loaded.seen = seen;
            match Ends::load(options) {
                Ok(ends) => {
                    loaded.ends = ends;
                    tracing::info!(certificate = %options.certificate.display(), "the files of TLS were read again");
                }
                Err(error) => tracing::warn!("the files of TLS have changed, and those of before hold: {error}"),
            }
        }
        loaded.ends.clone()
    }

    /// Shakes hands with who was dialled.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        expect: &Expect,
    ) -> Result<TlsStream<TcpStream>, TlsError> {
        let stream = self.ends().client.connect(server_name(address, expect), stream).await;
        let stream = TlsStream::from(stream.map_err(|error| TlsError::from_io(&error))?);
        if let Expect::Exactly(node) = expect {
            // Before the peer gets a proof of the cookie.
            self.check_dialled(&stream, node)?;
        }
        Ok(stream)
    }

    /// Shakes hands with who has dialled.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, TlsError> {
        self.ends().server.accept(stream).await.map(TlsStream::from).map_err(|error| TlsError::from_io(&error))
    }

    /// Whether a node that was dialled may show the certificate that it did.
    pub(crate) fn check_dialled(&self, stream: &TlsStream<TcpStream>, node: &NodeName) -> Result<(), TlsError> {
        match self.shared.options.names {
            NameCheck::Never => Ok(()),
            NameCheck::Dialled | NameCheck::Always => check_name(stream, node),
        }
    }

    /// Whether a node that has dialled may show the certificate that it did.
    pub(crate) fn check_accepted(&self, stream: &TlsStream<TcpStream>, node: &NodeName) -> Result<(), TlsError> {
        match self.shared.options.names {
            NameCheck::Never | NameCheck::Dialled => Ok(()),
            NameCheck::Always => check_name(stream, node),
        }
    }
}

impl Ends {
    fn load(options: &TlsOptions) -> Result<Self, TlsSetupError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificates = read_certificates(&options.certificate)?;
        let key = read_key(&options.key)?;
        let authorities = Arc::new(read_authorities(&options.authorities)?);
        let bad_key = |error: rustls::Error| TlsSetupError::BadKey {
            key: options.key.clone(),
            certificate: options.certificate.clone(),
            error: error.to_string(),
        };
        let verifier = client_verifier(options, &authorities, &provider)?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(bad_key)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates.clone(), key.clone_key())
            .map_err(bad_key)?;
        // Connections between nodes are few and last long.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(bad_key)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(SignedByAuthority::new(authorities, provider)))
            .with_client_auth_cert(certificates, key)
            .map_err(bad_key)?;
        client.resumption = Resumption::disabled();
        Ok(Self { client: TlsConnector::from(Arc::new(client)), server: TlsAcceptor::from(Arc::new(server)) })
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

/// How the files look from outside: what tells that one was changed, or another one put in its place.
#[derive(PartialEq, Eq)]
struct Seen([Option<(SystemTime, u64, u64)>; 3]);

impl Seen {
    fn of(options: &TlsOptions) -> Self {
        let look = |file: &Path| {
            let file = std::fs::metadata(file).ok()?;
            Some((file.modified().ok()?, file.len(), file.ino()))
        };
        Self([&options.certificate, &options.key, &options.authorities].map(|file| look(file)))
    }
}

/// The host part of the node's name, which goes to the server unless it is an address.
fn server_name(address: SocketAddr, expect: &Expect) -> ServerName<'static> {
    let host = match expect {
        Expect::Exactly(node) => ServerName::try_from(node.host().to_owned()).ok(),
        Expect::Basename(_) => None,
    };
    host.unwrap_or_else(|| ServerName::from(address.ip()))
}

fn check_name(stream: &TlsStream<TcpStream>, node: &NodeName) -> Result<(), TlsError> {
    let Some([certificate, ..]) = stream.get_ref().1.peer_certificates() else { return Err(TlsError::NoCertificate) };
    let names = Names::read(certificate);
    if names.allow(node) {
        return Ok(());
    }
    Err(TlsError::WrongName { node: node.clone(), names: names.to_string() })
}

fn client_verifier(
    options: &TlsOptions,
    authorities: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsSetupError> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(authorities), Arc::clone(provider));
    let builder = if options.client_certificates { builder } else { builder.allow_unauthenticated() };
    builder
        .build()
        .map_err(|error| TlsSetupError::BadAuthority { file: options.authorities.clone(), error: error.to_string() })
}

fn read(file: &Path) -> Result<Vec<u8>, TlsSetupError> {
    std::fs::read(file).map_err(|error| TlsSetupError::Unreadable { file: file.to_owned(), error: error.to_string() })
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let pem = read(file)?;
    // A certificate that cannot be read is as good as none.
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().unwrap_or_default();
    if certificates.is_empty() {
        return Err(TlsSetupError::Missing { file: file.to_owned(), wanted: "certificate", hint: "" });
    }
    Ok(certificates)
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsSetupError> {
    let pem = read(file)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let encrypted = pem.windows(9).any(|part| part == b"ENCRYPTED");
        let hint = if encrypted { " (it is encrypted: `openssl pkey` takes the password off)" } else { "" };
        TlsSetupError::Missing { file: file.to_owned(), wanted: "private key", hint }
    })
}

fn read_authorities(file: &Path) -> Result<RootCertStore, TlsSetupError> {
    let mut authorities = RootCertStore::empty();
    for certificate in read_certificates(file)? {
        authorities
            .add(certificate)
            .map_err(|error| TlsSetupError::BadAuthority { file: file.to_owned(), error: error.to_string() })?;
    }
    Ok(authorities)
}
