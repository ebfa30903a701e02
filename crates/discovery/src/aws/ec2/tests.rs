//! `ec2` against `moto_server`, and against servers that misbehave.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use metacluster_testbed::{Moto, Said, Tool, Web, require};
use metacluster_types::{AgentId, HostState, Role, SourceUpdate};

use super::*;
use crate::{
    aws::trial::{read, start, withstands},
    trial::Trial,
};

fn trial(endpoint: &str, settings: &str) -> Trial {
    let spec = format!("ec2:interval=200ms,timeout=10s,{settings}");
    let Ec2 { asking, filters } = read(&spec, Ec2::read).expect("valid settings");
    start(endpoint, asking, move |region| Instances::new(region, Arc::clone(&filters)))
}

/// Instances in a network of their own, with tags, from address 10.9.0.10 on.
fn launch(moto: &Moto, count: usize, tags: &str) {
    let script = format!(
        "
vpcs = ec2.describe_vpcs(Filters=[{{'Name': 'cidr', 'Values': ['10.9.0.0/16']}}])['Vpcs']
vpc = (vpcs or [ec2.create_vpc(CidrBlock='10.9.0.0/16')['Vpc']])[0]['VpcId']
nets = ec2.describe_subnets(Filters=[{{'Name': 'vpc-id', 'Values': [vpc]}}])['Subnets']
net = (nets or [ec2.create_subnet(VpcId=vpc, CidrBlock='10.9.0.0/16')['Subnet']])[0]['SubnetId']
have = len([i for r in ec2.describe_instances()['Reservations'] for i in r['Instances']])
tags = [dict(Key=k, Value=v) for k, v in {tags}.items()]
for at in range({count}):
    ip = '10.9.%d.%d' % divmod(have + at + 10, 250)
    ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, SubnetId=net, PrivateIpAddress=ip,
        TagSpecifications=[dict(ResourceType='instance', Tags=tags)])
"
    );
    moto.script(&script).expect("instances");
}

/// Every instance's id, by its address.
const IDS: &str = "
ids = {i.get('PrivateIpAddress'): i['InstanceId']
       for r in ec2.describe_instances()['Reservations'] for i in r['Instances']}
";

fn change(moto: &Moto, script: &str) {
    moto.script(&format!("{IDS}{script}")).expect("changed");
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[tokio::test]
async fn instances_that_start_stop_and_terminate_are_followed() {
    if !require(&[Tool::Moto]) {
        return;
    }
    let moto = Moto::start().expect("moto");
    launch(&moto, 3, "{'app': 'shop'}");
    launch(&moto, 1, "{'app': 'other'}");
    let mut trial = trial(moto.url(), "tag.app=shop,basename=shop");
    trial.until(&["shop@10.9.0.10", "shop@10.9.0.11", "shop@10.9.0.12"]).await;
    let host = &trial.hosts()[0];
    assert_eq!(host.place.region.as_ref().map(metacluster_types::Region::as_str), Some("eu-west-1"));
    assert!(host.place.zone.as_ref().is_some_and(|zone| zone.as_str().starts_with("eu-west-1")), "{host:?}");
    assert!(host.instance.as_ref().is_some_and(|id| id.starts_with("i-")), "{host:?}");
    assert_eq!(host.tags["app"], "shop");

    launch(&moto, 1, "{'app': 'shop'}");
    trial.until(&["shop@10.9.0.10", "shop@10.9.0.11", "shop@10.9.0.12", "shop@10.9.0.14"]).await;
    change(&moto, "ec2.stop_instances(InstanceIds=[ids['10.9.0.11']])");
    trial.until(&["shop@10.9.0.10", "shop@10.9.0.12", "shop@10.9.0.14"]).await;
    let state = |hosts: &[metacluster_types::Host], of: &str| {
        hosts.iter().find(|host| host.addresses.contains(&address(of))).map(|host| host.state)
    };
    assert_eq!(state(trial.hosts(), "10.9.0.11"), Some(HostState::Terminating), "stopped is not the end");
    change(&moto, "ec2.start_instances(InstanceIds=[ids['10.9.0.11']])");
    trial.until(&["shop@10.9.0.10", "shop@10.9.0.11", "shop@10.9.0.12", "shop@10.9.0.14"]).await;

    change(&moto, "ec2.terminate_instances(InstanceIds=[ids['10.9.0.12']])");
    trial.until(&["shop@10.9.0.10", "shop@10.9.0.11", "shop@10.9.0.14"]).await;
    assert_eq!(state(trial.hosts(), "10.9.0.12"), Some(HostState::Terminated), "the truth comes with its address");
    trial.stop().await;
}

#[tokio::test]
async fn hundreds_of_instances_start_stop_and_terminate() {
    if !require(&[Tool::Moto]) {
        return;
    }
    let moto = Moto::start().expect("moto");
    let count = |of: usize| move |found: &[metacluster_types::Candidate]| found.len() == of;
    let said = moto.script(
        "
made = ec2.run_instances(ImageId=image, MinCount=200, MaxCount=200,
    TagSpecifications=[dict(ResourceType='instance', Tags=[dict(Key='app', Value='shop')])])
print(' '.join(i['InstanceId'] for i in made['Instances']))",
    );
    let said = said.expect("instances");
    let ids: Vec<&str> = said.split_whitespace().collect();
    let change = |what: &str, ids: &[&str]| moto.script(&format!("ec2.{what}(InstanceIds={ids:?})")).expect("changed");
    // moto works seconds on an answer with so many: more than a second each hundred, and many times that where others work
    // too. What changed is in the answer after the one that is under way, and each may take as long as a look-up may.
    let look_up = Duration::from_secs(60);
    let spec = "ec2:interval=1s,timeout=60s,tag.app=shop,basename=shop";
    let Ec2 { asking, filters } = read(spec, Ec2::read).expect("valid settings");
    let mut trial =
        start(moto.url(), asking, move |region| Instances::new(region, Arc::clone(&filters))).patient(3 * look_up);
    trial.until_candidates("200", count(200)).await;
    change("stop_instances", &ids[..50]);
    change("terminate_instances", &ids[50..150]);
    trial.until_candidates("50", count(50)).await;
    let ended = trial.hosts().iter().filter(|host| host.state == HostState::Terminated).count();
    assert_eq!(ended, 100, "all of their ends are told");
    change("start_instances", &ids[..50]);
    trial.until_candidates("100", count(100)).await;
    trial.stop().await;
}

#[tokio::test]
async fn security_groups_select_and_give_roles() {
    if !require(&[Tool::Moto]) {
        return;
    }
    let moto = Moto::start().expect("moto");
    launch(&moto, 2, "{'app': 'shop'}");
    let group = "
group = ec2.create_security_group(GroupName='eg-monitor', Description='d',
    VpcId=ec2.describe_vpcs(Filters=[{'Name': 'cidr', 'Values': ['10.9.0.0/16']}])['Vpcs'][0]['VpcId'])['GroupId']
ec2.modify_instance_attribute(InstanceId=ids['10.9.0.11'], Groups=[group])
print(group)
";
    let id = moto.script(&format!("{IDS}{group}")).expect("a group");
    let wanted = BTreeSet::from([address("10.9.0.11")]);
    for selected in ["eg-monitor", &id] {
        let mut trial = trial(moto.url(), &format!("security_group={selected},roles_from=security_group"));
        trial.until_hosts("one host", |hosts| hosts.len() == 1).await;
        assert_eq!(trial.addresses(), wanted, "{selected}");
        assert!(trial.hosts()[0].roles.contains(&Role::new("eg-monitor").expect("a role")));
        trial.stop().await;
    }
    // One that is terminated fits no security group any more, and is found by its id.
    let mut trial = trial(moto.url(), "security_group=eg-monitor");
    trial.until_hosts("one host", |hosts| hosts.len() == 1).await;
    change(
        &moto,
        "ec2.modify_instance_attribute(InstanceId=ids['10.9.0.11'], Groups=[
    ec2.describe_security_groups(GroupNames=['default'])['SecurityGroups'][0]['GroupId']])
ec2.terminate_instances(InstanceIds=[ids['10.9.0.11']])",
    );
    let ended = |hosts: &[metacluster_types::Host]| hosts.iter().any(|host| host.state == HostState::Terminated);
    trial.until_hosts("the end of it", ended).await;
    trial.stop().await;
}

#[tokio::test]
async fn an_auto_scaling_group_a_vpc_and_a_subnet_select() {
    if !require(&[Tool::Moto]) {
        return;
    }
    let moto = Moto::start().expect("moto");
    launch(&moto, 2, "{'app': 'shop'}");
    let made = moto.script(
        "
net = ec2.describe_subnets(Filters=[{'Name': 'cidr-block', 'Values': ['10.9.0.0/16']}])['Subnets'][0]
autoscaling.create_launch_configuration(LaunchConfigurationName='lc', ImageId=image, InstanceType='t2.micro')
autoscaling.create_auto_scaling_group(AutoScalingGroupName='shop-asg', LaunchConfigurationName='lc', MinSize=3,
    MaxSize=5, DesiredCapacity=3, VPCZoneIdentifier=net['SubnetId'])
print(net['VpcId'], net['SubnetId'])
",
    );
    let made = made.expect("a group");
    let (vpc, subnet) = made.split_once(' ').expect("two ids");
    for (settings, count) in [
        ("auto_scaling_group=shop-asg".to_owned(), 3),
        (format!("vpc={vpc}"), 5),
        (format!("subnet={subnet},tag.app=shop"), 2),
        (format!("vpc={vpc},tag.app=shop,tag.app2=none"), 0),
    ] {
        let mut trial = trial(moto.url(), &settings);
        let hosts = trial.until_hosts(&settings, |hosts| hosts.len() == count).await;
        assert!(hosts.iter().all(|host| host.state == HostState::Running), "{settings}: {hosts:?}");
        trial.stop().await;
    }
    let mut trial = trial(moto.url(), "auto_scaling_group=shop-asg");
    trial.until_hosts("three", |hosts| hosts.len() == 3).await;
    moto.script("autoscaling.set_desired_capacity(AutoScalingGroupName='shop-asg', DesiredCapacity=5)")
        .expect("scaled");
    trial.until_hosts("five", |hosts| hosts.len() == 5).await;
    trial.stop().await;
}

/// A page of instances as EC2 writes it.
fn page_of(range: std::ops::Range<usize>, next: Option<&str>) -> String {
    let instance = |at: usize| {
        format!(
            "<item><reservationId>r-{at}</reservationId><instancesSet><item><instanceId>i-{at:017x}</instanceId>\
             <instanceState><code>16</code><name>running</name></instanceState>\
             <privateIpAddress>10.{}.{}.{}</privateIpAddress><placement><availabilityZone>eu-west-1a</availabilityZone>\
             </placement><tagSet><item><key>app</key><value>shop</value></item></tagSet></item></instancesSet></item>",
            at / 62_500,
            at / 250 % 250,
            at % 250
        )
    };
    let next = next.map(|token| format!("<nextToken>{token}</nextToken>")).unwrap_or_default();
    let instances: String = range.map(instance).collect();
    format!(
        "<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><reservationSet>{instances}\
         </reservationSet>{next}</DescribeInstancesResponse>"
    )
}

#[tokio::test]
async fn ten_thousand_instances_come_in_pages() {
    let web = Web::start(|asked| {
        let body = String::from_utf8_lossy(&asked.body).into_owned();
        let from = body.split("&NextToken=").nth(1).and_then(|token| token.parse().ok()).unwrap_or(0);
        let to: usize = from + 1000;
        Said::ok(page_of(from..to, (to < 10_000).then(|| to.to_string()).as_deref()))
    });
    let web = web.expect("a server");
    let mut trial = trial(&web.url(), "tag.app=shop,basename=shop");
    let found = trial.until_candidates("all", |found| found.len() == 10_000).await;
    assert_eq!(found.len(), 10_000);
    trial.stop().await;
}

#[tokio::test]
async fn pages_without_end_are_an_error() {
    let web = Web::start(|_| Said::ok(page_of(0..1, Some("again")))).expect("a server");
    trial(&web.url(), "tag.app=shop").until_failed_with("pages without end").await;
}

#[tokio::test]
async fn each_fault_of_the_api_is_one_line_that_says_what_to_do_and_changes_nothing() {
    let fault = |status: u16, code: &str, message: &str| {
        let body = format!(
            "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors></Response>"
        );
        Said::status(status, body)
    };
    let denied = "You are not authorized. User: arn:aws:sts::1:assumed-role/web/i-1 is not authorized to perform: x";
    let old = "Mon, 01 Jan 2024 00:00:00 GMT";
    for (said, wanted) in [
        (fault(403, "UnauthorizedOperation", denied), "allow ec2:DescribeInstances in the IAM policy"),
        (fault(401, "AuthFailure", "no"), "is the key right and active, and is the region enabled"),
        (fault(400, "RequestExpired", "no"), "credentials have expired"),
        (fault(400, "RequestExpired", "no").header("date", old), "the clock of this host is "),
        (fault(503, "RequestLimitExceeded", "no"), "AWS throttles ec2:DescribeInstances in eu-west-1"),
        (fault(400, "InvalidParameterValue", "a filter"), "InvalidParameterValue: a filter"),
        (Said::status(500, "<html>sorry</html>"), "AWS in eu-west-1 fails on ec2:DescribeInstances (status 500)"),
        (Said::ok("garbage"), "is the endpoint right?"),
        (Said::ok("{\"a\": 1}"), "is the endpoint right?"),
        (Said::ok("<html/>"), "it is `html`; is the endpoint right?"),
        (Said::ok(page_of(0..5, None)).half(), "is broken"),
        (Said::ok(&page_of(0..5, None).as_bytes()[..600]), "is the endpoint right?"),
        (Said::ok("<a>".repeat(1000)), "elements deep"),
    ] {
        let fails = Arc::new(AtomicBool::new(false));
        let web = {
            let fails = Arc::clone(&fails);
            let said = said.clone();
            let answer =
                move || if fails.load(Ordering::Relaxed) { said.clone() } else { Said::ok(page_of(0..2, None)) };
            Web::start(move |_| answer()).expect("a server")
        };
        let mut trial = trial(&web.url(), "tag.app=shop,basename=shop");
        let nodes = ["shop@10.0.0.0", "shop@10.0.0.1"];
        trial.until(&nodes).await;
        fails.store(true, Ordering::Relaxed);
        let line = trial.until_failed_with(wanted).await;
        assert!(!line.contains('\n') && line.chars().count() < 500, "{line}");
        assert_eq!(trial.names(), nodes, "a failed look-up changes nothing");
        fails.store(false, Ordering::Relaxed);
        trial.until(&nodes).await;
        trial.stop().await;
    }
}

#[tokio::test]
async fn it_withstands_the_table_of_faults() {
    let count = Arc::new(AtomicUsize::new(0));
    let web = {
        let count = Arc::clone(&count);
        Web::start(move |_| Said::ok(page_of(0..count.load(Ordering::Relaxed), None))).expect("a server")
    };
    let begin = |endpoint: &str| {
        let Ec2 { asking, filters } = read("ec2:interval=200ms,timeout=3s,tag.app=shop", Ec2::read).expect("valid");
        start(endpoint, asking, move |region| Instances::new(region, Arc::clone(&filters)))
    };
    withstands("AWS", web.address(), begin, |hosts| count.store(hosts, Ordering::Relaxed)).await;
}

#[tokio::test]
async fn an_api_that_hangs_fails_in_time() {
    let web = Web::start(|_| Said::never()).expect("a server");
    let Ec2 { asking, filters } = read("ec2:interval=200ms,timeout=1s,tag.app=shop", Ec2::read).expect("valid");
    let mut trial = start(&web.url(), asking, move |region| Instances::new(region, Arc::clone(&filters)));
    let line = trial.until_failed_with(" did not answer within 600ms; ").await;
    assert!(line.contains("AWS in eu-west-1: "), "{line}");
}

#[tokio::test]
async fn a_region_that_fails_hides_no_other_and_keeps_its_last_answer() {
    let fails = Arc::new(AtomicBool::new(false));
    let web = {
        let fails = Arc::clone(&fails);
        let answer = move |asked: &metacluster_testbed::Asked| {
            let in_second = asked.headers["authorization"].contains("/us-east-1/ec2/");
            match (in_second, fails.load(Ordering::Relaxed)) {
                (true, true) => Said::status(500, ""),
                (true, false) => Said::ok(page_of(500..501, None)),
                (false, true) => Said::ok(page_of(0..2, None)),
                (false, false) => Said::ok(page_of(0..1, None)),
            }
        };
        Web::start(answer).expect("a server")
    };
    let mut trial = trial(&web.url(), "tag.app=shop,basename=shop,region=eu-west-1,us-east-1");
    trial.until(&["shop@10.0.0.0", "shop@10.0.2.0"]).await;
    fails.store(true, Ordering::Relaxed);
    trial.until(&["shop@10.0.0.0", "shop@10.0.0.1", "shop@10.0.2.0"]).await;
    trial.stop().await;
}

#[tokio::test]
async fn an_agent_whose_turn_it_is_not_does_not_ask() {
    let asked = Arc::new(AtomicUsize::new(0));
    let web = {
        let asked = Arc::clone(&asked);
        Web::start(move |_| {
            asked.fetch_add(1, Ordering::Relaxed);
            Said::ok(page_of(0..1, None))
        })
    };
    let web = web.expect("a server");
    // One of so many that no turn is its own for years.
    let others: BTreeSet<AgentId> = (2..5_000).map(AgentId).collect();
    let mut newcomer = trial(&web.url(), "tag.app=shop,basename=shop");
    newcomer.set_local(|local| local.agents.clone_from(&others));
    let waits = newcomer.next().await;
    assert!(
        matches!(&waits, SourceUpdate::Notes(lines) if lines.len() == 1),
        "its row says why it is empty: {waits:?}"
    );
    let early = tokio::time::timeout(Duration::from_secs(1), newcomer.next()).await;
    assert!(early.is_err() && asked.load(Ordering::Relaxed) == 0, "it knows of others: {early:?}");
    newcomer.stop().await;

    let mut first = trial(&web.url(), "tag.app=shop,basename=shop");
    first.until(&["shop@10.0.0.0"]).await;
    first.set_local(|local| local.agents = others);
    let before = asked.load(Ordering::Relaxed);
    let late = tokio::time::timeout(Duration::from_secs(1), first.until(&[])).await;
    assert!(late.is_err() && asked.load(Ordering::Relaxed) <= before + 1, "one look-up may have begun already");
    // Alone again, it asks as often as it is told to.
    first.set_local(|local| local.agents.clear());
    while asked.load(Ordering::Relaxed) < before + 4 {
        assert!(!matches!(first.next().await, SourceUpdate::Failed(_)));
    }
    first.stop().await;
}

#[test]
fn settings_that_would_take_the_whole_account_or_make_no_sense_are_refused() {
    for (spec, wanted) in [
        ("ec2", "tag: is missing, and so is any other filter"),
        ("ec2:state=running", "every instance of the account would be a peer"),
        ("ec2:security_group=sg-1,web", "security_group: mixes names and ids"),
        ("ec2:vpc=main", "vpc: `main` is no id"),
        ("ec2:tag.app=shop,state=up", "state: `up` is no state of an instance"),
        ("ec2:tag.app=shop,region=europe", "region: `europe` is no region"),
        ("ec2:tag.app=shop,endpoint=localhost", "endpoint: is no address"),
        ("ec2:tag.app=shop,endpoint=http://a,region=eu-west-1,us-east-1", "endpoint: is for one region"),
    ] {
        let faults = read(spec, Ec2::read).expect_err(spec);
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert!(lines.iter().any(|line| line.contains(wanted)), "{spec}: {lines:?}");
    }
}

#[test]
fn the_filters_are_those_of_the_api() {
    let spec = "ec2:tag.app=shop,web,security_group=a,b,auto_scaling_group=g,vpc=vpc-1,subnet=subnet-1,state=running";
    let Ec2 { filters, .. } = read(spec, Ec2::read).expect("valid");
    let lines: Vec<String> = filters.parameters().iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        lines,
        [
            "Filter.1.Name=tag:app",
            "Filter.1.Value.1=shop",
            "Filter.1.Value.2=web",
            "Filter.2.Name=instance.group-name",
            "Filter.2.Value.1=a",
            "Filter.2.Value.2=b",
            "Filter.3.Name=tag:aws:autoscaling:groupName",
            "Filter.3.Value.1=g",
            "Filter.4.Name=vpc-id",
            "Filter.4.Value.1=vpc-1",
            "Filter.5.Name=subnet-id",
            "Filter.5.Value.1=subnet-1",
            "Filter.6.Name=instance-state-name",
            "Filter.6.Value.1=running",
        ]
    );
}
