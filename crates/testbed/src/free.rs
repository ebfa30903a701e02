//! A port of loopback that nothing uses, for a server that has to be told its port.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context as _, Result};

/// Asks the kernel for a TCP port of loopback that is free now.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on loopback")?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_bound() {
        let port = free_port().expect("a port");
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("free");
    }
}
