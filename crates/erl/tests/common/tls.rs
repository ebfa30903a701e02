//! Certificates for tests: an authority that is made in memory, and nodes of both kinds that use it.

use std::{path::PathBuf, process::Command};

use metacluster_erl::{NodeOptions, Tls, TlsOptions};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};
use tempfile::TempDir;

use super::{has_erl, options};

/// An authority, with a folder for what it signs.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// The files of one node.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) authorities: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let folder = tempfile::tempdir().expect("a folder");
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(folder.path().join("authority.pem"), certificate.pem()).expect("written");
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// A good certificate for the nodes of this host.
    pub(crate) fn files(&self, host: &str) -> Files {
        self.sign(host, &[host], (2020, 2099))
    }

    pub(crate) fn sign(&self, file: &str, hosts: &[&str], years: (i32, i32)) -> Files {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "a node");
        // An address is both: which of them a node looks for depends on its release.
        let address = |host: &&str| host.parse().ok().map(SanType::IpAddress);
        params.subject_alt_names = hosts
            .iter()
            .flat_map(|host| [Some(SanType::DnsName((*host).try_into().expect("ASCII"))), address(host)])
            .flatten()
            .collect();
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let path = |kind: &str| self.folder.path().join(format!("{file}-{kind}.pem"));
        std::fs::write(path("certificate"), certificate.pem()).expect("written");
        std::fs::write(path("key"), key.serialize_pem()).expect("written");
        let authorities = self.folder.path().join("authority.pem");
        Files { certificate: path("certificate"), key: path("key"), authorities }
    }
}

impl Files {
    /// With the authorities of somebody else.
    pub(crate) fn trusting(&self, other: &Self) -> Self {
        Self { authorities: other.authorities.clone(), ..self.clone() }
    }

    pub(crate) fn options(&self) -> TlsOptions {
        TlsOptions::new(&self.certificate, &self.key, &self.authorities)
    }

    /// The options of a node of ours.
    pub(crate) fn node(&self, text: &str) -> NodeOptions {
        NodeOptions { tls: Some(Tls::load(&self.options()).expect("good files")), ..options(text) }
    }

    /// The arguments of a BEAM node that verifies its peers, in this version of TLS.
    pub(crate) fn beam(&self, name: &str, version: &str) -> Vec<String> {
        self.beam_with(name, version, true)
    }

    /// With `certificate`, it shows its own when it dials.
    pub(crate) fn beam_with(&self, name: &str, version: &str, certificate: bool) -> Vec<String> {
        let (file, key, ca) = (self.certificate.display(), self.key.display(), self.authorities.display());
        let own = format!("{{certfile, \"{file}\"}}, {{keyfile, \"{key}\"}}, ");
        let common = format!("{{cacertfile, \"{ca}\"}}, {{verify, verify_peer}}, {{versions, ['{version}']}}");
        let shown = if certificate { own.as_str() } else { "" };
        let text =
            format!("[{{server, [{own}{common}, {{fail_if_no_peer_cert, true}}]}}, {{client, [{shown}{common}]}}].\n");
        let path = self.certificate.with_file_name(format!("{name}.conf"));
        std::fs::write(&path, text).expect("written");
        ["-proto_dist", "inet_tls", "-ssl_dist_optfile", path.to_str().expect("UTF-8")].map(str::to_owned).to_vec()
    }
}

/// Whether BEAM nodes can speak TLS.
pub(crate) fn has_tls() -> bool {
    if !has_erl() {
        return false;
    }
    let text = "halt(case code:which(ssl) of non_existing -> 1; _ -> 0 end).";
    let found = Command::new("erl").args(["-noshell", "-eval", text]).status().is_ok_and(|status| status.success());
    if !found {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "`ssl` is missing: install erlang-ssl");
        eprintln!("skipped: Erlang's `ssl` is missing; install erlang-ssl");
    }
    found
}
