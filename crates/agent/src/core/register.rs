//! Keeps the agent's own node registered with the epmd of the host, whoever that is.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use metacluster_erl::{
    epmd::{EpmdError, client},
    wire::epmd::{NodeType, Registration},
};
use tokio::{sync::watch, time::sleep};
use tracing::{debug, warn};

/// Between two tries.
const AGAIN: Duration = Duration::from_secs(1);

/// Registers, and again whenever the registration is lost, until it is aborted. Says through `free` that no other
/// program has the name: two nodes of one name would take the connections of the local nodes from each other.
pub(crate) async fn register(epmd_port: u16, name: String, port: u16, free: watch::Sender<bool>) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, epmd_port));
    let mut told = false;
    loop {
        match client::register(address, Registration::new(&name, port, NodeType::Hidden)).await {
            Ok(mut registered) => {
                told = false;
                free.send_replace(true);
                registered.closed().await;
                debug!("epmd lost our registration");
            }
            Err(EpmdError::NameTaken { .. }) => {
                if !told {
                    warn!(
                        "the name {name} is registered with the epmd on port {epmd_port} by another program; \
                         give this agent another node_name (until then it leaves the nodes of this host alone)"
                    );
                }
                told = true;
                free.send_replace(false);
            }
            Err(error) => {
                free.send_replace(true);
                debug!("not registered: {error}");
            }
        }
        sleep(AGAIN).await;
    }
}
