//! The agent's own nodes: one hidden node for each host part that the local nodes use.
//!
//! A local node `shop@10.0.0.4` meets `metacluster@10.0.0.4`, and `shop@web` meets `metacluster@web`, so that each can
//! answer in the form of name that it understands. All of them share the one listener that epmd knows.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use metacluster_erl::{Node, NodeOptions, Tls};
use metacluster_types::{Cookie, NameError, NodeName};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tracing::debug;

/// How many host parts one agent serves; a host has one or two.
const HOSTS_MAX: usize = 64;

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
        let caller = timeout(Duration::from_secs(2), caller(&stream)).await.ok().flatten();
        let node = match caller {
            Some(caller) => self.named_like(&caller),
            None => self.any(),
        };
        if let Ok(node) = node {
            node.accept(stream);
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

/// Reads the caller's name out of its first message (`send_name`) without taking it from the socket.
async fn caller(stream: &TcpStream) -> Option<NodeName> {
    // Length, `N`, flags, creation, length of the name, and a name of at most 255 characters.
    let mut head = [0_u8; 2 + 1 + 8 + 4 + 2 + 1_020];
    loop {
        stream.readable().await.ok()?;
        let length = stream.peek(&mut head).await.ok()?;
        let got = head.get(..length)?;
        match read_name(got) {
            Name::Whole(name) => return Some(name),
            Name::Partial if length > 0 && length < head.len() => {
                // The rest is on its way; `readable` would be true at once for what is there already.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Name::Partial | Name::Other => return None,
        }
    }
}

enum Name {
    Whole(NodeName),
    Partial,
    Other,
}

fn read_name(head: &[u8]) -> Name {
    const NAME_AT: usize = 17;
    match head.get(2) {
        None => return Name::Partial,
        Some(b'N') => {}
        Some(_) => return Name::Other,
    }
    let Some(&[high, low]) = head.get(NAME_AT - 2..NAME_AT) else { return Name::Partial };
    let length = usize::from(u16::from_be_bytes([high, low]));
    match head.get(NAME_AT..NAME_AT + length) {
        None => Name::Partial,
        Some(name) => {
            std::str::from_utf8(name).ok().and_then(|name| NodeName::new(name).ok()).map_or(Name::Other, Name::Whole)
        }
    }
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
            assert!(matches!(read_name(&message[..end]), Name::Partial), "{end}");
        }
        let Name::Whole(name) = read_name(&message) else { panic!("a name") };
        assert_eq!(name.as_str(), "shop@10.0.0.4");
        assert!(matches!(read_name(b"GET / HTTP/1.1"), Name::Other));
        assert!(matches!(read_name(&send_name("nohost")), Name::Other));
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
