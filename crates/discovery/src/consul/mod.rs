//! `consul`: the instances of a service, as Consul's health checks or its catalogue know them.
//!
//! Each datacentre is asked by blocking queries ([`query`]), so that a change is known at once; [`instance`] reads what
//! comes, [`register`] registers the nodes of this host with a check that this agent keeps up.
//!
//! Invariants: a datacentre that fails keeps the peers it gave last. An answer that the token's rights emptied is a
//! failure, not an answer.

mod instance;
mod query;
mod register;

use std::sync::Arc;

use tokio::time::Duration;

use self::query::{Query, Token};
use crate::{
    Feed, Gives, Naming, Strategy,
    feed::Work,
    naming::ROLES_FROM,
    poll::Pace,
    settings::{Absent, Key, Kind, Reader},
    tls::{self, TlsFiles},
};

pub(crate) const GIVES: Gives = Gives::Both;

pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "address",
        kind: Kind::Text,
        absent: Absent::Default("http://127.0.0.1:8500"),
        doc: "The HTTP API of an agent of Consul",
    },
    Key { name: "service", kind: Kind::Text, absent: Absent::Required, doc: "The name of the service" },
    Key {
        name: "from",
        kind: Kind::OneOf(&["health", "catalog"]),
        absent: Absent::Default("health"),
        doc: "Which list is read: `health` knows the state of checks, `catalog` does not",
    },
    Key {
        name: "passing",
        kind: Kind::Boolean,
        absent: Absent::Default("true"),
        doc: "With `health`: only instances whose checks all pass; else one that is critical is known and no candidate",
    },
    Key { name: "tag", kind: Kind::Texts, absent: Absent::Unset("any"), doc: "Only instances with each of these tags" },
    Key {
        name: "filter",
        kind: Kind::Text,
        absent: Absent::Unset("none"),
        doc: "An expression of Consul's filtering language, such as `Node.Meta.rack == \"7\"`",
    },
    Key {
        name: "datacenters",
        kind: Kind::Texts,
        absent: Absent::Unset("the one of the agent that is asked"),
        doc: "The datacentres; `*` stands for all that Consul knows",
    },
    Key { name: "token", kind: Kind::Secret, absent: Absent::Unset("the anonymous one"), doc: "The ACL token" },
    Key {
        name: "token_file",
        kind: Kind::Path,
        absent: Absent::Unset("no file"),
        doc: "A file that holds the token; it is read for each request, so it may change",
    },
    Key {
        name: "register",
        kind: Kind::Boolean,
        absent: Absent::Default("false"),
        doc: "Whether each node of this host is registered as an instance of the service",
    },
    Key {
        name: "lease",
        kind: Kind::Duration { least_ms: 2_000, most_ms: 3_600_000 },
        absent: Absent::Default("15s"),
        doc: "With `register`: after how long without a word from this agent an instance is critical (the TTL of its check)",
    },
    tls::CA_FILE,
    tls::CERTIFICATE_FILE,
    tls::KEY_FILE,
    ROLES_FROM,
    Key {
        name: "interval",
        kind: Kind::Duration { least_ms: 1_000, most_ms: 600_000 },
        absent: Absent::Default("60s"),
        doc: "How long a blocking query waits for a change before it is asked anew",
    },
    Pace::timeout("5s"),
];

/// The strategy.
struct Consul {
    query: Arc<Query>,
    files: TlsFiles,
    datacenters: Vec<String>,
    registers: bool,
    lease: Duration,
    naming: Naming,
}

pub(crate) fn make(reader: &mut Reader<'_>) -> Box<dyn Strategy> {
    let address = reader.text("address").unwrap_or_default();
    if !address.starts_with("http://") && !address.starts_with("https://") {
        reader.fault("address", "is no address: expected `http://host:8500` or `https://host:8501`");
    }
    let token = match (reader.secret("token"), reader.path("token_file")) {
        (Some(_), Some(_)) => {
            reader.fault("token_file", "`token` is given too: leave one of them out");
            Token::None
        }
        (Some(secret), None) => Token::Given(secret),
        (None, Some(path)) => Token::File(path),
        (None, None) => Token::None,
    };
    let pace = Pace::read(reader);
    let query = Query {
        address: address.trim_end_matches('/').to_owned(),
        service: reader.text("service").unwrap_or_default(),
        health: reader.text("from").as_deref() != Some("catalog"),
        passing: reader.boolean("passing"),
        tags: reader.texts("tag"),
        filter: reader.text("filter"),
        token,
        wait: pace.interval,
        within: pace.timeout,
    };
    if !query.health && reader.is_given("passing") {
        reader.fault("passing", "has no use with `from = catalog`, which knows no checks");
    }
    Box::new(Consul {
        query: Arc::new(query),
        files: TlsFiles::read(reader),
        datacenters: reader.texts("datacenters"),
        registers: reader.boolean("register"),
        lease: reader.duration("lease"),
        naming: Naming::read(reader, GIVES),
    })
}

impl Strategy for Consul {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move {
            let client = Arc::new(crate::http::Client::new(self.files.clone()));
            let registers = self.registers && !feed.is_alone();
            let registration = registers.then(|| {
                Arc::new(register::Registration::new(Arc::clone(&client), Arc::clone(&self.query), self.lease))
            });
            crate::watch(&feed, |stream| {
                let merge = query::Merge {
                    client: Arc::clone(&client),
                    query: Arc::clone(&self.query),
                    datacenters: self.datacenters.clone(),
                    naming: self.naming.clone(),
                    own: (!feed.is_alone()).then(|| feed.local().borrow().agent),
                };
                merge.run(stream, registration.clone(), feed.local())
            })
            .await;
            if let Some(registration) = registration {
                registration.leave().await;
            }
        })
    }
}
