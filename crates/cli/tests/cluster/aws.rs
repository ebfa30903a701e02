//! BEAM nodes on instances and in tasks of AWS, formed through `ec2` and `ecs`. Each host of the network is an instance
//! at its own address.

use anyhow::{Context as _, Result};
use metacluster_testbed::{Agent, Beam, Host, Moto, Network, Tool, eventually, require};
use serde_json::Value;

use crate::support::{NEEDED, SOON, binary, full_mesh};

/// Makes an instance of every address; `machines` has them.
fn launch(hosts: &[Host]) -> String {
    let addresses: Vec<String> = hosts.iter().map(|host| format!("'{}'", host.address())).collect();
    format!(
        "
vpc = ec2.create_vpc(CidrBlock='10.91.0.0/16')['Vpc']['VpcId']
net = ec2.create_subnet(VpcId=vpc, CidrBlock='10.91.0.0/16')['Subnet']['SubnetId']
machines = [boto3.resource('ec2').create_instances(ImageId=image, MinCount=1, MaxCount=1, SubnetId=net,
    PrivateIpAddress=ip, TagSpecifications=[dict(ResourceType='instance', Tags=[dict(Key='app', Value='shop')])])[0]
    for ip in [{}]]
",
        addresses.join(", ")
    )
}

/// An agent and a node `shop` on each host.
fn start(hosts: &[Host], moto: &Moto, topology: &str) -> Result<(Vec<Agent>, Vec<Beam>)> {
    let (mut agents, mut beams) = (Vec::new(), Vec::new());
    for host in hosts {
        let mut agent = host.agent(binary()).config(&format!("[[topology]]\n{topology}\ninterval = \"1s\"\n"))?;
        for (name, value) in moto.environment() {
            agent = agent.env(name, &value);
        }
        agents.push(agent.start()?);
        beams.push(host.beam("shop").spawn()?);
    }
    for beam in &beams {
        beam.wait_ready()?;
    }
    Ok((agents, beams))
}

/// A topology as `metacluster topologies --json` has it.
fn topology(agent: &Agent, name: &str) -> Result<Value> {
    let answer = agent.json("topologies")?;
    let topologies = answer["topologies"].as_array().context("a list")?;
    topologies.iter().find(|it| it["name"] == name).cloned().context("the topology")
}

/// The candidates of a topology.
fn candidates(agent: &Agent, name: &str) -> Result<Vec<String>> {
    let found = topology(agent, name)?;
    let candidates = found["candidates"].as_array().context("a list")?;
    Ok(candidates.iter().filter_map(|it| it["node"].as_str()).map(ToOwned::to_owned).collect())
}

#[test]
fn nodes_on_instances_are_linked_and_an_instance_that_ends_is_a_candidate_no_more() -> Result<()> {
    if !require(&NEEDED) || !require(&[Tool::Moto]) {
        return Ok(());
    }
    let network = Network::new()?;
    let hosts: [Host; 3] = network.hosts()?;
    let moto = Moto::start_on(&hosts[0])?;
    moto.script(&launch(&hosts))?;
    let (agents, beams) = start(&hosts, &moto, "strategy = \"ec2\"\ntag = { app = \"shop\" }\nbasename = \"shop\"")?;
    full_mesh(SOON, &beams)?;

    // A source that hangs takes no link down.
    moto.pause()?;
    eventually(SOON * 2, "the topology fails", || {
        let state = topology(&agents[0], "ec2").map_err(|error| format!("{error:#}"))?["state"].take();
        if state == "failing" { Ok(()) } else { Err(state.to_string()) }
    })?;
    full_mesh(SOON, &beams)?;
    moto.resume()?;

    moto.script(
        "
ec2.terminate_instances(InstanceIds=[i['InstanceId'] for r in ec2.describe_instances()['Reservations']
    for i in r['Instances'] if i['PrivateIpAddress'] == '10.91.0.3'])",
    )?;
    let gone = hosts[2].node_name("shop");
    eventually(SOON, "it is no candidate any more", || {
        let candidates = candidates(&agents[0], "ec2").map_err(|error| format!("{error:#}"))?;
        if candidates.contains(&gone) { Err(format!("{candidates:?}")) } else { Ok(()) }
    })?;
    Ok(())
}

#[test]
fn nodes_in_tasks_on_instances_are_linked() -> Result<()> {
    if !require(&NEEDED) || !require(&[Tool::Moto]) {
        return Ok(());
    }
    let network = Network::new()?;
    let hosts: [Host; 3] = network.hosts()?;
    let moto = Moto::start_on(&hosts[0])?;
    let tasks = "
import json, requests
from moto.ec2.utils import generate_instance_identity_document
# Else each look moves a task one state on.
requests.post(os.environ['AWS_ENDPOINT_URL'] + '/moto-api/state-manager/set-transition',
    json=dict(model_name='ecs::task', transition=dict(progression='manual', times=1000000)))
ecs.create_cluster(clusterName='prod')
for machine in machines:
    ecs.register_container_instance(cluster='prod',
        instanceIdentityDocument=json.dumps(generate_instance_identity_document(machine)))
ecs.register_task_definition(family='shop', networkMode='host',
    containerDefinitions=[dict(name='box', image='box', cpu=1, memory=1)])
for machine in ecs.list_container_instances(cluster='prod')['containerInstanceArns']:
    ecs.start_task(cluster='prod', taskDefinition='shop', containerInstances=[machine])
";
    moto.script(&format!("{}{tasks}", launch(&hosts)))?;
    let topology = "strategy = \"ecs\"\ncluster = \"prod\"\nfamily = \"shop\"\nbasename = \"shop\"";
    let (agents, beams) = start(&hosts, &moto, topology)?;
    full_mesh(SOON, &beams)?;
    let mut found = candidates(&agents[1], "ecs")?;
    found.sort();
    assert_eq!(found, hosts.iter().map(|host| host.node_name("shop")).collect::<Vec<_>>());
    Ok(())
}
