//! Drives one strategy in a test: starts it, waits for what it says, and keeps the candidates as a reader would.
//!
//! For the tests of this crate and of custom strategies. Every wait ends after [`PATIENCE`] at most (or what
//! [`Trial::patient`] says), with a panic that says what was waited for.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use metacluster_types::{AgentId, Candidate, ClusterName, Host, NodeName, Place, SourceUpdate, TopologyName};
use tokio::{
    sync::{mpsc, watch},
    time::{Duration, Instant, timeout_at},
};

use crate::{Local, Running, Strategy, build, spawn, spec::Spec};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The same where look-ups fail on the way: each is followed by a wait of half a minute at most.
pub const PATIENCE_WITH_FAILURES: Duration = Duration::from_secs(180);
/// How often an answer without an end may be over before something of it was taken.
const ENDS_EARLY_MAX: usize = 5;
/// How long a line of a failure may be, in letters.
pub const LINE_CHARS_MAX: usize = 500;
/// How many updates may wait to be read.
const QUEUE: usize = 64;

/// A strategy at work.
#[derive(Debug)]
pub struct Trial {
    running: Running,
    local: watch::Sender<Local>,
    updates: mpsc::Receiver<(TopologyName, SourceUpdate)>,
    candidates: BTreeMap<NodeName, Candidate>,
    hosts: Vec<Host>,
    failed: Option<String>,
    patience: Duration,
}

impl Trial {
    /// Starts the strategy of a spec, such as `dns:query=shop.test,interval=1s`.
    ///
    /// # Panics
    /// When the spec or its settings are wrong.
    #[must_use]
    #[track_caller]
    pub fn of(spec: &str) -> Self {
        let spec: Spec = spec.parse().unwrap_or_else(|error| panic!("{spec}: {error}"));
        match build(&spec.strategy, &spec.settings) {
            Ok(strategy) => Self::start(strategy),
            Err(faults) => panic!("{faults:?}"),
        }
    }

    /// Starts a strategy, with an agent that has no node.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(strategy: Box<dyn Strategy>) -> Self {
        let cluster = ClusterName::new("main").expect("a valid name");
        let (place, nodes, agents) = (Place::default(), BTreeSet::new(), BTreeSet::new());
        Self::start_for(strategy, Local { agent: AgentId(1), cluster, place, nodes, agents, port: None })
    }

    /// Starts a strategy for such an agent.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start_for(strategy: Box<dyn Strategy>, local: Local) -> Self {
        let name = TopologyName::new("trial").expect("a valid name");
        let (sender, updates) = mpsc::channel(QUEUE);
        let (local, receiver) = watch::channel(local);
        let running = spawn(name, strategy, receiver, sender);
        Self {
            running,
            local,
            updates,
            candidates: BTreeMap::new(),
            hosts: Vec::new(),
            failed: None,
            patience: PATIENCE,
        }
    }

    /// Waits longer: for a server that may take so long that a look-up and the one after it are no matter of [`PATIENCE`].
    #[must_use]
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Changes what the agent is.
    pub fn set_local(&self, change: impl FnOnce(&mut Local)) {
        self.local.send_modify(change);
    }

    /// The next update.
    ///
    /// # Panics
    /// When none comes in time.
    pub async fn next(&mut self) -> SourceUpdate {
        self.next_until(Instant::now() + self.patience, "an update").await
    }

    /// Waits until exactly these nodes are candidates. Failures on the way are passed over.
    ///
    /// # Panics
    /// When that does not come about in time.
    pub async fn until(&mut self, nodes: &[&str]) {
        let wanted: BTreeSet<String> = nodes.iter().map(|&node| node.to_owned()).collect();
        self.until_candidates(&format!("{wanted:?}"), |found| {
            found.iter().map(|it| it.node.to_string()).collect::<BTreeSet<_>>() == wanted
        })
        .await;
    }

    /// Waits until the candidates of an answer, ordered by name, are such, and gives them.
    ///
    /// # Panics
    /// When that does not come about in time.
    pub async fn until_candidates(&mut self, what: &str, is_so: impl Fn(&[Candidate]) -> bool) -> Vec<Candidate> {
        let deadline = Instant::now() + self.patience;
        loop {
            let update = self.next_until(deadline, what).await;
            let found: Vec<Candidate> = self.candidates.values().cloned().collect();
            let told = !matches!(update, SourceUpdate::Hosts(_) | SourceUpdate::Notes(_) | SourceUpdate::Failed(_));
            if told && is_so(&found) {
                return found;
            }
        }
    }

    /// Waits until the hosts of an answer are such, and gives them.
    ///
    /// # Panics
    /// When that does not come about in time.
    pub async fn until_hosts(&mut self, what: &str, is_so: impl Fn(&[Host]) -> bool) -> Vec<Host> {
        let deadline = Instant::now() + self.patience;
        loop {
            if let SourceUpdate::Hosts(hosts) = self.next_until(deadline, what).await
                && is_so(&hosts)
            {
                return hosts;
            }
        }
    }

    /// Waits for a failure and gives its line. Answers on the way are passed over, and counted in [`Trial::names`].
    ///
    /// # Panics
    /// When none comes in time.
    pub async fn until_failed(&mut self) -> String {
        let deadline = Instant::now() + self.patience;
        loop {
            if let SourceUpdate::Failed(line) = self.next_until(deadline, "a failure").await {
                return line;
            }
        }
    }

    /// Waits for a failure whose line holds this, and gives the line. Others on the way are passed over: on a busy machine a
    /// look-up may take too long before it comes to the fault that is meant.
    ///
    /// # Panics
    /// When none comes in time.
    pub async fn until_failed_with(&mut self, says: &str) -> String {
        let deadline = Instant::now() + self.patience;
        loop {
            if let SourceUpdate::Failed(line) = self.next_until(deadline, says).await
                && line.contains(says)
            {
                return line;
            }
        }
    }

    /// Breaks the source and waits until the strategy says so, as all must: in one line that holds `says` and is no longer
    /// than [`LINE_CHARS_MAX`], with every candidate and every host as it was. Gives the line.
    ///
    /// # Panics
    /// When it says so otherwise, or not in time, or when anybody is gone.
    pub async fn endures(&mut self, says: &str, breaks: impl FnOnce()) -> String {
        let before = (self.candidates.clone(), self.hosts.clone());
        breaks();
        let line = self.until_failed().await;
        assert!(!line.contains('\n') && line.chars().count() <= LINE_CHARS_MAX, "no line for a log: {line}");
        assert!(line.contains(says), "`{says}` is not in: {line}");
        assert!((&self.candidates, &self.hosts) == (&before.0, &before.1), "somebody is gone after: {line}");
        line
    }

    /// Waits until the strategy has taken something of an answer without an end, or has failed a few times more: on a busy
    /// machine its time may be over before the first byte.
    ///
    /// # Panics
    /// When no failure comes in time.
    pub async fn until_taken(&mut self, bytes: impl Fn() -> usize) {
        for _ in 0..ENDS_EARLY_MAX {
            if bytes() > 0 {
                break;
            }
            self.until_failed().await;
        }
    }

    /// The candidates as they stand, ordered.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.candidates.keys().map(ToString::to_string).collect()
    }

    /// The hosts as they were told last.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The first address of each host that was told last.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.hosts.iter().filter_map(|host| host.addresses.first()).copied().collect()
    }

    /// Stops the strategy, and returns when nothing of it runs.
    pub async fn stop(self) {
        drop(self.updates);
        self.running.stop().await;
    }

    async fn next_until(&mut self, deadline: Instant, what: &str) -> SourceUpdate {
        let update = match timeout_at(deadline, self.updates.recv()).await {
            Ok(Some((_, update))) => update,
            Ok(None) => panic!("the strategy is gone; waited for {what}"),
            Err(_) => panic!(
                "waited {:?} for {what}; there are {:?} and {:?}; the last failure: {:?}",
                self.patience,
                self.names(),
                self.hosts,
                self.failed
            ),
        };
        match &update {
            SourceUpdate::Snapshot(candidates) => {
                self.candidates = candidates.iter().map(|it| (it.node.clone(), it.clone())).collect();
            }
            SourceUpdate::Found(candidate) => {
                self.candidates.insert(candidate.node.clone(), candidate.clone());
            }
            SourceUpdate::Lost(node) => {
                self.candidates.remove(node);
            }
            SourceUpdate::Hosts(hosts) => self.hosts.clone_from(hosts),
            SourceUpdate::Failed(line) => self.failed = Some(line.clone()),
            SourceUpdate::Notes(_) => {}
        }
        update
    }
}
