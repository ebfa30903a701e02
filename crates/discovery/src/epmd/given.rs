//! `epmd`: nodes that are given, and hosts whose registered nodes are all wanted.
//!
//! A node that is given is a candidate at all times, as in libcluster, and is told again when its epmd shows it
//! registered anew: it was started, so it is worth a dial. On a host that is given without a node, each name that is
//! registered is a candidate.

use std::{collections::BTreeSet, sync::Arc};

use metacluster_types::{Candidate, NodeName, Pattern, SourceUpdate};
use tokio::time::Duration;

use super::{
    EXCLUDE, INTERVAL, PORT,
    ask::{Answer, Asker},
    is_excluded, port,
    tell::Teller,
};
use crate::{
    Feed, Strategy,
    feed::Work,
    settings::{Absent, Key, Kind, Reader},
};

pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "nodes",
        kind: Kind::Nodes,
        absent: Absent::Unset("none"),
        doc: "Nodes as name@host, wanted whether they are registered or not",
    },
    Key {
        name: "hosts",
        kind: Kind::Texts,
        absent: Absent::Unset("none"),
        doc: "Hosts of which every registered node is wanted; a name@host is taken for one of `nodes`",
    },
    PORT,
    INTERVAL,
    EXCLUDE,
];

struct Epmd {
    nodes: BTreeSet<NodeName>,
    hosts: BTreeSet<String>,
    exclude: Vec<Pattern>,
    port: u16,
    interval: Duration,
}

pub(crate) fn make(reader: &mut Reader<'_>) -> Box<dyn Strategy> {
    let mut nodes: BTreeSet<NodeName> = reader.nodes("nodes").into_iter().collect();
    let mut hosts = BTreeSet::new();
    for text in reader.texts("hosts") {
        if !text.contains('@') {
            hosts.insert(text);
            continue;
        }
        match NodeName::new(&text) {
            Ok(node) => {
                nodes.insert(node);
            }
            Err(error) => reader.fault("hosts", &error.to_string()),
        }
    }
    if !reader.is_given("nodes") && !reader.is_given("hosts") {
        reader.fault("nodes", "is missing, and `hosts` too: say whom to look for with one of them");
    }
    let exclude = reader.patterns("exclude");
    Box::new(Epmd { nodes, hosts, exclude, port: port(reader), interval: reader.duration("interval") })
}

impl Epmd {
    fn candidates(&self, asker: &Asker) -> Vec<Candidate> {
        let mut nodes = self.nodes.clone();
        for (host, names) in asker.names().filter(|(host, _)| self.hosts.contains(*host)) {
            let names = names.iter().filter(|name| !is_excluded(&self.exclude, name));
            nodes.extend(names.filter_map(|name| NodeName::from_parts(name, host).ok()));
        }
        nodes.into_iter().map(Candidate::new).collect()
    }

    async fn follow(&self, feed: &Feed) {
        let mut asker = Asker::new(self.port, self.interval);
        let hosts = self.nodes.iter().map(|node| node.host().to_owned()).chain(self.hosts.iter().cloned());
        asker.set_hosts(hosts.collect());
        let mut teller = Teller::default();
        if self.hosts.is_empty() {
            teller.answer(feed, self.candidates(&asker)).await;
        } else {
            for node in &self.nodes {
                feed.push(SourceUpdate::Found(Candidate::new(node.clone()))).await;
            }
        }
        loop {
            let Answer { host, anew } = asker.next().await;
            teller.tell(feed, &asker, self.candidates(&asker)).await;
            for node in self.nodes.iter().filter(|node| node.host() == host && anew.contains(node.basename())) {
                feed.push(SourceUpdate::Found(Candidate::new(node.clone()))).await;
            }
        }
    }
}

impl Strategy for Epmd {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move {
            tokio::select! {
                () = self.follow(&feed) => {}
                () = feed.stopped() => {}
            }
        })
    }
}
