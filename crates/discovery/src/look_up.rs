//! One look-up without an agent, for `metacluster discover`.

use std::collections::{BTreeMap, BTreeSet};

use metacluster_types::{AgentId, Candidate, ClusterName, Host, NodeName, Place, SourceUpdate, TopologyName};
use tokio::{
    sync::{mpsc, watch},
    time::{Duration, Instant, timeout_at},
};

use crate::{Feed, Local, Strategy, run::spawn_with};

/// How many updates may wait to be read.
const QUEUE: usize = 256;

/// What one look-up found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// The hosts, if the source knows hosts, as it told them.
    pub hosts: Vec<Host>,
    /// The candidates, ordered by name.
    pub candidates: Vec<Candidate>,
}

/// Runs a strategy until it has answered or failed once, or has listened as long as it must, or the time is up, and gives what
/// it found. It announces no node.
///
/// Must be called within a tokio runtime.
///
/// # Errors
/// The line of the strategy's last failure, if it found nothing.
pub async fn look_up(strategy: Box<dyn Strategy>, timeout: Duration) -> Result<Discovered, String> {
    let listens = strategy.listens();
    let deadline = Instant::now() + listens.map_or(timeout, |listens| listens.min(timeout));
    let topology = TopologyName::new("discover").map_err(|error| error.to_string())?;
    let cluster = ClusterName::new("main").map_err(|error| error.to_string())?;
    let agent = AgentId(rand::random());
    let (local_keeper, local) = watch::channel(Local {
        agent,
        cluster,
        place: Place::default(),
        nodes: BTreeSet::new(),
        agents: BTreeSet::new(),
        port: None,
    });
    let (updates, mut reader) = mpsc::channel(QUEUE);
    let (feed, switch) = Feed::new(topology, local, updates);
    let running = spawn_with(strategy, feed.alone(), switch);

    let mut found: BTreeMap<NodeName, Candidate> = BTreeMap::new();
    let mut hosts = Vec::new();
    let mut answered = listens.is_some();
    let mut failure = None;
    while let Ok(Some((_, update))) = timeout_at(deadline, reader.recv()).await {
        match update {
            SourceUpdate::Snapshot(candidates) => {
                found = candidates.into_iter().map(|candidate| (candidate.node.clone(), candidate)).collect();
                failure = None;
                if listens.is_none() {
                    answered = true;
                    break;
                }
            }
            SourceUpdate::Found(candidate) => {
                found.insert(candidate.node.clone(), candidate);
            }
            SourceUpdate::Lost(node) => {
                found.remove(&node);
            }
            SourceUpdate::Hosts(told) => hosts = told,
            // Logged already, by whoever told of them.
            SourceUpdate::Notes(_) => {}
            SourceUpdate::Failed(line) => {
                failure = Some(line);
                if listens.is_none() {
                    break;
                }
            }
        }
    }
    drop(reader);
    running.stop().await;
    drop(local_keeper);
    match failure {
        Some(line) if found.is_empty() && hosts.is_empty() => Err(line),
        None if !answered && found.is_empty() && hosts.is_empty() => {
            Err(format!("no answer within {}", metacluster_types::time::format_duration(timeout)))
        }
        Some(_) | None => Ok(Discovered { hosts, candidates: found.into_values().collect() }),
    }
}
