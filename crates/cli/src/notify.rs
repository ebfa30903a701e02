//! Tells systemd how the service does: the datagrams of `sd_notify(3)` to the socket that `NOTIFY_SOCKET` names.
//!
//! Without that variable nothing happens; a socket that does not answer is nobody's loss.

use std::{ffi::OsString, io, os::unix::net::UnixDatagram};

/// The service is up.
pub(crate) fn ready() {
    send("READY=1\n");
}

/// The service is leaving.
pub(crate) fn stopping() {
    send("STOPPING=1\n");
}

fn send(state: &str) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send_to(&socket, state)
    {
        tracing::debug!("NOTIFY_SOCKET does not take a message: {error}");
    }
}

fn send_to(socket: &OsString, state: &str) -> io::Result<()> {
    let datagram = UnixDatagram::unbound()?;
    match abstract_name(socket) {
        Some(name) => send_abstract(&datagram, &name, state),
        None => datagram.send_to(state.as_bytes(), socket).map(drop),
    }
}

/// The name of an abstract socket, which is written with an `@` in front.
fn abstract_name(socket: &OsString) -> Option<Vec<u8>> {
    socket.as_encoded_bytes().strip_prefix(b"@").map(<[u8]>::to_vec)
}

#[cfg(target_os = "linux")]
fn send_abstract(datagram: &UnixDatagram, name: &[u8], state: &str) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    datagram.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn send_abstract(_: &UnixDatagram, _: &[u8], _: &str) -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_an_abstract_name_both_get_the_datagram() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).expect("a socket");
        send_to(&path.clone().into_os_string(), "READY=1\n").expect("sent");
        let mut buffer = [0; 32];
        let size = listener.recv(&mut buffer).expect("a datagram");
        assert_eq!(&buffer[..size], b"READY=1\n");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_name_gets_the_datagram() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("metacluster-notify-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("an address");
        let listener = UnixDatagram::bind_addr(&address).expect("a socket");
        send_to(&format!("@{name}").into(), "READY=1\n").expect("sent");
        let mut buffer = [0; 32];
        assert_eq!(listener.recv(&mut buffer).expect("a datagram"), 8);
    }
}
