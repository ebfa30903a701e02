//! Topologies: what each source says, and the guard that doubts an answer with far too few peers.

use std::collections::{BTreeMap, BTreeSet};

use metacluster_types::{Candidate, Instant, NodeName, SourceUpdate, TopologyName};

use crate::{
    Formation, Note, Output, TopologyRules,
    pairs::Cause,
    state::{NodeId, Nodes},
};

/// A candidate as one topology has it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) candidate: Candidate,
    pub(crate) since: Instant,
    pub(crate) last_seen: Instant,
}

/// An answer that would remove too much, until it is repeated.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// When the first of them came.
    pub(crate) since: Instant,
    /// Answers in a row.
    pub(crate) answers: u32,
    /// The candidates that all of these answers lack.
    pub(crate) missing: BTreeSet<NodeId>,
}

/// A topology.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    pub(crate) rules: TopologyRules,
    /// The ready local nodes that the rules admit.
    pub(crate) admitted: BTreeSet<NodeId>,
    pub(crate) known: BTreeMap<NodeId, Known>,
    pub(crate) last_ok: Option<Instant>,
    pub(crate) last_error: Option<(Instant, String)>,
    pub(crate) failing: bool,
    pub(crate) errors: u64,
    pub(crate) held: Option<Held>,
    pub(crate) refused: u64,
    pub(crate) refusing: bool,
    pub(crate) forms_noted: bool,
}

impl Topology {
    fn new(rules: TopologyRules) -> Self {
        Self {
            rules,
            admitted: BTreeSet::new(),
            known: BTreeMap::new(),
            last_ok: None,
            last_error: None,
            failing: false,
            errors: 0,
            held: None,
            refused: 0,
            refusing: false,
            forms_noted: false,
        }
    }

    /// A local node and a candidate of which one has a short name and the other a long one.
    fn odd_form(&self, nodes: &Nodes, of: Option<NodeId>) -> Option<(NodeName, NodeName)> {
        let find = |peer: NodeId| {
            let odd = |&&local: &&NodeId| nodes[local].long != nodes[peer].long;
            let local = self.admitted.iter().find(odd)?;
            Some((nodes[*local].name.clone(), nodes[peer].name.clone()))
        };
        of.map_or_else(|| self.known.keys().find_map(|&peer| find(peer)), find)
    }
}

impl Formation {
    pub(crate) fn on_topology_added(&mut self, now: Instant, name: &TopologyName, rules: TopologyRules) {
        let topology = self.topologies.entry(name.clone()).or_insert_with(|| Topology::new(rules.clone()));
        topology.rules = rules;
        topology.admitted = self
            .locals
            .iter()
            .copied()
            .filter(|&id| {
                self.nodes[id].local.is_some_and(|it| it.ready) && topology.rules.admits(&self.nodes[id].name)
            })
            .collect();
        let (keeps, known) = (!topology.rules.prune, topology.known.keys().copied().collect::<Vec<_>>());
        for id in known {
            self.nodes[id].kept |= keeps;
            self.refresh_peer(now, id, Cause::Changed);
        }
        self.note_name_forms(None);
    }

    pub(crate) fn on_topology_removed(&mut self, now: Instant, name: &TopologyName) {
        let Some(topology) = self.topologies.get(name) else { return };
        for id in topology.known.keys().copied().collect::<Vec<_>>() {
            self.nodes[id].kept = true;
            self.lose(now, name, id);
        }
        self.topologies.remove(name);
    }

    pub(crate) fn on_source(&mut self, now: Instant, name: &TopologyName, update: SourceUpdate) {
        if !self.topologies.contains_key(name) {
            return;
        }
        match update {
            SourceUpdate::Failed(error) => {
                self.source_failed(now, name, error);
                return;
            }
            // For whoever reads of the topology; an answer of its own follows.
            SourceUpdate::Notes(_) => return,
            // Hosts are for agents to find one another; which nodes they run is told otherwise.
            SourceUpdate::Hosts(_) => {}
            SourceUpdate::Snapshot(candidates) => self.on_snapshot(now, name, candidates),
            SourceUpdate::Found(candidate) if candidate.host.state.is_wanted() => {
                self.find(now, name, candidate, true);
            }
            SourceUpdate::Found(candidate) => self.lose_by_state(now, name, &candidate.node),
            SourceUpdate::Lost(node) => {
                if let Some(id) = self.nodes.find(&node) {
                    self.lose(now, name, id);
                }
            }
        }
        self.source_succeeded(now, name);
    }

    fn source_failed(&mut self, now: Instant, name: &TopologyName, error: String) {
        let Some(topology) = self.topologies.get_mut(name) else { return };
        // What was said before it stands, but the time of a failure counts for nothing.
        if let Some(held) = &mut topology.held {
            held.since = now;
        }
        topology.errors += 1;
        topology.last_error = Some((now, error.clone()));
        if !std::mem::replace(&mut topology.failing, true) {
            self.outputs.push_back(Output::TopologyError { topology: name.clone(), error });
        }
    }

    fn source_succeeded(&mut self, now: Instant, name: &TopologyName) {
        let Some(topology) = self.topologies.get_mut(name) else { return };
        topology.last_ok = Some(now);
        if std::mem::take(&mut topology.failing) && topology.held.is_none() {
            self.outputs.push_back(Output::TopologyRecovered { topology: name.clone() });
        }
    }

    fn on_snapshot(&mut self, now: Instant, name: &TopologyName, mut candidates: Vec<Candidate>) {
        self.lose_unwanted(now, name, &mut candidates);
        let listed: BTreeSet<NodeId> = candidates.iter().filter_map(|it| self.nodes.find(&it.node)).collect();
        let Some(topology) = self.topologies.get_mut(name) else { return };
        let guard = topology.rules.guard;
        let known = topology.known.len();
        let mut missing: BTreeSet<NodeId> = topology.known.keys().filter(|id| !listed.contains(id)).copied().collect();
        let removals = missing.len();
        let held = topology.held.take();
        if guard.doubts(removals, known) {
            let (since, answers) = held.as_ref().map_or((now, 1), |held| {
                missing.retain(|id| held.missing.contains(id));
                (held.since, held.answers.saturating_add(1))
            });
            if !guard.believes(answers, now.since(since)) {
                topology.held = Some(Held { since, answers, missing: std::mem::take(&mut missing) });
                if held.is_none() {
                    let error =
                        format!("an answer without {removals} of {known} known peers is held until it is repeated");
                    self.outputs.push_back(Output::TopologyError { topology: name.clone(), error });
                }
                for candidate in candidates {
                    self.find(now, name, candidate, false);
                }
                return;
            }
        }
        for id in missing {
            self.lose(now, name, id);
        }
        for candidate in candidates {
            self.find(now, name, candidate, false);
        }
        let failing = self.topologies.get(name).is_some_and(|topology| topology.failing);
        if held.is_some() && !failing {
            self.outputs.push_back(Output::TopologyRecovered { topology: name.clone() });
        }
    }

    /// Takes out of an answer the candidates whose host its source says is not running. That is said outright, so it is
    /// never doubted; and their links stay, since it is no reason to remove a node that lives.
    fn lose_unwanted(&mut self, now: Instant, name: &TopologyName, candidates: &mut Vec<Candidate>) {
        let unwanted = |candidate: &Candidate| !candidate.host.state.is_wanted();
        for candidate in candidates.iter().filter(|candidate| unwanted(candidate)) {
            self.lose_by_state(now, name, &candidate.node);
        }
        candidates.retain(|candidate| !unwanted(candidate));
    }

    fn lose_by_state(&mut self, now: Instant, name: &TopologyName, node: &NodeName) {
        if let Some(id) = self.nodes.find(node)
            && self.topologies.get(name).is_some_and(|topology| topology.known.contains_key(&id))
        {
            self.nodes[id].kept = true;
            self.lose(now, name, id);
        }
    }

    /// When an answer that is held would be believed, if nothing contradicts it. Only a guard with a hold names a time.
    fn belief_at(topology: &Topology) -> Option<Instant> {
        let hold = topology.rules.guard.hold;
        topology.held.as_ref().filter(|_| !hold.is_zero() && !topology.failing).map(|held| held.since + hold)
    }

    pub(crate) fn next_belief_at(&self) -> Option<Instant> {
        self.topologies.values().filter_map(Self::belief_at).min()
    }

    /// Believes the answers whose hold is over.
    pub(crate) fn believe_held(&mut self, now: Instant) {
        while let Some(name) = self
            .topologies
            .iter()
            .find(|(_, topology)| Self::belief_at(topology).is_some_and(|at| at <= now))
            .map(|(name, _)| name.clone())
        {
            let held = self.topologies.get_mut(&name).and_then(|topology| topology.held.take());
            for id in held.map(|held| held.missing).unwrap_or_default() {
                self.lose(now, &name, id);
            }
            self.outputs.push_back(Output::TopologyRecovered { topology: name });
        }
    }

    /// A topology has a candidate, new or again. Being listed again in a snapshot is no sign of life, since a stale
    /// source lists the dead; a change of its agent or place is one.
    fn find(&mut self, now: Instant, name: &TopologyName, candidate: Candidate, seen: bool) {
        let candidates_max = self.settings.candidates_max;
        let Some(topology) = self.topologies.get_mut(name) else { return };
        let id = self.nodes.find(&candidate.node);
        if let Some((id, known)) = id.and_then(|id| topology.known.get_mut(&id).map(|known| (id, known))) {
            let moved = known.candidate.agent != candidate.agent || known.candidate.host.place != candidate.host.place;
            known.candidate = candidate;
            known.last_seen = now;
            if let Some(held) = &mut topology.held
                && seen
            {
                held.missing.remove(&id);
            }
            if seen || moved {
                self.on_alive(now, id);
            }
            return;
        }
        if topology.known.len() >= candidates_max {
            topology.refused += 1;
            if !std::mem::replace(&mut topology.refusing, true) {
                self.say(Note::CandidatesRefused { topology: name.clone(), candidates_max });
            }
            return;
        }
        topology.refusing = false;
        let id = self.nodes.intern(&candidate.node);
        let held = candidate.agent.is_some();
        topology.known.insert(id, Known { candidate: candidate.clone(), since: now, last_seen: now });
        let keeps = !topology.rules.prune;
        let node = &mut self.nodes[id];
        node.kept |= keeps;
        if let Err(place) = node.topologies.binary_search(name) {
            node.topologies.insert(place, name.clone());
        }
        self.outputs.push_back(Output::CandidateFound { topology: name.clone(), candidate });
        self.end_prune(now, id);
        self.refresh_peer(now, id, Cause::Found { held });
        if seen {
            self.on_alive(now, id);
        }
        self.note_name_forms(Some((name, id)));
    }

    /// A topology has a candidate no more.
    fn lose(&mut self, now: Instant, name: &TopologyName, id: NodeId) {
        let Some(topology) = self.topologies.get_mut(name) else { return };
        if topology.known.remove(&id).is_none() {
            return;
        }
        topology.refusing &= topology.known.len() >= self.settings.candidates_max;
        if let Some(held) = &mut topology.held {
            held.missing.remove(&id);
        }
        let node = &mut self.nodes[id];
        node.topologies.retain(|it| it != name);
        let gone = node.topologies.is_empty();
        self.outputs.push_back(Output::CandidateLost { topology: name.clone(), node: node.name.clone() });
        self.refresh_peer(now, id, Cause::Changed);
        if !self.nodes.contains(id) {
            return;
        }
        if gone {
            self.begin_prune(now, id);
        }
        if self.nodes.contains(id) {
            self.nodes.release(id);
        }
    }

    /// Says once a topology that short and long names cannot be linked; looks at one candidate, or at all.
    pub(crate) fn note_name_forms(&mut self, of: Option<(&TopologyName, NodeId)>) {
        let mut notes = Vec::new();
        let mut look = |name: &TopologyName, topology: &mut Topology, peer: Option<NodeId>| {
            if !topology.forms_noted
                && let Some((local, peer)) = topology.odd_form(&self.nodes, peer)
            {
                topology.forms_noted = true;
                notes.push(Note::NameFormsMixed { topology: name.clone(), local, peer });
            }
        };
        match of {
            None => self.topologies.iter_mut().for_each(|(name, topology)| look(name, topology, None)),
            Some((name, peer)) => {
                if let Some(topology) = self.topologies.get_mut(name) {
                    look(name, topology, Some(peer));
                }
            }
        }
        self.outputs.extend(notes.into_iter().map(Output::Note));
    }
}
