//! The four ways between two hosts: a link between two nodes, one through two proxies in a row, one through two proxies that
//! have mutual TLS between them, as gateways do, and two gateways.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use metacluster_testbed::{Agent, Beam, Child, Host, Network, capture, eventually};

use super::super::GIVE_UP;

/// The BEAM's half of the bench.
const BENCH: &str = include_str!("bench.erl");
/// Where proxies listen, and the node behind them.
#[derive(Clone, Copy, Debug)]
struct Proxied {
    /// What the node is called.
    name: &'static str,
    proxy_port: u16,
    node_port: u16,
    /// Whether there is TLS between the two.
    secured: bool,
}

const PLAIN: Proxied = Proxied { name: "plain", proxy_port: 7_001, node_port: 7_002, secured: false };
const SECURED: Proxied = Proxied { name: "secured", proxy_port: 7_003, node_port: 7_004, secured: true };
/// What gateways agree on, for the proxies, too.
const CIPHERS: &str = "TLS_AES_128_GCM_SHA256";

/// Two nodes, and what is between.
pub(super) struct Way {
    pub(super) client: Beam,
    pub(super) server: Beam,
    /// Whom the client asks for processes of the server: a node, or `far`.
    asks: String,
    /// The processes between, the server's side first.
    between: Vec<u32>,
}

/// Processor time so far, in seconds.
#[derive(Clone, Debug)]
pub(super) struct Used {
    /// Of both nodes.
    pub(super) nodes: f64,
    /// Of each that is between.
    between: Vec<f64>,
}

impl Used {
    /// What the one between used more than the others since then.
    pub(super) fn between(&self, before: &Self) -> f64 {
        self.between.iter().zip(&before.between).map(|(after, before)| after - before).fold(0.0, f64::max)
    }
}

impl Way {
    /// How the client gets that process of the server.
    pub(super) fn at(&self, name: &str) -> String {
        format!("bench:at({}, {name})", self.asks)
    }

    /// A number that the client finds.
    pub(super) fn ask(&self, expression: &str) -> Result<f64> {
        let text = self.client.eval(expression)?;
        text.parse().with_context(|| format!("{expression} gave {text}"))
    }

    pub(super) fn used(&self) -> Result<Used> {
        let nodes = processor(self.client.pid())? + processor(self.server.pid())?;
        let between = self.between.iter().map(|&pid| processor(pid)).collect::<Result<_>>()?;
        Ok(Used { nodes, between })
    }

    /// The memory of each that is between, in bytes.
    pub(super) fn memory(&self) -> Result<Vec<f64>> {
        self.between.iter().map(|&pid| memory(pid)).collect()
    }
}

/// How many ways there are.
pub(super) const WAYS: usize = 4;

/// All of them, in this order: direct, proxies, proxies with TLS, gateways. The fields drop in this order.
pub(super) struct Ways {
    pub(super) all: [Way; WAYS],
    _proxies: [[Child; 2]; 2],
    _agents: [Agent; 2],
    _hosts: [Host; 2],
    _folder: tempfile::TempDir,
}

impl Ways {
    pub(super) fn start(binary: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let source = folder.path().join("bench.erl");
        fs::write(&source, BENCH)?;
        capture(Command::new("erlc").arg("-o").arg(folder.path()).arg(&source))?;
        let network = Network::new()?;
        let hosts: [Host; 2] = network.hosts()?;
        let agents = gateways(binary, &hosts)?;
        let path = format!("-pa {}", folder.path().display());
        let node = |host: &Host, name: &str, flags: &str| -> Result<Beam> {
            let beam = host.beam(name).flags(&path).flags(flags);
            let beam = if name == "direct" { beam.cookie("direct") } else { beam };
            let beam = beam.start()?;
            beam.eval("bench:start()")?;
            Ok(beam)
        };
        let [here, there] = &hosts;
        let linked = [node(here, "direct", "")?, node(there, "direct", "")?];
        let (plain, plain_proxies) = proxies(&hosts, &path, PLAIN)?;
        let (secured, secured_proxies) = proxies(&hosts, &path, SECURED)?;
        let pg = "-kernel start_pg true";
        let shops = [node(here, "shop", pg)?, node(there, "shop", pg)?];

        let way = |[client, server]: [Beam; 2], asks: &str, between: Vec<u32>| Way {
            client,
            server,
            asks: asks.to_owned(),
            between,
        };
        let direct = format!("'{}'", linked[1].name());
        let proxied = |of: Proxied| format!("'{}'", here.node_name(of.name));
        let pids = |proxies: &[Child; 2]| proxies.iter().map(Child::pid).collect();
        let ways = Self {
            all: [
                way(linked, &direct, Vec::new()),
                way(plain, &proxied(PLAIN), pids(&plain_proxies)),
                way(secured, &proxied(SECURED), pids(&secured_proxies)),
                way(shops, "far", vec![agents[1].pid(), agents[0].pid()]),
            ],
            _proxies: [plain_proxies, secured_proxies],
            _agents: agents,
            _hosts: hosts,
            _folder: folder,
        };
        for way in &ways.all {
            eventually(GIVE_UP, "the way is open", || {
                let found = way.client.eval(&format!("is_pid({})", way.at("sink")));
                match found.as_deref() {
                    Ok("true") => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })?;
        }
        Ok(ways)
    }
}

/// Where the identity of a host's gateway is, and the authority that signed it.
fn identity(host: &Host) -> [PathBuf; 2] {
    ["federation.pem", "federation-ca.pem"].map(|file| host.home().join("federation").join(file))
}

/// Two proxies in a row, a node on the one host, and one on the other that is reached through them under the first host's
/// address.
fn proxies([here, there]: &[Host; 2], path: &str, of: Proxied) -> Result<([Beam; 2], [Child; 2])> {
    let Proxied { name, proxy_port, node_port, secured } = of;
    // Each shows the identity of the gateway beside it, and believes the authority of the other one.
    let tls = |own: &Host, other: &Host| {
        let ([identity, _], [_, authority]) = (identity(own), identity(other));
        let (identity, authority) = (identity.display(), authority.display());
        let terms = format!("ssl crt {identity} ca-file {authority} verify required ciphersuites {CIPHERS}");
        if secured { terms + " ssl-min-ver TLSv1.3" } else { String::new() }
    };
    let start = |host: &Host, bound: &str, next: &str| -> Result<Child> {
        let file = host.home().join(format!("haproxy-{name}.cfg"));
        fs::write(
            &file,
            format!(
                "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
                 listen way\n  bind 0.0.0.0:{proxy_port} {bound}\n  server next {next}\n"
            ),
        )?;
        let mut command = host.command("haproxy");
        command.arg("-db").arg("-f").arg(&file);
        Child::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()), "haproxy")
    };
    let second = start(there, &tls(there, here), &format!("127.0.0.1:{node_port}"))?;
    let first = start(here, "", &format!("{}:{proxy_port} {}", there.address(), tls(here, there)))?;

    let ports = format!("-kernel inet_dist_listen_min {node_port} inet_dist_listen_max {node_port}");
    let far = there.beam(name).undistributed().flags(path).flags(&ports).start()?;
    far.eval(&format!(
        "{{ok, _}} = net_kernel:start(['{}', longnames]), erlang:set_cookie(direct), bench:start()",
        here.node_name(name)
    ))?;
    let near = here.beam(&format!("by-{name}")).flags(path).cookie("direct").start()?;
    // The epmd before the proxies says that the node is where the first proxy is.
    near.eval(&format!("bench:name(<<\"{name}\">>, {proxy_port})"))?;
    Ok(([near, far], [second, first]))
}

/// A gateway on each host, each of a cluster of its own.
fn gateways(binary: &Path, hosts: &[Host; 2]) -> Result<[Agent; 2]> {
    let [here, there] = hosts;
    let names = ["west", "east"];
    let command = |host: &Host, arguments: &[&str]| -> Result<String> {
        let output = host.command(binary).args(arguments).output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    for (host, name) in hosts.iter().zip(names) {
        let folder = host.home().join("federation").display().to_string();
        command(host, &["federation", "init", name, "--dir", &folder])?;
        command(host, &["federation", "issue", "--dir", &folder])?;
        host.write_cookie(name)?;
    }
    let start = |host: &Host, name: &str, other: &Host| -> Result<Agent> {
        let ([identity, _], [_, authority]) = (identity(host), identity(other));
        let (identity, authority) = (identity.display().to_string(), authority.display().to_string());
        let trust = command(host, &["federation", "trust", &authority, "--identity", &identity])?;
        let config = format!(
            "cluster = \"{name}\"\nlisten = \"0.0.0.0:0\"\n{trust}listen = \"0.0.0.0:4391\"\npeers = [\"{}:4391\"]\n\n\
             [[federation.export]]\nto = [\"*\"]\ngroups = [\"*\"]\n\n[nodes]\nnames = [\"shop\"]\n",
            other.address()
        );
        host.agent(binary).config(&config)?.start()
    };
    Ok([start(here, names[0], there)?, start(there, names[1], here)?])
}

/// The processor time of all threads of a process, in seconds; the kernel knows it to the nanosecond.
fn processor(pid: u32) -> Result<f64> {
    let mut nanoseconds = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).context("it has ended")? {
        // One that has ended meanwhile takes its time along.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        nanoseconds += text.split_whitespace().next().context("no time")?.parse::<f64>()?;
    }
    Ok(nanoseconds / 1e9)
}

/// The memory that is the process's own, in bytes.
fn memory(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("it has ended")?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}
