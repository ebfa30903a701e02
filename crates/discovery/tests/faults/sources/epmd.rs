//! An epmd of a host on which thousands of nodes are registered, which no test could start.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use metacluster_testbed::Wire;

use super::{
    Source,
    servers::{Proxied, Server},
};

/// How often it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) struct Epmd {
    at: SocketAddr,
    names: Arc<Mutex<String>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn name(host: Ipv4Addr) -> String {
    format!("n{}", host.to_string().replace('.', "-"))
}

/// Each host becomes a name of the one host whose epmd it is.
struct Named(Proxied<Epmd>);

pub(crate) fn epmd() -> Option<impl Source> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let at = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("set");
    let (names, ends) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicBool::new(false)));
    let thread = thread::spawn({
        let (names, ends) = (Arc::clone(&names), Arc::clone(&ends));
        move || {
            while !ends.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut stream, _)) => {
                        stream.set_nonblocking(false).expect("set");
                        // A request for names, whole: NAMES_REQ and its length.
                        if stream.read_exact(&mut [0; 3]).is_ok() {
                            let text = names.lock().expect("whole").clone();
                            stream.write_all(&[&[0, 0, 0x11, 0x11][..], text.as_bytes()].concat()).ok();
                        }
                    }
                    Err(_) => thread::sleep(LOOK),
                }
            }
        }
    });
    Some(Named(Proxied::new(Epmd { at, names, ends, thread: Some(thread) })))
}

impl Server for Epmd {
    fn name(&self) -> &'static str {
        "epmd"
    }

    fn upstream(&self) -> SocketAddr {
        self.at
    }

    fn spec(&self, at: SocketAddr) -> String {
        format!("epmd:hosts={},epmd_port={},interval=500ms", at.ip(), at.port())
    }

    fn set(&self, hosts: &[Ipv4Addr]) {
        let lines = hosts.iter().map(|&host| format!("name {} at port 4000\n", name(host)));
        *self.names.lock().expect("whole") = lines.collect();
    }
}

impl Drop for Epmd {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it ends");
        }
    }
}

impl Source for Named {
    fn says(&self, wire: Wire) -> &'static str {
        self.0.says(wire)
    }

    /// An epmd has three seconds, which nobody can set.
    fn spec(&self, _: &str) -> String {
        self.0.server_spec()
    }

    fn node(&self, host: Ipv4Addr) -> String {
        format!("{}@127.0.0.1", name(host))
    }

    fn set(&self, hosts: &[Ipv4Addr]) {
        self.0.set(hosts);
    }

    fn wire(&mut self, wire: Wire) {
        self.0.wire(wire);
    }

    fn drunk(&self) -> Option<usize> {
        self.0.drunk()
    }

    /// So many names of one host count.
    fn hosts_max(&self) -> usize {
        4_096
    }
}
