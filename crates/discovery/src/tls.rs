//! What strategies trust and who they are when they speak TLS: the system's certificates, more of them from a file, and
//! a certificate of their own.
//!
//! Invariant: the one crypto provider is ring, named here and never taken from what a process may have installed. The
//! issuer and the name of a server are checked, unless a protocol's own settings say otherwise.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
    WantsVerifier,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};

use crate::settings::{Absent, Key, Kind, Reader};

/// The files of TLS. Without any, the system's certificates are trusted and the client is nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates (PEM) that are trusted beside the system's.
    pub ca: Option<PathBuf>,
    /// The client's certificate and what leads to its issuer (PEM). It needs `key`.
    pub certificate: Option<PathBuf>,
    /// The key of the client's certificate (PEM). It may be in the file of the certificate.
    pub key: Option<PathBuf>,
}

/// The key of the certificates that are trusted, for the table of a strategy.
pub const CA_FILE: Key = Key {
    name: "ca_file",
    kind: Kind::Path,
    absent: Absent::Unset("the system's certificates alone"),
    doc: "Certificates (PEM) to trust beside the system's",
};

/// The key of the client's certificate, for the table of a strategy.
pub const CERTIFICATE_FILE: Key = Key {
    name: "certificate_file",
    kind: Kind::Path,
    absent: Absent::Unset("no certificate is shown"),
    doc: "The certificate (PEM) that is shown to the server",
};

/// The key of the key of the client's certificate, for the table of a strategy.
pub const KEY_FILE: Key = Key {
    name: "key_file",
    kind: Kind::Path,
    absent: Absent::Unset("it is in `certificate_file`"),
    doc: "The key (PEM) of `certificate_file`",
};

/// What was wrong with the files. The configuration in use before stays in use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFilesError {
    /// A file cannot be read, or holds no certificate or key.
    #[error("cannot use {}: {what}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The certificate and the key do not belong together, or are of a kind that is not known.
    #[error("the client's certificate cannot be used: {0}")]
    Identity(String),
    /// Neither the system nor a file has a certificate to trust.
    #[error(
        "no certificate is trusted: the system has none (Debian: apt-get install ca-certificates), and no file of them is given"
    )]
    NothingTrusted,
}

/// When each of the files last changed; it differs once one was rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp([Option<SystemTime>; 3]);

impl TlsFiles {
    /// Reads [`CA_FILE`], [`CERTIFICATE_FILE`] and [`KEY_FILE`].
    pub fn read(reader: &mut Reader<'_>) -> Self {
        if reader.is_given("key_file") && !reader.is_given("certificate_file") {
            reader.fault("key_file", "has no use without `certificate_file`");
        }
        Self { ca: reader.path("ca_file"), certificate: reader.path("certificate_file"), key: reader.path("key_file") }
    }

    pub(crate) fn stamp(&self) -> Stamp {
        let changed = |path: &Option<PathBuf>| {
            let metadata = fs::metadata(path.as_ref()?);
            metadata.and_then(|metadata| metadata.modified()).ok()
        };
        Stamp([&self.ca, &self.certificate, &self.key].map(changed))
    }

    /// Makes the configuration of a client that checks issuer and name. The files are read now.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn client_config(&self) -> Result<ClientConfig, TlsFilesError> {
        self.client_config_that_checks(Check::Name)
    }

    /// As [`TlsFiles::client_config`], for a protocol whose settings say what is checked.
    pub(crate) fn client_config_that_checks(&self, check: Check) -> Result<ClientConfig, TlsFilesError> {
        let builder = builder()?;
        let builder = match check {
            Check::Name => builder.with_root_certificates(self.roots()?),
            Check::Issuer => {
                let inner = WebPkiServerVerifier::builder_with_provider(self.roots()?.into(), provider()).build();
                let inner = inner.map_err(|error| TlsFilesError::Identity(error.to_string()))?;
                let verifier = Lenient { provider: provider(), issuer: Some(inner) };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
            Check::Nothing => {
                let verifier = Lenient { provider: provider(), issuer: None };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
        };
        let Some(path) = &self.certificate else { return Ok(builder.with_no_client_auth()) };
        let chain = certificates(path)?;
        let key_path = self.key.as_ref().unwrap_or(path);
        let key = PrivateKeyDer::from_pem_file(key_path)
            .map_err(|error| TlsFilesError::Unusable { path: key_path.clone(), what: pem_text(&error) })?;
        builder.with_client_auth_cert(chain, key).map_err(|error| TlsFilesError::Identity(error.to_string()))
    }

    fn roots(&self) -> Result<RootCertStore, TlsFilesError> {
        let mut roots = RootCertStore::empty();
        // What of the system's certificates cannot be read is no certificate to trust; the rest is.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = &self.ca {
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| TlsFilesError::Unusable { path: path.clone(), what: error.to_string() })?;
            }
        }
        if roots.is_empty() { Err(TlsFilesError::NothingTrusted) } else { Ok(roots) }
    }
}

/// What is checked of a server's certificate. Only protocols whose users choose it (PostgreSQL's `sslmode`) have less than
/// all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// That the server has the key of the certificate that it shows, whatever certificate.
    Nothing,
    /// Also that someone trusted issued it.
    Issuer,
    /// Also that it is for the name that was asked for.
    Name,
}

/// A configuration for where no TLS will be spoken and a type wants one: it trusts nobody.
pub(crate) fn unused_config() -> Result<ClientConfig, TlsFilesError> {
    Ok(builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, TlsFilesError> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsFilesError::Identity(error.to_string()))
}

/// Checks less than all of a certificate.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    /// Checks the issuer, if that is wanted.
    issuer: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(issuer) = &self.issuer else { return Ok(ServerCertVerified::assertion()) };
        match issuer.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is what the verifier checks last.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The one crypto provider.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFilesError> {
    let unusable = |what: String| TlsFilesError::Unusable { path: path.to_owned(), what };
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| unusable(pem_text(&error)))?.collect();
    match found {
        Ok(found) if found.is_empty() => Err(unusable("it holds no certificate (PEM)".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(pem_text(&error))),
    }
}

fn pem_text(error: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    if let Error::Io(error) = error {
        error.to_string()
    } else if matches!(error, Error::NoItemsFound) {
        "it holds none (PEM)".to_owned()
    } else {
        error.to_string()
    }
}
