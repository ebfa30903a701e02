//! What stands below a key: what our own agents write, and what others may.
//!
//! A value is a JSON object with the fields of [`crate::record`] and `nodes`, a list of names; or one name or several, with
//! commas or white space between them; or nothing, and then the end of the key after its last `/` is the name.

use metacluster_types::{AgentId, Candidate, Host, NodeName};
use serde_json::{Map, Value, json};

use crate::{
    Local,
    record::{self, Column},
};

/// How many nodes one key may name.
const NODES_MAX: usize = 256;

/// What one key says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) agent: Option<AgentId>,
    pub(super) host: Host,
    pub(super) named: Vec<Candidate>,
}

/// What our own key says.
pub(super) fn of(local: &Local) -> String {
    let nodes: Vec<&str> = local.nodes.iter().take(NODES_MAX).map(NodeName::as_str).collect();
    let zone = local.place.zone.as_ref().map(metacluster_types::Zone::as_str);
    let region = local.place.region.as_ref().map(metacluster_types::Region::as_str);
    json!({ "agent": local.agent.to_string(), "nodes": nodes, "zone": zone, "region": region }).to_string()
}

/// Reads a key and its value. The error says what is wrong.
pub(super) fn read(key: &[u8], value: &[u8]) -> Result<Entry, String> {
    let text = String::from_utf8_lossy(value);
    let text = text.trim();
    if text.starts_with('{') {
        let object = serde_json::from_str(text).map_err(|error| format!("a value that is no JSON object: {error}"))?;
        return read_object(object);
    }
    let key = String::from_utf8_lossy(key);
    let names = if text.is_empty() { key.rsplit('/').next().unwrap_or_default() } else { text };
    let names = names.split(|letter: char| letter == ',' || letter.is_whitespace()).filter(|name| !name.is_empty());
    let mut entry = Entry::default();
    for name in names.take(NODES_MAX) {
        let row = record::read([(Column::Name, name)].into_iter())?;
        entry.add(row);
    }
    Ok(entry)
}

fn read_object(mut object: Map<String, Value>) -> Result<Entry, String> {
    let nodes = match object.remove("nodes") {
        None | Some(Value::Null) => Vec::new(),
        Some(nodes) => {
            serde_json::from_value::<Vec<String>>(nodes).map_err(|_| "`nodes` is no list of names".to_owned())?
        }
    };
    let fields: Vec<(Column, String)> = object
        .into_iter()
        .filter_map(|(key, value)| {
            let text = match value {
                Value::Null => return None,
                Value::String(text) => text,
                other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
            };
            Some((Column::of(&key), text))
        })
        .collect();
    let fields = || fields.iter().map(|(column, text)| (*column, text.as_str()));
    let mut entry = Entry::default();
    if nodes.is_empty() {
        entry.add(record::read(fields())?);
    }
    for node in nodes.iter().take(NODES_MAX) {
        entry.add(record::read(fields().chain([(Column::Node, node.as_str())]))?);
    }
    Ok(entry)
}

impl Entry {
    /// Adds what one node's record says. All of one key are on one host, as the first says it.
    fn add(&mut self, row: record::Row) {
        self.agent = self.agent.or(row.agent);
        if self.host == Host::default() {
            self.host = row.host.clone();
        }
        self.named.extend(row.node.map(|node| Candidate { node, agent: row.agent, host: row.host }));
    }
}

#[cfg(test)]
mod tests {
    use metacluster_types::ClusterName;

    use super::*;

    fn names(entry: &Entry) -> Vec<&str> {
        entry.named.iter().map(|candidate| candidate.node.as_str()).collect()
    }

    #[test]
    fn what_an_agent_writes_is_read() {
        let local = Local {
            agent: AgentId(7),
            cluster: ClusterName::new("main").expect("a name"),
            place: metacluster_types::Place { zone: metacluster_types::Zone::new("z1").ok(), region: None },
            nodes: ["a@10.0.0.4", "b@10.0.0.4"].iter().map(|name| NodeName::new(name).expect("a node")).collect(),
            agents: [].into(),
            port: None,
        };
        let entry = read(b"/k", of(&local).as_bytes()).expect("an entry");
        assert_eq!(entry.agent, Some(AgentId(7)));
        assert_eq!(names(&entry), ["a@10.0.0.4", "b@10.0.0.4"]);
        assert_eq!(entry.host.addresses.len(), 1);
        assert!(entry.host.place.zone.is_some());
        let idle = read(b"/k", of(&Local { nodes: [].into(), ..local }).as_bytes()).expect("an entry");
        assert_eq!((idle.agent, idle.named.len()), (Some(AgentId(7)), 0));
    }

    #[test]
    fn what_others_write_is_read() {
        for (key, value, nodes) in [
            ("/nodes/1", "a@h1", &["a@h1"][..]),
            ("/nodes/1", "a@h1, b@h1\n", &["a@h1", "b@h1"]),
            ("/nodes/a@h1", "", &["a@h1"]),
            ("/nodes/1", r#"{"node":"a@h1","roles":["web"],"tags":{"app":"shop"}}"#, &["a@h1"]),
            ("/nodes/1", r#"{"ip":"10.0.0.4"}"#, &[]),
        ] {
            let entry = read(key.as_bytes(), value.as_bytes()).expect(value);
            assert_eq!(names(&entry), nodes, "{value}");
            assert_ne!(entry.host, Host::default(), "{value}");
        }
        for value in ["{", r#"{"nodes":"a@h"}"#, r#"{"nodes":["no node"]}"#, r#"{"zone":"z"}"#, "a b@", "\u{1}"] {
            assert!(read(b"/nodes/1", value.as_bytes()).is_err(), "{value}");
        }
    }
}
