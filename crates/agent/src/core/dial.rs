//! Carries out what formation asks of the network: a dial, a drop, a check of a peer's host.
//!
//! A dial is two steps. First the agent itself asks the peer's epmd, which takes a second at most; only when the node is
//! registered there does the local BEAM dial, since a BEAM that dials a silent host is stuck for its whole
//! `net_setuptime` of 7 s. A host where nobody listens on the epmd port may still have nodes (`-erl_epmd_port`), so a
//! refused connection does not end the dial.

use std::{net::SocketAddr, time::Duration};

use metacluster_erl::{
    CallError, Node,
    epmd::{EpmdError, client},
    wire::Term,
};
use metacluster_formation::{DialError, DropHow};
use metacluster_types::NodeName;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

/// How long the epmd of a peer may take: short, so that a healed cable is found soon.
const PROBE: Duration = Duration::from_secs(1);
/// How long a BEAM may take to dial: above its own `net_setuptime`.
const CONNECT: Duration = Duration::from_secs(9);
/// How many addresses of one host are tried.
const ADDRESSES_MAX: usize = 4;

/// What the epmd of a peer's host says.
enum Probe {
    /// The node is registered, with this port.
    Registered(SocketAddr),
    /// Nobody listens on the epmd port; the host answers all the same.
    NoEpmd,
    /// The epmd answers and does not know the node.
    Unknown,
    /// No answer.
    Silent(String),
}

/// Has a local node dial a peer.
pub(crate) async fn dial(ours: &Node, local: &NodeName, peer: &NodeName, epmd_port: u16) -> Result<(), DialError> {
    match probe(peer, epmd_port).await {
        Probe::Registered(_) | Probe::NoEpmd => {}
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
    let (module, function, arguments) = match how {
        DropHow::LeaveMesh => ("global", "disconnect", vec![]),
        DropHow::Disconnect => ("erlang", "disconnect_node", vec![atom(peer.as_str())]),
    };
    ours.rpc(local, module, function, arguments, CONNECT).await.map(drop)
}

/// Whether anything of a peer answers: its epmd knows it, or its distribution port takes a connection.
pub(crate) async fn alive(peer: &NodeName, epmd_port: u16) -> bool {
    match probe(peer, epmd_port).await {
        Probe::Registered(address) => matches!(timeout(PROBE, TcpStream::connect(address)).await, Ok(Ok(_))),
        // The host answers. Without an epmd nothing more can be learned, and in doubt a node lives.
        Probe::NoEpmd => true,
        Probe::Unknown | Probe::Silent(_) => false,
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
            Ok(Ok(Some(found))) => return Probe::Registered(SocketAddr::new(address.ip(), found.port)),
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

/// An atom of a node's name, which is never too long.
pub(crate) fn atom(text: &str) -> Term {
    Term::atom_of(text).unwrap_or(Term::atom("undefined"))
}
