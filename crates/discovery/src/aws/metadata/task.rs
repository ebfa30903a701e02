//! The task metadata endpoint of ECS, version 4: what the task is that this process runs in.
//!
//! Follows "Amazon ECS task metadata endpoint version 4" of the ECS Developer Guide: the container's variable
//! `ECS_CONTAINER_METADATA_URI_V4` and `/task`. What is not known is passed over.

use std::{env, net::IpAddr};

use metacluster_types::{Host, HostState, Place, Region, Tags, Zone};
use serde::Deserialize;
use tokio::time::Duration;

use crate::{
    http::{Client, HttpError, Request},
    tls::TlsFiles,
};

/// The variable that the container agent sets.
pub(super) const VARIABLE: &str = "ECS_CONTAINER_METADATA_URI_V4";
/// A task of ten containers takes some 20 kB.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How long the answer may take.
const WITHIN: Duration = Duration::from_secs(2);
/// More addresses are not read.
const ADDRESSES_MAX: usize = 32;

/// Why the endpoint gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// No answer.
    #[error("the ECS task metadata cannot be had: {0}")]
    Http(#[from] HttpError),
    /// The answer is none.
    #[error("the ECS task metadata is no task: {0}")]
    Malformed(String),
}

/// A task, as it sees itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Task {
    /// The cluster's name or ARN.
    #[serde(default)]
    pub(crate) cluster: String,
    #[serde(rename = "TaskARN")]
    pub(crate) task_arn: String,
    #[serde(default)]
    pub(crate) family: String,
    #[serde(default)]
    pub(crate) service_name: Option<String>,
    #[serde(default)]
    pub(crate) availability_zone: Option<String>,
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    #[serde(default)]
    networks: Vec<Network>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Network {
    #[serde(rename = "IPv4Addresses", default)]
    ipv4: Vec<String>,
    #[serde(rename = "IPv6Addresses", default)]
    ipv6: Vec<String>,
}

impl Task {
    /// The task of this container, or `None` outside of ECS.
    pub(crate) async fn own() -> Result<Option<Self>, TaskError> {
        match env::var(VARIABLE) {
            Ok(base) if !base.is_empty() => Self::at(&base).await.map(Some),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// The task of the endpoint at an address.
    pub(crate) async fn at(base: &str) -> Result<Self, TaskError> {
        let client = Client::with_connect_timeout(TlsFiles::default(), WITHIN);
        let request = Request::get(&format!("{}/task", base.trim_end_matches('/')));
        let answer = client.send(request.within(WITHIN).bytes_max(ANSWER_BYTES_MAX)).await?.success()?;
        serde_json::from_slice(&answer.body).map_err(|error| TaskError::Malformed(error.to_string()))
    }

    /// The host that the task is.
    pub(crate) fn host(&self) -> Host {
        let networks = || self.containers.iter().flat_map(|container| &container.networks);
        let texts = networks().flat_map(|network| &network.ipv4).chain(networks().flat_map(|network| &network.ipv6));
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in texts.filter_map(|text| text.parse().ok()) {
            if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
                addresses.push(address);
            }
        }
        // arn:aws:ecs:REGION:ACCOUNT:task/CLUSTER/ID
        let region = self.task_arn.split(':').nth(3).and_then(|region| Region::new(region).ok());
        let zone = self.availability_zone.as_deref().and_then(|zone| Zone::new(zone).ok());
        Host {
            name: None,
            addresses,
            port: None,
            instance: Some(self.task_arn.clone()),
            place: Place { zone, region },
            state: HostState::Running,
            roles: [].into(),
            tags: Tags::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the shape of the example for awsvpc in the ECS Developer Guide.
    const TASK: &str = r#"{
        "Cluster": "arn:aws:ecs:us-west-2:111122223333:cluster/default",
        "TaskARN": "arn:aws:ecs:us-west-2:111122223333:task/default/158d1c8083dd49d6b527399fd6414f5c",
        "Family": "curltest", "Revision": "26", "ServiceName": "MyService",
        "DesiredStatus": "RUNNING", "KnownStatus": "RUNNING",
        "Limits": {"CPU": 0.25, "Memory": 512}, "AvailabilityZone": "us-west-2d", "VPCID": "vpc-1",
        "Containers": [{
            "DockerId": "598cba", "Name": "~internal~ecs~pause",
            "Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.2.61"], "IPv6Addresses": ["2600:1::2"]}]
        }, {
            "DockerId": "ee08638", "Name": "curl",
            "Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.2.61"]}]
        }]}"#;

    #[test]
    fn a_task_knows_who_and_where_it_is() {
        let task: Task = serde_json::from_str(TASK).expect("a task");
        assert_eq!((task.family.as_str(), task.service_name.as_deref()), ("curltest", Some("MyService")));
        let host = task.host();
        assert_eq!(host.place, Place { zone: Zone::new("us-west-2d").ok(), region: Region::new("us-west-2").ok() });
        assert_eq!(host.addresses, ["10.0.2.61".parse::<IpAddr>().expect("v4"), "2600:1::2".parse().expect("v6")]);
        assert!(host.instance.expect("an ARN").ends_with("158d1c8083dd49d6b527399fd6414f5c"));
    }

    #[test]
    fn what_is_no_task_is_refused() {
        for text in ["", "{}", "[]", "{\"TaskARN\": 1}", "<html>"] {
            assert!(serde_json::from_str::<Task>(text).is_err(), "{text}");
        }
    }
}
