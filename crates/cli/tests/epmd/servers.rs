//! Both epmds, started and asked in the same way.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            net::{SocketAddr as UnixAddr, UnixListener},
            process::CommandExt,
        },
    },
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use metacluster_testbed::{Child, eventually};

/// No step takes longer on a machine that is not broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Whose epmd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Stock,
    Ours,
}

impl Whose {
    pub(crate) const BOTH: [Self; 2] = [Self::Stock, Self::Ours];

    /// The program, with no variable that it would read.
    pub(crate) fn command(self) -> Command {
        let mut command = match self {
            Self::Stock => Command::new("epmd"),
            Self::Ours => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_metacluster"));
                command.arg0("epmd");
                command
            }
        };
        for name in ["ERL_EPMD_PORT", "ERL_EPMD_ADDRESS", "ERL_EPMD_RELAXED_COMMAND_CHECK", "LISTEN_FDS"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        command
    }
}

/// A port that nothing uses and no other test is given, be it of another program that runs at the same time: a look at a
/// port listens on it for a moment, and whoever connects then would take that for the epmd. It is below those that the
/// kernel gives to clients, which are in use for moments at any time.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    /// What other programs see of the ports that this one was given, for as long as it runs.
    static GIVEN: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    for _ in 0..COUNT {
        // Test programs that run at the same time begin at different places.
        let place = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(97));
        let port = (FIRST + place % COUNT) as u16;
        let name = UnixAddr::from_abstract_name(format!("metacluster-test-port-{port}")).expect("a short name");
        let Ok(given) = UnixListener::bind_addr(&name) else { continue };
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            GIVEN.lock().expect("no panic under the lock").push(given);
            return port;
        }
    }
    panic!("no free port");
}

/// An epmd that ends with this.
pub(crate) struct Epmd {
    pub(crate) child: Child,
    pub(crate) port: u16,
}

impl Epmd {
    /// Starts it with these flags and waits until it answers.
    pub(crate) fn start(whose: Whose, flags: &[&str]) -> Self {
        // A port that was free may be taken by another program; then an epmd ends at once.
        for _ in 0..10 {
            let port = free_port();
            let mut command = whose.command();
            command.args(["-port", &port.to_string()]).args(flags).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = Child::spawn(&mut command, "epmd").expect("it starts");
            let mut ended = false;
            eventually(PATIENCE, "epmd listens", || {
                ended = child.exited().expect("a status").is_some();
                if ended || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() { Ok(()) } else { Err("no".into()) }
            })
            .expect("it listens");
            if !ended && child.exited().expect("a status").is_none() {
                return Self { child, port };
            }
        }
        panic!("no free port for an epmd");
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream
    }

    /// Sends bytes and reads until the end.
    pub(crate) fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(bytes).expect("written");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the end");
        answer
    }

    /// Registers a node and gives its connection and creation.
    pub(crate) fn register(&self, name: &str) -> (TcpStream, u32) {
        let mut stream = self.connect();
        stream.write_all(&alive2(name.as_bytes(), b"")).expect("written");
        let mut reply = [0; 6];
        stream.read_exact(&mut reply).expect("a reply");
        assert_eq!(reply[..2], *b"v\0", "{name} is registered");
        (stream, u32::from_be_bytes([reply[2], reply[3], reply[4], reply[5]]))
    }

    pub(crate) fn names(&self) -> String {
        String::from_utf8(self.exchange(&request(b"n"))[4..].to_vec()).expect("text")
    }

    /// Waits until it lists this and nothing else.
    pub(crate) fn lists(&self, names: &str) {
        eventually(PATIENCE, &format!("it lists {names:?}"), || match self.names() {
            listed if listed == names => Ok(()),
            listed => Err(listed),
        })
        .expect("listed");
    }

    /// Returns when all that was sent to it before has been acted on: it takes requests in turn, and no turn of either
    /// program has as many as this. For what leaves no trace; the end of a registration does, see [`Epmd::lists`].
    pub(crate) fn settle(&self) {
        for _ in 0..50 {
            self.exchange(&request(b"n"));
        }
    }
}

/// What has come over a connection so far, and whether it is still open.
pub(crate) fn drain(stream: &mut TcpStream) -> (Vec<u8>, bool) {
    stream.set_nonblocking(true).expect("a socket");
    let (mut bytes, mut page) = (Vec::new(), [0; 4_096]);
    let open = loop {
        match stream.read(&mut page) {
            Ok(0) => break false,
            Ok(count) => bytes.extend_from_slice(&page[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break true,
            // The end, of a connection with bytes that nobody read.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break false,
            Err(error) => panic!("{error}"),
        }
    };
    stream.set_nonblocking(false).expect("a socket");
    (bytes, open)
}

/// A request with its length.
pub(crate) fn request(body: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(body.len()).expect("short").to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// A registration of the current version.
pub(crate) fn alive2(name: &[u8], extra: &[u8]) -> Vec<u8> {
    request(&alive2_body(6, name, extra))
}

/// A registration without its length.
pub(crate) fn alive2_body(highest: u16, name: &[u8], extra: &[u8]) -> Vec<u8> {
    let mut body = vec![b'x', 0x0f, 0xa0, 77, 0];
    body.extend(highest.to_be_bytes());
    body.extend([0, 5]);
    for field in [name, extra] {
        body.extend(u16::try_from(field.len()).expect("short").to_be_bytes());
        body.extend_from_slice(field);
    }
    body
}
