//! Asks DNS servers for the records of a name, and tells the ways apart in which that comes to nothing.
//!
//! A resolver is made for one look-up: nothing is cached here, so that the TTL that an answer carries is the server's,
//! and a change of `/etc/resolv.conf` is seen. CNAME chains are followed, and an answer that does not fit a datagram is
//! asked for over TCP (RFC 1035 4.2.1, RFC 7766), by hickory-resolver.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, Record, RecordType},
    },
    system_conf::read_system_conf,
};
use tokio::time::{Duration, timeout};

/// How many servers are asked; the first ones.
pub(crate) const SERVERS_MAX: usize = 8;
/// How many domains of the search list are tried.
const SEARCH_MAX: usize = 8;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    A,
    Aaaa,
    Srv,
}

impl Kind {
    fn record_type(self) -> RecordType {
        match self {
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
            Self::Srv => RecordType::SRV,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Srv => "SRV",
        })
    }
}

/// One place that an SRV record names (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) priority: u16,
    pub(crate) weight: u16,
}

/// What a name has of one kind. Both empty says that the name is there and has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) targets: Vec<Target>,
    /// How long that holds.
    pub(crate) ttl: Duration,
}

impl Records {
    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.targets.is_empty()
    }
}

/// Why a question has no answer. None of them says that nobody is there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ResolveError {
    /// The servers do not know the name: NXDOMAIN.
    #[error("no such name (NXDOMAIN, says {servers}): check `query`, and whether anybody is registered under it yet")]
    NoSuchName { servers: String },
    /// A server could not find out: SERVFAIL.
    #[error("{servers} could not find out (SERVFAIL): look at the log of that server, and at those of the zone")]
    ServerFailed { servers: String },
    /// A server does not answer this host: REFUSED.
    #[error("{servers} refused (REFUSED): allow this host to ask there, or set `servers`")]
    Refused { servers: String },
    /// A server answered with another code.
    #[error("{servers} answered {code}")]
    Code { servers: String, code: ResponseCode },
    /// The aliases go round in a circle, or on without end.
    #[error("its aliases (CNAME) lead nowhere, says {servers}: look for a circle in the zone")]
    Circle { servers: String },
    /// No answer that makes sense in time.
    #[error("no answer from {servers} in time: is it up, does a firewall let UDP and TCP through?")]
    Timeout { servers: String },
    /// A server cannot be reached, or broke off.
    #[error("cannot ask {servers}: {reason}")]
    Unreachable { servers: String, reason: String },
    /// What came back is no answer.
    #[error("{servers} sent what is no DNS answer: {reason}")]
    Malformed { servers: String, reason: String },
    /// The system's own set-up is of no use.
    #[error("cannot read the system's servers from /etc/resolv.conf: {reason}; set `servers`")]
    System { reason: String },
    /// The name cannot be asked for.
    #[error("no name that DNS can ask for: {reason}")]
    BadName { reason: String },
}

/// Servers to ask.
#[derive(Clone)]
pub(crate) struct Resolver {
    inner: TokioResolver,
    search: Vec<Name>,
    ndots: usize,
    servers: String,
    timeout: Duration,
}

impl Resolver {
    /// Asks the given servers, or those of the system with its search list and its `/etc/hosts`. One question takes
    /// `timeout` at most, with all that it leads to.
    pub(crate) fn new(servers: &[SocketAddr], timeout: Duration) -> Result<Self, ResolveError> {
        let system = |error: NetError| ResolveError::System { reason: error.to_string() };
        let (mut config, mut options) = if servers.is_empty() {
            read_system_conf().map_err(system)?
        } else {
            let servers = servers.iter().take(SERVERS_MAX).map(|&address| server(address));
            let mut options = ResolverOpts::default();
            options.use_hosts_file = ResolveHosts::Never;
            (ResolverConfig::from_parts(None, Vec::new(), servers.collect()), options)
        };
        let search: Vec<Name> = config.domain().into_iter().chain(config.search()).cloned().collect();
        let search = if config.search().is_empty() { search } else { config.search().to_vec() };
        let names: Vec<String> = config.name_servers().iter().take(SERVERS_MAX).map(shown).collect();
        let all = config.name_servers().iter().take(SERVERS_MAX).cloned().collect();
        // The search list is gone through here, so that what one name failed with is not hidden by the next.
        config = ResolverConfig::from_parts(None, Vec::new(), all);
        options.cache_size = 0;
        options.attempts = 1;
        options.timeout = timeout.div_f64(2.5);
        options.preserve_intermediates = false;
        let ndots = options.ndots;
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let inner = builder.with_options(options).build().map_err(system)?;
        Ok(Self { inner, search, ndots, servers: names.join(", "), timeout })
    }

    /// The records of one kind. A name that is not a full one is looked for in the search list too.
    pub(crate) async fn ask(&self, name: &str, kind: Kind) -> Result<Records, ResolveError> {
        let late = |_| Err(ResolveError::Timeout { servers: self.servers.clone() });
        timeout(self.timeout, self.ask_all(name, kind)).await.unwrap_or_else(late)
    }

    async fn ask_all(&self, name: &str, kind: Kind) -> Result<Records, ResolveError> {
        let mut none: Option<Records> = None;
        for name in self.names(name)? {
            match self.ask_one(name, kind).await {
                Ok(records) if !records.is_empty() => return Ok(records),
                Ok(records) => none = none.or(Some(records)),
                Err(ResolveError::NoSuchName { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        none.ok_or_else(|| ResolveError::NoSuchName { servers: self.servers.clone() })
    }

    /// The full names that a name may stand for, in the order of resolv.conf(5).
    fn names(&self, name: &str) -> Result<Vec<Name>, ResolveError> {
        let bad = |error: &dyn fmt::Display| ResolveError::BadName { reason: error.to_string() };
        let mut name = Name::from_utf8(name).map_err(|error| bad(&error))?;
        if name.is_fqdn() {
            return Ok(vec![name]);
        }
        let searched = self.search.iter().take(SEARCH_MAX).filter_map(|domain| {
            let mut full = name.clone().append_domain(domain).ok()?;
            full.set_fqdn(true);
            Some(full)
        });
        let mut names: Vec<Name> = searched.collect();
        let first = usize::from(name.num_labels()) > self.ndots;
        name.set_fqdn(true);
        let at = if first { 0 } else { names.len() };
        names.insert(at, name);
        Ok(names)
    }

    async fn ask_one(&self, name: Name, kind: Kind) -> Result<Records, ResolveError> {
        let error = match self.inner.lookup(name, kind.record_type()).await {
            Ok(lookup) => return Ok(read(lookup.answers(), kind)),
            Err(error) => error,
        };
        // Where a chain of aliases was given up, the last one looks like a name that has nothing.
        if let NetError::Dns(DnsError::NoRecordsFound(none)) = &error
            && none.soa.is_none()
            && none.response_code == ResponseCode::NoError
            && self.inner.lookup(none.query.name().clone(), RecordType::CNAME).await.is_ok()
        {
            return Err(ResolveError::Circle { servers: self.servers.clone() });
        }
        self.sort(error)
    }

    /// Whether an error is an answer after all, or whose fault it is.
    #[expect(clippy::wildcard_enum_match_arm, reason = "an enum of others, which may grow")]
    fn sort(&self, error: NetError) -> Result<Records, ResolveError> {
        let servers = self.servers.clone();
        if let NetError::Dns(DnsError::NoRecordsFound(none)) = &error {
            if none.response_code == ResponseCode::NXDomain {
                return Err(ResolveError::NoSuchName { servers });
            }
            let ttl = Duration::from_secs(u64::from(none.negative_ttl.unwrap_or_default()));
            return Ok(Records { ttl, ..Records::default() });
        }
        Err(match &error {
            NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)) => ResolveError::ServerFailed { servers },
            NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)) => ResolveError::Refused { servers },
            NetError::Dns(DnsError::ResponseCode(code)) => ResolveError::Code { servers, code: *code },
            NetError::Timeout => ResolveError::Timeout { servers },
            NetError::Proto(error) => ResolveError::Malformed { servers, reason: error.to_string() },
            error => ResolveError::Unreachable { servers, reason: error.to_string() },
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("servers", &self.servers).finish_non_exhaustive()
    }
}

fn server(address: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    // Another server may know more than one that says there is no such name.
    NameServerConfig::new(address.ip(), false, connections)
}

fn shown(server: &NameServerConfig) -> String {
    match server.connections.first().map(|connection| connection.port) {
        Some(53) | None => server.ip.to_string(),
        Some(port) => SocketAddr::new(server.ip, port).to_string(),
    }
}

fn read(answers: &[Record], kind: Kind) -> Records {
    let mut records = Records { ttl: Duration::MAX, ..Records::default() };
    for record in answers {
        match (&record.data, kind) {
            (RData::A(address), Kind::A) => records.addresses.push(IpAddr::V4(address.0)),
            (RData::AAAA(address), Kind::Aaaa) => records.addresses.push(IpAddr::V6(address.0)),
            (RData::SRV(srv), Kind::Srv) => records.targets.extend(target(srv)),
            _ => continue,
        }
        records.ttl = records.ttl.min(Duration::from_secs(u64::from(record.ttl)));
    }
    if records.is_empty() {
        records.ttl = Duration::ZERO;
    }
    records.addresses.sort_unstable();
    records.addresses.dedup();
    records.targets.sort_unstable();
    records.targets.dedup();
    records
}

/// A target of a single dot says that the service is decidedly not there (RFC 2782).
fn target(srv: &hickory_resolver::proto::rr::rdata::SRV) -> Option<Target> {
    if srv.target.is_root() {
        return None;
    }
    let name = srv.target.to_utf8();
    let name = name.strip_suffix('.').unwrap_or(&name).to_owned();
    Some(Target { name, port: srv.port, priority: srv.priority, weight: srv.weight })
}
