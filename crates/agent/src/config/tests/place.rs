//! A folder with what a configuration names: the file itself, a cookie, certificates.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::config::{Config, Environment, Faults};

/// A folder with a cookie file and a place for the configuration.
pub(in crate::config) struct Place {
    pub(super) folder: tempfile::TempDir,
}

impl Place {
    pub(in crate::config) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Self { folder };
        place.write(".erlang.cookie", "secretcookie\n", 0o600);
        place
    }

    pub(super) fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        path
    }

    /// A certificate with its key in one file, and that of its authority in another.
    pub(in crate::config) fn certificate(&self, file: &str, authority: &str) -> PathBuf {
        let ca_key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).expect("a certificate");
        self.write(authority, &ca.pem(), 0o644);
        let issuer = Issuer::new(params, ca_key);
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        self.write(file, &format!("{}{}", certificate.pem(), key.serialize_pem()), 0o600)
    }

    pub(super) fn environment(&self) -> Environment {
        Environment::empty().with_variable("HOME", self.folder.path().to_str().expect("a text"))
    }

    pub(super) fn load_with(&self, text: &str, environment: &Environment) -> Result<Config, Faults> {
        Config::load(&self.write("metacluster.toml", text, 0o644), environment)
    }

    pub(in crate::config) fn load(&self, text: &str) -> Result<Config, Faults> {
        self.load_with(text, &self.environment())
    }

    /// Without the folder's name, which differs in every run.
    pub(in crate::config) fn faults(&self, text: &str) -> String {
        let folder = format!("{}/", self.folder.path().display());
        self.load(text).err().map(|faults| faults.to_string().replace(&folder, "")).expect("faults")
    }
}

pub(in crate::config) fn valid(result: Result<Config, Faults>) -> Config {
    result.unwrap_or_else(|faults| panic!("expected no fault:\n{faults}"))
}
