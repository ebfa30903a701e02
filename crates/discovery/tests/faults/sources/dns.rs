//! A DNS server that commits faults, which no real one can be told to: it answers over UDP what fits a datagram, and the
//! rest over TCP (RFC 1035, 4.2).

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use metacluster_testbed::Wire;

use super::Source;

/// How often it looks at what is set.
const LOOK: Duration = Duration::from_millis(20);
/// The names that share the hosts, since 64 KiB of one answer hold some 4,000 addresses.
const NAMES: [&str; 3] = ["a", "b", "c"];
const DATAGRAM_BYTES_MAX: usize = 512;
const TRUNCATED: u8 = 2;

struct State {
    hosts: Vec<Ipv4Addr>,
    wire: Wire,
    ends: bool,
}

pub(crate) struct Dns {
    at: SocketAddr,
    state: Arc<Mutex<State>>,
    threads: Vec<JoinHandle<()>>,
}

pub(crate) fn dns() -> Option<impl Source> {
    let state = Arc::new(Mutex::new(State { hosts: Vec::new(), wire: Wire::Good, ends: false }));
    let (udp, tcp) = bind_anywhere();
    let at = udp.local_addr().expect("an address");
    let threads = vec![
        thread::spawn({
            let state = Arc::clone(&state);
            move || serve(&state, udp, || UdpSocket::bind(at), answer_datagram)
        }),
        thread::spawn({
            let state = Arc::clone(&state);
            move || serve(&state, tcp, || TcpListener::bind(at), answer_connection)
        }),
    ];
    Some(Dns { at, state, threads })
}

/// Both sockets on one port.
fn bind_anywhere() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("an address")) {
            return (udp, tcp);
        }
    }
}

impl Source for Dns {
    fn says(&self, _: Wire) -> &'static str {
        "`a.test.`"
    }

    fn spec(&self, timeout: &str) -> String {
        let names = NAMES.map(|name| format!("{name}.test.")).join(",");
        format!(
            "dns:query={names},servers={},type=a,basename=shop,interval=1s,interval_min=100ms,timeout={timeout}",
            self.at
        )
    }

    fn set(&self, hosts: &[Ipv4Addr]) {
        self.state.lock().expect("whole").hosts = hosts.to_vec();
    }

    fn wire(&mut self, wire: Wire) {
        self.state.lock().expect("whole").wire = wire;
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.state.lock().expect("whole").ends = true;
        for thread in self.threads.drain(..) {
            thread.join().expect("it ends");
        }
    }
}

/// Serves a socket until the end. While the server is to refuse, nobody listens.
fn serve<S>(state: &Mutex<State>, socket: S, bind: impl Fn() -> io::Result<S>, answer: fn(&S, &Mutex<State>))
where
    S: Unblocking,
{
    let mut socket = Some(socket);
    loop {
        let (wire, ends) = {
            let state = state.lock().expect("whole");
            (state.wire, state.ends)
        };
        if ends {
            return;
        }
        if wire == Wire::Refuses {
            socket = None;
        } else if socket.is_none() {
            socket = bind().ok();
        }
        match &socket {
            Some(socket) => {
                socket.unblock().expect("set");
                answer(socket, state);
            }
            None => thread::sleep(LOOK),
        }
    }
}

/// A socket whose calls end soon.
trait Unblocking {
    fn unblock(&self) -> io::Result<()>;
}

impl Unblocking for UdpSocket {
    fn unblock(&self) -> io::Result<()> {
        self.set_read_timeout(Some(LOOK))
    }
}

impl Unblocking for TcpListener {
    fn unblock(&self) -> io::Result<()> {
        self.set_nonblocking(true)
    }
}

fn answer_datagram(socket: &UdpSocket, state: &Mutex<State>) {
    let mut query = [0; DATAGRAM_BYTES_MAX];
    let Ok((length, from)) = socket.recv_from(&mut query) else { return };
    let Some(wire) = settled(state) else { return };
    let said = match wire {
        Wire::Garbage => b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        // The word that the rest is to be had over TCP.
        Wire::Half => answer(&query[..length], state, DATAGRAM_BYTES_MAX, true),
        Wire::Good | Wire::Hangs | Wire::Refuses | Wire::Flood | Wire::Slow(_) => {
            answer(&query[..length], state, DATAGRAM_BYTES_MAX, false)
        }
    };
    socket.send_to(&said, from).ok();
}

fn answer_connection(listener: &TcpListener, state: &Mutex<State>) {
    let Ok((stream, _)) = listener.accept() else {
        thread::sleep(LOOK);
        return;
    };
    answer_stream(&stream, state).ok();
}

fn answer_stream(mut stream: &TcpStream, state: &Mutex<State>) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut query = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut query)?;
    let Some(wire) = settled(state) else { return Ok(()) };
    let whole = answer(&query, state, usize::from(u16::MAX), false);
    let length = u16::try_from(whole.len()).expect("within a message").to_be_bytes();
    let said = match wire {
        Wire::Garbage => b"lorem ipsum".to_vec(),
        Wire::Half => [&length[..], &whole[..whole.len() / 2]].concat(),
        Wire::Good | Wire::Hangs | Wire::Refuses | Wire::Flood | Wire::Slow(_) => [&length[..], &whole].concat(),
    };
    stream.write_all(&said)
}

/// Waits for as long as the server is to be silent. `None` when what came is not to be answered any more.
fn settled(state: &Mutex<State>) -> Option<Wire> {
    let begun = Instant::now();
    loop {
        let (wire, ends) = {
            let state = state.lock().expect("whole");
            (state.wire, state.ends)
        };
        match wire {
            _ if ends => return None,
            Wire::Hangs => {}
            Wire::Slow(by) if begun.elapsed() < by => {}
            Wire::Refuses => return None,
            Wire::Good | Wire::Garbage | Wire::Half | Wire::Flood | Wire::Slow(_) => return Some(wire),
        }
        thread::sleep(LOOK);
    }
}

/// The answer to a query for the addresses of one of the names: `truncated` to none if so told, or where it does not fit.
fn answer(query: &[u8], state: &Mutex<State>, bytes_max: usize, truncated: bool) -> Vec<u8> {
    let Some(label) = query.get(13) else { return Vec::new() };
    let question_end = 12 + query[12..].iter().position(|&byte| byte == 0).unwrap_or(0) + 5;
    let share = NAMES.iter().position(|name| name.as_bytes() == [label.to_ascii_lowercase()]).unwrap_or(0);
    let hosts: Vec<Ipv4Addr> =
        state.lock().expect("whole").hosts.iter().skip(share).step_by(NAMES.len()).copied().collect();
    let whole = question_end + 16 * hosts.len();
    let fits = whole <= bytes_max && !truncated;
    let told = if fits { hosts.len() } else { 0 };
    let flags = if fits { 0x84 } else { 0x84 | TRUNCATED };
    let mut bytes = vec![query[0], query[1], flags, 0, 0, 1];
    bytes.extend(u16::try_from(told).expect("few").to_be_bytes());
    bytes.extend([0, 0, 0, 0]);
    bytes.extend(&query[12..question_end]);
    for host in &hosts[..told] {
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        bytes.extend(host.octets());
    }
    bytes
}
