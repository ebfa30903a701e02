//! What strategies trust and who they are when they speak TLS: the system's certificates, more of them from a file, and
//! a certificate of their own.
//!
//! Invariant: the one crypto provider is ring, named here and never taken from what a process may have installed. The
//! name of a server is always checked.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

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
    pub(crate) fn stamp(&self) -> Stamp {
        let changed = |path: &Option<PathBuf>| {
            let metadata = fs::metadata(path.as_ref()?);
            metadata.and_then(|metadata| metadata.modified()).ok()
        };
        Stamp([&self.ca, &self.certificate, &self.key].map(changed))
    }

    /// Makes the configuration of a client. The files are read now.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn client_config(&self) -> Result<ClientConfig, TlsFilesError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsFilesError::Identity(error.to_string()))?
            .with_root_certificates(self.roots()?);
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
