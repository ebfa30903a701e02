//! Reaching a node by its name alone: the address of its host, the port that its epmd tells, the dial.

use std::{io, net::SocketAddr};

use metacluster_types::NodeName;
use tokio::net::lookup_host;

use super::{Expect, Node, error::ConnectError, event::PeerInfo};
use crate::epmd::{EpmdError, PORT, port_please};

/// Why a node could not be reached by its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReachError {
    /// The host part of the name has no address.
    #[error("{host} has no address: {error}")]
    NoAddress {
        /// The host.
        host: String,
        /// What the resolver says.
        error: String,
    },
    /// The epmd of the host did not answer.
    #[error(transparent)]
    Epmd(#[from] EpmdError),
    /// The host's epmd knows no such node: it is not up, or its name is another.
    #[error("{node} is not registered with the epmd on {epmd}: not up, or under another name")]
    NotRegistered {
        /// The node.
        node: NodeName,
        /// Who was asked.
        epmd: SocketAddr,
    },
    /// The node was found, and not connected.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl Node {
    /// Connects to a node by its name: its host is resolved, the epmd there is asked for the port, and the node is
    /// dialled. A connection that is up already is returned as it is. The epmds listen on `ERL_EPMD_PORT`, or 4369.
    ///
    /// # Errors
    /// When there is no connection; the error of the last address that was tried says whom to blame.
    pub async fn reach(&self, node: &NodeName) -> Result<PeerInfo, ReachError> {
        self.reach_through(node, epmd_port()).await
    }

    /// [`Node::reach`] with another port of the epmds.
    ///
    /// # Errors
    /// As [`Node::reach`].
    pub async fn reach_through(&self, node: &NodeName, epmd_port: u16) -> Result<PeerInfo, ReachError> {
        if let Some(peer) = self.peer(node) {
            return Ok(peer);
        }
        let no_address =
            |error: io::Error| ReachError::NoAddress { host: node.host().to_owned(), error: error.to_string() };
        let addresses = lookup_host((node.host(), epmd_port)).await.map_err(no_address)?;
        let mut failed = no_address(io::ErrorKind::NotFound.into());
        for epmd in addresses {
            match self.reach_at(node, epmd).await {
                Ok(peer) => return Ok(peer),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn reach_at(&self, node: &NodeName, epmd: SocketAddr) -> Result<PeerInfo, ReachError> {
        let registration = port_please(epmd, node.basename()).await?;
        let port = registration.ok_or_else(|| ReachError::NotRegistered { node: node.clone(), epmd })?.port;
        Ok(self.connect((epmd.ip(), port).into(), Expect::Exactly(node.clone())).await?)
    }
}

/// `ERL_EPMD_PORT`, or 4369.
pub(super) fn epmd_port() -> u16 {
    let environment = std::env::var("ERL_EPMD_PORT").ok();
    environment.and_then(|text| text.parse().ok()).filter(|&port| port > 0).unwrap_or(PORT)
}
