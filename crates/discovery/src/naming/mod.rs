//! From hosts to candidates: the keys that every source of hosts has, and the one function that applies them.
//!
//! A *source of names* knows nodes (`gossip`, an epmd), a *source of hosts* knows where agents may be (a DNS name, a
//! cloud). `basename` says in both which nodes are wanted: names that a source knows must fit it, and where only hosts
//! are known each host gets one candidate for each. Without `basename` and `name_template` the hosts alone are told, and
//! membership learns the nodes from the agents there.
//!
//! Invariants: an answer has at most [`HOSTS_MAX`] hosts; only a host that runs has candidates; no node is a candidate
//! twice.

mod addresses;
mod template;

use std::collections::{BTreeMap, BTreeSet};

use metacluster_types::{Candidate, Host, NodeName, Pattern, Role};

pub use self::addresses::Addresses;
use self::template::Template;
use crate::settings::{Absent, Key, Kind, Reader};

/// How many hosts, and how many candidates, one answer may have. What is beyond, in the order of the hosts' ids, names
/// and addresses, is left out with a line in the log.
pub const HOSTS_MAX: usize = 10_000;
/// How a host's node is called where nothing else is said.
const USUAL: &str = "{basename}@{ip}";
/// How many roles one tag may give.
const ROLES_MAX: usize = 64;

/// The key that every strategy has.
pub const BASENAME: Key = Key {
    name: "basename",
    kind: Kind::Patterns,
    absent: Absent::Unset("all names; no name for a host"),
    doc: "The wanted nodes by the part before their @: names that the source knows must fit one of these patterns, and \
          where it knows hosts alone each host has one candidate for each",
};

/// The keys that every source of hosts has on top of [`BASENAME`].
pub const HOST_KEYS: &[Key] = &[
    Key {
        name: "name_template",
        kind: Kind::Text,
        absent: Absent::Unset("`{basename}@{ip}`, if `basename` is given"),
        doc: "How a host's node is called, such as `{basename}@{host}`; there are `{basename}`, `{ip}`, `{ip_dashes}`, \
              `{host}`, `{name}`, `{short}`, `{instance}`, `{zone}`, `{region}` and `{tag.KEY}`",
    },
    Key {
        name: "addresses",
        kind: Kind::OneOf(Addresses::WORDS),
        absent: Absent::Default("private"),
        doc: "Which addresses of a host: `private` takes them all, private ones and IPv4 first; `public` and `ipv6` take \
              those alone",
    },
    Key {
        name: "port",
        kind: Kind::Integer { least: 1, most: 65_535 },
        absent: Absent::Unset("what the source says, else 45893"),
        doc: "The port at which the agents of the hosts speak with one another",
    },
];

/// The key of a source that knows tags or labels. It stands in the table of the strategy.
pub const ROLES_FROM: Key = Key {
    name: "roles_from",
    kind: Kind::Texts,
    absent: Absent::Unset("none"),
    doc: "The tags or labels whose values are roles of the host; a value may hold several, with commas between them",
};

/// What a strategy finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// Nodes by their names. `basename` filters them on their way out.
    Names,
    /// Hosts, which `basename` or `name_template` name nodes for.
    Hosts,
    /// Hosts as well as nodes, as it comes.
    Both,
}

impl Gives {
    /// Whether it has the keys of a source of hosts.
    #[must_use]
    pub const fn hosts(self) -> bool {
        matches!(self, Self::Hosts | Self::Both)
    }
}

/// The whole answer of one look-up. [`Naming`] makes it, [`Feed::answer`](crate::Feed::answer) tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Every host that the source knows.
    pub hosts: Vec<Host>,
    /// The candidates among them.
    pub candidates: Vec<Candidate>,
    /// What a person should know of the answer, such as hosts that were left out.
    pub notes: Vec<String>,
}

/// How the hosts of one topology become candidates.
#[derive(Clone, Debug)]
pub struct Naming {
    basenames: Vec<Pattern>,
    template: Option<Template>,
    addresses: Addresses,
    port: Option<u16>,
    roles_from: Vec<String>,
}

impl Naming {
    /// Reads the keys, for a strategy that [gives](Gives) hosts. `roles_from` is read if the strategy's table has it.
    pub fn read(reader: &mut Reader<'_>, gives: Gives) -> Self {
        Self::read_as(reader, gives, USUAL)
    }

    /// As [`Naming::read`], for a strategy whose hosts have their nodes named by another template than
    /// `{basename}@{ip}` if none is given.
    pub fn read_as(reader: &mut Reader<'_>, gives: Gives, usual: &str) -> Self {
        let basenames = reader.patterns("basename");
        let literal: Vec<&str> = basenames.iter().filter(|it| !is_open(it)).map(Pattern::as_str).collect();
        let mut faults = Vec::new();
        for basename in &basenames {
            if is_open(basename) && gives == Gives::Hosts {
                let basename = basename.as_str();
                faults.push((
                    "basename",
                    format!("`{basename}` names no node: this strategy knows hosts, so give names"),
                ));
            } else if let Err(error) = NodeName::from_parts(basename.as_str(), "host") {
                faults.push(("basename", error.to_string()));
            }
        }
        let given = reader.text("name_template");
        let template = match given.as_deref().map(Template::parse) {
            Some(Ok(template)) => {
                if template.wants_basename() && literal.is_empty() {
                    faults.push(("name_template", "holds `{basename}`: give `basename` too".to_owned()));
                } else if !template.wants_basename() && !literal.is_empty() && gives == Gives::Hosts {
                    let message = "has no use with a `name_template` without `{basename}`: leave one of them out";
                    faults.push(("basename", message.to_owned()));
                }
                Some(template)
            }
            Some(Err(message)) => {
                faults.push(("name_template", message));
                None
            }
            None => Template::parse(usual).ok().filter(|_| !literal.is_empty()),
        };
        for (key, message) in faults {
            reader.fault(key, &message);
        }
        let addresses = Addresses::of_word(reader.text("addresses").as_deref().unwrap_or_default());
        let port = reader.is_given("port").then(|| reader.integer("port"));
        let roles_from = if reader.has_key(ROLES_FROM.name) { reader.texts(ROLES_FROM.name) } else { Vec::new() };
        Self { basenames, template, addresses, port, roles_from }
    }

    /// Which addresses of a host are wanted, for a source that tells private from public itself.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// What gives roles, for a source that has more than tags: names of tags, or a word of the strategy's own.
    #[must_use]
    pub fn roles_from(&self) -> &[String] {
        &self.roles_from
    }

    /// Whether hosts get candidates at all.
    #[must_use]
    pub fn names_nodes(&self) -> bool {
        self.template.is_some()
    }

    /// Whether a node that the source itself names is wanted.
    #[must_use]
    pub fn wants(&self, node: &NodeName) -> bool {
        self.basenames.is_empty() || self.basenames.iter().any(|pattern| pattern.matches(node.basename()))
    }

    /// The answer of a source of hosts.
    #[must_use]
    pub fn answer(&self, hosts: Vec<Host>) -> Answer {
        self.answer_with(hosts, Vec::new())
    }

    /// The answer of a source that names some nodes itself. Their hosts are told only if `hosts` holds them too.
    #[must_use]
    pub fn answer_with(&self, mut hosts: Vec<Host>, named: Vec<Candidate>) -> Answer {
        let mut notes = Notes::default();
        hosts.sort_by(|a, b| order(a).cmp(&order(b)));
        hosts.dedup();
        notes.too_many("hosts", hosts.len());
        hosts.truncate(HOSTS_MAX);
        let mut candidates: BTreeMap<NodeName, Candidate> = BTreeMap::new();
        for candidate in named {
            if candidate.host.state.is_wanted() && self.wants(&candidate.node) {
                candidates.entry(candidate.node.clone()).or_insert(candidate);
            }
        }
        for host in &mut hosts {
            self.complete(host, &mut notes);
            if host.state.is_wanted() {
                for node in self.nodes(host, &mut notes) {
                    let candidate = Candidate { node: node.clone(), agent: None, host: host.clone() };
                    candidates.entry(node).or_insert(candidate);
                }
            }
        }
        notes.too_many("nodes", candidates.len());
        let candidates = candidates.into_values().take(HOSTS_MAX).collect();
        Answer { hosts, candidates, notes: notes.lines() }
    }

    /// Puts the wanted addresses first, and adds the port and the roles that the settings give.
    fn complete(&self, host: &mut Host, notes: &mut Notes) {
        let had = !host.addresses.is_empty();
        self.addresses.choose(&mut host.addresses);
        if had && host.addresses.is_empty() {
            notes.addressless.push(shown(host));
        }
        host.port = self.port.or(host.port);
        for tag in &self.roles_from {
            let values = host.tags.get(tag).map(String::as_str).unwrap_or_default();
            let roles = values.split(',').map(str::trim).filter(|role| !role.is_empty());
            host.roles.extend(roles.take(ROLES_MAX).filter_map(|role| Role::new(role).ok()));
        }
    }

    /// The nodes of one host.
    fn nodes(&self, host: &Host, notes: &mut Notes) -> Vec<NodeName> {
        let Some(template) = &self.template else { return Vec::new() };
        let basenames = self.basenames.iter().filter(|it| !is_open(it)).map(Pattern::as_str);
        let basenames: Vec<&str> = if template.wants_basename() { basenames.collect() } else { vec![""] };
        let mut nodes = Vec::new();
        for basename in basenames {
            match template.fill(basename, host) {
                Ok(node) => nodes.push(node),
                Err(reason) => notes.nameless.entry(reason).or_default().push(shown(host)),
            }
        }
        nodes
    }
}

/// Whether it stands for more names than one.
fn is_open(pattern: &Pattern) -> bool {
    pattern.as_str().contains(['*', '?'])
}

/// The order in which hosts are told, and kept if there are too many.
fn order(host: &Host) -> (&Option<String>, &Option<String>, &[std::net::IpAddr], &Option<u16>) {
    (&host.instance, &host.name, &host.addresses, &host.port)
}

/// A host in a line.
fn shown(host: &Host) -> String {
    let address = || host.addresses.first().map(ToString::to_string);
    let name = host.name.clone().or_else(|| host.instance.clone()).or_else(address);
    name.unwrap_or_else(|| "a host without a name".to_owned())
}

/// What was left out of an answer, gathered so that each kind is one line.
#[derive(Default)]
struct Notes {
    over: BTreeSet<String>,
    addressless: Vec<String>,
    nameless: BTreeMap<String, Vec<String>>,
}

impl Notes {
    fn too_many(&mut self, what: &str, count: usize) {
        if count > HOSTS_MAX {
            self.over.insert(format!("{count} {what} in one answer: only the first {HOSTS_MAX} are taken"));
        }
    }

    fn lines(self) -> Vec<String> {
        let mut lines: Vec<String> = self.over.into_iter().collect();
        if let Some(first) = self.addressless.first() {
            let count = self.addressless.len();
            lines.push(format!("{count} hosts have no address such as `addresses` wants; the first is {first}"));
        }
        for (reason, hosts) in self.nameless {
            let first = hosts.first().map(String::as_str).unwrap_or_default();
            lines.push(format!("{} hosts get no node: {reason}; the first is {first}", hosts.len()));
        }
        lines
    }
}

#[cfg(test)]
mod tests;
