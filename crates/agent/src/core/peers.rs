//! Where members meet formation: the nodes that other members tell of are candidates of the topology `members`, what is
//! known of their hosts is told, and what the other topologies say of hosts is where other members may be.
//!
//! A failed member's nodes stay candidates, since a dead agent is no dead node; they go when the member has left, when
//! its provider ended it, or when it is forgotten. A node that two members tell of is a candidate while one of them does.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use metacluster_formation::Input;
use metacluster_membership::DownReason;
use metacluster_types::{AgentId, Candidate, Host, NodeName, Place, SourceUpdate, TopologyName};

use crate::members::{Inlets, MemberChange, MemberEvent};

/// The name of the built-in topology.
pub(crate) const MEMBERS: &str = "members";

/// The built-in topology's name, which is a good one.
pub(super) fn topology() -> Option<TopologyName> {
    TopologyName::new(MEMBERS).ok()
}

/// See the module.
pub(super) struct Peers {
    /// Unless the nodes of members are left to other topologies.
    topology: Option<TopologyName>,
    pub(super) inlets: Inlets,
    members: BTreeMap<AgentId, Known>,
    told: BTreeMap<NodeName, Candidate>,
}

/// A member that has not left.
struct Known {
    nodes: BTreeSet<NodeName>,
    place: Place,
    address: IpAddr,
    state: State,
    name: String,
    /// What formation was told of the failure of its host.
    told: Option<Told>,
}

/// How much weight was behind the word that a host failed. More is said anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    /// Nobody could have contradicted.
    Unconfirmed,
    /// Other members live.
    Confirmed,
    /// The provider said so.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Alive,
    Suspect,
    Failed,
    /// Its provider ended it, and its links may still be there.
    Ended,
}

impl Peers {
    pub(super) fn new(topology: Option<TopologyName>, inlets: Inlets) -> Self {
        Self { topology, inlets, members: BTreeMap::new(), told: BTreeMap::new() }
    }

    /// What a topology of the configuration says.
    pub(super) fn source(&self, topology: &TopologyName, update: &SourceUpdate) {
        self.inlets.source(|sources| sources.update(topology, update));
    }

    /// What the topology `members` says before anyone was met.
    pub(super) fn begin(&self) -> Option<Input> {
        let topology = self.topology.clone()?;
        Some(Input::Source { topology, update: SourceUpdate::Snapshot(Vec::new()) })
    }

    /// What formation is told of this, in order.
    pub(super) fn member(&mut self, event: &MemberEvent) -> Vec<Input> {
        let mut inputs = Vec::new();
        let (id, nodes) = (event.id, || event.nodes.iter().cloned().collect::<Vec<_>>());
        let mut lives = false;
        match event.change {
            MemberChange::Joined | MemberChange::Recovered => {
                lives = true;
                self.know(event, State::Alive);
                inputs.push(Input::HostAlive { agent: id, nodes: nodes() });
            }
            MemberChange::Updated | MemberChange::NodesChanged => {
                let state = self.members.get(&id).map_or(State::Alive, |known| known.state);
                self.know(event, state);
            }
            MemberChange::Suspect => self.know(event, State::Suspect),
            MemberChange::Failed => self.know(event, State::Failed),
            // What the new boot tells comes right after.
            MemberChange::Left(DownReason::Restarted) => {}
            // What the provider ended does not answer, and its links may take long to notice.
            MemberChange::Left(DownReason::Provider) => self.know(event, State::Ended),
            MemberChange::Ended(DownReason::Provider) => {
                if let Some(known) = self.members.get_mut(&id) {
                    known.state = State::Ended;
                }
            }
            MemberChange::Left(_) | MemberChange::Ended(_) | MemberChange::Forgotten => {
                self.members.remove(&id);
                inputs.push(Input::HostForgotten { agent: id });
            }
        }
        self.tell_failed(&mut inputs);
        self.tell_candidates(lives.then_some(&event.nodes), &mut inputs);
        inputs
    }

    /// Tells of the hosts that are down. While no other member lives who could contradict, this agent may be the one that
    /// is cut off, and formation hears of every host that does not answer, so that it judges them together. It does not
    /// wait for each one's time to run out then: where several members fall silent as one, the cause is here. A single
    /// other member has its time to refute.
    fn tell_failed(&mut self, inputs: &mut Vec<Input>) {
        let living: BTreeSet<NodeName> = self
            .members
            .values()
            .filter(|known| known.state == State::Alive)
            .flat_map(|known| known.nodes.iter().cloned())
            .collect();
        let alive = self.members.values().filter(|known| known.state == State::Alive).count();
        let several = self.members.len() > 1;
        for (&agent, known) in &mut self.members {
            let (word, witnesses) = match known.state {
                State::Alive => continue,
                State::Suspect if alive == 0 && several => (Told::Unconfirmed, 0),
                State::Suspect => continue,
                State::Failed if alive == 0 => (Told::Unconfirmed, 0),
                State::Failed => (Told::Confirmed, alive),
                State::Ended => (Told::Ended, alive + 1),
            };
            if known.told < Some(word) {
                known.told = Some(word);
                let nodes = known.nodes.difference(&living).cloned().collect();
                inputs.push(Input::HostFailed { agent, nodes, witnesses });
            }
        }
    }

    /// The name of a member, as far as it is known.
    pub(super) fn name(&self, agent: AgentId) -> Option<&str> {
        self.members.get(&agent).map(|known| known.name.as_str())
    }

    /// The living member that tells of a node.
    pub(super) fn living(&self, node: &NodeName) -> Option<&str> {
        let tells = |known: &&Known| known.state == State::Alive && known.nodes.contains(node);
        self.members.values().find(tells).map(|known| known.name.as_str())
    }

    /// Tells how the candidates changed, and gives a sign of life of these.
    fn tell_candidates(&mut self, seen: Option<&BTreeSet<NodeName>>, inputs: &mut Vec<Input>) {
        let Some(topology) = &self.topology else { return };
        let mut wanted: BTreeMap<NodeName, Candidate> = BTreeMap::new();
        for (&id, member) in self.members.iter().filter(|(_, known)| known.state != State::Ended) {
            for node in &member.nodes {
                wanted.entry(node.clone()).or_insert_with(|| Candidate {
                    node: node.clone(),
                    agent: Some(id),
                    host: Host { addresses: vec![member.address], place: member.place.clone(), ..Host::default() },
                });
            }
        }
        let lost = self.told.keys().filter(|node| !wanted.contains_key(*node)).cloned().map(SourceUpdate::Lost);
        let found = wanted.values().filter(|candidate| {
            let sign_of_life = seen.is_some_and(|seen| seen.contains(&candidate.node));
            sign_of_life || self.told.get(&candidate.node) != Some(candidate)
        });
        let found = found.cloned().map(SourceUpdate::Found);
        inputs.extend(lost.chain(found).map(|update| Input::Source { topology: topology.clone(), update }));
        self.told = wanted;
    }

    fn know(&mut self, event: &MemberEvent, state: State) {
        let told = self.members.get(&event.id).filter(|_| state != State::Alive).and_then(|known| known.told);
        let known = Known {
            nodes: event.nodes.clone(),
            place: event.place.clone(),
            address: event.address.ip(),
            state,
            name: event.name.clone(),
            told,
        };
        self.members.insert(event.id, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).expect("valid")
    }

    fn event(id: u128, change: MemberChange, nodes: &[&str]) -> MemberEvent {
        MemberEvent {
            id: AgentId(id),
            name: format!("m{id}"),
            place: Place::default(),
            address: "10.0.0.4:45893".parse().expect("an address"),
            change,
            nodes: nodes.iter().map(|&name| node(name)).collect(),
        }
    }

    fn said(peers: &mut Peers, id: u128, change: MemberChange, nodes: &[&str]) -> Vec<String> {
        let word = |input: Input| {
            if let Input::Source { update: SourceUpdate::Found(candidate), .. } = input {
                format!("+{}", candidate.node)
            } else if let Input::Source { update: SourceUpdate::Lost(node), .. } = input {
                format!("-{node}")
            } else if let Input::HostFailed { agent, nodes, witnesses } = input {
                format!("{} failed {} {witnesses}", agent.0, nodes.len())
            } else if let Input::HostAlive { agent, .. } = input {
                format!("{} alive", agent.0)
            } else if let Input::HostForgotten { agent } = input {
                format!("{} forgotten", agent.0)
            } else {
                format!("{input:?}")
            }
        };
        peers.member(&event(id, change, nodes)).into_iter().map(word).collect()
    }

    #[test]
    fn nodes_of_members_come_change_and_go_with_them() {
        let mut peers = Peers::new(topology(), Inlets::unconnected());
        assert_eq!(said(&mut peers, 1, MemberChange::Joined, &["a@h", "b@h"]), ["1 alive", "+a@h", "+b@h"]);
        assert_eq!(said(&mut peers, 1, MemberChange::NodesChanged, &["b@h", "c@h"]), ["-a@h", "+c@h"]);
        assert!(said(&mut peers, 1, MemberChange::Suspect, &["b@h", "c@h"]).is_empty());
        assert_eq!(said(&mut peers, 1, MemberChange::Failed, &["b@h", "c@h"]), ["1 failed 2 0"], "its nodes may live");
        assert_eq!(said(&mut peers, 1, MemberChange::Joined, &["b@h", "c@h"]), ["1 alive", "+b@h", "+c@h"]);
        let left = MemberChange::Left(DownReason::Left);
        assert_eq!(said(&mut peers, 1, left, &["b@h", "c@h"]), ["1 forgotten", "-b@h", "-c@h"]);
    }

    #[test]
    fn a_restart_loses_nothing_and_a_node_of_two_members_stays_with_one() {
        let mut peers = Peers::new(topology(), Inlets::unconnected());
        said(&mut peers, 1, MemberChange::Joined, &["a@h"]);
        said(&mut peers, 2, MemberChange::Joined, &["a@h"]);
        assert!(said(&mut peers, 1, MemberChange::Left(DownReason::Restarted), &["a@h"]).is_empty());
        assert_eq!(said(&mut peers, 1, MemberChange::Joined, &["a@h"]), ["1 alive", "+a@h"]);
        assert_eq!(
            said(&mut peers, 1, MemberChange::Failed, &["a@h"]),
            ["1 failed 0 1"],
            "another tells that it lives"
        );
        let ended = MemberChange::Ended(DownReason::Provider);
        let said_now = said(&mut peers, 1, ended, &["a@h"]);
        assert_eq!(said_now, ["1 failed 0 2", "+a@h"], "a weightier word; the other speaks for the node now");
        assert_eq!(said(&mut peers, 2, MemberChange::Left(DownReason::Left), &["a@h"]), ["2 forgotten", "-a@h"]);
    }

    #[test]
    fn what_a_provider_ended_is_no_candidate_and_its_links_are_looked_after() {
        let mut peers = Peers::new(topology(), Inlets::unconnected());
        said(&mut peers, 1, MemberChange::Joined, &["a@h"]);
        said(&mut peers, 2, MemberChange::Joined, &["b@x"]);
        let provider = MemberChange::Left(DownReason::Provider);
        assert_eq!(said(&mut peers, 1, provider, &["a@h"]), ["1 failed 1 2", "-a@h"], "the provider is a witness");
        assert_eq!(said(&mut peers, 1, MemberChange::Forgotten, &["a@h"]), ["1 forgotten"]);
    }

    #[test]
    fn who_may_be_cut_off_tells_of_every_host_that_does_not_answer() {
        let mut peers = Peers::new(topology(), Inlets::unconnected());
        for (id, name) in [(1, "a@h1"), (2, "a@h2"), (3, "a@h3")] {
            said(&mut peers, id, MemberChange::Joined, &[name]);
        }
        for (id, name) in [(1, "a@h1"), (2, "a@h2")] {
            assert!(said(&mut peers, id, MemberChange::Suspect, &[name]).is_empty());
        }
        let failed = ["1 failed 1 0", "2 failed 1 0", "3 failed 1 0"];
        assert_eq!(said(&mut peers, 3, MemberChange::Suspect, &["a@h3"]), failed, "at once");
        assert!(said(&mut peers, 2, MemberChange::Failed, &["a@h2"]).is_empty(), "formation knows");
        let back = ["3 alive", "2 failed 1 1", "+a@h3"];
        assert_eq!(said(&mut peers, 3, MemberChange::Recovered, &["a@h3"]), back, "and now somebody could contradict");
        assert_eq!(said(&mut peers, 1, MemberChange::Failed, &["a@h1"]), ["1 failed 1 1"]);
        assert_eq!(peers.living(&node("a@h3")), Some("m3"));
        assert_eq!((peers.living(&node("a@h1")), peers.name(AgentId(1))), (None, Some("m1")));
    }

    #[test]
    fn one_other_member_alone_has_its_time_to_refute() {
        let mut peers = Peers::new(topology(), Inlets::unconnected());
        said(&mut peers, 1, MemberChange::Joined, &["a@h"]);
        assert!(said(&mut peers, 1, MemberChange::Suspect, &["a@h"]).is_empty());
        assert_eq!(said(&mut peers, 1, MemberChange::Failed, &["a@h"]), ["1 failed 1 0"]);
        let provider = MemberChange::Ended(DownReason::Provider);
        assert_eq!(said(&mut peers, 1, provider, &["a@h"]), ["1 failed 1 1", "-a@h"], "a weightier word");
    }

    #[test]
    fn without_the_topology_hosts_are_told_of_and_no_candidates() {
        let mut peers = Peers::new(None, Inlets::unconnected());
        assert!(peers.begin().is_none());
        assert_eq!(said(&mut peers, 1, MemberChange::Joined, &["a@h"]), ["1 alive"]);
        assert_eq!(said(&mut peers, 1, MemberChange::Failed, &["a@h"]), ["1 failed 1 0"]);
    }
}
