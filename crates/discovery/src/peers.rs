//! Peers as people and programs write them down, for `file` and `exec`.
//!
//! ```text
//! line  = "#" comment | peer | object
//! peer  = node | host | address | address ":" port | host ":" port        IPv6 with a port in brackets
//! object = {"node": …, "host": …, "addresses": […], "port": …, "instance": …, "zone": …, "region": …, "state": …,
//!           "roles": […], "tags": {…}}      each may be missing; with a node it is a candidate, else a host
//! ```

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use metacluster_types::{Candidate, Host, NodeName};
use serde_json::Value;
use tokio::{
    net::lookup_host,
    task::JoinSet,
    time::{Duration, Instant, timeout},
};

use crate::{naming::Answer, naming::Naming, settings::nearest};

/// The longest name of a host, as in DNS.
const NAME_MAX: usize = 253;
/// The time for the addresses of all host names of one answer.
const RESOLVE: Duration = Duration::from_secs(3);
/// How many host names one answer may have; those above get no address.
const NAMES_MAX: usize = 1024;
/// How long addresses of a host name are used.
const KEPT: Duration = Duration::from_secs(30);
/// The fields of an object.
const FIELDS: [&str; 10] =
    ["node", "host", "addresses", "port", "instance", "zone", "region", "state", "roles", "tags"];

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Node(Candidate),
    Host(Host),
}

impl Peer {
    /// Reads a line. `None` for an empty one and for a comment.
    pub(crate) fn of_line(line: &str) -> Result<Option<Self>, String> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        if line.starts_with('{') {
            let value = serde_json::from_str(line).map_err(|error| format!("is no JSON object: {error}"))?;
            return Self::of_value(&value).map(Some);
        }
        Self::of_text(line).map(Some)
    }

    /// Reads a JSON text or object.
    pub(crate) fn of_value(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Self::of_text(text.trim()),
            Value::Object(fields) => {
                if let Some(field) = fields.keys().find(|field| !FIELDS.contains(&field.as_str())) {
                    let near = nearest(field, FIELDS.into_iter()).map(|near| format!("; did you mean `{near}`?"));
                    let all = || format!("; there are {}", FIELDS.join(", "));
                    return Err(format!("there is no field {field:?}{}", near.unwrap_or_else(all)));
                }
                let fault = |error: serde_json::Error| format!("is no peer: {error}");
                if fields.contains_key("node") {
                    return serde_json::from_value(value.clone()).map(Self::Node).map_err(fault);
                }
                let host: Host = serde_json::from_value(value.clone()).map_err(fault)?;
                if host.name.is_none() && host.addresses.is_empty() && host.instance.is_none() {
                    return Err("names nobody: give `node`, `host`, `addresses` or `instance`".to_owned());
                }
                Ok(Self::Host(host))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
                Err("is no peer: expected a text or an object".to_owned())
            }
        }
    }

    fn of_text(text: &str) -> Result<Self, String> {
        if text.contains('@') {
            return NodeName::new(text).map(|node| Self::Node(Candidate::new(node))).map_err(|error| error.to_string());
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Host(Host { addresses: vec![address], ..Host::default() }));
        }
        if let Ok(at) = text.parse::<SocketAddr>() {
            return Ok(Self::Host(Host { addresses: vec![at.ip()], port: Some(at.port()), ..Host::default() }));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => match port.parse() {
                Ok(port) if port > 0 => (name, Some(port)),
                Ok(_) | Err(_) => return Err(format!("`{}` has no port after its `:`", shorten(text))),
            },
            None => (text, None),
        };
        let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
        if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(fits) {
            let text = shorten(text);
            return Err(format!(
                "`{text}` is no peer: expected name@host, a host or an address, with or without a port"
            ));
        }
        Ok(Self::Host(Host { name: Some(name.to_owned()), port, ..Host::default() }))
    }

    /// What tells it from others, and takes it away again.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Node(candidate) => candidate.node.to_string(),
            Self::Host(host) => {
                let address = || host.addresses.first().map(ToString::to_string);
                host.instance.clone().or_else(|| host.name.clone()).or_else(address).unwrap_or_default()
            }
        }
    }
}

/// Not more of a text than a line of a log should hold.
pub(crate) fn shorten(text: &str) -> String {
    const LETTERS_MAX: usize = 80;
    let clean = text.chars().map(|letter| if letter.is_control() { '?' } else { letter });
    let mut short: String = clean.clone().take(LETTERS_MAX).collect();
    if clean.count() > LETTERS_MAX {
        short.push('…');
    }
    short
}

/// The addresses of hosts that are known by name alone, as the system resolves them. Those of a name that cannot be
/// resolved any more stay.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: BTreeMap<String, (Vec<IpAddr>, Instant)>,
}

impl Names {
    /// Makes the answer, with the addresses of host names filled in.
    pub(crate) async fn answer(&mut self, naming: &Naming, peers: Vec<Peer>) -> Answer {
        let (mut hosts, mut nodes) = (Vec::new(), Vec::new());
        for peer in peers {
            match peer {
                Peer::Host(host) => hosts.push(host),
                Peer::Node(candidate) => nodes.push(candidate),
            }
        }
        self.resolve(&hosts).await;
        for host in hosts.iter_mut().filter(|host| host.addresses.is_empty()) {
            if let Some((addresses, _)) = host.name.as_ref().and_then(|name| self.known.get(name)) {
                host.addresses.clone_from(addresses);
            }
        }
        naming.answer_with(hosts, nodes)
    }

    async fn resolve(&mut self, hosts: &[Host]) {
        let unknown = hosts.iter().filter(|host| host.addresses.is_empty()).filter_map(|host| host.name.clone());
        let wanted: Vec<String> = unknown.take(NAMES_MAX).collect();
        self.known.retain(|name, _| wanted.contains(name));
        let mut asked = JoinSet::new();
        for name in wanted {
            if self.known.get(&name).is_some_and(|(_, since)| since.elapsed() < KEPT) {
                continue;
            }
            asked.spawn(async move {
                let addresses = lookup_host((name.as_str(), 0)).await.map(|found| found.map(|at| at.ip()).collect());
                (name, addresses)
            });
        }
        let all = async {
            while let Some(joined) = asked.join_next().await {
                if let Ok((name, Ok(addresses))) = joined {
                    self.known.insert(name, (addresses, Instant::now()));
                }
            }
        };
        if timeout(RESOLVE, all).await.is_err() {
            tracing::debug!("some names of hosts have no address in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(line: &str) -> Host {
        match Peer::of_line(line) {
            Ok(Some(Peer::Host(host))) => host,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_line_is_a_node_a_host_or_an_address() {
        let Ok(Some(Peer::Node(node))) = Peer::of_line(" shop@10.0.0.4\r\n") else { panic!("a node") };
        assert_eq!(node.node.as_str(), "shop@10.0.0.4");
        assert_eq!(host("10.0.0.4").addresses.len(), 1);
        assert_eq!((host("10.0.0.4:4000").port, host("[fd00::4]:4000").port), (Some(4000), Some(4000)));
        assert_eq!(host("fd00::4").addresses.len(), 1);
        assert_eq!((host("web-1.example:4000").name.as_deref(), host("web1").port), (Some("web-1.example"), None));
        assert_eq!((Peer::of_line("  # shop@h"), Peer::of_line("")), (Ok(None), Ok(None)));
    }

    #[test]
    fn an_object_carries_all_that_is_known() {
        let line = r#"{"node":"shop@h","addresses":["10.0.0.4"],"zone":"z1","roles":["web"],"tags":{"app":"shop"}}"#;
        let Ok(Some(Peer::Node(found))) = Peer::of_line(line) else { panic!("a node") };
        assert_eq!((found.host.addresses.len(), found.host.roles.len(), found.host.tags.len()), (1, 1, 1));
        assert_eq!(host(r#"{"instance":"i-1","state":"terminated"}"#).instance.as_deref(), Some("i-1"));
    }

    #[test]
    fn what_is_no_peer_is_said_and_cut_short() {
        for (line, says) in [
            (r#"{"adresses":[]}"#, "did you mean `addresses`?"),
            (r#"{"port":1}"#, "names nobody"),
            (r#"{"node":"shop"}"#, "name@host"),
            (r#"{"node":"#, "no JSON"),
            ("shop@", "name@host"),
            ("two words", "expected name@host"),
            ("host:0", "no port"),
            ("\u{1b}[31m", "`?[31m`"),
        ] {
            let fault = Peer::of_line(line).expect_err(line);
            assert!(fault.contains(says), "{line}: {fault}");
        }
        assert!(Peer::of_line(&"x".repeat(10_000)).expect_err("long").len() < 300);
    }
}
