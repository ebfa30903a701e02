//! BEAM nodes for tests: real `erl`, an epmd of ours on a free port, nothing left behind.

#![allow(dead_code, reason = "each test file uses a part of this")]

pub(crate) mod capture;
pub(crate) mod raw;
pub(crate) mod tls;

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    time::Duration,
};

use metacluster_erl::{
    Node, NodeOptions,
    epmd::{Server, ServerOptions},
    node::{Expect, PeerInfo},
    wire::{Term, epmd::NodeType},
};
use metacluster_types::{Cookie, NodeName};

/// No step of a test takes longer on a machine that is not broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const COOKIE: &str = "oatmeal";

pub(crate) fn name(text: &str) -> NodeName {
    NodeName::new(text).expect("a name")
}

pub(crate) fn atom(text: &str) -> Term {
    Term::atom_of(text).expect("short")
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Whether BEAM nodes can be had. Without `erl` a test is skipped on a laptop and fails in CI.
pub(crate) fn has_erl() -> bool {
    let found = Command::new("erl").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "`erl` is missing: install erlang-base");
        eprintln!("skipped: `erl` is missing; install erlang-base");
    }
    found
}

/// An epmd of ours on a free port of the loopback.
pub(crate) async fn epmd() -> Server {
    Server::bind(ServerOptions::loopback(0)).await.expect("a free port")
}

pub(crate) fn port_of(epmd: &Server) -> u16 {
    epmd.addresses()[0].port()
}

/// A BEAM node; ends with the test.
pub(crate) struct Beam {
    child: Child,
    pub(crate) name: NodeName,
    pub(crate) address: SocketAddr,
}

impl Beam {
    /// Starts `erl` under this name and waits until it has registered.
    pub(crate) async fn start(epmd: &Server, node: &str, args: &[&str]) -> Self {
        Self::start_with(epmd, node, COOKIE, args).await
    }

    pub(crate) async fn start_with(epmd: &Server, node: &str, cookie: &str, args: &[&str]) -> Self {
        let node = name(node);
        let kind = if node.is_long() { "-name" } else { "-sname" };
        let child = Command::new("erl")
            .args(["-noshell", "-start_epmd", "false", kind, node.as_str(), "-setcookie", cookie])
            .args(["-eval", "spawn(fun() -> io:get_line(\"\"), erlang:halt() end)."])
            .args(args)
            .env("ERL_EPMD_PORT", port_of(epmd).to_string())
            .env("ERL_CRASH_DUMP_SECONDS", "0")
            // Its end tells the node that the test has ended, even if that was killed.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("erl starts");
        let mut names = epmd.watch();
        let registered = within("the registration of a BEAM node", async {
            let names = names.wait_for(|names| names.contains_key(node.basename())).await.expect("epmd runs");
            names[node.basename()].clone()
        })
        .await;
        assert_eq!(registered.node_type, NodeType::Normal);
        let address = (Ipv4Addr::LOCALHOST, registered.port).into();
        Self { child, name: node, address }
    }

    /// Connects a node of ours to it, and waits until its servers run.
    pub(crate) async fn join(&self, node: &Node) -> PeerInfo {
        let peer = node.connect(self.address, Expect::Basename(self.name.basename().to_owned())).await;
        let peer = peer.expect("a connection");
        self.booted(node).await;
        peer
    }

    /// Waits until the node's servers run.
    pub(crate) async fn booted(&self, node: &Node) {
        within("the boot of a BEAM node", async {
            loop {
                // `init` knows when the boot script is done.
                match node.rpc(&self.name, "init", "get_status", vec![], PATIENCE).await {
                    Ok(status) if status.as_tuple().is_some_and(|status| status[0].is_atom("started")) => return,
                    Ok(_) | Err(metacluster_erl::CallError::NoProcess) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .await;
    }

    /// Evaluates Erlang expressions on it.
    pub(crate) async fn eval(&self, node: &Node, text: &str) -> Term {
        eval(node, &self.name, text).await
    }

    /// The system's number for it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Beam {
    fn drop(&mut self) {
        // A test may have ended it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Evaluates Erlang expressions on a node that is connected.
pub(crate) async fn eval(node: &Node, on: &NodeName, text: &str) -> Term {
    let call = async |module, function, args| {
        node.rpc(on, module, function, args, PATIENCE).await.unwrap_or_else(|error| panic!("{text}: {error}"))
    };
    let tokens = call("erl_scan", "string", vec![Term::string(text)]).await;
    let tokens = tokens.as_tuple().expect("a tuple")[1].clone();
    let expressions = call("erl_parse", "parse_exprs", vec![tokens]).await;
    let expressions = expressions.as_tuple().expect("a tuple")[1].clone();
    let value = call("erl_eval", "exprs", vec![expressions, Term::list([])]).await;
    value.as_tuple().unwrap_or_else(|| panic!("{text}: {value}"))[1].clone()
}

/// An address that nobody listens on, for as long as the socket is kept: it is bound, so nobody else gets the port.
pub(crate) fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    let address = socket.local_addr().expect("an address").as_socket().expect("an IP address");
    (socket, address)
}

/// A node of ours that listens on a free port.
pub(crate) async fn node(text: &str) -> (Node, SocketAddr) {
    node_with(options(text)).await
}

pub(crate) fn options(text: &str) -> NodeOptions {
    NodeOptions { connect_timeout: PATIENCE, ..NodeOptions::new(name(text), Cookie::new(COOKIE)) }
}

pub(crate) async fn node_with(options: NodeOptions) -> (Node, SocketAddr) {
    let node = Node::start(options);
    let address = node.listen((Ipv4Addr::LOCALHOST, 0).into()).await.expect("a free port");
    (node, address)
}
