//! The table of keys. It makes the parser, the names of the environment variables, the reference and the tests.

use std::{fmt::Write as _, time::Duration};

/// A key of the configuration.
pub(super) struct Key {
    /// Its path, such as `epmd.port`; within an entry of `[[handler]]` the name alone.
    pub(super) path: &'static str,
    /// What it takes.
    pub(super) kind: Kind,
    /// What holds when nobody says anything.
    pub(super) default: Default,
    /// One line.
    pub(super) doc: &'static str,
}

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Text,
    Path,
    /// A TCP port but zero.
    Port,
    Count {
        min: u64,
        max: u64,
    },
    Duration {
        min: Duration,
    },
    Choice(&'static [&'static str]),
    /// Yes or no.
    Flag,
    List,
    Map,
}

/// What holds when nobody says anything.
pub(super) enum Default {
    /// This text, in the form of an environment variable.
    Fixed(&'static str),
    /// Worked out; the words say how.
    Computed(&'static str),
    /// It must be said.
    Required,
}

use Default::{Computed, Fixed, Required};

const fn key(path: &'static str, kind: Kind, default: Default, doc: &'static str) -> Key {
    Key { path, kind, default, doc }
}

/// The keys that stand once.
pub(super) const KEYS: &[Key] = &[
    key("cluster", Kind::Text, Fixed("main"), "The cluster of this host."),
    key(
        "zone",
        Kind::Text,
        Fixed("local"),
        "The availability zone of this host. Where nobody says it, an instance or a task of AWS takes what AWS says.",
    ),
    key("region", Kind::Text, Computed("what AWS says of an instance or a task"), "The region of this host."),
    key("roles", Kind::List, Fixed(""), "What this host is for, such as `web`."),
    key("tags", Kind::Map, Fixed(""), "Labels of this host."),
    key(
        "cookie_file",
        Kind::Path,
        Computed("~/.erlang.cookie"),
        "The file with the cookie of the local nodes. METACLUSTER_COOKIE holds the cookie itself and wins.",
    ),
    key(
        "state_dir",
        Kind::Path,
        Computed("/var/lib/metacluster for root or where it is writable, else ~/.local/state/metacluster"),
        "Where the agent keeps its id and its socket.",
    ),
    key("node_name", Kind::Text, Fixed("metacluster"), "The part before @ of the agent's own node."),
    key("host", Kind::Text, Computed("learned from the local nodes"), "The part after @ of the agent's own node."),
    key(
        "listen",
        Kind::Text,
        Computed("a free port, for this host only"),
        "Where the agent's own node takes connections of BEAM nodes, such as 0.0.0.0:0; port 0 takes a free one, which \
         epmd then knows. Without it only nodes of this host are let in.",
    ),
    key(
        "distribution.certificate",
        Kind::Path,
        Computed("none: plain distribution"),
        "The file with the certificate of this host, in PEM form. With it the agent and the BEAM nodes speak TLS, as \
         `-proto_dist inet_tls`, and nothing else. A file that changes is read again before the next connection; this goes \
         for the three files.",
    ),
    key(
        "distribution.key",
        Kind::Path,
        Computed("the file of the certificate"),
        "The file with the key of the certificate, in PEM form and without a password.",
    ),
    key(
        "distribution.authorities",
        Kind::Path,
        Computed("none"),
        "The file with the certificates of the authorities that sign those of the nodes, in PEM form. TLS must have it.",
    ),
    key(
        "distribution.names",
        Kind::Choice(&["never", "dialled", "always"]),
        Fixed("dialled"),
        "Whose certificate must name the node that shows it: nobody's, that of a node that the agent dials, or that of a \
         node that dials the agent, too. A certificate names hosts and nodes as `inet_tls_dist:verify_client/3` has it.",
    ),
    key(
        "distribution.client_certificates",
        Kind::Flag,
        Fixed("true"),
        "Whether a node that dials the agent must show a certificate.",
    ),
    key(
        "nodes.names",
        Kind::List,
        Computed("all that take the cookie"),
        "Which local nodes are ours: names before @, or whole ones, with `*` and `?`.",
    ),
    key(
        "epmd.mode",
        Kind::Choice(&["auto", "own", "external"]),
        Fixed("auto"),
        "Who is the epmd: the agent where the port is free, the agent or nobody, or the one that runs.",
    ),
    key("epmd.port", Kind::Port, Computed("ERL_EPMD_PORT, else 4369"), "The port of epmd."),
    key(
        "epmd.addresses",
        Kind::List,
        Computed("every address"),
        "Where the agent's epmd listens. Loopback is always among them.",
    ),
    key(
        "epmd.allow",
        Kind::List,
        Computed("everybody"),
        "Which networks may ask the agent's epmd who is registered, such as 10.0.0.0/8. This host always may.",
    ),
    key(
        "epmd.poll_interval",
        Kind::Duration { min: Duration::from_secs(1) },
        Fixed("1s"),
        "How often an epmd that is not the agent is asked.",
    ),
    key(
        "readiness.nodes_min",
        Kind::Count { min: 0, max: 100_000 },
        Fixed("1"),
        "How many nodes must be up, those of this host included.",
    ),
    key("readiness.mandatory", Kind::List, Fixed(""), "Peers that must be up, by their whole names."),
    key(
        "readiness.timeout",
        Kind::Duration { min: Duration::ZERO },
        Fixed("60s"),
        "How long a start may take before the agent says that it is not formed.",
    ),
    key(
        "federation.listen",
        Kind::Text,
        Computed("nowhere"),
        "Where this agent takes links of gateways of other clusters, such as 0.0.0.0:4391. This or `federation.peers` \
         makes it a gateway.",
    ),
    key(
        "federation.peers",
        Kind::List,
        Fixed(""),
        "Gateways of other clusters that it dials, such as gw.west.example:4391.",
    ),
    key(
        "federation.identity",
        Kind::Path,
        Computed("none"),
        "The file with the gateway's certificate and key, as `metacluster federation issue` makes it. A gateway must have \
         one.",
    ),
    key(
        "federation.trust",
        Kind::List,
        Fixed(""),
        "The files with the certificates of the clusters that are let in. A gateway must have one at least.",
    ),
    key(
        "federation.compress",
        Kind::Flag,
        Fixed("false"),
        "Whether links are compressed (zstd) to gateways that have the same here: what is large enough and shrinks. It costs \
         processor time, and who can have text of their own sent beside a secret, and watches the link, may learn of it by \
         the length.",
    ),
    key(
        "federation.messages_per_second",
        Kind::Count { min: 1, max: u32::MAX as u64 },
        Computed("no limit"),
        "How many messages, monitors and links one gateway of another cluster may bring in a second; more are refused and \
         counted.",
    ),
    key(
        "federation.bytes_per_second",
        Kind::Count { min: 1, max: u32::MAX as u64 },
        Computed("no limit"),
        "How many bytes of messages one may bring in a second; a message of any size has its turn.",
    ),
    key(
        "federation.identifiers_max",
        Kind::Count { min: 100, max: 1 << 24 },
        Fixed("524288"),
        "How many pids, and as many references, of other clusters are kept of one gateway. Past it the one that was idle \
         longest goes; if none is idle, the message is refused.",
    ),
    key(
        "federation.members_max",
        Kind::Count { min: 1, max: 1 << 24 },
        Fixed("262144"),
        "How many members of groups one gateway may announce; more are not published.",
    ),
    key(
        "cells.by",
        Kind::Text,
        Computed("none: all nodes are one mesh"),
        "Divides the cluster into cells, each a mesh of its own: `zone`, `tag:NAME`, or `size` for by number alone. Must be \
         the same on every agent, as the two bounds.",
    ),
    key(
        "cells.nodes_max",
        Kind::Count { min: 2, max: 100_000 },
        Fixed("50"),
        "The most nodes of a cell. The nodes of a host are never divided.",
    ),
    key(
        "cells.nodes_min",
        Kind::Count { min: 1, max: 100_000 },
        Fixed("3"),
        "The fewest nodes of a cell, where a zone or tag has as many; goes before the most.",
    ),
    key(
        "cells.gateways",
        Kind::Count { min: 1, max: 8 },
        Fixed("2"),
        "How many of the agents of a cell that have `[federation]` are its gateways to the other cells.",
    ),
    key("api.socket", Kind::Path, Computed("metacluster.sock in state_dir"), "The Unix socket of the API."),
    key(
        "api.http",
        Kind::Text,
        Fixed("127.0.0.1:4390"),
        "The loopback address of the HTTP API and the dashboard, or `off`.",
    ),
    key(
        "membership.enabled",
        Kind::Flag,
        Fixed("true"),
        "Whether agents look for one another and tell one another of their hosts.",
    ),
    key(
        "membership.listen",
        Kind::Text,
        Computed("the address of `listen`, else every address"),
        "The address, without a port, on which the agent takes packets (UDP) and streams (TCP) of other agents.",
    ),
    key(
        "membership.port",
        Kind::Port,
        Computed("45893; where that is taken, a free one"),
        "The port for both, here and, unless their source says otherwise, on other hosts.",
    ),
    key(
        "membership.advertise",
        Kind::Text,
        Computed("the host of a local node, else `host`, else the default route's address"),
        "The address that other agents are given, with a port or without.",
    ),
    key(
        "membership.profile",
        Kind::Choice(&["local", "lan", "wan"]),
        Fixed("lan"),
        "How fast agents probe one another: on one machine, in one region, or in several. The same on all hosts.",
    ),
    key(
        "membership.encryption",
        Kind::Choice(&["required", "preferred", "off"]),
        Fixed("required"),
        "Whether packets are sealed and others refused, sealed and others taken (while it is turned on), or neither.",
    ),
    key(
        "membership.key_file",
        Kind::Path,
        Computed("a key derived from the cookie and `cluster`"),
        "The file with the keys, one a line as 64 hexadecimal digits: the first seals, each opens.",
    ),
    key(
        "membership.candidates",
        Kind::Flag,
        Computed("true, unless a topology has `prune` or `local_nodes`"),
        "Whether the nodes of other members are linked to, as the topology `members`.",
    ),
    key(
        "membership.instance",
        Kind::Text,
        Computed("what AWS says of an instance or a task"),
        "The id that the provider gave this host, such as i-0123456789abcdef0: when a source says that it has \
         terminated, this member ends.",
    ),
    key("events.keep", Kind::Count { min: 1, max: 1_000_000 }, Fixed("10000"), "How many events are kept for readers."),
    key("log.level", Kind::Choice(&["error", "warn", "info", "debug", "trace"]), Fixed("info"), "How much is logged."),
];

/// The keys of a `[[handler]]`.
pub(super) const HANDLER_KEYS: &[Key] = &[
    key(
        "on",
        Kind::List,
        Required,
        "The events that it is for, such as `nodedown`; `user:NAME` and `query:NAME` are user events and queries of that \
         name, with `*` and `?`.",
    ),
    key("command", Kind::List, Required, "The program and its arguments."),
    key("at_most", Kind::Count { min: 1, max: 1_000 }, Fixed("4"), "How many may run at once; others wait."),
    key(
        "timeout",
        Kind::Duration { min: Duration::from_millis(1) },
        Fixed("30s"),
        "How long one may run before it is killed.",
    ),
];

/// The keys of a `[[federation.export]]`.
pub(super) const EXPORT_KEYS: &[Key] = &[
    key("to", Kind::List, Required, "The clusters that may see the groups: names, with `*` and `?`."),
    key("scope", Kind::Text, Fixed("pg"), "The scope of `pg`."),
    key(
        "groups",
        Kind::List,
        Required,
        "The groups, with `*` and `?`: an atom or a text by itself, a tuple by its first element.",
    ),
];

/// The sections that stand any number of times.
pub(super) const ENTRIES: [&str; 4] = ["topology", "handler", "federation.export", "federation.topology"];

/// Variables that begin as ours do and are no keys: the cookie, the seeds of `launch-data`, and what a handler's command
/// gets (it may well start an agent).
pub(super) const OTHER_VARIABLES: [&str; 12] = [
    super::cookie::COOKIE_VARIABLE,
    "METACLUSTER_EVENT",
    "METACLUSTER_SEQ",
    "METACLUSTER_AT",
    "METACLUSTER_NODE",
    "METACLUSTER_MEMBER",
    "METACLUSTER_MEMBER_ID",
    "METACLUSTER_NAME",
    "METACLUSTER_TOPOLOGY",
    "METACLUSTER_REASON",
    "METACLUSTER_LOG",
    "METACLUSTER_SEEDS",
];

/// The environment variable of a key.
pub(super) fn variable(path: &str) -> String {
    match path {
        "api.socket" => "METACLUSTER_SOCKET".to_owned(),
        _ => format!("METACLUSTER_{}", path.replace('.', "_").to_uppercase()),
    }
}

impl Kind {
    /// What it takes, for a message and for the reference.
    pub(super) fn expected(self) -> String {
        match self {
            Self::Text => "a text".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Port => "a port from 1 to 65535".to_owned(),
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::Duration { min } if min.is_zero() => "a duration such as \"30s\"".to_owned(),
            Self::Duration { min } => {
                format!("a duration such as \"30s\", at least {}", metacluster_types::time::format_duration(min))
            }
            Self::Choice(words) => words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", "),
            Self::Flag => "true, false".to_owned(),
            Self::List => "a list of texts".to_owned(),
            Self::Map => "a table of texts".to_owned(),
        }
    }
}

/// The reference of every key, as Markdown. It is generated, so that it is never out of date.
#[must_use]
pub fn reference_markdown() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         The file is TOML. A flag wins over an environment variable, which wins over the file, which wins over the\n\
         default. In a variable, the items of a list are joined by commas, and a table is `key=value,key=value`.\n\n",
    );
    text.push_str("| key | takes | default | variable | meaning |\n|---|---|---|---|---|\n");
    for key in KEYS {
        row(&mut text, key, &format!("`{}`", variable(key.path)));
    }
    text.push_str("\n## `[[topology]]`\n\n");
    text.push_str("One entry a topology: the keys of every topology, and those of its strategy.\n\n");
    // Its headings go one level down.
    text.push_str(&metacluster_discovery::settings::reference().replace("## ", "### "));
    text.push_str("\n## `[[federation.export]]`\n\nOne entry a set of groups that other clusters may see. Without one, nothing is let out.\n\n");
    entry_rows(&mut text, EXPORT_KEYS);
    text.push_str("\n## `[[federation.topology]]`\n\nOne entry a way to find gateways of other clusters: the keys of a `[[topology]]`, but for `prune`, `local_nodes` and the guard's.\nThe hosts that it finds are dialled on the port that it names for them, or 4391.\n");
    text.push_str("\n## `[[handler]]`\n\nOne entry a command that runs on events.\n\n");
    entry_rows(&mut text, HANDLER_KEYS);
    text
}

fn entry_rows(text: &mut String, keys: &[Key]) {
    text.push_str("| key | takes | default | meaning |\n|---|---|---|---|\n");
    for key in keys {
        row(text, key, "");
    }
}

fn row(text: &mut String, key: &Key, variable: &str) {
    let default = match key.default {
        Fixed("") => "none".to_owned(),
        Fixed(value) => format!("`{value}`"),
        Computed(words) => words.to_owned(),
        Required => "must be said".to_owned(),
    };
    let variable = if variable.is_empty() { String::new() } else { format!(" {variable} |") };
    push(text, format_args!("| `{}` | {} | {default} |{variable} {} |\n", key.path, key.kind.expected(), key.doc));
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).expect("a String takes all that is written");
}
