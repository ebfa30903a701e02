//! `ecs` against `moto_server`, and against a server that answers as the ECS API Reference says where moto does less:
//! services, dynamic ports, paging, throttling.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use metacluster_testbed::{Asked, Moto, Said, Tool, Web, require};
use metacluster_types::{HostState, Role};
use serde_json::{Value, json};

use super::*;
use crate::{
    aws::{
        call::Caller,
        credentials::Account,
        source::Source as _,
        trial::{credentials, read, start, withstands},
    },
    trial::Trial,
};

fn trial(endpoint: &str, settings: &str) -> Trial {
    let spec = format!("ecs:interval=200ms,timeout=10s,{settings}");
    let Ecs { asking, selection } = read(&spec, Ecs::read).expect("valid settings");
    start(endpoint, asking, move |region| Tasks::new(region, selection.clone()))
}

/// A cluster with a family that has interfaces of its own, and one that runs on an instance.
const CLUSTER: &str = "
import requests
# Else each look moves a task one state on.
requests.post(os.environ['AWS_ENDPOINT_URL'] + '/moto-api/state-manager/set-transition',
    json=dict(model_name='ecs::task', transition=dict(progression='manual', times=1000000)))
import json
from moto.ec2.utils import generate_instance_identity_document
ecs.create_cluster(clusterName='prod')
vpc = ec2.create_vpc(CidrBlock='10.9.0.0/16')['Vpc']['VpcId']
ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames=dict(Value=True))
net = ec2.create_subnet(VpcId=vpc, CidrBlock='10.9.0.0/16')['Subnet']['SubnetId']
machine = boto3.resource('ec2').create_instances(
    ImageId=image, MinCount=1, MaxCount=1, SubnetId=net, PrivateIpAddress='10.9.0.50')[0]
ecs.register_container_instance(
    cluster='prod', instanceIdentityDocument=json.dumps(generate_instance_identity_document(machine)))
box = [dict(name='box', image='box', cpu=1, memory=1)]
ecs.register_task_definition(family='own', networkMode='awsvpc', containerDefinitions=box)
ecs.register_task_definition(family='shared', networkMode='host', containerDefinitions=box)
conf = dict(awsvpcConfiguration=dict(subnets=[net], securityGroups=[]))
ecs.run_task(cluster='prod', taskDefinition='own', launchType='FARGATE', count=3, networkConfiguration=conf,
    tags=[dict(key='app', value='shop')])
ecs.run_task(cluster='prod', taskDefinition='shared', launchType='EC2', count=1)
";

#[tokio::test]
async fn tasks_with_their_own_interfaces_and_on_instances_are_found_and_their_end_is_told() {
    if !require(&[Tool::Moto]) {
        return;
    }
    let moto = Moto::start().expect("moto");
    moto.script(CLUSTER).expect("a cluster");
    let mut own = trial(moto.url(), "cluster=prod,family=own,roles_from=family");
    let hosts = own.until_hosts("three tasks", |hosts| hosts.len() == 3).await;
    for host in &hosts {
        assert_eq!((host.state, host.addresses.len()), (HostState::Running, 1), "{host:?}");
        assert!(host.instance.as_ref().is_some_and(|arn| arn.contains(":task/prod/")), "{host:?}");
        assert_eq!(host.tags["app"], "shop");
        assert!(host.roles.contains(&Role::new("own").expect("a role")), "{host:?}");
    }
    let stopped = moto.script(
        "
arn = ecs.list_tasks(cluster='prod', family='own')['taskArns'][0]
ecs.stop_task(cluster='prod', task=arn)
print(arn)",
    );
    let stopped = stopped.expect("stopped");
    let has_ended = |host: &metacluster_types::Host| host.state == HostState::Terminated;
    let hosts = own.until_hosts("the end of one", |hosts| hosts.iter().any(has_ended)).await;
    let ended: Vec<_> = hosts.iter().filter(|host| has_ended(host)).collect();
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert_eq!(ended[0].instance.as_deref(), Some(stopped.as_str()));
    assert_eq!(ended[0].addresses.len(), 1, "the truth comes with its address");
    own.stop().await;

    let mut shared = trial(moto.url(), "cluster=prod,family=shared,basename=shop");
    shared.until(&["shop@10.9.0.50"]).await;
    shared.stop().await;
    let mut all = trial(moto.url(), "cluster=prod");
    all.until_hosts("all of the cluster", |hosts| hosts.len() == 3).await;
    all.stop().await;
}

/// ECS and EC2 as their API References have them, for a service `shop` of tasks in bridge mode on two instances.
#[derive(Default)]
struct Fixture {
    /// How many tasks run.
    tasks: usize,
    /// Says no to the next calls.
    refuses: Option<(u16, Value)>,
    /// The actions that were called.
    called: Vec<String>,
}

fn arn(at: usize) -> String {
    format!("arn:aws:ecs:eu-west-1:1:task/prod/{at:032x}")
}

impl Fixture {
    fn answer(&mut self, asked: &Asked) -> Said {
        let body = String::from_utf8_lossy(&asked.body).into_owned();
        let action = asked.headers.get("x-amz-target").and_then(|target| target.split('.').nth(1)).unwrap_or("EC2");
        self.called.push(action.to_owned());
        if let Some((status, body)) = &self.refuses {
            return Said::status(*status, body.to_string());
        }
        let request: Value = serde_json::from_str(&body).unwrap_or_default();
        let said = match action {
            "ListTasks" => self.list(&request),
            "DescribeTasks" => describe(&request),
            "DescribeContainerInstances" => {
                let wanted = request["containerInstances"].as_array().expect("a list");
                let machines = wanted.iter().map(|arn| {
                    let number = arn.as_str().expect("a text").rsplit('-').next().expect("a number");
                    json!({ "containerInstanceArn": arn, "ec2InstanceId": format!("i-{number}") })
                });
                json!({ "containerInstances": machines.collect::<Vec<_>>() })
            }
            "EC2" => return Said::ok(instances(&body)),
            other => panic!("{other} is not called"),
        };
        Said::ok(said.to_string())
    }

    fn list(&self, request: &Value) -> Value {
        assert_eq!(request["desiredStatus"], "RUNNING");
        if request["serviceName"] != "shop" {
            return json!({ "taskArns": [] });
        }
        let from: usize = request["nextToken"].as_str().map_or(0, |token| token.parse().expect("a token"));
        let to = (from + 100).min(self.tasks);
        let arns: Vec<String> = (from..to).map(arn).collect();
        if to < self.tasks {
            json!({ "taskArns": arns, "nextToken": to.to_string() })
        } else {
            json!({ "taskArns": arns })
        }
    }
}

fn describe(request: &Value) -> Value {
    let wanted = request["tasks"].as_array().expect("a list");
    assert!((1..=100).contains(&wanted.len()), "{} tasks in one call", wanted.len());
    let task = |arn: &Value| {
        let at = usize::from_str_radix(arn.as_str().expect("a text").rsplit('/').next().expect("an id"), 16);
        let at = at.expect("a number");
        json!({
            "taskArn": arn, "lastStatus": "RUNNING", "desiredStatus": "RUNNING", "group": "service:shop",
            "containerInstanceArn": format!("machine-{}", at % 2), "availabilityZone": "eu-west-1a",
            "containers": [{ "networkBindings": [
                { "containerPort": 45893, "hostPort": 30_000 + at, "protocol": "tcp" },
                { "containerPort": 4370, "hostPort": 20_000 + at, "protocol": "tcp" },
            ] }],
        })
    };
    json!({ "tasks": wanted.iter().map(task).collect::<Vec<_>>() })
}

fn instances(body: &str) -> String {
    let instance = |at: usize| {
        format!(
            "<item><instancesSet><item><instanceId>i-{at}</instanceId><instanceState><name>running</name></instanceState>\
             <privateIpAddress>10.0.0.{}</privateIpAddress></item></instancesSet></item>",
            at + 1
        )
    };
    let wanted = (0..2).filter(|at| body.contains(&format!("=i-{at}")));
    let found: String = wanted.map(instance).collect();
    format!("<DescribeInstancesResponse><reservationSet>{found}</reservationSet></DescribeInstancesResponse>")
}

fn serve(fixture: Fixture) -> (Web, Arc<Mutex<Fixture>>) {
    let fixture = Arc::new(Mutex::new(fixture));
    let web = {
        let fixture = Arc::clone(&fixture);
        Web::start(move |asked| fixture.lock().unwrap_or_else(PoisonError::into_inner).answer(asked))
    };
    (web.expect("a server"), fixture)
}

#[tokio::test]
async fn tasks_in_bridge_mode_have_the_ports_that_they_were_given_and_instances_are_asked_for_once() {
    let (web, fixture) = serve(Fixture { tasks: 250, ..Fixture::default() });
    let mut trial = trial(&web.url(), "cluster=prod,service=shop,roles_from=service");
    for _ in 0..2 {
        let hosts = trial.until_hosts("all tasks", |hosts| hosts.len() == 250).await;
        let places: BTreeSet<(String, Option<u16>)> =
            hosts.iter().map(|host| (host.addresses[0].to_string(), host.port)).collect();
        assert_eq!(places.len(), 250, "each has a port of its own");
        assert!(places.contains(&("10.0.0.1".to_owned(), Some(30_000))));
        assert!(places.contains(&("10.0.0.2".to_owned(), Some(30_249))));
        assert!(hosts.iter().all(|host| host.roles.contains(&Role::new("shop").expect("a role"))));
    }
    trial.stop().await;
    let called = &fixture.lock().unwrap_or_else(PoisonError::into_inner).called;
    let times = |action: &str| called.iter().filter(|called| *called == action).count();
    assert_eq!((times("DescribeContainerInstances"), times("EC2")), (1, 1), "{called:?}");
    assert!(times("ListTasks") >= 6 && times("DescribeTasks") >= 6, "pages of a hundred: {called:?}");
}

#[tokio::test]
async fn it_withstands_the_table_of_faults() {
    let (web, fixture) = serve(Fixture::default());
    let begin = |endpoint: &str| {
        let spec = "ecs:interval=200ms,timeout=3s,cluster=prod,service=shop";
        let Ecs { asking, selection } = read(spec, Ecs::read).expect("valid");
        start(endpoint, asking, move |region| Tasks::new(region, selection.clone()))
    };
    let grow = |tasks| fixture.lock().unwrap_or_else(PoisonError::into_inner).tasks = tasks;
    withstands("AWS", web.address(), begin, grow).await;
}

#[tokio::test]
async fn ten_thousand_tasks_are_one_answer() {
    let (web, _fixture) = serve(Fixture { tasks: 10_000, ..Fixture::default() });
    let account = Account::given(&web.url(), credentials());
    // Two hundred calls take their time on a busy machine.
    let caller = Caller::new(account, Duration::from_secs(60));
    let Ecs { selection, .. } = read("ecs:cluster=prod,service=shop", Ecs::read).expect("valid settings");
    let hosts = Tasks::new("eu-west-1".to_owned(), selection).look(&caller).await.expect("an answer");
    assert_eq!(hosts.len(), 10_000);
}

#[tokio::test]
async fn another_port_of_the_container_can_be_wanted() {
    let (web, _fixture) = serve(Fixture { tasks: 1, ..Fixture::default() });
    let mut trial = trial(&web.url(), "cluster=prod,service=shop,container_port=4370");
    let hosts = trial.until_hosts("a task", |hosts| hosts.len() == 1).await;
    assert_eq!(hosts[0].port, Some(20_000));
    trial.stop().await;
}

#[tokio::test]
async fn each_fault_of_the_api_is_one_line_that_says_what_to_do_and_changes_nothing() {
    let (web, fixture) = serve(Fixture { tasks: 2, ..Fixture::default() });
    let mut trial = trial(&web.url(), "cluster=prod,service=shop,basename=shop");
    let nodes = ["shop@10.0.0.1", "shop@10.0.0.2"];
    trial.until(&nodes).await;
    let denied = "User: arn:aws:iam::1:user/web is not authorized to perform: ecs:ListTasks on resource: *";
    for (status, body, wanted) in [
        (
            400,
            json!({ "__type": "AccessDeniedException", "Message": denied }),
            "AWS denies ecs:ListTasks in eu-west-1 to arn:",
        ),
        (
            400,
            json!({ "__type": "com.amazonaws.ecs#ClusterNotFoundException", "message": "Cluster not found." }),
            "is `cluster` right",
        ),
        (
            400,
            json!({ "__type": "ServiceNotFoundException", "message": "Service not found." }),
            "is `service` its exact name",
        ),
        (400, json!({ "__type": "ThrottlingException", "message": "Rate exceeded" }), "AWS throttles ecs:ListTasks"),
        (400, json!({ "__type": "ExpiredTokenException", "message": "expired" }), "credentials have expired"),
        (400, json!({ "__type": "UnrecognizedClientException", "message": "no" }), "does not take the credentials"),
        (200, json!({ "tasks": "none" }), "the answer to ecs:ListTasks is not one of AWS"),
        (500, json!({ "__type": "ServerException", "message": "sorry" }), "AWS in eu-west-1 fails on ecs:ListTasks"),
    ] {
        fixture.lock().unwrap_or_else(PoisonError::into_inner).refuses = Some((status, body));
        let line = trial.until_failed_with(wanted).await;
        assert!(!line.contains('\n'), "{line}");
        assert_eq!(trial.names(), nodes, "a failed look-up changes nothing");
    }
    fixture.lock().unwrap_or_else(PoisonError::into_inner).refuses = None;
    trial.until(&nodes).await;
    trial.stop().await;
}
