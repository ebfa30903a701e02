//! How a node is to be: its name, cookie, times and bounds.

use std::time::Duration;

use metacluster_types::{Cookie, NodeName};

use super::{functions::Functions, tls::Tls};

/// The settings of a [`Node`](super::Node).
#[derive(Clone)]
pub struct NodeOptions {
    /// The node's name.
    pub name: NodeName,
    /// The cookie that its peers must prove to know.
    pub cookie: Cookie,
    /// Hidden nodes are in no `nodes()` of a peer and take no part in `global`. Default true. A visible one
    /// is called along with all `nodes()`, and its peers get an answer to each such call; but it speaks no protocol of
    /// `global`, so `global:sync/0` of a peer waits for as long as it is connected.
    pub hidden: bool,
    /// Whether a peer that has no name (`erl -sname undefined`) gets one from us when it dials, as OTP does. Default false.
    pub dynamic_names: bool,
    /// Distribution over TLS, on every connection, as `-proto_dist inet_tls`. Default: plain.
    pub tls: Option<Tls>,
    /// The functions that peers may start here. Default: none, and every request is refused with `notsup`.
    pub functions: Functions,
    /// A tick goes out when nothing was written for so long; a peer that sent no byte in four of these is down.
    /// Default 15 s, which is OTP's `net_ticktime` of 60 s; it must be the same in the whole cluster.
    pub tick_interval: Duration,
    /// The time for a dial with its handshake, either way. Default 7 s, OTP's `net_setuptime`.
    pub connect_timeout: Duration,
    /// Tells this life of the node from an earlier one. Default: random, at least 4.
    pub creation: Option<u32>,
    /// Bytes that may wait for a peer; past that a send is refused as busy. One message of any size always fits an
    /// empty queue. Default 8 MiB.
    pub queue_bytes_max: usize,
    /// Messages that may wait in the mailbox of a process; past that they are dropped and counted. Default 16,384.
    pub mailbox_messages_max: usize,
    /// The largest message that a peer may send, in bytes. A larger one ends the connection. Default 64 MiB.
    pub message_bytes_max: usize,
    /// Handshakes of peers that may be under way at once; past that a connection is closed as it comes. Default 256.
    pub handshakes_max: usize,
    /// Links and monitors that peers may hold on one process; past that they get `system_limit`. Default 200,000.
    pub watchers_max: usize,
}

impl NodeOptions {
    /// The defaults for this name and cookie.
    #[must_use]
    pub fn new(name: NodeName, cookie: Cookie) -> Self {
        Self {
            name,
            cookie,
            hidden: true,
            dynamic_names: false,
            tls: None,
            functions: Functions::default(),
            tick_interval: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(7),
            creation: None,
            queue_bytes_max: 8 << 20,
            mailbox_messages_max: 16_384,
            message_bytes_max: 64 << 20,
            handshakes_max: 256,
            watchers_max: 200_000,
        }
    }

    /// The time without a byte after which a peer is down: four tick intervals, as OTP's `net_tickintensity` has it.
    #[must_use]
    pub fn tick_time(&self) -> Duration {
        self.tick_interval * 4
    }
}
