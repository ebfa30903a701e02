//! A record of a peer, by the names of its fields: a row of a table, or an object in a registry.
//!
//! Known fields: `node`, `name`, `host`, `address` (or `ip`), `port`, `zone`, `region`, `state`, `instance`, `roles`,
//! `tags`, and `agent` in what our own agents write. Others are passed over. A record needs a node, a name, a host or an
//! address.

use std::net::IpAddr;

use metacluster_types::{AgentId, Host, HostState, NodeName, Region, Role, Tags, Zone};

/// How many roles, and how many tags, a record may have.
const LABELS_MAX: usize = 64;

/// A known field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Node,
    Name,
    Host,
    Address,
    Port,
    Zone,
    Region,
    State,
    Instance,
    Roles,
    Tags,
    Agent,
    Other,
}

impl Column {
    pub(crate) fn of(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "node" => Self::Node,
            "name" => Self::Name,
            "host" => Self::Host,
            "address" | "ip" => Self::Address,
            "port" => Self::Port,
            "zone" => Self::Zone,
            "region" => Self::Region,
            "state" => Self::State,
            "instance" => Self::Instance,
            "roles" => Self::Roles,
            "tags" => Self::Tags,
            "agent" => Self::Agent,
            _ => Self::Other,
        }
    }

    pub(crate) const fn says_who(self) -> bool {
        matches!(self, Self::Node | Self::Name | Self::Host | Self::Address)
    }
}

/// What a record says.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) node: Option<NodeName>,
    pub(crate) agent: Option<AgentId>,
    pub(crate) host: Host,
}

/// Reads a record. The error says what is wrong with which value.
pub(crate) fn read<'a>(fields: impl Iterator<Item = (Column, &'a str)>) -> Result<Row, String> {
    let mut row = Row::default();
    for (column, value) in fields {
        let value = value.trim();
        if value.is_empty() {
            continue;
        }
        match column {
            Column::Node => row.node = Some(node(value)?),
            Column::Name if value.contains('@') => row.node = Some(node(value)?),
            Column::Name | Column::Host => name_or_address(&mut row.host, value)?,
            Column::Address => row.host.addresses.extend(addresses(value)?),
            Column::Port => {
                row.host.port = Some(value.parse().map_err(|_| format!("`{value}` is no port: expected 1 to 65535"))?);
            }
            Column::Zone => row.host.place.zone = Some(Zone::new(value).map_err(|error| error.to_string())?),
            Column::Region => row.host.place.region = Some(Region::new(value).map_err(|error| error.to_string())?),
            Column::State => row.host.state = state(value)?,
            Column::Instance => row.host.instance = Some(value.to_owned()),
            Column::Roles => {
                let roles = list(value).into_iter().take(LABELS_MAX).map(|role| Role::new(&role));
                row.host.roles = roles.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
            }
            Column::Tags => row.host.tags = tags(value)?,
            Column::Agent => row.agent = value.parse().ok(),
            Column::Other => {}
        }
    }
    let Row { node, agent, host } = &mut row;
    let Some(host_of_node) = node.as_ref().map(NodeName::host) else {
        let known = agent.is_some() || host.name.is_some() || !host.addresses.is_empty();
        return if known { Ok(row) } else { Err("it has no node, no host and no address".to_owned()) };
    };
    if host.name.is_none() && host.addresses.is_empty() {
        name_or_address(host, host_of_node)?;
    }
    Ok(row)
}

fn node(value: &str) -> Result<NodeName, String> {
    NodeName::new(value).map_err(|error| error.to_string())
}

/// A host is told by its name or by an address.
fn name_or_address(host: &mut Host, value: &str) -> Result<(), String> {
    if let Ok(address) = value.parse() {
        host.addresses.push(address);
        return Ok(());
    }
    if value.len() > 253 || value.contains(|letter: char| letter.is_control() || letter.is_whitespace()) {
        return Err(format!("`{}` is no host", value.escape_debug()));
    }
    host.name = Some(value.to_owned());
    Ok(())
}

/// Addresses as text, `inet` or an array of them.
fn addresses(value: &str) -> Result<Vec<IpAddr>, String> {
    let read = |text: String| {
        let address = text.split('/').next().unwrap_or_default();
        address.parse().map_err(|_| format!("`{}` is no address", text.escape_debug()))
    };
    list(value).into_iter().take(LABELS_MAX).map(read).collect()
}

fn state(value: &str) -> Result<HostState, String> {
    match value.to_ascii_lowercase().as_str() {
        "pending" | "starting" => Ok(HostState::Pending),
        "running" | "active" | "ready" | "up" => Ok(HostState::Running),
        "terminating" | "draining" | "leaving" | "stopping" | "down" => Ok(HostState::Terminating),
        "terminated" | "deleted" => Ok(HostState::Terminated),
        _ => {
            Err(format!("`{}` is no state: expected pending, running, terminating or terminated", value.escape_debug()))
        }
    }
}

/// A list as JSON, as an array of PostgreSQL, or with commas.
fn list(value: &str) -> Vec<String> {
    if value.starts_with('[')
        && let Ok(texts) = serde_json::from_str::<Vec<String>>(value)
    {
        return texts;
    }
    let inner = value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(value);
    let parts = inner.split(',').map(|part| part.trim().trim_matches('"').to_owned());
    parts.filter(|part| !part.is_empty() && part != "NULL").collect()
}

/// Tags as a JSON object, as `hstore`, or as `key=value` with commas.
fn tags(value: &str) -> Result<Tags, String> {
    if value.starts_with('{') {
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(value).map_err(|error| format!("tags that are no JSON object: {error}"))?;
        let text = |value: serde_json::Value| match value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Null => String::new(),
            other @ (serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_)) => other.to_string(),
        };
        return Ok(object.into_iter().take(LABELS_MAX).map(|(key, value)| (key, text(value))).collect());
    }
    let pair = |part: &str| {
        let (key, value) = part.split_once("=>").or_else(|| part.split_once('='))?;
        let bare = |text: &str| text.trim().trim_matches('"').to_owned();
        Some((bare(key), bare(value)))
    };
    let pairs = value.split(',').take(LABELS_MAX);
    pairs
        .map(|part| pair(part).ok_or_else(|| format!("`{}` is no tag: expected key=value", part.escape_debug())))
        .collect()
}
