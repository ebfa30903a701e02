//! The one task that joins the machine to the world.
//!
//! Everything that happens comes in through one bounded queue and is handled in order: what strategies say, what local
//! nodes tell, what came of a dial. Formation decides, its outputs become tasks, and what changed goes to the event log
//! and into the view. Only this task writes either, so every reader sees the same order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use metacluster_discovery::Local;
use metacluster_erl::Node;
use metacluster_formation::{DialError, DropHow, Formation, Input, Note, Output, ReadinessRules};
use metacluster_types::{
    AgentId, EventKind, NodeName, Place, SourceUpdate, Subject, TopologyName, time::format_duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tracing::{debug, info, warn};

use super::{
    cells::Cells,
    check::{self, Memory, Witness},
    clock::Clock,
    dial::{self, Dial},
    locals::LocalEvent,
    peers::Peers,
    picture::{self, Picture},
    redial::Parted,
    runtime::{Change, ChangeError, Topologies},
    show::{self, Shown},
};
use crate::{
    config::TopologyConfig,
    events::EventLog,
    members::{LocalNodes, MemberChange, MemberEvent, MembersView},
    view::{MemberState, TopologyChange, View},
};

/// Messages that wait for the driver; senders wait beyond that.
pub(crate) const QUEUE: usize = 1_024;
/// Changes within this time are shown as one.
const SHOW_EVERY: Duration = Duration::from_millis(20);
/// So many pairs that cannot be linked are remembered; then all are forgotten, and may be said again.
const MIXED_MAX: usize = 1_000;
/// How long a leave may take.
const LEAVE: Duration = Duration::from_secs(10);

/// What an owner of the agent can ask.
pub(crate) enum Command {
    /// Say goodbye and end. With `nodes`, the local nodes leave their mesh first.
    Leave {
        /// Whether the local nodes leave too.
        nodes: bool,
        /// Told when it is done.
        done: oneshot::Sender<()>,
    },
    /// A topology comes, changes or goes.
    Change { change: Change, done: oneshot::Sender<Result<(), ChangeError>> },
    /// The topologies are those of a configuration from now on.
    Reload { wanted: Vec<TopologyConfig>, done: oneshot::Sender<Vec<Result<TopologyName, ChangeError>>> },
}

/// What came of a task that formation asked for.
enum Outcome {
    Dialled {
        local: NodeName,
        peer: NodeName,
        outcome: Result<(), DialError>,
    },
    Dropped {
        local: NodeName,
        peer: NodeName,
        error: Option<String>,
    },
    /// The two are of different cells; what came of it is seen by their links.
    Parted {
        local: NodeName,
        peer: NodeName,
        error: Option<String>,
    },
    Checked {
        peer: NodeName,
        number: u64,
        alive: Option<bool>,
    },
}

/// A local node that holds our connection.
struct Held {
    ours: Node,
    links: BTreeSet<NodeName>,
}

/// The channels on which the world speaks.
pub(crate) struct Inlets {
    pub(crate) sources: mpsc::Receiver<(TopologyName, SourceUpdate)>,
    pub(crate) locals: mpsc::Receiver<LocalEvent>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) epmd: watch::Receiver<crate::view::EpmdView>,
    pub(crate) members: mpsc::Receiver<MemberEvent>,
    pub(crate) members_view: watch::Receiver<Arc<MembersView>>,
}

/// See the module.
pub(crate) struct Driver {
    pub(crate) clock: Clock,
    pub(crate) formation: Formation,
    pub(crate) picture: Picture,
    pub(crate) log: EventLog,
    pub(crate) view: watch::Sender<Arc<View>>,
    pub(crate) announce: watch::Sender<Local>,
    pub(crate) place: Place,
    pub(crate) epmd_port: u16,
    /// How long the check of a host takes that says nothing.
    pub(crate) check_window: Duration,
    pub(crate) readiness: ReadinessRules,
    pub(crate) readiness_timeout: Duration,
    pub(crate) shown: Shown,
    pub(super) cells: Option<Cells>,
    /// The port of the gateway for other cells.
    pub(super) offer: Option<u16>,
    pub(super) topologies: Topologies,
    pub(super) peers: Peers,
    pub(crate) tasks: Tasks,
}

/// What the driver keeps while it runs.
#[derive(Default)]
pub(crate) struct Tasks {
    locals: BTreeMap<NodeName, Held>,
    running: JoinSet<Outcome>,
    /// Local nodes and the peers that they were linked to and have not been since.
    parted: Parted,
    memory: Memory,
    stale: bool,
    warned_unready: bool,
    /// Pairs of which it was said that they can never be linked.
    mixed: BTreeSet<(NodeName, NodeName)>,
    checks: check::Checks,
}

impl Tasks {
    /// Whether this was not said before: several topologies may find the same peer.
    fn is_news(&mut self, note: &Note) -> bool {
        if let Note::NameFormsMixed { local, peer, .. } = note {
            if self.mixed.len() >= MIXED_MAX {
                self.mixed.clear();
            }
            return self.mixed.insert((local.clone(), peer.clone()));
        }
        true
    }
}

impl Driver {
    /// Runs until it is told to leave.
    pub(crate) async fn run(mut self, mut inlets: Inlets) {
        let mut show_at = tokio::time::Instant::now();
        self.tasks.stale = true;
        self.shown.members = Arc::clone(&inlets.members_view.borrow_and_update());
        if let Some(input) = self.peers.begin() {
            self.handle_peers(input);
        }
        let done = loop {
            self.drain();
            let cells = self.cells.as_ref().and_then(Cells::deadline);
            let deadline = [self.formation.next_deadline(), self.picture.deadline(), cells].into_iter().flatten().min();
            let unready_at = self.unready_at();
            tokio::select! {
                biased;
                Some(command) = inlets.commands.recv() => match command {
                    Command::Leave { nodes, done } => {
                        self.leave(nodes).await;
                        break done;
                    }
                    // Whoever asked may have gone; the change stands.
                    Command::Change { change, done } => drop(done.send(self.change_topology(change))),
                    Command::Reload { wanted, done } => drop(done.send(self.reload(wanted))),
                },
                () = tokio::time::sleep_until(show_at), if self.tasks.stale => {
                    self.show();
                    show_at = tokio::time::Instant::now() + SHOW_EVERY;
                }
                Some(event) = inlets.locals.recv() => self.handle_local(event),
                Some(outcome) = self.tasks.running.join_next() => self.handle_outcome(outcome),
                Some(event) = inlets.members.recv() => self.handle_member(&event),
                Ok(()) = inlets.members_view.changed() => {
                    let view = Arc::clone(&inlets.members_view.borrow_and_update());
                    self.show_members(view);
                }
                Some((topology, update)) = inlets.sources.recv() => self.handle_source(topology, update),
                Ok(()) = inlets.epmd.changed() => {
                    self.shown.epmd = inlets.epmd.borrow_and_update().clone();
                    self.tasks.stale = true;
                }
                () = tokio::time::sleep_until(self.clock.when(deadline)) => {
                    let changes = self.picture.expire(self.clock.now());
                    self.publish(changes);
                    self.place();
                }
                () = tokio::time::sleep_until(self.clock.when(unready_at)), if unready_at.is_some() => self.warn_unready(),
            }
        };
        self.show();
        self.log.close();
        if done.send(()).is_err() {
            debug!("whoever asked the agent to leave does not wait for it");
        }
    }

    pub(super) fn input(&mut self, input: Input) {
        self.tasks.stale = true;
        self.formation.handle_input(self.clock.now(), input);
    }

    fn handle_source(&mut self, topology: TopologyName, update: SourceUpdate) {
        self.shown.source(&topology, &update);
        self.peers.source(&topology, &update);
        self.input(Input::Source { topology, update });
    }

    /// What members say to formation.
    fn handle_peers(&mut self, input: Input) {
        if let Input::Source { topology, update } = &input {
            self.shown.source(topology, update);
        }
        self.input(input);
    }

    /// Something happened to another agent.
    fn handle_member(&mut self, event: &MemberEvent) {
        for input in self.peers.member(event) {
            self.handle_peers(input);
        }
        let (kind, reason) = match event.change {
            MemberChange::Joined => (EventKind::MemberJoin, None),
            MemberChange::Suspect => (EventKind::MemberSuspect, Some("no answer")),
            MemberChange::Recovered => (EventKind::MemberUpdate, Some("answers again")),
            MemberChange::Updated => (EventKind::MemberUpdate, None),
            MemberChange::Failed => (EventKind::MemberFailed, Some("no answer")),
            MemberChange::Left(reason) | MemberChange::Ended(reason) => (EventKind::MemberLeave, Some(reason.as_str())),
            MemberChange::NodesChanged | MemberChange::Forgotten => return,
        };
        match reason {
            Some(reason) => info!("{} {} ({}): {reason}", kind.as_str(), event.name, event.address),
            None => info!("{} {} ({})", kind.as_str(), event.name, event.address),
        }
        let subject = Subject { member: Some(event.name.clone()), ..Subject::default() };
        self.event(kind, subject, event.place.clone(), reason.map(str::to_owned));
        self.tasks.stale = true;
    }

    fn show_members(&mut self, view: Arc<MembersView>) {
        let living = view.members.iter().filter(|member| member.state <= MemberState::Suspect);
        let agents: BTreeSet<AgentId> = living.map(|member| member.id).collect();
        let port = view.members.iter().find(|member| member.own).map(|member| member.address.port());
        self.shown.renew(view.id);
        self.announce.send_if_modified(|local| {
            let changed = local.agent != view.id || local.agents != agents || local.port != port;
            (local.agent, local.agents, local.port) = (view.id, agents, port);
            changed
        });
        self.shown.members = view;
        self.place();
        self.tasks.stale = true;
    }

    /// Members or local nodes changed, or time has passed: tells formation which node is in which cell.
    fn place(&mut self) {
        let Some(cells) = &mut self.cells else { return };
        let members = Arc::clone(&self.shown.members);
        let linked = self.tasks.locals.values().any(|held| !held.links.is_empty());
        let now = self.clock.now();
        cells.hear(now, &members.members, linked);
        let nodes = cells.nodes(&members.members, members.id, self.tasks.locals.keys());
        self.shown.place(cells);
        self.input(Input::Cells { cells: Some(nodes) });
    }

    fn handle_local(&mut self, event: LocalEvent) {
        self.tasks.stale = true;
        match event {
            LocalEvent::Ready { node, otp, links, ours } => {
                info!("{node} is held (OTP {}, {} links)", otp.as_deref().unwrap_or("none"), links.len());
                self.shown.refused.remove(node.basename());
                let rust = otp.is_none();
                let changes = self.picture.local_ready(&node, otp, rust);
                self.publish(changes);
                self.tasks.locals.insert(node.clone(), Held { ours, links: BTreeSet::new() });
                for peer in &links {
                    self.link_up(&node, peer);
                }
                let changes = self.picture.links_told(&node, &links);
                self.publish(changes);
                self.place();
                self.input(Input::LocalReady { node });
                self.announce();
            }
            LocalEvent::Link { node, peer, up: true } => self.link_up(&node, &peer),
            LocalEvent::Link { node, peer, up: false } => self.link_down(&node, &peer),
            LocalEvent::Links { node, links } => {
                let Some(held) = self.tasks.locals.get(&node) else { return };
                let gone: Vec<NodeName> = held.links.difference(&links).cloned().collect();
                for peer in &gone {
                    self.link_down(&node, peer);
                }
                for peer in &links {
                    self.link_up(&node, peer);
                }
            }
            LocalEvent::Gone { node, reason } => {
                info!("{node} is gone: {reason}");
                self.tasks.locals.remove(&node);
                self.tasks.parted.forget_local(&node);
                let changes = self.picture.local_gone(self.clock.now(), &node, &reason);
                self.publish(changes);
                self.input(Input::LocalGone { node });
                self.announce();
            }
            LocalEvent::Forgotten { basename } => drop(self.shown.refused.remove(&basename)),
            LocalEvent::Refused { basename, reason } => {
                warn!("{reason}");
                self.shown.refused.insert(basename, reason);
            }
        }
    }

    fn link_up(&mut self, local: &NodeName, peer: &NodeName) {
        let Some(held) = self.tasks.locals.get_mut(local) else { return };
        if held.links.insert(peer.clone()) {
            self.tasks.parted.forget(&(local.clone(), peer.clone()));
            let changes = self.picture.link_up(local, peer);
            self.publish(changes);
            self.input(Input::LinkUp { local: local.clone(), peer: peer.clone() });
        }
    }

    fn link_down(&mut self, local: &NodeName, peer: &NodeName) {
        let Some(held) = self.tasks.locals.get_mut(local) else { return };
        if held.links.remove(peer) {
            let changes = self.picture.link_down(local, peer, &format!("lost by {local}"));
            self.publish(changes);
            self.tasks.parted.remember(local, peer);
            self.input(Input::LinkDown { local: local.clone(), peer: peer.clone() });
        }
    }

    /// Tells the event log what the picture says.
    fn publish(&mut self, changes: Vec<picture::Change>) {
        for picture::Change { node, up, reason } in changes {
            let kind = if up { EventKind::NodeUp } else { EventKind::NodeDown };
            match (&reason, up) {
                (Some(reason), false) => info!("nodedown {node}: {reason}"),
                (_, _) => info!("{} {node}", kind.as_str()),
            }
            let zone = self.place_of(&node).zone;
            self.shown.node_changed(&node, reason.as_deref().filter(|_| !up));
            if self.log.publish(kind, Subject::node(node), zone, reason).is_none() {
                debug!("an event that changes nothing was left out");
            }
            self.tasks.stale = true;
        }
    }

    /// Where a node runs, as far as anyone said.
    fn place_of(&self, node: &NodeName) -> Place {
        match self.picture.entry(node) {
            Some(entry) if entry.local => self.place.clone(),
            Some(_) | None => self.formation.peer(node).as_ref().map(show::place_in).unwrap_or_default(),
        }
    }

    fn announce(&self) {
        let nodes: BTreeSet<NodeName> = self.tasks.locals.keys().cloned().collect();
        self.announce.send_if_modified(|local| {
            let changed = local.nodes != nodes;
            local.nodes = nodes;
            changed
        });
    }

    /// Other agents are told of the local nodes.
    fn tell_members(&self) {
        let nodes = self.tasks.locals.keys().cloned().collect();
        let links = u32::try_from(self.shown.counters.links).unwrap_or(u32::MAX);
        self.peers.inlets.local(LocalNodes { nodes, links, gateway: self.offer });
    }

    fn handle_outcome(&mut self, outcome: Result<Outcome, tokio::task::JoinError>) {
        match outcome {
            Ok(Outcome::Dialled { local, peer, outcome }) => {
                self.shown.counters.dials_failed += u64::from(outcome.is_err());
                self.input(Input::Dialled { local, peer, outcome });
            }
            Ok(Outcome::Dropped { local, peer, error }) => {
                if let Some(error) = error {
                    warn!("{local} could not drop {peer}: {error}");
                }
                self.input(Input::Dropped { local, peer });
            }
            Ok(Outcome::Parted { local, peer, error }) => {
                if let Some(error) = error {
                    debug!("{local} could not part from {peer}: {error}");
                }
            }
            Ok(Outcome::Checked { peer, number, alive }) => match (self.tasks.checks.end(&peer, number), alive) {
                (true, Some(alive)) => self.input(Input::PeerChecked { peer, alive }),
                // Formation gives a check up by itself when no outcome comes.
                (_, None) => debug!("nothing can be learned of the host of {peer}"),
                (false, Some(_)) => debug!("{peer} is being checked anew"),
            },
            // Formation gives a dial up by itself when no outcome comes.
            Err(error) => warn!("a task of the agent failed: {error}"),
        }
    }

    /// Carries out what formation wants, until it has nothing more.
    fn drain(&mut self) {
        while let Some(output) = self.formation.poll_output(self.clock.now()) {
            self.tasks.stale = true;
            match output {
                Output::Dial { local, peer } => self.dial(local, peer),
                Output::Drop { local, peer, how } => self.remove(local, peer, how),
                Output::Check { peer } => self.check(peer),
                Output::Note(note) => {
                    if self.tasks.is_news(&note) {
                        self.tell(&note);
                    }
                }
                Output::CandidateFound { topology, candidate } => {
                    self.shown.topology_changed(&topology, TopologyChange::Found, Some(&candidate.node));
                    let subject = Subject::candidate(topology, candidate.node);
                    self.event(EventKind::CandidateFound, subject, candidate.host.place, None);
                }
                Output::CandidateLost { topology, node } => {
                    self.shown.topology_changed(&topology, TopologyChange::Lost, Some(&node));
                    let place = self.place_of(&node);
                    self.event(EventKind::CandidateLost, Subject::candidate(topology, node), place, None);
                }
                Output::TopologyError { topology, error } => {
                    self.shown.topology_changed(&topology, TopologyChange::Failing, None);
                    warn!("topology {topology}: {error}; what it found before stays");
                    self.event(EventKind::TopologyError, Subject::topology(topology), Place::default(), Some(error));
                }
                Output::TopologyRecovered { topology } => {
                    self.shown.topology_changed(&topology, TopologyChange::Recovered, None);
                    info!("topology {topology}: answers again");
                    self.event(EventKind::TopologyRecovered, Subject::topology(topology), Place::default(), None);
                }
            }
        }
    }

    pub(super) fn event(&self, kind: EventKind, subject: Subject, place: Place, reason: Option<String>) {
        if self.log.publish(kind, subject, place.zone, reason).is_none() {
            debug!("an event came after the log was closed");
        }
    }

    fn dial(&mut self, local: NodeName, peer: NodeName) {
        self.shown.counters.dials += 1;
        let Some(held) = self.tasks.locals.get(&local) else {
            return self.input(Input::Dialled { local, peer, outcome: Err(DialError::LocalUnavailable) });
        };
        let parted = self.tasks.parted.contains(&(local.clone(), peer.clone()));
        let parted = parted.then(|| held.links.iter().cloned().collect());
        let beside = held.links.iter().filter(|other| **other != peer && other.host() == peer.host());
        let neighbours = beside.map(|other| other.basename().to_owned()).collect();
        let dial = Dial { ours: held.ours.clone(), local, peer, epmd_port: self.epmd_port, neighbours, parted };
        let memory = self.tasks.memory.clone();
        self.tasks.running.spawn(async move {
            let outcome = dial::dial(&dial, &memory).await;
            Outcome::Dialled { local: dial.local, peer: dial.peer, outcome }
        });
    }

    fn check(&mut self, peer: NodeName) {
        let held = self.tasks.locals.iter().find(|(_, held)| held.links.contains(&peer));
        let witness = held.map(|(local, held)| Witness { ours: held.ours.clone(), local: local.clone() });
        let (port, memory, window) = (self.epmd_port, self.tasks.memory.clone(), self.check_window);
        let number = self.tasks.checks.begin(&peer);
        self.tasks.running.spawn(async move {
            let alive = check::alive(&peer, port, &memory, witness, window).await;
            Outcome::Checked { peer, number, alive }
        });
    }

    fn remove(&mut self, local: NodeName, peer: NodeName, how: DropHow) {
        self.shown.counters.drops += 1;
        debug!("{local} drops {peer}");
        let Some(held) = self.tasks.locals.get(&local) else { return self.input(Input::Dropped { local, peer }) };
        let ours = held.ours.clone();
        if how == DropHow::Part {
            self.tasks.running.spawn(async move {
                let error = dial::remove(&ours, &local, &peer, how).await.err().map(|error| error.to_string());
                Outcome::Parted { local, peer, error }
            });
            return;
        }
        if how == DropHow::Disconnect {
            self.tasks.parted.remember(&local, &peer);
        }
        self.tasks.running.spawn(async move {
            let error = dial::remove(&ours, &local, &peer, how).await.err().map(|error| error.to_string());
            Outcome::Dropped { local, peer, error }
        });
    }

    fn show(&mut self) {
        self.tasks.stale = false;
        self.shown.counters.links = self.tasks.locals.values().map(|held| held.links.len() as u64).sum();
        self.tell_members();
        let view =
            show::view(self.clock.now(), &mut self.shown, &self.formation, &self.picture, &self.place, &self.readiness);
        self.view.send_replace(Arc::new(view));
    }

    /// When the log says that this host is still not clustered as asked.
    fn unready_at(&self) -> Option<metacluster_types::Instant> {
        let asked = self.readiness.nodes_min > 1 || !self.readiness.mandatory.is_empty();
        (asked && !self.tasks.warned_unready).then(|| metacluster_types::Instant::from_origin(self.readiness_timeout))
    }

    fn warn_unready(&mut self) {
        self.tasks.warned_unready = true;
        let readiness = self.formation.readiness(&self.readiness);
        if !readiness.ready {
            let after = format_duration(self.readiness_timeout);
            warn!("not clustered after {after}: {}", show::unready(&readiness, &self.readiness));
        }
    }

    /// Ends what runs: the local nodes' links if asked, then the strategies, which say goodbye.
    async fn leave(&mut self, nodes: bool) {
        self.shown.leaving = true;
        self.show();
        self.tasks.running.shutdown().await;
        // Other agents hear of it first, and while the rest ends.
        let inlets = self.peers.inlets.clone();
        let told = tokio::spawn(async move { inlets.leave().await });
        if nodes {
            for (local, held) in &self.tasks.locals {
                info!("{local} leaves its mesh");
                let (ours, local) = (held.ours.clone(), local.clone());
                self.tasks.running.spawn(async move {
                    let error = dial::remove(&ours, &local, &local, DropHow::LeaveMesh).await.err();
                    Outcome::Dropped { peer: local.clone(), local, error: error.map(|error| error.to_string()) }
                });
            }
            let all = async {
                while let Some(outcome) = self.tasks.running.join_next().await {
                    if let Ok(Outcome::Dropped { local, error: Some(error), .. }) = outcome {
                        warn!("{local} could not leave its mesh: {error}");
                    }
                }
            };
            if tokio::time::timeout(LEAVE, all).await.is_err() {
                warn!("not every local node left its mesh in time");
            }
        }
        self.topologies.stop().await;
        if let Err(error) = told.await {
            warn!("other agents were not told that this one leaves: {error}");
        }
    }
}
