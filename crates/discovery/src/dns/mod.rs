//! `dns`: the hosts that A, AAAA and SRV records name.
//!
//! [`resolver`] asks servers, [`look`] makes hosts of what all names have. Names are asked again when the shortest TTL of
//! the answer ends. A name that is not there (NXDOMAIN) is a failure, not an empty answer: it is what a slip in `query`,
//! a zone that was not loaded and a server that does not have the zone look like too. A name that is there and has no
//! record of the kind says that nobody is left.

mod look;
pub(crate) mod resolver;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use hickory_resolver::proto::rr::Name;
use rand::RngExt;
use tokio::{sync::Mutex, time::Duration};

use self::{look::Memory, resolver::SERVERS_MAX};
use crate::{
    Feed, Gives, Naming, Pace, Poll, Strategy,
    feed::Work,
    settings::{Absent, Key, Kind, Reader},
};

/// How many names one topology asks for.
const QUERIES_MAX: usize = 64;
/// How many names or questions are named in a line.
const NAMED_MAX: usize = 3;
/// The port of DNS.
const PORT: u16 = 53;
/// After a TTL has ended it takes this long at most until the next look-up.
const AFTER_TTL: Duration = Duration::from_millis(300);

pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "query",
        kind: Kind::Texts,
        absent: Absent::Required,
        doc: "The names to look up, at most 64; one without a dot at its end goes through the search list of the system",
    },
    Key {
        name: "type",
        kind: Kind::OneOf(&["auto", "a", "aaaa", "srv"]),
        absent: Absent::Default("auto"),
        doc: "The records; `auto` takes SRV for a name that begins with `_`, else A, and AAAA where there is no A or \
              `addresses` is `ipv6`",
    },
    Key {
        name: "servers",
        kind: Kind::Texts,
        absent: Absent::Unset("those of /etc/resolv.conf, after /etc/hosts"),
        doc: "The servers to ask, at most 8, as 10.0.0.2 or 10.0.0.2:5353",
    },
    Key {
        name: "interval",
        kind: Kind::Duration { least_ms: 1_000, most_ms: 3_600_000 },
        absent: Absent::Default("30s"),
        doc: "The longest time between two look-ups; a shorter TTL of the records goes before it",
    },
    Key {
        name: "interval_min",
        kind: Kind::Duration { least_ms: 100, most_ms: 3_600_000 },
        absent: Absent::Default("1s"),
        doc: "The shortest time between two look-ups, however short the TTL is",
    },
    Pace::timeout("5s"),
];

/// The records that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RecordKind {
    Auto,
    A,
    Aaaa,
    Srv,
}

#[derive(Debug)]
struct Dns {
    queries: Vec<String>,
    kind: RecordKind,
    servers: Vec<SocketAddr>,
    naming: Naming,
    pace: Pace,
    shortest: Duration,
}

pub(crate) fn make(reader: &mut Reader<'_>) -> Box<dyn Strategy> {
    let queries = reader.texts("query");
    for query in &queries {
        if query.parse::<IpAddr>().is_ok() {
            reader.fault("query", &format!("`{query}` is an address, not a name: give hosts by address to `file`"));
        } else if let Err(error) = Name::from_utf8(query) {
            reader.fault("query", &format!("`{query}` is no name in DNS: {error}"));
        }
    }
    if queries.len() > QUERIES_MAX {
        reader.fault("query", &format!("holds {} names: at most {QUERIES_MAX}", queries.len()));
    }
    let texts = reader.texts("servers");
    if texts.len() > SERVERS_MAX {
        reader.fault("servers", &format!("holds {} servers: at most {SERVERS_MAX}", texts.len()));
    }
    let mut servers = Vec::new();
    for text in &texts {
        match server(text) {
            Some(server) => servers.push(server),
            None => {
                reader.fault(
                    "servers",
                    &format!("`{text}` is no server: expected an address, such as 10.0.0.2 or 10.0.0.2:53"),
                );
            }
        }
    }
    let kind = match reader.text("type").as_deref() {
        Some("a") => RecordKind::A,
        Some("aaaa") => RecordKind::Aaaa,
        Some("srv") => RecordKind::Srv,
        Some(_) | None => RecordKind::Auto,
    };
    let (pace, shortest) = (Pace::read(reader), reader.duration("interval_min"));
    if shortest > pace.interval {
        reader.fault("interval_min", "is longer than `interval`");
    }
    Box::new(Dns { queries, kind, servers, naming: Naming::read(reader, Gives::Hosts), pace, shortest })
}

fn server(text: &str) -> Option<SocketAddr> {
    let address = || text.parse::<IpAddr>().map(|address| SocketAddr::new(address, PORT));
    text.parse().or_else(|_| address()).ok()
}

impl Dns {
    /// The names that are asked for, some of very many.
    fn named(&self) -> String {
        let named: Vec<String> = self.queries.iter().take(NAMED_MAX).map(|name| format!("`{name}`")).collect();
        let more = self.queries.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        named.join(", ") + &more
    }

    /// How long an answer of this TTL is kept: a little longer than it holds, so that a server which counts it down has
    /// a new one.
    fn wait(&self, ttl: Option<Duration>) -> Duration {
        let ttl = ttl.unwrap_or(self.pace.interval).min(self.pace.interval);
        ttl.max(self.shortest) + AFTER_TTL.mul_f64(rand::rng().random_range(0.0..1.0))
    }
}

impl Strategy for Dns {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move {
            let memory = Arc::new(Mutex::new(Memory::default()));
            let look = || look::look_up(Arc::clone(&self), Arc::clone(&memory));
            // The whole look-up may ask for names twice, for SRV records and for their targets.
            let pace = Pace { timeout: self.pace.timeout * 2, ..self.pace };
            Poll::new(pace).asks(format!("the DNS servers for {}", self.named())).run(&feed, look).await;
        })
    }
}
