//! `metacluster demo-node`, which is in no help: a node of ours for the demo on a machine without Erlang.
//!
//! A visible node that does for an agent what a BEAM node does: it registers with epmd, answers `rex` where it is asked
//! to dial or to tell its links, and has `global_group` tell of nodes that come and go. It has no `global`, so every link
//! of such a cluster was dialled because an agent said so. It ends when its standard input ends.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::Parser;
use metacluster_agent::erl::{
    Node, NodeEvent, NodeOptions, Process, Received,
    epmd::client as epmd,
    gen_server::{Call, reply},
    wire::{
        Pid, Term,
        epmd::{NodeType, Registration},
        handshake::{Expect, Flags},
    },
};
use metacluster_types::{Cookie, NodeName};
use tokio::{net::lookup_host, time::sleep};

use crate::{
    failure::{Failure, Outcome},
    running::input_ended,
    signals::Signals,
};

/// Between two tries to register.
const AGAIN: Duration = Duration::from_millis(500);
/// How many processes may watch for nodes that come and go.
const WATCHERS_MAX: usize = 1_000;

/// The arguments of `demo-node`.
#[derive(Debug, Parser)]
pub(crate) struct DemoNode {
    /// Its name
    #[arg(long, value_name = "NAME@HOST")]
    name: NodeName,
    /// The port of its epmd
    #[arg(long, value_name = "PORT")]
    epmd_port: u16,
    /// The file with its cookie
    #[arg(long, value_name = "FILE")]
    cookie_file: PathBuf,
}

/// Runs the command.
pub(crate) async fn run(arguments: DemoNode) -> Outcome {
    let failed = |what: &str, error: &dyn std::fmt::Display| Failure::NotSo(format!("{what}: {error}"));
    let cookie = std::fs::read_to_string(&arguments.cookie_file)
        .map_err(|error| failed(&format!("cannot read {}", arguments.cookie_file.display()), &error))?;
    let mut options = NodeOptions::new(arguments.name.clone(), Cookie::new(&cookie));
    options.hidden = false;
    let node = Node::start(options);
    // The host of a demo is an address of this machine.
    let address = arguments.name.host().parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let listens = node.listen(SocketAddr::new(address, 0)).await.map_err(|error| failed("cannot listen", &error))?;
    let rex = server(&node, "rex")?;
    let global_group = server(&node, "global_group")?;
    let mut signals = Signals::catch()?;
    tokio::select! {
        () = register(arguments.epmd_port, arguments.name.basename(), listens.port()) => Ok(()),
        () = serve_rex(rex, arguments.epmd_port) => Ok(()),
        () = serve_global_group(global_group) => Ok(()),
        () = input_ended() => Ok(()),
        () = signals.next() => Ok(()),
    }
}

fn server(node: &Node, name: &str) -> Outcome<Process> {
    let process = node.spawn();
    process.register(name).map_err(|error| Failure::NotSo(format!("cannot register {name}: {error}")))?;
    Ok(process)
}

/// Registers, and again whenever the registration is lost.
async fn register(epmd_port: u16, basename: &str, port: u16) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, epmd_port));
    loop {
        if let Ok(mut registered) = epmd::register(address, Registration::new(basename, port, NodeType::Normal)).await {
            registered.closed().await;
        }
        sleep(AGAIN).await;
    }
}

/// Answers calls in the shape of `rpc`, and in that of a C node. Each runs on its own, since a dial takes a while.
async fn serve_rex(mut rex: Process, epmd_port: u16) {
    loop {
        let Received::Message(message) = rex.recv().await else { continue };
        let node = rex.node().clone();
        tokio::spawn(async move {
            let sent = match Call::parse(message) {
                Ok(call) => match asked(&call.request) {
                    Some((module, function, arguments)) => {
                        reply(&node, &call.from, apply(&node, epmd_port, module, function, arguments).await)
                    }
                    None => return,
                },
                Err(message) => match message.as_tuple() {
                    Some([Term::Pid(pid), request]) => match asked(request) {
                        Some((module, function, arguments)) => {
                            let answer = apply(&node, epmd_port, module, function, arguments).await;
                            node.send(pid, Term::tuple([Term::atom("rex"), answer]))
                        }
                        None => return,
                    },
                    Some(_) | None => return,
                },
            };
            if let Err(error) = sent {
                tracing::debug!("an answer was not sent: {error}");
            }
        });
    }
}

/// `{call, Module, Function, Arguments, GroupLeader}`.
fn asked(request: &Term) -> Option<(&str, &str, &[Term])> {
    match request.as_tuple()? {
        [call, module, function, arguments, _] if call.is_atom("call") => {
            Some((module.as_atom()?.as_str(), function.as_atom()?.as_str(), arguments.as_list()?))
        }
        _ => None,
    }
}

/// The few functions that an agent calls; others are undefined here, as they would be in a BEAM without the module.
async fn apply(node: &Node, epmd_port: u16, module: &str, function: &str, arguments: &[Term]) -> Term {
    let name = || arguments.first().and_then(Term::as_atom).and_then(|name| NodeName::new(name.as_str()).ok());
    match (module, function, arguments.len()) {
        ("net_kernel", "connect_node", 1) => match name() {
            Some(peer) => truth(dial(node, &peer, epmd_port).await),
            None => truth(false),
        },
        ("erlang", "nodes", 0) => Term::list(visible(node).iter().map(atom)),
        ("erlang", "node", 0) => atom(node.name()),
        ("erlang", "disconnect_node", 1) => truth(name().is_some_and(|peer| node.disconnect(&peer))),
        ("global", "disconnect", 0) => {
            let peers = visible(node);
            for peer in &peers {
                node.disconnect(peer);
            }
            Term::list(peers.iter().map(atom))
        }
        _ => Term::tuple([
            Term::atom("badrpc"),
            Term::tuple([Term::atom("EXIT"), Term::tuple([Term::atom("undef"), Term::list([])])]),
        ]),
    }
}

/// Whether there is a link to the peer in the end.
async fn dial(node: &Node, peer: &NodeName, epmd_port: u16) -> bool {
    if peer == node.name() || node.peer(peer).is_some() {
        return true;
    }
    let Ok(addresses) = lookup_host((peer.host(), epmd_port)).await else { return false };
    for address in addresses {
        if let Ok(Some(found)) = epmd::port_please(address, peer.basename()).await {
            let at = SocketAddr::new(address.ip(), found.port);
            // Of two dials at the same time one fails, and the link is there all the same.
            return node.connect(at, Expect::Exactly(peer.clone())).await.is_ok() || node.peer(peer).is_some();
        }
    }
    false
}

/// Tells those who asked for it of visible nodes that come and go, as `net_kernel:monitor_nodes/1` does.
async fn serve_global_group(mut global_group: Process) {
    let node = global_group.node().clone();
    let mut happenings = node.events();
    let mut watchers: BTreeSet<Pid> = BTreeSet::new();
    loop {
        tokio::select! {
            received = global_group.recv() => match received {
                Received::Message(message) => {
                    let Ok(call) = Call::parse(message) else { continue };
                    let answer = subscribe(&global_group, &mut watchers, &call);
                    if let Err(error) = reply(&node, &call.from, answer) {
                        tracing::debug!("an answer was not sent: {error}");
                    }
                }
                Received::Exit { from, .. } => {
                    watchers.remove(&from);
                }
                Received::Down { .. } | Received::Lost { .. } => {}
            },
            happening = happenings.recv() => {
                let (word, peer) = match happening {
                    Ok(NodeEvent::Up { peer }) => ("nodeup", peer),
                    Ok(NodeEvent::Down { peer, .. }) => ("nodedown", peer),
                    Err(_) => continue,
                };
                if !peer.flags.has(Flags::PUBLISHED) {
                    continue;
                }
                for watcher in &watchers {
                    let message = Term::tuple([Term::atom(word), atom(&peer.name)]);
                    if let Err(error) = global_group.send(watcher, message) {
                        tracing::debug!("a watcher was not told: {error}");
                    }
                }
            }
        }
    }
}

fn subscribe(global_group: &Process, watchers: &mut BTreeSet<Pid>, call: &Call) -> Term {
    match call.request.as_tuple() {
        Some([what, flag]) if what.is_atom("monitor_nodes") => {
            let pid = call.from.pid.clone();
            if flag.is_atom("true") && watchers.len() < WATCHERS_MAX {
                global_group.link(&pid);
                watchers.insert(pid);
            } else {
                global_group.unlink(&pid);
                watchers.remove(&pid);
            }
            Term::atom("ok")
        }
        Some(_) | None => Term::tuple([Term::atom("error"), Term::atom("unknown_request")]),
    }
}

fn visible(node: &Node) -> Vec<NodeName> {
    node.peers().into_iter().filter(|peer| peer.flags.has(Flags::PUBLISHED)).map(|peer| peer.name).collect()
}

fn truth(value: bool) -> Term {
    Term::atom(if value { "true" } else { "false" })
}

/// A node's name as an atom; it is never too long for one.
fn atom(name: &NodeName) -> Term {
    Term::atom_of(name.as_str()).unwrap_or(Term::atom("undefined"))
}
