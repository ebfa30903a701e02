//! `gossip`: heartbeats by UDP multicast or broadcast, byte-compatible with libcluster 3 in both directions.
//!
//! [`packet`] and [`seal`] are the format, [`engine`] is the machine, [`socket`] and [`interfaces`] are its hands,
//! [`drive`] joins them. A libcluster node on the same network is found and finds us; agents add their id, cluster and
//! place to their heartbeats, answer newcomers, and say goodbye.

mod drive;
mod engine;
mod ignored;
mod interfaces;
mod limit;
mod packet;
mod peers;
mod seal;
mod socket;
#[cfg(test)]
mod tests;

use std::{net::Ipv4Addr, sync::Arc};

use tokio::time::Duration;

use self::{
    engine::Rules,
    seal::Key as SecretKey,
    socket::{Address, Mode},
};
use crate::{
    Feed, Strategy,
    feed::Work,
    settings::{Absent, Key, Kind, Reader},
};

/// What one look-up listens for: the longest gap between two heartbeats of libcluster, and a little.
const LISTENS: Duration = Duration::from_millis(5200);

pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "port",
        kind: Kind::Integer { least: 1, most: 65_535 },
        absent: Absent::Default("45892"),
        doc: "The UDP port, the same on every host; libcluster nodes of this host may share it",
    },
    Key {
        name: "secret",
        kind: Kind::Secret,
        absent: Absent::Unset("heartbeats are sent in the clear"),
        doc: "The secret of the group, as libcluster's `secret`",
    },
    Key {
        name: "secret_file",
        kind: Kind::Path,
        absent: Absent::Unset("no file"),
        doc: "A file that holds the secret; one line end at its end is left out",
    },
    Key {
        name: "multicast_addr",
        kind: Kind::Address,
        absent: Absent::Unset("233.252.1.32, or 255.255.255.255 with `broadcast_only`"),
        doc: "The group, or with `broadcast_only` the broadcast address",
    },
    Key {
        name: "multicast_if",
        kind: Kind::Address,
        absent: Absent::Unset("every interface that can"),
        doc: "The address of the one interface to join and to send through",
    },
    Key {
        name: "multicast_ttl",
        kind: Kind::Integer { least: 0, most: 255 },
        absent: Absent::Default("1"),
        doc: "How many networks a datagram may cross; 1 stays on the own one",
    },
    Key {
        name: "broadcast_only",
        kind: Kind::Boolean,
        absent: Absent::Default("false"),
        doc: "Broadcasts instead of multicasting",
    },
    Key {
        name: "if_addr",
        kind: Kind::Address,
        absent: Absent::Default("0.0.0.0"),
        doc: "The address to listen on; another one than 0.0.0.0 hears no multicast on Linux",
    },
    Key {
        name: "interval",
        kind: Kind::Duration { least_ms: 100, most_ms: 60_000 },
        absent: Absent::Default("1s"),
        doc: "The mean time between two heartbeats, each at a random half to one and a half of it",
    },
    Key {
        name: "expire",
        kind: Kind::Duration { least_ms: 1_000, most_ms: 3_600_000 },
        absent: Absent::Default("15s"),
        doc: "How long a peer may be silent; libcluster's heartbeats have gaps of up to 5 s",
    },
];

/// Gossip with its settings.
struct Gossip {
    rules: Rules,
    address: Address,
}

pub(crate) fn make(reader: &mut Reader<'_>) -> Box<dyn Strategy> {
    let group = reader.address("multicast_addr");
    let interface = reader.address("multicast_if");
    let ttl = reader.integer("multicast_ttl");
    let mode = if reader.boolean("broadcast_only") {
        if interface.is_some() {
            reader.fault("multicast_if", "has no use with `broadcast_only`: leave one of them out");
        }
        Mode::Broadcast { to: group.unwrap_or(Ipv4Addr::BROADCAST) }
    } else {
        let group = group.unwrap_or(Ipv4Addr::new(233, 252, 1, 32));
        if !group.is_multicast() {
            let message = format!("{group} is no multicast address: expected one in 224.0.0.0/4, or `broadcast_only`");
            reader.fault("multicast_addr", &message);
        }
        Mode::Multicast { group, interface, ttl }
    };
    let bind = reader.address("if_addr").unwrap_or(Ipv4Addr::UNSPECIFIED);
    let address = Address { bind, port: reader.integer("port"), mode };
    let (interval, expire) = (reader.duration("interval"), reader.duration("expire"));
    if expire < interval * 3 {
        reader.fault("expire", "is shorter than three times `interval`: one lost heartbeat must not cost a peer");
    }
    let rules =
        Rules { key: reader.secret_or_file("secret", "secret_file").as_ref().map(SecretKey::derive), interval, expire };
    Box::new(Gossip { rules, address })
}

impl Strategy for Gossip {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(drive::gossip(self.rules.clone(), self.address.clone(), feed))
    }

    fn listens(&self) -> Option<Duration> {
        Some(LISTENS)
    }
}

/// Bytes from their hexadecimal digits.
#[cfg(test)]
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("digits");
    digits.chunks(2).map(byte).collect()
}
