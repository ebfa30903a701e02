//! `mdns`: agents on the same link, by multicast DNS (RFC 6762) and its services (RFC 6763), over IPv4 and IPv6.
//!
//! [`record`] is what agents say. The protocol itself is mdns-sd's, on a thread of its own that ends with the run. An
//! agent says goodbye when it stops; one that dies is forgotten when its records expire, after two minutes, so that its
//! death is for membership to tell.

mod record;

use std::{collections::BTreeMap, sync::Arc};

use mdns_sd::{DaemonEvent, Receiver, ServiceDaemon, ServiceEvent};
use metacluster_types::SourceUpdate;
use tokio::time::{Duration, MissedTickBehavior, interval, timeout};

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
        absent: Absent::Default("45893"),
        doc: "The port at which this agent speaks with others, to be announced",
    },
];

#[derive(Debug)]
struct Mdns {
    announce: bool,
    port: u16,
}

pub(crate) fn make(reader: &mut Reader<'_>) -> Box<dyn Strategy> {
    Box::new(Mdns { announce: reader.boolean("announce"), port: reader.integer("port") })
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

/// A run of the protocol.
struct Session {
    daemon: ServiceDaemon,
    services: Receiver<ServiceEvent>,
    troubles: Receiver<DaemonEvent>,
    announced: Option<String>,
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
        session.announce(mdns, feed)?;
        Ok(session)
    }

    /// Says what this agent is now.
    fn announce(&mut self, mdns: &Mdns, feed: &Feed) -> Result<(), mdns_sd::Error> {
        if !mdns.announce || feed.is_alone() {
            return Ok(());
        }
        let service = own(&feed.local().borrow(), mdns.port)?;
        self.announced = Some(service.get_fullname().to_owned());
        self.daemon.register(service)
    }

    /// Hears others until that ends, and says why.
    async fn follow(&mut self, mdns: &Mdns, feed: &Feed) -> String {
        let mut local = feed.local();
        let mut followed = true;
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
                    let mut changed = self.take(event);
                    while let Ok(event) = self.services.try_recv() {
                        changed |= self.take(event);
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
                    if let Err(error) = self.announce(mdns, feed) {
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

    /// Whether an event changes who is there.
    #[expect(clippy::wildcard_enum_match_arm, reason = "an enum of others, which may grow")]
    fn take(&mut self, event: ServiceEvent) -> bool {
        match event {
            ServiceEvent::ServiceResolved(service) => {
                let name = service.get_fullname().to_owned();
                let Some(heard) = Heard::read(&service) else {
                    tracing::debug!(name, "a service that is no agent's");
                    return false;
                };
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
        let wanted = |heard: &&Heard| feed.is_alone() || (heard.agent != local.agent && heard.cluster == local.cluster);
        let heard: Vec<&Heard> = self.heard.values().filter(wanted).collect();
        let hosts = heard.iter().map(|heard| heard.host.clone()).collect();
        let candidates = heard.iter().flat_map(|heard| heard.candidates()).take(HOSTS_MAX).collect();
        feed.answer(Answer { hosts, candidates, notes: Vec::new() }).await;
    }

    /// Says goodbye, and ends the thread.
    async fn close(self) {
        if let Some(name) = &self.announced
            && let Ok(said) = self.daemon.unregister(name)
        {
            timeout(GOODBYE, said.recv_async()).await.ok();
        }
        if let Ok(ended) = self.daemon.shutdown() {
            timeout(GOODBYE, ended.recv_async()).await.ok();
        }
    }
}
