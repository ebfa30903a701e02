//! What `DescribeInstances` answers: a page of instances, each as far as it is needed.
//!
//! Follows the EC2 API Reference, version 2016-11-15: `reservationSet/item/instancesSet/item`. What is not known is
//! passed over, so that an answer of a later version is read as well.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use metacluster_types::{Host, HostState, Place, Region, Role, Tags, Zone};

use crate::aws::xml::{Step, XmlError, walk};

/// An instance has at most 50 tags of its own, and some of AWS.
const TAGS_MAX: usize = 100;
/// More security groups of one instance are not read; an interface has at most 16.
const GROUPS_MAX: usize = 64;
/// More addresses of one kind of one instance are not read.
const ADDRESSES_MAX: usize = 64;
/// How an instance's element is reached.
const INSTANCE: [&str; 5] = ["DescribeInstancesResponse", "reservationSet", "item", "instancesSet", "item"];

/// One instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::aws) struct Instance {
    pub(in crate::aws) id: String,
    pub(in crate::aws) state: String,
    pub(in crate::aws) zone: String,
    /// Its private name in DNS.
    pub(in crate::aws) name: String,
    pub(in crate::aws) private: Vec<Ipv4Addr>,
    pub(in crate::aws) public: Vec<Ipv4Addr>,
    pub(in crate::aws) ipv6: Vec<Ipv6Addr>,
    pub(in crate::aws) groups: BTreeSet<String>,
    pub(in crate::aws) tags: Tags,
}

/// A page of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::aws) struct Page {
    pub(in crate::aws) instances: Vec<Instance>,
    /// What to ask the next page with.
    pub(in crate::aws) next: Option<String>,
}

/// Reads a page.
///
/// # Errors
/// What is wrong with the document. A page that ends early is an error as a whole: half of an answer is none.
pub(in crate::aws) fn page(bytes: &[u8]) -> Result<Page, XmlError> {
    let mut page = Page::default();
    let mut now = Partial::default();
    let mut root = None;
    walk(bytes, |path, step| {
        if path.len() == 1 && root.is_none() {
            root = Some(path[0].clone());
        }
        let within = path.len() >= INSTANCE.len() && path.iter().zip(INSTANCE).all(|(have, want)| have == want);
        if !within {
            if let ([_, name], Step::Ends(token)) = (path, step)
                && name == "nextToken"
            {
                page.next = Some(token.to_owned()).filter(|token| !token.is_empty());
            }
            return;
        }
        let rest = &path[INSTANCE.len()..];
        match step {
            Step::Begins if rest.is_empty() => now = Partial::default(),
            Step::Begins => {}
            Step::Ends(_) if rest.is_empty() => page.instances.push(std::mem::take(&mut now).instance),
            Step::Ends(text) => now.take(rest, text),
        }
    })?;
    match root {
        Some(root) if root != INSTANCE[0] => Err(XmlError::Other(root)),
        Some(_) | None => Ok(page),
    }
}

/// An instance that is being read, and the tag within it.
#[derive(Default)]
struct Partial {
    instance: Instance,
    key: String,
    value: String,
}

impl Partial {
    fn take(&mut self, path: &[String], text: &str) {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let instance = &mut self.instance;
        match path.as_slice() {
            ["instanceId"] => text.clone_into(&mut instance.id),
            ["instanceState", "name"] => text.clone_into(&mut instance.state),
            ["placement", "availabilityZone"] => text.clone_into(&mut instance.zone),
            ["privateDnsName"] => text.clone_into(&mut instance.name),
            // The main address of the instance comes first, whatever the order of the elements is.
            ["privateIpAddress"] => first(&mut instance.private, text),
            ["ipAddress"] => first(&mut instance.public, text),
            ["ipv6Address"] => first(&mut instance.ipv6, text),
            ["networkInterfaceSet", "item", "privateIpAddressesSet", "item", "privateIpAddress"] => {
                last(&mut instance.private, text);
            }
            ["networkInterfaceSet", "item", "privateIpAddressesSet", "item", "association", "publicIp"] => {
                last(&mut instance.public, text);
            }
            ["networkInterfaceSet", "item", "ipv6AddressesSet", "item", "ipv6Address"] => {
                last(&mut instance.ipv6, text);
            }
            ["groupSet", "item", "groupName"] | ["networkInterfaceSet", "item", "groupSet", "item", "groupName"]
                if instance.groups.len() < GROUPS_MAX && !text.is_empty() =>
            {
                instance.groups.insert(text.to_owned());
            }
            ["tagSet", "item", "key"] => text.clone_into(&mut self.key),
            ["tagSet", "item", "value"] => text.clone_into(&mut self.value),
            ["tagSet", "item"] => {
                let (key, value) = (std::mem::take(&mut self.key), std::mem::take(&mut self.value));
                if !key.is_empty() && instance.tags.len() < TAGS_MAX {
                    instance.tags.insert(key, value);
                }
            }
            _ => {}
        }
    }
}

fn first<A: std::str::FromStr + PartialEq>(addresses: &mut Vec<A>, text: &str) {
    if let Ok(address) = text.parse() {
        addresses.retain(|known| *known != address);
        addresses.insert(0, address);
    }
}

fn last<A: std::str::FromStr + PartialEq>(addresses: &mut Vec<A>, text: &str) {
    if let Ok(address) = text.parse()
        && addresses.len() < ADDRESSES_MAX
        && !addresses.contains(&address)
    {
        addresses.push(address);
    }
}

impl Instance {
    /// How it does. An instance that stopped is no peer and may start again, so it is not held to have ended.
    pub(in crate::aws) fn host_state(&self) -> HostState {
        match self.state.as_str() {
            "running" => HostState::Running,
            "pending" => HostState::Pending,
            "terminated" => HostState::Terminated,
            // shutting-down, stopping, stopped, and whatever comes to be.
            _ => HostState::Terminating,
        }
    }

    /// The host that it is. Its security groups are its roles where that is wanted.
    pub(in crate::aws) fn into_host(self, region: &str, groups_are_roles: bool) -> Host {
        let state = self.host_state();
        let v4 = self.private.into_iter().chain(self.public).map(IpAddr::V4);
        let roles = if groups_are_roles { self.groups } else { BTreeSet::new() };
        Host {
            name: Some(self.name).filter(|name| !name.is_empty()),
            addresses: v4.chain(self.ipv6.into_iter().map(IpAddr::V6)).collect(),
            port: None,
            instance: Some(self.id),
            place: Place { zone: Zone::new(&self.zone).ok(), region: Region::new(region).ok() },
            state,
            roles: roles.iter().filter_map(|group| Role::new(group).ok()).collect(),
            tags: self.tags,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An instance in the shape of the EC2 API Reference (DescribeInstances): two addresses, IPv6, a public address.
    const ANSWER: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
  <requestId>8f7724cf-496f-496e-8fe3-example</requestId>
  <reservationSet>
    <item>
      <reservationId>r-1234567890abcdef0</reservationId>
      <groupSet/>
      <instancesSet>
        <item>
          <instanceId>i-1234567890abcdef0</instanceId>
          <instanceState><code>16</code><name>running</name></instanceState>
          <privateDnsName>ip-10-0-0-12.eu-west-1.compute.internal</privateDnsName>
          <placement><availabilityZone>eu-west-1c</availabilityZone><groupName/><tenancy>default</tenancy></placement>
          <networkInterfaceSet>
            <item>
              <ipv6AddressesSet><item><ipv6Address>2a05:d018::12</ipv6Address></item></ipv6AddressesSet>
              <privateIpAddressesSet>
                <item><privateIpAddress>10.0.0.99</privateIpAddress><primary>false</primary></item>
                <item>
                  <privateIpAddress>10.0.0.12</privateIpAddress><primary>true</primary>
                  <association><publicIp>46.51.127.1</publicIp></association>
                </item>
              </privateIpAddressesSet>
              <groupSet><item><groupId>sg-2</groupId><groupName>eg-agent</groupName></item></groupSet>
            </item>
          </networkInterfaceSet>
          <privateIpAddress>10.0.0.12</privateIpAddress>
          <ipAddress>46.51.127.1</ipAddress>
          <groupSet><item><groupId>sg-1</groupId><groupName>eg-monitor</groupName></item></groupSet>
          <tagSet>
            <item><key>Name</key><value>web &amp; more</value></item>
            <item><key>empty</key><value/></item>
          </tagSet>
        </item>
      </instancesSet>
    </item>
  </reservationSet>
  <nextToken>eyJ2IjoiMiJ9</nextToken>
</DescribeInstancesResponse>"#;

    #[test]
    fn an_instance_is_read_whole() {
        let page = page(ANSWER.as_bytes()).expect("a page");
        assert_eq!(page.next.as_deref(), Some("eyJ2IjoiMiJ9"));
        let [instance] = page.instances.as_slice() else { panic!("one instance: {page:?}") };
        let host = instance.clone().into_host("eu-west-1", true);
        let addresses: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.12", "10.0.0.99", "46.51.127.1", "2a05:d018::12"]);
        assert_eq!(host.instance.as_deref(), Some("i-1234567890abcdef0"));
        assert_eq!(host.name.as_deref(), Some("ip-10-0-0-12.eu-west-1.compute.internal"));
        assert_eq!(host.place.zone, Zone::new("eu-west-1c").ok());
        assert_eq!(host.place.region, Region::new("eu-west-1").ok());
        assert_eq!(host.tags["Name"], "web & more");
        assert_eq!(host.tags["empty"], "");
        let roles: Vec<&str> = host.roles.iter().map(Role::as_str).collect();
        assert_eq!(roles, ["eg-agent", "eg-monitor"]);
        assert_eq!(instance.clone().into_host("eu-west-1", false).roles, BTreeSet::new());
    }

    #[test]
    fn each_state_of_an_instance_is_one_of_a_host() {
        for (state, wanted) in [
            ("pending", HostState::Pending),
            ("running", HostState::Running),
            ("shutting-down", HostState::Terminating),
            ("stopping", HostState::Terminating),
            ("stopped", HostState::Terminating),
            ("terminated", HostState::Terminated),
            ("hibernating-some-day", HostState::Terminating),
        ] {
            let instance = Instance { state: state.to_owned(), ..Instance::default() };
            assert_eq!(instance.host_state(), wanted, "{state}");
        }
    }

    #[test]
    fn no_instance_is_an_answer_and_half_an_answer_is_none() {
        let empty = "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>";
        assert_eq!(page(empty.as_bytes()), Ok(Page::default()));
        for end in [10, 200, ANSWER.len() / 2, ANSWER.len() - 5] {
            assert!(page(&ANSWER.as_bytes()[..end]).is_err(), "{end}");
        }
        assert_eq!(page(b"<html><body/></html>"), Err(XmlError::Other("html".to_owned())));
    }

    #[test]
    fn what_one_instance_claims_is_bounded() {
        let tags: String = (0..1000).map(|at| format!("<item><key>k{at}</key><value>v</value></item>")).collect();
        let address = |at| format!("<item><privateIpAddress>10.0.{}.{}</privateIpAddress></item>", at / 250, at % 250);
        let addresses: String = (0..1000).map(address).collect();
        let text = format!(
            "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><tagSet>{tags}</tagSet>\
             <networkInterfaceSet><item><privateIpAddressesSet>{addresses}</privateIpAddressesSet></item>\
             </networkInterfaceSet></item></instancesSet></item></reservationSet></DescribeInstancesResponse>",
        );
        let page = page(text.as_bytes()).expect("a page");
        assert_eq!(page.instances[0].tags.len(), TAGS_MAX);
        assert_eq!(page.instances[0].private.len(), ADDRESSES_MAX);
    }
}
