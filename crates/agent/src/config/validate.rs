//! From checked values to [`Config`]: what a name, an address, a pattern or a topology has to be.
//!
//! Each finding goes to the list of faults and the work goes on with a stand-in, so that all faults come out at once; a
//! stand-in never leaves this module, since any fault refuses the whole.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use metacluster_erl::epmd::NetworkError;
use metacluster_federation::cells::{By, Rules};
use metacluster_types::{ClusterName, Cookie, NodeName, Pattern, Place, Region, Role, Zone};

use super::{
    ApiConfig, Config, EpmdConfig, EpmdMode, HttpConfig, LogLevel, ReadinessConfig, cookie, distribution,
    environment::Environment,
    fault::{Fault, Faults, Origin},
    federation, handler, membership,
    raw::{Raw, RawTable},
    topology::{self, Entry},
    values::{self, Values},
};

/// The port of epmd when neither the file nor `ERL_EPMD_PORT` says one.
const EPMD_PORT: u16 = 4369;

/// The longest path that a Unix socket can have on Linux, without the zero at its end.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Where the topologies come from.
pub(super) enum Topologies {
    /// The entries of the file.
    File,
    /// These, as the command line has them.
    Given(Vec<Entry>),
}

/// Validates everything and reports everything.
pub(super) fn validate(file: RawTable, given: Topologies, environment: &Environment) -> Result<Config, Faults> {
    let (mut faults, mut warnings) = (Vec::new(), Vec::new());
    let (values, mut entries) = values::read(file, environment, &mut faults, &mut warnings);
    let mut take = |name: &str| -> Vec<Raw> { entries.remove(name).unwrap_or_default() };
    let topology_entries = match given {
        Topologies::File => topology::entries(take("topology"), &mut faults),
        Topologies::Given(given) => given,
    };
    if topology_entries.is_empty() && faults.is_empty() {
        warnings.push("there is no [[topology]]: no peer will be looked for".to_owned());
    }
    let handler_entries = take("handler");
    let federation_entries =
        federation::Entries { exports: take("federation.export"), topologies: take("federation.topology") };
    let mut check = Check { values: &values, environment, faults, warnings };

    let state_dir = check.state_dir();
    let epmd = check.epmd();
    let topologies = topology::validate(topology_entries, &mut check.faults);
    let selective = topologies.iter().any(|topology| topology.prune || !topology.local_nodes.is_empty());
    let membership = membership::read(&values, environment, selective, &mut check.faults, &mut check.warnings);
    let config = Config {
        cluster: check.name("cluster", ClusterName::new),
        place: Place { zone: check.optional("zone", Zone::new), region: check.optional("region", Region::new) },
        zone_said: values.origin("zone").is_explicit(),
        roles: check.items("roles", Role::new).into_iter().collect(),
        tags: check.tags(),
        cookie: check.cookie(),
        node_name: check.node_name(),
        host: check.host(),
        listen: check.listen(),
        distribution: distribution::validate(&values, environment, &mut check.faults),
        nodes: check.items("nodes.names", pattern),
        topologies,
        epmd,
        readiness: ReadinessConfig {
            nodes_min: check.count("readiness.nodes_min"),
            mandatory: check.items("readiness.mandatory", NodeName::new),
            timeout: values.duration("readiness.timeout").unwrap_or_default(),
        },
        handlers: handler::validate(handler_entries, &mut check.faults, &mut check.warnings),
        federation: federation::validate(&values, federation_entries, environment, &mut check.faults),
        api: ApiConfig { socket: check.socket(&state_dir), http: check.http() },
        cells: check.cells(membership.enabled),
        cell_gateways: check.count("cells.gateways"),
        membership,
        events_keep: check.count("events.keep"),
        log_level: check.log_level(),
        state_dir,
        warnings: Vec::new(),
    };
    let Check { faults, warnings, .. } = check;
    Faults::check(faults)?;
    Ok(Config { warnings, ..config })
}

struct Check<'a> {
    values: &'a Values,
    environment: &'a Environment,
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

impl Check<'_> {
    fn fault(&mut self, origin: &Origin, path: &str, error: impl std::fmt::Display) {
        self.faults.push(Fault::new(origin, format!("`{path}`: {error}")));
    }

    fn optional<T, E: std::fmt::Display>(&mut self, path: &str, read: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        let (text, origin) = self.values.text(path)?;
        match read(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(origin, path, error);
                None
            }
        }
    }

    fn name<E: std::fmt::Display>(&mut self, path: &str, read: impl Fn(&str) -> Result<ClusterName, E>) -> ClusterName {
        self.optional(path, read).unwrap_or_else(|| ClusterName::new("main").expect("a valid name"))
    }

    fn items<T, E: std::fmt::Display>(&mut self, path: &str, read: impl Fn(&str) -> Result<T, E>) -> Vec<T> {
        let mut items = Vec::new();
        for (text, origin) in self.values.list(path) {
            match read(text) {
                Ok(item) => items.push(item),
                Err(error) => self.fault(origin, path, error),
            }
        }
        items
    }

    fn count(&self, path: &str) -> usize {
        self.values.number(path).and_then(|number| usize::try_from(number).ok()).unwrap_or(1)
    }

    fn tags(&mut self) -> BTreeMap<String, String> {
        let tags = self.values.map("tags");
        if tags.keys().any(|key| key.is_empty() || key.contains(char::is_control)) {
            self.fault(self.values.origin("tags"), "tags", "a key is empty or holds a control character");
        }
        tags
    }

    fn cells(&mut self, membership: bool) -> Option<Rules> {
        let by = self.optional("cells.by", By::from_str);
        let said = ["cells.nodes_max", "cells.nodes_min", "cells.gateways"]
            .into_iter()
            .find(|path| self.values.origin(path).is_explicit());
        if let Some(path) = said.filter(|_| self.values.text("cells.by").is_none()) {
            self.fault(self.values.origin(path), path, "there are no cells without `cells.by`");
        }
        if by.is_some() && !membership {
            let origin = self.values.origin("cells.by");
            self.fault(origin, "cells.by", "who is in which cell goes by membership: set `membership.enabled = true`");
        }
        Some(Rules { by: by?, nodes_max: self.count("cells.nodes_max"), nodes_min: self.count("cells.nodes_min") })
    }

    fn cookie(&mut self) -> Cookie {
        let file = self.values.text("cookie_file");
        cookie::find(file, self.environment, &mut self.warnings).unwrap_or_else(|fault| {
            self.faults.push(fault);
            Cookie::new("")
        })
    }

    fn node_name(&mut self) -> String {
        let side = |text: &str| NodeName::from_parts(text, "host").map(|name| name.basename().to_owned());
        self.optional("node_name", side).unwrap_or_default()
    }

    fn host(&mut self) -> Option<String> {
        self.optional("host", |text| NodeName::from_parts("name", text).map(|name| name.host().to_owned()))
    }

    fn listen(&mut self) -> Option<SocketAddr> {
        let address = |text: &str| {
            text.parse().map_err(|_| format!("`{text}` is no address with a port: expected one such as 0.0.0.0:0"))
        };
        self.optional("listen", address)
    }

    fn state_dir(&mut self) -> PathBuf {
        if let Some((path, _)) = self.values.text("state_dir") {
            return cookie::expand_home(path, self.environment);
        }
        // A value of the wrong kind was reported already, and is no reason to report that there is none.
        self.environment.default_state_dir().unwrap_or_else(|| {
            let message = "no place for the state: HOME is not set; name a folder with `state_dir`";
            self.faults.push(Fault::new(&Origin::Default, message));
            PathBuf::new()
        })
    }

    fn epmd(&mut self) -> EpmdConfig {
        let mode = match self.values.text("epmd.mode") {
            Some(("own", _)) => EpmdMode::Own,
            Some(("external", _)) => EpmdMode::External,
            Some(_) | None => EpmdMode::Auto,
        };
        let port = match self.values.number("epmd.port").and_then(|port| u16::try_from(port).ok()) {
            Some(port) => port,
            None => self.stock_epmd_port(),
        };
        EpmdConfig {
            mode,
            port,
            addresses: self.items("epmd.addresses", address),
            allow: self.items("epmd.allow", |text| text.parse().map_err(|error: NetworkError| error.to_string())),
            poll_interval: self.values.duration("epmd.poll_interval").unwrap_or(Duration::from_secs(1)),
        }
    }

    /// The variable that `erl` and `epmd` read too.
    fn stock_epmd_port(&mut self) -> u16 {
        const NAME: &str = "ERL_EPMD_PORT";
        let Some(text) = self.environment.variable(NAME) else { return EPMD_PORT };
        match text.trim().parse() {
            Ok(port) if port > 0 => port,
            Ok(_) | Err(_) => {
                let message = format!("`{text}` is no port: expected 1 to 65535");
                self.faults.push(Fault::new(&Origin::Environment(NAME.to_owned()), message));
                EPMD_PORT
            }
        }
    }

    fn socket(&mut self, state_dir: &std::path::Path) -> PathBuf {
        let (socket, path) = match self.values.text("api.socket") {
            Some((socket, _)) => (cookie::expand_home(socket, self.environment), "api.socket"),
            None => (state_dir.join("metacluster.sock"), "state_dir"),
        };
        let length = socket.as_os_str().len();
        if length > SOCKET_PATH_BYTES_MAX {
            let message = format!(
                "the socket {} has a path of {length} bytes, and {SOCKET_PATH_BYTES_MAX} are possible: set a shorter \
                 `api.socket`",
                socket.display()
            );
            self.fault(self.values.origin(path), path, message);
        }
        socket
    }

    fn http(&mut self) -> Option<HttpConfig> {
        let explicit = self.values.origin("api.http").is_explicit();
        let address = self.optional("api.http", http_address).flatten()?;
        Some(HttpConfig { address, explicit })
    }

    fn log_level(&self) -> LogLevel {
        match self.values.text("log.level") {
            Some(("error", _)) => LogLevel::Error,
            Some(("warn", _)) => LogLevel::Warn,
            Some(("debug", _)) => LogLevel::Debug,
            Some(("trace", _)) => LogLevel::Trace,
            Some(_) | None => LogLevel::Info,
        }
    }
}

/// A pattern that some node name can fit.
pub(super) fn pattern(text: &str) -> Result<Pattern, String> {
    if text.is_empty() {
        return Err("an empty pattern fits no node".to_owned());
    }
    if text.contains(|c: char| c.is_control() || c.is_whitespace()) || text.matches('@').count() > 1 {
        return Err(format!("{text:?} fits no node: expected a pattern such as worker-* or shop@10.0.0.*"));
    }
    Ok(Pattern::new(text))
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is no address: expected one such as 127.0.0.1 or ::1, without a port"))
}

/// A loopback address and port, or nothing for `off`.
fn http_address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    let expected = "expected an address and a port such as 127.0.0.1:4390, or \"off\"";
    let address = match text.strip_prefix("localhost:") {
        Some(port) => port.parse().ok().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        None => SocketAddr::from_str(text).ok(),
    };
    let address = address.ok_or_else(|| format!("`{text}` is no address: {expected}"))?;
    if !address.ip().is_loopback() {
        return Err(format!("`{text}` is no loopback address, and this API asks nobody who he is: {expected}"));
    }
    Ok(Some(address))
}
