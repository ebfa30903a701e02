//! `exec`: peers that a program prints, for whatever has no strategy of its own.
//!
//! Without `interval` the program is kept running, and each line that it prints is a JSON object ([`words`]). With
//! `interval` it is run again and again, and all that it prints is the answer, in the lines of `file`. [`child`] is the
//! program, which is killed with all that it started when its run ends here.

mod child;
mod words;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use metacluster_types::time::format_duration;
use tokio::time::{Duration, timeout};

use self::{
    child::{Child, OUTPUT_BYTES_MAX, name_of},
    words::Word,
};
use crate::{
    Answer, Failure, Feed, Gives, Naming, Pace, Poll, Strategy,
    feed::Work,
    peers::{Names, Peer},
    settings::{Absent, Key, Kind, Reader},
    watch::{Stream, watch},
};

/// How many peers are kept. More fail the line that brings them.
const PEERS_MAX: usize = 20_000;

pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "command",
        kind: Kind::Texts,
        absent: Absent::Required,
        doc: "The program and its arguments; no shell reads them",
    },
    Key {
        name: "interval",
        kind: Kind::Duration { least_ms: 100, most_ms: 3_600_000 },
        absent: Absent::Unset("the program is kept running"),
        doc: "Runs the program again and again at this interval, and takes all that it prints for the answer",
    },
    Pace::timeout("10s"),
];

#[derive(Debug)]
struct Exec {
    command: Vec<String>,
    pace: Option<Pace>,
    naming: Naming,
}

pub(crate) fn make(reader: &mut Reader<'_>) -> Box<dyn Strategy> {
    let command = reader.texts("command");
    let pace = if reader.is_given("interval") {
        Some(Pace::read(reader))
    } else {
        if reader.is_given("timeout") {
            reader.fault("timeout", "has no use without `interval`: a program that is kept running may take its time");
        }
        None
    };
    Box::new(Exec { command, pace, naming: Naming::read(reader, Gives::Both) })
}

impl Strategy for Exec {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move {
            let environment = environment(&feed);
            if let Some(pace) = self.pace {
                // The program has all of the time, and is named when that is over.
                let poll = Poll::new(Pace { timeout: pace.timeout * 2, ..pace }).asks(name_of(&self.command));
                poll.run(&feed, || Arc::clone(&self).ask(environment.clone(), pace.timeout)).await;
            } else {
                // What was said before a program ended stands until the next one says otherwise.
                let peers = Arc::new(Mutex::new(BTreeMap::new()));
                watch(&feed, |stream| Arc::clone(&self).follow(stream, environment.clone(), Arc::clone(&peers))).await;
            }
        })
    }
}

/// What the program is told.
fn environment(feed: &Feed) -> Vec<(&'static str, String)> {
    let cluster = feed.local().borrow().cluster.to_string();
    vec![("METACLUSTER_TOPOLOGY", feed.topology().to_string()), ("METACLUSTER_CLUSTER", cluster)]
}

impl Exec {
    /// Runs the program once, for so long at most.
    async fn ask(
        self: Arc<Self>,
        environment: Vec<(&'static str, String)>,
        within: Duration,
    ) -> Result<Answer, Failure> {
        let mut child = Child::start(&self.command, &environment)?;
        let peers = match timeout(within, Self::hear(&mut child)).await {
            Ok(heard) => heard?,
            Err(_) => {
                let (name, within) = (child.name(), format_duration(within));
                return Err(Failure::new(format!("{name} did not end within {within}: it was stopped (`timeout`)")));
            }
        };
        Ok(Names::default().answer(&self.naming, peers).await)
    }

    /// All that the program prints until it ends.
    async fn hear(child: &mut Child) -> Result<Vec<Peer>, Failure> {
        let mut peers = Vec::new();
        let (mut number, mut bytes) = (0_usize, 0);
        while let Some(line) = child.line().await? {
            number += 1;
            bytes += line.len() + 1;
            if bytes > OUTPUT_BYTES_MAX {
                return Err(Failure::new(format!(
                    "{} printed more than {} MiB: it was stopped",
                    child.name(),
                    OUTPUT_BYTES_MAX >> 20
                )));
            }
            let peer = Peer::of_line(&line);
            peers.extend(peer.map_err(|fault| format!("line {number} of {}: {fault}", child.name()))?);
        }
        child.end().await?;
        Ok(peers)
    }

    /// Starts the program and hears it until it ends.
    async fn follow(
        self: Arc<Self>,
        stream: Stream,
        environment: Vec<(&'static str, String)>,
        peers: Arc<Mutex<BTreeMap<String, Peer>>>,
    ) -> Result<(), Failure> {
        let mut child = Child::start(&self.command, &environment)?;
        let mut names = Names::default();
        let mut number = 0_usize;
        while let Some(line) = child.line().await? {
            number += 1;
            let said = match Word::of_line(&line) {
                Ok(None) => continue,
                Ok(Some(Word::Error(line))) => {
                    stream.fail(format!("{} says: {line}", child.name()));
                    continue;
                }
                Ok(Some(word)) => word.apply(&mut peers.lock().unwrap_or_else(PoisonError::into_inner)),
                Err(fault) => Err(fault),
            };
            if let Err(fault) = said {
                stream.fail(format!("line {number} of {}: {fault}", child.name()));
                continue;
            }
            // What has been printed already goes into the same answer.
            if !child.has_more() {
                let now: Vec<Peer> = peers.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
                stream.tell(names.answer(&self.naming, now).await);
            }
        }
        child.end().await?;
        Err(Failure::new(format!(
            "{} ended of its own accord; it is started again (with `interval` it is to end each time)",
            child.name()
        )))
    }
}
