//! Carries out what formation asks of the local nodes: a dial, a drop.
//!
//! A dial is two steps. First the agent itself asks the peer's epmd, which takes a second at most; only when the node is
//! registered there does the local BEAM dial, since a BEAM that dials a silent host is stuck for its whole
//! `net_setuptime` of 7 s. A host where nobody listens on the epmd port may still have nodes (`-erl_epmd_port`), so a
//! refused connection does not end the dial.
//!
//! An epmd that has just been started does not know the nodes of its host that live: they register again within 2 s. A
//! new node that is linked meanwhile is told of them by its `global`, does not find them, and has everybody drop them. So
//! a dial waits for those of them that the local node is linked to.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use metacluster_erl::{
    CallError, Node,
    epmd::{EpmdError, client},
    wire::Term,
};
use metacluster_formation::{DialError, DropHow};
use metacluster_types::NodeName;
use tokio::{
    net::lookup_host,
    time::{Instant, interval, timeout},
};
use tracing::debug;

use super::{check::Memory, locals::REGISTERS_AGAIN, part, redial};

/// How long the epmd of a peer may take: short, so that a healed cable is found soon.
const PROBE: Duration = Duration::from_secs(1);
/// How long a BEAM may take to dial: above its own `net_setuptime`.
const CONNECT: Duration = Duration::from_secs(9);
/// How many addresses of one host are tried.
const ADDRESSES_MAX: usize = 4;
/// How often an epmd is asked for nodes that live and that it does not know.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// What the epmd of a peer's host says.
enum Probe {
    /// The node is registered with the epmd that has this address, and listens here.
    Registered { epmd: SocketAddr, node: SocketAddr },
    /// Nobody listens on the epmd port; the host answers all the same.
    NoEpmd,
    /// The epmd answers and does not know the node.
    Unknown,
    /// No answer.
    Silent(String),
}

/// A dial that is to be made.
pub(crate) struct Dial {
    pub(crate) ours: Node,
    pub(crate) local: NodeName,
    pub(crate) peer: NodeName,
    pub(crate) epmd_port: u16,
    /// The part before `@` of each node on the peer's host that the local node is linked to.
    pub(crate) neighbours: BTreeSet<String>,
    /// The local node was linked to the peer. Then, what else it is linked to.
    pub(crate) parted: Option<Vec<NodeName>>,
}

/// Has a local node dial a peer.
pub(crate) async fn dial(dial: &Dial, memory: &Memory) -> Result<(), DialError> {
    let Dial { ours, local, peer, epmd_port, neighbours, parted } = dial;
    match probe(peer, *epmd_port).await {
        Probe::Registered { epmd, node } => {
            memory.remember(peer, node);
            register_again(epmd, neighbours).await;
            if let Some(linked) = parted {
                redial::prepare(dial, node, linked).await?;
            }
        }
        Probe::NoEpmd => {}
        Probe::Unknown => {
            return Err(DialError::Unreachable(format!(
                "no node `{}` is registered on {}",
                peer.basename(),
                peer.host()
            )));
        }
        Probe::Silent(why) => return Err(DialError::Unreachable(why)),
    }
    let arguments = vec![atom(peer.as_str())];
    match ours.rpc(local, "net_kernel", "connect_node", arguments, CONNECT).await {
        Ok(answer) if answer.is_atom("true") => Ok(()),
        Ok(answer) if answer.is_atom("ignored") => Err(DialError::LocalUnavailable),
        Ok(_) => Err(DialError::Refused(format!(
            "it does not take the connection: another cookie than {local} has, or not allowed"
        ))),
        Err(CallError::Timeout) => Err(DialError::NoAnswer),
        Err(_) => Err(DialError::LocalUnavailable),
    }
}

/// Removes a peer from a local node's mesh.
pub(crate) async fn remove(ours: &Node, local: &NodeName, peer: &NodeName, how: DropHow) -> Result<(), CallError> {
    match how {
        DropHow::LeaveMesh => ours.rpc(local, "global", "disconnect", vec![], CONNECT).await.map(drop),
        DropHow::Disconnect => part::part(ours, local, peer).await,
        DropHow::Part => part::part_gently(ours, local, peer).await,
    }
}

async fn probe(peer: &NodeName, epmd_port: u16) -> Probe {
    let host = peer.host();
    let mut addresses: Vec<SocketAddr> = match timeout(PROBE, lookup_host((host, epmd_port))).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Probe::Silent(format!("host {host} does not resolve ({error})")),
        Err(_) => return Probe::Silent(format!("host {host} does not resolve: no answer from the name service")),
    };
    // A BEAM is on IPv4 unless it was told otherwise.
    addresses.sort_by_key(|address| !address.is_ipv4());
    addresses.truncate(ADDRESSES_MAX);
    let mut last = Probe::Silent(format!("host {host} has no address"));
    for address in addresses {
        match timeout(PROBE, client::port_please(address, peer.basename())).await {
            Ok(Ok(Some(found))) => {
                return Probe::Registered { epmd: address, node: SocketAddr::new(address.ip(), found.port) };
            }
            Ok(Ok(None)) => last = Probe::Unknown,
            Ok(Err(EpmdError::Refused(_))) => last = Probe::NoEpmd,
            Ok(Err(error)) => last = Probe::Silent(error.to_string()),
            Err(_) => {
                last = Probe::Silent(format!("{address} does not answer: host down, or a firewall drops the packets"))
            }
        }
        if !matches!(last, Probe::Silent(_)) {
            break;
        }
    }
    last
}

/// Waits until an epmd knows all nodes that live beside the one to be dialled; for so long at most as they need, since a
/// node may also live without an epmd.
async fn register_again(epmd: SocketAddr, neighbours: &BTreeSet<String>) {
    let until = Instant::now() + REGISTERS_AGAIN;
    let mut turn = interval(ASK_AGAIN);
    while !neighbours.is_empty() && Instant::now() < until {
        turn.tick().await;
        let Ok(Ok(names)) = timeout(PROBE, client::names(epmd)).await else { return };
        let names: BTreeSet<String> = names.into_iter().map(|(name, _)| name).collect();
        let missing: Vec<&String> = neighbours.difference(&names).collect();
        if missing.is_empty() {
            return;
        }
        debug!("the epmd at {epmd} does not know {missing:?}, which live: waiting for them");
    }
}

/// An atom of a node's name, which is never too long.
pub(crate) fn atom(text: &str) -> Term {
    Term::atom_of(text).unwrap_or(Term::atom("undefined"))
}
