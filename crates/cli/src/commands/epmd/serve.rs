//! Runs the epmd in this process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use listenfd::ListenFd;
use metacluster_agent::erl::epmd::{BindError, Server, ServerOptions, raise_descriptor_limit};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    arguments::Serve,
    daemon::{self, Stage},
    log,
};
use crate::notify;

/// More sockets than this are not listened on.
const LISTENERS_MAX: usize = 16;

/// Names that went and are remembered while debugging.
const REMEMBERED_DEBUG: usize = 5;

/// Serves until it is killed, or detaches; says whether that was done.
pub(super) fn run(serve: &Serve) -> bool {
    // The sockets of systemd belong to this process, so it stays what it is.
    let stage = if serve.systemd { Stage::Foreground } else { Stage::current(serve.daemon) };
    match stage {
        Stage::Launch => return daemon::launch(),
        Stage::Detached => {
            if let Err(error) = daemon::detach() {
                return refuse(stage, &format!("cannot detach: {error}"));
            }
        }
        Stage::Foreground => log::start(serve.debug),
    }
    if let Err(error) = raise_descriptor_limit() {
        tracing::warn!(target: "epmd", "the limit of descriptors stays as it is: {error}");
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(stage, &format!("cannot start: {error}")),
    };
    runtime.block_on(serve_until_killed(serve, stage))
}

async fn serve_until_killed(serve: &Serve, stage: Stage) -> bool {
    // Taken and left alone: a terminal that closes is no end.
    let _hangup = signal(SignalKind::hangup());
    let server = match start(serve).await {
        Ok(server) => server,
        Err(Refusal::Runs) => {
            tracing::debug!(target: "epmd", "there is already a epmd running at port {}", serve.port);
            return true;
        }
        Err(Refusal::Failed(text)) => return refuse(stage, &text),
    };
    if stage == Stage::Detached
        && let Err(error) = daemon::say_ready()
    {
        return refuse(stage, &format!("cannot detach: {error}"));
    }
    notify::ready();
    server.killed().await;
    tracing::debug!(target: "epmd", "got KILL_REQ - terminates normal");
    server.shutdown().await;
    true
}

/// Why there is no server.
enum Refusal {
    /// Another one has the port, which is as good.
    Runs,
    Failed(String),
}

async fn start(serve: &Serve) -> Result<Server, Refusal> {
    let mut options = ServerOptions::new(Vec::new());
    options.packet_timeout = serve.packet_timeout;
    options.allow.clone_from(&serve.allow);
    options.relaxed = serve.relaxed;
    options.killable = true;
    options.delay_accept = serve.delay_accept;
    options.delay_write = serve.delay_write;
    if serve.debug > 0 {
        options.remembered_max = REMEMBERED_DEBUG;
    }
    let started = if serve.systemd {
        Server::serve(systemd_listeners()?, options).await
    } else {
        let addresses = addresses(serve.addresses.as_deref()).map_err(Refusal::Failed)?;
        options.addresses = addresses.into_iter().map(|address| SocketAddr::new(address, serve.port)).collect();
        Server::bind(options).await
    };
    started.map_err(|error| {
        if matches!(error, BindError::InUse(_)) { Refusal::Runs } else { Refusal::Failed(error.to_string()) }
    })
}

fn systemd_listeners() -> Result<Vec<TcpListener>, Refusal> {
    let mut given = ListenFd::from_env();
    if given.len() > LISTENERS_MAX {
        return Err(too_many());
    }
    let mut listeners = Vec::new();
    for at in 0..given.len() {
        match given.take_tcp_listener(at) {
            Ok(listener) => listeners.extend(listener),
            Err(error) => return Err(Refusal::Failed(format!("cannot obtain sockets from systemd: {error}"))),
        }
    }
    if listeners.is_empty() {
        return Err(Refusal::Failed("systemd provides no sockets".to_owned()));
    }
    Ok(listeners)
}

fn too_many() -> Refusal {
    Refusal::Failed(too_many_text())
}

fn too_many_text() -> String {
    format!("cannot listen on more than {LISTENERS_MAX} IP addresses")
}

/// The addresses to listen on: every one, or those that are named and the loopback.
fn addresses(named: Option<&str>) -> Result<Vec<IpAddr>, String> {
    let named: Vec<_> = named.unwrap_or_default().split([' ', ',']).filter(|text| !text.is_empty()).collect();
    if named.is_empty() {
        return Ok(vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]);
    }
    let mut addresses: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    for text in named {
        let address: IpAddr = text.parse().map_err(|_| format!("cannot parse IP address \"{text}\""))?;
        if address == Ipv4Addr::LOCALHOST || address == Ipv6Addr::LOCALHOST {
            continue;
        }
        addresses.push(address);
        // As stock epmd counts.
        if addresses.len() == LISTENERS_MAX {
            return Err(too_many_text());
        }
    }
    // Every address of a family holds the loopback of that family, which could not be listened on too.
    let everywhere: Vec<_> = addresses.iter().copied().filter(IpAddr::is_unspecified).collect();
    addresses
        .retain(|address| address.is_unspecified() || !everywhere.iter().any(|all| all.is_ipv4() == address.is_ipv4()));
    Ok(addresses)
}

/// Says why it does not run: to the launcher, if there is one.
fn refuse(stage: Stage, text: &str) -> bool {
    match stage {
        Stage::Detached => daemon::say_failed(text),
        Stage::Launch | Stage::Foreground => log::complain(text),
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(named: &str) -> String {
        match addresses(Some(named)) {
            Ok(addresses) => addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => error,
        }
    }

    #[test]
    fn the_loopback_is_always_listened_on() {
        assert_eq!(listed("10.0.0.1, ::1,127.0.0.1 fd00::1"), "127.0.0.1 ::1 10.0.0.1 fd00::1");
        assert_eq!(listed(""), "0.0.0.0 ::");
        assert_eq!(listed(" , "), "0.0.0.0 ::");
        assert_eq!(listed("0.0.0.0"), "::1 0.0.0.0");
        assert_eq!(listed("::,10.0.0.1"), "127.0.0.1 :: 10.0.0.1");
        assert_eq!(listed("host"), "cannot parse IP address \"host\"");
    }

    #[test]
    fn there_is_a_bound_on_addresses() {
        let many = |count: u8| (1..=count).map(|n| format!("10.0.0.{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(addresses(Some(&many(13))).map(|addresses| addresses.len()), Ok(15));
        assert_eq!(addresses(Some(&many(14))), Err(too_many_text()));
    }
}
