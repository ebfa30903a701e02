//! Through EC2: what it says of an instance that was terminated ends the member there, long before anybody suspects it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use metacluster_testbed::{Host, Imds, Moto, Network, Tool, eventually, require};

use crate::support::{NEEDED, Site, full_mesh, site, topology};

/// From the end of an instance to the end of its member everywhere.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Makes an instance of every host, at its own address, and gives their ids in that order.
fn launch(moto: &Moto, hosts: &[Host]) -> Result<Vec<String>> {
    let addresses: Vec<String> = hosts.iter().map(|host| format!("'{}'", host.address())).collect();
    let said = moto.script(&format!(
        "
vpc = ec2.create_vpc(CidrBlock='10.91.0.0/16')['Vpc']['VpcId']
net = ec2.create_subnet(VpcId=vpc, CidrBlock='10.91.0.0/16')['Subnet']['SubnetId']
for ip in [{}]:
    print(ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, SubnetId=net, PrivateIpAddress=ip,
        TagSpecifications=[dict(ResourceType='instance', Tags=[dict(Key='app', Value='shop')])])
        ['Instances'][0]['InstanceId'])
",
        addresses.join(", ")
    ))?;
    Ok(said.lines().map(str::to_owned).collect())
}

/// The state and the reason of the member of a host, as another's agent shows it.
fn standing(site: &Site, of: &Host) -> Result<(String, String)> {
    let members = site.agent.json("members")?;
    let address = of.address().to_string();
    let mut rows = members["members"].as_array().into_iter().flatten();
    let row = rows.find(|row| row["address"].as_str().is_some_and(|at| at.starts_with(&address)));
    let row = row.with_context(|| format!("{address} is no member: {members}"))?;
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    Ok((text("state"), text("reason")))
}

#[test]
fn an_instance_that_is_terminated_ends_its_member_everywhere_within_ten_seconds() -> Result<()> {
    if !require(&NEEDED) || !require(&[Tool::Moto]) {
        return Ok(());
    }
    let network = Network::new()?;
    let cloud = network.host()?;
    let moto = Moto::start_on(&cloud)?;
    let hosts: [_; 3] = network.hosts()?;
    let ids = launch(&moto, &hosts)?;
    let mut metadata = BTreeMap::new();
    let mut sites = Vec::new();
    for (host, id) in hosts.iter().zip(&ids) {
        let imds = Imds::start_on(host, &[("/latest/meta-data/instance-id", id)])?;
        let (moto, imds_url) = (moto.environment(), imds.url());
        let mut environment: Vec<(&str, &str)> = moto.iter().map(|(name, value)| (*name, value.as_str())).collect();
        environment.push(("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds_url));
        metadata.insert(id, imds);
        sites.push(site(host, "strategy = \"ec2\"\ntag = { app = \"shop\" }\nbasename = \"shop\"\n", &environment)?);
    }
    for site in &sites {
        site.beam.wait_ready()?;
    }
    full_mesh(&sites)?;
    assert_eq!(standing(&sites[0], &hosts[2])?, ("alive".to_owned(), String::new()));

    // Its agent goes on for a while, as that of an instance does that is being shut down.
    moto.script(&format!("ec2.terminate_instances(InstanceIds=['{}'])", ids[2]))?;
    for site in &sites[..2] {
        eventually(END_WITHIN, "its member has left, by its provider's word", || {
            match standing(site, &hosts[2]).map_err(|error| format!("{error:#}"))? {
                (state, reason) if state == "left" && reason == "provider" => Ok(()),
                other => Err(format!("{other:?}: {}", site.agent.log())),
            }
        })?;
    }
    // No node that lives is cut off for it.
    full_mesh(&sites)
}

/// The agent of a host on which EC2 does not answer is as well off as the others: what they learn reaches it by membership.
#[test]
fn an_agent_that_never_hears_from_the_api_has_the_nodes_that_others_learn_of() -> Result<()> {
    if !require(&NEEDED) || !require(&[Tool::Moto]) {
        return Ok(());
    }
    let network = Network::new()?;
    let cloud = network.host()?;
    let moto = Moto::start_on(&cloud)?;
    let hosts: [_; 3] = network.hosts()?;
    launch(&moto, &hosts)?;
    let moto_environment = moto.environment();
    let mut sites = Vec::new();
    for (at, host) in hosts.iter().enumerate() {
        let mut environment: Vec<(&str, &str)> =
            moto_environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        environment.push(("AWS_EC2_METADATA_DISABLED", "true"));
        if at == 2 {
            // Nobody listens there.
            environment.retain(|(name, _)| *name != "AWS_ENDPOINT_URL");
            environment.push(("AWS_ENDPOINT_URL", "http://127.0.0.1:9"));
        }
        sites.push(site(host, "strategy = \"ec2\"\ntag = { app = \"shop\" }\n", &environment)?);
    }
    for site in &sites {
        site.beam.wait_ready()?;
    }
    full_mesh(&sites)?;
    let row = topology(&sites[2])?;
    ensure!(row["last_success"].is_null(), "EC2 itself never answered it: {row}");
    let answer = sites[2].agent.json("topologies")?;
    let members = answer["topologies"].as_array().into_iter().flatten().find(|row| row["name"] == "members");
    let found = members.context("the topology of the members")?["candidates"].to_string();
    for site in &sites[..2] {
        ensure!(found.contains(site.beam.name()), "{} is no candidate: {found}", site.beam.name());
    }
    Ok(())
}
