//! `local-epmd`: the nodes of this host, as its epmd knows them.
//!
//! An epmd knows names without a host. Beside an agent a name stands for the node of that name that the agent holds, and
//! names that it does not hold (another cookie, not among `[nodes] names`, hidden) are nobody's peers. With `host` set,
//! and in a look-up without an agent, every name counts.

use std::{collections::BTreeSet, sync::Arc};

use metacluster_types::{Candidate, NodeName, Pattern};
use tokio::time::Duration;

use super::{EXCLUDE, INTERVAL, PORT, ask::Asker, is_excluded, port, tell::Teller};
use crate::{
    Feed, Local, Strategy,
    feed::Work,
    settings::{Absent, Key, Kind, Reader},
};

const HOST: &str = "127.0.0.1";

pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "host",
        kind: Kind::Text,
        absent: Absent::Unset("only nodes that the agent holds, by their own names"),
        doc: "The part after the @ of every node that the epmd of this host knows",
    },
    PORT,
    INTERVAL,
    EXCLUDE,
];

struct LocalEpmd {
    host: Option<String>,
    exclude: Vec<Pattern>,
    port: u16,
    interval: Duration,
}

pub(crate) fn make(reader: &mut Reader<'_>) -> Box<dyn Strategy> {
    let host = reader.text("host");
    if let Some(host) = &host
        && let Err(error) = NodeName::from_parts("name", host)
    {
        reader.fault("host", &error.to_string());
    }
    let exclude = reader.patterns("exclude");
    Box::new(LocalEpmd { host, exclude, port: port(reader), interval: reader.duration("interval") })
}

impl LocalEpmd {
    fn candidates(&self, asker: &Asker, local: &Local, alone: bool) -> Vec<Candidate> {
        let hosts: BTreeSet<String> = match &self.host {
            Some(host) => BTreeSet::from([host.clone()]),
            None if alone => own_names(),
            None => BTreeSet::new(),
        };
        let mut nodes: BTreeSet<NodeName> = BTreeSet::new();
        let names = asker.names().flat_map(|(_, names)| names);
        for name in names.filter(|name| !is_excluded(&self.exclude, name)) {
            let mut known = local.nodes.iter().filter(|node| node.basename() == name).peekable();
            if known.peek().is_some() {
                nodes.extend(known.cloned());
            } else {
                nodes.extend(hosts.iter().filter_map(|host| NodeName::from_parts(name, host).ok()));
            }
        }
        nodes.into_iter().map(Candidate::new).collect()
    }

    async fn follow(&self, feed: &Feed) {
        let mut asker = Asker::new(self.port, self.interval);
        asker.set_hosts(BTreeSet::from([HOST.to_owned()]));
        let mut teller = Teller::default();
        let mut local = feed.local();
        let mut followed = true;
        loop {
            tokio::select! {
                _ = asker.next() => {}
                // A node has come or gone, so epmd has news too.
                changed = local.changed(), if followed => {
                    followed = changed.is_ok();
                    asker.hurry();
                }
            }
            let known = local.borrow().clone();
            teller.tell(feed, &asker, self.candidates(&asker, &known, feed.is_alone())).await;
        }
    }
}

/// The names of this host, for a look-up without an agent.
fn own_names() -> BTreeSet<String> {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let short = name.split('.').next().unwrap_or_default().to_owned();
    [name, short].into_iter().filter(|name| !name.is_empty()).collect()
}

impl Strategy for LocalEpmd {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move {
            tokio::select! {
                () = self.follow(&feed) => {}
                () = feed.stopped() => {}
            }
        })
    }
}
