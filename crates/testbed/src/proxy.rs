//! A proxy before any server that speaks TCP, which can do to the bytes all that a bad network or a sick server does.
//!
//! What is set holds for connections that are there as for those that come. Invariant: dropping the proxy ends its threads
//! and connections.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::eventually_value;

/// How often a thread looks at what is set.
const LOOK: Duration = Duration::from_millis(20);
/// How long a port that was given back may take to be had again.
const BIND_WITHIN: Duration = Duration::from_secs(60);
/// What comes in place of an answer: bytes of no protocol.
const GARBAGE: &[u8] = b"\x00\xff\x13\x37 lorem ipsum \xfe\xfe\r\n\r\n\x00";
/// So much of an answer comes before the end.
const HALF: usize = 40;
/// How an answer without an end begins: one of HTTP, and white space, of which JSON takes any amount.
const FLOOD: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
/// What bounds the flood if the client does not.
const FLOOD_BYTES_MAX: usize = 512 << 20;

/// What the proxy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// It passes everything on.
    Good,
    /// Connections are taken, and no byte comes back.
    Hangs,
    /// Nobody listens, and connections that were there are cut.
    Refuses,
    /// Each answer is bytes of no protocol.
    Garbage,
    /// Each connection is cut after the first bytes of an answer.
    Half,
    /// Each answer has no end. [`Proxy::drunk`] says how much of it the client took.
    Flood,
    /// Every answer takes this much longer.
    Slow(Duration),
}

impl Wire {
    /// Every fault. The slow one is slower than anybody waits.
    pub const FAULTS: [Self; 6] =
        [Self::Hangs, Self::Refuses, Self::Garbage, Self::Half, Self::Slow(Duration::from_secs(30)), Self::Flood];
}

/// A proxy on a port of the loopback interface.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
    at: SocketAddr,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    state: Mutex<State>,
    /// The most that one connection took of a flood, in bytes.
    drunk: AtomicUsize,
    /// How many pieces of answers came from the server.
    answers: AtomicUsize,
}

#[derive(Clone, Copy, Debug)]
struct State {
    wire: Wire,
    /// Whether the listener is to go on.
    listens: bool,
    ends: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> State {
        *self.lock()
    }
}

impl Proxy {
    /// A proxy that passes everything on to this address.
    pub fn start(upstream: SocketAddr) -> Result<Self> {
        let state = Mutex::new(State { wire: Wire::Good, listens: true, ends: false });
        let shared = Arc::new(Shared { upstream, state, drunk: AtomicUsize::new(0), answers: AtomicUsize::new(0) });
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
        let at = socket.local_addr()?;
        let mut proxy = Self { shared, listener: None, at };
        proxy.listen(socket)?;
        Ok(proxy)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.at
    }

    /// The most that a client took of an answer without an end before it hung up, in bytes, and what the sockets held.
    #[must_use]
    pub fn drunk(&self) -> usize {
        self.shared.drunk.load(Ordering::Relaxed)
    }

    /// How many pieces of answers came from the server so far, passed on or not.
    #[must_use]
    pub fn answers(&self) -> usize {
        self.shared.answers.load(Ordering::Relaxed)
    }

    /// From now on it does this.
    pub fn set(&mut self, wire: Wire) -> Result<()> {
        let listens = wire != Wire::Refuses;
        {
            let mut state = self.shared.lock();
            (state.wire, state.listens) = (wire, listens);
        }
        match (&self.listener, listens) {
            (None, true) => {
                let bind = || TcpListener::bind(self.at).map_err(|error| error.to_string());
                let socket = eventually_value(BIND_WITHIN, "the port is free again", bind)?;
                self.listen(socket)
            }
            (Some(_), false) => {
                self.stop_listening();
                Ok(())
            }
            (None, false) | (Some(_), true) => Ok(()),
        }
    }

    fn listen(&mut self, socket: TcpListener) -> Result<()> {
        socket.set_nonblocking(true)?;
        let shared = Arc::clone(&self.shared);
        self.listener = Some(thread::spawn(move || accept(&socket, &shared)));
        Ok(())
    }

    fn stop_listening(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.join().ok();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            (state.listens, state.ends) = (false, true);
        }
        self.stop_listening();
    }
}

fn accept(socket: &TcpListener, shared: &Arc<Shared>) {
    while shared.now().listens {
        match socket.accept() {
            Ok((client, _)) => {
                let shared = Arc::clone(shared);
                // It ends within a look of the proxy.
                thread::spawn(move || drop(serve(&client, &shared)));
            }
            Err(_) => thread::sleep(LOOK),
        }
    }
}

/// Passes the client's bytes on, and the answers as the wire has it.
fn serve(client: &TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    client.set_nonblocking(false)?;
    let server = TcpStream::connect(shared.upstream)?;
    for stream in [client, &server] {
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_nodelay(true)?;
    }
    let done = thread::scope(|scope| {
        scope.spawn(|| {
            let asked = pump(client, &server, shared, |_, _| Ok(true));
            drop(server.shutdown(Shutdown::Both));
            asked
        });
        let answered = pump(&server, client, shared, |client, bytes| answer(client, bytes, shared));
        drop((client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both)));
        answered
    });
    done.map(drop)
}

/// Does to an answer what is set. Whether the bytes themselves are to be passed on.
fn answer(mut client: &TcpStream, bytes: &[u8], shared: &Shared) -> io::Result<bool> {
    shared.answers.fetch_add(1, Ordering::Relaxed);
    let cut = || io::Error::from(io::ErrorKind::ConnectionReset);
    match shared.now().wire {
        Wire::Good => Ok(true),
        Wire::Refuses => Err(cut()),
        Wire::Garbage => client.write_all(GARBAGE).and(Err(cut())),
        Wire::Half => client.write_all(&bytes[..bytes.len().min(HALF)]).and(Err(cut())),
        Wire::Flood => {
            client.write_all(FLOOD)?;
            let part = [b' '; 64 << 10];
            let mut sent = 0;
            while shared.now().wire == Wire::Flood && !shared.now().ends && sent < FLOOD_BYTES_MAX {
                client.write_all(&part)?;
                sent += part.len();
                shared.drunk.fetch_max(sent, Ordering::Relaxed);
            }
            Err(cut())
        }
        Wire::Hangs => {
            // What came meanwhile never arrives, and the connection is of no use any more.
            while shared.now().wire == Wire::Hangs && !shared.now().ends {
                thread::sleep(LOOK);
            }
            Err(cut())
        }
        Wire::Slow(by) => {
            let until = Instant::now() + by;
            while Instant::now() < until && matches!(shared.now().wire, Wire::Slow(_)) && !shared.now().ends {
                thread::sleep(LOOK);
            }
            Ok(true)
        }
    }
}

/// Moves bytes until one side ends, `on` says so, or the proxy refuses or ends.
fn pump(
    mut from: &TcpStream,
    mut to: &TcpStream,
    shared: &Shared,
    on: impl Fn(&TcpStream, &[u8]) -> io::Result<bool>,
) -> io::Result<()> {
    let mut part = [0; 16 << 10];
    loop {
        let state = shared.now();
        if state.ends || state.wire == Wire::Refuses {
            return Ok(());
        }
        match from.read(&mut part) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                if on(to, &part[..count])? {
                    to.write_all(&part[..count])?;
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Said, Web};

    /// What a client gets within half a second, and whether the connection has ended then.
    fn ask(at: SocketAddr) -> io::Result<(Vec<u8>, bool)> {
        let mut stream = TcpStream::connect(at)?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")?;
        let (mut got, mut part) = (Vec::new(), [0; 1024]);
        loop {
            match stream.read(&mut part) {
                Ok(0) => return Ok((got, true)),
                Ok(count) => got.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok((got, true)),
                Err(_) => return Ok((got, false)),
            }
        }
    }

    #[test]
    fn each_fault_is_what_it_says_and_ends_when_it_is_to() {
        let web = Web::start(|_| Said::ok("x".repeat(100))).expect("a server");
        let mut proxy = Proxy::start(web.address()).expect("a proxy");
        let at = proxy.address();
        let whole = ask(at).expect("an answer").0;
        assert!(whole.ends_with(b"xxxx"));
        for (wire, wanted) in [
            (Wire::Hangs, Some((&b""[..], false))),
            (Wire::Refuses, None),
            (Wire::Garbage, Some((GARBAGE, true))),
            (Wire::Half, Some((&whole[..HALF], true))),
            (Wire::Slow(Duration::from_secs(60)), Some((b"", false))),
        ] {
            proxy.set(wire).expect("set");
            let got = ask(at).ok();
            assert_eq!(got.as_ref().map(|(bytes, ended)| (&bytes[..], *ended)), wanted, "{wire:?}");
            proxy.set(Wire::Good).expect("set");
            assert_eq!(ask(at).expect("an answer").0, whole, "after {wire:?}");
        }
        drop(proxy);
        assert!(ask(at).is_err());
    }
}
