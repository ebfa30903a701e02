//! How soon the agent knows of a change in a source, and how often a cluster asks an API that counts.
//!
//! From just before the change is made, by the tool that the source has for it, to the line of `metacluster events` that
//! tells of the candidate: the time of the tool is in the figure. Sources whose server is missing have no row.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::symlink,
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use metacluster_testbed::{
    Agent, Etcd, Host, Kmock, Knot, Lines, Moto, Network, Postgres, Tool, endpoint, endpoint_slice, eventually,
};

use super::{
    GIVE_UP,
    report::{Report, milliseconds},
};
use crate::arguments::Options;

/// What the bench can use. Nothing but namespaces is a must.
pub(super) const TOOLS: [Tool; 6] = [Tool::Namespaces, Tool::Etcd, Tool::Postgres, Tool::Kmock, Tool::Knot, Tool::Moto];
/// The collection in which a slice of the service stands.
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
/// One window in which calls are counted.
const WINDOW: Duration = Duration::from_secs(10);
/// So many windows.
const WINDOWS: usize = 6;
/// What the agents have to find one another.
const START: Duration = Duration::from_secs(60);

/// A source that the bench can change.
struct Source {
    what: &'static str,
    /// The most that the median may be, in milliseconds.
    limit: f64,
    /// The lines of its topology.
    topology: String,
    /// What the agent needs in its environment.
    environment: Vec<(&'static str, String)>,
    rounds: u64,
    /// Makes the change of a round, and gives when it began and the node that becomes a candidate.
    change: Box<dyn FnMut(u64) -> Result<(SystemTime, String)>>,
}

/// Measures each source `--rounds` times, and counts the calls of `--agents` agents.
pub(super) fn run(binary: &Path, options: &Options) -> Result<Report> {
    let rounds = options.number("rounds", 21)?.max(1);
    let agents = usize::try_from(options.number("agents", 30)?)?;
    let mut report = Report::new("discovery");
    time_to_know(binary, rounds, &mut report)?;
    if Tool::Moto.is_there() && agents > 0 {
        calls_of_ec2(binary, agents, &mut report)?;
        calls_of_ecs(binary, agents, &mut report)?;
    }
    Ok(report)
}

fn time_to_know(binary: &Path, rounds: u64, report: &mut Report) -> Result<()> {
    let network = Network::new()?;
    let [server, host]: [Host; 2] = network.hosts()?;
    let mut sources = vec![replaced(&host, rounds), volume(&host, rounds)?, exec(&host, rounds)?];
    if Tool::Etcd.is_there() {
        sources.push(etcd(&server, rounds)?);
    }
    if Tool::Postgres.is_there() {
        sources.push(postgres(&server, rounds)?);
    }
    if Tool::Kmock.is_there() {
        sources.push(kubernetes(&server, rounds)?);
    }
    if Tool::Knot.is_there() {
        sources.push(dns(&server, rounds)?);
    }
    if Tool::Moto.is_there() {
        // Each of these takes seconds.
        sources.push(ec2(&server, rounds.div_ceil(3))?);
        sources.push(ecs(&host, rounds.div_ceil(3))?);
    }
    let config: String = sources.iter().map(|source| format!("[[topology]]\n{}\n", source.topology)).collect();
    let mut agent = host.agent(binary).config(&config)?;
    for (name, value) in sources.iter().flat_map(|source| &source.environment) {
        agent = agent.env(name, value);
    }
    let agent = agent.start()?;
    let (_follower, lines) = agent.follow()?;
    for source in &mut sources {
        // The first one waits until the source is watched at all.
        known(source, 0, &lines)?;
        let samples: Result<Vec<f64>> = (1..=source.rounds).map(|round| known(source, round, &lines)).collect();
        report.add(source.what, "ms", samples?, Some(source.limit));
    }
    Ok(())
}

/// Makes a change and gives the milliseconds until it is known.
fn known(source: &mut Source, round: u64, lines: &Lines) -> Result<f64> {
    let (begun, node) = (source.change)(round)?;
    let what = format!("{}: {node} is a candidate", source.what);
    let named = format!("\"{node}\"");
    let line = lines.wait_for(GIVE_UP, &what, |line| line.contains("\"candidate_found\"") && line.contains(&named))?;
    Ok(milliseconds(line.at.duration_since(begun).unwrap_or_default()))
}

fn replaced(host: &Host, rounds: u64) -> Source {
    let (path, new) = (host.home().join("peers"), host.home().join("peers.new"));
    Source {
        what: "file: renamed into place",
        limit: 200.0,
        topology: format!(
            "name = \"file\"\nstrategy = \"file\"\ninterval = \"1h\"\npath = \"{}\"\nguard_share = 100",
            path.display()
        ),
        environment: Vec::new(),
        rounds,
        change: Box::new(move |round| {
            let begun = SystemTime::now();
            fs::write(&new, format!("file-{round}@h.test\n"))?;
            fs::rename(&new, &path)?;
            Ok((begun, format!("file-{round}@h.test")))
        }),
    }
}

/// A volume as a kubelet makes it of a ConfigMap: the file is a link through a link that is turned.
fn volume(host: &Host, rounds: u64) -> Result<Source> {
    let volume = host.home().join("volume");
    fs::create_dir(&volume)?;
    let path = volume.join("peers");
    symlink("..data/peers", &path)?;
    Ok(Source {
        what: "file: ConfigMap turned",
        limit: 200.0,
        topology: format!(
            "name = \"volume\"\nstrategy = \"file\"\ninterval = \"1h\"\npath = \"{}\"\nguard_share = 100",
            path.display()
        ),
        environment: Vec::new(),
        rounds,
        change: Box::new(move |round| turn(&volume, round)),
    })
}

fn turn(volume: &Path, round: u64) -> Result<(SystemTime, String)> {
    let (begun, name, node) = (SystemTime::now(), format!("..{round}"), format!("volume-{round}@h.test"));
    fs::create_dir(volume.join(&name))?;
    fs::write(volume.join(&name).join("peers"), format!("{node}\n"))?;
    symlink(&name, volume.join("..tmp"))?;
    fs::rename(volume.join("..tmp"), volume.join("..data"))?;
    Ok((begun, node))
}

fn exec(host: &Host, rounds: u64) -> Result<Source> {
    let path = host.home().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).context("no pipe")?;
    let mut pipe: File = fs::OpenOptions::new().read(true).write(true).open(&path)?;
    Ok(Source {
        what: "exec: a line",
        limit: 200.0,
        topology: format!("name = \"exec\"\nstrategy = \"exec\"\ncommand = [\"cat\", \"{}\"]", path.display()),
        environment: Vec::new(),
        rounds,
        change: Box::new(move |round| {
            let (begun, node) = (SystemTime::now(), format!("exec-{round}@h.test"));
            writeln!(pipe, "{{\"add\": \"{node}\"}}")?;
            Ok((begun, node))
        }),
    })
}

fn etcd(server: &Host, rounds: u64) -> Result<Source> {
    let etcd = Etcd::start_on(server)?;
    Ok(Source {
        what: "etcd: a key put by curl",
        limit: 200.0,
        topology: format!(
            "name = \"etcd\"\nstrategy = \"etcd\"\nendpoints = [\"{}\"]\nprefix = \"/nodes/\"\nregister = false\n\
             interval = \"1h\"",
            etcd.url()
        ),
        environment: Vec::new(),
        rounds,
        change: Box::new(move |round| {
            let (begun, node) = (SystemTime::now(), format!("etcd-{round}@h.test"));
            let (key, value) = (base64(&format!("/nodes/{round}")), base64(&node));
            etcd.post("/v3/kv/put", &format!(r#"{{"key":"{key}","value":"{value}"}}"#))?;
            Ok((begun, node))
        }),
    })
}

/// Base 64 as the JSON gateway of etcd takes it (RFC 4648, 4).
fn base64(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = text.as_bytes().chunks(3).flat_map(|part| {
        let byte = |at: usize| part.get(at).copied().map_or(0, usize::from);
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let letter = move |at: usize| char::from(LETTERS[bits >> (18 - 6 * at) & 63]);
        let padded = part.len();
        (0..4).map(move |at| if at > padded { '=' } else { letter(at) })
    });
    letters.collect()
}

fn postgres(server: &Host, rounds: u64) -> Result<Source> {
    let postgres = Postgres::start_on(server)?;
    postgres.psql("CREATE TABLE nodes (node text)")?;
    Ok(Source {
        what: "PostgreSQL: a row and a NOTIFY by psql",
        limit: 200.0,
        topology: format!(
            "name = \"sql\"\nstrategy = \"sql\"\nurl = \"{}\"\nquery = \"SELECT * FROM nodes\"\nchannel = \"nodes\"\n\
             interval = \"1h\"",
            postgres.url()
        ),
        environment: Vec::new(),
        rounds,
        change: Box::new(move |round| {
            let (begun, node) = (SystemTime::now(), format!("sql-{round}@h.test"));
            postgres.psql(&format!("INSERT INTO nodes VALUES ('{node}'); NOTIFY nodes"))?;
            Ok((begun, node))
        }),
    })
}

fn kubernetes(server: &Host, rounds: u64) -> Result<Source> {
    let kmock = Kmock::start_on(server)?;
    let environment = kmock.environment().to_vec();
    let mut endpoints = Vec::new();
    Ok(Source {
        what: "Kubernetes: an endpoint in a slice",
        limit: 200.0,
        topology: format!(
            "name = \"kubernetes\"\nstrategy = \"kubernetes\"\nservice = \"shop\"\nbasename = \"kubernetes\"\n\
             service_account = \"{}\"",
            kmock.account().display()
        ),
        environment,
        rounds,
        change: Box::new(move |round| {
            let address = format!("10.93.0.{round}");
            endpoints.push(endpoint(&format!("shop-{round}"), &address));
            if round > 0 {
                kmock.wait_for_watches("endpointslices", 1)?;
            }
            let begun = SystemTime::now();
            kmock.apply(SLICES, &endpoint_slice("shop", "shop-x", "shop", &endpoints))?;
            Ok((begun, format!("kubernetes@{address}")))
        }),
    })
}

fn dns(server: &Host, rounds: u64) -> Result<Source> {
    let knot = Knot::start_on(server)?;
    let mut records = String::new();
    Ok(Source {
        what: "DNS: a record more, TTL 1 s",
        limit: 2000.0,
        topology: format!(
            "name = \"dns\"\nstrategy = \"dns\"\nquery = \"shop.test.\"\nservers = [\"{}\"]\nbasename = \"dns\"",
            knot.address()
        ),
        environment: Vec::new(),
        rounds,
        change: Box::new(move |round| {
            let begun = SystemTime::now();
            records.push_str(&format!("shop 1 A 10.94.0.{round}\n"));
            knot.set_zone(&records)?;
            Ok((begun, format!("dns@10.94.0.{round}")))
        }),
    })
}

/// Makes a cluster of ECS whose tasks do not move on by themselves.
const CLUSTER: &str = "
import requests
requests.post(os.environ['AWS_ENDPOINT_URL'] + '/moto-api/state-manager/set-transition',
    json=dict(model_name='ecs::task', transition=dict(progression='manual', times=1000000)))
ecs.create_cluster(clusterName='prod')
vpc = ec2.create_vpc(CidrBlock='10.96.0.0/16')['Vpc']['VpcId']
ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames=dict(Value=True))
print(ec2.create_subnet(VpcId=vpc, CidrBlock='10.96.0.0/16')['Subnet']['SubnetId'])
ecs.register_task_definition(family='shop', networkMode='awsvpc',
    containerDefinitions=[dict(name='box', image='box', cpu=1, memory=1)])
";

/// Runs a task in this subnet, and gives when that began and its address.
fn run_task(moto: &Moto, subnet: &str) -> Result<(SystemTime, String)> {
    let said = moto.script(&format!(
        "
import time
conf = dict(awsvpcConfiguration=dict(subnets=['{subnet}'], securityGroups=[]))
begun = time.time()
task = ecs.run_task(cluster='prod', taskDefinition='shop', launchType='FARGATE', count=1, networkConfiguration=conf)['tasks'][0]
details = task['attachments'][0]['details']
print(begun, [it['value'] for it in details if it['name'] == 'privateIPv4Address'][0])
"
    ))?;
    let (seconds, address) = said.trim().split_once(' ').with_context(|| format!("no time: {said}"))?;
    Ok((SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds.parse()?), address.to_owned()))
}

/// It has a host of its own, beside that of EC2.
fn ecs(host: &Host, rounds: u64) -> Result<Source> {
    let moto = Moto::start_on(host)?;
    let subnet = moto.script(CLUSTER)?;
    Ok(Source {
        what: "ECS: a task, interval 5 s",
        limit: 5500.0,
        topology: format!(
            "name = \"ecs\"\nstrategy = \"ecs\"\ncluster = \"prod\"\nbasename = \"ecs\"\nendpoint = \"{}\"",
            moto.url()
        ),
        environment: Vec::new(),
        rounds,
        change: Box::new(move |_| {
            let (begun, address) = run_task(&moto, &subnet)?;
            Ok((begun, format!("ecs@{address}")))
        }),
    })
}

/// Launches an instance at each of these addresses, and prints when it began.
fn launch(moto: &Moto, addresses: &[String]) -> Result<SystemTime> {
    let said = moto.script(&format!(
        "
import time
addresses = {addresses:?}
cidr = '.'.join(addresses[0].split('.')[:2]) + '.0.0/16'
vpcs = ec2.describe_vpcs(Filters=[dict(Name='cidr', Values=[cidr])])['Vpcs']
vpc = (vpcs or [ec2.create_vpc(CidrBlock=cidr)['Vpc']])[0]['VpcId']
nets = ec2.describe_subnets(Filters=[dict(Name='vpc-id', Values=[vpc])])['Subnets']
net = (nets or [ec2.create_subnet(VpcId=vpc, CidrBlock=cidr)['Subnet']])[0]['SubnetId']
print(time.time())
for ip in addresses:
    ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, SubnetId=net, PrivateIpAddress=ip,
        TagSpecifications=[dict(ResourceType='instance', Tags=[dict(Key='app', Value='shop')])])
"
    ))?;
    let seconds: f64 = said.trim().parse().with_context(|| format!("no time: {said}"))?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds))
}

fn ec2(server: &Host, rounds: u64) -> Result<Source> {
    let moto = Moto::start_on(server)?;
    let environment = moto.environment().to_vec();
    Ok(Source {
        what: "EC2: an instance, interval 5 s",
        // The interval and its jitter; a look-up takes some time too.
        limit: 5500.0,
        topology: "name = \"ec2\"\nstrategy = \"ec2\"\ntag = { app = \"shop\" }\nbasename = \"ec2\"".to_owned(),
        environment,
        rounds,
        change: Box::new(move |round| {
            let address = format!("10.95.0.{}", round + 4);
            Ok((launch(&moto, std::slice::from_ref(&address))?, format!("ec2@{address}")))
        }),
    })
}

/// The calls a second of a cluster of agents that all have EC2 as their source, through which they find one another.
fn calls_of_ec2(binary: &Path, count: usize, report: &mut Report) -> Result<()> {
    let network = Network::new()?;
    let server = network.host()?;
    let moto = Moto::start_on(&server)?;
    let hosts: Result<Vec<Host>> = (0..count).map(|_| network.host()).collect();
    let hosts = hosts?;
    launch(&moto, &addresses(&hosts))?;
    let config = "[[topology]]\nstrategy = \"ec2\"\ntag = { app = \"shop\" }\n";
    calls(("EC2", 1), binary, &hosts, &moto, config, report)
}

/// The same of one that has ECS as a source, and another one to find one another: moto gives tasks addresses as it likes.
fn calls_of_ecs(binary: &Path, count: usize, report: &mut Report) -> Result<()> {
    let network = Network::new()?;
    let server = network.host()?;
    let moto = Moto::start_on(&server)?;
    let subnet = moto.script(CLUSTER)?;
    run_task(&moto, &subnet)?;
    let hosts: Result<Vec<Host>> = (0..count).map(|_| network.host()).collect();
    let hosts = hosts?;
    let peers = server.home().join("peers");
    fs::write(&peers, addresses(&hosts).join("\n"))?;
    let config = format!(
        "[[topology]]\nstrategy = \"ecs\"\ncluster = \"prod\"\n[[topology]]\nstrategy = \"file\"\npath = \"{}\"\n",
        peers.display()
    );
    calls(("ECS", 2), binary, &hosts, &moto, &config, report)
}

fn addresses(hosts: &[Host]) -> Vec<String> {
    hosts.iter().map(|host| host.address().to_string()).collect()
}

/// A look-up takes so many calls.
fn calls(
    (of, look_up): (&str, u32),
    binary: &Path,
    hosts: &[Host],
    moto: &Moto,
    config: &str,
    report: &mut Report,
) -> Result<()> {
    let (count, begun, before) = (hosts.len(), Instant::now(), moto.requests());
    let agents: Result<Vec<Agent>> = hosts.iter().map(|host| agent(binary, host, moto, config)).collect();
    let agents = agents?;
    eventually(GIVE_UP, "every agent knows all others", || {
        let counts = agents.iter().map(members).collect::<Result<Vec<_>>>().map_err(|error| format!("{error:#}"))?;
        if counts.iter().all(|&members| members == count) { Ok(()) } else { Err(format!("{counts:?}")) }
    })?;
    thread::sleep(START.saturating_sub(begun.elapsed()));
    // Each of them knows of nobody when it starts, and looks once.
    let first = f64::from(u32::try_from(moto.requests() - before)?);
    let most = f64::from(u32::try_from(count)? * look_up) + START.as_secs_f64();
    report.add(format!("{of}: calls of {count} agents in their first minute"), "", vec![first], Some(most));
    let mut samples = Vec::new();
    for _ in 0..WINDOWS {
        let (begun, before) = (Instant::now(), moto.requests());
        thread::sleep(WINDOW);
        let made = u32::try_from(moto.requests() - before)?;
        samples.push(f64::from(made) / begun.elapsed().as_secs_f64());
    }
    report.add(format!("{of}: calls a second of {count} agents"), "/s", samples, Some(1.0));
    Ok(())
}

fn agent(binary: &Path, host: &Host, moto: &Moto, config: &str) -> Result<Agent> {
    let mut agent = host.agent(binary).config(config)?;
    for (name, value) in moto.environment() {
        agent = agent.env(name, &value);
    }
    agent.spawn()
}

/// How many members an agent knows that live.
fn members(agent: &Agent) -> Result<usize> {
    let answer = agent.get("/v1/members")?;
    Ok(answer["members"].as_array().into_iter().flatten().filter(|member| member["state"] == "alive").count())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 4648, 10.
    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, wanted) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(text), wanted);
        }
    }

    #[test]
    fn a_volume_is_turned_as_a_kubelet_does_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let volume = folder.path();
        for round in 0..3 {
            let (_, node) = turn(volume, round).expect("turned");
            assert_eq!(fs::read_to_string(volume.join("..data/peers")).expect("a file"), format!("{node}\n"));
        }
    }
}
