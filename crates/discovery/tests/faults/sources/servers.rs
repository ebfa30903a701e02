//! The servers that are asked over TCP, each behind a proxy that commits the faults.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Mutex,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use metacluster_testbed::{
    Consul, Etcd, Kmock, Postgres, Proxy, Rancher, Tool, Wire, endpoint, endpoint_slice, require,
};
use serde_json::json;

use super::Source;

/// A server with hosts, and the strategy that asks it.
pub(crate) trait Server {
    /// What stands in every line about it.
    fn name(&self) -> &'static str;
    /// Where it listens.
    fn upstream(&self) -> SocketAddr;
    /// The strategy that asks it there, without its `timeout`.
    fn spec(&self, at: SocketAddr) -> String;
    /// From now on it knows just these hosts.
    fn set(&self, hosts: &[Ipv4Addr]);
}

/// A server behind a proxy.
pub(crate) struct Proxied<S> {
    server: S,
    proxy: Proxy,
}

impl<S: Server> Proxied<S> {
    pub(crate) fn new(server: S) -> Self {
        let proxy = Proxy::start(server.upstream()).expect("a proxy");
        Self { server, proxy }
    }

    /// The strategy that asks it, without its `timeout`.
    pub(super) fn server_spec(&self) -> String {
        self.server.spec(self.proxy.address())
    }
}

impl<S: Server> Source for Proxied<S> {
    fn says(&self, _: Wire) -> &'static str {
        self.server.name()
    }

    fn spec(&self, timeout: &str) -> String {
        format!("{},timeout={timeout}", self.server_spec())
    }

    fn set(&self, hosts: &[Ipv4Addr]) {
        self.server.set(hosts);
    }

    fn wire(&mut self, wire: Wire) {
        self.proxy.set(wire).expect("set");
    }

    fn drunk(&self) -> Option<usize> {
        Some(self.proxy.drunk())
    }
}

fn address(url: &str) -> SocketAddr {
    url.rsplit('/').next().and_then(|at| at.parse().ok()).expect("an address after the slashes")
}

impl Server for Consul {
    fn name(&self) -> &'static str {
        "Consul"
    }

    fn upstream(&self) -> SocketAddr {
        address(&self.url())
    }

    fn spec(&self, at: SocketAddr) -> String {
        format!("consul:address=http://{at},service=web,basename=shop,interval=1s")
    }

    fn set(&self, hosts: &[Ipv4Addr]) {
        self.change("dc1", |centre| {
            let instance = |host: &Ipv4Addr| (host.to_string(), json!({ "ID": host, "Address": host }));
            centre.instances = hosts.iter().map(instance).collect();
        });
    }
}

pub(crate) fn consul() -> Option<impl Source> {
    Some(Proxied::new(Consul::start().expect("a server")))
}

impl Server for Rancher {
    fn name(&self) -> &'static str {
        "Rancher"
    }

    fn upstream(&self) -> SocketAddr {
        address(&self.url())
    }

    fn spec(&self, at: SocketAddr) -> String {
        format!("rancher:address=http://{at},basename=shop,interval=1s")
    }

    fn set(&self, hosts: &[Ipv4Addr]) {
        let container = |host: &Ipv4Addr| json!({ "name": host, "uuid": host, "primary_ip": host, "state": "running" });
        let all: Vec<String> = hosts.iter().map(|host| container(host).to_string()).collect();
        self.set_containers(&all.join(","));
    }
}

pub(crate) fn rancher() -> Option<impl Source> {
    Some(Proxied::new(Rancher::start().expect("a server")))
}

impl Server for Etcd {
    fn name(&self) -> &'static str {
        "etcd"
    }

    fn upstream(&self) -> SocketAddr {
        address(&self.url())
    }

    fn spec(&self, at: SocketAddr) -> String {
        format!("etcd:endpoints=http://{at},prefix=/nodes/,register=false,basename=shop,interval=1s")
    }

    fn set(&self, hosts: &[Ipv4Addr]) {
        let all = json!({ "requestDeleteRange": { "key": STANDARD.encode("/nodes/"), "range_end": STANDARD.encode("/nodes0") } });
        self.post("/v3/kv/txn", &json!({ "success": [all] }).to_string()).expect("deleted");
        let put = |host: &Ipv4Addr| {
            let (key, value) = (format!("/nodes/{host}"), json!({ "address": host }).to_string());
            json!({ "requestPut": { "key": STANDARD.encode(key), "value": STANDARD.encode(value) } })
        };
        // A transaction takes 128.
        for part in hosts.chunks(100) {
            let puts: Vec<_> = part.iter().map(put).collect();
            self.post("/v3/kv/txn", &json!({ "success": puts }).to_string()).expect("put");
        }
    }
}

pub(crate) fn etcd() -> Option<impl Source> {
    require(&[Tool::Etcd]).then(|| Proxied::new(Etcd::start().expect("etcd")))
}

impl Server for Postgres {
    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    fn upstream(&self) -> SocketAddr {
        self.address()
    }

    fn spec(&self, at: SocketAddr) -> String {
        let (user, password) = (Self::USER, Self::PASSWORD);
        format!(
            "sql:url=postgres://{user}:{password}@{at}/postgres,query=SELECT * FROM hosts,basename=shop,interval=1s"
        )
    }

    fn set(&self, hosts: &[Ipv4Addr]) {
        let insert = |part: &[Ipv4Addr]| {
            let rows: Vec<String> = part.iter().map(|host| format!("('{host}')")).collect();
            format!("INSERT INTO hosts VALUES {}", rows.join(","))
        };
        // One argument of a program holds no more.
        let inserts: Vec<String> = hosts.chunks(2_500).map(insert).collect();
        let inserts = inserts.iter().map(String::as_str);
        let all: Vec<&str> = ["BEGIN", "TRUNCATE hosts"].into_iter().chain(inserts).chain(["COMMIT"]).collect();
        self.psql_many(&all).expect("set");
    }
}

pub(crate) fn postgresql() -> Option<impl Source> {
    require(&[Tool::Postgres]).then(|| {
        let server = Postgres::start(&[]).expect("PostgreSQL");
        server.psql("CREATE TABLE hosts (address inet)").expect("a table");
        Proxied::new(server)
    })
}

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
/// As Kubernetes fills them.
const SLICE: usize = 100;

/// An API, and how many slices are there.
pub(crate) struct Kubernetes {
    kmock: Kmock,
    slices: Mutex<usize>,
}

impl Server for Kubernetes {
    fn name(&self) -> &'static str {
        "Kubernetes"
    }

    fn upstream(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.kmock.port()).into()
    }

    fn spec(&self, at: SocketAddr) -> String {
        let account = self.kmock.account().display();
        let config = self.kmock.account().join("proxied");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters:\n- name: test\n  cluster: {{server: \"https://{at}\", certificate-authority: {account}/ca.crt}}\n\
             users:\n- name: agent\n  user: {{tokenFile: {account}/token}}\n\
             contexts:\n- name: test\n  context: {{cluster: test, user: agent, namespace: shop}}\n"
        );
        std::fs::write(&config, text).expect("written");
        let config = config.display();
        format!("kubernetes:kubeconfig={config},service=shop,basename=shop,node_labels=false,idle_timeout=1s")
    }

    fn set(&self, hosts: &[Ipv4Addr]) {
        let mut slices = self.slices.lock().expect("whole");
        let parts: Vec<&[Ipv4Addr]> = hosts.chunks(SLICE).collect();
        for (at, part) in parts.iter().enumerate() {
            let endpoints: Vec<_> =
                part.iter().map(|host| endpoint(&format!("shop-{host}"), &host.to_string())).collect();
            let slice = endpoint_slice("shop", &format!("shop-{at}"), "shop", &endpoints);
            self.kmock.apply(SLICES, &slice).expect("applied");
        }
        for at in parts.len()..*slices {
            self.kmock.delete(SLICES, &format!("shop-{at}")).expect("deleted");
        }
        *slices = parts.len();
    }
}

pub(crate) fn kubernetes() -> Option<impl Source> {
    require(&[Tool::Kmock])
        .then(|| Proxied::new(Kubernetes { kmock: Kmock::start().expect("an API"), slices: Mutex::new(0) }))
}
