//! Who this gateway is, and whom it believes: TLS 1.3 with certificates on both sides.
//!
//! Each cluster has an authority of its own, whose certificate names the cluster; it signs the gateways of that cluster and
//! nothing else. A far gateway is of the cluster whose authority signed it, whatever its own certificate says: an
//! authority that is trusted for one cluster can vouch for no other.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use metacluster_erl::node::tls::{SignedByAuthority, common_name};
use metacluster_federation::cells::SEPARATOR;
use metacluster_types::ClusterName;
use rustls::{
    ClientConfig, Error, RootCertStore, ServerConfig,
    client::{Resumption, verify_server_cert_signed_by_trust_anchor},
    crypto::{
        CryptoProvider,
        ring::{
            self,
            cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256},
        },
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier},
    version::TLS13,
};
use tokio::{io::BufReader, net::TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// Why there is no identity. Nothing runs then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityFault {
    /// A file cannot be read.
    #[error("{}: {error}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        error: String,
    },
    /// A file does not hold what it must.
    #[error("{}: holds no {wanted}; `metacluster federation {command}` makes one", .file.display())]
    Missing {
        /// The file.
        file: PathBuf,
        /// What it must hold.
        wanted: &'static str,
        /// What makes one.
        command: &'static str,
    },
    /// The certificate of an authority does not name a cluster.
    #[error("{}: the certificate names no cluster (its common name is {name:?})", .file.display())]
    NoCluster {
        /// The file.
        file: PathBuf,
        /// What it names.
        name: Option<String>,
    },
    /// Key and certificate do not belong together, or cannot be used.
    #[error("{}: {error}", .file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// Why.
        error: String,
    },
}

/// Why a handshake failed. The connection is closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum HandshakeError {
    /// TLS, or the connection.
    #[error("{0}")]
    Tls(#[from] std::io::Error),
    /// None of the authorities that are trusted signed its certificate.
    #[error("its certificate is of no cluster that is trusted here")]
    Untrusted,
}

/// How much is read from a socket at once: rustls alone would ask for a quarter of a record at a time, and a message of
/// 64 KiB comes with what is around it.
const READ_BYTES: usize = 96 << 10;
/// How much is encrypted before it is written. Of a message of 64 KiB rustls alone would write a few bytes apart.
const WRITE_BYTES: usize = 128 << 10;

/// The stream of a link.
pub(super) type Secured = TlsStream<BufReader<TcpStream>>;

/// See the module.
pub struct Identity {
    client: TlsConnector,
    server: TlsAcceptor,
    authorities: Vec<(ClusterName, RootCertStore)>,
    provider: Arc<CryptoProvider>,
}

impl Identity {
    /// Reads the certificate and key of this gateway, and the authorities of the clusters that are trusted.
    ///
    /// # Errors
    /// When a file cannot be read or used; the error names it.
    pub fn load(identity: &Path, trust: &[PathBuf]) -> Result<Self, IdentityFault> {
        let provider = Arc::new(provider());
        let certificates = certificates(identity, "certificate", "issue")?;
        let pem = read(identity)?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| IdentityFault::Missing {
            file: identity.to_owned(),
            wanted: "private key",
            command: "issue",
        })?;
        let mut all = RootCertStore::empty();
        let mut authorities = Vec::new();
        for file in trust {
            let unusable = |error: Error| IdentityFault::Unusable { file: file.clone(), error: error.to_string() };
            for certificate in self::certificates(file, "certificate of an authority", "init")? {
                let name = common_name(&certificate);
                let cluster = name.as_deref().filter(|name| !name.contains(SEPARATOR));
                let cluster = cluster.and_then(|name| ClusterName::new(name).ok());
                let cluster = cluster.ok_or_else(|| IdentityFault::NoCluster { file: file.clone(), name })?;
                let mut one = RootCertStore::empty();
                one.add(certificate.clone()).map_err(unusable)?;
                all.add(certificate).map_err(unusable)?;
                authorities.push((cluster, one));
            }
        }
        let unusable = |error: String| IdentityFault::Unusable { file: identity.to_owned(), error };
        let all = Arc::new(all);
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&all), Arc::clone(&provider))
            .build()
            .map_err(|error| unusable(format!("no cluster is trusted: {error}")))?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| unusable(error.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates.clone(), key.clone_key())
            .map_err(|error| unusable(error.to_string()))?;
        // Links are few and last long.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        // A gateway may be dialled by any address.
        let signed = SignedByAuthority::new(all, Arc::clone(&provider));
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| unusable(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(signed))
            .with_client_auth_cert(certificates, key)
            .map_err(|error| unusable(error.to_string()))?;
        client.resumption = Resumption::disabled();
        let (client, server) = (TlsConnector::from(Arc::new(client)), TlsAcceptor::from(Arc::new(server)));
        Ok(Self { client, server, authorities, provider })
    }

    /// Shakes hands with who was dialled; the stream, and the cluster that its certificate is for.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        address: IpAddr,
    ) -> Result<(Secured, ClusterName), HandshakeError> {
        let stream = BufReader::with_capacity(READ_BYTES, stream);
        let mut stream = self.client.connect(ServerName::from(address), stream).await?;
        stream.get_mut().1.set_buffer_limit(Some(WRITE_BYTES));
        let stream = TlsStream::from(stream);
        let cluster = self.cluster(stream.get_ref().1.peer_certificates())?;
        Ok((stream, cluster))
    }

    /// Shakes hands with who has dialled.
    pub(super) async fn accept(&self, stream: TcpStream) -> Result<(Secured, ClusterName), HandshakeError> {
        let stream = BufReader::with_capacity(READ_BYTES, stream);
        let mut stream = self.server.accept(stream).await?;
        stream.get_mut().1.set_buffer_limit(Some(WRITE_BYTES));
        let stream = TlsStream::from(stream);
        let cluster = self.cluster(stream.get_ref().1.peer_certificates())?;
        Ok((stream, cluster))
    }

    /// The cluster whose authority signed this certificate.
    fn cluster(&self, certificates: Option<&[CertificateDer<'_>]>) -> Result<ClusterName, HandshakeError> {
        let Some([certificate, intermediates @ ..]) = certificates else { return Err(HandshakeError::Untrusted) };
        let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return Err(HandshakeError::Untrusted) };
        let algorithms = self.provider.signature_verification_algorithms.all;
        let signed = |store: &RootCertStore| {
            let now = UnixTime::now();
            verify_server_cert_signed_by_trust_anchor(&parsed, store, intermediates, now, algorithms).is_ok()
        };
        let found = self.authorities.iter().find(|(_, store)| signed(store));
        found.map(|(cluster, _)| cluster.clone()).ok_or(HandshakeError::Untrusted)
    }
}

/// The ciphers of a link, the first one first: AES with a key of 128 bits, which every TLS 1.3 has (RFC 8446, 9.1), takes 10
/// rounds where one of 256 takes 14, and what a gateway itself does with a large message is little else.
fn provider() -> CryptoProvider {
    let cipher_suites = vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];
    CryptoProvider { cipher_suites, ..ring::default_provider() }
}

fn read(file: &Path) -> Result<Vec<u8>, IdentityFault> {
    std::fs::read(file).map_err(|error| IdentityFault::Unreadable { file: file.to_owned(), error: error.to_string() })
}

fn certificates(
    file: &Path,
    wanted: &'static str,
    command: &'static str,
) -> Result<Vec<CertificateDer<'static>>, IdentityFault> {
    let pem = read(file)?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().unwrap_or_default();
    if certificates.is_empty() {
        return Err(IdentityFault::Missing { file: file.to_owned(), wanted, command });
    }
    Ok(certificates)
}
