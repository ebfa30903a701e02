//! What a source tells, heard on paused time: for the tests of the loops that sources share.

use std::{collections::BTreeSet, future::Future};

use metacluster_types::{AgentId, ClusterName, Place, SourceUpdate, TopologyName};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{Feed, Local};

/// Each update with the time at which it came.
pub(crate) struct Heard {
    updates: mpsc::Receiver<(TopologyName, SourceUpdate)>,
    begun: Instant,
    task: JoinHandle<()>,
    switch: watch::Sender<bool>,
    _local: watch::Sender<Local>,
}

impl Heard {
    /// Runs a source.
    pub(crate) fn start<F>(source: impl FnOnce(Feed) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let local = Local {
            agent: AgentId(1),
            cluster: ClusterName::new("main").expect("a name"),
            place: Place::default(),
            nodes: BTreeSet::new(),
            agents: BTreeSet::new(),
            port: None,
        };
        let (keeper, local) = watch::channel(local);
        let (sender, updates) = mpsc::channel(64);
        let (feed, switch) = Feed::new(TopologyName::new("t").expect("a name"), local, sender);
        Self { updates, begun: Instant::now(), task: tokio::spawn(source(feed)), switch, _local: keeper }
    }

    /// Stops the source, and waits until it has.
    pub(crate) async fn stop(self) {
        self.switch.send_replace(true);
        self.task.await.expect("it stops");
    }

    /// The next update and its time in seconds.
    pub(crate) async fn next(&mut self) -> (SourceUpdate, f64) {
        let (_, update) = self.updates.recv().await.expect("an update");
        (update, self.begun.elapsed().as_secs_f64())
    }

    /// How many hosts the next answer has, and its time.
    pub(crate) async fn answer(&mut self) -> (usize, f64) {
        let (SourceUpdate::Hosts(hosts), _) = self.next().await else { panic!("no hosts") };
        let (SourceUpdate::Snapshot(_), at) = self.next().await else { panic!("no snapshot") };
        (hosts.len(), at)
    }

    /// The line of the next failure, and its time.
    pub(crate) async fn failure(&mut self) -> (String, f64) {
        let (SourceUpdate::Failed(line), at) = self.next().await else { panic!("no failure") };
        (line, at)
    }
}
