//! Keeps the agent's own node registered with the epmd of the host, whoever that is.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use metacluster_erl::{
    epmd::{EpmdError, client},
    wire::epmd::{NodeType, Registration},
};
use tokio::time::sleep;
use tracing::{debug, warn};

/// Between two tries.
const AGAIN: Duration = Duration::from_secs(1);

/// Registers, and again whenever the registration is lost, until it is aborted.
pub(crate) async fn register(epmd_port: u16, name: String, port: u16) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, epmd_port));
    let mut told = false;
    loop {
        match client::register(address, Registration::new(&name, port, NodeType::Hidden)).await {
            Ok(mut registered) => {
                told = false;
                registered.closed().await;
                debug!("epmd lost our registration");
            }
            Err(EpmdError::NameTaken { .. }) => {
                if !told {
                    warn!(
                        "the name {name} is registered with the epmd on port {epmd_port} by another program; \
                         give this agent another node_name (BEAM nodes cannot ping it by name until then)"
                    );
                }
                told = true;
            }
            Err(error) => debug!("not registered: {error}"),
        }
        sleep(AGAIN).await;
    }
}
