//! The address of a PostgreSQL server: `postgres://user:password@host:port,host:port/database?sslmode=…`, as libpq reads
//! it, and what of it decides how TLS is spoken.
//!
//! `sslmode` has libpq's meanings: `prefer` (without it) and `require` encrypt and check nothing, unless certificates to
//! trust are given, `verify-ca` checks who issued the certificate, `verify-full` its name too.

use std::path::PathBuf;

use metacluster_types::Secret;
use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};

use crate::{
    sql::error::SqlError,
    tls::{Check, TlsFiles},
};

const PORT: u16 = 5432;

/// Where to connect, and how.
#[derive(Clone)]
pub(crate) struct Target {
    pub(super) config: Config,
    pub(super) servers: Vec<Server>,
    pub(super) check: Check,
    pub(super) files: TlsFiles,
    pub(super) password_file: Option<PathBuf>,
}

/// One server of the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// A name, an address, or the folder of a Unix socket.
    pub(super) host: Host,
    /// An address to use in place of what the name resolves to.
    pub(super) address: Option<std::net::IpAddr>,
    pub(super) port: u16,
}

impl Server {
    /// As it stands in messages.
    pub(super) fn at(&self) -> String {
        match &self.host {
            Host::Tcp(host) => format!("{host}:{}", self.port),
            Host::Unix(folder) => format!("{}/.s.PGSQL.{}", folder.display(), self.port),
        }
    }
}

/// The parameters that tokio-postgres does not know.
#[derive(Default)]
struct Tls {
    mode: Option<String>,
    files: TlsFiles,
}

impl Target {
    /// Reads an address. Files that the settings name go before those that it names.
    pub(crate) fn new(url: &str, files: TlsFiles, password_file: Option<PathBuf>) -> Result<Self, SqlError> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut tls = Tls::default();
        let mut rest = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = || decoded(value);
            match key {
                "sslmode" => tls.mode = Some(value()),
                "sslrootcert" => tls.files.ca = Some(value().into()),
                "sslcert" => tls.files.certificate = Some(value().into()),
                "sslkey" => tls.files.key = Some(value().into()),
                _ => rest.push(parameter),
            }
        }
        let text = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        let mut config: Config = text.parse().map_err(|error: tokio_postgres::Error| {
            let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            SqlError::Url(format!(
                "is no address of PostgreSQL: {why}; expected postgres://user:password@host:5432/database"
            ))
        })?;
        let given = TlsFiles {
            ca: files.ca.or(tls.files.ca),
            certificate: files.certificate.or(tls.files.certificate),
            key: files.key.or(tls.files.key),
        };
        let (mode, check) = match tls.mode.as_deref() {
            Some("disable") => (SslMode::Disable, Check::Nothing),
            None | Some("prefer" | "allow") => (SslMode::Prefer, Check::Nothing),
            Some("require") if given.ca.is_none() => (SslMode::Require, Check::Nothing),
            Some("require" | "verify-ca") => (SslMode::Require, Check::Issuer),
            Some("verify-full") => (SslMode::Require, Check::Name),
            Some(other) => {
                return Err(SqlError::Url(format!(
                    "`sslmode={}` is none of disable, prefer, require, verify-ca, verify-full",
                    other.escape_debug()
                )));
            }
        };
        config.ssl_mode(mode);
        if config.get_application_name().is_none() {
            config.application_name("metacluster");
        }
        let servers = servers(&config)?;
        Ok(Self { config, servers, check, files: given, password_file })
    }

    /// The configuration with the password as the file has it now.
    pub(super) fn config(&self) -> Result<Config, SqlError> {
        let mut config = self.config.clone();
        if let Some(path) = &self.password_file {
            let secret: Secret = crate::settings::read_secret(path).map_err(SqlError::Password)?;
            config.password(secret.reveal());
        }
        Ok(config)
    }

    /// The role that connects, as it stands in messages.
    pub(super) fn user(&self) -> String {
        self.config.get_user().map_or_else(|| "the user of this process".to_owned(), ToOwned::to_owned)
    }
}

fn servers(config: &Config) -> Result<Vec<Server>, SqlError> {
    let (ports, addresses) = (config.get_ports(), config.get_hostaddrs());
    let mut hosts = config.get_hosts().to_vec();
    if hosts.is_empty() {
        hosts.extend(addresses.iter().map(|address| Host::Tcp(address.to_string())));
    }
    if hosts.is_empty() {
        return Err(SqlError::Url("names no host: expected postgres://user:password@host:5432/database".to_owned()));
    }
    if ports.len() > 1 && ports.len() != hosts.len() {
        return Err(SqlError::Url(format!("names {} hosts and {} ports", hosts.len(), ports.len())));
    }
    let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(PORT);
    Ok(hosts
        .into_iter()
        .enumerate()
        .map(|(at, host)| Server { host, address: addresses.get(at).copied(), port: port(at) })
        .collect())
}

/// A value of a query without its percent signs.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            Some(_) | None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target::new(url, TlsFiles::default(), None).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[test]
    fn hosts_ports_and_parameters_are_read() {
        let it = target("postgres://shop:s3@db1:5433,db2:5434/app?connect_timeout=3&target_session_attrs=read-write");
        let at: Vec<String> = it.servers.iter().map(Server::at).collect();
        assert_eq!(at, ["db1:5433", "db2:5434"]);
        assert_eq!(it.user(), "shop");
        assert_eq!(target("postgresql://db1/app").servers[0].port, 5432);
        let socket = target("postgres://u@%2Fvar%2Frun%2Fpostgresql/app");
        assert_eq!(socket.servers[0].at(), "/var/run/postgresql/.s.PGSQL.5432");
    }

    #[test]
    fn sslmode_has_the_meanings_of_libpq() {
        for (query, mode, check) in [
            ("", SslMode::Prefer, Check::Nothing),
            ("?sslmode=disable", SslMode::Disable, Check::Nothing),
            ("?sslmode=require", SslMode::Require, Check::Nothing),
            ("?sslmode=require&sslrootcert=%2Fca.pem", SslMode::Require, Check::Issuer),
            ("?sslmode=verify-ca", SslMode::Require, Check::Issuer),
            ("?sslmode=verify-full", SslMode::Require, Check::Name),
        ] {
            let it = target(&format!("postgres://u@db/app{query}"));
            assert_eq!((it.config.get_ssl_mode(), it.check), (mode, check), "{query}");
        }
        let it = target("postgres://u@db/app?sslmode=verify-full&sslrootcert=/ca%20s.pem&sslcert=c&sslkey=k");
        assert_eq!(it.files.ca, Some("/ca s.pem".into()));
    }

    #[test]
    fn a_fault_repeats_no_password() {
        for (url, says) in [
            ("postgres://u:hunter2@db/app?sslmode=full", "verify-full"),
            ("postgres://u:hunter2@db/app?sslmod=full", "sslmod"),
            ("postgres://u:hunter2@db:http/app", "port"),
            ("postgres://", "no host"),
        ] {
            let error = Target::new(url, TlsFiles::default(), None).err().unwrap_or_else(|| panic!("{url} was read"));
            let line = error.to_string();
            assert!(line.contains(says) && !line.contains("hunter2"), "{url}: {line}");
        }
    }
}
