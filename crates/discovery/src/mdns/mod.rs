//! `mdns`: agents on the same link, by multicast DNS (RFC 6762) and its services (RFC 6763), over IPv4 and IPv6.
//!
//! [`record`] is what agents say. The protocol itself is mdns-sd's, on a thread of its own that ends with the run. An
//! agent says goodbye when it stops; one that dies is forgotten when its records expire, after two minutes, so that its
//! death is for membership to tell.

mod record;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mdns_sd::{DaemonEvent, Receiver, ServiceDaemon, ServiceEvent};
use metacluster_types::{ClusterName, NodeName, SourceUpdate};
use tokio::time::{Duration, MissedTickBehavior, interval, sleep, timeout};

use self::record::{Heard, SERVICE, own};
use crate::{
    Answer, Feed, Local, Strategy,
    feed::Work,
    naming::HOSTS_MAX,
    settings::{Absent, Key, Kind, Reader},
    watch::REPEAT,
};

/// What one look-up listens for: the first question, and the second one a second later.
const LISTENS: Duration = Duration::from_secs(3);
/// The port of agents, where nothing is known of this one's.
const PORT: u16 = 45_893;
/// How long it is waited for.
const PORT_WITHIN: Duration = Duration::from_secs(1);
/// The time for a goodbye.
const GOODBYE: Duration = Duration::from_millis(200);

pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "announce",
        kind: Kind::Boolean,
        absent: Absent::Default("true"),
        doc: "Whether this agent and its nodes are announced to others",
    },
    Key {
        name: "port",
        kind: Kind::Integer { least: 1, most: 65_535 },
        absent: Absent::Unset("that of this agent"),
        doc: "The port at which other agents reach this one, to be announced",
    },
];

#[derive(Debug)]
struct Mdns {
    announce: bool,
    port: Option<u16>,
}

pub(crate) fn make(reader: &mut Reader<'_>) -> Box<dyn Strategy> {
    let port = reader.is_given("port").then(|| reader.integer("port"));
    Box::new(Mdns { announce: reader.boolean("announce"), port })
}

impl Strategy for Mdns {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move {
            match Session::open(&self, &feed) {
                Ok(mut session) => {
                    tokio::select! {
                        line = session.follow(&self, &feed) => feed.push(SourceUpdate::Failed(line)).await,
                        () = feed.stopped() => {}
                    }
                    session.close().await;
                }
                Err(error) => feed.push(SourceUpdate::Failed(cannot(&error))).await,
            }
        })
    }

    fn listens(&self) -> Option<Duration> {
        Some(LISTENS)
    }
}

fn cannot(error: &mdns_sd::Error) -> String {
    format!("multicast DNS does not work here: {error}: is UDP port 5353 allowed, has an interface an address?")
}

/// What others were told of this agent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Announced {
    name: String,
    nodes: BTreeSet<NodeName>,
    port: u16,
}

/// A run of the protocol.
struct Session {
    daemon: ServiceDaemon,
    services: Receiver<ServiceEvent>,
    troubles: Receiver<DaemonEvent>,
    announced: Option<Announced>,
    heard: BTreeMap<String, Heard>,
    full: bool,
}

impl Session {
    fn open(mdns: &Mdns, feed: &Feed) -> Result<Self, mdns_sd::Error> {
        let daemon = ServiceDaemon::new()?;
        let troubles = daemon.monitor()?;
        let mut session = Self {
            services: daemon.browse(SERVICE)?,
            daemon,
            troubles,
            announced: None,
            heard: BTreeMap::new(),
            full: false,
        };
        session.announce(mdns, feed, false)?;
        Ok(session)
    }

    /// Says what this agent is now, unless that was said, or its port is not known and may be soon.
    fn announce(&mut self, mdns: &Mdns, feed: &Feed, late: bool) -> Result<(), mdns_sd::Error> {
        if !mdns.announce || feed.is_alone() {
            return Ok(());
        }
        let local = feed.local().borrow().clone();
        let Some(port) = mdns.port.or(local.port).or(late.then_some(PORT)) else { return Ok(()) };
        let service = own(&local, port)?;
        let now = Announced { name: service.get_fullname().to_owned(), nodes: local.nodes, port };
        if self.announced.as_ref() == Some(&now) {
            return Ok(());
        }
        // An agent that goes on under another id is another one.
        if let Some(before) = self.announced.take().filter(|before| before.name != now.name) {
            drop(self.daemon.unregister(&before.name)?);
        }
        self.daemon.register(service)?;
        self.announced = Some(now);
        Ok(())
    }

    /// Hears others until that ends, and says why.
    async fn follow(&mut self, mdns: &Mdns, feed: &Feed) -> String {
        let mut local = feed.local();
        let mut followed = true;
        let mut late = false;
        let patience = sleep(PORT_WITHIN);
        tokio::pin!(patience);
        let mut repeat = interval(REPEAT);
        repeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once, and before the first answer of others it would say that there is nobody.
        repeat.tick().await;
        loop {
            tokio::select! {
                event = self.services.recv_async() => {
                    let Ok(event) = event else {
                        return "multicast DNS stopped telling of others; it is begun anew".to_owned();
                    };
                    let cluster = (!feed.is_alone()).then(|| local.borrow().cluster.clone());
                    let mut changed = self.take(event, cluster.as_ref());
                    while let Ok(event) = self.services.try_recv() {
                        changed |= self.take(event, cluster.as_ref());
                    }
                    if !changed {
                        continue;
                    }
                }
                event = self.troubles.recv_async() => {
                    match event {
                        Ok(DaemonEvent::Error(error)) => feed.push(SourceUpdate::Failed(cannot(&error))).await,
                        Ok(_) => {}
                        Err(_) => return "multicast DNS has ended; it is begun anew".to_owned(),
                    }
                    continue;
                }
                changed = local.changed(), if followed => {
                    followed = changed.is_ok();
                    if let Err(error) = self.announce(mdns, feed, late) {
                        feed.push(SourceUpdate::Failed(cannot(&error))).await;
                    }
                    continue;
                }
                () = &mut patience, if !late => {
                    late = true;
                    if let Err(error) = self.announce(mdns, feed, late) {
                        feed.push(SourceUpdate::Failed(cannot(&error))).await;
                    }
                    continue;
                }
                _ = repeat.tick() => {}
            }
            let now = local.borrow().clone();
            self.tell(feed, &now).await;
        }
    }

    /// Whether an event changes who is there. Agents of other clusters than this one take no room.
    #[expect(clippy::wildcard_enum_match_arm, reason = "an enum of others, which may grow")]
    fn take(&mut self, event: ServiceEvent, cluster: Option<&ClusterName>) -> bool {
        match event {
            ServiceEvent::ServiceResolved(service) => {
                let name = service.get_fullname().to_owned();
                let Some(heard) = Heard::read(&service) else {
                    tracing::debug!(name, "a service that is no agent's");
                    return false;
                };
                if cluster.is_some_and(|cluster| *cluster != heard.cluster) {
                    return self.heard.remove(&name).is_some();
                }
                let full = self.heard.len() >= HOSTS_MAX && !self.heard.contains_key(&name);
                if full && !std::mem::replace(&mut self.full, true) {
                    tracing::warn!(limit = HOSTS_MAX, "too many agents by mDNS: the last ones are left out");
                }
                !full && self.heard.insert(name, heard.clone()) != Some(heard)
            }
            ServiceEvent::ServiceRemoved(_, name) => self.heard.remove(&name).is_some(),
            _ => false,
        }
    }

    async fn tell(&self, feed: &Feed, local: &Local) {
        let wanted = |heard: &&Heard| feed.is_alone() || heard.agent != local.agent;
        let heard: Vec<&Heard> = self.heard.values().filter(wanted).collect();
        let hosts = heard.iter().map(|heard| heard.host.clone()).collect();
        let candidates = heard.iter().flat_map(|heard| heard.candidates()).take(HOSTS_MAX).collect();
        feed.answer(Answer { hosts, candidates, notes: Vec::new() }).await;
    }

    /// Says goodbye, and ends the thread.
    async fn close(self) {
        if let Some(announced) = &self.announced
            && let Ok(said) = self.daemon.unregister(&announced.name)
        {
            timeout(GOODBYE, said.recv_async()).await.ok();
        }
        if let Ok(ended) = self.daemon.shutdown() {
            timeout(GOODBYE, ended.recv_async()).await.ok();
        }
    }
}
