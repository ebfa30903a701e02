//! `etcd`: the peers below a prefix of etcd's keys, by its third API over JSON.
//!
//! Each agent keeps a key of its own under a lease; the prefix is watched, so that a change is known at once. [`gateway`]
//! speaks, [`entry`] reads what keys say, [`watch`] is what one watch does from its first request to its end.
//!
//! Invariants: our key goes when its lease is not renewed, by etcd's clock. A watch that was compacted away begins anew
//! with a whole answer. What cannot be read hides nothing else.

mod entry;
mod error;
mod gateway;
mod watch;

use std::{path::PathBuf, sync::Arc};

use metacluster_types::Secret;
use tokio::time::Duration;

use self::gateway::{Gateway, Password, User};
use crate::{
    Feed, Gives, Naming, Pace, Strategy,
    feed::Work,
    naming::ROLES_FROM,
    settings::{Absent, Key, Kind, Reader},
    tls::{self, TlsFiles},
};

pub(crate) const GIVES: Gives = Gives::Both;

pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "endpoints",
        kind: Kind::Texts,
        absent: Absent::Default("http://127.0.0.1:2379"),
        doc: "The servers, such as `https://etcd1:2379`; they are tried in turn",
    },
    Key {
        name: "prefix",
        kind: Kind::Text,
        absent: Absent::Unset("`/metacluster/CLUSTER/`, with the cluster's name"),
        doc: "What the keys of the peers begin with; a value is a node's name, several, or a JSON object with fields such as `node`, `address`, `zone`, `tags`",
    },
    Key {
        name: "register",
        kind: Kind::Boolean,
        absent: Absent::Default("true"),
        doc: "Whether this agent writes a key with its nodes",
    },
    Key {
        name: "lease",
        kind: Kind::Duration { least_ms: 2_000, most_ms: 3_600_000 },
        absent: Absent::Default("15s"),
        doc: "How long our key holds without being renewed, in whole seconds; it is renewed three times as often",
    },
    Key { name: "username", kind: Kind::Text, absent: Absent::Unset("nobody"), doc: "The user, where etcd has them" },
    Key { name: "password", kind: Kind::Secret, absent: Absent::Unset("none"), doc: "The user's password" },
    Key {
        name: "password_file",
        kind: Kind::Path,
        absent: Absent::Unset("no file"),
        doc: "A file that holds the password; it is read for each token, so it may change",
    },
    tls::CA_FILE,
    tls::CERTIFICATE_FILE,
    tls::KEY_FILE,
    ROLES_FROM,
    Key {
        name: "interval",
        kind: Kind::Duration { least_ms: 100, most_ms: 3_600_000 },
        absent: Absent::Default("30s"),
        doc: "How often all keys are read beside the watch",
    },
    Pace::timeout("5s"),
];

/// The strategy.
struct Etcd {
    endpoints: Vec<String>,
    files: TlsFiles,
    user: Option<User>,
    settings: Settings,
}

/// What a watch needs to know.
#[derive(Clone)]
struct Settings {
    prefix: Option<String>,
    register: bool,
    lease: Duration,
    pace: Pace,
    naming: Naming,
}

pub(crate) fn make(reader: &mut Reader<'_>) -> Box<dyn Strategy> {
    let endpoints = reader.texts("endpoints");
    for endpoint in &endpoints {
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            reader.fault("endpoints", "holds what is no address: expected `http://host:2379` or `https://host:2379`");
        }
    }
    let prefix = reader.text("prefix");
    let (name, password, file) = (reader.text("username"), reader.secret("password"), reader.path("password_file"));
    let user = user(reader, name, password, file);
    let settings = Settings {
        prefix,
        register: reader.boolean("register"),
        lease: reader.duration("lease"),
        pace: Pace::read(reader),
        naming: Naming::read(reader, GIVES),
    };
    Box::new(Etcd { endpoints, files: TlsFiles::read(reader), user, settings })
}

fn user(reader: &mut Reader<'_>, name: Option<String>, given: Option<Secret>, file: Option<PathBuf>) -> Option<User> {
    let password = match (given, file) {
        (Some(_), Some(_)) => {
            reader.fault("password_file", "`password` is given too: leave one of them out");
            return None;
        }
        (Some(secret), None) => Some(Password::Given(secret)),
        (None, Some(path)) => Some(Password::File(path)),
        (None, None) => None,
    };
    match (name, password) {
        (Some(name), Some(password)) => Some(User { name, password }),
        (Some(_), None) => {
            reader.fault("username", "has no password: give `password_file`");
            None
        }
        (None, Some(_)) => {
            reader.fault("username", "is missing: there is a password");
            None
        }
        (None, None) => None,
    }
}

impl Strategy for Etcd {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move {
            let prefix = match &self.settings.prefix {
                Some(prefix) => prefix.clone(),
                None => format!("/metacluster/{}/", feed.local().borrow().cluster),
            };
            let (files, endpoints, user) = (self.files.clone(), self.endpoints.clone(), self.user.clone());
            let gateway = Gateway::new(files, endpoints, user, self.settings.pace.timeout, prefix.clone());
            watch::run(Arc::new(gateway), self.settings.clone(), prefix, feed).await;
        })
    }
}
