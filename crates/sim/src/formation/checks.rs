//! The checkers: what must hold at each step, whatever happens.
//!
//! A checker sees what one machine was told and what it put out, and keeps a small model of its own: what the sources
//! said, which local nodes are ready, which dials are in flight. It never asks the machine, but for its sizes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use metacluster_formation::{Counters, DropHow, Input, Note, Output, Settings, TopologyRules};
use metacluster_types::{AgentId, Instant, NodeName, SourceUpdate, TopologyName};

/// A rule that a machine broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A node was to dial itself.
    #[error("{0} was to dial itself")]
    SelfDial(NodeName),
    /// More dials in a second than the settings allow.
    #[error("{dials} dials within a second, at most {max}")]
    DialStorm {
        /// So many.
        dials: usize,
        /// The bound.
        max: usize,
    },
    /// More dials in flight than the settings allow.
    #[error("{dials} dials in flight, at most {max}")]
    TooManyInFlight {
        /// So many.
        dials: usize,
        /// The bound.
        max: usize,
    },
    /// A dial that no topology wants.
    #[error("{local} was to dial {peer}, which no topology wants")]
    UnwantedDial {
        /// The local node.
        local: NodeName,
        /// The peer.
        peer: NodeName,
    },
    /// A second dial while one is in flight for the pair, in either direction.
    #[error("a second dial of {local} and {peer} while one is in flight")]
    SecondDial {
        /// The local node.
        local: NodeName,
        /// The peer.
        peer: NodeName,
    },
    /// A drop that pruning does not warrant.
    #[error("{local} was to drop {peer} ({how:?}): {why}")]
    UnwarrantedDrop {
        /// The local node.
        local: NodeName,
        /// The peer.
        peer: NodeName,
        /// In which way.
        how: DropHow,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A candidate that no source named, or that was said twice.
    #[error("{topology} was said to have found {node} {why}")]
    FalseFound {
        /// The topology.
        topology: TopologyName,
        /// The candidate.
        node: NodeName,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A candidate that was lost though its source still has it, as after a failed look-up.
    #[error("{topology} was said to have lost {node}, which its source still has")]
    FalseLost {
        /// The topology.
        topology: TopologyName,
        /// The candidate.
        node: NodeName,
    },
    /// A line in the log that was said before, or that was not due.
    #[error("a needless note: {0:?}")]
    NeedlessNote(Note),
    /// The machine has something to do now, but said that it had nothing.
    #[error("drained, yet due at {0:?}")]
    Livelock(Instant),
    /// The machine keeps more than the world has.
    #[error("it keeps {kept} {what}, at most {max}")]
    Memory {
        /// Of what.
        what: &'static str,
        /// So many.
        kept: usize,
        /// The bound.
        max: usize,
    },
    /// A wanted pair of live nodes is not linked in time.
    #[error(
        "{missing} wanted links are missing {after:?} after the last fault, at most {bound:?}; one is {local} and {peer}"
    )]
    NotConverged {
        /// So many.
        missing: usize,
        /// So late.
        after: Duration,
        /// The bound.
        bound: Duration,
        /// One end of one of them.
        local: NodeName,
        /// The other.
        peer: NodeName,
    },
    /// A link between two nodes that live was dropped, though their hosts reached one another all the while.
    #[error("{local} was to drop {peer}, which lives and was reached all the while")]
    LiveLinkDropped {
        /// The local node.
        local: NodeName,
        /// The peer.
        peer: NodeName,
    },
    /// A node still holds the link to a peer on a host that has been dead for long.
    #[error("{local} still holds its link to {peer}, whose host died {after:?} ago")]
    NotTold {
        /// The local node.
        local: NodeName,
        /// The peer.
        peer: NodeName,
        /// How long ago.
        after: Duration,
    },
    /// In the end the machine's links are not those of its nodes.
    #[error("{local} and {peer}: the nodes say linked = {truth}, the machine says otherwise")]
    LinksDiverged {
        /// The local node.
        local: NodeName,
        /// The peer.
        peer: NodeName,
        /// What the nodes say.
        truth: bool,
    },
}

/// What one source said, and what the machine made of it.
#[derive(Debug, Default)]
struct Said {
    rules: TopologyRules,
    /// The source names it.
    listed: BTreeSet<NodeName>,
    /// The machine has it as a candidate.
    held: BTreeSet<NodeName>,
}

/// What happened to a peer that is relevant to pruning.
#[derive(Clone, Copy, Debug, Default)]
struct PruneModel {
    /// A topology that never prunes has had it.
    kept: bool,
    /// The last check said so.
    dead: Option<bool>,
}

/// A host that membership holds failed.
#[derive(Debug, Default)]
struct FailedModel {
    nodes: BTreeSet<NodeName>,
    witnesses: usize,
    /// Those that the last check found silent.
    silent: BTreeSet<NodeName>,
    /// What its last check found so far: `Some(true)` once one peer answered.
    answers: Option<bool>,
}

/// The checker of one machine.
#[derive(Debug)]
pub struct Checker {
    settings: Settings,
    topologies: BTreeMap<TopologyName, Said>,
    ready: BTreeSet<NodeName>,
    in_flight: BTreeMap<(NodeName, NodeName), (NodeName, Instant)>,
    dialled: VecDeque<Instant>,
    peers: BTreeMap<NodeName, PruneModel>,
    /// Hosts that membership holds failed.
    failed: BTreeMap<AgentId, FailedModel>,
    /// Said to fail, and not to have recovered.
    failing: BTreeSet<NodeName>,
    /// Of those, the ones that may be said to fail anew: their tries ended for want of a local node or a source.
    forgotten: BTreeSet<NodeName>,
    summary_at: Option<Instant>,
    links: BTreeSet<(NodeName, NodeName)>,
    links_kept: bool,
}

fn pair(one: &NodeName, other: &NodeName) -> (NodeName, NodeName) {
    if one <= other { (one.clone(), other.clone()) } else { (other.clone(), one.clone()) }
}

impl Checker {
    /// A checker of a machine with these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            topologies: BTreeMap::new(),
            ready: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            dialled: VecDeque::new(),
            peers: BTreeMap::new(),
            failed: BTreeMap::new(),
            failing: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            summary_at: None,
            links: BTreeSet::new(),
            links_kept: true,
        }
    }

    /// Spares the memory of every link at large scale; the bound of the machine's memory is not checked then.
    pub fn skip_links(&mut self) {
        self.links_kept = false;
    }

    /// Notes what the machine is told.
    pub fn on_input(&mut self, input: &Input) {
        match input {
            Input::TopologyAdded { name, rules } => {
                let said = self.topologies.entry(name.clone()).or_default();
                said.rules = rules.clone();
                if !rules.prune {
                    for node in &said.held {
                        self.peers.entry(node.clone()).or_default().kept = true;
                    }
                }
            }
            Input::TopologyRemoved { name } => {
                if let Some(said) = self.topologies.get_mut(name) {
                    said.listed.clear();
                    for node in &said.held {
                        self.peers.entry(node.clone()).or_default().kept = true;
                    }
                }
            }
            Input::Source { topology, update } => {
                let Some(said) = self.topologies.get_mut(topology) else { return };
                match update {
                    SourceUpdate::Snapshot(candidates) => {
                        said.listed = candidates.iter().map(|candidate| candidate.node.clone()).collect();
                    }
                    SourceUpdate::Found(candidate) => {
                        said.listed.insert(candidate.node.clone());
                    }
                    SourceUpdate::Lost(node) => {
                        said.listed.remove(node);
                    }
                    SourceUpdate::Failed(_) | SourceUpdate::Hosts(_) | SourceUpdate::Notes(_) => {}
                }
            }
            Input::LocalReady { node } => {
                self.ready.insert(node.clone());
            }
            Input::LocalGone { node } => {
                self.ready.remove(node);
                self.forgotten = self.failing.clone();
                self.in_flight.retain(|_, (local, _)| local != node);
                if self.links_kept {
                    self.links.retain(|(one, other)| one != node && other != node);
                }
            }
            Input::LinkUp { local, peer } => {
                if self.links_kept {
                    self.links.insert(pair(local, peer));
                }
            }
            Input::LinkDown { local, peer } => {
                if self.links_kept {
                    self.links.remove(&pair(local, peer));
                }
            }
            Input::Dialled { local, peer, outcome } => {
                let key = pair(local, peer);
                if self.in_flight.get(&key).is_some_and(|(dialler, _)| dialler == local) {
                    self.in_flight.remove(&key);
                }
                if outcome.is_ok() && self.links_kept {
                    self.links.insert(key);
                }
            }
            // No simulated cluster has cells.
            Input::Dropped { .. } | Input::PeerAlive { .. } | Input::Cells { .. } => {}
            Input::HostFailed { agent, nodes, witnesses } => {
                let nodes: BTreeSet<NodeName> =
                    nodes.iter().filter(|node| !self.ready.contains(*node)).cloned().collect();
                for other in self.failed.values_mut() {
                    other.nodes.retain(|node| !nodes.contains(node));
                }
                self.failed.insert(*agent, FailedModel { nodes, witnesses: *witnesses, ..FailedModel::default() });
            }
            Input::HostAlive { agent, nodes } => {
                self.failed.remove(agent);
                for other in self.failed.values_mut() {
                    other.nodes.retain(|node| !nodes.contains(node));
                }
            }
            Input::HostForgotten { agent } => {
                self.failed.remove(agent);
            }
            Input::PeerChecked { peer, alive } => {
                self.peers.entry(peer.clone()).or_default().dead = Some(!alive);
                for host in self.failed.values_mut().filter(|host| host.nodes.contains(peer)) {
                    host.answers = Some(host.answers == Some(true) || *alive);
                    if !alive {
                        host.silent.insert(peer.clone());
                    }
                }
            }
        }
    }

    fn wanted(&self, local: &NodeName, peer: &NodeName) -> bool {
        self.ready.contains(local)
            && local.is_long() == peer.is_long()
            && self.topologies.values().any(|said| said.held.contains(peer) && said.rules.admits(local))
    }

    /// Checks what the machine puts out.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn on_output(&mut self, now: Instant, output: &Output) -> Result<(), Violation> {
        match output {
            Output::Dial { local, peer } => self.on_dial(now, local, peer),
            Output::Drop { local, peer, how } => self.on_drop(local, peer, *how),
            Output::Check { peer } => {
                self.peers.entry(peer.clone()).or_default().dead = None;
                for host in self.failed.values_mut().filter(|host| host.nodes.contains(peer)) {
                    host.answers = None;
                    host.silent.remove(peer);
                }
                Ok(())
            }
            Output::Note(note) => self.on_note(now, note),
            Output::CandidateFound { topology, candidate } => self.on_found(topology, &candidate.node),
            Output::CandidateLost { topology, node } => self.on_lost(topology, node),
            Output::TopologyError { .. } | Output::TopologyRecovered { .. } => Ok(()),
        }
    }

    fn on_dial(&mut self, now: Instant, local: &NodeName, peer: &NodeName) -> Result<(), Violation> {
        if local == peer {
            return Err(Violation::SelfDial(local.clone()));
        }
        if !self.wanted(local, peer) {
            return Err(Violation::UnwantedDial { local: local.clone(), peer: peer.clone() });
        }
        let timeout = self.settings.dial_timeout;
        self.in_flight.retain(|_, (_, since)| now.since(*since) < timeout);
        if self.in_flight.insert(pair(local, peer), (local.clone(), now)).is_some() {
            return Err(Violation::SecondDial { local: local.clone(), peer: peer.clone() });
        }
        let max = self.settings.dials_in_flight_max;
        if self.in_flight.len() > max {
            return Err(Violation::TooManyInFlight { dials: self.in_flight.len(), max });
        }
        self.dialled.push_back(now);
        while self.dialled.front().is_some_and(|&at| now.since(at) >= Duration::from_secs(1)) {
            self.dialled.pop_front();
        }
        let max = (self.settings.dials_burst + self.settings.dials_per_second) as usize;
        if self.dialled.len() > max {
            return Err(Violation::DialStorm { dials: self.dialled.len(), max });
        }
        Ok(())
    }

    fn on_drop(&mut self, local: &NodeName, peer: &NodeName, how: DropHow) -> Result<(), Violation> {
        let model = self.peers.get(peer).copied().unwrap_or_default();
        if let Some(host) = self.failed.values().find(|host| host.nodes.contains(peer)) {
            return self.on_drop_of_failed(host, local, peer, how);
        }
        let why = if self.topologies.values().any(|said| said.held.contains(peer)) {
            "a topology has it"
        } else if model.kept {
            "a topology that had it never prunes"
        } else {
            match how {
                DropHow::LeaveMesh if local != peer || !self.ready.contains(local) => "only a local node leaves",
                DropHow::Disconnect if self.ready.contains(peer) => "a local node leaves by itself",
                DropHow::Disconnect if model.dead != Some(true) => "no check found it dead",
                DropHow::LeaveMesh => {
                    // Nothing is dialled from there any more, so what failed is forgotten.
                    self.forgotten = self.failing.clone();
                    return Ok(());
                }
                DropHow::Disconnect => return Ok(()),
                DropHow::Part => "there are no cells",
            }
        };
        Err(Violation::UnwarrantedDrop { local: local.clone(), peer: peer.clone(), how, why })
    }

    fn on_drop_of_failed(
        &self,
        host: &FailedModel,
        local: &NodeName,
        peer: &NodeName,
        how: DropHow,
    ) -> Result<(), Violation> {
        let someone_answers = self.failed.values().any(|host| host.answers == Some(true));
        let why = if how != DropHow::Disconnect || self.ready.contains(peer) {
            "a local node leaves by itself"
        } else if !host.silent.contains(peer) {
            "no check found it dead"
        } else if host.answers == Some(true) {
            "its host answers"
        } else if host.witnesses == 0 && someone_answers {
            "nobody confirms it, and another host answers"
        } else {
            return Ok(());
        };
        Err(Violation::UnwarrantedDrop { local: local.clone(), peer: peer.clone(), how, why })
    }

    fn on_note(&mut self, now: Instant, note: &Note) -> Result<(), Violation> {
        let due = match note {
            Note::PeerFailing { peer, .. } => self.failing.insert(peer.clone()) || self.forgotten.remove(peer),
            Note::PeerRecovered { peer, .. } => {
                self.forgotten.remove(peer);
                self.failing.remove(peer)
            }
            Note::Summary { .. } => {
                let last = self.summary_at.replace(now);
                last.is_none_or(|last| now.since(last) >= self.settings.summary_interval)
            }
            Note::NameFormsMixed { .. }
            | Note::CandidatesRefused { .. }
            | Note::PruneHeld { .. }
            | Note::AgentDown { .. }
            | Note::Unconfirmed { .. }
            | Note::HostDropped { .. } => true,
            Note::CellParted { .. } => false,
        };
        if due { Ok(()) } else { Err(Violation::NeedlessNote(note.clone())) }
    }

    fn on_found(&mut self, topology: &TopologyName, node: &NodeName) -> Result<(), Violation> {
        let wrong = |why| Violation::FalseFound { topology: topology.clone(), node: node.clone(), why };
        let held_elsewhere = self.topologies.values().any(|said| said.held.contains(node));
        let Some(said) = self.topologies.get_mut(topology) else { return Err(wrong("though it is no topology")) };
        if !said.listed.contains(node) {
            return Err(wrong("though no source named it"));
        }
        if !said.held.insert(node.clone()) {
            return Err(wrong("twice"));
        }
        let (kept, model) = (!said.rules.prune, self.peers.entry(node.clone()).or_default());
        if held_elsewhere {
            model.kept |= kept;
        } else {
            *model = PruneModel { kept, dead: None };
        }
        Ok(())
    }

    fn on_lost(&mut self, topology: &TopologyName, node: &NodeName) -> Result<(), Violation> {
        if let Some(said) = self.topologies.get_mut(topology)
            && !said.listed.contains(node)
            && said.held.remove(node)
        {
            self.forgotten.insert(node.clone());
            return Ok(());
        }
        Err(Violation::FalseLost { topology: topology.clone(), node: node.clone() })
    }

    /// Checks the machine after it was drained.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn on_drained(&self, now: Instant, deadline: Option<Instant>) -> Result<(), Violation> {
        match deadline {
            Some(at) if at <= now => Err(Violation::Livelock(at)),
            Some(_) | None => Ok(()),
        }
    }

    /// Checks what the machine keeps against what it was told. Dear; call it now and then.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn on_sizes(&self, counters: Counters) -> Result<(), Violation> {
        if !self.links_kept {
            return Ok(());
        }
        let held: BTreeSet<&NodeName> = self.topologies.values().flat_map(|said| &said.held).collect();
        let ends = self.links.len() * 2;
        let pairs_max = self.ready.len() * held.len() + self.links.len() + self.settings.dials_in_flight_max;
        for (what, kept, max) in [
            ("nodes", counters.nodes, held.len() + self.ready.len() + ends + 2 * self.settings.dials_in_flight_max),
            ("pairs", counters.pairs, pairs_max),
            ("entries in queues", counters.queued, pairs_max * 2 + held.len() + ends + 64),
        ] {
            if kept > max {
                return Err(Violation::Memory { what, kept, max });
            }
        }
        Ok(())
    }
}
