//! What the API says, as far as it is used: EndpointSlices, Pods, the labels of Nodes, lists, watch events and failures.
//! Follows the reference of the Kubernetes API: `discovery.k8s.io/v1`, `core/v1` and `meta/v1`.
//!
//! Invariants: a field that is not known here is passed over, one that is missing or `null` is empty, and an object that
//! does not fit at all is [`Item::Odd`] and spoils nothing else of the answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::IgnoredAny};

/// Something that can be listed and watched.
pub(super) trait Object: DeserializeOwned + Clone + PartialEq + Send + 'static {
    /// Its name, labels and version.
    fn meta(&self) -> &Meta;

    /// Its name, labels and version, to be changed.
    fn meta_mut(&mut self) -> &mut Meta;

    /// How much it counts towards what is kept.
    fn weight(&self) -> usize {
        1
    }

    /// Takes its version away, so that two versions which say the same of what is used here are equal.
    fn forget_version(&mut self) {
        self.meta_mut().resource_version.clear();
    }
}

/// `metadata` of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta {
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) namespace: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) uid: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) resource_version: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) labels: BTreeMap<String, String>,
    /// When it is to be gone: it was told to end.
    pub(super) deletion_timestamp: Option<String>,
}

/// An EndpointSlice of `discovery.k8s.io/v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointSlice {
    pub(super) metadata: Meta,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) endpoints: Vec<Endpoint>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) ports: Vec<Port>,
}

impl Object for EndpointSlice {
    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut Meta {
        &mut self.metadata
    }

    /// Its endpoints, and itself.
    fn weight(&self) -> usize {
        1 + self.endpoints.len()
    }
}

/// One endpoint of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    /// Addresses of one family, which stand for one another; of `FQDN` slices, names.
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) addresses: Vec<String>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) conditions: Conditions,
    pub(super) hostname: Option<String>,
    pub(super) node_name: Option<String>,
    pub(super) zone: Option<String>,
    pub(super) target_ref: Option<Target>,
}

/// How an endpoint does. What is not said is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Conditions {
    pub(super) ready: Option<bool>,
    pub(super) terminating: Option<bool>,
}

/// The object behind an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Target {
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) namespace: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) uid: String,
}

/// A port of a slice or a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Port {
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) name: String,
    /// The number in a slice.
    pub(super) port: Option<u16>,
    /// The number in a container.
    pub(super) container_port: Option<u16>,
}

/// A Pod of `core/v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Pod {
    pub(super) metadata: Meta,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) spec: PodSpec,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) status: PodStatus,
}

impl Object for Pod {
    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut Meta {
        &mut self.metadata
    }
}

/// `spec` of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodSpec {
    pub(super) hostname: Option<String>,
    pub(super) subdomain: Option<String>,
    pub(super) node_name: Option<String>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) containers: Vec<Container>,
}

/// A container of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Container {
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) ports: Vec<Port>,
}

/// `status` of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodStatus {
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) phase: String,
    #[serde(rename = "podIP")]
    pub(super) pod_ip: Option<String>,
    #[serde(rename = "podIPs", default, deserialize_with = "or_empty")]
    pub(super) pod_ips: Vec<PodIp>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) conditions: Vec<Condition>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) container_statuses: Vec<ContainerStatus>,
}

/// One address of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct PodIp {
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) ip: String,
}

/// One condition of a Pod, such as `Ready`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Condition {
    #[serde(rename = "type", default, deserialize_with = "or_empty")]
    pub(super) kind: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) status: String,
}

/// How a container does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct ContainerStatus {
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) state: ContainerState,
}

/// The state that a container is in: the one that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct ContainerState {
    pub(super) terminated: Option<Empty>,
}

/// An object of which only its being there counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Empty {}

/// A Node, of which only the metadata is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Node {
    pub(super) metadata: Meta,
}

impl Object for Node {
    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut Meta {
        &mut self.metadata
    }
}

/// One object of a list or an event.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Item<O> {
    /// It could be read.
    Known(O),
    /// It has another shape.
    Odd(IgnoredAny),
}

/// One page of a list.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound(deserialize = "O: DeserializeOwned"))]
pub(super) struct Page<O> {
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) metadata: ListMeta,
    #[serde(default = "Vec::new", deserialize_with = "or_empty")]
    pub(super) items: Vec<Item<O>>,
}

/// `metadata` of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListMeta {
    /// From where a watch goes on.
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) resource_version: String,
    /// Where the next page begins; empty on the last.
    #[serde(rename = "continue", default, deserialize_with = "or_empty")]
    pub(super) next: String,
}

/// One event of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event<O> {
    /// The object is there, be it new or changed.
    Applied(O),
    /// The object is gone, or the selector has left it; this was its last state.
    Deleted(O),
    /// Nothing happened up to this version.
    Bookmark(String),
    /// The watch cannot go on.
    Error(Status),
    /// Something that this version does not know, or an object of another shape.
    Odd,
}

/// `Status` of `meta/v1`: how the API says no.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) code: u16,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) reason: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) message: String,
}

/// Reads a page of a list.
pub(super) fn page<O: Object>(bytes: &[u8]) -> Result<Page<O>, serde_json::Error> {
    serde_json::from_slice(bytes)
}

/// Reads one line of a watch.
pub(super) fn event<O: Object>(line: &[u8]) -> Result<Event<O>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "type", default, deserialize_with = "or_empty")]
        kind: String,
    }
    #[derive(Deserialize)]
    #[serde(bound(deserialize = "T: DeserializeOwned"))]
    struct Body<T> {
        object: T,
    }
    #[derive(Deserialize)]
    struct Versioned {
        #[serde(default, deserialize_with = "or_empty")]
        metadata: Meta,
    }
    let applied = |of: fn(O) -> Event<O>| {
        let body: Body<Item<O>> = serde_json::from_slice(line)?;
        Ok(match body.object {
            Item::Known(object) => of(object),
            Item::Odd(_) => Event::Odd,
        })
    };
    match serde_json::from_slice::<Kind>(line)?.kind.as_str() {
        "ADDED" | "MODIFIED" => applied(Event::Applied),
        "DELETED" => applied(Event::Deleted),
        "BOOKMARK" => {
            let body: Body<Versioned> = serde_json::from_slice(line)?;
            Ok(Event::Bookmark(body.object.metadata.resource_version))
        }
        "ERROR" => serde_json::from_slice::<Body<Status>>(line).map(|body| Event::Error(body.object)),
        // A server that fails while it streams may say so without an event around it.
        "" => {
            let status: Status = serde_json::from_slice(line)?;
            Ok(if status.code == 0 { Event::Odd } else { Event::Error(status) })
        }
        _ => Ok(Event::Odd),
    }
}

/// Reads a value for which `null` means the same as nothing.
fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}
