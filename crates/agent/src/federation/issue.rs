//! Makes what gateways prove themselves with: an authority for each cluster, and certificates that it signs.
//!
//! An authority is a certificate that names its cluster, which goes to the others, and a key, which stays. A gateway's
//! identity is one file with its certificate and key. No file is overwritten, and keys are for their owner's eyes only.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use metacluster_erl::node::tls::common_name;
use metacluster_types::ClusterName;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

/// Years for which an authority is good. Gateways' certificates are good for as long.
const YEARS: i32 = 10;
const SECONDS_A_YEAR: u64 = 31_556_952;

/// Why nothing was made. What was there is as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// A file is there already, or cannot be written.
    #[error("{}: {error}", .file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file of the authority cannot be read or used.
    #[error("{}: {error}; `metacluster federation init` makes an authority", .file.display())]
    Authority {
        /// The file.
        file: PathBuf,
        /// Why.
        error: String,
    },
    /// The certificate cannot be made.
    #[error("no certificate can be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// The files of an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Its certificate, for the other clusters.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// The files in this folder.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self { certificate: folder.join("federation-ca.pem"), key: folder.join("federation-ca.key") }
    }

    /// Makes the authority of a cluster.
    ///
    /// # Errors
    /// When it is there already, or cannot be written.
    pub fn make(&self, cluster: &ClusterName) -> Result<(), IssueError> {
        let key = KeyPair::generate()?;
        let certificate = authority(cluster.as_str()).self_signed(&key)?;
        write(&self.key, &key.serialize_pem(), 0o600)?;
        write(&self.certificate, &certificate.pem(), 0o644)
    }

    /// Signs an identity for a gateway of the cluster.
    ///
    /// # Errors
    /// When the authority cannot be read, or the file is there already or cannot be written.
    pub fn issue(&self, identity: &Path) -> Result<(), IssueError> {
        let bad = |file: &Path, error: String| IssueError::Authority { file: file.to_owned(), error };
        let read = |file: &Path| fs::read_to_string(file).map_err(|error| bad(file, error.to_string()));
        let key = KeyPair::from_pem(&read(&self.key)?).map_err(|error| bad(&self.key, error.to_string()))?;
        let pem = read(&self.certificate)?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes());
        let certificate = certificate.map_err(|error| bad(&self.certificate, error.to_string()))?;
        let cluster = common_name(&certificate);
        let cluster = cluster.ok_or_else(|| bad(&self.certificate, "it names no cluster".to_owned()))?;
        let authority = authority(&cluster);
        let issuer = Issuer::from_params(&authority, key);
        let mut params = params("gateway");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        write(identity, &format!("{}{}", certificate.pem(), key.serialize_pem()), 0o600)
    }
}

/// An authority signs gateways, and no further authorities.
fn authority(cluster: &str) -> CertificateParams {
    let mut params = params(cluster);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let year = 1970 + i32::try_from(since.as_secs() / SECONDS_A_YEAR).unwrap_or_default();
    // A clock that is behind by a year still takes it.
    params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + YEARS, 1, 1);
    params
}

fn write(file: &Path, text: &str, mode: u32) -> Result<(), IssueError> {
    let failed = |error| IssueError::Write { file: file.to_owned(), error };
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut open = OpenOptions::new().write(true).create_new(true).mode(mode).open(file).map_err(failed)?;
    open.write_all(text.as_bytes()).and_then(|()| open.sync_all()).map_err(failed)
}
