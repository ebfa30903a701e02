//! What a strategy is, and what it is given: the feed that it pushes into, the local nodes, the word to stop.

use std::{collections::BTreeSet, future::Future, pin::Pin, sync::Arc};

use metacluster_types::{AgentId, ClusterName, NodeName, Pattern, Place, SourceUpdate, TopologyName};
use tokio::{
    sync::{mpsc, watch},
    time::Duration,
};

use crate::naming::Answer;

/// What [`Strategy::run`] gives back.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A way to find peers. Custom strategies implement it too.
///
/// The value holds the settings; all state of a run lives in the future, so that a run which panicked can be begun
/// anew with nothing left over.
///
/// A strategy that asks again and again leaves the rest to [`Poll`](crate::Poll): intervals with jitter, time-outs,
/// panics, back-off. One that keeps a stream open leaves it to [`watch`](crate::watch()). One that knows hosts and not
/// nodes makes its answers with [`Naming`](crate::Naming) and tells them with [`Feed::answer`].
/// [`Trial`](crate::trial::Trial) drives one in a test.
pub trait Strategy: Send + Sync + 'static {
    /// Looks for peers and pushes what changes until [`Feed::stopped`] resolves. It may then say goodbye, for at most
    /// [`run::GRACE`](crate::run::GRACE). A run that ends before it is told so counts as a failure and is begun anew.
    fn run(self: Arc<Self>, feed: Feed) -> Work;

    /// How long one look-up has to listen, for a strategy that hears of peers one by one. `None` says that the first
    /// [`SourceUpdate::Snapshot`] is the whole answer.
    fn listens(&self) -> Option<Duration> {
        None
    }
}

/// What the agent is, for strategies that announce it or leave it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// This agent.
    pub agent: AgentId,
    /// The cluster of its nodes.
    pub cluster: ClusterName,
    /// Where it runs.
    pub place: Place,
    /// Its nodes that are up and take the cookie.
    pub nodes: BTreeSet<NodeName>,
    /// The agents of the cluster that live as far as is known, this one or not. Empty says that nobody is known: a source
    /// that a few agents ask for all of them is then asked by this one.
    pub agents: BTreeSet<AgentId>,
    /// The port at which this agent speaks with others, once that is known.
    pub port: Option<u16>,
}

/// The end of a strategy that the world sees. Cheap to clone; a task of the strategy may hold one.
#[derive(Clone, Debug)]
pub struct Feed {
    topology: TopologyName,
    updates: mpsc::Sender<(TopologyName, SourceUpdate)>,
    local: watch::Receiver<Local>,
    stop: watch::Receiver<bool>,
    attempt: u64,
    basename: Arc<[Pattern]>,
    alone: bool,
}

impl Feed {
    /// A feed and the switch that stops it: `true`, or dropping the switch, says stop. For tests and drivers;
    /// [`spawn`](crate::spawn) makes one itself.
    #[must_use]
    pub fn new(
        topology: TopologyName,
        local: watch::Receiver<Local>,
        updates: mpsc::Sender<(TopologyName, SourceUpdate)>,
    ) -> (Self, watch::Sender<bool>) {
        let (switch, stop) = watch::channel(false);
        (Self { topology, updates, local, stop, attempt: 0, basename: Arc::new([]), alone: false }, switch)
    }

    /// Pushes one change, and waits while the reader is behind. Candidates that the topology's `basename` leaves out
    /// go no further. Once the reader is gone, nothing happens.
    pub async fn push(&self, update: SourceUpdate) {
        let update = match update {
            SourceUpdate::Snapshot(mut candidates) => {
                candidates.retain(|candidate| self.wants(&candidate.node));
                SourceUpdate::Snapshot(candidates)
            }
            SourceUpdate::Found(candidate) if self.wants(&candidate.node) => SourceUpdate::Found(candidate),
            SourceUpdate::Lost(node) if self.wants(&node) => SourceUpdate::Lost(node),
            SourceUpdate::Found(_) | SourceUpdate::Lost(_) => return,
            update @ (SourceUpdate::Hosts(_) | SourceUpdate::Notes(_) | SourceUpdate::Failed(_)) => update,
        };
        if self.updates.send((self.topology.clone(), update)).await.is_err() {
            tracing::debug!(topology = %self.topology, "an update has no reader any more");
        }
    }

    /// Tells the whole answer of a source of hosts: the hosts, then the candidates among them, which may be none.
    pub async fn answer(&self, answer: Answer) {
        self.push(SourceUpdate::Hosts(answer.hosts)).await;
        self.push(SourceUpdate::Snapshot(answer.candidates)).await;
    }

    /// What the agent is at present, and how that changes.
    #[must_use]
    pub fn local(&self) -> watch::Receiver<Local> {
        self.local.clone()
    }

    /// Resolves when the strategy is to stop; at once if that was said already.
    pub async fn stopped(&self) {
        let mut stop = self.stop.clone();
        // An error says that the switch is gone, and with it whoever wanted the strategy.
        drop(stop.wait_for(|&stop| stop).await);
    }

    /// The topology that the strategy runs for.
    #[must_use]
    pub fn topology(&self) -> &TopologyName {
        &self.topology
    }

    /// How often the strategy was begun before: 0 in its first run.
    #[must_use]
    pub fn attempt(&self) -> u64 {
        self.attempt
    }

    /// Whether this is one look-up without an agent, so that [`Feed::local`] says nothing of this host.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    pub(crate) fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    pub(crate) fn with_attempt(&self, attempt: u64) -> Self {
        Self { attempt, ..self.clone() }
    }

    pub(crate) fn with_basename(mut self, basename: Arc<[Pattern]>) -> Self {
        self.basename = basename;
        self
    }

    fn wants(&self, node: &NodeName) -> bool {
        self.basename.is_empty() || self.basename.iter().any(|pattern| pattern.matches(node.basename()))
    }
}
