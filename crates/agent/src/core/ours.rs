//! The agent's own nodes: one hidden node for each host part that the local nodes use.
//!
//! A local node `shop@10.0.0.4` meets `metacluster@10.0.0.4`, and `shop@web` meets `metacluster@web`, so that each can
//! answer in the form of name that it understands. All of them share the one listener that epmd knows: which one a peer has
//! dialled is told by what it says first, its own name or, in TLS, the host part that it dials.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use metacluster_erl::{Node, NodeOptions, Tls};
use metacluster_types::{Cookie, NameError, NodeName};
use rustls::server::Acceptor;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tracing::debug;

/// How many host parts one agent serves; a host has one or two.
const HOSTS_MAX: usize = 64;

/// The longest first message that is waited for: a name has at most 255 characters, a greeting of TLS one record.
const NAME_BYTES_MAX: usize = 2 + 1 + 8 + 4 + 2 + 1_020;
const HELLO_BYTES_MAX: usize = 5 + (16 << 10);

/// The nodes, made as they are needed.
pub(crate) struct Ours {
    basename: String,
    cookie: Cookie,
    tls: Option<Tls>,
    fallback: String,
    nodes: Mutex<BTreeMap<String, Node>>,
    made: mpsc::UnboundedSender<Node>,
}

impl Ours {
    /// Nothing is made yet. Each node that is made later also goes to `made`, which is bounded by [`HOSTS_MAX`].
    pub(crate) fn new(
        basename: &str,
        fallback: &str,
        cookie: Cookie,
        tls: Option<Tls>,
        made: mpsc::UnboundedSender<Node>,
    ) -> Self {
        let (basename, fallback) = (basename.to_owned(), fallback.to_owned());
        Self { basename, cookie, tls, fallback, nodes: Mutex::default(), made }
    }

    /// The node for a host part.
    ///
    /// # Errors
    /// When no name can be made of it.
    pub(crate) fn at(&self, host: &str) -> Result<Node, NameError> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = nodes.get(host) {
            return Ok(node.clone());
        }
        if nodes.len() >= HOSTS_MAX
            && let Some(first) = nodes.values().next()
        {
            return Ok(first.clone());
        }
        let name = NodeName::from_parts(&self.basename, host)?;
        let mut options = NodeOptions::new(name, self.cookie.clone());
        options.tls.clone_from(&self.tls);
        let node = Node::start(options);
        nodes.insert(host.to_owned(), node.clone());
        // The receiver lives as long as the agent; without it there is nobody left to serve.
        if self.made.send(node.clone()).is_err() {
            debug!("a node of ours was made while the agent ends");
        }
        Ok(node)
    }

    /// The node to try first, before the peer's host part is known.
    pub(crate) fn any(&self) -> Result<Node, NameError> {
        let known = self.nodes.lock().unwrap_or_else(PoisonError::into_inner).keys().next().cloned();
        self.at(known.as_deref().unwrap_or(&self.fallback))
    }

    /// Every node that was made.
    pub(crate) fn all(&self) -> Vec<Node> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Accepts connections until it is aborted, each under the name that its peer most likely dialled. With
    /// `this_host_only`, a peer from another host is turned away before a byte is read, as epmd does with registrations.
    pub(crate) async fn listen(self: std::sync::Arc<Self>, listener: TcpListener, this_host_only: bool) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let here =
                        stream.local_addr().is_ok_and(|local| local.ip() == peer.ip()) || peer.ip().is_loopback();
                    if this_host_only && !here {
                        debug!("{peer} is on another host; `listen` says where such nodes may connect");
                        continue;
                    }
                    let ours = std::sync::Arc::clone(&self);
                    tokio::spawn(async move { ours.accept(stream).await });
                }
                Err(error) => {
                    // Out of descriptors, most likely: leave it to those that exist to end.
                    debug!("accept: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn accept(&self, stream: TcpStream) {
        let patience = Duration::from_secs(2);
        let node = if self.tls.is_some() {
            let dialled = timeout(patience, first(&stream, HELLO_BYTES_MAX, read_hello)).await.ok().flatten().flatten();
            self.dialled_as(dialled.as_deref(), stream.local_addr().ok().map(|local| local.ip()))
        } else {
            match timeout(patience, first(&stream, NAME_BYTES_MAX, read_name)).await.ok().flatten() {
                Some(caller) => self.named_like(&caller),
                None => self.any(),
            }
        };
        if let Ok(node) = node {
            node.accept(stream);
        }
    }

    /// The node of the host part that the caller has dialled, which is a name, or the address that it has reached.
    fn dialled_as(&self, name: Option<&str>, reached: Option<IpAddr>) -> Result<Node, NameError> {
        let reached = reached.map(|address| address.to_canonical().to_string());
        let known: Vec<String> = self.nodes.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        let is_known = |host: &&str| known.iter().any(|known| known == host);
        match name.filter(is_known).or(reached.as_deref().filter(is_known)) {
            Some(host) => self.at(host),
            None => self.any(),
        }
    }

    /// The node on the caller's host, else one whose name has the caller's form.
    fn named_like(&self, caller: &NodeName) -> Result<Node, NameError> {
        let hosts: Vec<String> = self.nodes.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        let is_long = |host: &String| host.contains(['.', ':']);
        let host = hosts
            .iter()
            .find(|host| *host == caller.host())
            .or_else(|| hosts.iter().find(|host| is_long(host) == caller.is_long()));
        match host {
            Some(host) => self.at(host),
            None => self.any(),
        }
    }
}

/// Reads what matters out of the caller's first message without taking it from the socket.
async fn first<T>(stream: &TcpStream, bytes_max: usize, read: fn(&[u8]) -> First<T>) -> Option<T> {
    let mut head = vec![0; bytes_max];
    loop {
        stream.readable().await.ok()?;
        let length = stream.peek(&mut head).await.ok()?;
        let got = head.get(..length)?;
        match read(got) {
            First::Whole(read) => return Some(read),
            First::Partial if length > 0 && length < head.len() => {
                // The rest is on its way; `readable` would be true at once for what is there already.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            First::Partial | First::Other => return None,
        }
    }
}

/// What a caller says first, as far as it has come.
#[derive(Debug, PartialEq, Eq)]
enum First<T> {
    Whole(T),
    Partial,
    Other,
}

/// The caller's name, out of `send_name`.
fn read_name(head: &[u8]) -> First<NodeName> {
    // Length, `N`, flags, creation, length of the name, and the name.
    const NAME_AT: usize = 17;
    match head.get(2) {
        None => return First::Partial,
        Some(b'N') => {}
        Some(_) => return First::Other,
    }
    let Some(&[high, low]) = head.get(NAME_AT - 2..NAME_AT) else { return First::Partial };
    let length = usize::from(u16::from_be_bytes([high, low]));
    match head.get(NAME_AT..NAME_AT + length) {
        None => First::Partial,
        Some(name) => {
            std::str::from_utf8(name).ok().and_then(|name| NodeName::new(name).ok()).map_or(First::Other, First::Whole)
        }
    }
}

/// The name that is dialled, out of TLS's `ClientHello`. Nodes of OTP tell addresses there, too, which TLS does not know:
/// of those there is none.
fn read_hello(head: &[u8]) -> First<Option<String>> {
    let mut acceptor = Acceptor::default();
    let mut rest = head;
    while !rest.is_empty() {
        if acceptor.read_tls(&mut rest).is_err() {
            return First::Other;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return First::Whole(accepted.client_hello().server_name().map(str::to_owned)),
            Ok(None) => {}
            Err(_) => return First::Other,
        }
    }
    First::Partial
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send_name(name: &str) -> Vec<u8> {
        let mut message = vec![0, u8::try_from(15 + name.len()).expect("short"), b'N'];
        message.extend([0; 8 + 4]);
        message.extend(u16::try_from(name.len()).expect("short").to_be_bytes());
        message.extend(name.as_bytes());
        message
    }

    #[test]
    fn the_callers_name_is_read_from_any_prefix_or_not_at_all() {
        let message = send_name("shop@10.0.0.4");
        for end in 0..message.len() {
            assert_eq!(read_name(&message[..end]), First::Partial, "{end}");
        }
        assert_eq!(read_name(&message), First::Whole(NodeName::new("shop@10.0.0.4").expect("valid")));
        assert_eq!(read_name(b"GET / HTTP/1.1"), First::Other);
        assert_eq!(read_name(&send_name("nohost")), First::Other);
    }

    /// What a client of TLS says first to this host.
    fn hello(host: &str) -> Vec<u8> {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = host.to_owned().try_into().expect("a name");
        let mut client = rustls::ClientConnection::new(config.into(), name).expect("a client");
        let mut said = Vec::new();
        client.write_tls(&mut said).expect("memory");
        said
    }

    #[test]
    fn the_dialled_host_is_read_from_the_start_of_tls_or_not_at_all() {
        let message = hello("web");
        for end in 0..message.len() {
            assert_eq!(read_hello(&message[..end]), First::Partial, "{end}");
        }
        assert_eq!(read_hello(&message), First::Whole(Some("web".to_owned())));
        assert_eq!(read_hello(&hello("10.0.0.4")), First::Whole(None));
        // As OTP 25 greets `metacluster@127.0.0.1`: an address stands where TLS has names alone.
        let mut otp = hello("9-characters".get(..9).expect("nine"));
        let at = otp.windows(9).position(|name| name == b"9-charact").expect("in clear text");
        otp[at..at + 9].copy_from_slice(b"127.0.0.1");
        assert_eq!(read_hello(&otp), First::Whole(None));
        assert_eq!(read_hello(b"GET / HTTP/1.1"), First::Other);
    }

    #[tokio::test]
    async fn in_tls_the_node_is_the_one_that_was_dialled() {
        let (made, _seen) = mpsc::unbounded_channel();
        let ours = Ours::new("metacluster", "web", Cookie::new("x"), None, made);
        for host in ["web", "10.0.0.4"] {
            ours.at(host).expect("a name");
        }
        let dialled = |name, reached: &str| {
            let reached = Some(reached.parse().expect("an address"));
            ours.dialled_as(name, reached).expect("a name").name().to_string()
        };
        assert_eq!(dialled(Some("web"), "10.0.0.4"), "metacluster@web");
        assert_eq!(dialled(None, "::ffff:10.0.0.4"), "metacluster@10.0.0.4");
        assert_eq!(dialled(Some("elsewhere"), "10.0.0.4"), "metacluster@10.0.0.4", "a name that no local node has");
        assert_eq!(dialled(None, "127.0.0.1"), "metacluster@10.0.0.4", "any, which is the first");
    }

    #[tokio::test]
    async fn one_node_serves_one_host_part() {
        let (made, mut seen) = mpsc::unbounded_channel();
        let ours = Ours::new("metacluster", "web", Cookie::new("x"), None, made);
        assert_eq!(ours.any().expect("a name").name().as_str(), "metacluster@web");
        assert_eq!(ours.at("10.0.0.4").expect("a name").name().as_str(), "metacluster@10.0.0.4");
        assert_eq!(ours.at("web").expect("a name").name().as_str(), "metacluster@web");
        let names = |host: &str| {
            let caller = NodeName::new(&format!("shop@{host}")).expect("valid");
            ours.named_like(&caller).expect("a name").name().to_string()
        };
        assert_eq!(names("10.0.0.4"), "metacluster@10.0.0.4");
        assert_eq!(names("10.0.0.9"), "metacluster@10.0.0.4", "a long name calls a long name");
        assert_eq!(names("db"), "metacluster@web", "a short name calls a short name");
        assert!(seen.recv().await.is_some() && seen.recv().await.is_some());
        assert!(seen.try_recv().is_err(), "two host parts, two nodes");
    }
}
