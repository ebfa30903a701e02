//! What ECS answers: tasks and container instances, each as far as it is needed, and how a task becomes a host.
//!
//! Follows the ECS API Reference, version 2014-11-13. What is not known is passed over.

use std::{collections::BTreeMap, net::IpAddr};

use metacluster_types::{Host, HostState, Place, Region, Role, Tags, Zone};
use serde::Deserialize;

/// More tags of one task are not read; it has at most 50.
const TAGS_MAX: usize = 64;
/// More addresses of one task are not read.
const ADDRESSES_MAX: usize = 32;
/// What makes the service of a task a role.
pub(super) const SERVICE: &str = "service";
/// What makes the family of a task a role.
pub(super) const FAMILY: &str = "family";

/// A page of `ListTasks`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listed {
    pub(super) task_arns: Vec<String>,
    #[serde(default)]
    pub(super) next_token: Option<String>,
}

/// The answer of `DescribeTasks`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Described {
    pub(super) tasks: Vec<Task>,
}

/// One task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Task {
    pub(super) task_arn: String,
    last_status: String,
    desired_status: String,
    health_status: Option<String>,
    availability_zone: Option<String>,
    /// `service:NAME` or `family:NAME`.
    group: Option<String>,
    task_definition_arn: Option<String>,
    /// The instance that it runs on; none on Fargate.
    container_instance_arn: Option<String>,
    attachments: Vec<Attachment>,
    containers: Vec<Container>,
    tags: Vec<Tag>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Attachment {
    #[serde(rename = "type")]
    kind: String,
    details: Vec<Detail>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Detail {
    name: String,
    value: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    network_bindings: Vec<Binding>,
    network_interfaces: Vec<Interface>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Binding {
    container_port: Option<u16>,
    host_port: Option<u16>,
    protocol: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Interface {
    private_ipv4_address: Option<String>,
    ipv6_address: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Tag {
    key: String,
    value: String,
}

/// The answer of `DescribeContainerInstances`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Machines {
    pub(super) container_instances: Vec<Machine>,
}

/// One container instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Machine {
    pub(super) container_instance_arn: String,
    /// `i-…`; `mi-…` for one outside of AWS, which EC2 knows nothing of.
    pub(super) ec2_instance_id: String,
}

/// What the settings say of how a task becomes a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// The port within the container whose port on the host is wanted, in bridge mode.
    pub(super) container_port: u16,
    pub(super) service_is_role: bool,
    pub(super) family_is_role: bool,
}

impl Task {
    /// How it does. A task that is not healthy is not ready; one whose health nobody checks is.
    pub(super) fn host_state(&self) -> HostState {
        let stops = self.desired_status == "STOPPED";
        match self.last_status.as_str() {
            "STOPPED" | "DELETED" => HostState::Terminated,
            "RUNNING" if stops => HostState::Terminating,
            "RUNNING" if self.health_status.as_deref() == Some("UNHEALTHY") => HostState::Pending,
            "RUNNING" => HostState::Running,
            "PROVISIONING" | "PENDING" | "ACTIVATING" if !stops => HostState::Pending,
            // DEACTIVATING, STOPPING, DEPROVISIONING, and whatever comes to be.
            _ => HostState::Terminating,
        }
    }

    /// The addresses of its own interface (awsvpc, so always on Fargate); none in the modes host and bridge.
    fn own_addresses(&self) -> Vec<IpAddr> {
        let details = self.attachments.iter().filter(|it| it.kind == "ElasticNetworkInterface");
        let details = details.flat_map(|attachment| &attachment.details);
        let of_attachment = details
            .filter(|it| matches!(it.name.as_str(), "privateIPv4Address" | "privateIPv6Address" | "ipv6Address"))
            .map(|detail| detail.value.as_str());
        let interfaces = || self.containers.iter().flat_map(|container| &container.network_interfaces);
        let ipv4 = interfaces().filter_map(|it| it.private_ipv4_address.as_deref());
        let ipv6 = interfaces().filter_map(|it| it.ipv6_address.as_deref());
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in of_attachment.chain(ipv4).chain(ipv6).filter_map(|text| text.parse().ok()) {
            if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
                addresses.push(address);
            }
        }
        addresses
    }

    /// The container instance whose addresses are the task's, if it has none of its own.
    pub(super) fn needs_machine(&self) -> Option<&str> {
        let machine = self.container_instance_arn.as_deref()?;
        (self.own_addresses().is_empty() && self.host_state() != HostState::Terminated).then_some(machine)
    }

    /// The port on the host that leads to the port within the container.
    fn host_port(&self, container_port: u16) -> Option<u16> {
        let bindings = || self.containers.iter().flat_map(|container| &container.network_bindings);
        let fits = |binding: &&Binding| binding.container_port == Some(container_port);
        let tcp = bindings().filter(fits).find(|binding| binding.protocol.as_deref() != Some("udp"));
        tcp.or_else(|| bindings().find(fits)).and_then(|binding| binding.host_port).filter(|&port| port > 0)
    }

    /// The host that it is. `machines` has the addresses of container instances by their ARNs.
    pub(super) fn into_host(self, shape: &Shape, machines: &BTreeMap<String, Vec<IpAddr>>) -> Host {
        let state = self.host_state();
        let own = self.own_addresses();
        let (addresses, port) = if own.is_empty() {
            let machine = self.container_instance_arn.as_deref().and_then(|arn| machines.get(arn));
            (machine.cloned().unwrap_or_default(), self.host_port(shape.container_port))
        } else {
            (own, None)
        };
        let mut details = self.attachments.iter().flat_map(|attachment| &attachment.details);
        let name = details.find(|detail| detail.name == "privateDnsName").map(|detail| detail.value.clone());
        let service = self.group.as_deref().and_then(|group| group.strip_prefix("service:"));
        // arn:aws:ecs:REGION:ACCOUNT:task-definition/FAMILY:REVISION
        let definition = self.task_definition_arn.as_deref().and_then(|arn| arn.rsplit('/').next());
        let family = definition.and_then(|definition| definition.split(':').next());
        let roles = [service.filter(|_| shape.service_is_role), family.filter(|_| shape.family_is_role)];
        Host {
            name: name.filter(|name| !name.is_empty()),
            addresses,
            port,
            place: Place {
                zone: self.availability_zone.as_deref().and_then(|zone| Zone::new(zone).ok()),
                region: self.task_arn.split(':').nth(3).and_then(|region| Region::new(region).ok()),
            },
            state,
            roles: roles.into_iter().flatten().filter_map(|role| Role::new(role).ok()).collect(),
            tags: self.tags.into_iter().take(TAGS_MAX).map(|tag| (tag.key, tag.value)).collect::<Tags>(),
            instance: Some(self.task_arn),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A task on Fargate, in the shape of the example of DescribeTasks in the ECS API Reference.
    const FARGATE: &str = r#"{"failures": [], "tasks": [{
        "attachments": [{
            "id": "b1a2", "type": "ElasticNetworkInterface", "status": "ATTACHED",
            "details": [
                {"name": "subnetId", "value": "subnet-1"},
                {"name": "networkInterfaceId", "value": "eni-1"},
                {"name": "macAddress", "value": "0e:89:76:28:07:b3"},
                {"name": "privateDnsName", "value": "ip-10-0-0-77.eu-west-1.compute.internal"},
                {"name": "privateIPv4Address", "value": "10.0.0.77"}
            ]}],
        "availabilityZone": "eu-west-1a", "connectivity": "CONNECTED", "desiredStatus": "RUNNING",
        "containers": [{"name": "shop", "lastStatus": "RUNNING", "networkBindings": [],
            "networkInterfaces": [{"attachmentId": "b1a2", "privateIpv4Address": "10.0.0.77", "ipv6Address": "2a05::77"}]}],
        "group": "service:shop", "healthStatus": "HEALTHY", "lastStatus": "RUNNING", "launchType": "FARGATE",
        "tags": [{"key": "app", "value": "shop"}],
        "taskArn": "arn:aws:ecs:eu-west-1:111122223333:task/prod/0d96",
        "taskDefinitionArn": "arn:aws:ecs:eu-west-1:111122223333:task-definition/shop-web:7", "version": 4
    }]}"#;

    fn task(text: &str) -> Task {
        let described: Described = serde_json::from_str(text).expect("an answer");
        described.tasks.into_iter().next().expect("a task")
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn a_task_with_its_own_interface_is_reached_there() {
        let shape = Shape { service_is_role: true, family_is_role: true, container_port: 45893 };
        let task = task(FARGATE);
        assert_eq!(task.needs_machine(), None);
        let host = task.into_host(&shape, &BTreeMap::new());
        assert_eq!(host.addresses, addresses(&["10.0.0.77", "2a05::77"]));
        assert_eq!((host.port, host.state), (None, HostState::Running));
        assert_eq!(host.name.as_deref(), Some("ip-10-0-0-77.eu-west-1.compute.internal"));
        assert_eq!(host.place, Place { zone: Zone::new("eu-west-1a").ok(), region: Region::new("eu-west-1").ok() });
        assert_eq!(host.instance.as_deref(), Some("arn:aws:ecs:eu-west-1:111122223333:task/prod/0d96"));
        assert_eq!(host.roles.iter().map(Role::as_str).collect::<Vec<_>>(), ["shop", "shop-web"]);
        assert_eq!(host.tags["app"], "shop");
    }

    #[test]
    fn a_task_in_bridge_mode_is_reached_on_its_instance_at_the_port_that_it_got() {
        let text = r#"{"tasks": [{"taskArn": "arn:aws:ecs:eu-west-1:1:task/prod/2", "lastStatus": "RUNNING",
            "desiredStatus": "RUNNING", "containerInstanceArn": "arn:machine", "containers": [
                {"networkBindings": [
                    {"bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 32770, "protocol": "tcp"},
                    {"bindIP": "0.0.0.0", "containerPort": 45893, "hostPort": 32769, "protocol": "udp"},
                    {"bindIP": "0.0.0.0", "containerPort": 45893, "hostPort": 32768, "protocol": "tcp"}]}]}]}"#;
        let task = task(text);
        assert_eq!(task.needs_machine(), Some("arn:machine"));
        let machines = BTreeMap::from([("arn:machine".to_owned(), addresses(&["10.0.0.5"]))]);
        let shape = Shape { container_port: 45893, ..Shape::default() };
        let host = task.into_host(&shape, &machines);
        assert_eq!((host.addresses, host.port), (addresses(&["10.0.0.5"]), Some(32768)));
    }

    #[test]
    fn a_task_in_host_mode_has_the_ports_of_its_instance() {
        let text = r#"{"tasks": [{"taskArn": "a", "lastStatus": "RUNNING", "desiredStatus": "RUNNING",
            "containerInstanceArn": "m", "containers": [{"networkBindings": []}]}]}"#;
        let machines = BTreeMap::from([("m".to_owned(), addresses(&["10.0.0.5"]))]);
        let host = task(text).into_host(&Shape::default(), &machines);
        assert_eq!((host.addresses, host.port), (addresses(&["10.0.0.5"]), None));
    }

    #[test]
    fn each_status_of_a_task_is_a_state_of_a_host() {
        for (last, desired, health, wanted) in [
            ("PROVISIONING", "RUNNING", "UNKNOWN", HostState::Pending),
            ("ACTIVATING", "RUNNING", "UNKNOWN", HostState::Pending),
            ("PENDING", "STOPPED", "UNKNOWN", HostState::Terminating),
            ("RUNNING", "RUNNING", "HEALTHY", HostState::Running),
            ("RUNNING", "RUNNING", "UNKNOWN", HostState::Running),
            ("RUNNING", "RUNNING", "UNHEALTHY", HostState::Pending),
            ("RUNNING", "STOPPED", "HEALTHY", HostState::Terminating),
            ("DEACTIVATING", "STOPPED", "UNKNOWN", HostState::Terminating),
            ("STOPPING", "STOPPED", "UNKNOWN", HostState::Terminating),
            ("DEPROVISIONING", "STOPPED", "UNKNOWN", HostState::Terminating),
            ("STOPPED", "STOPPED", "UNKNOWN", HostState::Terminated),
            ("DELETED", "STOPPED", "UNKNOWN", HostState::Terminated),
        ] {
            let task = Task {
                last_status: last.to_owned(),
                desired_status: desired.to_owned(),
                health_status: Some(health.to_owned()),
                ..Task::default()
            };
            assert_eq!(task.host_state(), wanted, "{last} to be {desired}, {health}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in ["", "null", "[]", "{}", r#"{"tasks": {}}"#, r#"{"tasks": [{"taskArn": 1}]}"#, &FARGATE[..300]] {
            assert!(serde_json::from_str::<Described>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Listed>("{}").is_err());
    }
}
