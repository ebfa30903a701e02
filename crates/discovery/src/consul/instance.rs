//! An instance of a service, as `/v1/health/service/:service` and `/v1/catalog/service/:service` list it.

use std::{collections::BTreeMap, net::IpAddr};

use metacluster_types::{AgentId, Candidate, Host, HostState, NodeName, Place, Region, Tags, Zone};
use serde::Deserialize;

/// How many labels an instance may have.
const LABELS_MAX: usize = 64;

/// An entry of the health endpoint.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    node: Node,
    service: Service,
    #[serde(default)]
    checks: Vec<Check>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Node {
    #[serde(rename = "ID")]
    id: String,
    node: String,
    address: String,
    datacenter: String,
    meta: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    address: String,
    tags: Option<Vec<String>>,
    meta: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Check {
    status: String,
}

/// An entry of the catalogue.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Listed {
    #[serde(rename = "ID")]
    id: String,
    node: String,
    address: String,
    datacenter: String,
    node_meta: Option<BTreeMap<String, String>>,
    #[serde(rename = "ServiceID")]
    service_id: String,
    service_address: String,
    service_tags: Option<Vec<String>>,
    service_meta: Option<BTreeMap<String, String>>,
}

impl From<Listed> for Health {
    fn from(it: Listed) -> Self {
        let node =
            Node { id: it.id, node: it.node, address: it.address, datacenter: it.datacenter, meta: it.node_meta };
        let service =
            Service { id: it.service_id, address: it.service_address, tags: it.service_tags, meta: it.service_meta };
        Self { node, service, checks: Vec::new() }
    }
}

/// An instance, in our words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) agent: Option<AgentId>,
    pub(super) host: Host,
    pub(super) named: Option<Candidate>,
}

/// Reads an answer.
pub(super) fn read(health: bool, body: &[u8]) -> Result<Vec<Instance>, String> {
    let unreadable = |error: serde_json::Error| format!("the answer is not Consul's: {error}");
    if health {
        let entries: Vec<Health> = serde_json::from_slice(body).map_err(unreadable)?;
        return Ok(entries.into_iter().map(Health::instance).collect());
    }
    let entries: Vec<Listed> = serde_json::from_slice(body).map_err(unreadable)?;
    Ok(entries.into_iter().map(|listed| Health::from(listed).instance()).collect())
}

impl Health {
    fn instance(self) -> Instance {
        let Self { node, service, checks } = self;
        let (node_meta, meta) = (node.meta.unwrap_or_default(), service.meta.unwrap_or_default());
        let said = |key: &str| meta.get(key).or_else(|| node_meta.get(key)).map(String::as_str);
        let critical = checks.iter().any(|check| check.status == "critical");
        let mut tags: Tags = node_meta.iter().chain(&meta).map(|(key, value)| (key.clone(), value.clone())).collect();
        for tag in service.tags.unwrap_or_default() {
            let (key, value) = tag.split_once('=').unwrap_or((&tag, ""));
            tags.insert(key.to_owned(), value.to_owned());
        }
        let tags = tags.into_iter().take(LABELS_MAX).collect();
        let region = said("region").map_or(node.datacenter.as_str(), |region| region);
        let place =
            Place { zone: said("zone").and_then(|zone| Zone::new(zone).ok()), region: Region::new(region).ok() };
        let address = if service.address.is_empty() { &node.address } else { &service.address };
        let mut host = Host {
            instance: (!service.id.is_empty()).then(|| format!("{}/{}", node.id, service.id)),
            place,
            state: if critical { HostState::Pending } else { HostState::Running },
            tags,
            ..Host::default()
        };
        match address.parse::<IpAddr>() {
            Ok(address) => {
                host.addresses.push(address);
                host.name = (!node.node.is_empty()).then_some(node.node);
            }
            Err(_) => host.name = Some(address.clone()),
        }
        let agent = said("agent").and_then(|agent| agent.parse().ok());
        let name = said("node").and_then(|name| NodeName::new(name).ok());
        let named = name.map(|node| Candidate { node, agent, host: host.clone() });
        Instance { agent, host, named }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the API documentation of Consul has them, shortened.
    const HEALTH: &str = r#"[{"Node":{"ID":"40e4a748","Node":"foobar","Address":"10.1.10.12","Datacenter":"dc1","Meta":{"zone":"z1"}},
        "Service":{"ID":"redis","Service":"redis","Tags":["primary","app=shop"],"Address":"10.1.10.13","Port":8000,"Meta":{"node":"a@10.1.10.13"}},
        "Checks":[{"Node":"foobar","CheckID":"service:redis","Status":"passing"},{"CheckID":"serfHealth","Status":"critical"}]}]"#;
    const CATALOG: &str = r#"[{"ID":"40e4a748","Node":"t2.320","Address":"192.168.10.10","Datacenter":"dc1","NodeMeta":{"somekey":"v"},
        "ServiceAddress":"","ServiceID":"web","ServiceName":"web","ServicePort":5000,"ServiceMeta":null,"ServiceTags":null}]"#;

    #[test]
    fn an_instance_of_each_list_is_read() {
        let [web] = &read(true, HEALTH.as_bytes()).expect("an answer")[..] else { panic!("one") };
        assert_eq!(web.host.addresses, ["10.1.10.13".parse::<IpAddr>().expect("an address")]);
        assert_eq!((web.host.name.as_deref(), web.host.instance.as_deref()), (Some("foobar"), Some("40e4a748/redis")));
        assert_eq!((web.host.state, web.host.tags["app"].as_str()), (HostState::Pending, "shop"));
        assert_eq!(web.host.place.zone.as_ref().map(Zone::as_str), Some("z1"));
        assert_eq!(web.named.as_ref().map(|named| named.node.as_str()), Some("a@10.1.10.13"));
        let [listed] = &read(false, CATALOG.as_bytes()).expect("an answer")[..] else { panic!("one") };
        assert_eq!(listed.host.addresses, ["192.168.10.10".parse::<IpAddr>().expect("an address")]);
        assert_eq!((listed.host.state, listed.named.is_none()), (HostState::Running, true));
        assert!(read(true, b"<html>").is_err() && read(true, b"{}").is_err());
    }
}
